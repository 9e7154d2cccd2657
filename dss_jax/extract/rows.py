"""Rows to ask about, streamed: no split is ever held in memory.

Rows in the published layout are first copied into the extraction's folder, so
that it is complete by itself and its completions stay paired with its rows. The
user's own rows are read where they are, as training reads them.
"""

import dataclasses
import filecmp
import pathlib
import shutil
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from dss_jax import errors
from dss_jax.data import (
  archive,
  equations,
  own_rows,
  own_tables,
  progress,
  records,
  row_files,
  row_formats,
  text_files,
)
from t5x import files as files_lib

# The data set of the user's own rows, and their only split.
CUSTOM = 'custom'
OWN_SPLIT = 'train'
_COLUMNS = ('input', 'label', 'id')


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
  """One input.

  Attributes:
    split: 'train', 'validation' or 'test'.
    index: its number in the split, from 0.
    id: its identifier.
    input: what a student reads, without a task prefix.
    label: the gold label; '' if there is none.
    possible: returns whether a label is a possible answer.
  """

  split: str
  index: int
  id: str
  input: str
  label: str
  possible: Callable[[str], bool]


@dataclasses.dataclass(frozen=True)
class Rows:
  """Files of rows, and how to read them.

  Attributes:
    data_set: one in the published layout, or 'custom'.
    paths: the file of each split.
    by_value: whether labels are equations.
    columns: the names of input, label and id in a file of the user's own.
    location: of the user's own rows, a file, folder or glob.
  """

  data_set: str
  paths: Mapping[str, pathlib.Path]
  by_value: bool = False
  columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
  location: str = ''

  @property
  def published(self) -> bool:
    """Whether the rows are in the published layout."""
    return self.data_set != CUSTOM

  def read(self, split: str) -> Iterator[Row]:
    """Yields the rows of a split, one at a time.

    Raises:
      DataError: a line is malformed; the message names it.
    """
    if not self.published:
      yield from self._own(split)
      return
    for index, (place, row) in enumerate(_objects(self.paths[split])):
      try:
        yield self._published(split, index, row)
      except row_formats.RowError as error:
        raise errors.DataError(f'{place}: {error}') from None

  def _published(self, split: str, index: int, row: dict[str, Any]) -> Row:
    read = row_formats.READERS[self.data_set](row)
    name = f'{split}-{index}' if read.id is None else read.id
    return Row(split, index, name, read.input, read.label, read.possible)

  def _own(self, split: str) -> Iterator[Row]:
    own = own_rows.OwnData(self.location, columns=self.columns)
    for _, _, record in own_tables.records_of(
      own,
      self.location,
      row_files.Columns(),
      progress.silent(),
      _COLUMNS,
      none_is_text=True,
    ):
      yield Row(
        split,
        record.index,
        record.id,
        record.input,
        record.label,
        self._possible,
      )

  def _possible(self, label: str) -> bool:
    return not self.by_value or equations.evaluate(label) is not None

  def correct(self, label: str, gold: str) -> bool:
    """Returns whether a label is the gold label, or has its value."""
    if self.by_value:
      return equations.same_value(label, gold)
    return label == gold

  def key(self, label: str) -> Hashable:
    """Returns what equal labels have in common: their value, or the text."""
    value = equations.evaluate(label) if self.by_value else None
    return label if value is None else value


def _objects(path: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields (place, row) of a file with a JSON object a line."""
  blank, number = False, 0
  with path.open('rb') as file:
    # Only b'\n' ends a line: JSON text may hold other separators unescaped.
    for number, data in enumerate(file, 1):
      if not data.strip(b'\xef\xbb\xbf \t\r\n'):
        blank = True
        continue
      place = f'{path}, line {number}'
      if blank:
        raise errors.DataError(
          f'{place}: expected no row after a blank line. Remove blank lines.'
        )
      yield place, text_files.json_object(data, str(path), number)
  if not number:
    raise errors.DataError(f'{path}: expected rows, found an empty file.')


def own(location: str, columns: Mapping[str, str], by_value: bool) -> Rows:
  """Returns the user's own rows.

  Args:
    location: of their files, as in `own_rows.OwnData`.
    columns: maps 'input', 'label', 'id' to the file's names.
    by_value: whether labels are equations.

  Raises:
    DataError: there is no such file, or an unknown name in `columns`.
  """
  row_files.find(location)
  for name in columns:
    if name not in _COLUMNS:
      raise errors.DataError(
        f'--column {name}=…: expected one of {", ".join(_COLUMNS)}.'
        f'{errors.did_you_mean(name, _COLUMNS)}'
      )
  paths = {OWN_SPLIT: pathlib.Path(location)}
  return Rows(CUSTOM, paths, by_value, dict(columns), location)


def fetch(data_set: str, location: str, folder: pathlib.Path) -> Rows:
  """Copies rows in the published layout.

  Args:
    data_set: one of `records.DATA_SETS`.
    location: the folder or zip that holds it.
    folder: the folder to copy to.

  Returns:
    The copied rows.

  Raises:
    DataError: there is no such data set there.
  """
  records.check_data_set(data_set)
  paths = {}
  with archive.open_files(location, data_set) as files:
    for split, file_split in records.FILE_SPLITS.items():
      name = f'{data_set}_{file_split}.json'
      if files.exists(name):
        paths[split] = folder / name
        paths[split].write_bytes(files.read(name))
  return Rows(data_set, paths, data_set in records.EQUATION_SETS)


def keep(rows: Rows, folder: pathlib.Path, teacher: str) -> Rows:
  """Copies fetched rows into an extraction's folder; own rows stay in place.

  Args:
    rows: the fetched rows.
    folder: the extraction's folder.
    teacher: the extraction's name.

  Raises:
    DataError: the folder holds other rows.
  """
  if not rows.published:
    return rows
  kept = {split: folder / path.name for split, path in rows.paths.items()}
  for split, path in kept.items():
    if path.exists() and not filecmp.cmp(path, rows.paths[split], False):
      raise errors.DataError(
        f'{path}: expected the rows of DATA, found others: the teacher'
        f' {teacher!r} was asked about them. Choose another --teacher.'
      )
  folder.mkdir(parents=True, exist_ok=True)
  for split, path in kept.items():
    if not path.exists():
      with files_lib.replacing(path) as work:
        shutil.copyfile(rows.paths[split], work)
  return dataclasses.replace(rows, paths=kept)
