"""Learning rates follow the formulas of their factors."""

import math

import numpy as np
import pytest

from t5x import errors
from t5x.optimizers import schedules


def _values(steps, **options):
  schedule = schedules.create_learning_rate_scheduler(**options)
  return [float(schedule(step)) for step in steps]


def test_warmup_then_constant():
  values = _values(
    [0, 5, 10, 20],
    factors='constant * linear_warmup',
    base_learning_rate=1.0,
    warmup_steps=10,
  )
  np.testing.assert_allclose(values, [1e-8, 0.5, 1.0, 1.0])


def test_rsqrt_decay_is_flat_during_warmup_and_falls_after():
  values = _values(
    [0, 100, 400],
    factors='constant * rsqrt_decay',
    base_learning_rate=2.0,
    warmup_steps=100,
  )
  np.testing.assert_allclose(values, [0.2, 0.2, 0.1])


def test_normalized_rsqrt_decay_starts_at_the_base_rate():
  values = _values(
    [0, 100, 400],
    factors='constant * rsqrt_normalized_decay',
    base_learning_rate=2.0,
    warmup_steps=100,
  )
  np.testing.assert_allclose(values, [2.0, 2.0, 1.0])


def test_decay_every_falls_in_stairs():
  values = _values(
    [0, 9, 10, 25],
    factors='constant * decay_every',
    base_learning_rate=1.0,
    decay_factor=0.1,
    steps_per_decay=10,
  )
  np.testing.assert_allclose(values, [1.0, 1.0, 0.1, 0.01], rtol=1e-6)


def test_cosine_decay_starts_again_each_cycle():
  values = _values(
    [0, 10, 15, 20, 25, 30],
    factors='constant * cosine_decay',
    base_learning_rate=1.0,
    warmup_steps=10,
    steps_per_cycle=20,
  )
  quarter = 0.5 * (1 + math.cos(math.pi / 4))
  np.testing.assert_allclose(
    values,
    [1.0, 1.0, quarter, 0.5, 0.5 * (1 + math.cos(0.75 * math.pi)), 1.0],
    rtol=1e-5,
  )


def test_linear_decay_rises_then_falls():
  values = _values(
    [0, 5, 10, 15, 20],
    factors='linear_decay',
    base_learning_rate=2.0,
    warmup_steps=10,
    decay_factor=0.1,
  )
  np.testing.assert_allclose(values, [1e-8, 1.0, 2.0, 1.0, 1e-8], atol=1e-6)


def test_step_offset_shifts_the_schedule():
  values = _values(
    [100, 105],
    factors='constant * linear_warmup',
    base_learning_rate=1.0,
    warmup_steps=10,
    step_offset=100,
  )
  np.testing.assert_allclose(values, [1e-8, 0.5])


def test_steps_before_the_offset_count_as_the_first():
  for factors in ('constant * decay_every', 'constant * cosine_decay'):
    values = _values(
      [0, 95, 100],
      factors=factors,
      base_learning_rate=1.0,
      warmup_steps=0,
      steps_per_decay=10,
      step_offset=100,
    )
    np.testing.assert_array_equal(values, [1.0, 1.0, 1.0])


def test_a_warmup_of_no_steps_is_over_at_once():
  options = {'base_learning_rate': 2.0, 'warmup_steps': 0}
  values = _values([0, 5], factors='constant * linear_warmup', **options)
  np.testing.assert_array_equal(values, [2.0, 2.0])
  values = _values([0, 1, 4], factors='constant * rsqrt_decay', **options)
  np.testing.assert_allclose(values, [2.0, 2.0, 1.0])
  values = _values([0, 4], factors='linear_decay', decay_factor=0.1, **options)
  np.testing.assert_allclose(values, [2.0, 1.2], rtol=1e-6)
  # One of a step is not.
  values = _values([0, 1], factors='constant * linear_warmup', warmup_steps=1)
  np.testing.assert_allclose(values, [1e-8, 0.5])


def test_the_defaults_are_t5xs():
  values = _values([0, 500, 1000, 4000])
  np.testing.assert_allclose(
    values, [1e-8, 0.25 / 1000**0.5, 0.5 / 1000**0.5, 0.25 / 1000**0.5]
  )
  values = _values([19_999, 20_000], factors='decay_every')
  np.testing.assert_array_equal(values, [1.0, 0.5])
  values = _values([26_000, 101_000], factors='cosine_decay')
  np.testing.assert_allclose(values, [0.5 + 0.5**1.5, 1.0], rtol=1e-6)


def test_a_rate_is_never_below_the_smallest():
  options = {'factors': 'constant * rsqrt_decay', 'warmup_steps': 1}
  values = _values(
    [1, 100], base_learning_rate=1.0, min_learning_rate=0.25, **options
  )
  np.testing.assert_array_equal(values, [1.0, 0.25])


def test_an_unknown_factor_is_named_with_the_closest_one():
  with pytest.raises(errors.UserError, match="Did you mean 'rsqrt_decay'"):
    schedules.create_learning_rate_scheduler('constant * rsqrt_deca')
