"""What predictions are scored with. All values are percentages.

Each function takes texts and returns numbers by name, as SeqIO's `metric_fns`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from dss_jax import equations

_RESAMPLES = 2000
_SEED = 0


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


def _accuracy(hits: Sequence[bool]) -> Mapping[str, float]:
  correct, total = sum(hits), len(hits)
  low, high = bootstrap_interval(correct, total)
  return {
    'accuracy': 100.0 * correct / max(total, 1),
    'accuracy_low': 100.0 * low,
    'accuracy_high': 100.0 * high,
  }


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
