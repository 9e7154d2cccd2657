"""Reads a data set in the published layout into records, and reports on it.

`<name>_<split>.json` holds a JSON object a line. A teacher's outputs lie beside
it as JSON lists of raw completions, cut into files of equal length (the last
may be shorter), in the order of the rows.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dss_jax import archive, equations, errors
from dss_jax import teacher as teacher_lib

# Splits by the names that their files have.
FILE_SPLITS = {'train': 'train', 'validation': 'valid', 'test': 'test'}
NLI_LABELS = ('entailment', 'neutral', 'contradiction')
# Between premise and hypothesis, as in the published inputs.
NLI_SEPARATOR = '</s>'


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
  """One row of a data set, with what the teacher said about it.

  Attributes:
    index: its place in the released split, from 0.
    id: the release's identifier, or one made of split and index.
    input: what a student reads, without a task prefix.
    label: the gold label.
    rationale: the teacher's reasoning, '' where none was found.
    teacher_label: the teacher's label, '' where none was found.
  """

  index: int
  id: str
  input: str
  label: str
  rationale: str = ''
  teacher_label: str = ''


@dataclasses.dataclass(frozen=True)
class Report:
  """What is in a split.

  Attributes:
    rows: how many there are.
    duplicates: how many have the input of an earlier row.
    empty_rationales: rows for which no rationale was found.
    empty_labels: rows for which no teacher label was found.
    outside_labels: rows whose teacher label is no possible answer: none of the
      choices, no equation with a value, no entailment class.
    teacher_correct: rows whose teacher label is the gold label (for equations:
      has its value).
  """

  rows: int
  duplicates: int
  empty_rationales: int
  empty_labels: int
  outside_labels: int
  teacher_correct: int

  @property
  def teacher_accuracy(self) -> float:
    """The part of all rows that the teacher answered correctly."""
    return self.teacher_correct / self.rows if self.rows else 0.0


@dataclasses.dataclass(frozen=True)
class Release:
  """The records of a data set and the report on each of its splits."""

  splits: Mapping[str, tuple[Record, ...]]
  reports: Mapping[str, Report]


class _RowError(Exception):
  """What is wrong with a row; the message lacks file and line."""


@dataclasses.dataclass(frozen=True)
class _Fields:
  """Input and gold label of a row, and the answers that are possible."""

  id: str | None
  input: str
  label: str
  possible: Callable[[str], bool]


def _column(row: dict[str, Any], name: str, kind: type) -> Any:
  if name not in row:
    raise _RowError(
      f'expected the column {name!r}, found only'
      f' {", ".join(sorted(row)) or "none"}. Add the column.'
    )
  value = row[name]
  if not isinstance(value, kind) or isinstance(value, bool):
    raise _RowError(
      f'expected {name!r} to be a {kind.__name__}, found'
      f' {json.dumps(value)[:60]}. Correct the value.'
    )
  return value


def _cqa(row: dict[str, Any]) -> _Fields:
  question = _column(row, 'question', str)
  choices = _column(row, 'choices', list)
  answer = _column(row, 'answer', str)
  if not 1 <= len(choices) <= 26 or not all(
    isinstance(choice, str) for choice in choices
  ):
    raise _RowError(
      "expected 'choices' to be 1 to 26 texts, found"
      f' {json.dumps(choices)[:60]}. Correct the value.'
    )
  if answer not in choices:
    raise _RowError(
      f"expected 'answer' to be one of the choices {json.dumps(choices)},"
      f' found {answer!r}.{errors.did_you_mean(answer, choices)} Correct the'
      ' answer or the choices.'
    )
  lines = [f'({chr(97 + i)}) {choice}' for i, choice in enumerate(choices)]
  text = '\n'.join((question, 'Answer Choices:', *lines))
  return _Fields(
    str(row['id']) if 'id' in row else None, text, answer, choices.__contains__
  )


def _has_value(equation: str) -> bool:
  return equations.evaluate(equation) is not None


def _arithmetic(row: dict[str, Any]) -> _Fields:
  label = _column(row, 'label', str)
  if not _has_value(label):
    raise _RowError(
      "expected 'label' to be an equation with a value, such as"
      f" '( 3.0 + 9.0 )', found {label!r}. Correct the label."
    )
  return _Fields(None, _column(row, 'input', str), label, _has_value)


def _nli(row: dict[str, Any]) -> _Fields:
  label = _column(row, 'label', int)
  if not 0 <= label < len(NLI_LABELS):
    raise _RowError(
      "expected 'label' to be 0 (entailment), 1 (neutral) or 2"
      f' (contradiction), found {label}. Correct the label.'
    )
  sides = (_column(row, 'premise', str), _column(row, 'hypothesis', str))
  return _Fields(
    str(row['uid']) if 'uid' in row else None,
    NLI_SEPARATOR.join(sides),
    NLI_LABELS[label],
    NLI_LABELS.__contains__,
  )


_READERS: dict[str, Callable[[dict[str, Any]], _Fields]] = {
  'anli1': _nli,
  'asdiv': _arithmetic,
  'cqa': _cqa,
  'esnli': _nli,
  'svamp': _arithmetic,
}

DATA_SETS = tuple(_READERS)
# Labels that are equations are compared by their value.
EQUATION_SETS = ('asdiv', 'svamp')


def is_correct(data_set: str, prediction: str, label: str) -> bool:
  """Says whether an answer is the gold label, or has its value."""
  if data_set in EQUATION_SETS:
    return equations.same_value(prediction, label)
  return prediction == label


def check_data_set(data_set: str, known: tuple[str, ...] = DATA_SETS) -> None:
  """Raises a DataError unless there is such a data set."""
  if data_set not in known:
    raise errors.DataError(
      f'There is no data set {data_set!r}: expected one of'
      f' {", ".join(known)}.{errors.did_you_mean(data_set, known)}'
    )


def _text(files: archive.Files, name: str) -> str:
  data = files.read(name)
  if not data.strip():
    raise errors.DataError(
      f'{files.place(name)}: expected rows, found an empty file. Get the file'
      ' again.'
    )
  try:
    return data.decode('utf-8').removeprefix('\ufeff')
  except UnicodeDecodeError as error:
    line = data.count(b'\n', 0, error.start) + 1
    raise errors.DataError(
      f'{files.place(name)}, line {line}: expected UTF-8, found the byte'
      f' {data[error.start]:#04x}. Save the file as UTF-8.'
    ) from error


def _parse_json(text: str, place: str, first_line: int | None = None) -> Any:
  """Returns the value of `text`; a message names the line within the file."""
  try:
    value = json.loads(text)
    # A lone surrogate (`\ud800`) is valid JSON, but no text.
    json.dumps(value, ensure_ascii=False).encode('utf-8')
  except json.JSONDecodeError as error:
    line = error.lineno + (first_line or 1) - 1
    raise errors.DataError(
      f'{place}, line {line}: expected JSON, found {error.msg.lower()} at'
      f' column {error.colno}. Correct the line.'
    ) from error
  except (UnicodeEncodeError, RecursionError) as error:
    line = f', line {first_line}' if first_line else ''
    raise errors.DataError(
      f'{place}{line}: expected JSON with text in it, found {error}.'
      ' Correct the value.'
    ) from error
  return value


def _rows(files: archive.Files, data_set: str, name: str) -> list[_Fields]:
  """Reads a file with a JSON object a line."""
  # Only '\n' ends a line: JSON text may hold other separators unescaped.
  lines = _text(files, name).rstrip().split('\n')
  reader, rows = _READERS[data_set], []
  for number, line in enumerate(lines, 1):
    place = files.place(name)
    row = _parse_json(line.strip(), place, number)
    if not isinstance(row, dict):
      raise errors.DataError(
        f'{place}, line {number}: expected a JSON object, found'
        f' {json.dumps(row)[:60]}. Write one object a line.'
      )
    try:
      rows.append(reader(row))
    except _RowError as error:
      raise errors.DataError(f'{place}, line {number}: {error}') from None
  return rows


def _teacher_files(
  files: archive.Files, data_set: str, teacher: str, file_split: str
) -> list[str]:
  """Returns the names of a teacher's output files for a split, in order."""
  if teacher == 'gpt_neox':
    name = f'../gpt-neox/{data_set}/{file_split}.json'
    if files.exists(name):
      return [name]
    raise _no_teacher(files, teacher, name)
  folder = 'llm' if teacher == 'palm' else teacher
  pattern = re.compile(rf'{file_split}_CoT_(0|[1-9]\d*)\.json')
  matches = map(pattern.fullmatch, files.list(folder))
  numbers = sorted(int(match[1]) for match in matches if match)
  for expected, number in enumerate(numbers):
    if number != expected:
      raise errors.DataError(
        f'{files.place(folder)}: expected {file_split}_CoT_{expected}.json,'
        f' found {file_split}_CoT_{number}.json as the next file. Add the'
        ' missing file.'
      )
  if not numbers:
    raise _no_teacher(files, teacher, f'{folder}/{file_split}_CoT_0.json')
  return [f'{folder}/{file_split}_CoT_{number}.json' for number in numbers]


