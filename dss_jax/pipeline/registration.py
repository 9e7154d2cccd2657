"""Registration of an experiment's SeqIO tasks and mixtures."""

from collections.abc import Callable, Mapping, Sequence

import seqio
import tensorflow as tf

from dss_jax.data import completions, own_rows, records, tfds_builders
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import (
  grading,
  names,
  packing,
  preprocessors,
  registry,
  sources,
  step_rows,
  steps,
)
from dss_jax.pipeline.scoring import answers, metrics

EVAL_SPLIT = 'eval'
# Sets whose inputs are two texts with `</s>` between them, or may be.
_SETS_IN_PARTS = (*records.NLI_SETS, 'custom')
# Tasks that have labels alone as their targets.
_LABEL_KINDS = ('label', 'finetune')

_Preprocessor = Callable[..., tf.data.Dataset]


def tokenizer(data_set: str) -> _Preprocessor:
  """Returns what makes tokens of a data set's texts.

  Args:
    data_set: 'cqa', ….
  """
  if in_parts(data_set):
    return preprocessors.tokenize_parts
  return seqio.preprocessors.tokenize


def in_parts(data_set: str) -> bool:
  """Returns whether `</s>` in inputs is the end token between two parts.

  Args:
    data_set: 'cqa', ….
  """
  return data_set in _SETS_IN_PARTS


def text_features(
  vocabulary: seqio.Vocabulary, *features: str
) -> dict[str, seqio.Feature]:
  """Returns features that hold the tokens of a text.

  Args:
    vocabulary: of the tokens.
    *features: their names.
  """
  return {
    name: seqio.Feature(vocabulary, add_eos=True, dtype=tf.int32)
    for name in features
  }


def check_files(experiment: experiment_lib.Experiment) -> None:
  """Looks for an experiment's files; for those of 'release' not yet.

  Args:
    experiment: whose.

  Raises:
    DataError: they are not there.
  """
  rows = experiment.rows
  if isinstance(rows, own_rows.OwnData):
    own_rows.check(rows, experiment.needs, experiment.graded)
  elif rows != 'release':
    tfds_builders.content(experiment.data_set, rows, experiment.used_teacher)


def register(
  experiment: experiment_lib.Experiment, rationales: bool = True
) -> None:
  """Registers tasks and mixtures that are not registered yet.

  Args:
    experiment: whose.
    rationales: as in `names.eval_name`.

  Raises:
    DataError: a name stands for something else.
  """
  registry.add_mixture(names.train_name(experiment), train_tasks(experiment))
  rated = [(name, 1.0) for name in eval_tasks(experiment, rationales)]
  registry.add_mixture(names.eval_name(experiment, rationales), rated)


def register_steps(
  experiment: experiment_lib.Experiment, request: step_rows.Request
) -> steps.Layout:
  """Registers the mixture that lays out the steps of a run.

  Its name is that of `names.step_name`.

  Args:
    experiment: what the run trains on.
    request: what decides about the rows of a step.

  Returns:
    The layout of the steps.

  Raises:
    DataError: the rows that are asked for don't do.
  """
  register(experiment)
  name = names.train_name(experiment)
  layout = step_rows.layout(seqio.MixtureRegistry.get(name), request)
  tasks = train_tasks(experiment)
  registry.add_step_mixture(names.step_name(layout), tasks, layout)
  return layout


def train_tasks(
  experiment: experiment_lib.Experiment,
) -> list[tuple[str, float]]:
  """Registers the tasks to train on; returns their names and rates.

  Args:
    experiment: whose.
  """
  label, gold = experiment.label_column, experiment.labels == 'gold'
  labels = ['gold'] if gold else ['teacher', experiment.teacher]
  both = [experiment.labels, experiment.teacher]
  needs = experiment.label_needs
  if experiment.method == 'single_task':
    made = preprocessors.single_task(label)
    name = _train_task(experiment, 'single', both, True, needs, made)
  elif experiment.pairs_tasks:
    made = preprocessors.paired_task(label)
    name = _train_task(experiment, 'paired', both, True, needs, made)
  elif experiment.method == 'finetune':
    made = preprocessors.label_task(label, prefix='')
    name = _train_task(experiment, 'finetune', labels, not gold, needs, made)
  else:
    made = preprocessors.label_task(label)
    name = _train_task(experiment, 'label', labels, not gold, needs, made)
    return [(name, 1.0), *_rationale_tasks(experiment)]
  return [(name, 1.0)]


