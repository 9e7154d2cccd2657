"""Test runs in forks of a process that has imported the libraries.

Importing JAX, TensorFlow and SeqIO takes longer than most modules' tests. They
are imported once; a fork imports our own modules anew, a mutant among them.
"""

import contextlib
import dataclasses
import os
import pathlib
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence

LIBRARIES = (
  'aiohttp',
  'clu.metric_writers',
  'clu.metrics',
  'flax.linen',
  'flax.serialization',
  'hypothesis',
  'jax.experimental.multihost_utils',
  'jaxtyping',
  'matplotlib.figure',
  'optax',
  'orbax.checkpoint',
  'pytest',
  'safetensors.numpy',
  'seqio',
  'tensorflow',
  'tensorflow_datasets',
  'tensorflow_text',
  'tensorstore',
  'yaml',
)
OURS = ('t5x', 'dss_jax', 'tasks')
_OPTIONS = (
  *('-n', '0', '-x', '-p', 'no:cacheprovider', '--tb=short'),
  # What is imported before the fork.
  *('-W', 'ignore::pytest.PytestAssertRewriteWarning'),
)
PASSED, FAILED, TIMEOUT = 'passed', 'failed', 'timeout'


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of a test run.

  Attributes:
    status: PASSED, FAILED or TIMEOUT.
    cpu: seconds of processor time.
    output: what pytest printed.
  """

  status: str
  cpu: float
  output: str

  def failed_tests(self) -> list[str]:
    """Returns the tests that failed, and files that could not be loaded."""
    # Before it, lines of logs may begin in the same way.
    *_, summary = '', *self.output.split(' short test summary info ')[1:]
    lines = summary.splitlines()
    ends = [x for x in lines if x.startswith(('FAILED ', 'ERROR '))]
    return [x.partition(' ')[2].partition(' - ')[0] for x in ends]


def prepare(root: pathlib.Path, cache: pathlib.Path) -> None:
  """Imports the libraries as tests/conftest.py sets them up; works in `root`.

  Args:
    root: of the code and its tests.
    cache: keeps what XLA compiled, most of which no mutant changes.

  Raises:
    RuntimeError: a module of our own was imported, so that a fork would not see
      its mutants.
  """
  os.chdir(root)
  sys.path.insert(0, str(root))
  os.environ['PYTHONPATH'] = str(root)
  os.environ['JAX_COMPILATION_CACHE_DIR'] = str(cache)
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'
  __import__('tests.conftest')
  for name in LIBRARIES:
    __import__(name)
  early = [m for m in sys.modules if m.partition('.')[0] in OURS]
  if early:
    raise RuntimeError(f'Imported before the fork: {", ".join(early)}')


def _child(arguments: Sequence[str], log: pathlib.Path, cpu: int) -> None:
  os.setpgid(0, 0)
  handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  os.dup2(handle, 1)
  os.dup2(handle, 2)
  resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
  import pytest

  code = pytest.main([*_OPTIONS, *arguments])
  sys.stdout.flush()
  os._exit(int(code))


def run(
  arguments: Sequence[str], log: pathlib.Path, *, cpu: int, wall: int
) -> Outcome:
  """Runs pytest in a fork; a run that exceeds a limit is ended.

  Args:
    arguments: of pytest: files, and what to deselect.
    log: takes its output.
    cpu: seconds of processor time, which a busy machine does not lengthen.
    wall: seconds of the clock, for what waits for ever.

  Returns:
    What came of it; `failed` also if no test was found.
  """
  begin = time.monotonic()
  pid = os.fork()
  if pid == 0:
    try:
      _child(arguments, log, cpu)
    except BaseException:
      traceback.print_exc()
    finally:
      sys.stderr.flush()
      os._exit(70)
  status = None
  try:
    while status is None and time.monotonic() - begin < wall:
      done, code, usage = os.wait4(pid, os.WNOHANG)
      status = code if done else None
      time.sleep(0.05)
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(pid, signal.SIGKILL)  # What tests left running, too.
    if status is None:
      _, _, usage = os.wait4(pid, 0)
  cpu_used = usage.ru_utime + usage.ru_stime
  output = log.read_text(encoding='utf-8', errors='replace')
  ended = None if status is None else os.waitstatus_to_exitcode(status)
  if ended in (None, -signal.SIGXCPU, -signal.SIGKILL):
    return Outcome(TIMEOUT, cpu_used, output)
  return Outcome(PASSED if ended == 0 else FAILED, cpu_used, output)
