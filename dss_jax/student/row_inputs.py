"""Files of rows to ask about, read one row at a time."""

import dataclasses
import functools
import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dss_jax import errors
from dss_jax.data import progress as progress_lib
from dss_jax.data import row_files, row_formats
from dss_jax.student import inputs
from dss_jax.student import usage as usage_lib

_SHOWN = 20

Row = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class RowInputs:
  """Rows with an input each.

  Attributes:
    location: of a file, folder or glob, as `row_files.find` takes it.
    usage: of the student.
    column: what the input is called; None for what the student was trained on,
      or for `input`.
  """

  location: str
  usage: usage_lib.Usage
  column: str | None = None

  @functools.cached_property
  def files(self) -> tuple[row_files.File, ...]:
    """The files with rows, in order."""
    return row_files.find(self.location)

  @functools.cached_property
  def digests(self) -> list[str]:
    """What tells the content of each file from another."""
    return [row_files.digest(file) for file in self.files]

  def survey(self, added: Collection[str] = ()) -> int:
    """Reads all rows once, and returns how many there are.

    So a mistake in the last row is found before the first is asked.

    Args:
      added: columns that answers get.

    Raises:
      DataError: a file is missing or malformed, or a row has no input, or a
        column of an answer.
    """
    size = sum(int(file.path.stat().length) for file in self.files)
    progress = progress_lib.Progress(f'Reading {self.location}', size)
    count = 0
    for place, row in self._rows(progress):
      self.text(row, place)
      if taken := row.keys() & set(added):
        raise errors.DataError(
          f'{place}: expected no column {min(taken)!r}, since answers go there.'
          ' Rename it.'
        )
      count += 1
    progress.done()
    if not count:
      raise errors.DataError(
        f'{self.location}: expected rows, found none. Write at least one.'
      )
    return count

  def read(self, skip: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the input and all columns of each row.

    Args:
      skip: rows that are left out first.
    """
    rows = self._rows(progress_lib.silent())
    for place, row in itertools.islice(rows, skip, None):
      yield self.text(row, place), row

  def text(self, row: Mapping[str, Any], place: str) -> str:
    """Returns the input of a row.

    Args:
      row: with the columns of its file.
      place: file and line.

    Raises:
      DataError: there is none.
    """
    if self.column is not None and self.column not in row:
      raise self._missing(row, place, self.column)
    if self.column is not None:
      return inputs.text_of(row[self.column], self.usage, place)
    if not self._is_known(row):
      raise self._missing(row, place, self.usage.column)
    return inputs.text_of(row, self.usage, place)

  def _is_known(self, row: Mapping[str, Any]) -> bool:
    published = self.usage.data_set in row_formats.READERS
    return published or self.usage.column in row or 'input' in row

  def _missing(
    self, row: Mapping[str, Any], place: str, column: str
  ) -> errors.DataError:
    names = [str(name) for name in row]
    more = ', …' if len(names) > _SHOWN else ''
    return errors.DataError(
      f'{place}: expected the column {column!r}, found only'
      f' {", ".join(names[:_SHOWN]) or "none"}{more}.'
      f'{errors.did_you_mean(column, names)} Say with --column which one has'
      ' the texts.'
    )

  def _rows(self, progress: progress_lib.Progress) -> Iterator[Row]:
    """Yields place and columns of every row."""
    for file in self.files:
      rows = row_files.rows(file, None, row_files.Columns(), progress)
      for number, row in rows:
        yield f'{file.place}, {file.word} {number}', row
      progress.next_file()
