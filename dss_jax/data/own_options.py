"""Options for rows of the user's own: which files, and how to read them."""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax import errors
from dss_jax.data import columns as columns_lib
from dss_jax.data import row_files

COLUMNS = ('input', 'label', 'rationale', 'teacher_label', 'id')
_SPLITS = ('train', 'validation', 'test')
_RATIONALE = 'rationale'
# Each class is scored by itself, and a label is some words.
MOST_CLASSES = 10_000
_MAX_CLASS = 1000


def columns(pairs: Sequence[str]) -> dict[str, tuple[str, ...]]:
  """Returns what `--column NAME=COLUMN` says.

  Args:
    pairs: of all options; a rationale may have several columns.

  Raises:
    DataError: one has no `=`.
  """
  found: dict[str, tuple[str, ...]] = {}
  for pair in pairs:
    name, equals, column = pair.partition('=')
    if not equals or not column:
      raise errors.DataError(
        f'--column {pair!r}: expected NAME=COLUMN, such as input=question.'
      )
    found[name] = (*found.get(name, ()), *column.split(','))
  return found


def as_macro(found: Mapping[str, Sequence[str]]) -> dict[str, Any]:
  """Returns the macro COLUMNS for what `columns` has found."""
  return {k: v[0] if len(v) == 1 else list(v) for k, v in found.items()}


@dataclasses.dataclass(frozen=True)
class OwnData:
  """Files with rows, and how to read them.

  Attributes:
    train: path of the file with the train rows, local or `gs://`; or of a
      folder of such files or a glob, which are read as one table.
    validation: likewise for other rows, or the fraction of the train rows'
      inputs to set apart, in (0, 1).
    test: likewise; a file of test rows needs input and label alone.
    columns: maps names in `COLUMNS` to the file's; other names are the same.
      `rationale` may be mapped to several columns, as may `rationale.<kind>`.
    by_value: whether labels are equations, scored by their value.
    classes: the possible labels; with them, each class is scored too. A label
      is a class if their texts are equal, or are numbers of one value, or both
      true or both false in any case; it is then the class's text.
    seed: of setting rows apart.
    test_columns: as `columns`, for the test file; None where they have the same
      names.
    kinds: names of the kinds of rationales to read, in their order: of each,
      the columns `rationale.<kind>`, or what `rationale` has under its name; a
      `rationale` without names is the kind 'rationale'. () for rationales of
      one kind, without a name.
  """

  train: str
  validation: str | float = 0.1
  test: str | float = 0.1
  columns: Any = None
  by_value: bool = False
  classes: Sequence[Any] | None = None
  seed: int = 0
  test_columns: Any = None
  kinds: tuple[str, ...] = ()

  def __post_init__(self):
    """Checks the options.

    Raises:
      DataError: one is out of its range.
    """
    # As tuples, so that this is hashable.
    set_field = object.__setattr__
    parts = 0.0
    for name in ('validation', 'test'):
      value = getattr(self, name)
      if isinstance(value, str) and value:
        continue
      if not isinstance(value, numbers.Real) or not 0.0 < value < 1.0:
        raise errors.DataError(
          f'{name.upper()} is {value!r}: expected the path of a file, or the'
          ' part of the rows to set apart, a number between 0 and 1.'
        )
      parts += value
    if parts >= 1.0:
      raise errors.DataError(
        f'VALIDATION and TEST set {parts:g} of the rows apart, which leaves'
        ' none to train on: expected less than 1 together.'
      )
    set_field(self, 'train', str(self.train))
    set_field(self, 'columns', _pairs('COLUMNS', self.columns))
    if self.test_columns is not None:
      if not isinstance(self.test, str):
        raise errors.DataError(
          'TEST_COLUMNS: expected TEST to be a file, the one that has them.'
        )
      test_columns = _pairs('TEST_COLUMNS', self.test_columns)
      set_field(self, 'test_columns', test_columns)
    if self.classes is not None:
      set_field(self, 'classes', _classes(self.classes))

  def paths(self) -> dict[str, str]:
    """Returns the locations of files by split."""
    values = {split: getattr(self, split) for split in _SPLITS}
    return {split: v for split, v in values.items() if isinstance(v, str)}

  def of_split(self, split: str) -> 'OwnData':
    """Returns how the rows of a split are read, as rows to train on.

    Args:
      split: one of `paths`.
    """
    columns = self.columns
    if split == 'test' and self.test_columns is not None:
      columns = self.test_columns
    return OwnData(
      self.paths()[split],
      columns=columns,
      by_value=self.by_value,
      classes=self.classes,
      kinds=self.kinds,
    )

  def file_columns(self, name: str) -> tuple[str, ...]:
    """Returns the file's names of a column; only rationales have several.

    Args:
      name: in `COLUMNS`, `rationale.<kind>`, or 'rationale2', ….
    """
    number = columns_lib.number_of(name)
    if self.kinds and number is not None:
      name = columns_lib.in_files(self.kinds[number - 1])
    return dict(self.columns).get(name, (name,))

  @property
  def plain_rationale(self) -> tuple[str, ...]:
    """The file's names of rationales that are not called after a kind."""
    return dict(self.columns).get(_RATIONALE, (_RATIONALE,))

  @property
  def mapped_kinds(self) -> tuple[str, ...]:
    """The kinds that `columns` names; none if it has no `rationale.<kind>`."""
    return mapped_kinds([name for name, _ in self.columns])


