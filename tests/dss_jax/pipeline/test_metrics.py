"""Tests of what predictions are scored with."""

import doctest

import pytest
from scipy import stats

from dss_jax.pipeline import metrics


def test_the_examples_in_the_docstrings_hold():
  result = doctest.testmod(metrics)
  assert result.attempted and not result.failed


def test_label_accuracy_ignores_blanks_around_labels_only():
  result = metrics.label_accuracy(
    ['pond', 'tea pot', 'cave', 'barn'], [' pond ', 'teapot', 'Cave', 'barn']
  )
  assert result['accuracy'] == 50.0
  assert result['accuracy_low'] < 50.0 < result['accuracy_high']


def test_equation_accuracy_compares_values():
  result = metrics.equation_accuracy(
    ['( 3.0 + 9.0 )', '( 2.0 * 2.0 )', '( 1.0 / 3.0 )', '( 1.0 + 1.0 )'],
    ['12', '(2 + 2)', '0.33', 'two'],
  )
  assert result['accuracy'] == 50.0


@pytest.mark.parametrize(
  ('correct', 'total'),
  [(0, 1), (1, 1), (0, 200), (200, 200), (1, 3), (150, 200), (779, 1221)],
)
def test_the_interval_is_wilsons(correct, total):
  found = stats.binomtest(correct, total).proportion_ci(method='wilson')
  low, high = metrics.wilson_interval(correct, total)
  assert (low, high) == pytest.approx((found.low, found.high), abs=1e-12)
  assert 0 <= low <= correct / total <= high <= 1 and low < high


def test_nothing_is_known_without_answers():
  assert metrics.wilson_interval(0, 0) == (0.0, 1.0)
  empty = metrics.label_accuracy([], [])
  assert empty['accuracy_low'] == 0.0 and empty['accuracy_high'] == 100.0


def test_rationale_overlap_is_full_for_the_same_and_none_for_other_words():
  texts = ['the cat sat on the mat today', 'a dog ran over the long bridge']
  same = metrics.rationale_overlap(texts, texts)
  assert same == pytest.approx({'bleu': 100.0, 'rouge_l': 100.0})
  other = metrics.rationale_overlap(texts, ['x y z', 'x y z'])
  assert other['rouge_l'] == 0.0
  assert other['bleu'] < 5.0


def test_rouge_l_is_the_longest_common_subsequence():
  # Common: "the cat mat", 3 of 4 reference and 3 of 6 predicted words.
  result = metrics.rationale_overlap(
    ['the cat the mat'], ['on the cat is a mat']
  )
  assert result['rouge_l'] == pytest.approx(100 * 2 * 0.75 * 0.5 / 1.25)


@pytest.mark.parametrize(
  'metric',
  [
    metrics.label_accuracy,
    metrics.equation_accuracy,
    metrics.class_accuracy(('1', '2')),
    metrics.rationale_overlap,
  ],
)
@pytest.mark.parametrize(
  ('targets', 'predictions'), [(['1', '2'], ['1']), (['1'], ['1', '2'])]
)
def test_rows_without_a_partner_are_an_error(metric, targets, predictions):
  with pytest.raises(ValueError, match='argument 2 is'):
    metric(targets, predictions)


def test_no_rows_give_zero_and_no_error():
  assert metrics.label_accuracy([], [])['accuracy'] == 0.0
  assert metrics.rationale_overlap([], [])['bleu'] == 0.0


def test_classes_are_told_apart():
  metric = metrics.class_accuracy(('yes', 'no'))
  found = metric(['yes', 'yes', 'no'], ['yes', 'no ', 'perhaps'])
  assert found['accuracy'] == pytest.approx(100 / 3)
  assert found['accuracy_of_yes'] == 50.0
  assert found['accuracy_of_no'] == 0.0
  assert found['confusion_yes_as_no'] == 1
  assert found['confusion_no_as_no_class'] == 1
  assert found['confusion_no_as_yes'] == 0
  assert found['accuracy_of_yes_low'] == pytest.approx(9.4531, abs=1e-4)
  assert found['accuracy_of_yes_high'] == pytest.approx(90.5469, abs=1e-4)
  assert found['accuracy_of_no_high'] == pytest.approx(79.3451, abs=1e-4)
