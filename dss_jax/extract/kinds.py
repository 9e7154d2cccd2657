"""Kinds of rationales of one teacher, each asked for by a prompt of its own.

runs/teachers/mine/custom/rows/train.jsonl  the first kind, and beside it
                                            others: "rationale.program"
runs/teachers/mine/custom/kinds/program/    the extraction of such a one
runs/teachers/mine_program/cqa/             of published rows, whose layout
                                            has one kind a teacher
"""

import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from dss_jax import errors
from dss_jax.data import columns, teacher_outputs
from dss_jax.extract import rows as rows_lib
from dss_jax.pipeline import kinds as kinds_lib
from t5x import files

_FOLDER = 'kinds'
_ROWS = 'rows'
# What the kind is called that was asked for without a name.
FIRST = columns.rationale(1)


def check(kind: str, prompt: str | None) -> None:
  """Raises a DataError unless a kind can be called and asked for so.

  Args:
    kind: its name; '' for the first.
    prompt: the file with its prompt.
  """
  if kind and not prompt:
    raise errors.DataError(
      f'--kind {kind}: expected --prompt with a file that asks for such'
      ' rationales, found none; the packaged ones ask for a chain of thought.'
    )
  if kind == FIRST:
    raise errors.DataError(
      f'--kind {kind}: expected another name, since this is the kind that is'
      ' asked for without --kind.'
    )
  if kind:
    kinds_lib.given((kind,))


def teacher(rows: rows_lib.Rows, name: str, kind: str) -> str:
  """Returns what a teacher is called in the outputs of a kind.

  Args:
    rows: what is asked about.
    name: of the teacher.
    kind: '' for the first.
  """
  return f'{name}_{kind}' if kind and rows.published else name


def folder(rows: rows_lib.Rows, name: str, kind: str) -> pathlib.Path:
  """Returns the folder of the extraction of a kind.

  Args:
    rows: what is asked about.
    name: of the teacher.
    kind: '' for the first.

  Raises:
    DataError: it is not the first, of own rows, and the first is not there.
  """
  called = teacher(rows, name, kind)
  found = pathlib.Path(teacher_outputs.folder(called, rows.data_set))
  if not kind or rows.published:
    return found
  if not (found / _ROWS).is_dir():
    raise errors.DataError(
      f'--kind {kind}: expected the first kind of the teacher {name!r} in'
      f' {found / _ROWS}, beside which this one is written, found none. Extract'
      ' it without --kind before.'
    )
  return found / _FOLDER / kind


def join(base: pathlib.Path) -> list[str]:
  """Writes all kinds of own rows beside the first.

  Args:
    base: the folder of the extraction of the first.

  Returns:
    The names of the kinds.

  Raises:
    DataError: one of them is of other rows.
  """
  kinds = sorted(
    path.name for path in (base / _FOLDER).glob('*') if (path / _ROWS).is_dir()
  )
  for path in sorted((base / _ROWS).glob('*.jsonl')) if kinds else ():
    with files.replacing(path) as work, work.open('w', encoding='utf-8') as f:
      for row in _joined(base, path, kinds):
        f.write(json.dumps(row, ensure_ascii=False) + '\n')
  return kinds


def _joined(
  base: pathlib.Path, path: pathlib.Path, kinds: list[str]
) -> Iterator[dict[str, Any]]:
  """Yields the rows of a file with the rationales of all kinds."""
  others = [base / _FOLDER / kind / _ROWS / path.name for kind in kinds]
  for number, (row, *found) in enumerate(
    itertools.zip_longest(*map(_rows, (path, *others))), 1
  ):
    for kind, place, other in zip(kinds, others, found, strict=True):
      if _key(other) != _key(row):
        raise errors.DataError(
          f'{place}, line {number}: expected the row of {path}, line {number},'
          f' found another one: {_key(other)!r:.80} there, {_key(row)!r:.80}'
          f' here. Ask for the kind {kind!r} again, with --fresh, about the'
          ' same rows.'
        )
      row[columns.in_files(kind)] = other['rationale']
    yield row


def _rows(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  if path.exists():
    with path.open(encoding='utf-8') as f:
      yield from map(json.loads, f)


def _key(row: Mapping[str, Any] | None) -> tuple[Any, Any] | None:
  return None if row is None else (row['id'], row['input'])