def eval_tasks(
  experiment: experiment_lib.Experiment, rationales: bool = True
) -> list[str]:
  """Registers the tasks to evaluate; returns their names.

  Args:
    experiment: whose.
    rationales: as in `names.eval_name`.
  """
  found = []
  explained = grading.explained(experiment)
  for split, column in grading.columns(experiment).items():
    found.append(_label_eval_task(experiment, split, column))
    shows = rationales and experiment.method == 'dss'
    if shows and split in explained:
      found.append(
        _eval_task(
          experiment,
          ['rationale', experiment.teacher],
          split,
          preprocessors.rationale_task(),
          metrics.rationale_overlap,
          answers.Rationales(experiment.used_vocabulary),
          teacher=True,
          needs=('rationale',),
          task_id=packing.RATIONALE_TASK,
        )
      )
  return found


def _label_eval_task(
  experiment: experiment_lib.Experiment, split: str, column: str
) -> str:
  """Registers the task that scores a split's labels; returns its name.

  Args:
    experiment: whose.
    split: of the rows.
    column: that answers are compared with.
  """
  vocabulary, classes = experiment.used_vocabulary, experiment.classes
  score = metrics.for_labels(experiment.by_value, classes, vocabulary)
  of_teacher = column == 'teacher_label'
  if of_teacher:
    score = metrics.agreement(score)
  single = experiment.method == 'single_task'
  if single:
    parts = ['single', *['teacher'] * of_teacher, experiment.teacher]
    made = preprocessors.single_task(column)
  else:
    kind, prefix = 'label', preprocessors.LABEL_PREFIX
    if experiment.method == 'finetune':
      kind, prefix = 'finetune', ''
    parts = [kind, *['teacher', experiment.teacher] * of_teacher]
    made = preprocessors.label_task(column, prefix)
  return _eval_task(
    experiment,
    parts,
    split,
    made,
    score,
    answers.Answers(vocabulary, classes, single, column),
    teacher=single or of_teacher,
    needs=(column,) if experiment.may_lack_labels else (),
  )


def _rationale_tasks(
  experiment: experiment_lib.Experiment,
) -> list[tuple[str, float]]:
  """Registers the rationale task beside a label task, if it is ever drawn."""
  if not experiment.rationale_rate:
    return []
  name = _train_task(
    experiment,
    'rationale',
    [experiment.teacher],
    True,
    () if experiment.trains_on_blanks else ('rationale',),
    preprocessors.rationale_task(),
    task_id=packing.RATIONALE_TASK,
  )
  return [(name, float(experiment.rationale_rate))]


def _train_task(
  experiment: experiment_lib.Experiment,
  kind: str,
  parts: Sequence[str],
  teacher: bool,
  needs: tuple[str, ...],
  preprocessor: _Preprocessor,
  task_id: int = packing.LABEL_TASK,
) -> str:
  """Registers a task to train on; returns its name."""
  rationales = kind not in _LABEL_KINDS
  features = ['inputs', 'targets']
  last = [preprocessors.add_task_id(task_id)]
  more = {}
  if kind == 'paired':
    features += ['rationale_inputs', 'rationale_targets']
    blanks = experiment.trains_on_blanks
    last = [] if blanks else [preprocessors.drop_blank_pair]
  else:
    more['task_id'] = seqio.Feature(
      seqio.PassThroughVocabulary(size=packing.RATIONALE_TASK + 1),
      add_eos=False,
      dtype=tf.int32,
      rank=0,
    )
  name = names.task_name(
    experiment,
    [kind, *parts],
    teacher=teacher,
    rationales=rationales,
    labels=kind != 'rationale',
  )
  spelled = [] if kind == 'single' else _spelled_blanks(experiment)
  encoded = [preprocessors.encode_blanks] if spelled else []
  draw = _draw(experiment, needs, rationales=rationales)
  registry.add_task(
    name,
    _source(experiment, teacher, draw),
    ' '.join([kind, *parts]),
    {**text_features(experiment.used_vocabulary, *features), **more},
    [
      *spelled,
      *_to_tokens(experiment, preprocessor, drawn=rationales),
      *encoded,
      preprocessors.append_eos,
      *last,
    ],
  )
  return name


