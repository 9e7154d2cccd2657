"""The value of an arithmetic equation such as `( 10.0 * 45.0 )`.

Labels of arithmetic sets are equations and are scored by their value: `12`,
`12.0` and `( 3 + 9 )` are the same answer. The text comes from models, so it
is read by a small parser with bounds on length, depth and size of numbers;
nothing is ever executed.
"""

import fractions
import re

MAX_LENGTH = 1000
MAX_DEPTH = 64
MAX_EXPONENT = 64
# Numerators and denominators have at most this many bits.
MAX_BITS = 4096

_TOKEN = re.compile(
  r'\s*(?:(\d+(?:\.\d*)?|\.\d+)|(\*\*|[-+*/()]|and\b))', re.ASCII
)


class _Wrong(Exception):
  """The text is no equation with a value."""


def _tokens(text: str) -> list[str]:
  tokens, place, end = [], 0, len(text.rstrip())
  while place < end:
    match = _TOKEN.match(text, place)
    if match is None:
      raise _Wrong
    tokens.append(match.group(1) or match.group(2))
    place = match.end()
  return tokens


def _bounded(value: fractions.Fraction) -> fractions.Fraction:
  if max(value.numerator.bit_length(), value.denominator.bit_length()) > (
    MAX_BITS
  ):
    raise _Wrong
  return value


def _power(
  base: fractions.Fraction, exponent: fractions.Fraction
) -> fractions.Fraction:
  if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT:
    raise _Wrong
  return base ** int(exponent)


class _Parser:
  """Recursive descent: all, sum, term, signed, base, loosest binding first."""

  def __init__(self, tokens: list[str]):
    self._tokens = tokens
    self._next = 0
    self._depth = 0

  def value(self) -> fractions.Fraction:
    """Returns the value of all tokens."""
    result = self._all()
    if self._next != len(self._tokens):
      raise _Wrong
    return result

  def _peek(self) -> str:
    more = self._next < len(self._tokens)
    return self._tokens[self._next] if more else ''

  def _take(self) -> str:
    token = self._peek()
    self._next += 1
    return token

  def _all(self) -> fractions.Fraction:
    result = self._sum()
    while self._peek() == 'and':
      self._take()
      other = self._sum()
      result = other if result else result
    return result

  def _sum(self) -> fractions.Fraction:
    result = self._term()
    while self._peek() in ('+', '-'):
      plus = self._take() == '+'
      term = self._term()
      result = _bounded(result + term if plus else result - term)
    return result

  def _term(self) -> fractions.Fraction:
    result = self._signed()
    while self._peek() in ('*', '/'):
      times = self._take() == '*'
      factor = self._signed()
      result = _bounded(result * factor if times else result / factor)
    return result

  def _signed(self) -> fractions.Fraction:
    minus = False
    while self._peek() in ('+', '-'):
      minus ^= self._take() == '-'
    # As in Python, a power binds closer than a sign before it.
    result = self._base()
    if self._peek() == '**':
      self._take()
      self._down()
      result = _bounded(_power(result, self._signed()))
      self._depth -= 1
    return -result if minus else result

  def _base(self) -> fractions.Fraction:
    token = self._take()
    if token == '(':
      self._down()
      result = self._all()
      self._depth -= 1
      if self._take() != ')':
        raise _Wrong
      return result
    if not token or not (token[0].isdigit() or token[0] == '.'):
      raise _Wrong
    return _bounded(fractions.Fraction(token))

  def _down(self) -> None:
    self._depth += 1
    if self._depth > MAX_DEPTH:
      raise _Wrong


def evaluate(text: str) -> fractions.Fraction | None:
  """Returns the exact value of an equation, or None where it has none.

  Numbers, `+ - * / **`, signs and parentheses are read with their usual
  binding. Teachers write `(2 + 3) and (9 - 4)` now and then: as the published
  scorer has it, the last part counts, or the first that is zero.

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
  except (_Wrong, ZeroDivisionError):
    return None


def same_value(one: str, other: str) -> bool:
  """Says whether two equations have a value, and it is the same.

  >>> same_value('12', '( 3 + 9.0 )')
  True

  Args:
    one: an equation.
    other: another.
  """
  value = evaluate(one)
  return value is not None and value == evaluate(other)
