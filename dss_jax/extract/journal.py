"""Journal of an extraction: every completion, on disk as it comes.

The journal is a file of JSON lines that only grows. A line is written at once,
in one piece; a process that is killed leaves at most one torn line, which is
skipped when the journal is read again. A line that is not an entry is counted
and never raises: the journal is what was paid for.
"""

import array
import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from dss_jax import errors, neutral
from dss_jax.extract.replies import thoughts
from t5x import files

# Stands in an index for a missing offset.
_MISSING = -1
# Bytes; a longer line is not an entry.
MAX_LINE = 64 * 2**20
# Names of counts that are added up.
_MAX_NAMES = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
  """A completion, or the reason why there is none.

  Attributes:
    split: the row's split.
    index: the row's index in the split.
    id: the row's identifier.
    sample: the number of the row's sample, from 0.
    prompt: the prompt's `prompts.fingerprint`.
    model: the model that was asked.
    parameters: everything else in the request.
    text: the completion as it came; '' if it failed.
    finish: why it ended: 'stop', 'length', …
    usage: the server's counts of tokens.
    error: why there is no completion; '' if there is one.
    time: seconds since 1970.
    thoughts: what the model wrote for itself, where that is kept.
  """

  split: str
  index: int
  id: str
  sample: int
  prompt: int
  model: str
  parameters: Mapping[str, Any]
  text: str = ''
  finish: str = ''
  usage: Mapping[str, int] = dataclasses.field(default_factory=dict)
  error: str = ''
  time: float = 0.0
  thoughts: str = ''

  def line(self) -> bytes:
    """Returns the entry as a line of JSON."""
    fields = {name: getattr(self, name) for name in self.__slots__}
    fields['prompt'] = f'{self.prompt:016x}'
    fields['time'] = round(self.time, 3)
    if not self.thoughts:
      del fields['thoughts']
    return json.dumps(fields).encode() + b'\n'


_FIELD_TYPES = {
  'split': str,
  'index': int,
  'id': str,
  'sample': int,
  'prompt': str,
  'model': str,
  'parameters': dict,
  'text': str,
  'finish': str,
  'usage': dict,
  'error': str,
  'time': int | float,
  'thoughts': str,
}


def parse(line: bytes) -> Entry | None:
  """Reads a line of a journal.

  Args:
    line: any bytes.

  Returns:
    The entry, or None if the line is not one.
  """
  try:
    fields = json.loads(line)
    if not isinstance(fields, dict):
      return None
    fields.setdefault('thoughts', '')
    if fields.keys() != _FIELD_TYPES.keys():
      return None
    for name, kind in _FIELD_TYPES.items():
      value = fields[name]
      if not isinstance(value, kind) or isinstance(value, bool):
        return None
      if isinstance(value, str):
        fields[name] = neutral.unicode(value)
    fields['prompt'] = int(fields['prompt'], 16)
    fits = 0 <= fields['prompt'] < 2**64
    if not fits or min(fields['index'], fields['sample']) < 0:
      return None
    fields['usage'] = _counts(fields['usage'])
    return Entry(**fields)
  except (ValueError, RecursionError):
    return None


def _counts(usage: dict[str, Any]) -> dict[str, int]:
  """Returns the counts among a server's; what is none costs no completion."""
  return {
    neutral.unicode(name): count
    for name, count in usage.items()
    if type(count) is int and 0 <= count <= neutral.MAX_COUNT
  }


def scan(path: pathlib.Path) -> Iterator[tuple[int, Entry | None]]:
  """Yields (offset, entry) of all lines; None for a line that is not an entry.

  Args:
    path: the journal; a missing one has no lines.
  """
  if not path.exists():
    return
  with path.open('rb') as file:
    offset = 0
    while line := file.readline(MAX_LINE):
      yield offset, parse(line)
      offset += len(line)