def _spelled_blanks(
  experiment: experiment_lib.Experiment,
) -> list[_Preprocessor]:
  """Returns what writes blanks as the published code does, if they stay."""
  if not experiment.keep_blank or isinstance(experiment.rows, own_rows.OwnData):
    return []
  columns = completions.rule(experiment.data_set, experiment.teacher).spaced
  return [preprocessors.spell_blanks(columns)] if columns else []


def _eval_task(
  experiment: experiment_lib.Experiment,
  parts: Sequence[str],
  split: str,
  preprocessor: _Preprocessor,
  metric: Callable[..., Mapping[str, float]],
  postprocess: Callable[..., str],
  teacher: bool = False,
  needs: tuple[str, ...] = (),
  task_id: int = packing.LABEL_TASK,
) -> str:
  """Registers the task that shows one split as `eval`; returns its name."""
  drawn = split != 'test'
  name = names.task_name(
    experiment, [*parts, split], teacher=teacher, drawn=drawn
  )
  draw = _draw(experiment, needs, drawn=drawn)
  registry.add_task(
    name,
    _source(experiment, teacher, draw, {EVAL_SPLIT: split}),
    ' '.join(parts),
    # `task_id` is in the examples, but SeqIO's evaluator takes no feature
    # without a length.
    text_features(experiment.used_vocabulary, 'inputs', 'targets'),
    [
      *_to_tokens(experiment, preprocessor, drawn=False),
      preprocessors.append_eos,
      preprocessors.add_task_id(task_id),
    ],
    metric_fns=[metric],
    postprocess_fn=postprocess,
  )
  return name


def _draw(
  experiment: experiment_lib.Experiment,
  needs: tuple[str, ...],
  *,
  drawn: bool = True,
  rationales: bool = False,
) -> sources.Draw:
  """Returns which rows a task uses, and how.

  Args:
    experiment: whose.
    needs: columns that must not be blank.
    drawn: whether rows are drawn.
    rationales: whether rationales are trained on, if the method uses any.
  """
  fraction = float(experiment.fraction) if drawn else 1.0
  swapped = rationales and experiment.swaps_rationales
  # What has no effect must not tell two sources apart.
  seed = experiment.draw_seed if swapped or fraction != 1.0 else 0
  checks = rationales and experiment.checks_rationales
  return sources.Draw(fraction, seed, needs, checks, swapped)


def _source(
  experiment: experiment_lib.Experiment,
  teacher: bool,
  draw: sources.Draw,
  splits: Mapping[str, str] | None = None,
) -> sources.DssSource:
  """Returns the rows of a task, with the teacher's outputs or without."""
  config = tfds_builders.find_config(
    experiment.data_set,
    experiment.rows,
    experiment.teacher if teacher else None,
  )
  return sources.DssSource(experiment.data_set, config, draw, splits)


def _to_tokens(
  experiment: experiment_lib.Experiment,
  preprocessor: _Preprocessor,
  drawn: bool,
) -> list[_Preprocessor | seqio.CacheDatasetPlaceholder]:
  """Returns the preprocessors from a row to tokens.

  Args:
    experiment: whose.
    preprocessor: makes inputs and targets of a row.
    drawn: whether one of an own row's rationales is drawn in each epoch; else
      the first one is kept.

  Returns:
    With the place up to which SeqIO may cache: what is drawn comes after it.
  """
  tokenize = tokenizer(experiment.data_set)
  cache = seqio.CacheDatasetPlaceholder()
  if not isinstance(experiment.rows, own_rows.OwnData):
    return [preprocessor, tokenize, cache]
  if drawn:
    return [cache, preprocessors.draw_rationale, preprocessor, tokenize]
  return [preprocessors.first_rationale, preprocessor, tokenize, cache]
