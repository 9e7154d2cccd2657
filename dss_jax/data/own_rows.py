"""Reader of the user's own rows: JSON lines, CSV or Parquet, local or remote.

    {"input": "...", "label": "...", "rationale": "...", "id": "7"}

`input` is required; so are `label`, `rationale` and `teacher_label` if the
method uses them; a missing `id` is made up. `rationale` may be a list, of which
one is drawn in each epoch. Numbers count as their text.
"""

import csv
import dataclasses
import hashlib
import io
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from dss_jax import errors
from dss_jax.data import equations, records, text_files

COLUMNS = ('input', 'label', 'rationale', 'teacher_label', 'id')
ENDINGS = ('.jsonl', '.json', '.csv', '.tsv', '.parquet')
# Between the rationales of one row, which are stored as one text.
SEPARATOR = '\x1e'
_SPLITS = ('train', 'validation', 'test')
# Place and content of each row of a file.
_Rows = Iterator[tuple[str, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class OwnData:
  """Files with rows, and how to read them.

  Attributes:
    train: path of the file with the train rows, local or `gs://`.
    validation: path of another file, or the fraction of the train file's inputs
      to set apart, in (0, 1).
    test: likewise.
    columns: maps names in `COLUMNS` to the file's; other names are the same.
      `rationale` may be mapped to several columns.
    by_value: whether labels are equations, scored by their value.
    classes: the possible labels; with them, each class is scored too.
    seed: of setting rows apart.
  """

  train: str
  validation: str | float = 0.1
  test: str | float = 0.1
  columns: Any = None
  by_value: bool = False
  classes: Sequence[str] | None = None
  seed: int = 0

  def __post_init__(self):
    """Checks the options.

    Raises:
      DataError: one is out of its range.
    """
    parts = 0.0
    for name in ('validation', 'test'):
      value = getattr(self, name)
      if isinstance(value, str) and value:
        continue
      if not _is_number(value) or not 0.0 < value < 1.0:
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
    # As tuples, so that this is hashable.
    set_field = object.__setattr__
    set_field(self, 'train', str(self.train))
    set_field(self, 'columns', _pairs(self.columns))
    if self.classes is not None:
      set_field(self, 'classes', tuple(self.classes))

  def paths(self) -> dict[str, str]:
    """Returns the files by split."""
    values = {split: getattr(self, split) for split in _SPLITS}
    return {split: v for split, v in values.items() if isinstance(v, str)}

  def file_columns(self, name: str) -> tuple[str, ...]:
    """Returns the file's names of a column; only rationale has several."""
    return dict(self.columns).get(name, (name,))


def _is_number(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _pairs(columns: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
  """Checks a mapping of columns and returns it as pairs."""
  result = []
  given = columns.items() if isinstance(columns, Mapping) else columns or ()
  for name, mapped in given:
    if name not in COLUMNS:
      raise errors.DataError(
        f'COLUMNS maps {name!r}: expected one of {", ".join(COLUMNS)}.'
        f'{errors.did_you_mean(name, COLUMNS)}'
      )
    names = (mapped,) if isinstance(mapped, str) else tuple(mapped)
    if not names or (len(names) > 1 and name != 'rationale'):
      raise errors.DataError(
        f'COLUMNS maps {name!r} to {mapped!r}: expected the name of a column'
        ' (several for rationale only).'
      )
    result.append((name, names))
  return tuple(result)


class _Placed(NamedTuple):
  place: str
  record: records.Record


def _bytes(path: epath.Path) -> bytes:
  try:
    data = path.read_bytes()
  except OSError as error:
    folder = path.parent
    near = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    raise errors.DataError(
      f'{path}: expected a file with rows, found none that can be read'
      f' ({type(error).__name__}).{errors.did_you_mean(path.name, near)}'
      ' Correct the path.'
    ) from error
  if not data.strip():
    raise errors.DataError(
      f'{path}: expected rows, found an empty file. Write one row per line.'
    )
  return data


def _text(path: epath.Path) -> str:
  return text_files.decode(_bytes(path), str(path))


def _json_lines(path: epath.Path) -> _Rows:
  for number, line in enumerate(_text(path).split('\n'), 1):
    if line.strip():
      row = text_files.json_object(line, str(path), number)
      yield f'{path}, line {number}', row


def _separated(path: epath.Path, delimiter: str) -> _Rows:
  lines = io.StringIO(_text(path), newline='')
  reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
  try:
    for row in reader:
      place = f'{path}, line {reader.line_num}'
      if None in row or None in row.values():
        # DictReader lists a row's extra fields under None.
        count = sum(v is not None for k, v in row.items() if k is not None)
        count += len(row.get(None, ()))
        expected = len(reader.fieldnames or ())
        raise errors.DataError(
          f'{place}: expected {expected} columns as in the first line, found'
          f' {count}. Quote fields that hold a {delimiter!r}.'
        )
      yield place, row
  except csv.Error as error:
    raise errors.DataError(
      f'{path}, line {reader.line_num}: expected CSV, found: {error}. Correct'
      ' the line.'
    ) from error


def _parquet(path: epath.Path) -> _Rows:
  # Imported here, since few need it. It comes with TFDS.
  import pyarrow
  from pyarrow import parquet

  try:
    rows = parquet.read_table(io.BytesIO(_bytes(path))).to_pylist()
  except pyarrow.ArrowException as error:
    raise errors.DataError(
      f'{path}: expected a Parquet file, found: {str(error)[:120]}. Write it'
      ' again, or give JSON lines.'
    ) from error
  for number, row in enumerate(rows, 1):
    yield f'{path}, row {number}', row


def _rows(path: str) -> list[tuple[str, dict[str, Any]]]:
  """Returns (place, row) of all rows of a file."""
  where = epath.Path(path).expanduser()
  ending = where.suffix.lower()
  if ending in ('.jsonl', '.json'):
    rows = list(_json_lines(where))
  elif ending in ('.csv', '.tsv'):
    rows = list(_separated(where, '\t' if ending == '.tsv' else ','))
  elif ending == '.parquet':
    rows = list(_parquet(where))
  else:
    raise errors.DataError(
      f'{where}: expected a file that ends in {", ".join(ENDINGS)}, found'
      f' {ending or "no ending"}. Rename it or write it in one of these forms.'
    )
  if not rows:
    message = f'{where}: expected rows, found none. Write at least one.'
    raise errors.DataError(message)
  return rows


def _value(place: str, name: str, value: Any) -> str:
  if value is None:
    return ''
  if _is_number(value):
    value = str(value)
  if not isinstance(value, str) or SEPARATOR in value:
    raise errors.DataError(
      f'{place}: expected {name!r} to be a text, found {value!r:.60}. Correct'
      ' it.'
    )
  return value.strip()


def _read_file(own: OwnData, path: str) -> list[_Placed]:
  """Reads one file; the index of a record is that of its row in it."""
  rows = _rows(path)
  known = dict.fromkeys(key for _, row in rows for key in row)
  mapped = {name: own.file_columns(name) for name in COLUMNS}
  for name in dict.fromkeys(('input', *dict(own.columns))):
    for column in mapped[name]:
      if column not in known:
        raise errors.DataError(
          f'{rows[0][0]}: expected the column {column!r} ({name}), found only'
          f' {", ".join(known)}.{errors.did_you_mean(column, known)} Add it,'
          ' or say with COLUMNS what it is called.'
        )
  result = []
  for index, (place, row) in enumerate(rows):
    texts = {
      name: _value(place, columns[0], row.get(columns[0]))
      for name, columns in mapped.items()
      if name != 'rationale'
    }
    rationales = []
    for column in mapped['rationale']:
      value = row.get(column)
      values = value if isinstance(value, list) else [value]
      rationales += [_value(place, column, value) for value in values]
    _check(own, place, texts)
    texts['id'] = texts['id'] or f'{epath.Path(path).stem}-{index}'
    rationale = SEPARATOR.join(filter(None, rationales))
    record = records.Record(index=index, rationale=rationale, **texts)
    result.append(_Placed(place, record))
  return result


def _check(own: OwnData, place: str, texts: Mapping[str, str]) -> None:
  """Raises a DataError unless a row can be used."""
  label = texts['label']
  if not texts['input']:
    raise errors.DataError(
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


def _set_apart(own: OwnData, rows: list[_Placed]) -> dict[str, list[_Placed]]:
  """Divides the train file's rows; equal inputs stay together."""
  inputs = list(dict.fromkeys(row.record.input for row in rows))
  order = np.random.default_rng(own.seed).permutation(len(inputs))
  split_of: dict[str, str] = {}
  begin = 0
  for split in ('validation', 'test'):
    part = getattr(own, split)
    if not isinstance(part, str):
      end = begin + math.ceil(part * len(inputs))
      split_of.update((inputs[i], split) for i in order[begin:end])
      begin = end
  result: dict[str, list[_Placed]] = {'train': []}
  for row in rows:
    split = split_of.get(row.record.input, 'train')
    result.setdefault(split, []).append(row)
  if not result['train']:
    raise errors.DataError(
      f'{own.train}: expected more rows, found {len(inputs)} different inputs,'
      ' all of which are set apart for validation and test. Add rows, or give'
      ' VALIDATION and TEST files.'
    )
  return result


def read(own: OwnData, needs: tuple[str, ...] = ()) -> records.Release:
  """Reads the user's rows.

  Args:
    own: their files.
    needs: columns that at least one train row must fill.

  Returns:
    Records, reports and places by split. A record's rationale holds all those
    of its row, with `SEPARATOR` between them.

  Raises:
    DataError: a file is missing or malformed. The message names file and line,
      what was expected, what was found, and the fix.
  """
  splits = _set_apart(own, _read_file(own, own.train))
  for split, path in own.paths().items():
    if split != 'train':
      splits[split] = _read_file(own, path)
  for name in needs:
    if not any(getattr(row.record, name) for row in splits['train']):
      column = own.file_columns(name)
      raise errors.DataError(
        f'{own.train}: expected rows with a {" or ".join(column)}, found none'
        f' among {len(splits["train"])}. Add the column {column[0]!r}, or'
        ' choose a METHOD and LABELS that need none.'
      )
  rows, reports, places = {}, {}, {}
  for split, placed in splits.items():
    rows[split] = tuple(
      dataclasses.replace(row.record, index=index)
      for index, row in enumerate(placed)
    )
    reports[split] = _report(own, rows[split])
    places[split] = tuple(row.place for row in placed)
  return records.Release(rows, reports, places)


def read_one(path: str, columns: Any = None) -> tuple[records.Record, ...]:
  """Reads one file, without setting rows apart.

  Args:
    path: the file, local or `gs://`.
    columns: as in `OwnData`.

  Raises:
    DataError: the file is missing or malformed.
  """
  own = OwnData(train=path, columns=columns)
  return tuple(row.record for row in _read_file(own, own.train))


def _report(own: OwnData, rows: tuple[records.Record, ...]) -> records.Report:
  labels = [row.teacher_label for row in rows if row.teacher_label]
  outside = 0
  if own.classes:
    outside = sum(label not in own.classes for label in labels)
  elif own.by_value:
    outside = sum(equations.evaluate(label) is None for label in labels)
  return records.report_on(rows, own.by_value, outside)


def state(own: OwnData) -> tuple[Any, ...]:
  """Returns sizes and times of the files, a cheap key for `fingerprint`."""
  result = []
  for name in own.paths().values():
    path = epath.Path(name).expanduser()
    try:
      stat = path.stat()
    except OSError:
      _bytes(path)  # Its error names the fix.
      raise
    result.append((str(path), stat.length, float(stat.mtime)))
  return tuple(result)


def fingerprint(own: OwnData) -> str:
  """Returns 10 hexadecimal digits that stand for rows and options.

  Args:
    own: whose files; their paths make no difference.

  Raises:
    DataError: a file is missing.
  """
  digest = hashlib.sha256()
  parts = (own.validation, own.test)
  fractions = [None if isinstance(part, str) else part for part in parts]
  options = (own.columns, own.by_value, own.classes, own.seed, fractions)
  digest.update(repr(options).encode())
  for split, path in own.paths().items():
    data = _bytes(epath.Path(path).expanduser())
    ending = epath.Path(path).suffix.lower()
    content = hashlib.sha256(data).hexdigest()
    digest.update(f'{split}{ending} {content}\n'.encode())
  return digest.hexdigest()[:10]
