"""Names of a row's columns, those of several kinds of rationales among them.

A row has one rationale, or one of each kind: `rationale`, `rationale2`, …, in
the order of the kinds. Files call them `rationale.<kind>`; what they call
`rationale` alone is the kind of this name.
"""

import re
from collections.abc import Iterable

NAMES = ('id', 'input', 'label', 'rationale', 'teacher_label')
_RATIONALE = 'rationale'
_OF_KIND = f'{_RATIONALE}.'


def rationale(number: int) -> str:
  """Returns the column that holds a kind of rationales.

  >>> rationale(1), rationale(2)
  ('rationale', 'rationale2')

  Args:
    number: of the kind, from 1.
  """
  return _RATIONALE if number == 1 else f'{_RATIONALE}{number}'


def number_of(name: str) -> int | None:
  """Returns which kind of rationales a column holds; None for another column.

  Args:
    name: of the column.
  """
  found = re.fullmatch(rf'{_RATIONALE}([2-9]|[1-9]\d+)?', name)
  return int(found[1] or 1) if found else None


def rationales(names: Iterable[str]) -> list[str]:
  """Returns those of some columns that hold rationales, by their number.

  Args:
    names: of a row's columns.
  """
  found = {name: number_of(name) for name in names}
  numbered = {name: n for name, n in found.items() if n is not None}
  return sorted(numbered, key=numbered.__getitem__)


def in_files(kind: str) -> str:
  """Returns what files call a kind of rationales.

  Args:
    kind: its name.
  """
  return kind if kind == _RATIONALE else f'{_OF_KIND}{kind}'


def kind_in_files(name: str) -> str | None:
  """Returns the kind that a file's column is called after; None for none.

  >>> kind_in_files('rationale.program')
  'program'

  Args:
    name: of the column.
  """
  if name == _RATIONALE:
    return name
  return name.removeprefix(_OF_KIND) if name.startswith(_OF_KIND) else None