def _no_teacher(
  files: archive.Files, teacher: str, name: str
) -> errors.DataError:
  return errors.DataError(
    f'{files.place(name)}: expected the outputs of the teacher {teacher!r}'
    ' there, found no such file. Add it, or choose a TEACHER whose outputs'
    " there are ('palm' reads llm/, 'gpt_neox' reads ../gpt-neox/, any other"
    ' name its own folder).'
  )


def _no_split(files: archive.Files, name: str, split: str) -> errors.DataError:
  return errors.DataError(
    f'{files.place(name)}: expected the {split} rows there, found no such'
    ' file. Add it.'
  )


def _completions(
  files: archive.Files, names: list[str], rows: int, rows_place: str
) -> list[str]:
  """Reads a teacher's output files and holds them against the rows."""
  lists = []
  for name in names:
    place = files.place(name)
    values = _parse_json(_text(files, name), place)
    if not isinstance(values, list):
      raise errors.DataError(
        f'{place}: expected a JSON list of completions, found a'
        f' {type(values).__name__}. Write the completions as one list.'
      )
    for number, value in enumerate(values):
      if not isinstance(value, str):
        raise errors.DataError(
          f'{place}, entry {number}: expected a text, found'
          f' {json.dumps(value)[:60]}. Correct the entry.'
        )
    lists.append(values)
  total = sum(map(len, lists))
  where = files.place(names[0]) + (
    f' to {names[-1].rpartition("/")[2]}' if len(names) > 1 else ''
  )
  if total != rows:
    raise errors.DataError(
      f'{where}: expected {rows} completions, one a row of {rows_place}, found'
      f' {total}. Get the files that belong together.'
    )
  # A file that lost rows would pair all later ones with wrong completions.
  for name, values in zip(names, lists, strict=True):
    whole = name != names[-1]
    if len(values) > len(lists[0]) or (whole and len(values) < len(lists[0])):
      raise errors.DataError(
        f'{files.place(name)}: expected {len(lists[0])} completions as in'
        f' {names[0].rpartition("/")[2]}, found {len(values)}. Get the file'
        ' again.'
      )
  return list(itertools.chain.from_iterable(lists))


