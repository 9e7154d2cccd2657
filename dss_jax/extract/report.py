"""Report on an extraction: counts, unusable rows, lengths of rationales."""

import collections
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from dss_jax.extract import estimate, results
from dss_jax.extract import rows as rows_lib
from dss_jax.extract.replies import thoughts
from t5x import files

PERCENTILES = (5, 25, 50, 75, 95, 99, 100)
# Characters shown of an unreadable reply, and rows shown in a summary.
_SHOWN_TEXT, _SHOWN_ROWS = 200, 10


@dataclasses.dataclass
class SplitCounts:
  """Counts of a split's rows.

  Attributes:
    rows: all rows.
    asked: rows that were asked about.
    completed: rows with a completion.
    failed: rows that were asked about but have no completion.
    blank_rationales: completed rows in which no rationale was found.
    blank_labels: completed rows in which no label was found.
    outside_labels: completed rows whose label is not a possible answer.
    cut: completed rows with a completion that ended at --max-tokens.
    gold: completed rows with a gold label.
    correct: completed rows whose label is the gold label.
    agreement: the sum of `Vote.agreement` over completed rows.
  """

  rows: int = 0
  asked: int = 0
  completed: int = 0
  failed: int = 0
  blank_rationales: int = 0
  blank_labels: int = 0
  outside_labels: int = 0
  cut: int = 0
  gold: int = 0
  correct: int = 0
  agreement: float = 0.0

  @property
  def accuracy(self) -> float | None:
    """The fraction of rows with a gold label that the teacher got right."""
    return self.correct / self.gold if self.gold else None

  def add(self, rows: rows_lib.Rows, outcome: results.Outcome) -> None:
    """Counts a row."""
    self.rows += 1
    self.asked += outcome.asked
    if not outcome.asked:
      return
    if not outcome.entries:
      self.failed += 1
      return
    row, chosen = outcome.row, outcome.chosen
    self.completed += 1
    self.blank_rationales += not chosen.rationale
    self.blank_labels += not chosen.label
    self.outside_labels += bool(chosen.label) and not row.possible(chosen.label)
    self.cut += any(thoughts.is_cut(e.finish) for e in outcome.entries)
    self.agreement += outcome.vote.agreement
    if row.label:
      self.gold += 1
      self.correct += rows.correct(chosen.label, row.label)


def percentiles(counts: Mapping[int, int]) -> dict[str, int]:
  """Returns percentiles by the nearest rank.

  >>> percentiles({1: 50, 7: 50})['50']
  1

  Args:
    counts: how often each value occurs.
  """
  total, seen = sum(counts.values()), 0
  result: dict[str, int] = {}
  ranks = [(p, max(1, math.ceil(p / 100 * total))) for p in PERCENTILES]
  for value in sorted(counts):
    seen += counts[value]
    while ranks and seen >= ranks[0][1]:
      result[str(ranks.pop(0)[0])] = value
  return result


class Report:
  """Counts of all outcomes, and the files of the report.

  Attributes:
    splits: the counts of each split.
    words: how many rationales have so many words.
    unusable: the first rows that training cannot use, and why.
    unusable_rows: the number of all such rows.
  """

  def __init__(self, rows: rows_lib.Rows, folder: pathlib.Path):
    """Creates an empty report.

    Args:
      rows: the rows whose outcomes are counted.
      folder: the folder for the report's files.
    """
    self._rows, self._folder = rows, folder
    self.splits = {split: SplitCounts() for split in rows.paths}
    self.words: collections.Counter[int] = collections.Counter()
    self.unusable: list[dict[str, Any]] = []
    self.unusable_rows = 0

  def add_all(
    self, outcomes: Iterable[results.Outcome], writer: results.Writer
  ) -> None:
    """Counts and writes all outcomes; lists the rows that cannot be used.

    Args:
      outcomes: the outcomes of all rows.
      writer: writes the results.
    """
    with (
      files.replacing(self._folder / 'unusable.jsonl') as work,
      work.open('w', encoding='utf-8') as file,
    ):
      for outcome in outcomes:
        self.splits[outcome.row.split].add(self._rows, outcome)
        writer.add(outcome)
        rationale = outcome.chosen.rationale
        if rationale:
          self.words[len(rationale.split())] += 1
        why = _why_unusable(outcome)
        if why:
          row = outcome.row
          line = {'split': row.split, 'index': row.index, 'id': row.id}
          line['why'] = why
          file.write(json.dumps(line, ensure_ascii=False) + '\n')
          self.unusable_rows += 1
          if len(self.unusable) < _SHOWN_ROWS:
            self.unusable.append(line)

  def as_dict(self, **more: Any) -> dict[str, Any]:
    """Returns all counts.

    Args:
      **more: facts about the run to add: model, tokens, …
    """
    return {
      **more,
      'splits': {
        name: {
          **dataclasses.asdict(split),
          'accuracy': split.accuracy,
          'agreement': (
            split.agreement / split.completed if split.completed else None
          ),
        }
        for name, split in self.splits.items()
      },
      'rationale_words': percentiles(self.words),
      'unusable_rows': self.unusable_rows,
    }

  def write(self, numbers: Mapping[str, Any]) -> None:
    """Writes `report.json` and the histogram `lengths.png`.

    Args:
      numbers: from `as_dict`.
    """
    with files.replacing(self._folder / 'report.json') as work:
      work.write_text(json.dumps(numbers, indent=2, ensure_ascii=False) + '\n')
    if self.words:
      histogram(self.words, self._folder / 'lengths.png')


def _why_unusable(outcome: results.Outcome) -> str:
  """Returns why training cannot use a row, '' if it can."""
  if not outcome.asked:
    return ''
  if not outcome.entries:
    return outcome.errors[0] if outcome.errors else 'not asked yet'
  chosen = outcome.chosen
  missing = [
    name
    for name, value in (
      ('rationale', chosen.rationale),
      ('label', chosen.label),
    )
    if not value
  ]
  if not missing:
    return ''
  entry = outcome.entries[outcome.vote.kept[0]]
  ended = ' (cut at --max-tokens)' if thoughts.is_cut(entry.finish) else ''
  text = entry.text[:_SHOWN_TEXT]
  return f'no {" and no ".join(missing)} found{ended} in: {text}'


def histogram(words: Mapping[int, int], path: pathlib.Path) -> None:
  """Draws the histogram of the rationales' lengths.

  Args:
    words: how many rationales have so many words.
    path: where to write the picture, a PNG.
  """
  import matplotlib.figure

  figure = matplotlib.figure.Figure(figsize=(7, 4), layout='constrained')
  axes = figure.subplots()
  lengths = sorted(words)
  bins = range(lengths[0], lengths[-1] + 2, max(1, lengths[-1] // 60))
  edges = [*bins, bins[-1] + bins.step]
  weights = [words[length] for length in lengths]
  axes.hist(lengths, bins=edges, weights=weights, color='#3b6ea5')
  median = percentiles(words)['50']
  axes.axvline(median, color='#c44e52', label=f'median {median}')
  axes.set_xlabel('words in a rationale')
  axes.set_ylabel('rows')
  axes.legend(frameon=False)
  with files.replacing(path) as work:
    figure.savefig(work, dpi=120, format='png')


def cost(usage: Mapping[str, int], prices: estimate.Prices) -> float | None:
  """Returns the dollars that an extraction has cost, None without prices.

  Args:
    usage: tokens by the server's names for them.
    prices: for a million tokens.
  """
  return prices.cost(
    usage.get('prompt_tokens', 0), usage.get('completion_tokens', 0)
  )
