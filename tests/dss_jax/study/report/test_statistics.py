"""Means and paired differences, by hand and against a known truth."""

import dataclasses

import numpy as np
import pytest

from dss_jax.study.report import statistics


def test_a_mean_has_the_standard_error_of_its_seeds():
  # Deviations -3, 1, 2: variance (9 + 1 + 4) / 2 = 7, error √(7/3).
  found = statistics.mean([67.0, 71.0, 72.0])
  assert found.value == 70.0 and found.count == 3
  assert found.error == pytest.approx((7 / 3) ** 0.5)
  assert statistics.mean([70.0]) == statistics.Mean(70.0, None, 1)
  assert statistics.mean([70.0, 74.0]).error == pytest.approx(2.0)


def test_a_difference_is_the_mean_over_seeds_and_questions():
  first = np.array([[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 1, 1]], bool)
  other = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 1, 1]], bool)
  found = statistics.difference(first, other)
  # One question more is right for each seed.
  assert found.value == 25.0
  assert (found.seeds, found.questions) == (3, 4)
  assert found.low <= 25.0 <= found.high


def _by_hand(table):
  """The interval and p of a table of differences, another way."""
  seeds, questions = table.shape
  rng = np.random.default_rng(0)
  of_seeds = [row.mean() - table.mean() for row in table]
  drawn = rng.dirichlet([1.0] * seeds, 20_000) @ of_seeds
  # What weights leave of a mean's variance, and Student's t.
  drawn *= ((1 + seeds) / (seeds - 1)) ** 0.5
  drawn /= (rng.chisquare(seeds - 1, 20_000) / (seeds - 1)) ** 0.5
  # Of each question, how often the other method was right and the first not.
  sums, counts = np.unique(table.sum(0), return_counts=True)
  of_questions = sums / seeds - table.mean()
  square = np.sum(counts * of_questions**2) * seeds / (questions - 1)
  residual = table - table.mean(0) - table.mean(1)[:, None] + table.mean()
  noise = np.sum(residual**2) / (seeds - 1) / (questions - 1)
  of_questions *= (1 - noise / square) ** 0.5
  shares = counts / questions
  drawn += rng.multinomial(questions, shares, 20_000) @ of_questions / questions
  drawn += table.mean()
  low, high = np.percentile(drawn, [2.5, 97.5])
  beyond = min(np.sum(drawn <= 0), np.sum(drawn >= 0))
  return 100 * low, 100 * high, 2 * (1 + beyond) / 20_001


@pytest.mark.parametrize('seed', [1, 2, 3, 4])
def test_an_interval_and_p_are_those_of_the_replicates(seed):
  """Each digit is the formula's: else reports say another certainty."""
  rng = np.random.default_rng(seed)
  first = rng.random((5, 37)) < np.linspace(0.1, 0.8, 37)
  other = rng.random((5, 37)) < np.linspace(0.9, 0.2, 37) ** 2
  for sides in ((first, other), (other, first)):
    found = statistics.difference(*sides)
    low, high, p = _by_hand(sides[1].astype(int) - sides[0])
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.p == pytest.approx(p, rel=1e-9)
    assert -100 < low < 0 < high < 100 and p < 1


@pytest.mark.parametrize('questions', [1, 2])
def test_one_or_two_questions_have_an_interval(questions):
  """Else a study with a tiny test split ends without a report."""
  first = np.array([[0, 0], [0, 1], [0, 0]], bool)[:, :questions]
  other = np.array([[1, 0], [1, 0], [1, 0]], bool)[:, :questions]
  found = statistics.difference(first, other)
  if questions == 1:
    assert (found.low, found.value, found.high) == (100.0, 100.0, 100.0)
    assert found.p == pytest.approx(2 / 20_001)
  else:
    low, high, p = _by_hand(other.astype(int) - first)
    assert found.p == pytest.approx(p, rel=1e-9)
    assert found.low == pytest.approx(max(low, -100), rel=1e-9)
    assert found.high == pytest.approx(min(high, 100), rel=1e-9)


@pytest.mark.parametrize('seeds', [1, 2])
def test_fewer_than_three_seeds_have_no_interval_and_no_p(seeds):
  first = np.zeros((seeds, 50), bool)
  found = statistics.difference(first, ~first)
  assert found.value == 100.0
  assert (found.seeds, found.questions) == (seeds, 50)
  assert statistics.difference(first, np.arange(50) < 10).value == 20.0
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
  assert -100 <= found.low < found.value < found.high == 100
  assert statistics.difference(other, first).low == -100
  for one, name in ((found, 'p'), (statistics.mean([70.0]), 'error')):
    with pytest.raises(dataclasses.FrozenInstanceError):
      setattr(one, name, 0.0)


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
