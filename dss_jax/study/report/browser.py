"""Questions that methods answer differently, for a page to search and show.

A page holds a bounded number of them, those with the largest disagreement, and
a bounded part of each text. All are in the files of predictions.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dss_jax.report import predictions
from dss_jax.report import texts as texts_lib
from dss_jax.study import results
from dss_jax.study.report import answers, cells

MOST_QUESTIONS = 2000
_FEWEST_PER_CELL = 20
# Different answers of one method with several seeds.
_MOST_ANSWERS = 3


@dataclasses.dataclass(frozen=True)
class Questions:
  """What the page's script shows.

  Attributes:
    data: `places` (names of cells), `methods` (names of arms), `texts` (each
      text once), and `items`, each with the numbers of its place, question,
      gold label and teacher's rationale (-1 for none), and for each method that
      is there: its number, right answers, seeds, answers with their counts, and
      the first seed's rationale (-1 for none).
    shown: number of items.
    found: number of questions that are answered differently, in all cells.
  """

  data: dict[str, Any]
  shown: int
  found: int


def collect(marks: answers.Marks, table: cells.Table) -> Questions:
  """Returns the questions where methods disagree.

  Args:
    marks: which questions each run has right.
    table: the study's runs.
  """
  texts = texts_lib.Texts()
  items: list[list[Any]] = []
  found = 0
  most = max(_FEWEST_PER_CELL, MOST_QUESTIONS // max(len(table.cells), 1))
  for place, cell in enumerate(table.cells):
    arms = {
      number: runs
      for number, arm in enumerate(table.arms)
      if (runs := [r for r in table.at(cell, arm) if marks.there(r)])
    }
    if len(arms) < 2:
      continue
    marks.of([run for runs in arms.values() for run in runs])
    shares = np.stack([marks.of(runs).mean(axis=0) for runs in arms.values()])
    gaps = shares.max(axis=0) - shares.min(axis=0)
    found += int(np.sum(gaps > 0))
    order = np.argsort(-gaps, kind='stable')[:most]
    chosen = [int(n) for n in order if gaps[n] > 0]
    items += _items(marks, arms, place, chosen, texts)
  data = {
    'places': [table.place(cell) for cell in table.cells],
    'methods': [table.name(arm) for arm in table.arms],
    'texts': list(texts.numbers),
    'items': items,
  }
  return Questions(data, len(items), found)


def _items(
  marks: answers.Marks,
  arms: dict[int, list[results.RunResult]],
  place: int,
  chosen: Sequence[int],
  texts: texts_lib.Texts,
) -> list[list[Any]]:
  """Returns the items of a cell's chosen questions."""
  given: dict[int, list[list[predictions.Answer]]] = {}
  for number, runs in arms.items():
    given[number] = []
    for run in runs:
      read = answers.read(marks.out_dir, run)
      given[number].append([read[n] for n in chosen])
  items = []
  for n in range(len(chosen)):
    mine = {number: [run[n] for run in runs] for number, runs in given.items()}
    some = next(iter(mine.values()))[0]
    teachers = [a.teacher_rationale for each in mine.values() for a in each]
    items.append(
      [
        place,
        texts.add(some.question),
        texts.add(some.gold),
        texts.add(next(filter(None, teachers), None)),
        [_method(number, each, texts) for number, each in mine.items()],
      ]
    )
  return items


def _method(
  number: int, given: Sequence[predictions.Answer], texts: texts_lib.Texts
) -> list[Any]:
  """Returns what a method's seeds have answered."""
  counts = collections.Counter(a.prediction for a in given)
  return [
    number,
    sum(a.correct for a in given),
    len(given),
    [
      [texts.add(text), count]
      for text, count in counts.most_common(_MOST_ANSWERS)
    ],
    texts.add(given[0].rationale),
  ]
