"""What training reads: the published layout, and rows as JSON lines.

Rows and journal are read in step, a row at a time. Every split gets a
completion for each row, as the published layout needs it: '' where none was
asked for or none came, which training leaves out like any other blank.

Several samples of an input are joined to one answer by self-consistency (Wang
et al. 2023). The label that most samples give is the answer; samples without a
label have no vote. Among labels with equally many votes, the one that an
earlier sample gave wins, so that the same samples always elect the same.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Self

from dss_jax import own_data, records
from dss_jax import teacher as teacher_lib
from dss_jax.extract import estimate, journal, prompts
from dss_jax.extract import rows as rows_lib

# Completions in a file, as in the published files of CQA.
PART = 1000


@dataclasses.dataclass(frozen=True)
class Vote:
  """What the samples of an input agree on.

  Attributes:
    label: the elected label, '' where no sample has one.
    kept: which samples gave it, or all where none has one.
    agreement: the part of all samples that gave it.
  """

  label: str
  kept: tuple[int, ...]
  agreement: float


def elect(
  samples: Sequence[teacher_lib.Parsed],
  key: Callable[[str], Hashable] = lambda label: label,
) -> Vote:
  """Elects a label.

  >>> from dss_jax.teacher import Parsed
  >>> elect([Parsed('a', 'x'), Parsed('b', 'y'), Parsed('c', 'y')])
  Vote(label='y', kept=(1, 2), agreement=0.6666666666666666)

  Args:
    samples: rationales and labels, in the order of the samples.
    key: what equal labels have in common.
  """
  voters: dict[Hashable, list[int]] = {}
  for number, sample in enumerate(samples):
    if sample.label:
      voters.setdefault(key(sample.label), []).append(number)
  if not voters:
    return Vote('', tuple(range(len(samples))), 0.0)
  kept = max(voters.values(), key=len)
  return Vote(samples[kept[0]].label, tuple(kept), len(kept) / len(samples))


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
  """What came of a row.

  Attributes:
    row: the row.
    asked: whether it was asked about, now or before.
    entries: its completions, in the order of the samples.
    replies: their texts, cleaned for reading.
    parsed: rationale and label of each.
    vote: what they agree on.
    errors: why the other samples have no completion.
  """

  row: rows_lib.Row
  asked: bool
  entries: tuple[journal.Entry, ...]
  replies: tuple[str, ...]
  parsed: tuple[teacher_lib.Parsed, ...]
  vote: Vote
  errors: tuple[str, ...]

  @property
  def chosen(self) -> teacher_lib.Parsed:
    """The rationale and label that stand for the row; blank without any."""
    if not self.parsed:
      return teacher_lib.Parsed('', '')
    return self.parsed[self.vote.kept[0]]

  @property
  def completion(self) -> str:
    """The reply that stands for the row, '' without any."""
    return self.replies[self.vote.kept[0]] if self.replies else ''

  @property
  def rationales(self) -> list[str]:
    """The rationales of the samples that agree, each once."""
    kept = (self.parsed[number].rationale for number in self.vote.kept)
    return list(dict.fromkeys(filter(None, kept)))


def outcomes(
  rows: rows_lib.Rows,
  survey: estimate.Survey,
  contents: journal.JournalContents,
  prompt: prompts.Prompt,
  path: pathlib.Path,
) -> Iterator[Outcome]:
  """Yields what came of every row, in order.

  Args:
    rows: where they are.
    survey: which were asked about.
    contents: where their completions are.
    prompt: reads a reply.
    path: the journal.
  """
  for split in rows.paths:
    for row in rows.read(split):
      index = contents.index
      found = journal.read(path, index.completions(split, row.index))
      failed = journal.read(path, index.failures(split, row.index))
      asked = row.index < survey.asked[split] or bool(found or failed)
      replies = tuple(prompt.reply(entry.text) for entry in found)
      parsed = tuple(map(prompt.parse, replies))
      yield Outcome(
        row=row,
        asked=asked,
        entries=tuple(found),
        replies=replies,
        parsed=parsed,
        vote=elect(parsed, rows.key),
        errors=tuple(entry.error for entry in failed),
      )


def as_own_row(outcome: Outcome) -> dict[str, Any]:
  """Returns a row as `own_data` reads it, with everything that was said."""
  rationales = [
    text.replace(own_data.SEPARATOR, ' ') for text in outcome.rationales
  ]
  return {
    'id': outcome.row.id,
    'input': outcome.row.input,
    'label': outcome.row.label,
    'rationale': rationales if len(rationales) > 1 else ''.join(rationales),
    'teacher_label': outcome.chosen.label.replace(own_data.SEPARATOR, ' '),
    'agreement': round(outcome.vote.agreement, 4),
    'completions': [entry.text for entry in outcome.entries],
  }


class Writer:
  """Writes results; what was there is replaced when all is written."""

  def __init__(self, rows: rows_lib.Rows, folder: pathlib.Path, teacher: str):
    """Begins the files.

    Args:
      rows: whose results.
      folder: the extraction's.
      teacher: its name.
    """
    self._folder = folder
    self._names = ['rows', *([teacher] if rows.published else [])]
    for name in self._names:
      shutil.rmtree(self._new(name), ignore_errors=True)
      self._new(name).mkdir(parents=True)
    self._published = self._new(teacher) if rows.published else None
    self._split: str | None = None
    self._own = None
    self._part: list[str] = []
    self._parts = 0

  def _new(self, name: str) -> pathlib.Path:
    return self._folder / f'.{name}.partial'

  def add(self, outcome: Outcome) -> None:
    """Writes the next row's outcome; a split's rows come together."""
    if outcome.row.split != self._split:
      self._end_split()
      self._split = outcome.row.split
      place = self._new('rows') / f'{self._split}.jsonl'
      self._own = place.open('w', encoding='utf-8')
    line = json.dumps(as_own_row(outcome), ensure_ascii=False)
    self._own.write(line + '\n')
    if self._published is not None:
      self._part.append(outcome.completion)
      if len(self._part) == PART:
        self._end_part()

  def _end_part(self) -> None:
    name = f'{records.FILE_SPLITS[self._split]}_CoT_{self._parts}.json'
    text = json.dumps(self._part, ensure_ascii=False, indent=0)
    (self._published / name).write_text(text, encoding='utf-8')
    self._part.clear()
    self._parts += 1

  def _end_split(self) -> None:
    if self._own is not None:
      self._own.close()
    if self._part:
      self._end_part()
    self._parts = 0

  def __enter__(self) -> Self:
    """Returns the writer."""
    return self

  def __exit__(self, kind: type | None, *unused: object) -> None:
    """Puts the files in place, or removes them after an error."""
    if kind is None:
      self._end_split()
    elif self._own is not None:
      self._own.close()
    for name in self._names:
      new, place = self._new(name), self._folder / name
      if kind is None:
        old = self._folder / f'.{name}.old'
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
          place.rename(old)
        new.rename(place)
        shutil.rmtree(old, ignore_errors=True)
      shutil.rmtree(new, ignore_errors=True)
