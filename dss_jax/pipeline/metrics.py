"""Metrics of predictions, as percentages.

Each function takes texts and returns numbers by name, as SeqIO's `metric_fns`.
"""

import collections
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dss_jax.data import equations

# The normal distribution has 95% within so many standard deviations.
_DEVIATIONS = statistics.NormalDist().inv_cdf(0.975)
# Stands for a prediction that is none of the classes.
_NO_CLASS = 'no_class'

Metric = Callable[[Sequence[str], Sequence[str]], Mapping[str, float]]


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
  """Returns a 95% interval of the fraction that is correct, by Wilson's score.

  It holds the fractions that differ from the one found by at most 1.96 of
  *their own* standard deviations. So it says something where all answers are
  right, or none is:

  >>> [round(end, 3) for end in wilson_interval(75, 100)]
  [0.657, 0.825]
  >>> [round(end, 3) for end in wilson_interval(200, 200)]
  [0.981, 1.0]

  Args:
    correct: number of correct answers.
    total: number of all answers.

  Returns:
    Both ends, in [0, 1]; without answers, all of it.
  """
  if not total:
    return 0.0, 1.0
  part, unit = correct / total, _DEVIATIONS**2 / total
  middle = part + unit / 2
  half = math.sqrt(unit * (part * (1 - part) + unit / 4))
  low, high = (middle - half) / (1 + unit), (middle + half) / (1 + unit)
  # Rounding must not leave the fraction itself outside.
  return max(min(low, part), 0.0), min(max(high, part), 1.0)


def _with_interval(name: str, correct: int, total: int) -> dict[str, float]:
  low, high = wilson_interval(correct, total)
  return {
    name: 100.0 * correct / max(total, 1),
    f'{name}_low': 100.0 * low,
    f'{name}_high': 100.0 * high,
  }


def _accuracy(hits: Sequence[bool]) -> dict[str, float]:
  return _with_interval('accuracy', sum(hits), len(hits))


def label_accuracy(
  targets: Sequence[str], predictions: Sequence[str]
) -> Mapping[str, float]:
  """Returns how often the predicted label is the gold label.

  Args:
    targets: gold labels.
    predictions: the model's outputs, in the same order.

  Returns:
    `accuracy`, and its 95% interval as `accuracy_low` and `accuracy_high`.
  """
  pairs = zip(targets, predictions, strict=True)
  return _accuracy([gold.strip() == text.strip() for gold, text in pairs])


def equation_accuracy(
  targets: Sequence[str], predictions: Sequence[str]
) -> Mapping[str, float]:
  """Returns how often the predicted equation has the gold equation's value.

  Arguments and result are those of `label_accuracy`.
  """
  pairs = zip(targets, predictions, strict=True)
  return _accuracy([equations.same_value(text, gold) for gold, text in pairs])


def class_accuracy(classes: Sequence[str]) -> Metric:
  """Returns a metric that also scores each class.

  >>> found = class_accuracy(('yes', 'no'))(['yes', 'no'], ['yes', 'maybe'])
  >>> found['accuracy_of_no'], found['confusion_no_as_no_class']
  (0.0, 1)

  Args:
    classes: the possible labels.

  Returns:
    A function of targets and predictions. Besides what `label_accuracy`
    returns, it has, for each class, `accuracy_of_<class>` (the fraction of its
    rows that are predicted right; 0 without rows) with its interval
    (`accuracy_of_<class>_low`, `…_high`), and the numbers of rows
    `confusion_<class>_as_<prediction>`, where a prediction is a class or
    `no_class`.
  """

  def metric(
    targets: Sequence[str], predictions: Sequence[str]
  ) -> Mapping[str, float]:
    result = dict(label_accuracy(targets, predictions))
    pairs = [
      (gold.strip(), text.strip() if text.strip() in classes else _NO_CLASS)
      for gold, text in zip(targets, predictions, strict=True)
    ]
    counts = collections.Counter(pairs)
    answers = (*classes, _NO_CLASS)
    for gold in classes:
      total = sum(counts[gold, answer] for answer in answers)
      right = counts[gold, gold]
      result |= _with_interval(f'accuracy_of_{gold}', right, total)
      for answer in answers:
        result[f'confusion_{gold}_as_{answer}'] = counts[gold, answer]
    return result

  return metric


def for_labels(by_value: bool, classes: Sequence[str] | None = None) -> Metric:
  """Returns the metric that scores labels.

  Args:
    by_value: whether they are equations.
    classes: the possible labels, if they are few.
  """
  if by_value:
    return equation_accuracy
  return class_accuracy(classes) if classes else label_accuracy


def rationale_overlap(
  targets: Sequence[str], predictions: Sequence[str]
) -> Mapping[str, float]:
  """Returns the overlap of generated rationales with the teacher's.

  Args:
    targets: the teacher's rationales.
    predictions: generated ones, in the same order.

  Returns:
    `bleu`, sacreBLEU of the corpus with its default tokenizer, and `rouge_l`,
    the mean ROUGE-L F-measure of rouge-score without stemming.
  """
  # Imported here, since both are slow to import and rarely needed.
  import sacrebleu
  from rouge_score import rouge_scorer

  if not targets:
    return {'bleu': 0.0, 'rouge_l': 0.0}
  scorer = rouge_scorer.RougeScorer(['rougeL'])
  overlaps = [
    scorer.score(reference, text)['rougeL'].fmeasure
    for reference, text in zip(targets, predictions, strict=True)
  ]
  bleu = sacrebleu.corpus_bleu(list(predictions), [list(targets)])
  return {'bleu': bleu.score, 'rouge_l': 100.0 * float(np.mean(overlaps))}
