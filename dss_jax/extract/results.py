"""Results that training reads: the published layout, and rows as JSON lines.

Rows and journal are read in step, a row at a time. Every split gets a
completion for each row, as the published layout needs it: '' if none was asked
for or none came, which training leaves out like any other blank.

The samples of a row are reduced to one answer by self-consistency (Wang et al.
2023). The label that most samples give is the answer; samples without a label
have no vote. Among labels with equally many votes, the one that an earlier
sample gave wins, so that the same samples always elect the same label.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import IO, Any, Self

from dss_jax.data import completions, own_rows, records, teacher_outputs
from dss_jax.extract import estimate, journal, prompts
from dss_jax.extract import rows as rows_lib
from dss_jax.extract.replies import thoughts

# As in the published files of CQA.
COMPLETIONS_PER_FILE = 1000


@dataclasses.dataclass(frozen=True)
class Vote:
  """The label that the samples of a row elect.

  Attributes:
    label: the elected label; '' if no sample has one.
    kept: the numbers of the samples that gave it; all if no sample has one.
    agreement: the fraction of all samples that gave it.
  """

  label: str
  kept: tuple[int, ...]
  agreement: float


def elect(
  samples: Sequence[completions.Parsed],
  key: Callable[[str], Hashable] = lambda label: label,
) -> Vote:
  """Returns the vote of a row's samples.

  >>> from dss_jax.data.completions import Parsed
  >>> elect([Parsed('a', 'x'), Parsed('b', 'y'), Parsed('c', 'y')])
  Vote(label='y', kept=(1, 2), agreement=0.6666666666666666)

  Args:
    samples: rationales and labels, in the order of the samples.
    key: returns the same value for equal labels.
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
  """The samples of a row, and what they agree on.

  Attributes:
    row: the row.
    asked: whether the row was asked about, now or before.
    entries: its completions, in the order of the samples.
    replies: their texts, cleaned for reading.
    parsed: rationale and label of each.
    vote: the label that they elect.
    errors: why the other samples have no completion.
    thoughts: what the model wrote for itself, for each sample.
  """

  row: rows_lib.Row
  asked: bool
  entries: tuple[journal.Entry, ...]
  replies: tuple[str, ...]
  parsed: tuple[completions.Parsed, ...]
  vote: Vote
  errors: tuple[str, ...]
  thoughts: tuple[str, ...] = ()

  @property
  def chosen(self) -> completions.Parsed:
    """The rationale and label of the row; blank without a completion."""
    if not self.parsed:
      return completions.Parsed('', '')
    return self.parsed[self.vote.kept[0]]

  @property
  def completion(self) -> str:
    """The reply of the row; '' without a completion."""
    return self.replies[self.vote.kept[0]] if self.replies else ''

  @property
  def rationales(self) -> list[str]:
    """The rationales of the samples that agree, without repetitions."""
    kept = (self.parsed[number].rationale for number in self.vote.kept)
    return list(dict.fromkeys(filter(None, kept)))


def outcomes(
  rows: rows_lib.Rows,
  survey: estimate.Survey,
  contents: journal.JournalContents,
  prompt: prompts.Prompt,
  path: pathlib.Path,
  keep_thoughts: bool,
) -> Iterator[Outcome]:
  """Yields the outcome of every row, in order.

  Args:
    rows: the rows.
    survey: says which of them were asked about.
    contents: says where in the journal their completions are.
    prompt: reads a reply.
    path: the journal.
    keep_thoughts: whether outcomes hold thoughts too.
  """
  for split in rows.paths:
    for row in rows.read(split):
      index = contents.index
      entries = journal.read(path, index.completions(split, row.index))
      failures = journal.read(path, index.failures(split, row.index))
      asked = row.index < survey.asked[split] or bool(entries or failures)
      replies = tuple(
        prompt.reply(entry.text, contents.opened) for entry in entries
      )
      parsed = tuple(
        prompt.parse(reply, thoughts.is_unfinished(entry.finish))
        for reply, entry in zip(replies, entries, strict=True)
      )
      yield Outcome(
        row=row,
        asked=asked,
        entries=tuple(entries),
        replies=replies,
        parsed=parsed,
        vote=elect(parsed, rows.key),
        errors=tuple(entry.error for entry in failures),
        thoughts=tuple(
          entry.thoughts or prompt.split(entry.text, contents.opened).thoughts
          for entry in entries
        )
        if keep_thoughts
        else (),
      )


