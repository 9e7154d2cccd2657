"""Tests of what predictions are scored with."""

import doctest

import pytest
import sacrebleu
from scipy import stats

from dss_jax.pipeline.scoring import intervals, metrics
from tests import small_vocabularies


@pytest.mark.parametrize('module', [metrics, intervals])
def test_the_examples_in_the_docstrings_hold(module):
  result = doctest.testmod(module)
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
  [(0, 1), (1, 1), (0, 200), (200, 200), (1, 3), (150, 200), (779, 1221)]
  # Rounding leaves [0, 1] in some of these.
  + [(n, total) for total in range(2, 30) for n in (0, total)],
)
def test_the_interval_is_wilsons(correct, total):
  found = stats.binomtest(correct, total).proportion_ci(method='wilson')
  low, high = intervals.wilson(correct, total)
  assert (low, high) == pytest.approx((found.low, found.high), abs=1e-12)
  assert 0 <= low <= correct / total <= high <= 1 and low < high


def test_nothing_is_known_without_answers():
  assert intervals.wilson(0, 0) == (0.0, 1.0)
  empty = metrics.label_accuracy([], [])
  assert empty['accuracy_low'] == 0.0 and empty['accuracy_high'] == 100.0


def test_rationale_overlap_is_full_for_the_same_and_none_for_other_words():
  texts = ['the cat sat on the mat today', 'a dog ran over the long bridge']
  same = metrics.rationale_overlap(texts, texts)
  assert same == pytest.approx({'bleu': 100.0, 'rouge_l': 100.0})
  other = metrics.rationale_overlap(texts, ['x y z', 'x y z'])
  assert other['rouge_l'] == 0.0
  assert other['bleu'] < 5.0


def test_bleu_counts_characters_where_most_are_of_unspaced_scripts():
  for targets, predictions, tokenize in (
    (['the cat sat on the mat today'], ['the cat sat on a mat today'], None),
    (['水在海里流动很快而且很冷'], ['水在海里流动很慢而且很冷'], 'char'),
    # Half of the letters are none; then one more; then both kinds of rows.
    (['水在海里 is the way home'], ['水在海里 is a way home'], None),
    (['水在海里流动 abcde x'], ['水在海里流冷 abcde x'], None),
    (['水在海里流动冷 abcde x'], ['水在海里流动慢 abcde x'], 'char'),
    (['水在海里流动很', 'on it'], ['水在海里流动冷', 'on it'], 'char'),
  ):
    found = metrics.rationale_overlap(targets, predictions)['bleu']
    expected = sacrebleu.corpus_bleu(predictions, [targets], tokenize=tokenize)
    assert found == expected.score, targets
    other = 'char' if tokenize is None else None
    other = sacrebleu.corpus_bleu(predictions, [targets], tokenize=other)
    assert found != other.score


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
  assert metrics.for_labels(False)([], [])['accuracy'] == 0.0
  assert metrics.class_accuracy(('a', 'b'))([], [])['macro_f1'] == 0.0
  assert metrics.rationale_overlap([], []) == {'bleu': 0.0, 'rouge_l': 0.0}


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


def test_an_empty_prediction_is_never_right():
  for metric in (metrics.label_accuracy, metrics.equation_accuracy):
    assert metric(['', ' ', 'a'], ['', '', ' '])['accuracy'] == 0.0


def test_an_equation_without_a_value_is_right_where_it_is_the_label():
  found = metrics.equation_accuracy(['1,000', '1,000'], ['1,000', '1000'])
  assert found['accuracy'] == 50.0


def test_precision_recall_and_f1_of_classes():
  metric = metrics.class_accuracy(('a', 'b', 'c', 'never'))
  found = metric(
    ['a', 'a', 'a', 'a', 'b', 'b', 'c', 'c'],
    ['a', 'a', 'a', 'b', 'b', 'a', 'a', 'nothing of it'],
  )
  # a: 3 of 5 said, 3 of 4 there. b: 1 of 2, 1 of 2. c: never said.
  assert found['precision_of_a'] == pytest.approx(60.0)
  assert found['recall_of_a'] == found['accuracy_of_a'] == 75.0
  assert found['f1_of_a'] == pytest.approx(100 * 2 * 0.6 * 0.75 / 1.35)
  assert found['precision_of_b'] == found['f1_of_b'] == 50.0
  for name in ('precision', 'recall', 'f1'):
    assert found[f'{name}_of_c'] == found[f'{name}_of_never'] == 0.0
  support = [found[f'support_of_{name}'] for name in ('a', 'b', 'c', 'never')]
  assert support == [4, 2, 2, 0]
  # As scikit-learn's f1_score: what is neither gold nor said does not count.
  assert found['macro_f1'] == pytest.approx((200 / 3 + 50 + 0) / 3)
  assert metric(['a'], ['a'])['precision_of_a'] == 100.0
  assert metric(['a'], ['a'])['macro_f1'] == 100.0
  # What is gold but never said counts, as what is said but never gold.
  assert metric(['a', 'b'], ['a', 'a'])['macro_f1'] == pytest.approx(100 / 3)
  assert metric(['a', 'a'], ['a', 'b'])['macro_f1'] == pytest.approx(100 / 3)


