"""Tables of the user's own rows: all files of one place, as records."""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import IO, Any

from dss_jax import errors, neutral
from dss_jax.data import columns as columns_lib
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

  def __init__(
    self,
    own: own_options.OwnData,
    columns: row_files.Columns,
    names: Sequence[str],
    none_is_text: bool,
    needed: Sequence[str] = own_options.COLUMNS,
  ):
    self._own = own
    self._needed = [
      n
      for n in ('input', *dict(own.columns))
      if n.partition('.')[0] in needed and _is_read(own, n)
    ]
    self._none_is_text = none_is_text
    self._mapped = {name: own.file_columns(name) for name in names}
    if 'rationale' in self._mapped:
      self._mapped['rationale'] = own.plain_rationale
      for number, kind in enumerate(own.kinds, 1):
        column = columns_lib.rationale(number)
        self._mapped[columns_lib.in_files(kind)] = own.file_columns(column)
    self._columns = columns
    self._shared: dict[str, str] = {}
    self._class_of: dict[str, str] = {}
    self._classes = frozenset(own.classes or ())
    for label in own.classes or ():
      self._class_of[row_files.label_key(label)] = label
    self.wanted = tuple(
      dict.fromkeys(c for names in self._mapped.values() for c in names)
    )

  def missing(self, place: str) -> errors.DataError | None:
    """Returns the error about the first needed column that is not there."""
    for name in dict.fromkeys(self._needed):
      for column in self._mapped.get(name, ()):
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
    texts = dict.fromkeys(own_options.COLUMNS, '')
    for name, (column, *_) in self._mapped.items():
      if name in ('label', 'teacher_label'):
        texts[name] = self._label(place, column, row.get(column))
      elif name.partition('.')[0] != 'rationale':
        texts[name] = _text(place, column, row.get(column))
    more: tuple[str, ...] = ()
    if 'rationale' in self._mapped:
      texts['rationale'], *others = (
        SEPARATOR.join(filter(None, found))
        for found in self._rationales(place, row)
      )
      more = tuple(others)
    _check(self._own, self._classes, place, texts)
    texts['id'] = texts['id'] or f'{stem}-{index}'
    return records.Record(index=index, **texts, more=more)

  def _label(self, place: str, column: str, value: Any) -> str:
    """Returns a label, as its class's text where there are classes."""
    text = value.strip() if isinstance(value, str) else ''
    if text in self._classes:
      return self._shared.setdefault(text, text)
    text = _text(place, column, value)
    if text == _NONE and not self._none_is_text:
      raise errors.DataError(
        f'{place}: expected {column!r} to be a label, found {_NONE!r}, which'
        ' Python writes for a missing value and which may be a class. Leave the'
        ' field blank, or list it in CLASSES.'
      )
    if text and self._class_of:
      text = self._class_of.get(row_files.label_key(text), text)
    if len(self._shared) < _SHARED:
      return self._shared.setdefault(text, text)
    return self._shared.get(text, text)

  def _rationales(self, place: str, row: Mapping[str, Any]) -> list[list[str]]:
    """Returns a row's rationales of each kind, '' for those that are blank."""
    kinds = self._own.kinds or ('rationale',)
    found: dict[str, list[str]] = {kind: [] for kind in kinds}
    for column in self._mapped['rationale']:
      value = row.get(column)
      if not isinstance(value, dict):
        value = {'rationale': value}
      elif not self._own.kinds:
        raise errors.DataError(
          f'{place}: expected {column!r} to be a text, found rationales of'
          f' several kinds: {neutral.names(value)}. Say which of them to learn,'
          f' such as RATIONALE_KINDS = {tuple(value)[:2]!r:.120}.'
        )
      for kind in found:
        found[kind] += _texts(place, column, value.get(kind))
    for kind in found:
      name = columns_lib.in_files(kind)
      for column in self._mapped[name] if name != 'rationale' else ():
        found[kind] += _texts(place, column, row.get(column))
    return list(found.values())


def _is_read(own: own_options.OwnData, name: str) -> bool:
  """Whether a mapped column is read: those of other kinds are not."""
  kind = columns_lib.kind_in_files(name)
  return kind is None or kind in (own.kinds or ('rationale',))