def _read_split(
  files: archive.Files, data_set: str, teacher: str | None, split: str
) -> tuple[tuple[Record, ...], Report]:
  file_split = FILE_SPLITS[split]
  name = f'{data_set}_{file_split}.json'
  rows = _rows(files, data_set, name)
  said = [teacher_lib.Parsed('', '')] * len(rows)
  if teacher is not None:
    outputs = _teacher_files(files, data_set, teacher, file_split)
    said = [
      teacher_lib.parse(data_set, completion)
      for completion in _completions(
        files, outputs, len(rows), files.place(name)
      )
    ]
  records = tuple(
    Record(
      index=index,
      id=f'{split}-{index}' if row.id is None else row.id,
      input=row.input,
      label=row.label,
      rationale=parsed.rationale,
      teacher_label=parsed.label,
    )
    for index, (row, parsed) in enumerate(zip(rows, said, strict=True))
  )
  answers = [parsed.label for parsed in said]
  report = Report(
    rows=len(rows),
    duplicates=len(rows) - len({row.input for row in rows}),
    empty_rationales=sum(not parsed.rationale for parsed in said),
    empty_labels=sum(not answer for answer in answers),
    outside_labels=sum(
      bool(answer) and not row.possible(answer)
      for row, answer in zip(rows, answers, strict=True)
    ),
    teacher_correct=sum(
      is_correct(data_set, answer, row.label)
      for row, answer in zip(rows, answers, strict=True)
    ),
  )
  return records, report


