"""Tests of the values of equations."""

import doctest
import fractions
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dss_jax.data import equations

NUMBERS = st.integers(0, 99) | st.decimals(
  0, 99, places=2, allow_nan=False, allow_infinity=False
)


@st.composite
def expressions(draw, depth=3):
  """Draws an expression and its value, None for a division by zero."""
  if depth == 0 or draw(st.booleans()):
    number = draw(NUMBERS)
    return str(number), fractions.Fraction(str(number))
  left, a = draw(expressions(depth=depth - 1))
  right, b = draw(expressions(depth=depth - 1))
  sign = draw(st.sampled_from('+-*/'))
  text = f'( {left} {sign} {right} )'
  if a is None or b is None or (sign == '/' and b == 0):
    return text, None
  if sign == '/':
    return text, a / b
  return text, {'+': a + b, '-': a - b, '*': a * b}[sign]


def test_the_examples_in_the_docstrings_hold():
  result = doctest.testmod(equations)
  assert result.attempted and not result.failed


@given(expressions())
def test_the_value_is_the_exact_one(case):
  text, value = case
  assert equations.evaluate(text) == value


@given(st.text(alphabet='0123456789.+-*/() and,xe', max_size=40) | st.text())
def test_no_text_raises(text):
  equations.evaluate(text)


@pytest.mark.parametrize(
  ('text', 'value'),
  [
    ('12', 12), (' 12.0 ', 12), ('(3+9)', 12), ('.5 * 4', 2), ('7.', 7),
    ('+2', 2), ('3 - +2', 1),
    ('2 + 3 * 4', 14), ('2 - 3 - 4', -5), ('16 / 4 / 2', 2), ('-2 * --3', -6),
    ('-2 ** 2', -4), ('2 ** 3 ** 2', 512),
    ('2 ** -1', fractions.Fraction(1, 2)),
    ('1 / 3 * 3', 1), ('0.1 + 0.2', fractions.Fraction(3, 10)),
    ('(34 + 40) and (62 - 17)', 45), ('0 and 7', 0),
  ],
)  # fmt: skip
def test_an_equation_has_this_value(text, value):
  assert equations.evaluate(text) == value


@pytest.mark.parametrize(
  'text',
  [
    '', '( )', '(3', '3)', '3 +', '3 4', '11,210 / 84', '(175, 5)', '5 / 0',
    '0 ** -1', '2 * x', '7x', '1e5', '2 ** 0.5', '2 ** 65', '9 ** 64 ** 9',
    '__import__("os")', 'and', '3 and', '٣', '(' * 5000 + '1' + ')' * 5000,
    '1' * 1001, '+' * 1001 + '1', '(9 ** 64) ** 64', '2 ** -65', '(3 4', '(3 (',
    '3 * / 4',
  ],
)  # fmt: skip
def test_what_has_no_value_is_none(text):
  assert equations.evaluate(text) is None


def test_a_text_may_have_a_thousand_characters():
  assert equations.evaluate('1' * 1000) == int('1' * 1000)


def test_64_parentheses_are_read_and_65_are_not():
  assert equations.evaluate('(' * 64 + '1' + ')' * 64) == 1
  assert equations.evaluate('(' * 65 + '1' + ')' * 65) is None


def test_numbers_have_at_most_so_many_bits():
  most = '*'.join(['2**64'] * 63) + '*2**63'
  assert equations.evaluate(most) == 2 ** (equations.MAX_BITS - 1)
  assert equations.evaluate(f'{most}*2') is None
  assert equations.evaluate(f'1/({most})') is not None
  assert equations.evaluate(f'1/({most})/2') is None


@pytest.mark.parametrize(
  ('before', 'after'), [('(', ')'), ('1 ** ', ''), ('1 ** (', ')')]
)
def test_depth_counts_what_is_open_not_what_was(before, after):
  """A sum of many terms is no deeper than its deepest."""
  deep = sum(before.count(opener) for opener in ('(', '**'))
  most = equations.MAX_DEPTH // deep

  def nested(depth):
    return before * depth + '1' + after * depth

  assert equations.evaluate(nested(most)) is not None
  assert equations.evaluate(nested(most + 1)) is None
  # What was closed makes no room.
  assert equations.evaluate(f'{nested(1)}+{nested(most + 1)}') is None
  one = equations.evaluate(nested(1))
  terms = equations.MAX_DEPTH + 10
  assert equations.evaluate('+'.join([nested(1)] * terms)) == one * terms


@pytest.mark.parametrize(
  'text', ['(' * 999, '-' * 999 + '1', '9**' * 300 + '9', '1+' * 499 + '1']
)
def test_the_longest_text_takes_no_time(text):
  start = time.perf_counter()
  equations.evaluate(text)
  assert time.perf_counter() - start < 2


def test_equal_values_are_the_same_answer():
  assert equations.same_value('12', '12.0')
  assert equations.same_value('( 3 + 9 )', '(24 / 2)')
  assert not equations.same_value('12', '13')
  assert not equations.same_value('13', '12')
  assert not equations.same_value('12', 'x')
  # Two texts without a value are not the same answer.
  assert not equations.same_value('x', 'x')
