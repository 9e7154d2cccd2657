"""Tests of drawing splits."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dss_jax import errors
from dss_jax.data import splits

SIZES = st.integers(4, 400)
FRACTIONS = st.floats(0.6, 1.0)
SEEDS = st.integers(0, 2**32)


def test_the_examples_in_the_docstrings_hold():
  result = doctest.testmod(splits)
  assert result.attempted and not result.failed


@given(SIZES, FRACTIONS, SEEDS)
def test_splits_are_disjoint_and_of_the_stated_sizes(n, fraction, seed):
  train, validation = splits.train_validation(n, fraction=fraction, seed=seed)
  both = np.concatenate([train, validation])
  drawn = n - (math.ceil((1.0 - fraction) * n) if fraction < 1.0 else 0)
  assert len(both) == drawn
  assert len(validation) == math.ceil(0.1 * drawn)
  assert len(set(both.tolist())) == drawn
  assert set(both.tolist()) <= set(range(n))


@given(SIZES, SEEDS, SEEDS)
def test_without_a_fraction_splits_are_complete_and_ignore_the_seed(n, a, b):
  train, validation = splits.train_validation(n, seed=a)
  assert sorted([*train, *validation]) == list(range(n))
  for one, other in zip(
    (train, validation), splits.train_validation(n, seed=b), strict=True
  ):
    np.testing.assert_array_equal(one, other)


@given(st.integers(50, 400), FRACTIONS, SEEDS)
def test_the_seed_decides(n, fraction, seed):
  fraction = min(fraction, 0.9)
  draw = splits.train_validation(n, fraction=fraction, seed=seed)
  again = splits.train_validation(n, fraction=fraction, seed=seed)
  other = splits.train_validation(n, fraction=fraction, seed=seed + 1)
  np.testing.assert_array_equal(draw[0], again[0])
  assert draw[0].tolist() != other[0].tolist()


def test_validation_is_the_first_tenth_of_the_permutation():
  order = np.random.default_rng(0).permutation(9741)
  train, validation = splits.train_validation(9741)
  np.testing.assert_array_equal(validation, order[:975])
  np.testing.assert_array_equal(train, order[975:])


def test_a_fraction_is_drawn_before_validation():
  order = np.random.default_rng(7).permutation(800)
  kept = order[math.ceil((1.0 - 0.3) * 800) :]
  inner = np.random.default_rng(0).permutation(len(kept))
  train, validation = splits.train_validation(800, fraction=0.3, seed=7)
  np.testing.assert_array_equal(validation, kept[inner[:24]])
  np.testing.assert_array_equal(train, kept[inner[24:]])


def test_a_released_validation_split_leaves_train_whole():
  train, validation = splits.train_validation(20, validation=False)
  assert train.tolist() == list(range(20))
  assert validation.tolist() == []


@given(st.integers(2, 200), SEEDS)
def test_swapping_gives_every_row_another(n, seed):
  order = splits.swapped(n, seed)
  assert sorted(order.tolist()) == list(range(n))
  assert not np.any(order == np.arange(n))


@pytest.mark.parametrize('fraction', [0, -0.5, 1.5, float('nan'), '0.5', True])
def test_a_fraction_out_of_range_is_refused(fraction):
  with pytest.raises(errors.DataError, match=r'FRACTION is .* above 0 and at'):
    splits.check_fraction(fraction)


def test_too_small_a_fraction_says_that_no_row_is_left():
  with pytest.raises(errors.DataError, match=r'FRACTION 0\.01 of 24 .* none'):
    splits.train_validation(24, fraction=0.01)
