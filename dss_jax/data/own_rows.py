"""Rows of the user's own: JSON, CSV or Parquet, local or remote.

    {"input": "...", "label": "...", "rationale": "...", "id": "7"}

`input` is required; so are `label`, `rationale` and `teacher_label` if the
method uses them; a missing `id` is made up. `rationale` may be a list, of which
one is drawn in each epoch. It may have several kinds, `{"thought": "...",
"program": "..."}`, or each kind a column of its own, `rationale.program`. What
the text of a value is, and when it is missing, is one rule for all forms of
files (`row_files.cells`).
"""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from dss_jax import errors
from dss_jax.data import (
  archive,
  equations,
  own_options,
  own_tables,
  records,
  row_files,
)
from dss_jax.data import columns as columns_lib

OwnData = own_options.OwnData
COLUMNS = own_options.COLUMNS
SEPARATOR = own_tables.SEPARATOR
_SPLITS = ('train', 'validation', 'test')
# Part of the names of prepared data: increased when the same files give other
# rows than before.
_READING = 2


def is_own(location: str) -> bool:
  """Returns whether a location is that of own rows, not of published ones.

  Args:
    location: a file by its ending; a glob, or a folder of such files that is
      not in the published layout.
  """
  if row_files.has_ending(location):
    return not os.path.isdir(location) or _is_own_folder(location)
  return row_files.holds_files(location) and _is_own_folder(location)


def _is_own_folder(location: str) -> bool:
  for name in records.DATA_SETS:
    try:
      with archive.open_files(location, name):
        return False
    except errors.DataError:
      continue
  return True


def _set_apart(
  own: OwnData, rows: Sequence[records.Record]
) -> dict[str, list[int]]:
  """Divides the train rows' indices; equal inputs stay together."""
  inputs = list(dict.fromkeys(row.input for row in rows))
  order = np.random.default_rng(own.seed).permutation(len(inputs))
  split_of: dict[str, str] = {}
  begin = 0
  for split in ('validation', 'test'):
    part = getattr(own, split)
    if not isinstance(part, str):
      end = begin + math.ceil(part * len(inputs))
      split_of.update((inputs[i], split) for i in order[begin:end])
      begin = end
  result: dict[str, list[int]] = {'train': []}
  for index, row in enumerate(rows):
    split = split_of.get(row.input, 'train')
    result.setdefault(split, []).append(index)
  if not result['train']:
    raise errors.DataError(
      f'{own.train}: expected more rows, found {len(inputs)} different inputs,'
      ' all of which are set apart for validation and test. Add rows, or give'
      ' VALIDATION and TEST files.'
    )
  return result


def _check_apart(own: OwnData) -> None:
  """Raises a DataError if the rows to train on are named as another split."""
  paths = own.paths()
  train = row_files.find(paths['train'])
  for split in ('validation', 'test'):
    if split in paths:
      found = row_files.find(paths[split])
      if _same(train, found):
        raise errors.DataError(
          f'{split.upper()} is {paths[split]}: expected other rows than those'
          f' of DATA, found the same: {own.train}. A score on them would say'
          ' nothing. Give another file, or a fraction such as 0.1.'
        )


def _same(
  one: Sequence[row_files.File], other: Sequence[row_files.File]
) -> bool:
  """Returns whether files have the same content."""

  def sizes(files):
    return [int(file.path.stat().length) for file in files]

  if [file.path for file in one] == [file.path for file in other]:
    return True
  return sizes(one) == sizes(other) and [*map(row_files.digest, one)] == [
    *map(row_files.digest, other)
  ]


def _check_needs(
  own: OwnData,
  tables: Mapping[str, own_tables.Table],
  rows: Mapping[str, Sequence[records.Record]],
  needs: tuple[str, ...],
  graded: tuple[str, ...],
) -> None:
  """Raises a DataError if a split lacks what its use needs."""
  filled = {split: _filled(found) for split, found in rows.items()}
  for split, found in rows.items():
    if split == 'train':
      lacking = [name for name in needs if name not in filled[split]]
    else:
      lacking = list(graded[:1]) * filled[split].isdisjoint(graded)
    if not needs or not lacking:
      continue
    there = split if split in tables else 'train'
    columns = tables[there].columns.names
    reading = own.of_split(there)
    column = reading.file_columns(lacking[0])
    near = errors.did_you_mean(column[0], columns)
    if (
      lacking[0].startswith('rationale')
      and own.kinds
      and column[0] not in (columns)
    ):
      column = (*column, *reading.plain_rationale)
    fix = f'give {split.upper()} rows that have one'
    if lacking[0] == 'label' and 'teacher_label' in filled[split]:
      given = reading.file_columns('teacher_label')[0]
      fix = f"train on {given!r}, the teacher's: LABELS = 'teacher'"
    elif split == 'train':
      fix = 'choose a METHOD and LABELS that need none'
    raise errors.DataError(
      f'{reading.train}: expected {split} rows with a {" or ".join(column)},'
      f' found none among {len(found)}; the columns are'
      f' {", ".join(list(columns)[:20])}.{near} Add the column'
      f' {column[0]!r}, say with COLUMNS what it is called, or {fix}.'
    )


def _filled(rows: Sequence[records.Record]) -> frozenset[str]:
  """Returns the columns that at least one row fills."""
  return frozenset(
    name
    for name in (*COLUMNS, *_further(rows))
    if any(row.column(name) for row in rows)
  )


