"""Driver of a study: hands out what is missing, and keeps what has come out."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from types import FrameType

from dss_jax import errors
from dss_jax.study import live_table, planned, results
from dss_jax.study.running import execution, pools, run_folder

# How often a run that was killed is started again by one driver.
_RESTARTS = 2
_POLL_S = 0.25
_LOCK = 'study.lock'
# What a run exits with that was told to end, and saved.
_TOLD = (128 + signal.SIGTERM, 128 + signal.SIGINT)


@contextlib.contextmanager
def holding(out: pathlib.Path) -> Iterator[None]:
  """Holds a study's folder against other drivers during a `with`.

  Args:
    out: the folder, which is made.

  Raises:
    DataError: another driver holds it; the message says which.
  """
  try:
    out.mkdir(parents=True, exist_ok=True)
    file = os.open(out / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
  except OSError as error:
    raise errors.DataError(
      f'--out {out}: expected a folder to write in; {error.strerror}.'
    ) from error
  try:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      holder = os.pread(file, 200, 0).decode('utf-8', 'replace')
      raise errors.DataError(
        f'{out}: another `dss study` works in this folder'
        f' ({run_folder.printable(holder) or "it does not say which"}). Wait'
        ' for it, end it, or give another --out.'
      ) from error
    except OSError as error:
      raise errors.DataError(
        f'--out {out}: expected a folder whose files can be locked;'
        f' {error.strerror}. Give a folder of another disk.'
      ) from error
    since = time.strftime('%Y-%m-%d %H:%M:%S')
    words = f'process {os.getpid()} on {socket.gethostname()} since {since}'
    os.ftruncate(file, 0)
    os.pwrite(file, words.encode(), 0)
    yield
  finally:
    os.close(file)


class _Signals:
  """Listens for SIGTERM and Ctrl-C during a `with`; the second one kills."""

  def __init__(self) -> None:
    self.number: int | None = None
    self._before: dict[int, object] = {}

  def __enter__(self) -> '_Signals':
    for number in (signal.SIGTERM, signal.SIGINT):
      self._before[number] = signal.signal(number, self._on_signal)
    return self

  def __exit__(self, *unused: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)  # type: ignore[arg-type]

  def _on_signal(self, number: int, frame: FrameType | None) -> None:
    del frame
    self.number = number
    for known in self._before:
      signal.signal(known, signal.SIG_DFL)


@dataclasses.dataclass
class Ending:
  """How a driver's work ended.

  Attributes:
    done: the results of the study so far, in the order of its runs.
    failed: the reason of each run that failed.
    stopped: the signal that ended the driver early, if one did.
  """

  done: list[results.RunResult]
  failed: dict[str, str]
  stopped: int | None


class Driver:
  """Does what a study lacks.

  Args:
    out: the study's folder, absolute, which the caller holds.
    runs: of the study.
    pool: workers.
    table: shows what happens.
  """

  def __init__(
    self,
    out: pathlib.Path,
    runs: Sequence[planned.Run],
    pool: pools.Pool,
    table: live_table.Table,
  ):
    self._out, self._pool, self._table = out, pool, table
    self._runs = {run.name: run for run in runs}
    self._done: dict[str, results.RunResult] = {}
    self._failed: dict[str, str] = {}
    self._jobs: dict[str, execution.Job] = {}
    self._restarts = dict.fromkeys(self._runs, 0)

  def drive(self) -> Ending:
    """Works until every run is done or has failed, or a signal comes."""
    for result in results.read(self._out):
      if result.spec.name in self._runs:
        self._done[result.spec.name] = result
    with _Signals() as signals, self._table:
      for name in [n for n in self._runs if n not in self._done]:
        if run_folder.RunFolder(self._out, name).finished:
          self._keep(name)  # What a driver did not live to write.
        else:
          self._start(name)
      self._write()
      self._table.show(self._done, self._failed, self._jobs)
      asked = False
      while self._jobs:
        if signals.number and not asked:
          asked = True
          self._table.say('Stopping: runs save, then the command ends.')
          self._pool.stop()
        for job, outcome in self._pool.ended():
          self._on_end(job, outcome)
        self._table.show(self._done, self._failed, self._jobs)
        time.sleep(_POLL_S)
      self._pool.close()
    return Ending(self._in_order(), self._failed, signals.number)

  def _start(self, name: str) -> None:
    job = self._runs[name].job(self._out)
    self._jobs[name] = job
    self._pool.submit(job)

  def _on_end(self, job: execution.Job, outcome: execution.Outcome) -> None:
    name = job.name
    del self._jobs[name]
    if outcome.stopped:
      return
    if outcome.code == 0:
      self._keep(name)
      self._write()
    elif (outcome.killed or outcome.code in _TOLD) and (
      self._restarts[name] < _RESTARTS
    ):
      self._restarts[name] += 1
      self._table.say(f'{name}: {outcome.reason}; it is started again')
      self._start(name)
    else:
      self._fail(name, outcome.reason)

  def _fail(self, name: str, reason: str) -> None:
    self._failed[name] = reason

  def _keep(self, name: str) -> None:
    """Takes the result of a run that came to its end."""
    folder = run_folder.RunFolder(self._out, name)
    start = folder.finished
    try:
      if start is None:
        raise errors.DataError(
          f'{folder.path}: the run ended, and its folder does not say so.'
          ' Expected a folder that all machines share.'
        )
      self._done[name] = results.record(
        self._runs[name].spec,
        folder.path,
        seconds=round(folder.seconds(), 1),
        **start.place,
      )
    except errors.DataError as error:
      self._fail(name, str(error))

  def _in_order(self) -> list[results.RunResult]:
    return [self._done[name] for name in self._runs if name in self._done]

  def _write(self) -> None:
    results.write(self._out, self._in_order())
