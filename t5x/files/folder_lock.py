"""One writer per folder: a record of who writes there, kept alive.

    with folder_lock.writing('runs/a'):
      ...  # A second process that begins to write there is refused.

The record is a small file in the folder, `writer.json`: host, process, since
when. It is removed at the end. A process that was killed leaves it behind:

- on the same machine it is known to be dead, and the next one goes on at once
- on another machine it is dead once its record has not changed for
  `STALE_SECONDS`, which the next one waits at most

A process that finds, after it was stopped or cut off for so long, that another
one took its folder over, ends.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from etils import epath

from t5x import errors, neutral
from t5x.files import paths

FILE = 'writer.json'
# A living writer changes its record this often …
BEAT_SECONDS = 5.0
# … and counts as dead, if it can't be asked, once it has not for so long.
STALE_SECONDS = 30.0
_POLL_SECONDS = 1.0
# How long two that begin at once, in a folder without exclusive creation, give
# each other to be seen.
_SETTLE_SECONDS = 1.0
# A record has some 250 bytes; what is longer is none.
_MAX_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Writer:
  """Who writes into a folder.

  Attributes:
    host: its name.
    machine: the boot and the process namespace in which `pid` means something;
      empty where a system doesn't tell.
    pid: of the process.
    started: when the process began, in ticks since the boot: numbers of dead
      processes are used again.
    since: when it began to write, UTC.
    token: tells two writers of one process apart.
  """

  host: str
  machine: str
  pid: int
  started: int
  since: str
  token: str

  @classmethod
  def this_process(cls) -> 'Writer':
    """Returns a new writer of this process."""
    now = datetime.datetime.now(datetime.UTC)
    return cls(
      host=socket.gethostname(),
      machine=_machine(),
      pid=os.getpid(),
      started=_start_of(os.getpid()) or 0,
      since=now.isoformat(timespec='seconds'),
      token=uuid.uuid4().hex,
    )

  @property
  def is_here(self) -> bool:
    """Whether its process can be looked up on this machine."""
    return bool(self.machine) and self.machine == _machine()

  @property
  def is_alive(self) -> bool:
    """Whether its process, on this machine, is still there."""
    return _start_of(self.pid) == self.started

  def __str__(self) -> str:
    return f'process {self.pid} on {self.host!r}, since {self.since}'


@contextlib.contextmanager
def writing(
  folder: str, file: str = FILE, what: str | None = None
) -> Iterator[None]:
  """Keeps others from writing into a folder.

  Args:
    folder: local or remote; it exists.
    file: name of the record, for folders with several parts that are written
      apart.
    what: what is written, for messages, where that is not the folder: the
      record of a folder that is not there yet is beside it.

  Raises:
    errors.UserError: another process writes there.
  """
  path = epath.Path(folder) / file
  what = folder if what is None else what
  own = _take(path, folder, what)
  stop = threading.Event()
  beats = threading.Thread(
    target=_beat, args=(path, what, own, stop), daemon=True
  )
  beats.start()
  try:
    yield
  finally:
    stop.set()
    beats.join()
    with contextlib.suppress(OSError):
      if _writer(_read(path)) == own:
        path.unlink(missing_ok=True)


def holder(folder: str, file: str = FILE) -> Writer | None:
  """Returns who writes into a folder now, as far as can be told from here.

  Args:
    folder: local or remote; it need not exist.
    file: as in `writing`.
  """
  path = epath.Path(folder) / file
  seen = _read(path)
  other = _writer(seen)
  if seen is None or other is None:
    return None
  if other.is_here:
    return other if other.is_alive else None
  # Of another machine; in remote storage, a change takes longer to be seen.
  age = time.time() - seen[1] / 1e9
  return None if seen[1] and age > STALE_SECONDS else other


def _take(path: epath.Path, folder: str, what: str) -> Writer:
  """Writes this process's record; waits for one that may be dead."""
  seen = _read(path)
  other = _writer(seen)
  if other is not None and not (other.is_here and not other.is_alive):
    if other.is_here:
      raise _refused(what, other)
    _wait_for_silence(path, what, seen, other)
  own = Writer.this_process()
  with paths.naming_path_in_errors(folder), _exclusively(folder):
    # What stood there may have been replaced meanwhile.
    newer = _writer(_read(path))
    if newer is not None and newer != other:
      raise _refused(what, newer)
    _write(path, own, 0)
  if paths.is_remote(folder):
    time.sleep(_SETTLE_SECONDS)
    last = _writer(_read(path))
    if last is not None and last != own:
      raise _refused(what, last)
  return own


