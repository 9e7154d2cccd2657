"""A teacher's outputs: the files that hold them, and their completions.

They are JSON lists of raw completions, cut into files of equal length (the last
may be shorter), in the order of the rows. Those of the release are beside the
rows; those that `dss extract` collected are in a folder of their own:

    runs/teachers/<teacher>/<data set>/
      cqa_train.json, …            the rows that were asked about
      <teacher>/train_CoT_0.json   what the teacher said, as published
      <teacher>/train_read_0.json  rationale and label of each, as extraction
                                   read them
      rows/train.jsonl             the same as rows of the user's own
      journal.jsonl, report.json, …

So `runs/teachers/<teacher>` is a folder in the published layout, to which DATA
may point. With the rows' own DATA, the name as TEACHER is enough in the folder
in which the extraction was started. The environment variable DSS_TEACHERS
replaces `runs/teachers`, with a remote folder too if it is only read.

Extraction knows how a reply was asked for, and reads more than the published
rule does. So its readings are used, each for the completion that it was made
from; other completions are parsed by the rule.
"""

import hashlib
import itertools
import json
import os
import re

from etils import epath

from dss_jax import errors
from dss_jax.data import archive, completions, text_files

VARIABLE = 'DSS_TEACHERS'
DEFAULT = 'runs/teachers'


def root() -> epath.Path:
  """Returns the folder of all extractions."""
  return epath.Path(os.environ.get(VARIABLE) or DEFAULT).expanduser()


def folder(teacher: str, data_set: str) -> epath.Path:
  """Returns the folder of one extraction."""
  return root() / teacher / data_set


def find(
  rows: archive.Files, data_set: str, teacher: str, file_split: str
) -> tuple[archive.Files, list[str]]:
  """Returns the files with a teacher's outputs for a split, in order.

  Args:
    rows: the files of the data set.
    data_set: its name.
    teacher: 'palm' (`llm/`), 'gpt_neox' (`../gpt-neox/<data set>/`), or the
      name of another folder beside `llm/` or else of an extraction.
    file_split: the split's name in file names.

  Returns:
    `rows` or the files of an extraction, and the names in them.

  Raises:
    DataError: there are none, or one is missing between others.
  """
  if teacher == 'gpt_neox':
    name = f'../gpt-neox/{data_set}/{file_split}.json'
    if rows.exists(name):
      return rows, [name]
  else:
    inner = 'llm' if teacher == 'palm' else teacher
    for files in (rows, archive.Files(root() / teacher, f'{data_set}/')):
      if names := _numbered(files, inner, file_split):
        return files, names
    name = f'{inner}/{file_split}_CoT_0.json'
  raise errors.DataError(
    f'{rows.place(name)}: expected the outputs of the teacher {teacher!r}'
    ' there, found no such file. Add it, or choose a TEACHER whose outputs'
    " there are ('palm' reads llm/, 'gpt_neox' reads ../gpt-neox/, any other"
    ' name its own folder, there or from `dss extract` in'
    f' {folder(teacher, data_set)}).'
  )


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


def read(
  files: archive.Files, names: list[str], rows: int, rows_place: str
) -> list[str]:
  """Reads a teacher's completions.

  Args:
    files: from `find`.
    names: from `find`.
    rows: how many rows the split has.
    rows_place: the path of their file, for messages.

  Returns:
    One completion for each row.

  Raises:
    DataError: a file is malformed, or has another number of completions.
  """
  lists = []
  for name in names:
    place = files.place(name)
    values = text_files.parse_json(files.text(name), place)
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
  if total != rows:
    last = f' to {names[-1].rpartition("/")[2]}' if len(names) > 1 else ''
    raise errors.DataError(
      f'{files.place(names[0])}{last}: expected {rows} completions, one per row'
      f' of {rows_place}, found {total}. Get the files that belong together.'
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


def digest(text: str) -> str:
  """Returns what a reading keeps of the completion that it was made from."""
  data = text.encode('utf-8', 'surrogatepass')
  return hashlib.sha256(data).hexdigest()[:16]


def reading(text: str, parsed: completions.Parsed) -> dict[str, str]:
  """Returns what extraction keeps of how it read a completion."""
  return {
    'rationale': parsed.rationale,
    'label': parsed.label,
    'completion': digest(text),
  }


def reading_name(name: str) -> str:
  """Returns the file with the readings of a file of completions."""
  folder, slash, file = name.rpartition('/')
  return f'{folder}{slash}{file.replace("_CoT_", "_read_")}'


def readings(files: archive.Files, names: list[str]) -> list[str]:
  """Returns the files with readings that are beside files of completions.

  Args:
    files: from `find`.
    names: from `find`.
  """
  found = (reading_name(name) for name in names if '_CoT_' in name)
  return [name for name in found if files.exists(name)]


def parse(
  files: archive.Files,
  names: list[str],
  texts: list[str],
  data_set: str,
  teacher: str,
) -> list[completions.Parsed]:
  """Returns rationale and label of each completion.

  Args:
    files: from `find`.
    names: from `find`.
    texts: from `read`.
    data_set: the data set whose rule parses completions without a reading.
    teacher: whose they are: 'gpt_neox' has rules of its own.

  Raises:
    DataError: a file of readings is malformed.
  """
  known = {}
  for name in readings(files, names):
    place = files.place(name)
    values = text_files.parse_json(files.text(name), place)
    for number, value in enumerate(
      values if isinstance(values, list) else [values]
    ):
      fields = value if isinstance(value, dict) else {}
      parts = [
        part
        for key in ('completion', 'rationale', 'label')
        if isinstance(part := fields.get(key), str)
      ]
      if len(parts) != 3:
        raise errors.DataError(
          f'{place}, entry {number}: expected rationale, label and completion'
          f' as texts, found {json.dumps(value)[:60]}. Run `dss extract` again,'
          ' which writes the file, or remove it.'
        )
      known[parts[0]] = completions.Parsed(parts[1], parts[2])
  return [
    known[key]
    if known and (key := digest(text)) in known
    else completions.parse(data_set, text, teacher)
    for text in texts
  ]


def check_rows(
  extracted: archive.Files, rows: archive.Files, name: str, teacher: str
) -> None:
  """Checks that an extraction was made for these rows.

  Args:
    extracted: its files.
    rows: the files with the rows to be paired with its outputs.
    name: of the file with the rows.
    teacher: the extraction's name.

  Raises:
    DataError: it was made for others.
  """
  if not extracted.exists(name) or extracted.read(name) != rows.read(name):
    raise errors.DataError(
      f'TEACHER is {teacher!r}, but {extracted.place(name)} does not hold the'
      f' rows of {rows.place(name)}: expected an extraction for these rows.'
      ' Give the DATA that it was made for, or extract again under another'
      ' name.'
    )
