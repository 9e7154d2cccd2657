"""Rows of the user's own: JSON lines, CSV or Parquet, local or remote.

    {"input": "...", "label": "...", "rationale": "...", "id": "7"}

`input` is needed; `label`, `rationale` and `teacher_label` where the method
uses them; `id` is made up where there is none. `rationale` may be a list, of
which one is drawn in each epoch. Numbers count as their text.
"""

import csv
import dataclasses
import hashlib
import io
import json
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from dss_jax import errors
from dss_jax.data import equations, records

COLUMNS = ('input', 'label', 'rationale', 'teacher_label', 'id')
ENDINGS = ('.jsonl', '.json', '.csv', '.tsv', '.parquet')
# Between the rationales of one row, where they are stored as one text.
SEPARATOR = '\x1e'


@dataclasses.dataclass(frozen=True)
class OwnData:
  """Where the rows are, and how to read them.

  Attributes:
    train: path of the file with the train rows, local or `gs://`.
    validation: path of another file, or the part of the train file's inputs to
      set apart, in (0, 1).
    test: likewise.
    columns: maps names in `COLUMNS` to the file's; a name that is not in it is
      the file's too. `rationale` may be mapped to several columns.
    by_value: whether labels are equations, scored by their value.
    classes: the labels that are possible; with them, each class is scored too.
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
      DataError: one has a value that it cannot have.
    """
    parts = 0.0
    for name in ('validation', 'test'):
      value = getattr(self, name)
      if isinstance(value, str) and value:
        continue
      real = isinstance(value, numbers.Real) and not isinstance(value, bool)
      if not real or not 0.0 < value < 1.0:
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
    return {
      split: value
      for split, value in (
        ('train', self.train),
        ('validation', self.validation),
        ('test', self.test),
      )
      if isinstance(value, str)
    }