def _wait_for_silence(
  path: epath.Path, what: str, seen: object, other: Writer
) -> None:
  """Waits until a record was unchanged for long enough, or is gone."""
  neutral.say(
    f'{what}: {other} was writing here. Waiting for up to'
    f' {STALE_SECONDS:.0f} s to see whether it still is.',
    err=True,
  )
  end = time.monotonic() + STALE_SECONDS
  while time.monotonic() < end:
    time.sleep(_POLL_SECONDS)
    now = _read(path)
    if now is None:
      return
    if now != seen:
      raise _refused(what, _writer(now) or other)


def _refused(what: str, other: Writer) -> errors.UserError:
  return errors.UserError(
    f'{what}: expected a folder that no other process writes to; {other},'
    ' does. Wait for it, end it, or choose another folder.'
  )


def _beat(
  path: epath.Path, what: str, own: Writer, stop: threading.Event
) -> None:
  """Shows that the writer lives; ends the process if it lost its folder."""
  number = 0
  while not stop.wait(BEAT_SECONDS):
    number += 1
    # Storage that is away for a moment, with whatever error of its library, is
    # the business of those who save: the next beat tries again.
    with contextlib.suppress(Exception):
      other = _writer(_read(path))
      if other is not None and other != own:
        _end(what, other)
      elif other is None or paths.is_remote(os.fspath(path)):
        _write(path, own, number)
      else:
        # Needs no space on the disk, where a new file may have none.
        os.utime(path)


def _end(what: str, other: Writer) -> None:
  neutral.say(
    f'{what}: {other}, took this folder over, since this process did not'
    f' answer for {STALE_SECONDS:.0f} s. It ends here, and saves nothing more.',
    err=True,
  )
  os._exit(errors.UserError.exit_code)


def _write(path: epath.Path, writer: Writer, beat: int) -> None:
  with paths.replacing(path) as work:
    work.write_text(json.dumps({**dataclasses.asdict(writer), 'beat': beat}))


def _read(path: epath.Path) -> tuple[bytes, int] | None:
  """Returns a record and when it was changed; None without one."""
  try:
    with path.open('rb') as file:
      content = file.read(_MAX_BYTES)
    local = not paths.is_remote(os.fspath(path))
    return content, os.stat(path).st_mtime_ns if local else 0
  except FileNotFoundError:
    return None


def _writer(seen: tuple[bytes, int] | None) -> Writer | None:
  """Returns whose record it is; None if it is nobody's."""
  if seen is None:
    return None
  try:
    stored: Any = json.loads(seen[0])
    values = {
      field.name: stored[field.name] for field in dataclasses.fields(Writer)
    }
    if not all(
      isinstance(value, int if name in ('pid', 'started') else str)
      for name, value in values.items()
    ):
      return None
    return Writer(**values)
  except (ValueError, KeyError, TypeError, RecursionError):
    # Cut short by a full disk: nobody can tell whose it was.
    return None


@contextlib.contextmanager
def _exclusively(folder: str) -> Iterator[None]:
  """Lets one process of this machine at a time look and write."""
  if paths.is_remote(folder):
    yield
    return
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    # Some network file systems have no locks for folders; what two that begin
    # in the same instant write there, their beats find out.
    with contextlib.suppress(OSError):
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)


def _machine() -> str:
  """Names the boot of this machine and this process's namespace of numbers."""
  try:
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return f'{boot} {os.readlink("/proc/self/ns/pid")}'
  except OSError:
    return ''


def _start_of(pid: int) -> int | None:
  """Returns when a process began, in ticks; None if there is none."""
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_bytes()
  except OSError:
    return None
  # After the name, which may hold blanks: state is the first, start the 20th.
  fields = stat.rpartition(b')')[2].split()
  return None if fields[0] in (b'Z', b'X') else int(fields[19])
