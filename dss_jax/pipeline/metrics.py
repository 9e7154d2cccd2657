"""What predictions are scored with. All values are percentages.

Each function takes texts and returns numbers by name, as SeqIO's `metric_fns`.
"""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from dss_jax.data import equations

_RESAMPLES = 2000
_SEED = 0
# How counts call a prediction that is none of the classes.
_NO_CLASS = 'no_class'


def bootstrap_interval(correct: int, total: int) -> tuple[float, float]:
  """Returns a 95% interval of the part that is correct.

  It is the percentile bootstrap: what resampling the `total` zeros and ones
  with replacement gives for their mean, which is a binomial draw.

  >>> bootstrap_interval(75, 100)
  (0.66, 0.84)

  Args:
    correct: how many are.
    total: of how many.

  Returns:
    The 2.5th and 97.5th percentile of 2000 resamples, in [0, 1]; seeded.
  """
  if not total:
    return 0.0, 0.0
  rng = np.random.default_rng(_SEED)
  means = rng.binomial(total, correct / total, size=_RESAMPLES) / total
  low, high = np.percentile(means, (2.5, 97.5))
  return float(low), float(high)


def _with_interval(name: str, correct: int, total: int) -> dict[str, float]:
  low, high = bootstrap_interval(correct, total)
  return {
    name: 100.0 * correct / max(total, 1),
    f'{name}_low': 100.0 * low,
    f'{name}_high': 100.0 * high,
  }


def _accuracy(hits: Sequence[bool]) -> Mapping[str, float]:
  return _with_interval('accuracy', sum(hits), len(hits))


def label_accuracy(
  targets: Sequence[str], predictions: Sequence[str]
) -> Mapping[str, float]:
  """Returns how often the predicted label is the gold label.

  Args:
    targets: gold labels.
    predictions: what the model wrote, in the same order.

  Returns:
    `accuracy`, and its 95% interval as `accuracy_low` and `accuracy_high`.
  """
  pairs = zip(targets, predictions, strict=True)
  return _accuracy([gold.strip() == said.strip() for gold, said in pairs])


def equation_accuracy(
  targets: Sequence[str], predictions: Sequence[str]
) -> Mapping[str, float]:
  """Returns how often the predicted equation has the gold equation's value.

  Args:
    targets: gold equations.
    predictions: what the model wrote, in the same order.

  Returns:
    As `label_accuracy`.
  """
  pairs = zip(targets, predictions, strict=True)
  return _accuracy([equations.same_value(said, gold) for gold, said in pairs])


def class_accuracy(classes: Sequence[str]):
  """Returns a metric that also tells the classes apart.

  >>> found = class_accuracy(('yes', 'no'))(['yes', 'no'], ['yes', 'maybe'])
  >>> found['accuracy_of_no'], found['confusion_no_as_no_class']
  (0.0, 1)

  Args:
    classes: the labels that are possible.

  Returns:
    A function of targets and predictions. Beside what `label_accuracy` returns
    it has, for each class, `accuracy_of_<class>` (the part of its rows that are
    predicted right; 0 where there are none) with its interval
    (`accuracy_of_<class>_low`, `…_high`), and the numbers of rows
    `confusion_<class>_as_<prediction>`, a prediction being a class or
    `no_class`.
  """

  def metric(
    targets: Sequence[str], predictions: Sequence[str]
  ) -> Mapping[str, float]:
    result = dict(label_accuracy(targets, predictions))
    pairs = [
      (gold.strip(), said.strip() if said.strip() in classes else _NO_CLASS)
      for gold, said in zip(targets, predictions, strict=True)
    ]
    counts = collections.Counter(pairs)
    for gold in classes:
      total = sum(counts[gold, said] for said in (*classes, _NO_CLASS))
      right = counts[gold, gold]
      result |= _with_interval(f'accuracy_of_{gold}', right, total)
      for said in (*classes, _NO_CLASS):
        result[f'confusion_{gold}_as_{said}'] = counts[gold, said]
    return result

  return metric


def for_labels(by_value: bool, classes: Sequence[str] | None = None):
  """Returns the metric that scores labels.

  Args:
    by_value: whether they are equations.
    classes: the labels that are possible, where they are few.
  """
  if by_value:
    return equation_accuracy
  return class_accuracy(classes) if classes else label_accuracy


def rationale_overlap(
  targets: Sequence[str], predictions: Sequence[str]
) -> Mapping[str, float]:
  """Returns how much generated rationales share with the teacher's.

  Args:
    targets: the teacher's rationales.
    predictions: generated ones, in the same order.

  Returns:
    `bleu`, sacreBLEU of the corpus with its default tokeniser, and `rouge_l`,
    the mean ROUGE-L F-measure of rouge-score without stemming.
  """
  # Imported here, since both are slow to import and seldom needed.
  import sacrebleu
  from rouge_score import rouge_scorer

  if not targets:
    return {'bleu': 0.0, 'rouge_l': 0.0}
  scorer = rouge_scorer.RougeScorer(['rougeL'])
  overlaps = [
    scorer.score(reference, said)['rougeL'].fmeasure
    for reference, said in zip(targets, predictions, strict=True)
  ]
  bleu = sacrebleu.corpus_bleu(list(predictions), [list(targets)])
  return {'bleu': bleu.score, 'rouge_l': 100.0 * float(np.mean(overlaps))}