def _pairs(columns: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
  """Returns the mapping of columns as pairs, checked."""
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


@dataclasses.dataclass(frozen=True)
class _Read:
  place: str
  record: records.Record


def _bytes(path: epath.Path) -> bytes:
  try:
    data = path.read_bytes()
  except OSError as error:
    near = (
      [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    )
    raise errors.DataError(
      f'{path}: expected a file with rows, found none that can be read'
      f' ({type(error).__name__}).{errors.did_you_mean(path.name, near)}'
      ' Correct the path.'
    ) from error
  if not data.strip():
    raise errors.DataError(
      f'{path}: expected rows, found an empty file. Write a row a line.'
    )
  return data


def _text(path: epath.Path) -> str:
  data = _bytes(path)
  try:
    return data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    line = data.count(b'\n', 0, error.start) + 1
    raise errors.DataError(
      f'{path}, line {line}: expected UTF-8, found the byte'
      f' {data[error.start]:#04x}. Save the file as UTF-8.'
    ) from error


def _json_lines(path: epath.Path) -> Iterator[tuple[str, dict[str, Any]]]:
  for number, line in enumerate(_text(path).split('\n'), 1):
    place = f'{path}, line {number}'
    if not line.strip():
      continue
    try:
      row = json.loads(line)
      # A lone surrogate (`\ud800`) is valid JSON, but no text.
      json.dumps(row, ensure_ascii=False).encode('utf-8')
    except (ValueError, RecursionError) as error:
      raise errors.DataError(
        f'{place}: expected JSON, found {str(error)[:80]}. Correct the line.'
      ) from error
    if not isinstance(row, dict):
      raise errors.DataError(
        f'{place}: expected a JSON object, found {json.dumps(row)[:60]}.'
        ' Write one object a line.'
      )
    yield place, row


def _separated(
  path: epath.Path, delimiter: str
) -> Iterator[tuple[str, dict[str, Any]]]:
  reader = csv.DictReader(
    io.StringIO(_text(path), newline=''), delimiter=delimiter, strict=True
  )
  try:
    for row in reader:
      place = f'{path}, line {reader.line_num}'
      if None in row or None in row.values():
        found = sum(v is not None for k, v in row.items() if k is not None)
        found += len(row.get(None, ()))
        raise errors.DataError(
          f'{place}: expected {len(reader.fieldnames)} columns as in the first'
          f' line, found {found}. Quote fields that hold a {delimiter!r}.'
        )
      yield place, row
  except csv.Error as error:
    raise errors.DataError(
      f'{path}, line {reader.line_num}: expected CSV, found: {error}. Correct'
      ' the line.'
    ) from error


def _parquet(path: epath.Path) -> Iterator[tuple[str, dict[str, Any]]]:
  # Imported here, since few need it. TFDS brings it along.
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
    raise errors.DataError(
      f'{where}: expected rows, found none. Write at least one.'
    )
  return rows


def _value(place: str, name: str, value: Any) -> str:
  number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if value is None:
    return ''
  if number:
    value = str(value)
  if not isinstance(value, str) or SEPARATOR in value:
    found = repr(value)[:60]
    raise errors.DataError(
      f'{place}: expected {name!r} to be a text, found {found}. Correct it.'
    )
  return value.strip()


def _rationales(place: str, name: str, value: Any) -> list[str]:
  values = value if isinstance(value, list) else [value]
  texts = (_value(place, name, text) for text in values)
  return [text for text in texts if text]


def _read_file(own: OwnData, path: str) -> list[_Read]:
  """Reads one file; the index of a record is its place in it."""
  mapped = {name: (name,) for name in COLUMNS} | dict(own.columns)
  rows = _rows(path)
  known = dict.fromkeys(key for _, row in rows for key in row)
  asked = {'input': mapped['input']} | dict(own.columns)
  for name, wanted in asked.items():
    for column in wanted:
      if column not in known:
        raise errors.DataError(
          f'{rows[0][0]}: expected the column {column!r} ({name}), found only'
          f' {", ".join(known)}.{errors.did_you_mean(column, known)} Add it,'
          ' or say with COLUMNS what it is called.'
        )
  result = []
  for index, (place, row) in enumerate(rows):
    texts = {
      name: _value(place, mapped[name][0], row.get(mapped[name][0]))
      for name in COLUMNS
      if name != 'rationale'
    }
    rationales = [
      text
      for column in mapped['rationale']
      for text in _rationales(place, column, row.get(column))
    ]
    _check(own, place, mapped, texts)
    texts['id'] = texts['id'] or f'{epath.Path(path).stem}-{index}'
    record = records.Record(
      index=index, rationale=SEPARATOR.join(rationales), **texts
    )
    result.append(_Read(place, record))
  return result


def _check(
  own: OwnData,
  place: str,
  mapped: Mapping[str, tuple[str, ...]],
  texts: Mapping[str, str],
) -> None:
  """Raises a DataError unless a row can be used."""
  if not texts['input']:
    raise errors.DataError(
      f'{place}: expected a text in {mapped["input"][0]!r}, found none. Write'
      ' one or remove the row.'
    )
  label, column = texts['label'], mapped['label'][0]
  if own.classes and label and label not in own.classes:
    raise errors.DataError(
      f'{place}: expected {column!r} to be one of {", ".join(own.classes)},'
      f' found {label!r}.{errors.did_you_mean(label, own.classes)} Correct the'
      ' label or CLASSES.'
    )
  if own.by_value and label and equations.evaluate(label) is None:
    raise errors.DataError(
      f'{place}: expected {column!r} to be an equation with a value, such as'
      f" '( 3.0 + 9.0 )', found {label!r}. Correct the label."
    )


def _set_apart(own: OwnData, rows: list[_Read]) -> dict[str, list[_Read]]:
  """Divides the train file's rows; equal inputs stay together."""
  inputs = list(dict.fromkeys(row.record.input for row in rows))
  order = np.random.default_rng(own.seed).permutation(len(inputs))
  belongs, begin = {}, 0
  for split in ('validation', 'test'):
    part = getattr(own, split)
    if not isinstance(part, str):
      end = begin + math.ceil(part * len(inputs))
      belongs.update((inputs[i], split) for i in order[begin:end])
      begin = end
  result = {'train': []}
  for row in rows:
    split = belongs.get(row.record.input, 'train')
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
    own: where they are.
    needs: columns that at least one train row must fill.

  Returns:
    Records, reports and places by split. A record's rationale holds all that
    the row has, with `SEPARATOR` between them.

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
      column = dict(own.columns).get(name, (name,))
      raise errors.DataError(
        f'{own.train}: expected rows with a {" or ".join(column)}, found none'
        f' among {len(splits["train"])}. Add the column {column[0]!r}, or'
        ' choose a METHOD and LABELS that need none.'
      )
  rows = {
    split: tuple(
      dataclasses.replace(row.record, index=index)
      for index, row in enumerate(kept)
    )
    for split, kept in splits.items()
  }
  return records.Release(
    splits=rows,
    reports={s: _report(own, kept) for s, kept in rows.items()},
    places={s: tuple(r.place for r in kept) for s, kept in splits.items()},
  )


def read_one(path: str, columns: Any = None) -> tuple[records.Record, ...]:
  """Reads one file, of which no row is set apart.

  Args:
    path: the file, local or `gs://`.
    columns: as in `OwnData`.

  Raises:
    DataError: the file is missing or malformed.
  """
  own = OwnData(train=path, columns=columns)
  return tuple(row.record for row in _read_file(own, own.train))


def _report(own: OwnData, rows: tuple[records.Record, ...]) -> records.Report:
  said = [row.teacher_label for row in rows if row.teacher_label]
  outside = 0
  if own.classes:
    outside = sum(label not in own.classes for label in said)
  elif own.by_value:
    outside = sum(equations.evaluate(label) is None for label in said)
  return records.report_on(rows, own.by_value, outside)


def state(own: OwnData) -> tuple[Any, ...]:
  """Returns what tells cheaply that a file of `fingerprint` changed."""
  result = []
  for path in map(epath.Path, own.paths().values()):
    where = path.expanduser()
    try:
      found = where.stat()
    except OSError:
      _bytes(where)  # Says what is wrong.
      raise
    result.append((str(where), found.length, float(found.mtime)))
  return tuple(result)


def fingerprint(own: OwnData) -> str:
  """Returns 10 hexadecimal digits that stand for rows and options.

  Args:
    own: whose files; where they lie makes no difference.

  Raises:
    DataError: a file is missing.
  """
  digest = hashlib.sha256()
  fractions = [
    None if isinstance(part, str) else part
    for part in (own.validation, own.test)
  ]
  options = (own.columns, own.by_value, own.classes, own.seed, fractions)
  digest.update(repr(options).encode())
  for split, path in own.paths().items():
    data = _bytes(epath.Path(path).expanduser())
    ending = epath.Path(path).suffix.lower()
    content = hashlib.sha256(data).hexdigest()
    digest.update(f'{split}{ending} {content}\n'.encode())
  return digest.hexdigest()[:10]
