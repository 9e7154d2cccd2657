"""Counts of text that a student can neither read nor write."""

import collections
import dataclasses
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dss_jax.data import own_rows, records, row_formats
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import preprocessors, registration
from dss_jax.pipeline.scoring import spelling

COLUMNS = ('input', 'label')
_CHARACTERS = 10
_LABELS = 3


@dataclasses.dataclass(frozen=True)
class Characters:
  """Characters in a column that something happens to.

  Attributes:
    rows: number of rows with any.
    by_rows: each of them with its number of rows, the most frequent first.
  """

  rows: int = 0
  by_rows: tuple[tuple[str, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Unknown:
  """What a vocabulary does not know in a column.

  Attributes:
    unknown: characters that become the unknown piece.
    dropped: characters that are read as a blank, or not at all.
  """

  unknown: Characters
  dropped: Characters


@dataclasses.dataclass(frozen=True)
class Findings:
  """What a vocabulary does not know in an experiment's rows.

  Attributes:
    columns: by split and column; those of rationales by their kind.
    confused: gold labels that look the same to a student, as
      `spelling.confused` gives them.
  """

  columns: Mapping[tuple[str, str], Unknown]
  confused: Sequence[tuple[str, str, str]]


def count(
  experiment: experiment_lib.Experiment,
  splits: Mapping[str, Sequence[records.Record]],
) -> Findings:
  """Counts what the vocabulary of an experiment does not know.

  Args:
    experiment: whose vocabulary.
    splits: rows by split.
  """
  alphabet = spelling.Alphabet(experiment.used_vocabulary)
  tokenizer = registration.tokenizer(experiment.data_set)
  in_parts = tokenizer is preprocessors.tokenize_parts
  columns = {}
  titles = {name: name for name in COLUMNS}
  titles |= {kind.column: kind.title for kind in experiment.kinds}
  for split, rows in splits.items():
    for column, title in titles.items():
      between = own_rows.SEPARATOR
      if column == 'input' and in_parts:
        between = row_formats.NLI_SEPARATOR
      # What stands between two texts is no text.
      texts = (row.column(column).replace(between, ' ') for row in rows)
      columns[split, title] = _count(alphabet, texts)
  labels = {row.label for rows in splits.values() for row in rows}
  confused = spelling.confused(experiment.used_vocabulary, sorted(labels))
  return Findings(columns, confused)


def _count(alphabet: spelling.Alphabet, texts: Iterable[str]) -> Unknown:
  kinds = (alphabet.unknown, alphabet.dropped)
  counts: tuple[collections.Counter[str], ...] = tuple(
    collections.Counter() for _ in kinds
  )
  rows = [0] * len(kinds)
  for text in texts:
    for i, kind in enumerate(kinds):
      if found := kind(text):
        rows[i] += 1
        counts[i].update(found)
  return Unknown(
    *(
      Characters(number, tuple(counter.most_common()))
      for number, counter in zip(rows, counts, strict=True)
    )
  )


def lines(found: Findings) -> Iterator[str]:
  """Yields the findings as lines without characters that move a cursor.

  Args:
    found: by `count`.
  """
  for (split, column), part in found.columns.items():
    if part.unknown.rows:
      yield (
        f'{split}, {column}: {part.unknown.rows} rows have characters that the'
        ' vocabulary lacks; a student can neither read nor write them:'
        f' {_listed(part.unknown)}'
      )
    if part.dropped.rows:
      yield (
        f'{split}, {column}: {part.dropped.rows} rows have characters that are'
        f' read as a blank or not at all: {_listed(part.dropped)}'
      )
  for label, other, form in found.confused[:_LABELS]:
    if form:
      yield (
        f'The labels {label!a} and {other!a} are both {form!a}'
        ' to a student, and cannot be scored.'
      )
    else:
      yield f'The label {label!a} is nothing to a student.'
  if len(found.confused) > _LABELS:
    yield f'So are {len(found.confused) - _LABELS} other labels.'


def _listed(characters: Characters) -> str:
  shown = characters.by_rows[:_CHARACTERS]
  more = len(characters.by_rows) - len(shown)
  return ', '.join(f'{_visible(one)} {rows}' for one, rows in shown) + (
    f' and {more} more' if more else ''
  )


def _visible(character: str) -> str:
  # Marks, controls, formats and separators are written as code.
  moves = unicodedata.category(character)[0] in 'MCZ'
  return ascii(character) if moves else repr(character)


def on_screen(text: str) -> str:
  r"""Writes characters that move a cursor, or others, as code.

  >>> print(on_screen('a {' + chr(27) + '[2J'))
  a {\x1b[2J

  Args:
    text: foreign text.
  """
  return ''.join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
