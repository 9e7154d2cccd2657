"""Reads a data set in the published layout into records, and reports on it.

`<name>_<split>.json` holds a JSON object a line. A teacher's outputs lie beside
it as JSON lists of raw completions, cut into files of equal length (the last
may be shorter), in the order of the rows.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dss_jax import errors
from dss_jax.data import (
  archive,
  completions,
  equations,
  row_formats,
  teacher_outputs,
)

# Splits by the names that their files have.
FILE_SPLITS = {'train': 'train', 'validation': 'valid', 'test': 'test'}
DATA_SETS = tuple(row_formats.READERS)
# Labels that are equations are compared by their value.
EQUATION_SETS = ('asdiv', 'svamp')
NLI_SETS = ('anli1', 'esnli')
# Whose files make up a split, where it is not the data set's own alone: ASDiv
# has train rows only, which are used on top of SVAMP's.
_PARTS = {
  'asdiv': {
    'train': ('svamp', 'asdiv'),
    'validation': (),
    'test': ('svamp',),
  }
}


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
  """What was read of a data set.

  Attributes:
    splits: the records of each split.
    reports: what is in it.
    places: file and line (Parquet: row) of each record.
  """

  splits: Mapping[str, tuple[Record, ...]]
  reports: Mapping[str, Report]
  places: Mapping[str, tuple[str, ...]] = dataclasses.field(compare=False)


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


def _rows(
  files: archive.Files, data_set: str, name: str
) -> list[row_formats.Fields]:
  """Reads a file with a JSON object a line."""
  # Only '\n' ends a line: JSON text may hold other separators unescaped.
  lines = _text(files, name).rstrip().split('\n')
  reader, rows = row_formats.READERS[data_set], []
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
    except row_formats.RowError as error:
      raise errors.DataError(f'{place}, line {number}: {error}') from None
  return rows


def _teacher_files(
  files: archive.Files, data_set: str, teacher: str, file_split: str
) -> tuple[archive.Files, list[str]]:
  """Returns a teacher's output files for a split, in order.

  Args:
    files: where the rows are.
    data_set: the name of their folder.
    teacher: whose outputs.
    file_split: as files call the split.

  Returns:
    Where the files are, and their names there: beside the rows or else, for a
    teacher of the user's own, where `dss extract` put them.
  """
  if teacher == 'gpt_neox':
    name = f'../gpt-neox/{data_set}/{file_split}.json'
    if files.exists(name):
      return files, [name]
    raise _no_teacher(files, data_set, teacher, name)
  folder = 'llm' if teacher == 'palm' else teacher
  for where in (files, teacher_outputs.files(teacher, data_set)):
    names = _numbered(where, folder, file_split)
    if names:
      return where, names
  name = f'{folder}/{file_split}_CoT_0.json'
  raise _no_teacher(files, data_set, teacher, name)


def _numbered(files: archive.Files, folder: str, file_split: str) -> list[str]:
  """Returns the numbered files of a split in a folder, [] without any."""
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
  return [f'{folder}/{file_split}_CoT_{number}.json' for number in numbers]


def _no_teacher(
  files: archive.Files, data_set: str, teacher: str, name: str
) -> errors.DataError:
  return errors.DataError(
    f'{files.place(name)}: expected the outputs of the teacher {teacher!r}'
    ' there, found no such file. Add it, or choose a TEACHER whose outputs'
    " there are ('palm' reads llm/, 'gpt_neox' reads ../gpt-neox/, any other"
    ' name its own folder, there or from `dss extract` in'
    f' {teacher_outputs.folder(teacher, data_set)}).'
  )


def _no_split(files: archive.Files, name: str, split: str) -> errors.DataError:
  return errors.DataError(
    f'{files.place(name)}: expected the {split} rows there, found no such'
    " file. Add it from the published archive, or give DATA = 'release', which"
    ' fetches that.'
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


def _part_names(data_set: str, split: str) -> tuple[str, ...]:
  return _PARTS.get(data_set, {}).get(split, (data_set,))


@contextlib.contextmanager
def _open_parts(
  data_set: str, location: str
) -> Iterator[dict[str, archive.Files]]:
  """Opens the files of every data set that makes up this one."""
  names = dict.fromkeys(
    part for split in FILE_SPLITS for part in _part_names(data_set, split)
  )
  with contextlib.ExitStack() as stack:
    yield {
      name: stack.enter_context(archive.open_files(location, name))
      for name in names
    }


def _has_split(
  files: Mapping[str, archive.Files], data_set: str, split: str
) -> bool:
  """Says whether a split was released; for all but validation it must be."""
  parts = _part_names(data_set, split)
  for part in parts:
    name = f'{part}_{FILE_SPLITS[split]}.json'
    if not files[part].exists(name):
      if split == 'validation':
        return False
      raise _no_split(files[part], name, split)
  return bool(parts)


def _read_part(
  files: archive.Files, part: str, teacher: str | None, split: str
) -> list[tuple[row_formats.Fields, completions.Parsed]]:
  """Reads the rows of one file, and what the teacher said about each."""
  file_split = FILE_SPLITS[split]
  name = f'{part}_{file_split}.json'
  rows = _rows(files, part, name)
  said = [completions.Parsed('', '')] * len(rows)
  if teacher is not None:
    where, outputs = _teacher_files(files, part, teacher, file_split)
    if where is not files:
      teacher_outputs.check_rows(where, files, name, teacher)
    said = [
      completions.parse(part, completion)
      for completion in _completions(
        where, outputs, len(rows), files.place(name)
      )
    ]
  return list(zip(rows, said, strict=True))


def _read_split(
  files: Mapping[str, archive.Files],
  data_set: str,
  teacher: str | None,
  split: str,
) -> tuple[tuple[Record, ...], Report, tuple[str, ...]]:
  pairs, ids, places = [], [], []
  for part in _part_names(data_set, split):
    read_part = _read_part(files[part], part, teacher, split)
    pairs.extend(read_part)
    where = files[part].place(f'{part}_{FILE_SPLITS[split]}.json')
    places.extend(f'{where}, line {i + 1}' for i in range(len(read_part)))
    begin = (
      f'{split}-'
      if part == _part_names(data_set, split)[0]
      else (f'{part}-{split}-')
    )
    ids.extend(
      f'{begin}{i}' if row.id is None else row.id
      for i, (row, _) in enumerate(read_part)
    )
  records = tuple(
    Record(
      index=index,
      id=name,
      input=row.input,
      label=row.label,
      rationale=parsed.rationale,
      teacher_label=parsed.label,
    )
    for index, (name, (row, parsed)) in enumerate(zip(ids, pairs, strict=True))
  )
  outside = sum(
    bool(parsed.label) and not row.possible(parsed.label)
    for row, parsed in pairs
  )
  report = report_on(records, data_set in EQUATION_SETS, outside)
  return records, report, tuple(places)


def report_on(
  rows: tuple[Record, ...], by_value: bool, outside_labels: int = 0
) -> Report:
  """Counts what is in the rows of a split.

  Args:
    rows: its records.
    by_value: whether labels are equations, compared by their value.
    outside_labels: see `Report`.
  """
  same = equations.same_value if by_value else str.__eq__
  return Report(
    rows=len(rows),
    duplicates=len(rows) - len({row.input for row in rows}),
    empty_rationales=sum(not row.rationale for row in rows),
    empty_labels=sum(not row.teacher_label for row in rows),
    outside_labels=outside_labels,
    teacher_correct=sum(same(row.teacher_label, row.label) for row in rows),
  )


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
      (`../gpt-neox/<name>/`), the name of another folder beside `llm/`, or of
      an extraction (`teacher_outputs`). None reads no teacher's: rationales and
      teacher labels are blank.
    splits: which of 'train', 'validation', 'test'. None reads train and test,
      and validation where there is one.

  Returns:
    Records and report of each split.

  Raises:
    DataError: a file is missing or malformed. The message names the file, the
      line, what was expected, what was found and the fix.
  """
  check_data_set(data_set)
  with _open_parts(data_set, location) as files:
    if splits is None:
      splits = tuple(
        split for split in FILE_SPLITS if _has_split(files, data_set, split)
      )
    for split in splits:
      if not _has_split(files, data_set, split):
        name = f'{data_set}_{FILE_SPLITS[split]}.json'
        raise _no_split(files[data_set], name, split)
    read_splits = {
      split: _read_split(files, data_set, teacher, split) for split in splits
    }
  return Release(
    splits={split: found[0] for split, found in read_splits.items()},
    reports={split: found[1] for split, found in read_splits.items()},
    places={split: found[2] for split, found in read_splits.items()},
  )


def _names(
  files: Mapping[str, archive.Files], data_set: str, teacher: str | None
) -> Iterator[tuple[archive.Files, str]]:
  """Yields (where, name) of all files that `read` reads."""
  for split, file_split in FILE_SPLITS.items():
    if _has_split(files, data_set, split):
      for part in _part_names(data_set, split):
        yield files[part], f'{part}_{file_split}.json'
        if teacher is not None:
          where, names = _teacher_files(files[part], part, teacher, file_split)
          yield from ((where, name) for name in names)


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
  with _open_parts(data_set, location) as files:
    return tuple(
      (name, *where.state(name))
      for where, name in _names(files, data_set, teacher)
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
  with _open_parts(data_set, location) as files:
    for where, name in _names(files, data_set, teacher):
      content = hashlib.sha256(where.read(name)).hexdigest()
      digest.update(f'{name} {content}\n'.encode())
  return digest.hexdigest()[:10]