def as_own_row(outcome: Outcome) -> dict[str, Any]:
  """Returns a row as `own_rows` reads it, with the text of every sample."""
  more = {'thoughts': list(outcome.thoughts)} if outcome.thoughts else {}
  rationales = [
    text.replace(own_rows.SEPARATOR, ' ') for text in outcome.rationales
  ]
  return {
    'id': outcome.row.id,
    'input': outcome.row.input,
    'label': outcome.row.label,
    'rationale': rationales if len(rationales) > 1 else ''.join(rationales),
    'teacher_label': outcome.chosen.label.replace(own_rows.SEPARATOR, ' '),
    'agreement': round(outcome.vote.agreement, 4),
    'completions': [entry.text for entry in outcome.entries],
    **more,
  }


class Writer:
  """Writer of results; old results are replaced when all are written."""

  def __init__(self, rows: rows_lib.Rows, folder: pathlib.Path, teacher: str):
    """Creates the folders to write to.

    Args:
      rows: the rows whose results are written.
      folder: the extraction's folder.
      teacher: the extraction's name.
    """
    self._folder = folder
    self._is_published = rows.published
    self._teacher = teacher
    self._names = ['rows', *([teacher] if rows.published else [])]
    for name in self._names:
      shutil.rmtree(self._partial(name), ignore_errors=True)
      self._partial(name).mkdir(parents=True)
    self._split = ''
    self._rows_file: IO[str] | None = None
    # The completions of the file to be written next, and its number.
    self._completions: list[str] = []
    self._readings: list[dict[str, str]] = []
    self._file_number = 0

  def _partial(self, name: str) -> pathlib.Path:
    return self._folder / f'.{name}.partial'

  def add(self, outcome: Outcome) -> None:
    """Writes the next row's outcome; the rows of a split come together."""
    if self._rows_file is None or outcome.row.split != self._split:
      self._rows_file = self._begin_split(outcome.row.split)
    line = json.dumps(as_own_row(outcome), ensure_ascii=False)
    self._rows_file.write(line + '\n')
    if self._is_published:
      text = outcome.completion
      self._completions.append(text)
      self._readings.append(teacher_outputs.reading(text, outcome.chosen))
      if len(self._completions) == COMPLETIONS_PER_FILE:
        self._write_completions()

  def _begin_split(self, split: str) -> IO[str]:
    """Ends the split before this one; returns the file for this one's rows."""
    self._end_split()
    self._split = split
    path = self._partial('rows') / f'{split}.jsonl'
    return path.open('w', encoding='utf-8')

  def _write_completions(self) -> None:
    name = f'{records.FILE_SPLITS[self._split]}_CoT_{self._file_number}.json'
    for file, values in (
      (name, self._completions),
      (teacher_outputs.reading_name(name), self._readings),
    ):
      text = json.dumps(values, ensure_ascii=False, indent=0)
      path = self._partial(self._teacher) / file
      path.write_text(text, encoding='utf-8')
    self._completions.clear()
    self._readings.clear()
    self._file_number += 1

  def _end_split(self) -> None:
    if self._rows_file is not None:
      self._rows_file.close()
    if self._completions:
      self._write_completions()
    self._file_number = 0

  def __enter__(self) -> Self:
    """Returns the writer."""
    return self

  def __exit__(self, kind: type | None, *unused: object) -> None:
    """Puts the files in place, or removes them after an error."""
    if kind is None:
      self._end_split()
    elif self._rows_file is not None:
      self._rows_file.close()
    for name in self._names:
      partial, final = self._partial(name), self._folder / name
      if kind is None:
        old = self._folder / f'.{name}.old'
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
          final.rename(old)
        partial.rename(final)
        shutil.rmtree(old, ignore_errors=True)
      shutil.rmtree(partial, ignore_errors=True)
