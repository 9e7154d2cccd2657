"""Rows of files of all forms, read alike and one at a time."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from dss_jax import errors
from dss_jax.data import progress as progress_lib
from dss_jax.data.row_files import (
  csv_rows,
  finding,
  json_rows,
  opening,
  parquet_rows,
  text_rows,
)

# Names that are kept of JSON objects, each of which may have others.
_MOST_NAMES = 1000
_SHOWN = 20


class Columns:
  """Names of the columns of a table, as far as it was read.

  Attributes:
    names: in the order in which they came.
    hint: as in `csv_rows.Reader`.
  """

  def __init__(self) -> None:
    """Starts without any."""
    self.names: dict[str, None] = {}
    self.hint = ''

  def add(self, names: Sequence[str]) -> None:
    """Adds the names of a row."""
    if len(self.names) < _MOST_NAMES:
      self.names.update(dict.fromkeys(names))

  def missing(self, place: str, name: str, column: str) -> errors.DataError:
    """Returns the error about a column that is not there.

    Args:
      place: file and line.
      name: what the column is for: 'input', ….
      column: its name in the file.
    """
    shown = ', '.join(list(self.names)[:_SHOWN]) or 'none'
    more = ', …' if len(self.names) > _SHOWN else ''
    return errors.DataError(
      f'{place}: expected the column {column!r} ({name}), found only'
      f' {shown}{more}.{errors.did_you_mean(column, self.names)}{self.hint} Add'
      ' it, or say with COLUMNS what it is called.'
    )


def rows(
  file: finding.File,
  wanted: Sequence[str] | None,
  columns: Columns,
  progress: progress_lib.Progress,
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (number, row) of one file.

  The number is that of the line where the row begins; for Parquet, of the row.

  Args:
    file: the file.
    wanted: the columns that are needed. Rows have no others, except in JSON.
      None takes all that hold texts, numbers or lists of them.
    columns: told all names of columns, those of a header before its rows.
    progress: told rows and position.

  Raises:
    DataError: the file cannot be read, or a row is malformed.
  """
  with contextlib.ExitStack() as stack:
    if file.ending == '.parquet':
      raw = stack.enter_context(opening.opened(file))
      parquet = parquet_rows.Reader(file, raw, opening.Meter(file, progress))
      columns.add(parquet.header)
      found = parquet.rows(wanted)
    else:
      stream = stack.enter_context(opening.unpacked(file, progress))
      if file.ending in ('.csv', '.tsv'):
        delimiter = '\t' if file.ending == '.tsv' else ','
        table = csv_rows.Reader(stream, file.place, delimiter)
        columns.add(table.header)
        columns.hint = table.hint
        found = table.rows(wanted)
      elif file.ending == finding.TEXT:
        found = text_rows.read(stream, file.place)
      else:
        found = json_rows.read(stream, file.place)
    for number, row in found:
      if not file.has_header:
        columns.add(tuple(row))
      progress.row()
      yield number, row
