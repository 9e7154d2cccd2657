"""Reader of data sets in the published layout, and a report on their rows.

`<name>_<split>.json` holds one JSON object per line, and the files of
`teacher_outputs` what a teacher said about each.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence

from dss_jax import errors
from dss_jax.data import (
  archive,
  columns,
  completions,
  equations,
  row_formats,
  teacher_outputs,
  text_files,
)
from dss_jax.data import places as places_lib

# Splits by the names that their files have.
FILE_SPLITS = {'train': 'train', 'validation': 'valid', 'test': 'test'}
DATA_SETS = tuple(row_formats.READERS)
# Labels that are equations are compared by their value.
EQUATION_SETS = ('asdiv', 'svamp')
NLI_SETS = ('anli1', 'esnli')
# The files that make up a split, by data set, if it is not the set's own file:
# ASDiv has train rows only, which are used on top of SVAMP's.
_PARTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
  'asdiv': {'train': ('svamp', 'asdiv'), 'validation': (), 'test': ('svamp',)}
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
    more: rationales of further kinds, '' where there is none.
  """

  index: int
  id: str
  input: str
  label: str
  rationale: str = ''
  teacher_label: str = ''
  # Names that were made of rows before there were kinds stay as they are.
  more: tuple[str, ...] = dataclasses.field(default=(), repr=False)

  def column(self, name: str) -> str:
    """Returns the text of a column.

    Args:
      name: in `columns.NAMES`, or 'rationale2', ….
    """
    number = columns.number_of(name)
    if number is None or number == 1:
      return getattr(self, name)
    return self.more[number - 2]

  def columns(self) -> dict[str, str]:
    """Returns the texts of all columns by their names."""
    further = range(2, 2 + len(self.more))
    names = (*columns.NAMES, *map(columns.rationale, further))
    return {name: self.column(name) for name in names}


@dataclasses.dataclass(frozen=True)
class Report:
  """Numbers of rows in a split.

  Attributes:
    rows: all of them.
    duplicates: those with the input of an earlier row.
    empty_rationales: those without a rationale.
    empty_labels: those without a teacher label.
    outside_labels: those whose teacher label is no possible answer: none of the
      choices, no equation with a value, no entailment class.
    teacher_correct: those whose teacher label is the gold label (for equations:
      has its value).
    empty_more: those without a rationale, for each further kind.
  """

  rows: int
  duplicates: int
  empty_rationales: int
  empty_labels: int
  outside_labels: int
  teacher_correct: int
  empty_more: Sequence[int] = ()

  @property
  def without_rationale(self) -> tuple[int, ...]:
    """Rows without a rationale, for each kind."""
    return (self.empty_rationales, *self.empty_more)

  @property
  def teacher_accuracy(self) -> float:
    """The fraction of all rows that the teacher answered correctly."""
    return self.teacher_correct / self.rows if self.rows else 0.0


@dataclasses.dataclass(frozen=True)
class Release:
  """The records of a data set.

  Attributes:
    splits: the records of each split.
    reports: their numbers.
    places: file and line (Parquet: row) of each record.
  """

  splits: Mapping[str, tuple[Record, ...]]
  reports: Mapping[str, Report]
  places: Mapping[str, places_lib.Places] = dataclasses.field(compare=False)


def check_data_set(data_set: str, known: tuple[str, ...] = DATA_SETS) -> None:
  """Raises a DataError unless there is such a data set."""
  if data_set not in known:
    raise errors.DataError(
      f'There is no data set {data_set!r}: expected one of'
      f' {", ".join(known)}.{errors.did_you_mean(data_set, known)}'
    )


def _rows(
  files: archive.Files, data_set: str, name: str
) -> list[row_formats.Fields]:
  """Reads a file with one JSON object per line."""
  # Only '\n' ends a line: JSON text may hold other separators unescaped.
  lines = files.text(name).rstrip().split('\n')
  reader, rows = row_formats.READERS[data_set], []
  for number, line in enumerate(lines, 1):
    place = files.place(name)
    row = text_files.json_object(line.strip(), place, number)
    try:
      rows.append(reader(row))
    except row_formats.RowError as error:
      raise errors.DataError(f'{place}, line {number}: {error}') from None
  return rows


def _no_split(files: archive.Files, name: str, split: str) -> errors.DataError:
  return errors.DataError(
    f'{files.place(name)}: expected the {split} rows there, found no such'
    " file. Add it from the published archive, or give DATA = 'release', which"
    ' fetches that.'
  )


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
  """Returns whether a split was released; all but validation must be."""
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
  name = f'{part}_{FILE_SPLITS[split]}.json'
  rows = _rows(files, part, name)
  if teacher is None:
    return [(row, completions.Parsed('', '')) for row in rows]
  where, outputs = teacher_outputs.find(
    files, part, teacher, FILE_SPLITS[split]
  )
  if where is not files:
    teacher_outputs.check_rows(where, files, name, teacher)
  texts = teacher_outputs.read(where, outputs, len(rows), files.place(name))
  parsed = teacher_outputs.parse(where, outputs, texts, part, teacher)
  return list(zip(rows, parsed, strict=True))


