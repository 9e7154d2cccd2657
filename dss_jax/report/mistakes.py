"""Answers of runs for a page to search and show, mistakes first.

A page holds a bounded number of them and a bounded part of each text. All are
in the files of predictions.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax.report import answered, predictions, runs
from dss_jax.report import texts as texts_lib

MOST = 2000
# What a place, an example of a task, is known by in all runs.
_Key = tuple[str, str, str, str]


@dataclasses.dataclass(frozen=True)
class Mistakes:
  """What the page's script shows.

  Attributes:
    data: as in `dss_jax.study.report.browser`: a place is a task, a method is a
      run, and a run has one seed, or none where nobody knows which answers are
      right. With `golds`, what the right answer is called in each place,
      `classes`, the numbers of their texts, and `start`, what the answers of a
      single run are filtered by at first.
    shown: number of items.
    found: number of all examples.
    wrong: number of those that some run has wrong.
  """

  data: dict[str, Any]
  shown: int
  found: int
  wrong: int


@dataclasses.dataclass
class _Item:
  """An example, and what each run answered."""

  key: _Key
  given: dict[int, predictions.Answer] = dataclasses.field(default_factory=dict)
  judged: set[int] = dataclasses.field(default_factory=set)

  @property
  def marks(self) -> list[bool]:
    return [self.given[number].correct for number in sorted(self.judged)]

  @property
  def rank(self) -> int:
    """First what runs answer differently, then mistakes of all, then right."""
    marks = self.marks
    if len(set(marks)) > 1:
      return 0
    return 2 if all(marks) else 1


def collect(
  found: Sequence[runs.Run],
  answers: answered.Answers,
  classes: Sequence[str],
) -> Mistakes:
  """Returns the answers of runs to the examples of their last evaluations.

  Args:
    found: the runs.
    answers: what they answered.
    classes: the possible labels, where they are few.
  """
  items = _items(found, answers)
  order = sorted(items, key=lambda item: item.rank)[:MOST]
  places = list(dict.fromkeys(item.key[0] for item in items))
  # The script begins with the last one.
  places.sort(key=lambda name: name == 'test')
  teachers = {
    task.shown for run in found for task in run.label_tasks() if task.of_teacher
  }
  texts = texts_lib.Texts()
  data: dict[str, Any] = {
    'places': places,
    'golds': [
      "The teacher's label: " if name in teachers else 'Gold: '
      for name in places
    ],
    'methods': [run.name for run in found],
    'items': [_row(item, places, texts) for item in order],
    'classes': [texts.add(name) for name in classes],
    'start': 'wrong'
    if len(found) == 1 and any(item.rank < 2 for item in items)
    else '',
  }
  data['texts'] = list(texts.numbers)
  wrong = sum(item.rank < 2 for item in items)
  return Mistakes(data, len(order), len(items), wrong)


def _items(found: Sequence[runs.Run], answers: answered.Answers) -> list[_Item]:
  """Joins the answers of runs to the same example."""
  items: dict[tuple[_Key, int], _Item] = {}
  for number, run in enumerate(found):
    for task in run.label_tasks():
      read = answers.of(run, task)
      if read is None:
        continue
      seen: dict[_Key, int] = {}
      for answer in read.answers:
        key = (task.shown, answer.id, answer.question, answer.gold)
        # A data set may hold the same example twice.
        seen[key] = seen.get(key, 0) + 1
        item = items.setdefault((key, seen[key]), _Item(key))
        item.given[number] = answer
        if read.judged:
          item.judged.add(number)
  return list(items.values())


def _row(
  item: _Item, places: Sequence[str], texts: texts_lib.Texts
) -> list[Any]:
  task, _, question, gold = item.key
  teachers = [answer.teacher_rationale for answer in item.given.values()]
  return [
    places.index(task),
    texts.add(question),
    texts.add(gold),
    texts.add(next(filter(None, teachers), None)),
    [
      [
        number,
        int(answer.correct),
        int(number in item.judged),
        [[texts.add(answer.prediction), 1]],
        texts.add(answer.rationale),
      ]
      for number, answer in item.given.items()
    ],
  ]


def common(
  found: Sequence[runs.Run], answers: answered.Answers
) -> list[Mapping[str, Any]]:
  """Returns how other runs differ from the first on the same examples.

  Args:
    found: the runs.
    answers: what they answered.

  Returns:
    For each task and other run: `task`, `run` (its number), and the numbers of
    examples `both`, `first`, `other` and `neither`, by who has them right.
  """
  items = _items(found, answers)
  rows = []
  for task in dict.fromkeys(item.key[0] for item in items):
    for number in range(1, len(found)):
      pairs = [
        (item.given[0].correct, item.given[number].correct)
        for item in items
        if item.key[0] == task and {0, number} <= item.judged
      ]
      if pairs:
        rows.append(
          {
            'task': task,
            'run': number,
            'both': pairs.count((True, True)),
            'first': pairs.count((True, False)),
            'other': pairs.count((False, True)),
            'neither': pairs.count((False, False)),
          }
        )
  return sorted(rows, key=lambda row: row['task'] != 'test')
