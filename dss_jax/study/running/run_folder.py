"""Folder of a run of a study: its log, its starts, and how far it is.

Beside what `t5x.train` writes there are `log.txt`, what its process printed,
and `starts.jsonl`, two lines for each time that it was started.
"""

import dataclasses
import json
import os
import pathlib
import re
import time
from collections.abc import Mapping
from typing import Any

from dss_jax import errors, neutral
from dss_jax.report import run_files
from dss_jax.study import results

# Bytes at the end of a log in which the last step is looked for.
_TAIL = 16384
_STEP = re.compile(rb'^step (\d+)/\d+', re.MULTILINE)
_COLOR = re.compile(r'\x1b\[[0-?]*[ -/]*[@-~]')
_MODEL_DIR = re.compile(r'^MODEL_DIR = .*(?:\n[ \t]+.*)*\n', re.MULTILINE)
# Differences that a message lists.
_MOST_LISTED = 6
# Macros, and parameters of these names, that earlier versions did not have.
_ADDED = ('RATIONALE_KINDS', 'TEACHERS')


@dataclasses.dataclass(frozen=True)
class Start:
  """One time that a run was started.

  Attributes:
    token: tells it from others.
    began: in seconds since 1970.
    place: its device, versions and commit, as `results.record` takes them.
    ended: likewise in seconds; None while it runs, or if it was killed.
    code: of its exit; None likewise.
  """

  token: str
  began: float
  place: Mapping[str, Any]
  ended: float | None = None
  code: int | None = None


class RunFolder:
  """The folder of one run, OUT/runs/NAME.

  Attributes:
    path: the folder, which need not exist.
    log: the file with what the run's process printed.
    lock: the file that the process holds a lock on.
  """

  def __init__(self, out: pathlib.Path, name: str):
    self.path = out / results.RUNS / name
    self.log = self.path / 'log.txt'
    self.lock = self.path / 'run.lock'
    self._starts = self.path / 'starts.jsonl'

  def starts(self) -> list[Start]:
    """Returns the starts so far, in order.

    Raises:
      DataError: the file holds something else.
    """
    if not self._starts.exists():
      return []
    found: list[Start] = []
    for row in run_files.read_lines(self._starts):
      try:
        if 'began' in row:
          found.append(Start(**row))
          continue
        # A worker that was lost hands its token on: the last one has ended.
        n = max(n for n, s in enumerate(found) if s.token == row['token'])
        found[n] = dataclasses.replace(found[n], **row)
      except (TypeError, KeyError, ValueError) as error:
        raise errors.DataError(
          f'{self._starts}: expected the start or end of a run, found {row!r}.'
          ' Remove the file; only the time that the run took is lost.'
        ) from error
    return found

  def begin(self, token: str, place: Mapping[str, Any]) -> None:
    """Writes down that the run is started.

    Args:
      token: of this start.
      place: as in `Start`.
    """
    self.path.mkdir(parents=True, exist_ok=True)
    before = self.starts()[-1:]
    if before and before[0].ended is None and self.log.exists():
      # It was killed. Its log was written until about then.
      ended = max(before[0].began, self.log.stat().st_mtime)
      self._append({'token': before[0].token, 'ended': ended})
    self._append({'token': token, 'began': time.time(), 'place': dict(place)})

  def end(self, token: str, code: int) -> None:
    """Writes down that the run has ended.

    Args:
      token: of the start.
      code: of the process.
    """
    self._append({'token': token, 'ended': time.time(), 'code': code})

  def _append(self, row: Mapping[str, Any]) -> None:
    if self._starts.exists():
      whole = self._starts.read_bytes()
      if not whole.endswith(b'\n'):  # A kill has torn the last line.
        os.truncate(self._starts, whole.rfind(b'\n') + 1)
    with self._starts.open('ab') as f:
      f.write(json.dumps(row).encode() + b'\n')

  @property
  def finished(self) -> Start | None:
    """The start that came to the run's end, if one did."""
    return next((s for s in self.starts() if s.code == 0), None)

  @property
  def has_checkpoint(self) -> bool:
    """Whether there is something that a run would go on from."""
    return any(self.path.glob('checkpoint_*'))

  def seconds(self) -> float:
    """Returns how long the run took, all its starts together."""
    return sum(s.ended - s.began for s in self.starts() if s.ended is not None)

  def step(self) -> int | None:
    """Returns the last step that the log tells of; None before the first."""
    try:
      with self.log.open('rb') as f:
        f.seek(max(0, os.fstat(f.fileno()).st_size - _TAIL))
        found = _STEP.findall(f.read())
    except FileNotFoundError:
      return None
    return int(found[-1]) if found else None

  def reason(self, offset: int = 0) -> str:
    """Returns why the process ended, in the words of its log.

    Args:
      offset: bytes of the log before this start.
    """
    with self.log.open('rb') as f:
      f.seek(offset)
      text = f.read().decode('utf-8', 'replace')
    _, error, message = text.rpartition('\nerror: ')
    lines = [line for line in (message if error else text).split('\n') if line]
    line = ' '.join(lines[:3]) if error else (lines or ['no word of it'])[-1]
    return printable(line)

  def check(self, configuration: str, mixture: str) -> None:
    """Raises a DataError if the folder holds a run of another kind.

    Args:
      configuration: as the run would write it.
      mixture: the name of what the run would train on.
    """
    if not (self.has_checkpoint or self.finished):
      return
    config = self.path / 'config.gin'
    if config.exists():
      there = config.read_text(encoding='utf-8')
      lines = list(_differences(there, configuration))
      if lines:
        more = len(lines) - _MOST_LISTED
        raise self._other(
          [*lines[:_MOST_LISTED], *([f'and {more} more'] if more > 0 else [])]
        )
    identity = self.path / 'run.json'
    if identity.exists():
      found = json.loads(identity.read_text(encoding='utf-8'))
      before = found.get('data', {}).get('mixture_or_task')
      # A mixture of steps is named after what it lays out.
      steps = rf'{re.escape(mixture)}(_n\d+_[0-9a-f]+)?'
      if before is not None and not re.fullmatch(steps, str(before)):
        raise self._other([f'trained on: {before} there, {mixture} here'])

  def _other(self, lines: list[str]) -> errors.DataError:
    listed = ''.join(f'\n  {line}' for line in lines)
    return errors.DataError(
      f'{self.path}: this run was made with another configuration:{listed}\n'
      'Give the same options, or another --out; to make the run again, remove'
      ' its folder and its line in results.jsonl.'
    )


def _differences(there: str, here: str):
  """Yields the bindings that differ, except for the folder."""
  before, now = (
    run_files.bindings(_MODEL_DIR.sub('', text)) for text in (there, here)
  )
  for name in sorted({*before, *now}):
    if name not in before and _is_added(name, now):
      continue
    if before.get(name) != now.get(name):
      yield (
        f'{name}: {before.get(name, "nothing")} there,'
        f' {now.get(name, "nothing")} here'
      )


def _is_added(name: str, now: Mapping[str, str]) -> bool:
  """Whether a binding says nothing that an older configuration doesn't."""
  macro = name.rpartition('.')[2].upper()
  return macro in _ADDED and now.get(macro) == 'None'


def printable(text: str) -> str:
  """Returns a text as one bounded line, without the colors of a terminal.

  Args:
    text: of a log.
  """
  return neutral.line(_COLOR.sub('', text))
