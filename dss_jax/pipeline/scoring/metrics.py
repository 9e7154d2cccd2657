"""Metrics of predictions, as percentages.

Each function takes texts and returns numbers by name, as SeqIO's `metric_fns`.
"""

import collections
import re
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import seqio

from dss_jax.data import equations
from dss_jax.pipeline.scoring import intervals, spelling

# Stands for a prediction that is none of the classes.
_NO_CLASS = 'no_class'
# Labels are classes if they are at most so many, with so many rows on average;
# and sentences if half of them have so many characters.
_FEW = 10
_ROWS_A_CLASS = 5
_SENTENCE = 30
# Scripts without blanks between words: Thai to Khmer, kana, Han.
_UNSPACED = (
  r'\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff'
  r'\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff'
)
_CHARACTER = re.compile(f'[{_UNSPACED}]')
_WORD = re.compile(rf'[{_UNSPACED}]|[^\W_{_UNSPACED}]+')

Metric = Callable[[Sequence[str], Sequence[str]], Mapping[str, float]]


def _with_interval(name: str, correct: int, total: int) -> dict[str, float]:
  low, high = intervals.wilson(correct, total)
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
  return _accuracy([_is_same(gold, text) for gold, text in pairs])


def _is_same(gold: str, text: str) -> bool:
  """Whether texts are equal but for blanks around them, and not empty."""
  return gold.strip() == text.strip() != ''


def equation_accuracy(
  targets: Sequence[str], predictions: Sequence[str]
) -> Mapping[str, float]:
  """Returns how often the predicted equation has the gold equation's value.

  Where the gold label has no value, a prediction must be the label itself.
  Arguments and result are those of `label_accuracy`.
  """
  pairs = zip(targets, predictions, strict=True)
  return _accuracy([
    _is_same(gold, text) or equations.same_value(text, gold)
    for gold, text in pairs
  ])  # fmt: skip


def class_accuracy(
  classes: Sequence[str], vocabulary: seqio.Vocabulary | None = None
) -> Metric:
  """Returns a metric that also scores each class.

  >>> found = class_accuracy(('yes', 'no'))(['yes', 'no'], ['yes', 'maybe'])
  >>> found['recall_of_no'], found['confusion_no_as_no_class']
  (0.0, 1)

  Args:
    classes: the possible labels.
    vocabulary: of the predictions, which have its spelling of a class; None
      where that is the class's own.

  Returns:
    A function of targets and predictions. Besides what `label_accuracy`
    returns, it has, for each class, `accuracy_of_<class>` (the fraction of its
    rows that are predicted right; 0 without rows) with its interval
    (`accuracy_of_<class>_low`, `…_high`), `precision_of_<class>`,
    `recall_of_<class>`, `f1_of_<class>`, `support_of_<class>` (its number of
    rows), and the numbers of rows `confusion_<class>_as_<prediction>`, where a
    prediction is a class or `no_class` (`no_class_` if that is one). `macro_f1`
    is the mean of f1 over the classes that are gold or predicted somewhere.
  """

  def metric(
    targets: Sequence[str], predictions: Sequence[str]
  ) -> Mapping[str, float]:
    result = dict(label_accuracy(targets, predictions))
    class_of = {} if vocabulary is None else {
      spelling.spelled(vocabulary, name): name for name in classes
    }  # fmt: skip
    class_of |= {name.strip(): name for name in classes}
    other = _other(classes)
    counts = collections.Counter(
      (
        class_of.get(gold.strip(), other),
        class_of.get(text.strip(), other),
      )
      for gold, text in zip(targets, predictions, strict=True)
    )
    return result | _by_class(classes, counts)

  return metric


def _other(classes: Sequence[str]) -> str:
  """Returns a name that is no class's, for predictions that are none."""
  name = _NO_CLASS
  while name in classes:
    name += '_'
  return name


def _by_class(
  classes: Sequence[str], counts: Mapping[tuple[str, str], int]
) -> dict[str, float]:
  """Returns the scores of classes; `counts` has (gold, predicted) pairs."""
  result: dict[str, float] = {}
  other = _other(classes)
  answers = (*classes, other)
  f1_scores = []
  for name in classes:
    right = counts[name, name]
    gold = sum(counts[name, answer] for answer in answers)
    said = sum(counts[answer, name] for answer in answers)
    result |= _with_interval(f'accuracy_of_{name}', right, gold)
    f1 = _percent(2 * right, gold + said)
    result |= {
      f'precision_of_{name}': _percent(right, said),
      f'recall_of_{name}': _percent(right, gold),
      f'f1_of_{name}': f1,
      f'support_of_{name}': gold,
    }
    if gold + said:
      f1_scores.append(f1)
    for answer in answers:
      result[f'confusion_{name}_as_{answer}'] = counts[name, answer]
  return result | {'macro_f1': sum(f1_scores) / max(len(f1_scores), 1)}


