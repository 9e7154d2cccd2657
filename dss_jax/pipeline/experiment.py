"""Options of a run's data and method, their checks, and what follows from them.

An `Experiment` reads no file and registers nothing. `names` says what its tasks
and mixtures are called, `registration` makes them.
"""

import dataclasses
import numbers
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import seqio

from dss_jax import errors
from dss_jax.data import (
  own_rows,
  records,
  release,
  row_files,
  row_formats,
  tfds_builders,
)
from dss_jax.data import splits as splits_lib
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.pipeline import methods

LABELS = ('gold', 'teacher')
RATIONALES = ('all', 'correct_only')
# Sets that may have rows without a gold label.
_UNLABELED = ('asdiv', 'custom')
# What gin files call the options that they don't call by their own name.
_MACROS = {'seed': 'RANDOM_SEED', 'which_rationales': 'RATIONALES'}


def sample_vocabulary() -> seqio.SentencePieceVocabulary:
  """Returns the vocabulary of the packaged sample; its file is read later."""
  return seqio.SentencePieceVocabulary(
    os.path.join(
      tfds_builders.sample_location(), 'vocabulary', 'sentencepiece.model'
    )
  )


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What a run trains on.

  Attributes:
    data_set: 'cqa', 'svamp', 'asdiv' (SVAMP with ASDiv's train rows), 'esnli',
      'anli1', or 'custom' for rows of the user's own.
    data: 'sample', 'release', or the path of a folder or zip in the published
      layout. For 'custom' the path of a file or folder, or an
      `own_data.OwnData`.
    method: 'dss' (label task and rationale task), 'finetune' (label only, no
      prefix) or 'single_task' (rationale and label in one target).
    labels: 'gold' or 'teacher': which labels to train on. Evaluation is
      against gold labels; with 'teacher', a split of own rows without any is
      evaluated against the teacher's (`grading`).
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
    keep_blank: whether what the teacher did not give is learned as a blank, as
      in the published code: a blank rationale stays in the rationale task, and
      a row with a blank teacher label in a task with the teacher's labels.
    rationale_kinds: the kinds of rationales, each with its prefix and weight,
      as in `kinds.given`; None for one without a name. Afterwards the
      `kinds.Kind`s.
    teachers: whose rationales, one for each kind; `teacher` is then the one
      whose labels they are. None for `teacher` alone.
  """

  # For `t5x.gin_utils`: making one reads nothing.
  checked_by_dry_run: ClassVar[bool] = True

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
  rationale_kinds: Any = None
  teachers: Any = None

  def __post_init__(self):
    """Checks everything that needs no file.

    Raises:
      DataError: an option has a value that it cannot have.
    """
    errors.choose('The data set', self.data_set, tfds_builders.DATA_SETS)
    errors.choose('METHOD', self.method, methods.METHODS)
    errors.choose('LABELS', self.labels, LABELS)
    errors.choose('RATIONALES', self.which_rationales, RATIONALES)
    _check_data(self.data_set, self.data)
    kinds = kinds_lib.given(self.rationale_kinds, self.teachers)
    # So that this is hashable.
    object.__setattr__(self, 'rationale_kinds', kinds)
    if self.teachers is not None:
      object.__setattr__(self, 'teachers', tuple(self.teachers))
    _check_teacher('TEACHER', self.teacher)
    for teacher in self.teachers or ():
      _check_teacher('TEACHERS', teacher)
    self._check_kinds()
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

  def _check_kinds(self) -> None:
    """Raises a DataError if the data has no such kinds, or the method."""
    names = tuple(kind.name for kind in self.kinds)
    if self.data_set == 'custom' and self.teachers is not None:
      raise errors.DataError(
        f'TEACHERS is {self.teachers!r}, and DATA is rows of your own: expected'
        ' None, since their kinds of rationales are columns. Name them in'
        ' RATIONALE_KINDS.'
      )
    if self.keep_blank and self.teachers is not None:
      raise errors.DataError(
        f'KEEP_BLANK is True and TEACHERS is {self.teachers!r}: expected one of'
        ' them alone, since blanks are those of one TEACHER, as published. Set'
        ' KEEP_BLANK = False.'
      )
    if self.data_set != 'custom' and len(names) > 1 and self.teachers is None:
      raise errors.DataError(
        f'RATIONALE_KINDS has {", ".join(names)}, and DATA is in the published'
        ' layout: expected a teacher for each kind, in this order, such as'
        " TEACHERS = ('palm', 'mine')."
      )
    if self.method == 'single_task' and len(names) > 1:
      raise errors.DataError(
        "METHOD is 'single_task', whose target has one rationale: expected one"
        f' kind, found {", ".join(names)}. Name one of them, or set METHOD ='
        " 'dss'."
      )
    if isinstance(self.data, own_rows.OwnData) and names == ('',):
      for name in self.data.mapped_kinds:
        raise errors.DataError(
          f'COLUMNS maps rationale.{name}, and RATIONALE_KINDS is None:'
          ' expected the kinds to learn, such as RATIONALE_KINDS ='
          f' ({name!r},).'
        )

  @property
  def kinds(self) -> tuple[kinds_lib.Kind, ...]:
    """The kinds of rationales, at least one."""
    return self.rationale_kinds

  # What is read.

  @property
  def rows(self) -> tfds_builders.Data:
    """Where the rows are, for the builders."""
    if self.data_set != 'custom':
      return str(self.data)
    rows = self.data
    if not isinstance(rows, own_rows.OwnData):
      rows = own_rows.OwnData(str(rows))
    names = tuple(filter(None, (kind.name for kind in self.kinds)))
    return dataclasses.replace(rows, kinds=names) if names else rows

  @property
  def place(self) -> str:
    """Where the rows are, for people; for own rows the file to train on."""
    rows = self.rows
    return rows.train if isinstance(rows, own_rows.OwnData) else rows

  @property
  def used_vocabulary(self) -> seqio.Vocabulary:
    """The vocabulary of inputs and targets."""
    return self.vocabulary or sample_vocabulary()

  @property
  def draw_seed(self) -> int:
    """The seed with which rows are drawn and rationales swapped."""
    return int(self.seed or 0)

  @property
  def by_value(self) -> bool:
    """Whether labels are equations, compared by their value."""
    rows = self.rows
    if isinstance(rows, own_rows.OwnData):
      return rows.by_value
    return self.data_set in records.EQUATION_SETS

  @property
  def classes(self) -> Sequence[str] | None:
    """The labels that are possible, where they are few."""
    rows = self.rows
    if isinstance(rows, own_rows.OwnData):
      return rows.classes
    return row_formats.NLI_LABELS if self.data_set in records.NLI_SETS else None

  @property
  def may_lack_labels(self) -> bool:
    """Whether the data set may have rows without a gold label."""
    return self.data_set in _UNLABELED

  # What the method uses of it.

  @property
  def uses_rationales(self) -> bool:
    """Whether the method trains on rationales."""
    return self.method != 'finetune'

  @property
  def uses_teacher(self) -> bool:
    """Whether the teacher's outputs are trained on."""
    return self.uses_rationales or self.labels == 'teacher'

  @property
  def used_teacher(self) -> str | None:
    """The teacher whose labels are used, or else whose first rationales."""
    return next(iter(self.used_teachers), None)

  @property
  def used_teachers(self) -> tuple[str, ...]:
    """All teachers whose outputs are used, the one of the labels first."""
    found = [self.teacher] if self.labels == 'teacher' else []
    if self.uses_rationales:
      found += [self.teacher_of(kind) for kind in self.kinds]
    return tuple(dict.fromkeys(found))

  def teacher_of(self, kind: kinds_lib.Kind) -> str:
    """Returns the teacher whose rationales of a kind are used."""
    return self.teacher if kind.teacher is None else kind.teacher

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
      *(kind.column for kind in self.kinds if trains_rationales),
      *(('label', 'teacher_label') if checks else ()),
    )

  @property
  def graded(self) -> tuple[str, ...]:
    """Columns that answers may be compared with, the first that a split has."""
    return (
      ('label', 'teacher_label') if self.labels == 'teacher' else ('label',)
    )

  @property
  def label_needs(self) -> tuple[str, ...]:
    """Columns without which a row is of no use to a label task."""
    always_there = self.labels == 'gold' and not self.may_lack_labels
    if always_there or self.trains_on_blank_labels:
      return ()
    return (self.label_column,)

  @property
  def pairs_tasks(self) -> bool:
    """Whether a row's two tasks come in one example."""
    return self.paired and self.method == 'dss'

  @property
  def checks_rationales(self) -> bool:
    """Whether rationales of wrong answers are left out."""
    return self.uses_rationales and self.which_rationales == 'correct_only'

  @property
  def trains_on_blanks(self) -> bool:
    """Whether blank rationales are trained on."""
    # A single target without a rationale is as blank as it can be.
    return self.keep_blank and self.method == 'dss'

  @property
  def trains_on_blank_labels(self) -> bool:
    """Whether blank labels of the teacher are trained on."""
    return self.keep_blank and self.labels == 'teacher'

  @property
  def swaps_rationales(self) -> bool:
    """Whether train rationales are swapped between rows."""
    return self.shuffle_rationales and self.uses_rationales


