"""The text of a value, and whether it is missing.

One rule for all forms of files:

| value                                          | its text                |
|------------------------------------------------|-------------------------|
| null, NaN, an empty field                      | '' : missing            |
| the text nan, NaN, NaT or <NA>                 | '' : missing            |
| a text                                         | itself, without the     |
|                                                | blanks around it        |
| a whole number, also as 2.0                    | its digits: 2           |
| another number                                 | its shortest form: 0.5  |
| true, false                                    | true, false             |

The four words are what pandas and NumPy write for a missing value where all is
text, as in CSV. A text "2.0" stays as it is: it may be meant so.
"""

import decimal
import math
import numbers
import re
from typing import Any

MISSING_WORDS = ('nan', 'NaN', 'NaT', '<NA>')
_NUMBER = re.compile(r'[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?')
# Beyond it, a float's digits are not those that were written.
_EXACT = 2**53


class ValueProblem(Exception):
  """A value that has no text; the message says what it is, not where."""


def text(value: Any) -> str:
  """Returns the text of a value, '' if it is missing.

  >>> [text(value) for value in (' a ', 2, 2.0, 0.5, True, None, 'NaN')]
  ['a', '2', '2', '0.5', 'true', '', '']

  Args:
    value: from a row.

  Raises:
    ValueProblem: it is no text, number or truth value, or infinite.
  """
  if isinstance(value, str):
    stripped = value.strip()
    return '' if stripped in MISSING_WORDS else stripped
  if value is None:
    return ''
  if isinstance(value, bool):
    return 'true' if value else 'false'
  if isinstance(value, decimal.Decimal):
    return '' if value.is_nan() else _of_decimal(value)
  if isinstance(value, numbers.Integral):
    return str(int(value))
  if isinstance(value, numbers.Real):
    return _of_float(float(value))
  raise ValueProblem(f'{value!r:.60}')


def _of_decimal(value: decimal.Decimal) -> str:
  if not value.is_finite():
    raise ValueProblem(str(value))
  if value == value.to_integral_value():
    return str(int(value))
  return str(value)


def _of_float(value: float) -> str:
  if math.isnan(value):
    return ''
  if math.isinf(value):
    raise ValueProblem(str(value))
  if value.is_integer() and abs(value) < _EXACT:
    return str(int(value))
  return str(value)


def label_key(label: str) -> str:
  """Returns what labels that are the same class have in common.

  Numbers of one value are the same, and so are true and false in any case; all
  other labels are the same if their texts are.

  >>> [label_key(label) for label in ('1', '1.0', '0.50', 'True', 'Yes')]
  ['1', '1', '0.5', 'true', 'Yes']

  Args:
    label: its text.
  """
  if label.lower() in ('true', 'false'):
    return label.lower()
  if not _NUMBER.fullmatch(label) or len(label) > 64:
    return label
  value = decimal.Decimal(label).normalize(decimal.Context(prec=70))
  return '0' if not value else f'{value:f}'
