"""Means and paired differences, by hand and against a known truth."""

import numpy as np
import pytest

from dss_jax.study.report import statistics


def test_a_mean_has_the_standard_error_of_its_seeds():
  # Deviations -3, 1, 2: variance (9 + 1 + 4) / 2 = 7, error √(7/3).
  found = statistics.mean([67.0, 71.0, 72.0])
  assert found.value == 70.0 and found.count == 3
  assert found.error == pytest.approx((7 / 3) ** 0.5)
  assert statistics.mean([70.0]) == statistics.Mean(70.0, None, 1)


def test_a_difference_is_the_mean_over_seeds_and_questions():
  first = np.array([[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 1, 1]], bool)
  other = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 1, 1]], bool)
  found = statistics.difference(first, other)
  # One question more is right for each seed.
  assert found.value == 25.0
  assert (found.seeds, found.questions) == (3, 4)
  assert found.low <= 25.0 <= found.high


@pytest.mark.parametrize('seeds', [1, 2])
def test_fewer_than_three_seeds_have_no_interval_and_no_p(seeds):
  first = np.zeros((seeds, 50), bool)
  found = statistics.difference(first, ~first)
  assert found.value == 100.0
  assert found.low is found.high is found.p is None


def test_the_same_answers_are_no_difference():
  first = np.random.default_rng(0).random((4, 50)) < 0.5
  found = statistics.difference(first, first)
  assert (found.low, found.value, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_what_questions_add_is_free_of_the_noise_between_seeds():
  table = np.array([[1.0, 1, 0, 1], [1, 0, 0, 0], [1, 1, -1, 1]])
  # The analysis of variance: 12 numbers, 3 seeds, 4 questions.
  whole = np.sum((table - table.mean()) ** 2)
  of_seeds = 4 * np.sum((table.mean(1) - table.mean()) ** 2)
  of_questions = 3 * np.sum((table.mean(0) - table.mean()) ** 2)
  noise = (whole - of_seeds - of_questions) / (2 * 3)
  variance = (of_questions / 3 - noise) / 3
  found = statistics._question_effects(table)
  assert np.sum(found**2) / 3 == pytest.approx(variance) and variance > 0
  assert np.sum(found) == pytest.approx(0)
  # More noise than that leaves nothing.
  assert not statistics._question_effects(np.eye(4)[:3]).any()


def test_a_difference_is_always_the_same_and_turns_with_the_sides():
  rng = np.random.default_rng(1)
  first, other = rng.random((4, 200)) < 0.5, rng.random((4, 200)) < 0.6
  found = statistics.difference(first, other)
  assert found == statistics.difference(first, other)
  back = statistics.difference(other, first)
  assert back.value == -found.value
  assert back.low == pytest.approx(-found.high, abs=1.0)
  assert back.p == pytest.approx(found.p, abs=0.02)


def test_an_interval_stays_among_possible_differences():
  first = np.zeros((3, 10), bool)
  other = np.array([[True] * 10, [True] * 10, [True] * 4 + [False] * 6])
  found = statistics.difference(first, other)
  assert -100 <= found.low < found.value < found.high <= 100


def test_p_is_below_a_level_where_the_interval_leaves_out_zero():
  rng = np.random.default_rng(2)
  decided = 0
  for shift in np.linspace(0, 0.2, 20):
    first = rng.random((4, 150)) < 0.5
    found = statistics.difference(first, rng.random((4, 150)) < 0.5 + shift)
    outside = found.low > 0 or found.high < 0
    decided += outside
    assert outside == (found.p < 0.05) or abs(found.p - 0.05) < 2e-3
  assert 3 < decided < 17


def _study(rng, seeds, questions, seed_spread, shift):
  """Two methods: questions are easy or hard, for each method a bit apart."""
  ability = rng.normal(0, 1.5, questions)
  apart = rng.normal(0, 0.7, (2, questions))
  luck = rng.normal(0, seed_spread, (2, seeds, 1))
  logits = ability + apart[:, None] + luck
  logits[1] += shift
  return rng.random(logits.shape) < 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize(
  ('seeds', 'seed_spread'), [(3, 0.0), (3, 0.3), (5, 0.1)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(
  seeds, seed_spread, monkeypatch
):
  monkeypatch.setattr(statistics, '_RESAMPLES', 1000)
  shift = 0.5
  truth = np.random.default_rng(5)
  many = _study(truth, 1, 400_000, 0.0, shift)
  if seed_spread:
    # Another seed for every question: the mean over seeds and questions.
    ability = truth.normal(0, 1.5, 400_000)
    sides = [
      ability
      + truth.normal(0, 0.7, ability.shape)
      + truth.normal(0, seed_spread, ability.shape)
      + part
      for part in (0.0, shift)
    ]
    many = [1 / (1 + np.exp(-side)) for side in sides]
  expected = 100 * (np.mean(many[1]) - np.mean(many[0]))
  rng = np.random.default_rng(6)
  found = [
    statistics.difference(*_study(rng, seeds, 150, seed_spread, shift))
    for _ in range(300)
  ]
  held = np.mean([one.low <= expected <= one.high for one in found])
  # 95%, with three standard deviations of 300 draws to each side.
  assert 0.912 <= held <= 0.988


@pytest.mark.parametrize(('seeds', 'seed_spread'), [(3, 0.3), (5, 0.0)])
def test_p_is_uniform_where_there_is_no_difference(
  seeds, seed_spread, monkeypatch
):
  monkeypatch.setattr(statistics, '_RESAMPLES', 1000)
  rng = np.random.default_rng(7)
  ps = np.array(
    [
      statistics.difference(*_study(rng, seeds, 150, seed_spread, 0.0)).p
      for _ in range(300)
    ]
  )
  for level in (0.05, 0.2, 0.5, 0.8):
    spread = (level * (1 - level) / len(ps)) ** 0.5
    assert np.mean(ps <= level) == pytest.approx(level, abs=3.5 * spread)


def test_holm_multiplies_by_the_comparisons_that_are_left():
  # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 (not below the one before), 0.9 x 1.
  found = statistics.holm([0.9, 0.01, 0.03, 0.02])
  assert found == pytest.approx([0.9, 0.04, 0.06, 0.06])
  assert statistics.holm([]) == []
  assert statistics.holm([0.8, 0.7]) == [1.0, 1.0]
