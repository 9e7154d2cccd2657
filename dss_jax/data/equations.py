"""Evaluator of arithmetic equations such as `( 10.0 * 45.0 )`.

Labels of arithmetic sets are equations, scored by their value: `12`, `12.0` and
`( 3 + 9 )` are the same answer. The text comes from models, so a small parser
with bounds on length, depth and size of numbers reads it; nothing is executed.
"""

import re
from fractions import Fraction

MAX_LENGTH = 1000
MAX_DEPTH = 64
MAX_EXPONENT = 64
# Numerators and denominators have at most this many bits.
MAX_BITS = 4096

_TOKEN = re.compile(
  r'\s*(?:(\d+(?:\.\d*)?|\.\d+)|(\*\*|[-+*/()]|and\b))', re.ASCII
)


class _NoValue(Exception):
  """The text is not an equation with a value."""


def _tokens(text: str) -> list[str]:
  tokens, place, end = [], 0, len(text.rstrip())
  while place < end:
    match = _TOKEN.match(text, place)
    if match is None:
      raise _NoValue
    tokens.append(match.group(1) or match.group(2))
    place = match.end()
  return tokens


def _bounded(value: Fraction) -> Fraction:
  larger = max(value.numerator.bit_length(), value.denominator.bit_length())
  if larger > MAX_BITS:
    raise _NoValue
  return value


class _Parser:
  """Recursive descent: all, sum, term, signed, base, loosest binding first."""

  def __init__(self, tokens: list[str]):
    self._tokens = tokens
    self._next = 0
    self._depth = 0

  def value(self) -> Fraction:
    """Returns the value of all tokens."""
    result = self._all()
    if self._next != len(self._tokens):
      raise _NoValue
    return result

  def _peek(self) -> str:
    more = self._next < len(self._tokens)
    return self._tokens[self._next] if more else ''

  def _take(self) -> str:
    token = self._peek()
    self._next += 1
    return token

  def _all(self) -> Fraction:
    result = self._sum()
    while self._peek() == 'and':
      self._take()
      other = self._sum()
      result = other if result else result
    return result

  def _sum(self) -> Fraction:
    result = self._term()
    while self._peek() in ('+', '-'):
      plus = self._take() == '+'
      term = self._term()
      result = _bounded(result + term if plus else result - term)
    return result

  def _term(self) -> Fraction:
    result = self._signed()
    while self._peek() in ('*', '/'):
      times = self._take() == '*'
      factor = self._signed()
      result = _bounded(result * factor if times else result / factor)
    return result

  def _signed(self) -> Fraction:
    minus = False
    while self._peek() in ('+', '-'):
      minus ^= self._take() == '-'
    # As in Python, a power binds closer than a sign before it.
    result = self._base()
    if self._peek() == '**':
      self._take()
      self._down()
      exponent = self._signed()
      if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT:
        raise _NoValue
      result = _bounded(result ** int(exponent))
      self._depth -= 1
    return -result if minus else result

  def _base(self) -> Fraction:
    token = self._take()
    if token == '(':
      self._down()
      result = self._all()
      self._depth -= 1
      if self._take() != ')':
        raise _NoValue
      return result
    if not token or not (token[0].isdigit() or token[0] == '.'):
      raise _NoValue
    return _bounded(Fraction(token))

  def _down(self) -> None:
    self._depth += 1
    if self._depth > MAX_DEPTH:
      raise _NoValue


def evaluate(text: str) -> Fraction | None:
  """Returns the exact value of an equation, or None where it has none.

  Numbers, `+ - * / **`, signs and parentheses have their usual precedence.
  Teachers sometimes write `(2 + 3) and (9 - 4)`: as in the published scorer,
  the last part counts, or the first that is zero.

  >>> evaluate('( 10.0 * 45.0 )')
  Fraction(450, 1)
  >>> evaluate('(1,000 + 1)') is None
  True

  Args:
    text: the equation.

  Returns:
    The value. None where `text` is no equation (a thousands comma, a word, an
    open parenthesis), divides by zero, or exceeds the bounds of this module.
  """
  if len(text) > MAX_LENGTH:
    return None
  try:
    return _Parser(_tokens(text)).value()
  except (_NoValue, ZeroDivisionError):
    return None


def same_value(one: str, other: str) -> bool:
  """Returns whether two equations have a value, and it is the same.

  >>> same_value('12', '( 3 + 9.0 )')
  True

  Args:
    one: an equation.
    other: another.
  """
  value = evaluate(one)
  return value is not None and value == evaluate(other)