def read(path: pathlib.Path, offsets: list[int]) -> list[Entry]:
  """Returns the entries at given offsets of a journal.

  Raises:
    DataError: there is no entry at an offset.
  """
  with path.open('rb') as file:
    entries = []
    for offset in offsets:
      file.seek(offset)
      entry = parse(file.readline(MAX_LINE))
      if entry is None:
        raise errors.DataError(
          f'{path}: expected an entry at byte {offset}, found none: the file'
          ' was changed meanwhile. Run the command again.'
        )
      entries.append(entry)
    return entries


class Index:
  """Offsets in the journal of each sample's entry: 16 bytes a sample."""

  def __init__(self, sizes: Mapping[str, int], samples: int):
    """Creates an empty index.

    Args:
      sizes: the number of rows of each split.
      samples: the number of samples of each row.
    """
    self.sizes, self.samples = dict(sizes), samples
    self._completions = self._empty()
    self._failures = self._empty()

  def _empty(self) -> dict[str, array.array]:
    return {
      split: array.array('q', [_MISSING]) * (rows * self.samples)
      for split, rows in self.sizes.items()
    }

  def _position(self, split: str, index: int, sample: int) -> int | None:
    """Returns a sample's position in its split's table, None outside it."""
    inside = index < self.sizes.get(split, 0) and sample < self.samples
    return index * self.samples + sample if inside else None

  def add(self, offset: int, entry: Entry) -> None:
    """Adds an entry; the first completion of a sample is the accepted one.

    Args:
      offset: where the entry begins.
      entry: a completion or a failure.
    """
    at = self._position(entry.split, entry.index, entry.sample)
    if at is not None and self._completions[entry.split][at] == _MISSING:
      table = self._failures if entry.error else self._completions
      table[entry.split][at] = offset

  def done(self, split: str, index: int, sample: int) -> bool:
    """Returns whether a sample has a completion."""
    return self._completions[split][index * self.samples + sample] != _MISSING

  def count(self, rows: Mapping[str, int]) -> int:
    """Returns how many samples have a completion.

    Args:
      rows: how many rows of each split to count, from the first.
    """
    parts = (self._completions[s][: n * self.samples] for s, n in rows.items())
    return sum(len(part) - part.count(_MISSING) for part in parts)

  def completions(self, split: str, index: int) -> list[int]:
    """Returns the offsets of a row's completions."""
    begin = index * self.samples
    part = self._completions[split][begin : begin + self.samples]
    return [offset for offset in part if offset != _MISSING]

  def failures(self, split: str, index: int) -> list[int]:
    """Returns the offsets of the failures of samples without a completion."""
    begin = index * self.samples
    part = slice(begin, begin + self.samples)
    return [
      failure
      for failure, completion in zip(
        self._failures[split][part], self._completions[split][part], strict=True
      )
      if failure != _MISSING and completion == _MISSING
    ]


@dataclasses.dataclass
class JournalContents:
  """Contents of a journal.

  Attributes:
    index: where the entries are that were asked as they would be now.
    differences: the number of entries asked differently, by what differs and
      what it was: `{('model', 'a'): 3}`.
    unreadable: the number of lines that are not entries.
    usage: tokens by the server's names for them, over all completions.
    completions: the number of completions.
    begun_inside: the number of completions that begin inside thoughts and
      leave them.
    begun_outside: the number of whole completions without a tag of thoughts.
  """

  index: Index
  differences: dict[tuple[str, str], int] = dataclasses.field(
    default_factory=dict
  )
  unreadable: int = 0
  usage: dict[str, int] = dataclasses.field(default_factory=dict)
  completions: int = 0
  begun_inside: int = 0
  begun_outside: int = 0

  @property
  def opened(self) -> bool:
    """Whether the model's template opens thoughts before every reply."""
    return self.begun_inside > self.begun_outside

  def add(self, offset: int, entry: Entry) -> None:
    """Adds an entry to the index and the counts."""
    self.index.add(offset, entry)
    if not entry.error:
      self.completions += 1
      if thoughts.begins_inside(entry.text):
        self.begun_inside += 1
      elif not (thoughts.is_cut(entry.finish) or thoughts.has_tag(entry.text)):
        self.begun_outside += 1
    self.add_usage(entry)

  def add_usage(self, entry: Entry) -> None:
    """Adds the tokens of an entry that counts for nothing else."""
    for name, count in entry.usage.items():
      if name in self.usage or len(self.usage) < _MAX_NAMES:
        self.usage[name] = self.usage.get(name, 0) + count