def _further(rows: Sequence[records.Record]) -> list[str]:
  """Returns the columns of further kinds of rationales."""
  count = len(rows[0].more)
  return [columns_lib.rationale(number) for number in range(2, 2 + count)]


def read(
  own: OwnData,
  needs: tuple[str, ...] = (),
  stream: IO[str] | None = None,
  graded: tuple[str, ...] = ('label',),
) -> records.Release:
  """Reads the user's rows.

  Args:
    own: their files.
    needs: columns that at least one train row must fill; none are checked if
      there are none.
    stream: where to say how far it is; None for standard error.
    graded: columns of which each other split must fill one, likewise.

  Returns:
    Records, reports and places by split. A record's rationale holds all those
    of its row, with `SEPARATOR` between them.

  Raises:
    DataError: a file is missing or malformed. The message names file and line,
      what was expected, what was found, and the fix.
  """
  _check_apart(own)
  before = state(own)
  tables = {
    split: own_tables.read(
      own.of_split(split),
      path,
      stream,
      ('input', 'label') if split != 'train' else COLUMNS,
    )
    for split, path in own.paths().items()
  }
  indices = _set_apart(own, tables['train'].rows)
  rows, where = {}, {}
  for split in _SPLITS:
    if split in indices:
      table = tables['train']
      rows[split] = _numbered(table.rows, indices[split])
      where[split] = table.places.take(indices[split])
    else:
      rows[split] = tuple(tables[split].rows)
      where[split] = tables[split].places
  _check_needs(own, tables, rows, needs, graded)
  _FILLED[own, before] = {
    split: _filled(found) for split, found in rows.items()
  }
  reports = {split: _report(own, found) for split, found in rows.items()}
  return records.Release(rows, reports, where)


def _numbered(
  rows: Sequence[records.Record], indices: Sequence[int]
) -> tuple[records.Record, ...]:
  """Returns some of the rows, numbered again."""
  return tuple(
    records.Record(
      index, rows[i].id, rows[i].input, rows[i].label, rows[i].rationale,
      rows[i].teacher_label, rows[i].more,
    )
    for index, i in enumerate(indices)
  )  # fmt: skip


# What was found to be right, so that a run reads many rows no more than needed.
_CHECKED: set[tuple[Any, ...]] = set()


# Columns that some row fills, by split.
_FILLED: dict[tuple[Any, ...], dict[str, frozenset[str]]] = {}


def check(
  own: OwnData,
  needs: tuple[str, ...] = (),
  graded: tuple[str, ...] = ('label',),
) -> None:
  """Reads the user's rows if they were not read since they changed.

  Args:
    own: this and the others are as in `read`.
    needs: likewise.
    graded: likewise.

  Raises:
    DataError: likewise.
  """
  key = (own, needs, graded, state(own))
  if key not in _CHECKED:
    read(own, needs, graded=graded)
    _CHECKED.add(key)


def filled(own: OwnData) -> Mapping[str, frozenset[str]]:
  """Returns the columns that some row of a split fills, by split.

  Those in `COLUMNS`, and 'rationale2', … of further kinds.

  Args:
    own: as in `read`; it is read if it was not since it changed.

  Raises:
    DataError: likewise.
  """
  key = (own, state(own))
  if key not in _FILLED:
    read(own)
  return _FILLED[key]


def read_one(
  path: str,
  columns: Any = None,
  kinds: tuple[str, ...] = (),
  rationales: bool = True,
) -> tuple[records.Record, ...]:
  """Reads the rows of one location, without setting any apart.

  Args:
    path: a file, folder or glob, as in `OwnData`.
    columns: as in `OwnData`.
    kinds: as in `OwnData`.
    rationales: whether to read them; else they are blank.

  Raises:
    DataError: a file is missing or malformed.
  """
  own = OwnData(train=path, columns=columns, kinds=kinds)
  names = [n for n in COLUMNS if rationales or n != 'rationale']
  return tuple(own_tables.read(own, own.train, names=names).rows)


def _report(own: OwnData, rows: tuple[records.Record, ...]) -> records.Report:
  labels = (row.teacher_label for row in rows if row.teacher_label)
  outside = 0
  if own.classes:
    classes = frozenset(own.classes)
    outside = sum(label not in classes for label in labels)
  elif own.by_value:
    outside = sum(equations.evaluate(label) is None for label in labels)
  return records.report_on(rows, own.by_value, outside)


def _files(own: OwnData) -> Iterator[tuple[str, row_files.File]]:
  """Yields (split, file) of all files."""
  for split, location in own.paths().items():
    for file in row_files.find(location):
      yield split, file


def state(own: OwnData) -> tuple[Any, ...]:
  """Returns sizes and times of the files, a cheap key for `fingerprint`.

  Args:
    own: whose files.

  Raises:
    DataError: a file is missing.
  """
  result = []
  for split, file in _files(own):
    stat = file.path.stat()
    result.append((split, file.place, int(stat.length), float(stat.mtime)))
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
  options = [own.columns, own.by_value, own.classes, own.seed, fractions]
  if own.test_columns is not None:
    options.append(own.test_columns)
  if own.kinds:
    options.append(('kinds', own.kinds))
  digest.update(repr((_READING, *options)).encode())
  for split, file in _files(own):
    packed = '.gz' * file.packed
    content = row_files.digest(file)
    digest.update(f'{split}{file.ending}{packed} {content}\n'.encode())
  return digest.hexdigest()[:10]
