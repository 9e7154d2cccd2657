"""Drafts of prompt files: what the user's own rows say, and what to fill in.

  dss extract --draft-prompt my_rows.jsonl

A draft shows real inputs as exemplars, and their labels and rationales where
the rows have them. What nobody but the user knows stands between `TO_EDIT` and
`>>`: `prompt_files.load` refuses a file in which that is still there.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence

from dss_jax import errors, neutral
from dss_jax.data import (
  own_rows,
  own_tables,
  progress,
  records,
  row_files,
  row_formats,
)
from dss_jax.extract import prompt_files, prompts
from t5x import files

# Rows that are looked at; exemplars, of which each class has one.
_LOOKED_AT, _EXEMPLARS, _MOST_EXEMPLARS = 1000, 4, 8
# Labels are classes if they are at most so many.
_FEW = 20
_EDIT = f'{prompt_files.TO_EDIT}{{}}>>'
_READ = ('input', 'label', 'rationale')
_ANSWER = '{rationale} So the answer is {label}.'
_WHY = 'why, in one or two sentences that say what in the text decides'


@dataclasses.dataclass(frozen=True)
class Draft:
  """A prompt file to begin with.

  Attributes:
    text: of the file.
    columns: those to ask with, as `--column` takes them.
  """

  text: str
  columns: Mapping[str, str]


def _column_names(location: str) -> list[str]:
  """Returns the columns of the first rows."""
  file = row_files.find(location)[0]
  columns = row_files.Columns()
  found = row_files.rows(file, (), columns, progress.silent())
  for _ in itertools.islice(found, _LOOKED_AT):
    pass
  return list(columns.names)


def _mapped(location: str, columns: Mapping[str, str]) -> dict[str, str]:
  """Returns the columns, with that of the input where it is the only one left.

  Raises:
    DataError: several columns may be the input.
  """
  names = _column_names(location)
  if 'input' in columns or 'input' in names:
    return dict(columns)
  known = {*own_rows.COLUMNS, *columns.values()}
  left = [name for name in names if name not in known]
  if len(left) != 1:
    raise errors.DataError(
      f'{location}: expected a column input, found'
      f' {neutral.names(names) or "none"}. Say which one it is, such as'
      f' --column input={left[0] if left else "text"}.'
    )
  return {**columns, 'input': left[0]}


def of_rows(location: str, columns: Mapping[str, str]) -> Draft:
  """Returns the draft of a prompt file for rows of the user's own.

  Args:
    location: of the rows, a file, folder or glob.
    columns: maps names in `own_rows.COLUMNS` to the file's.

  Raises:
    DataError: a row is malformed, or none is there.
  """
  columns = _mapped(location, columns)
  own = own_rows.OwnData(location, columns=columns)
  found = own_tables.records_of(
    own, location, row_files.Columns(), progress.silent(), _READ,
    none_is_text=True,
  )  # fmt: skip
  rows = [record for _, _, record in itertools.islice(found, _LOOKED_AT)]
  labels = list(dict.fromkeys(row.label for row in rows if row.label))
  few = 1 < len(labels) <= min(_FEW, len(rows) // 2)
  return Draft(_text(location, rows, labels if few else []), columns)


def _chosen(
  rows: Sequence[records.Record], classes: Sequence[str]
) -> list[records.Record]:
  """Returns rows that differ, those of each class first."""
  first = {row.input: row for row in reversed(rows)}
  different = sorted(first.values(), key=lambda row: row.index)
  of_class = {
    row.label: row for row in reversed(different) if row.label in classes
  }
  chosen = list(of_class.values())
  chosen.sort(key=lambda row: classes.index(row.label))
  chosen = chosen[:_MOST_EXEMPLARS]
  for row in different:
    if len(chosen) >= _EXEMPLARS:
      break
    if row not in chosen:
      chosen.append(row)
  return chosen


def _text(
  location: str, rows: Sequence[records.Record], classes: Sequence[str]
) -> str:
  """Returns the text of the file."""
  texts = row_formats.NLI_SEPARATOR
  in_two = all(row.input.count(texts) == 1 for row in rows)
  question = 'Premise: {premise}\nHypothesis: {hypothesis}'
  asked = 'what is to be found out about a text, in a sentence or two'
  said = f' The answer is one of: {", ".join(classes)}.' if classes else ''
  lines = [
    f'# A prompt for the rows of {neutral.line(location)}, to be completed:',
    f'# write what each {_EDIT.format("…")} asks for in its place. Then, with',
    '# --prompt and this file, `dss extract --dry-run` shows what is asked.',
    '',
    '# What the teacher is told before anything else.',
    f'instruction: {_quoted(_EDIT.format(asked) + said)}',
    '',
    '# How a row is shown, and how the teacher answers: reasons first, then',
    '# words that stand in front of every label. Both may be changed.',
    f'question: {_quoted(question if in_two else "Text: {input}")}',
    f'answer: {_quoted(_ANSWER)}',
    '',
    '# Worked answers. Their reasons are what the student learns to give: one',
    '# or two sentences, as good as you want them. Four to eight are enough.',
    'exemplars:',
  ]
  for row in _chosen(rows, classes):
    given = row.rationale.split(own_rows.SEPARATOR)[0]
    rationale = given if _is_read_back(given, 'yes') else _EDIT.format(_WHY)
    is_answer = _is_read_back('Reasons.', row.label)
    label = row.label if is_answer else _EDIT.format('the answer, on one line')
    lines += [
      f'  - input: {_quoted(row.input)}',
      f'    rationale: {_quoted(rationale)}',
      f'    label: {_quoted(label)}',
    ]
  return '\n'.join(lines) + '\n'


def _is_read_back(rationale: str, label: str) -> bool:
  """Returns whether an exemplar's parts are found again in its answer."""
  exemplar = prompts.Exemplar('', rationale, label)
  prompt = prompts.Prompt('', '{input}', _ANSWER, (exemplar,), ())
  parsed = prompt.parse(prompt.reply(prompt.messages('')[1]['content']))
  same = parsed.rationale == rationale and parsed.label == label
  return bool(rationale and label) and same


def _quoted(text: str) -> str:
  """Returns a text in YAML, on one line."""
  import yaml

  endless = float('inf')
  quoted: str = yaml.safe_dump(
    text, default_style='"', allow_unicode=True, width=endless
  )
  return quoted.rstrip('\n')


def write(draft: Draft, path: pathlib.Path) -> None:
  """Writes a draft.

  Args:
    draft: from `of_rows`.
    path: of the file.

  Raises:
    DataError: there is one, which somebody may have worked on.
  """
  if path.exists():
    raise errors.DataError(
      f'{path}: expected no file there, to write the draft of a prompt to;'
      ' found one. Remove it, or name another with --prompt.'
    )
  with files.replacing(path) as work:
    work.write_text(draft.text, encoding='utf-8')