def test_a_class_may_be_called_no_class():
  metric = metrics.class_accuracy(('no_class', 'a'))
  found = metric(['no_class', 'a'], ['no_class', 'another'])
  assert found['confusion_no_class_as_no_class'] == 1
  assert found['confusion_a_as_no_class'] == 0
  assert found['confusion_a_as_no_class_'] == 1


def test_few_labels_are_scored_by_class_and_many_are_not():
  metric = metrics.for_labels(False)
  few = ['pond', 'cave'] * 5
  found = metric(few, ['pond'] * 10)
  assert found['recall_of_pond'] == 100.0
  assert found['confusion_cave_as_pond'] == 5
  many = [f'place {i}' for i in range(10)]
  assert set(metric(many, many)) == set(metrics.label_accuracy(many, many))
  assert set(metric(['a'] * 9, ['a'] * 9)) == set(
    metrics.label_accuracy(['a'], ['a'])
  )


@pytest.mark.parametrize(
  ('labels', 'rows', 'by_class'),
  [(2, 9, False), (2, 10, True), (3, 14, False), (3, 99, True),
   (10, 50, True), (10, 49, False), (11, 110, False)],
)  # fmt: skip
def test_at_most_ten_labels_of_five_rows_are_classes(labels, rows, by_class):
  targets = [f'{n % labels}' for n in range(rows)]
  found = metrics.for_labels(False)(targets, targets)
  assert ('recall_of_0' in found) == by_class


def test_sentences_have_thirty_characters_or_more():
  for length in (29, 30):
    targets = ['x' * length, 'x', 'y' * 80]
    found = metrics.for_labels(False)(targets, targets)
    assert ('rouge_l' in found) == (length == 30)
  assert 'rouge_l' not in metrics.for_labels(True)(['x' * 40], ['x' * 40])


def test_sentences_have_their_overlap_scored_as_well():
  metric = metrics.for_labels(False)
  labels = [f'The number {i} is a very small number to me.' for i in range(8)]
  found = metric(labels, labels)
  assert found['accuracy'] == found['rouge_l'] == 100.0
  assert found['bleu'] == pytest.approx(100.0)
  near = [label.replace('very', 'rather') for label in labels]
  found = metric(labels, near)
  assert found['accuracy'] == 0.0
  assert 50.0 < found['bleu'] < 100.0
  assert found['rouge_l'] == pytest.approx(90.0)
  assert 'bleu' not in metrics.for_labels(False, labels)(labels, labels)


def test_overlap_is_of_what_a_student_can_write():
  vocabulary = small_vocabularies.made()
  label = 'It is {9} and the pond <7> is more than that for all of us'
  metric = metrics.for_labels(False, None, vocabulary)
  spelled = vocabulary.decode(vocabulary.encode(label))
  assert spelled != label
  for said in (label, spelled):
    found = metric([label], [said])
    assert found['bleu'] == pytest.approx(100.0), said
    assert found['rouge_l'] == pytest.approx(100.0), said
  # Of a wrong answer the words count that it has.
  found = metric([label], ['the pond'])
  assert 0.0 < found['rouge_l'] < 50.0


@pytest.mark.parametrize(
  'text',
  [
    'Кошка спит на тёплой печке',
    '猫は暖かいストーブの上で寝ている',
    '水在海里流动很快',
  ],
)
def test_the_same_text_of_any_script_is_full_overlap(text):
  found = metrics.rationale_overlap([text], [text])
  assert found == pytest.approx({'bleu': 100.0, 'rouge_l': 100.0})
  half = metrics.rationale_overlap([text], [text[: len(text) // 2]])
  assert 0.0 < half['rouge_l'] < 100.0


def test_words_are_those_of_rouge_score_in_english():
  from rouge_score import rouge_scorer

  pairs = [
    ("It's a well-known fact, isn't it?", 'It is a well known_fact'),
    ('3.5 times 2 is 7', 'seven is 3.5 * 2'),
  ]
  theirs = rouge_scorer.RougeScorer(['rougeL'])
  for one, other in pairs:
    expected = 100 * theirs.score(one, other)['rougeL'].fmeasure
    found = metrics.rationale_overlap([one], [other])['rouge_l']
    assert found == pytest.approx(expected)
