"""Execution of one run: a process, from its start to its end."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

from dss_jax import command_lines
from dss_jax.study import results
from dss_jax.study.running import places, run_folder
from t5x.run import provenance

_LAUNCHER = 'dss_jax.study.running.launcher'
_POLL_S = 0.1
# A run that is asked to stop saves first.
_PATIENCE_S = 120.0


@dataclasses.dataclass(frozen=True)
class Job:
  """One start of a run.

  Attributes:
    name: of the run.
    out: the study's folder, absolute.
    flags: of `python -m t5x.train`.
    folder: to run in, where gin files and data with relative paths are.
    token: tells this start from others.
  """

  name: str
  out: str
  flags: tuple[str, ...]
  folder: str
  token: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a start of a run ended.

  Attributes:
    code: of the process; negative for a signal.
    reason: why, where the code is not 0.
    stopped: whether it was asked to end.
  """

  code: int
  reason: str = ''
  stopped: bool = False

  @property
  def killed(self) -> bool:
    """Whether something else than this program ended it."""
    return self.code < 0 and not self.stopped


def command(flags: Sequence[str]) -> list[str]:
  """Returns the command of a run.

  Args:
    flags: of `t5x.train`.
  """
  return [sys.executable, '-m', 't5x.train', *flags]


def shown(flags: Sequence[str]) -> str:
  """Returns the command as one types it in a shell.

  Args:
    flags: of `t5x.train`.
  """
  words = ('python', '-m', 't5x.train', *flags)
  return ' '.join(map(command_lines.quoted, words))


def execute(
  job: Job,
  place: places.Place,
  stop: Callable[[], bool],
) -> Outcome:
  """Starts a run and waits for its end.

  Args:
    job: what to start.
    place: where.
    stop: whether to end it before; asked all the time.
  """
  folder = run_folder.RunFolder(pathlib.Path(job.out), job.name)
  folder.begin(
    job.token,
    {
      'device': place.words(),
      'versions': results.installed_versions(),
      'commit': provenance.source_commit(),
    },
  )
  options = {
    'parent': os.getpid(),
    'lock': str(folder.lock),
    'cores': place.cores,
  }
  with folder.log.open('ab') as log:
    offset = log.tell()
    log.write(f'$ {shown(job.flags)}\n'.encode())
    log.flush()
    process = subprocess.Popen(
      [
        *(sys.executable, '-m', _LAUNCHER, json.dumps(options)),
        *command(job.flags),
      ],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env=environment(pathlib.Path(job.out), place, os.environ),
      cwd=job.folder if os.path.isdir(job.folder) else None,
      # Ctrl-C comes to it through this process alone.
      start_new_session=True,
    )
    stopped = _wait(process, stop)
  code = process.returncode
  folder.end(job.token, code)
  if code == 0:
    return Outcome(0)
  return Outcome(code, _reason(code, folder, offset), stopped)


def _wait(process: subprocess.Popen, stop: Callable[[], bool]) -> bool:
  """Waits for a process; returns whether it was asked to end."""
  while process.poll() is None:
    if stop():
      process.terminate()
      try:
        process.wait(_PATIENCE_S)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
      return True
    time.sleep(_POLL_S)
  return False


def _reason(code: int, folder: run_folder.RunFolder, offset: int) -> str:
  if code == -signal.SIGKILL:
    return 'killed by SIGKILL, as is what takes more memory than there is'
  if code < 0:
    return f'ended by {signal.Signals(-code).name}: {folder.reason(offset)}'
  return f'exit code {code}: {folder.reason(offset)}'


def environment(
  out: pathlib.Path, place: places.Place, inherited: Mapping[str, str]
) -> dict[str, str]:
  """Returns the environment of a run's process.

  Runs of a study share what they compile, of which most is the same; a machine
  of another kind has its own.

  Args:
    out: the study's folder.
    place: where it runs.
    inherited: the environment of this process.
  """
  shared = {
    'JAX_COMPILATION_CACHE_DIR': str(
      out / 'compilations' / places.machine_kind()
    ),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }
  if 'JAX_COMPILATION_CACHE_DIR' in inherited:
    shared = {}
  return {**shared, **inherited, **place.variables()}
