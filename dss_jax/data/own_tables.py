"""Tables of the user's own rows: all files of one place, as records."""

import collections
import dataclasses
import itertools
from collections.abc import Mapping
from typing import IO, Any

from dss_jax import errors
from dss_jax.data import equations, own_options, places, records, row_files
from dss_jax.data import progress as progress_lib

# Between the rationales of one row, which are stored as one text.
SEPARATOR = '\x1e'
# What Python writes for a missing value where all is text. It may be a class.
_NONE = 'None'
# Labels that many rows share are kept once.
_SHARED = 10_000
# Rows that are looked at to see which columns a JSON file has.
_PEEKED = 1000


@dataclasses.dataclass
class Table:
  """The rows of one location.

  Attributes:
    rows: its records.
    places: of each of them.
    columns: that are there.
  """

  rows: list[records.Record]
  places: places.Places
  columns: row_files.Columns


class _Reader:
  """Reader of the rows of one location."""

  def __init__(self, own: own_options.OwnData, columns: row_files.Columns):
    self._own = own
    self._mapped = {
      name: own.file_columns(name) for name in own_options.COLUMNS
    }
    self._columns = columns
    self._shared: dict[str, str] = {}
    self._class_of: dict[str, str] = {}
    for label in own.classes or ():
      self._class_of[row_files.label_key(label)] = label
    self.wanted = tuple(
      dict.fromkeys(c for names in self._mapped.values() for c in names)
    )

  def missing(self, place: str) -> errors.DataError | None:
    """Returns the error about the first needed column that is not there."""
    for name in dict.fromkeys(('input', *dict(self._own.columns))):
      for column in self._mapped[name]:
        if column not in self._columns.names:
          return self._columns.missing(place, name, column)
    return None

  def record(
    self, row: Mapping[str, Any], place: str, index: int, stem: str
  ) -> records.Record:
    """Returns the record of a row.

    Args:
      row: by the file's columns.
      place: file and line.
      index: of the row.
      stem: of the file's name, of which a missing id is made.
    """
    texts = {}
    for name, (column, *_) in self._mapped.items():
      if name in ('label', 'teacher_label'):
        texts[name] = self._label(place, column, row.get(column))
      elif name != 'rationale':
        texts[name] = _text(place, column, row.get(column))
    texts['rationale'] = self._rationales(place, row)
    _check(self._own, place, texts)
    texts['id'] = texts['id'] or f'{stem}-{index}'
    return records.Record(index=index, **texts)

  def _label(self, place: str, column: str, value: Any) -> str:
    """Returns a label, as its class's text where there are classes."""
    text = value.strip() if isinstance(value, str) else ''
    if text and text in (self._own.classes or ()):
      return self._shared.setdefault(text, text)
    text = _text(place, column, value)
    if text == _NONE:
      raise errors.DataError(
        f'{place}: expected {column!r} to be a label, found {_NONE!r}, which'
        ' Python writes for a missing value and which may be a class. Leave the'
        ' field blank, or list it in CLASSES.'
      )
    text = self._class_of.get(row_files.label_key(text), text)
    if len(self._shared) < _SHARED:
      return self._shared.setdefault(text, text)
    return self._shared.get(text, text)

  def _rationales(self, place: str, row: Mapping[str, Any]) -> str:
    found = []
    for column in self._mapped['rationale']:
      value = row.get(column)
      for item in value if isinstance(value, list) else [value]:
        text = _text(place, column, item)
        found.append('' if text == _NONE else text)
    return SEPARATOR.join(filter(None, found))


def _text(place: str, column: str, value: Any) -> str:
  try:
    text = row_files.text(value)
  except row_files.ValueProblem as problem:
    raise errors.DataError(
      f'{place}: expected {column!r} to be a text, found {problem}. Correct it.'
    ) from None
  if SEPARATOR in text:
    raise errors.DataError(
      f'{place}: expected {column!r} without the control character 1E, found'
      f' {text!r:.60}. Remove it.'
    )
  return text


class _NoInput(errors.DataError):
  """A row without an input."""


def _check(
  own: own_options.OwnData, place: str, texts: Mapping[str, str]
) -> None:
  """Raises a DataError unless a row can be used."""
  label = texts['label']
  if texts['input'] in ('', _NONE):
    raise _NoInput(
      f'{place}: expected a text in {own.file_columns("input")[0]!r}, found'
      ' none. Write one or remove the row.'
    )
  if own.classes and label and label not in own.classes:
    raise errors.DataError(
      f'{place}: expected {own.file_columns("label")[0]!r} to be one of'
      f' {", ".join(own.classes)}, found {label!r}.'
      f'{errors.did_you_mean(label, own.classes)} Correct the label or CLASSES.'
    )
  if own.by_value and label and equations.evaluate(label) is None:
    raise errors.DataError(
      f'{place}: expected {own.file_columns("label")[0]!r} to be an equation'
      f" with a value, such as '( 3.0 + 9.0 )', found {label!r}. Correct the"
      ' label.'
    )


def read(
  own: own_options.OwnData, location: str, stream: IO[str] | None = None
) -> Table:
  """Reads all files of a location; a record's index is that of its row.

  Args:
    own: how to read them.
    location: a file, folder or glob.
    stream: where to say how far it is; None for standard error.

  Raises:
    DataError: a file is missing or malformed.
  """
  files = row_files.find(location)
  total = sum(int(file.path.stat().length) for file in files)
  progress = progress_lib.Progress(f'Reading {location}', total, stream)
  columns = row_files.Columns()
  table = Table([], places.Places(), columns)
  reader = _Reader(own, columns)
  first = ''
  for file in files:
    begin = _read_file(reader, file, table, progress)
    progress.next_file()
    first = first or begin
    if not begin and len(files) == 1:
      raise _no_rows(file.place)
  progress.done()
  if not table.rows:
    raise _no_rows(location)
  # A header was checked with its file; objects may name a column anywhere.
  if problem := reader.missing(first):
    raise problem
  return table


def _read_file(
  reader: _Reader,
  file: row_files.File,
  table: Table,
  progress: progress_lib.Progress,
) -> str:
  """Adds the rows of a file to a table; returns the first one's place."""
  columns = table.columns
  if file.ending not in ('.jsonl', '.json'):
    # A header names the columns of its own file alone.
    columns.names.clear()
  word = 'row' if file.ending == '.parquet' else 'line'
  rows = row_files.rows(file, reader.wanted, columns, progress)
  first = ''
  for number, row in rows:
    place = f'{file.place}, {word} {number}'
    if not first:
      first = place
      if columns.complete and (problem := reader.missing(place)):
        raise problem
    try:
      record = reader.record(row, place, len(table.rows), file.stem)
    except _NoInput:
      # Does this row lack an input, or do all of them?
      collections.deque(itertools.islice(rows, _PEEKED), maxlen=0)
      if problem := reader.missing(first):
        raise problem from None
      raise
    table.rows.append(record)
    table.places.add(file.place, word, number)
  return first


def _no_rows(place: str) -> errors.DataError:
  return errors.DataError(
    f'{place}: expected rows, found none. Write at least one.'
  )