def given(
  place: str,
  experiment: Experiment | None,
  options: Mapping[str, Any],
  others: Sequence[str] = (),
) -> Experiment:
  """Returns the experiment that a caller gave, whole or option by option.

  Option by option is how the `config.gin` of a run of version 0.1.0 has it.

  Args:
    place: what the caller called, such as 'mixtures.train_mixture'.
    experiment: as it was given.
    options: of an experiment, in place of one.
    others: what the place takes beside them.

  Raises:
    DataError: there are both of them or neither, or an option is unknown.
  """
  known = [field.name for field in dataclasses.fields(Experiment)]
  for name in options:
    if name not in known:
      takes = ['experiment', *others, *known]
      raise errors.DataError(
        f'{place}.{name}: expected one of {", ".join(takes)}.'
        f'{errors.did_you_mean(name, takes)}'
      )
  if experiment is None:
    if 'data_set' not in options:
      raise errors.DataError(
        f'{place}: expected an experiment, found none. Bind {place}.experiment'
        ' = @mixtures.Experiment(), or give it a data_set.'
      )
    return Experiment(**options)
  if not isinstance(experiment, Experiment):
    raise errors.DataError(
      f'{place}: expected a mixtures.Experiment, found {experiment!r}. Give'
      ' mixtures.Experiment(data_set, …).'
    )
  for name in options:
    macro = _MACROS.get(name, name.upper())
    raise errors.DataError(
      f'{place}.{name}: expected no option beside an experiment, which has its'
      f' own. Bind mixtures.Experiment.{name} (macro {macro}) instead.'
    )
  return experiment


