"""Registration of an experiment's SeqIO tasks and mixtures."""

from collections.abc import Callable, Mapping, Sequence

import seqio
import tensorflow as tf

from dss_jax.data import (
  columns,
  completions,
  own_rows,
  records,
  tfds_builders,
)
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.pipeline import (
  names,
  packing,
  preprocessors,
  registry,
  sources,
  step_rows,
  steps,
)
from dss_jax.pipeline.scoring import answers, grading, metrics

EVAL_SPLIT = 'eval'
# Sets whose inputs are two texts with `</s>` between them, or may be.
_SETS_IN_PARTS = (*records.NLI_SETS, 'custom')

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
    for teacher in experiment.used_teachers or (None,):
      tfds_builders.content(experiment.data_set, rows, teacher)


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
  both, kinds = names.both(experiment), experiment.kinds
  needs = experiment.label_needs
  teacher = None if gold else experiment.teacher
  if experiment.method == 'single_task':
    made = preprocessors.single_task(label)
    parts = ['single', *both]
    name = _train_task(experiment, parts, teacher, kinds, needs, made)
  elif experiment.pairs_tasks:
    made = preprocessors.paired_task(label, kinds)
    parts = ['paired', *both]
    name = _train_task(experiment, parts, teacher, kinds, needs, made)
  elif experiment.method == 'finetune':
    made = preprocessors.label_task(label, prefix='')
    parts = ['finetune', *labels]
    name = _train_task(experiment, parts, teacher, (), needs, made)
  else:
    made = preprocessors.label_task(label)
    parts = ['label', *labels]
    name = _train_task(experiment, parts, teacher, (), needs, made)
    return [(name, 1.0), *_rationale_tasks(experiment)]
  return [(name, 1.0)]


def rationales_of_tasks(
  experiment: experiment_lib.Experiment,
) -> list[tuple[str, kinds_lib.Kind]]:
  """Returns the tasks to train on with the kinds of rationales they have.

  Args:
    experiment: whose.
  """
  if not experiment.uses_rationales:
    return []
  tasks = [name for name, _ in train_tasks(experiment)]
  if experiment.method == 'dss' and not experiment.paired:
    _, *tasks = tasks
    return list(zip(tasks, experiment.kinds, strict=bool(tasks)))
  return [(tasks[0], kind) for kind in experiment.kinds]


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
    if not rationales or experiment.method != 'dss':
      continue
    for kind in experiment.kinds:
      if kind.column in explained[split]:
        found.append(
          _eval_task(
            experiment,
            [kind.column, kind.tag(experiment.teacher_of(kind))],
            split,
            preprocessors.rationale_task(kind),
            metrics.rationale_overlap,
            answers.Rationales(experiment.used_vocabulary),
            kinds=(kind,),
            needs=(kind.column,),
            task_id=kind.task_id,
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
    tag = names.kinds_tag(experiment)
    parts = ['single', *['teacher'] * of_teacher, tag]
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
    teacher=experiment.teacher if of_teacher else None,
    kinds=experiment.kinds if single else (),
    needs=(column,) if experiment.may_lack_labels else (),
  )


def _rationale_tasks(
  experiment: experiment_lib.Experiment,
) -> list[tuple[str, float]]:
  """Registers the rationale tasks beside a label task, if ever drawn."""
  if not experiment.rationale_rate:
    return []
  found = []
  for kind in experiment.kinds:
    name = _train_task(
      experiment,
      [kind.column, kind.tag(experiment.teacher_of(kind))],
      None,
      (kind,),
      () if experiment.trains_on_blanks else (kind.column,),
      preprocessors.rationale_task(kind),
      task_id=kind.task_id,
    )
    found.append((name, float(experiment.rationale_rate)))
  return found


def _train_task(
  experiment: experiment_lib.Experiment,
  parts: Sequence[str],
  teacher: str | None,
  kinds: Sequence[kinds_lib.Kind],
  needs: tuple[str, ...],
  preprocessor: _Preprocessor,
  task_id: int = packing.LABEL_TASK,
) -> str:
  """Registers a task to train on; returns its name.

  Args:
    experiment: whose.
    parts: of its name; the first says what the task is.
    teacher: whose labels it has; None for gold ones or none.
    kinds: of rationales that it has.
    needs: columns that must not be blank.
    preprocessor: makes inputs and targets of a row.
    task_id: of its examples.
  """
  role, rationales = parts[0], bool(kinds)
  features = ['inputs', 'targets']
  last = [preprocessors.add_task_id(task_id)]
  more = {}
  if role == 'paired':
    features += [name for kind in kinds for name in kind.features]
    blanks = experiment.trains_on_blanks
    last = [] if blanks else [preprocessors.drop_blank_pair]
  else:
    # One for all tasks, which a mixture wants: that of a single kind.
    more['task_id'] = seqio.Feature(
      seqio.PassThroughVocabulary(size=packing.RATIONALE_TASK + 1),
      add_eos=False,
      dtype=tf.int32,
      rank=0,
    )
  name = names.task_name(
    experiment,
    parts,
    teachers=_teachers(experiment, teacher, kinds),
    rationales=rationales,
    labels=columns.number_of(role) is None,
  )
  spelled = [] if role == 'single' else _spelled_blanks(experiment)
  encoded = [preprocessors.encode_blanks] if spelled else []
  draw = _draw(experiment, needs, rationales=rationales)
  registry.add_task(
    name,
    _source(experiment, teacher, kinds, draw),
    ' '.join(parts),
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
  teacher: str | None = None,
  kinds: Sequence[kinds_lib.Kind] = (),
  needs: tuple[str, ...] = (),
  task_id: int = packing.LABEL_TASK,
) -> str:
  """Registers the task that shows one split as `eval`; returns its name."""
  drawn = split != 'test'
  name = names.task_name(
    experiment,
    [*parts, split],
    teachers=_teachers(experiment, teacher, kinds),
    drawn=drawn,
  )
  draw = _draw(experiment, needs, drawn=drawn)
  registry.add_task(
    name,
    _source(experiment, teacher, kinds, draw, {EVAL_SPLIT: split}),
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


def _teachers(
  experiment: experiment_lib.Experiment,
  teacher: str | None,
  kinds: Sequence[kinds_lib.Kind],
) -> list[str]:
  """Returns whose outputs a task reads, those of its labels first."""
  found = [teacher] if teacher else []
  return [*found, *(experiment.teacher_of(kind) for kind in kinds)]


def _source(
  experiment: experiment_lib.Experiment,
  teacher: str | None,
  kinds: Sequence[kinds_lib.Kind],
  draw: sources.Draw,
  splits: Mapping[str, str] | None = None,
) -> sources.DssSource:
  """Returns the rows of a task, with teachers' outputs or without.

  Args:
    experiment: whose.
    teacher: whose labels it has; None for gold ones or none.
    kinds: of rationales that it has.
    draw: which rows.
    splits: as in `sources.DssSource`.
  """

  def config_of(name: str | None) -> tfds_builders.Config:
    return tfds_builders.find_config(experiment.data_set, experiment.rows, name)

  main = teacher
  if not main and kinds:
    # Own rows have all kinds of rationales.
    own = isinstance(experiment.rows, own_rows.OwnData)
    first = own or kinds[0].number == 1
    main = experiment.teacher_of(kinds[0]) if first else None
  others = {
    kind.column: config_of(of_kind)
    for kind in kinds
    if kind.teacher is not None
    and ((of_kind := experiment.teacher_of(kind)) != main or kind.number > 1)
  }
  return sources.DssSource(
    experiment.data_set, config_of(main), draw, splits, others
  )


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