def _texts(place: str, column: str, value: Any) -> list[str]:
  """Returns the texts of a rationale, which may be a list of them."""
  found = [
    _text(place, column, item)
    for item in (value if isinstance(value, list) else [value])
  ]
  return ['' if text == _NONE else text for text in found]


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
  own: own_options.OwnData,
  classes: Set[str],
  place: str,
  texts: Mapping[str, str],
) -> None:
  """Raises a DataError unless a row can be used."""
  label = texts['label']
  if texts['input'] in ('', _NONE):
    raise _NoInput(
      f'{place}: expected a text in {own.file_columns("input")[0]!r}, found'
      ' none. Write one or remove the row.'
    )
  if own.classes and label and label not in classes:
    raise errors.DataError(
      f'{place}: expected {own.file_columns("label")[0]!r} to be one of'
      f' {neutral.names(own.classes)}, found {label!r:.120}.'
      f'{errors.did_you_mean(label, own.classes)} Correct the label or CLASSES.'
    )
  if own.by_value and label and equations.evaluate(label) is None:
    raise errors.DataError(
      f'{place}: expected {own.file_columns("label")[0]!r} to be an equation'
      f" with a value, such as '( 3.0 + 9.0 )', found {label!r:.120}."
      ' Correct the label.'
    )


def records_of(
  own: own_options.OwnData,
  location: str,
  columns: row_files.Columns,
  progress: progress_lib.Progress,
  names: Sequence[str] = own_options.COLUMNS,
  none_is_text: bool = False,
  needed: Sequence[str] = own_options.COLUMNS,
) -> Iterator[tuple[row_files.File, int, records.Record]]:
  """Yields (file, line or row, record) of all rows of a location.

  A record's index is that of its row.

  Args:
    own: how to read them.
    location: a file, folder or glob.
    columns: told which there are.
    progress: told how far it is.
    names: of the columns to read, in `COLUMNS`; the others are blank.
    none_is_text: whether a label 'None' is taken as it is, not refused.
    needed: those of `names` that must be there if they are mapped; the input
      must be in any case.

  Raises:
    DataError: a file is missing or malformed, or there are no rows.
  """
  files = row_files.find(location)
  reader = _Reader(own, columns, names, none_is_text, needed)
  count, first = 0, ''
  for file in files:
    begin = count
    for number, record in _of_file(reader, file, columns, progress, count):
      first = first or _place(file, number)
      count += 1
      yield file, number, record
    progress.next_file()
    if count == begin and len(files) == 1:
      raise _no_rows(file.place)
  if not count:
    raise _no_rows(location)
  # A header was checked with its file; objects may name a column anywhere.
  if problem := reader.missing(first):
    raise problem


def _place(file: row_files.File, number: int) -> str:
  return f'{file.place}, {file.word} {number}'


def _of_file(
  reader: _Reader,
  file: row_files.File,
  columns: row_files.Columns,
  progress: progress_lib.Progress,
  count: int,
) -> Iterator[tuple[int, records.Record]]:
  """Yields (line or row, record) of a file, the first with index `count`."""
  if file.has_header:
    # It names the columns of its own file alone.
    columns.names.clear()
  first = ''
  rows = row_files.rows(file, reader.wanted, columns, progress)
  for index, (number, row) in enumerate(rows, count):
    place = _place(file, number)
    if not first:
      first = place
      if file.has_header and (problem := reader.missing(place)):
        raise problem
    try:
      record = reader.record(row, place, index, file.stem)
    except _NoInput:
      # Does this row lack an input, or do all of them?
      collections.deque(itertools.islice(rows, _PEEKED), maxlen=0)
      if problem := reader.missing(first):
        raise problem from None
      raise
    yield number, record


def read(
  own: own_options.OwnData,
  location: str,
  stream: IO[str] | None = None,
  needed: Sequence[str] = own_options.COLUMNS,
  names: Sequence[str] = own_options.COLUMNS,
) -> Table:
  """Reads all rows of a location.

  Args:
    own: how to read them.
    location: a file, folder or glob.
    stream: where to say how far it is; None for standard error.
    needed: as in `records_of`.
    names: likewise.

  Raises:
    DataError: a file is missing or malformed, or there are no rows.
  """
  total = sum(int(file.path.stat().length) for file in row_files.find(location))
  progress = progress_lib.Progress(f'Reading {location}', total, stream)
  table = Table([], places.Places(), row_files.Columns())
  for file, number, record in records_of(
    own, location, table.columns, progress, names, needed=needed
  ):
    table.rows.append(record)
    table.places.add(file.place, file.word, number)
  progress.done()
  return table


def _no_rows(place: str) -> errors.DataError:
  return errors.DataError(
    f'{place}: expected rows, found none. Write at least one.'
  )
