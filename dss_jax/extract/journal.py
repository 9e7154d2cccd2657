"""Every completion on disk as it comes, and what is there already.

The journal is a file of JSON lines that only grows. A line is written at once,
in one piece; a process that is killed leaves at most one torn line, which is
skipped when the journal is read again. What cannot be read as an entry is
counted and never raises: the journal is what was paid for.
"""

import array
import dataclasses
import fcntl
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from dss_jax import errors

_NONE = -1
# A line that is longer is no entry of ours.
MAX_LINE = 64 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
  """A completion, or why there is none.

  Attributes:
    split: of the row.
    index: its place there.
    id: its identifier.
    sample: which of its samples, from 0.
    prompt: `prompts.fingerprint` of what was asked.
    model: that was asked for.
    parameters: everything else that the request said.
    text: the completion as it came; '' where it failed.
    finish: why it ended: 'stop', 'length', …
    usage: the server's counts of tokens.
    error: why there is no completion; '' where there is one.
    time: when, in seconds since 1970.
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

  def line(self) -> bytes:
    """Returns the entry as a line of JSON."""
    fields = {name: getattr(self, name) for name in self.__slots__}
    fields['prompt'] = f'{self.prompt:016x}'
    fields['time'] = round(self.time, 3)
    return json.dumps(fields).encode() + b'\n'


_KINDS = {
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
}


def parse(line: bytes) -> Entry | None:
  """Reads a line of a journal.

  Args:
    line: any bytes.

  Returns:
    The entry, or None where the line is none.
  """
  try:
    found = json.loads(line)
    if not isinstance(found, dict) or found.keys() != _KINDS.keys():
      return None
    for name, kind in _KINDS.items():
      value = found[name]
      if not isinstance(value, kind) or isinstance(value, bool):
        return None
    found['prompt'] = int(found['prompt'], 16)
    usage = found['usage'].values()
    whole = all(isinstance(count, int) and count >= 0 for count in usage)
    fits = 0 <= found['prompt'] < 2**64
    if not (whole and fits) or min(found['index'], found['sample']) < 0:
      return None
    return Entry(**found)
  except (ValueError, RecursionError):
    return None


def scan(path: pathlib.Path) -> Iterator[tuple[int, Entry | None]]:
  """Yields (offset, entry) of all lines; None for what is no entry.

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
  """Returns the entries that begin at given places of a journal."""
  with path.open('rb') as file:
    found = []
    for offset in offsets:
      file.seek(offset)
      entry = parse(file.readline(MAX_LINE))
      if entry is None:
        raise errors.DataError(
          f'{path}: expected an entry at byte {offset}, found none: the file'
          ' was changed meanwhile. Run the command again.'
        )
      found.append(entry)
    return found


class Index:
  """Where in the journal each sample's completion is; eight bytes for each."""

  def __init__(self, sizes: Mapping[str, int], samples: int):
    """Makes an index of nothing.

    Args:
      sizes: number of rows of each split.
      samples: how many there are to be of each.
    """
    self.sizes, self.samples = dict(sizes), samples
    self._done = self._empty()
    self._failed = self._empty()

  def _empty(self) -> dict[str, array.array]:
    return {
      split: array.array('q', [_NONE]) * (rows * self.samples)
      for split, rows in self.sizes.items()
    }

  def _place(self, split: str, index: int, sample: int) -> int | None:
    inside = index < self.sizes.get(split, 0) and sample < self.samples
    return index * self.samples + sample if inside else None

  def add(self, offset: int, entry: Entry) -> bool:
    """Notes an entry; the first completion of a sample is the accepted one.

    Args:
      offset: where it is.
      entry: a completion or a failure.

    Returns:
      Whether it is now what stands for its sample.
    """
    place = self._place(entry.split, entry.index, entry.sample)
    if place is None or self._done[entry.split][place] != _NONE:
      return False
    (self._failed if entry.error else self._done)[entry.split][place] = offset
    return True

  def done(self, split: str, index: int, sample: int) -> bool:
    """Says whether there is a completion."""
    return self._done[split][index * self.samples + sample] != _NONE

  def count(self, rows: Mapping[str, int]) -> int:
    """Returns how many samples have a completion.

    Args:
      rows: how many rows of each split to look at.
    """
    parts = (self._done[s][: n * self.samples] for s, n in rows.items())
    return sum(len(part) - part.count(_NONE) for part in parts)

  def completions(self, split: str, index: int) -> list[int]:
    """Returns where a row's completions are."""
    return self._offsets(self._done, split, index)

  def failures(self, split: str, index: int) -> list[int]:
    """Returns where the failures of a row's open samples are."""
    begin = index * self.samples
    return [
      offset
      for place, offset in enumerate(
        self._failed[split][begin : begin + self.samples], begin
      )
      if offset != _NONE and self._done[split][place] == _NONE
    ]

  def _offsets(
    self, table: Mapping[str, array.array], split: str, index: int
  ) -> list[int]:
    begin = index * self.samples
    part = table[split][begin : begin + self.samples]
    return [offset for offset in part if offset != _NONE]


