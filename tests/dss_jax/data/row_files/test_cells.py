"""Tests of the text of a value, and of what is missing."""

import decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dss_jax.data import row_files


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (None, ''), (float('nan'), ''), (np.float32('nan'), ''),
    (decimal.Decimal('NaN'), ''), ('nan', ''), (' NaN ', ''), ('NaT', ''),
    ('<NA>', ''), ('', ''), (' a b ', 'a b'),
    # A word that only has it inside, or that another case makes another word.
    ('nan bread', 'nan bread'), ('Nan', 'Nan'), ('None', 'None'),
    (float(2**53 - 1), '9007199254740991'),
    (float(1 - 2**53), '-9007199254740991'),
    (float(2**53), '9007199254740992.0'),
    (2, '2'), (2.0, '2'), (-0.0, '0'), (0.5, '0.5'), (1e300, '1e+300'),
    (10**30, str(10**30)), (np.int64(7), '7'), (decimal.Decimal('2.00'), '2'),
    (decimal.Decimal('0.50'), '0.50'), ('2.0', '2.0'),
    (True, 'true'), (False, 'false'), ('True', 'True'),
  ],
)  # fmt: skip
def test_a_value_has_one_text_in_all_forms(value, text):
  assert row_files.text(value) == text


@pytest.mark.parametrize(
  'value', [{'a': 1}, ['a'], b'a', float('inf'), decimal.Decimal('-Infinity')]
)
def test_what_has_no_text_is_refused(value):
  with pytest.raises(row_files.ValueProblem):
    row_files.text(value)


@given(st.integers(-(2**52), 2**52))
def test_a_whole_number_is_the_same_as_an_integer_and_as_a_float(number):
  assert row_files.text(float(number)) == row_files.text(number) == str(number)


@pytest.mark.parametrize(
  ('one', 'other', 'same'),
  [
    ('1', '1.0', True), ('1', '+1', True), ('10', '1e1', True),
    ('0', '-0.0', True), ('0.5', '.50', True), ('true', 'TRUE', True),
    ('1', 'true', False), ('1', '2', False), ('Yes', 'yes', False),
    ('1_0', '10', False), ('1', '\u0661', False), ('1', '1x', False),
    # Sixty digits are compared whole.
    ('1' * 60, '1' * 59 + '2', False),
    ('1' * 62 + '.0', '1' * 62, True), ('1' * 63 + '.0', '1' * 63, False),
  ],
)  # fmt: skip
def test_labels_are_the_same_class_by_one_rule(one, other, same):
  assert (row_files.label_key(one) == row_files.label_key(other)) == same
