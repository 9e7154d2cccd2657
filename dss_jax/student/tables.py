"""Finished answers as CSV, JSON lines or Parquet.

Answers are kept as JSON lines while they are made. JSON lines and Parquet hold
values as they were; a CSV file is made for spreadsheets, in which no text is a
formula (`neutral.cell`).
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from dss_jax import errors, neutral
from dss_jax.data import row_files

# Rows that are converted at once.
_BLOCK = 4096
# What a 64-bit column of whole numbers holds.
_LARGEST = 2**63


def check_ending(path: str) -> str:
  """Returns the ending of a file of answers.

  Raises:
    DataError: it is none that can be written.
  """
  ending = os.path.splitext(path)[1].lower()
  if ending not in _WRITERS:
    raise errors.DataError(
      f'{path}: expected a file that ends in {", ".join(_WRITERS)}, found'
      f' {ending or "no ending"}. Give it one of these, which says how answers'
      ' are written.'
    )
  return ending


def write(chunks: Iterable[str], path: str, ending: str) -> None:
  """Writes the rows of files of JSON lines as one file.

  Args:
    chunks: paths of the files, in order.
    path: of the file to write.
    ending: from `check_ending`.
  """
  _WRITERS[ending](list(chunks), path)


def rows(chunks: Iterable[str]) -> Iterator[dict[str, Any]]:
  """Yields the rows of files of JSON lines."""
  for chunk in chunks:
    with open(chunk, encoding='utf-8') as file:
      for line in file:
        yield json.loads(line)


def _columns(chunks: Iterable[str]) -> list[str]:
  """Returns the names of all columns, in the order in which they come."""
  found: dict[str, None] = {}
  for row in rows(chunks):
    found |= dict.fromkeys(row)
  return list(found)


def _write_lines(chunks: list[str], path: str) -> None:
  with open(path, 'wb') as merged:
    for chunk in chunks:
      with open(chunk, 'rb') as file:
        while block := file.read(1 << 20):
          merged.write(block)


def _write_csv(chunks: list[str], path: str, delimiter: str = ',') -> None:
  names = _columns(chunks)
  with open(path, 'w', encoding='utf-8', newline='') as file:
    writer = csv.writer(file, delimiter=delimiter, lineterminator='\n')
    writer.writerow([neutral.cell(name) for name in names])
    for row in rows(chunks):
      writer.writerow([neutral.cell(_field(row.get(name))) for name in names])


def _field(value: Any) -> Any:
  """Returns the value of a field, as `row_files` reads it again."""
  if isinstance(value, list | dict):
    return json.dumps(value, ensure_ascii=False)
  if isinstance(value, bool):
    return row_files.text(value)
  return value


def _write_parquet(chunks: list[str], path: str) -> None:
  import pyarrow
  from pyarrow import parquet

  kinds: dict[str, set[str]] = {}
  for row in rows(chunks):
    for name, value in row.items():
      kinds.setdefault(name, set()).add(_kind(value))
  convert = {name: _converter(found) for name, found in kinds.items()}
  types = {
    name: getattr(pyarrow, _TYPES.get(_only(found), 'string'))()
    for name, found in kinds.items()
  }
  schema = pyarrow.schema(list(types.items()))
  with parquet.ParquetWriter(path, schema) as writer:
    block: list[dict[str, Any]] = []
    for row in rows(chunks):
      block.append({name: to(row.get(name)) for name, to in convert.items()})
      if len(block) == _BLOCK:
        writer.write_table(pyarrow.Table.from_pylist(block, schema))
        block = []
    writer.write_table(pyarrow.Table.from_pylist(block, schema))


_TYPES = {
  'bool': 'bool_', 'int': 'int64', 'float': 'float64', 'str': 'string',
}  # fmt: skip


def _kind(value: Any) -> str:
  if isinstance(value, int) and not isinstance(value, bool):
    return 'int' if -_LARGEST <= value < _LARGEST else 'large'
  return type(value).__name__


def _only(kinds: set[str]) -> str:
  """Returns the one kind that values have, '' if they have several."""
  there = kinds - {'NoneType'}
  if there == {'int', 'float'}:
    return 'float'
  return there.pop() if len(there) == 1 else ''


def _converter(kinds: set[str]) -> Callable[[Any], Any]:
  """Returns what makes values of some kinds alike: all texts, if need be."""
  if _only(kinds) in _TYPES:
    return lambda value: value
  return lambda value: (
    value
    if value is None or isinstance(value, str)
    else json.dumps(value, ensure_ascii=False)
  )


def as_line(row: Mapping[str, Any]) -> str:
  """Returns a row as a line of JSON.

  Args:
    row: with values from a file; what JSON does not have becomes a text, or
      null if it is no number.
  """
  try:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)
  except (TypeError, ValueError):
    plain = {name: _plain(value) for name, value in row.items()}
    return json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
  if isinstance(value, list):
    return [_plain(item) for item in value]
  if isinstance(value, float) and value != value:
    return None
  if isinstance(value, bool | int | float | str | dict | type(None)):
    return value if not _is_infinite(value) else str(value)
  return str(value)


def _is_infinite(value: Any) -> bool:
  return isinstance(value, float) and value in (float('inf'), -float('inf'))


_WRITERS: dict[str, Callable[[list[str], str], None]] = {
  '.csv': _write_csv,
  '.jsonl': _write_lines,
  '.parquet': _write_parquet,
  '.tsv': lambda chunks, path: _write_csv(chunks, path, '\t'),
}