def read(
  data_set: str,
  location: str,
  teacher: str | None = 'palm',
  splits: tuple[str, ...] | None = None,
) -> Release:
  """Reads a data set in the published layout.

  Args:
    data_set: one of `DATA_SETS`.
    location: the folder or `.zip` that holds it, see `archive.open_files`.
    teacher: whose outputs to read: 'palm' (`llm/`), 'gpt_neox'
      (`../gpt-neox/<name>/`) or the name of another folder beside `llm/`. None
      reads no teacher's: rationales and teacher labels are blank.
    splits: which of 'train', 'validation', 'test'. None reads train and test,
      and validation where there is one.

  Returns:
    Records and report of each split.

  Raises:
    DataError: a file is missing or malformed. The message names the file, the
      line, what was expected, what was found and the fix.
  """
  check_data_set(data_set)
  with archive.open_files(location, data_set) as files:
    released = {
      split: files.exists(f'{data_set}_{part}.json')
      for split, part in FILE_SPLITS.items()
    }
    if splits is None:
      splits = tuple(
        split
        for split in FILE_SPLITS
        if released[split] or split != 'validation'
      )
    for split in splits:
      if not released[split]:
        raise _no_split(files, f'{data_set}_{FILE_SPLITS[split]}.json', split)
    read_splits = {
      split: _read_split(files, data_set, teacher, split) for split in splits
    }
  return Release(
    splits={split: pair[0] for split, pair in read_splits.items()},
    reports={split: pair[1] for split, pair in read_splits.items()},
  )


def _names(
  files: archive.Files, data_set: str, teacher: str | None
) -> Iterator[str]:
  """Yields the names of all files that `read` reads."""
  for split, part in FILE_SPLITS.items():
    name = f'{data_set}_{part}.json'
    if files.exists(name):
      yield name
      if teacher is not None:
        yield from _teacher_files(files, data_set, teacher, part)
    elif split != 'validation':
      raise _no_split(files, name, split)


def state(
  data_set: str, location: str, teacher: str | None = 'palm'
) -> tuple[tuple[str, int, int], ...]:
  """Returns what tells cheaply that the files of `fingerprint` changed.

  Args:
    data_set: as in `read`.
    location: as in `read`.
    teacher: as in `read`.

  Raises:
    DataError: a file that `read` needs is missing.
  """
  check_data_set(data_set)
  with archive.open_files(location, data_set) as files:
    return tuple(
      (name, *files.state(name)) for name in _names(files, data_set, teacher)
    )


def fingerprint(
  data_set: str, location: str, teacher: str | None = 'palm'
) -> str:
  """Returns 10 hexadecimal digits that stand for the files' content.

  It is the same for a folder and a zip of it, and does not depend on where
  they lie.

  Args:
    data_set: as in `read`.
    location: as in `read`.
    teacher: as in `read`.

  Raises:
    DataError: a file that `read` needs is missing.
  """
  check_data_set(data_set)
  digest = hashlib.sha256()
  with archive.open_files(location, data_set) as files:
    for name in _names(files, data_set, teacher):
      content = hashlib.sha256(files.read(name)).hexdigest()
      digest.update(f'{name} {content}\n'.encode())
  return digest.hexdigest()[:10]