def mapped_kinds(names: Sequence[str]) -> tuple[str, ...]:
  """Returns the kinds of rationales that a mapping of columns names.

  >>> mapped_kinds(['input', 'rationale', 'rationale.program'])
  ('rationale', 'program')
  >>> mapped_kinds(['rationale'])
  ()

  Args:
    names: that it maps.
  """
  found = [columns_lib.kind_in_files(name) for name in names]
  kinds = tuple(kind for kind in found if kind is not None)
  return () if kinds == (_RATIONALE,) else kinds


def _pairs(macro: str, columns: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
  """Checks a mapping of columns and returns it as pairs."""
  result = []
  given = columns.items() if isinstance(columns, Mapping) else columns or ()
  for name, mapped in given:
    kind = columns_lib.kind_in_files(str(name))
    if name not in COLUMNS and not kind:
      raise errors.DataError(
        f'{macro} maps {name!r}: expected one of {", ".join(COLUMNS)}, or'
        ' rationale.KIND for a kind of rationales.'
        f'{errors.did_you_mean(name, COLUMNS)}'
      )
    names = (mapped,) if isinstance(mapped, str) else tuple(mapped)
    if not names or (len(names) > 1 and not kind):
      raise errors.DataError(
        f'{macro} maps {name!r} to {mapped!r}: expected the name of a column'
        ' (several for rationales only).'
      )
    result.append((name, names))
  return tuple(result)


def _classes(given: Any) -> tuple[str, ...]:
  """Checks a list of classes and returns their texts."""
  if isinstance(given, str) or not isinstance(given, Sequence):
    raise errors.DataError(
      f'CLASSES is {given!r:.60}: expected a list of labels, such as'
      " ['yes', 'no']."
    )
  if len(given) > MOST_CLASSES:
    raise errors.DataError(
      f'CLASSES has {len(given):,} labels: expected at most {MOST_CLASSES:,},'
      ' each of which is scored. Where labels are free text, leave CLASSES out.'
    )
  result: dict[str, Any] = {}
  texts = []
  for label in given:
    try:
      # A word such as 'nan' that is named here is a class, not a missing value.
      text = label if isinstance(label, str) else row_files.text(label)
    except row_files.ValueProblem:
      text = ''
    text = text.strip()
    if not text:
      raise errors.DataError(
        f'CLASSES has {label!r:.60}: expected a text, a number, True or False.'
      )
    if len(text) > _MAX_CLASS:
      raise errors.DataError(
        f'CLASSES has a label of {len(text):,} characters, {text!r:.60}:'
        f' expected at most {_MAX_CLASS:,}. Shorten it.'
      )
    key = row_files.label_key(text)
    if key in result:
      raise errors.DataError(
        f'CLASSES has {result[key]!r:.60} and {label!r:.60}: expected each'
        ' class once.'
        ' Numbers of one value are the same class.'
      )
    result[key] = label
    texts.append(text)
  return tuple(texts)