@dataclasses.dataclass
class JournalContents:
  """What a journal holds.

  Attributes:
    index: where the completions are.
    changed: what was asked otherwise, and how, with a count: ('model', 'a').
    unreadable: lines that are no entries.
    usage: tokens by the server's names for them, over all completions.
    asked: number of completions.
  """

  index: Index
  changed: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
  unreadable: int = 0
  usage: dict[str, int] = dataclasses.field(default_factory=dict)
  asked: int = 0

  def note(self, offset: int, entry: Entry) -> None:
    """Counts an entry."""
    self.index.add(offset, entry)
    if not entry.error:
      self.asked += 1
    for name, count in entry.usage.items():
      self.usage[name] = self.usage.get(name, 0) + count


def contents(
  path: pathlib.Path,
  index: Index,
  model: str,
  parameters: Mapping[str, Any],
  prompt: Callable[[str, int], int | None],
) -> JournalContents:
  """Reads what a journal holds for a request.

  Args:
    path: the journal.
    index: an empty one.
    model: that is asked for now.
    parameters: of the requests now.
    prompt: returns the fingerprint of what would be asked of a row now, None
      without such a row.

  Returns:
    The index of entries that were asked just so, and what was asked otherwise.
  """
  result = JournalContents(index)
  for offset, entry in scan(path):
    if entry is None:
      result.unreadable += 1
      continue
    now = prompt(entry.split, entry.index)
    differs = [('model', entry.model)] * (entry.model != model)
    for name in sorted({*parameters, *entry.parameters}):
      value = entry.parameters.get(name)
      if value != parameters.get(name):
        differs.append((name, json.dumps(value)))
    if now is not None and now != entry.prompt and not entry.error:
      differs.append(('prompt', 'another'))
    for what in differs:
      result.changed[what] = result.changed.get(what, 0) + 1
    if not differs:
      result.note(offset, entry)
  return result


class Journal:
  """A journal that is open for writing; one process at a time."""

  def __init__(self, path: pathlib.Path):
    """Opens the journal, or begins it.

    Args:
      path: of the file.

    Raises:
      DataError: another process writes it.
    """
    self._path = path
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    self._file = os.open(path, flags, 0o644)
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      os.close(self._file)
      raise errors.DataError(
        f'{path}: another `dss extract` is writing this journal. Wait for it,'
        ' or choose another --teacher.'
      ) from error
    self._end = os.fstat(self._file).st_size
    if self._end and os.pread(self._file, 1, self._end - 1) != b'\n':
      self._write(b'\n')  # Ends a line that a kill has torn.

  def _write(self, data: bytes) -> None:
    while data:
      written = os.write(self._file, data)
      self._end += written
      data = data[written:]

  def append(self, entry: Entry) -> int:
    """Writes an entry and returns where it begins."""
    offset = self._end
    if not entry.time:
      entry = dataclasses.replace(entry, time=time.time())
    self._write(entry.line())
    return offset

  def sync(self) -> None:
    """Makes sure that what was written outlasts a power cut."""
    os.fsync(self._file)

  def close(self) -> None:
    """Closes the file, which frees it for other processes."""
    os.fsync(self._file)
    os.close(self._file)

  def __enter__(self) -> Self:
    """Returns the journal."""
    return self

  def __exit__(self, *unused: object) -> None:
    """Closes the journal."""
    self.close()


def set_aside(path: pathlib.Path) -> pathlib.Path | None:
  """Renames a journal, to begin a new one; returns its new name."""
  if not path.exists():
    return None
  number = 1
  while (aside := path.with_name(f'{path.stem}.{number}.jsonl')).exists():
    number += 1
  path.rename(aside)
  return aside