def _percent(part: int, whole: int) -> float:
  return 100.0 * part / max(whole, 1)


def for_labels(
  by_value: bool,
  classes: Sequence[str] | None = None,
  vocabulary: seqio.Vocabulary | None = None,
) -> Metric:
  """Returns the metric that scores labels.

  Args:
    by_value: whether they are equations.
    classes: the possible labels, if they are few.
    vocabulary: of the predictions; None where texts keep their spelling.

  Returns:
    A function of targets and predictions. Without `classes`, labels that are
    few (at most 10, with 5 rows each on average) are scored as classes, and
    those that are sentences (half of them have 30 characters or more) with
    `rationale_overlap` as well.
  """
  if by_value:
    return equation_accuracy
  if classes:
    return class_accuracy(classes, vocabulary)

  def metric(
    targets: Sequence[str], predictions: Sequence[str]
  ) -> Mapping[str, float]:
    found = sorted(set(targets))
    if 1 < len(found) <= min(_FEW, len(targets) // _ROWS_A_CLASS):
      scores = class_accuracy(found, vocabulary)(targets, predictions)
    else:
      scores = label_accuracy(targets, predictions)
    if not targets or statistics.median(map(len, targets)) < _SENTENCE:
      return scores
    pairs = [
      _alike(gold, text, vocabulary)
      for gold, text in zip(targets, predictions, strict=True)
    ]
    return {**scores, **rationale_overlap(*zip(*pairs, strict=True))}

  return metric


def _alike(
  gold: str, text: str, vocabulary: seqio.Vocabulary | None
) -> tuple[str, str]:
  """Returns a label and a prediction, both in the vocabulary's spelling."""
  if vocabulary is None:
    return gold, text
  written = spelling.spelled(vocabulary, gold)
  return written, written if _is_same(gold, text) else text


def agreement(metric: Metric) -> Metric:
  """Returns a metric of labels whose targets are a teacher's, not gold.

  >>> agreement(label_accuracy)(['yes'], ['yes'])['agreement']
  100.0

  Args:
    metric: from `for_labels`.

  Returns:
    A function of the teacher's labels and predictions: what `metric` calls
    `accuracy…` is called `agreement…`, since a teacher errs.
  """

  def of_teacher(
    targets: Sequence[str], predictions: Sequence[str]
  ) -> Mapping[str, float]:
    return {
      re.sub('^accuracy(?=$|_)', 'agreement', name): value
      for name, value in metric(targets, predictions).items()
    }

  return of_teacher


def rationale_overlap(
  targets: Sequence[str], predictions: Sequence[str]
) -> Mapping[str, float]:
  """Returns the overlap of generated texts with given ones.

  Args:
    targets: the teacher's rationales, or labels that are sentences.
    predictions: generated ones, in the same order.

  Returns:
    `bleu`, sacreBLEU of the corpus with its default tokenizer, and `rouge_l`,
    the mean ROUGE-L F-measure of rouge-score without stemming. Letters are
    those of all scripts. In scripts without blanks between words every
    character is one, for BLEU where most letters are of such a script.
  """
  # Imported here, since both are slow to import and rarely needed.
  import sacrebleu
  from rouge_score import rouge_scorer

  if not targets:
    return {'bleu': 0.0, 'rouge_l': 0.0}
  scorer = rouge_scorer.RougeScorer(['rougeL'], tokenizer=_Words())
  overlaps = [
    scorer.score(reference, text)['rougeL'].fmeasure
    for reference, text in zip(targets, predictions, strict=True)
  ]
  bleu = sacrebleu.corpus_bleu(
    list(predictions),
    [list(targets)],
    tokenize='char' if _is_unspaced(targets) else None,
  )
  return {'bleu': bleu.score, 'rouge_l': 100.0 * float(np.mean(overlaps))}


class _Words:
  """A tokenizer for rouge-score, whose own knows a to z and digits alone."""

  def tokenize(self, text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _is_unspaced(texts: Sequence[str]) -> bool:
  """Whether most letters are of scripts without blanks between words."""
  letters = sum(len(word) for text in texts for word in _WORD.findall(text))
  return 2 * sum(len(_CHARACTER.findall(text)) for text in texts) > letters