def _check_teacher(macro: str, teacher: Any) -> None:
  """Raises a DataError unless a teacher can be called so."""
  if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9_]*', str(teacher)) or (
    teacher == 'gold'
  ):
    raise errors.DataError(
      f"{macro} is {teacher!r}: expected 'palm', 'gpt_neox' or the name"
      ' of a folder of outputs, made of letters, digits and _ (not gold).'
    )


def _check_data(data_set: str, data: tfds_builders.Data) -> None:
  """Raises a DataError unless a data set can have such data."""
  own = isinstance(data, own_rows.OwnData)
  if not own and (not isinstance(data, str | os.PathLike) or not str(data)):
    raise errors.DataError(
      f"DATA is {data!r}: expected 'sample', 'release', or the path of a"
      ' folder or .zip.'
    )
  if data_set != 'custom' and own:
    raise errors.DataError(
      f'DATA is rows of your own, but the data set is {data_set!r}:'
      " expected 'custom' with them."
    )
  if data == 'release' and data_set != 'custom':
    release.check_published(data_set)
  if data_set == 'custom' and str(data) in ('sample', 'release'):
    raise errors.DataError(
      f'DATA is {data!r}: expected the path of a file with rows of your'
      f' own, which ends in {", ".join(row_files.ENDINGS)}, or of a folder of'
      ' such files.'
    )