def _read_split(
  files: Mapping[str, archive.Files],
  data_set: str,
  teacher: str | None,
  split: str,
) -> tuple[tuple[Record, ...], Report, places_lib.Places]:
  records: list[Record] = []
  places = places_lib.Places()
  outside = 0
  for number, part in enumerate(_part_names(data_set, split)):
    where = files[part].place(f'{part}_{FILE_SPLITS[split]}.json')
    prefix = f'{part}-{split}-' if number else f'{split}-'
    pairs = _read_part(files[part], part, teacher, split)
    for i, (row, parsed) in enumerate(pairs):
      records.append(
        Record(
          index=len(records),
          id=f'{prefix}{i}' if row.id is None else row.id,
          input=row.input,
          label=row.label,
          rationale=parsed.rationale,
          teacher_label=parsed.label,
        )
      )
      places.add(where, 'line', i + 1)
      outside += bool(parsed.label) and not row.possible(parsed.label)
  rows = tuple(records)
  report = report_on(rows, data_set in EQUATION_SETS, outside)
  return rows, report, places


def report_on(
  rows: tuple[Record, ...], by_value: bool, outside_labels: int = 0
) -> Report:
  """Counts the rows of a split, and what they lack.

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
    empty_more=tuple(
      sum(not text for text in texts)
      for texts in zip(*(row.more for row in rows), strict=True)
    ),
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
    teacher: whose outputs to read, see `teacher_outputs.find`. None reads no
      teacher's: rationales and teacher labels are blank.
    splits: which of 'train', 'validation', 'test'. None reads train and test,
      and validation if it was released.

  Returns:
    Records and report of each split.

  Raises:
    DataError: a file is missing or malformed. The message names the file, the
      line, what was expected, what was found and the fix.
  """
  check_data_set(data_set)
  with _open_parts(data_set, location) as files:
    if splits is None:
      splits = tuple(s for s in FILE_SPLITS if _has_split(files, data_set, s))
    for split in splits:
      if not _has_split(files, data_set, split):
        name = f'{data_set}_{FILE_SPLITS[split]}.json'
        raise _no_split(files[data_set], name, split)
    read_splits = {s: _read_split(files, data_set, teacher, s) for s in splits}
  return Release(
    splits={s: rows for s, (rows, _, _) in read_splits.items()},
    reports={s: report for s, (_, report, _) in read_splits.items()},
    places={s: places for s, (_, _, places) in read_splits.items()},
  )


def _files_read(
  files: Mapping[str, archive.Files], data_set: str, teacher: str | None
) -> Iterator[tuple[archive.Files, str]]:
  """Yields (where, name) of all files that `read` reads."""
  for split, file_split in FILE_SPLITS.items():
    if _has_split(files, data_set, split):
      for part in _part_names(data_set, split):
        yield files[part], f'{part}_{file_split}.json'
        if teacher is not None:
          where, names = teacher_outputs.find(
            files[part], part, teacher, file_split
          )
          yield from ((where, name) for name in names)
          for name in teacher_outputs.readings(where, names):
            yield where, name


def state(
  data_set: str, location: str, teacher: str | None = 'palm'
) -> tuple[tuple[str, int, int], ...]:
  """Returns sizes and times of the files, a cheap key for `fingerprint`.

  Args:
    data_set: this, `location` and `teacher` are as in `read`.
    location: the folder or `.zip`.
    teacher: whose outputs.

  Raises:
    DataError: a file that `read` needs is missing.
  """
  check_data_set(data_set)
  with _open_parts(data_set, location) as parts:
    read_files = _files_read(parts, data_set, teacher)
    return tuple((name, *files.state(name)) for files, name in read_files)


def fingerprint(
  data_set: str, location: str, teacher: str | None = 'palm'
) -> str:
  """Returns 10 hexadecimal digits that stand for the content of the files.

  They are the same for a folder and a zip of it, wherever it is. Arguments and
  errors are those of `state`.
  """
  check_data_set(data_set)
  digest = hashlib.sha256()
  with _open_parts(data_set, location) as parts:
    for files, name in _files_read(parts, data_set, teacher):
      content = hashlib.sha256(files.read(name)).hexdigest()
      digest.update(f'{name} {content}\n'.encode())
  return digest.hexdigest()[:10]
