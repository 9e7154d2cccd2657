"""What a run trains on: options, names, and the SeqIO tasks behind them.

The naming rule stands in `dss_jax.mixtures`, which is also where the entry
points for gin files are.
"""

import dataclasses
import numbers
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from dss_jax import errors
from dss_jax.data import own_rows, records, row_formats, tfds_builders
from dss_jax.data import splits as splits_lib
from dss_jax.pipeline import metrics, packing, preprocessors, registry, sources
from dss_jax.pipeline import names as names_lib

METHODS = ('dss', 'finetune', 'single_task')
LABELS = ('gold', 'teacher')
EVAL_SPLIT = 'eval'
EVALUATED = ('validation', 'test')
RATIONALES = ('all', 'correct_only')
# Sets that may have rows without a gold label.
_UNLABELLED = ('asdiv', 'custom')
# Sets whose inputs are two texts with `</s>` between them, or may be.
SETS_IN_PARTS = (*records.NLI_SETS, 'custom')


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What a run trains on: it gives the names, and registers what they mean.

  Attributes:
    data_set: 'cqa', 'svamp', 'asdiv' (SVAMP with ASDiv's train rows), 'esnli',
      'anli1', or 'custom' for rows of the user's own.
    data: 'sample', 'release', or the path of a folder or zip in the published
      layout. For 'custom' the path of a file, or an `own_data.OwnData`.
    method: 'dss' (label task and rationale task), 'finetune' (label only, no
      prefix) or 'single_task' (rationale and label in one target).
    labels: 'gold' or 'teacher': which labels to train on. Evaluation is always
      against gold labels.
    teacher: whose rationales and labels: 'palm', 'gpt_neox', or the folder of
      another teacher's outputs.
    fraction: the part of the released train rows to use, in (0, 1].
    seed: of the draw of that part. None, for runs without a seed, counts as 0.
    rationale_rate: how often the rationale task is drawn for one draw of the
      label task; without effect where `paired`.
    paired: for 'dss', whether a row's two tasks come in one example.
    shuffle_rationales: whether train rationales are swapped between rows with
      `seed`, a control that keeps everything else.
    vocabulary: of inputs and targets; None for the packaged sample's.
    which_rationales: 'all', or 'correct_only' for those of rows whose teacher
      label is the gold label.
    keep_blank: whether rows with a blank rationale stay in the rationale task,
      with nothing but the end token to learn, as in the published code.
  """

  data_set: str
  data: tfds_builders.Data = 'sample'
  method: str = 'dss'
  labels: str = 'gold'
  teacher: str = 'palm'
  fraction: float = 1.0
  seed: int | None = 0
  rationale_rate: float = 1.0
  paired: bool = False
  shuffle_rationales: bool = False
  vocabulary: seqio.Vocabulary | None = None
  which_rationales: str = 'all'
  keep_blank: bool = False

  def __post_init__(self):
    """Checks everything that needs no file.

    Raises:
      DataError: an option has a value that it cannot have.
    """
    names_lib.choose('The data set', self.data_set, tfds_builders.DATA_SETS)
    names_lib.choose('METHOD', self.method, METHODS)
    names_lib.choose('LABELS', self.labels, LABELS)
    names_lib.choose('RATIONALES', self.which_rationales, RATIONALES)
    self._check_data()
    if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9_]*', str(self.teacher)) or (
      self.teacher == 'gold'
    ):
      raise errors.DataError(
        f"TEACHER is {self.teacher!r}: expected 'palm', 'gpt_neox' or the name"
        ' of a folder of outputs, made of letters, digits and _ (not gold).'
      )
    splits_lib.check_fraction(self.fraction)
    whole = isinstance(self.seed, numbers.Integral)
    if self.seed is not None and not (whole and self.seed >= 0):
      raise errors.DataError(
        f'RANDOM_SEED is {self.seed!r}: expected a whole number from 0, or'
        ' None.'
      )
    rate = self.rationale_rate
    real = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not real or not 0.0 <= rate < float('inf'):
      raise errors.DataError(
        f'RATIONALE_RATE is {rate!r}: expected a number from 0, the draws of'
        ' the rationale task for one of the label task.'
      )
    for name in ('paired', 'shuffle_rationales', 'keep_blank'):
      if not isinstance(getattr(self, name), bool):
        raise errors.DataError(
          f'{name.upper()} is {getattr(self, name)!r}: expected True or False.'
        )

    if self.keep_blank and self.which_rationales != 'all':
      raise errors.DataError(
        'KEEP_BLANK is True and RATIONALES is'
        f' {self.which_rationales!r}: expected one of them alone, since blanks'
        ' would take the place of wrong rationales. Set KEEP_BLANK = False.'
      )

  def _check_data(self) -> None:
    own = isinstance(self.data, own_rows.OwnData)
    if not own and (
      not isinstance(self.data, str | os.PathLike) or not str(self.data)
    ):
      raise errors.DataError(
        f"DATA is {self.data!r}: expected 'sample', 'release', or the path of a"
        ' folder or .zip.'
      )
    if self.data_set != 'custom' and own:
      raise errors.DataError(
        f'DATA is rows of your own, but the data set is {self.data_set!r}:'
        " expected 'custom' with them."
      )
    if self.data_set == 'custom' and str(self.data) in ('sample', 'release'):
      raise errors.DataError(
        f'DATA is {self.data!r}: expected the path of a file with rows of your'
        f' own, which ends in {", ".join(own_rows.ENDINGS)}.'
      )

  # What the method uses.

  @property
  def rows(self) -> tfds_builders.Data:
    """Where the rows are, for the builders."""
    if self.data_set == 'custom' and not isinstance(
      self.data, own_rows.OwnData
    ):
      return own_rows.OwnData(str(self.data))
    if isinstance(self.data, own_rows.OwnData):
      return self.data
    return str(self.data)

  @property
  def uses_rationales(self) -> bool:
    """Whether the method trains on rationales."""
    return self.method != 'finetune'

  @property
  def uses_teacher(self) -> bool:
    """Whether the teacher's outputs are trained on."""
    return self.uses_rationales or self.labels == 'teacher'

  @property
  def label_column(self) -> str:
    """The column of a row that is the label to train on."""
    return 'label' if self.labels == 'gold' else 'teacher_label'

  @property
  def needs(self) -> tuple[str, ...]:
    """Columns that some row must fill for the method to have anything."""
    trains_rationales = self.uses_rationales and (
      self.method != 'dss' or self.paired or self.rationale_rate > 0
    )
    checks = trains_rationales and self.which_rationales == 'correct_only'
    return (
      self.label_column,
      *(('rationale',) if trains_rationales else ()),
      *(('teacher_label',) if checks else ()),
    )

  @property
  def _label_needs(self) -> tuple[str, ...]:
    """Columns without which a row is of no use to a label task."""
    gold = self.labels == 'gold' and self.data_set not in _UNLABELLED
    return () if gold else (self.label_column,)

  @property
  def _pairs(self) -> bool:
    return self.paired and self.method == 'dss'

  @property
  def _chosen(self) -> list[str]:
    """Suffixes for which rationales are trained on."""
    # A single target without a rationale is as blank as it can be.
    keeps = self.keep_blank and self.method == 'dss'
    checks = self.uses_rationales and self.which_rationales == 'correct_only'
    return ['correct'] * checks + ['blank'] * keeps

  @property
  def _shuffles(self) -> bool:
    return self.shuffle_rationales and self.uses_rationales

  # Names.

  @property
  def train_name(self) -> str:
    """The mixture to train on."""
    parts = [self.method, *self._data_part(self.uses_teacher), self.labels]
    if self.uses_teacher:
      parts.append(self.teacher)
    rates = self.method == 'dss' and not self.paired
    if rates and self.rationale_rate != 1.0:
      parts.append(f'r{names_lib.number(self.rationale_rate)}')
    if self._pairs:
      parts.append('paired')
    return self._suffixed(parts, self._shuffles, chosen=self._chosen)

  def eval_name(self, rationales: bool = True) -> str:
    """Returns the mixture to evaluate.

    Args:
      rationales: whether generated rationales are evaluated too, where the
        method generates them on their own.
    """
    shows = rationales and self.method == 'dss'
    teacher = shows or self.method == 'single_task'
    parts = ['eval', self.method, *self._data_part(teacher)]
    if teacher:
      parts.append(self.teacher)
    return self._suffixed(parts, shuffled=False)

  def _data_part(self, teacher: bool) -> list[str]:
    tag = tfds_builders.data_tag(
      self.data_set, self.rows, self.teacher if teacher else None
    )
    return [self.data_set, tag]

  def _suffixed(
    self,
    parts: Sequence[str],
    shuffled: bool,
    drawn: bool = True,
    chosen: Sequence[str] = (),
  ) -> str:
    parts = list(parts)
    parts += chosen
    if shuffled:
      parts.append('shuffled')
    if drawn and self.fraction != 1.0:
      parts.append(f'f{names_lib.number(self.fraction)}')
    if self._seed and (shuffled or (drawn and self.fraction != 1.0)):
      parts.append(f's{self._seed}')
    if self.vocabulary is not None:
      mine = names_lib.fingerprint(self.vocabulary)
      if mine != names_lib.fingerprint(names_lib.sample_vocabulary()):
        parts.append(f'v{mine}')
    return '_'.join(parts)

  @property
  def _seed(self) -> int:
    return int(self.seed or 0)

  # Registration.

  def check_files(self) -> None:
    """Raises a DataError unless the files are there; for 'release' later."""
    rows = self.rows
    if isinstance(rows, own_rows.OwnData):
      own_rows.read(rows, self.needs)
    elif rows != 'release':
      teacher = self.teacher if self.uses_teacher else None
      tfds_builders.content(self.data_set, rows, teacher)

  def train_tasks(self) -> list[tuple[str, float]]:
    """Registers the tasks to train on; returns their names and rates."""
    label, gold = self.label_column, self.labels == 'gold'
    labels = [self.labels] if gold else [self.labels, self.teacher]
    label_needs = self._label_needs
    teacher = None if gold else self.teacher
    if self.method == 'finetune':
      made = preprocessors.label_task(label, prefix='')
      name = self._task('finetune', labels, teacher, label_needs, made)
      return [(name, 1.0)]
    both = [self.labels, self.teacher]
    if self.method == 'single_task':
      made = preprocessors.single_task(label)
      name = self._task('single', both, self.teacher, label_needs, made)
      return [(name, 1.0)]
    if self.paired:
      name = self._task(
        'paired',
        both,
        self.teacher,
        label_needs,
        preprocessors.paired_task(label),
      )
      return [(name, 1.0)]
    name = self._task(
      'label', labels, teacher, label_needs, preprocessors.label_task(label)
    )
    return [(name, 1.0), *self._rationale_tasks()]

  def _rationale_tasks(self) -> list[tuple[str, float]]:
    if not self.rationale_rate:
      return []
    name = self._task(
      'rationale',
      [self.teacher],
      self.teacher,
      () if self.keep_blank else ('rationale',),
      preprocessors.rationale_task(),
      task_id=packing.RATIONALE_TASK,
    )
    return [(name, float(self.rationale_rate))]

  def eval_tasks(self, rationales: bool = True) -> list[str]:
    """Registers the tasks to evaluate; returns their names.

    Args:
      rationales: as in `eval_name`.
    """
    accuracy, needs = self._accuracy(), ()
    if self.data_set in _UNLABELLED:
      needs = ('label',)
    names = []
    for split in EVALUATED:
      if self.method == 'single_task':
        names.append(
          self._eval_task(
            ['single', self.teacher],
            split,
            preprocessors.single_task('label'),
            accuracy,
            teacher=self.teacher,
            needs=needs,
            postprocess=preprocessors.answer_only,
          )
        )
        continue
      kind, prefix = 'label', preprocessors.LABEL_PREFIX
      if self.method == 'finetune':
        kind, prefix = 'finetune', ''
      made = preprocessors.label_task('label', prefix)
      names.append(self._eval_task([kind], split, made, accuracy, needs=needs))
      if rationales and self.method == 'dss':
        names.append(
          self._eval_task(
            ['rationale', self.teacher],
            split,
            preprocessors.rationale_task(),
            metrics.rationale_overlap,
            teacher=self.teacher,
            needs=('rationale',),
            task_id=packing.RATIONALE_TASK,
          )
        )
    return names

  def _accuracy(self) -> Callable[..., Mapping[str, float]]:
    """Returns how labels are scored."""
    classes = None
    by_value = self.data_set in records.EQUATION_SETS
    if self.data_set in records.NLI_SETS:
      classes = row_formats.NLI_LABELS
    if isinstance(self.rows, own_rows.OwnData):
      classes, by_value = self.rows.classes, self.rows.by_value
    return metrics.for_labels(by_value, classes)

  def _to_tokens(self, preprocessor: Callable, drawn: bool) -> list[Any]:
    """The preprocessors from a row to tokens.

    Args:
      preprocessor: makes inputs and targets of a row.
      drawn: whether one of an own row's rationales is drawn in each epoch;
        else the first one is kept.

    Returns:
      With the place up to which SeqIO may cache: what is drawn comes after it.
    """
    tokenize = seqio.preprocessors.tokenize
    if self.data_set in SETS_IN_PARTS:
      tokenize = preprocessors.tokenize_parts
    cache = seqio.CacheDatasetPlaceholder()
    if not isinstance(self.rows, own_rows.OwnData):
      return [preprocessor, tokenize, cache]
    if drawn:
      return [cache, preprocessors.draw_rationale, preprocessor, tokenize]
    return [preprocessors.first_rationale, preprocessor, tokenize, cache]

  def register(self, rationales: bool = True) -> None:
    """Registers tasks and mixtures that are not registered yet.

    Args:
      rationales: as in `eval_name`.
    """
    registry.add_mixture(self.train_name, self.train_tasks())
    rated = [(name, 1.0) for name in self.eval_tasks(rationales)]
    registry.add_mixture(self.eval_name(rationales), rated)

  def _source(
    self,
    teacher: str | None,
    needs: tuple[str, ...],
    shuffled: bool = False,
    shown: str | None = None,
    only_correct: bool = False,
  ) -> sources.DssSource:
    """Returns the rows of a task; with `shown`, that split alone as `eval`."""
    fraction = 1.0 if shown == 'test' else float(self.fraction)
    # What has no effect must not tell two sources apart.
    seed = self._seed if shuffled or fraction != 1.0 else 0
    return sources.DssSource(
      self.data_set,
      tfds_builders.find_config(self.data_set, self.rows, teacher),
      sources.Draw(fraction, seed, needs, only_correct, shuffled),
      None if shown is None else {EVAL_SPLIT: shown},
    )

  def _features(self, *names: str) -> dict[str, seqio.Feature]:
    vocabulary = self.vocabulary or names_lib.sample_vocabulary()
    return {
      name: seqio.Feature(vocabulary, add_eos=True, dtype=tf.int32)
      for name in names
    }

  def _task(
    self,
    kind: str,
    parts: Sequence[str],
    teacher: str | None,
    needs: tuple[str, ...],
    preprocessor: Callable[..., tf.data.Dataset],
    task_id: int = packing.LABEL_TASK,
  ) -> str:
    """Registers a task to train on; returns its name."""
    shuffled = self._shuffles and kind != 'label'
    begin = [*self._data_part(teacher is not None), kind, *parts]
    chosen = self._chosen if kind not in ('label', 'finetune') else []
    name = self._suffixed(begin, shuffled, chosen=chosen)
    names, last = ['inputs', 'targets'], [preprocessors.add_task_id(task_id)]
    features = {}
    if kind == 'paired':
      names += ['rationale_inputs', 'rationale_targets']
      last = [] if self.keep_blank else [preprocessors.drop_blank_pair]
    else:
      features['task_id'] = seqio.Feature(
        seqio.PassThroughVocabulary(size=packing.RATIONALE_TASK + 1),
        add_eos=False,
        dtype=tf.int32,
        rank=0,
      )
    to_tokens = self._to_tokens(preprocessor, kind not in ('label', 'finetune'))
    registry.add_task(
      name,
      self._source(teacher, needs, shuffled, only_correct='correct' in chosen),
      ' '.join([kind, *parts]),
      {**self._features(*names), **features},
      [*to_tokens, preprocessors.append_eos, *last],
    )
    return name

  def _eval_task(
    self,
    parts: Sequence[str],
    split: str,
    preprocessor: Callable[..., tf.data.Dataset],
    metric: Callable[..., Mapping[str, float]],
    teacher: str | None = None,
    needs: tuple[str, ...] = (),
    task_id: int = packing.LABEL_TASK,
    postprocess: Callable[..., str] | None = None,
  ) -> str:
    """Registers the task that shows one split as `eval`; returns its name."""
    begin = [*self._data_part(teacher is not None), *parts, split]
    name = self._suffixed(begin, shuffled=False, drawn=split != 'test')
    registry.add_task(
      name,
      self._source(teacher, needs, shown=split),
      ' '.join(parts),
      # `task_id` is in the examples, but SeqIO's evaluator takes no feature
      # without a length.
      self._features('inputs', 'targets'),
      [
        *self._to_tokens(preprocessor, drawn=False),
        preprocessors.append_eos,
        preprocessors.add_task_id(task_id),
      ],
      metric_fns=[metric],
      postprocess_fn=postprocess or preprocessors.stripped,
    )
    return name
