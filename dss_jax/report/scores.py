"""Scores of runs: accuracies with their intervals, classes, other metrics."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax.pipeline.scoring import intervals
from dss_jax.report import answered, runs

_SUPPORT = 'support_of_'
# What is shown of a class, or stands in another table.
_OF_CLASSES = (
  *('accuracy', 'precision_of_', 'recall_of_', 'f1_of_', _SUPPORT),
  'confusion_',
)
_NO_CLASS = 'no_class'
_NAMES = {
  'bleu': 'BLEU',
  'rouge_l': 'ROUGE-L',
  'rouge1': 'ROUGE-1',
  'rouge2': 'ROUGE-2',
  'macro_f1': 'macro F1',
}


@dataclasses.dataclass(frozen=True)
class Score:
  """An accuracy, in percent.

  Attributes:
    run: number of its run.
    name: what was scored: a split, or a class.
    value: the accuracy.
    low: lower end of its 95% interval by Wilson; None if nobody knows how many
      examples there were.
    high: upper end.
    count: number of examples, if it is known.
    step: which evaluation.
    best: the best of all evaluations, and its step.
    measure: what it is called: an accuracy, or an agreement with the teacher.
  """

  run: int
  name: str
  value: float
  low: float | None
  high: float | None
  count: int | None
  step: int
  best: tuple[float, int]
  measure: str


@dataclasses.dataclass(frozen=True)
class ClassScore:
  """How a class is predicted, in percent.

  Attributes:
    name: of the class.
    count: number of its examples.
    recall: how many of them are predicted right.
    low: lower end of the recall's 95% interval.
    high: upper end.
    precision: how many predictions of the class are right.
    f1: of both.
  """

  name: str
  count: int
  recall: float
  low: float
  high: float
  precision: float
  f1: float


@dataclasses.dataclass(frozen=True)
class Confusion:
  """Which classes are taken for which.

  Attributes:
    run: number of its run.
    task: what was asked.
    step: which evaluation.
    classes: scores of each.
    columns: what was predicted: the classes and, if that was predicted, none.
    counts: examples, [class, column].
  """

  run: int
  task: runs.Task
  step: int
  classes: Sequence[ClassScore]
  columns: Sequence[str]
  counts: Sequence[Sequence[int]]


def accuracies(
  found: Sequence[runs.Run], answers: answered.Answers
) -> list[Score]:
  """Returns the accuracies at each run's last evaluation, test first.

  Args:
    found: the runs.
    answers: what they answered.
  """
  scores = []
  for number, run in enumerate(found):
    for task in run.label_tasks():
      count = answers.count(run, task)
      ends = _interval(task.last, count)
      best = max(task.rows, key=lambda step: task.rows[step]['accuracy'])
      scores.append(
        Score(
          number,
          task.shown,
          task.last['accuracy'],
          *ends,
          count,
          task.step,
          (task.rows[best]['accuracy'], best),
          task.measure,
        )
      )
  order = {name: n for n, name in enumerate(('test', 'validation'))}
  return sorted(scores, key=lambda s: (order.get(s.name, 2), s.name, s.run))


def _interval(
  row: Mapping[str, Any], count: int | None
) -> tuple[float | None, float | None]:
  """Returns the interval that was measured, or the one of so many examples."""
  if 'accuracy_low' in row:
    return row['accuracy_low'], row['accuracy_high']
  if not count:
    return None, None
  right = round(row['accuracy'] * count / 100)
  low, high = intervals.wilson(right, count)
  return 100 * low, 100 * high


def confusions(found: Sequence[runs.Run]) -> list[Confusion]:
  """Returns who is taken for whom, for tasks whose labels are classes.

  Args:
    found: the runs.
  """
  tables = []
  for number, run in enumerate(found):
    for task in reversed(run.label_tasks()):
      row = task.last
      names = [n.removeprefix(_SUPPORT) for n in row if n.startswith(_SUPPORT)]
      if names:
        tables.append(_confusion(number, task, names))
  return tables


def _confusion(number: int, task: runs.Task, names: list[str]) -> Confusion:
  row = task.last
  # `metrics.class_accuracy` chooses a name that is no class's.
  other = _NO_CLASS
  while other in names:
    other += '_'
  columns = [*names, other]
  counts = [
    [int(row.get(f'confusion_{gold}_as_{said}', 0)) for said in columns]
    for gold in names
  ]
  if not any(line[-1] for line in counts):
    columns, counts = columns[:-1], [line[:-1] for line in counts]
  return Confusion(
    run=number,
    task=task,
    step=task.step,
    classes=[
      ClassScore(
        name,
        int(row[f'{_SUPPORT}{name}']),
        row[f'recall_of_{name}'],
        row[f'accuracy_of_{name}_low'],
        row[f'accuracy_of_{name}_high'],
        row[f'precision_of_{name}'],
        row[f'f1_of_{name}'],
      )
      for name in names
    ],
    columns=columns,
    counts=counts,
  )


def others(found: Sequence[runs.Run]) -> list[tuple[str, str, list[str]]]:
  """Returns other scores: task, metric, and a text for each run.

  Args:
    found: the runs.
  """
  table: dict[tuple[str, str], list[str]] = {}
  for number, run in enumerate(found):
    for task in sorted(run.tasks, key=lambda task: task.split != 'test'):
      of = task.shown
      if task.is_rationale:
        of = f'{run.kind_of(task)}, {task.split}'
      for name, value in task.last.items():
        if is_other(name):
          texts = table.setdefault((of, name), ['–'] * len(found))
          texts[number] = _text(value)
  return [(of, name_of(name), texts) for (of, name), texts in table.items()]


def is_other(name: str) -> bool:
  """Whether a metric is neither the accuracy nor one of a class.

  Args:
    name: of the metric.
  """
  return name != 'step' and not name.startswith(_OF_CLASSES)


def name_of(name: str) -> str:
  """Returns what a metric is called.

  Args:
    name: in the file of metrics.
  """
  return _NAMES.get(name, name)


def _text(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.1f}' if abs(value) >= 1 else f'{value:.3g}'
  return str(value)