def contents(
  path: pathlib.Path,
  index: Index,
  model: str,
  parameters: Mapping[str, Any],
  prompt: Callable[[str, int], int | None],
) -> JournalContents:
  """Reads a journal, and tells entries apart that were asked differently.

  Args:
    path: the journal.
    index: an empty one, to be filled.
    model: the model to ask now.
    parameters: the parameters of requests now.
    prompt: returns the fingerprint of a row's prompt now, None without such a
      row.
  """
  result = JournalContents(index)
  for offset, entry in scan(path):
    if entry is None:
      result.unreadable += 1
      continue
    differences = [('model', entry.model)] if entry.model != model else []
    for name in sorted({*parameters, *entry.parameters}):
      value = entry.parameters.get(name)
      if value != parameters.get(name):
        differences.append((name, _shown(value)))
    fingerprint = prompt(entry.split, entry.index)
    if fingerprint not in (None, entry.prompt) and not entry.error:
      differences.append(('prompt', 'another'))
    if differences and entry.error:
      # It is in no result, and what it was asked with may have caused it.
      result.add_usage(entry)
      continue
    for difference in differences:
      count = result.differences.get(difference, 0)
      result.differences[difference] = count + 1
    if not differences:
      result.add(offset, entry)
  return result


def _shown(value: Any) -> str:
  try:
    return json.dumps(value)
  except RecursionError:
    return 'a value nested too deep'


class Journal:
  """Journal that is open for writing, by one process at a time."""

  def __init__(self, path: pathlib.Path):
    """Opens the journal; creates it if it is missing.

    Args:
      path: of the file.

    Raises:
      UserError: another process writes in its folder.
    """
    folder = os.fspath(path.parent)
    with files.naming_path_in_errors(folder, name='DSS_TEACHERS'):
      path.parent.mkdir(parents=True, exist_ok=True)
      self._held = contextlib.ExitStack()
      self._held.enter_context(files.folder_lock.writing(folder))
      flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
      self._file = os.open(path, flags, 0o644)
      self._held.callback(os.close, self._file)
    self._end = os.fstat(self._file).st_size
    if self._end and os.pread(self._file, 1, self._end - 1) != b'\n':
      self._write(b'\n')  # Ends a line that was torn by a kill.

  def _write(self, data: bytes) -> None:
    while data:
      written = os.write(self._file, data)
      self._end += written
      data = data[written:]

  def append(self, entry: Entry) -> int:
    """Writes an entry and returns its offset."""
    offset = self._end
    if not entry.time:
      entry = dataclasses.replace(entry, time=time.time())
    self._write(entry.line())
    return offset

  def sync(self) -> None:
    """Makes sure that what was written survives a power cut."""
    os.fsync(self._file)

  def close(self) -> None:
    """Closes the file, and lets other processes write in its folder."""
    with self._held:
      os.fsync(self._file)

  def __enter__(self) -> Self:
    """Returns the journal."""
    return self

  def __exit__(self, *unused: object) -> None:
    """Closes the journal."""
    self.close()


def set_aside(path: pathlib.Path) -> pathlib.Path | None:
  """Renames a journal to make room for a new one.

  Args:
    path: the journal.

  Returns:
    Its new path, or None if there is no journal.
  """
  if not path.exists():
    return None
  number = 1
  while (aside := path.with_name(f'{path.stem}.{number}.jsonl')).exists():
    number += 1
  path.rename(aside)
  return aside
