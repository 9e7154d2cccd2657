"""Real runs to be disrupted, of a small model on one host or two.

Each host is a process of its own. A test sees what a run does by its folder and
its output, as users do, and holds it still with SIGSTOP where a signal is to
meet it.
"""

import contextlib
import dataclasses
import json
import multiprocessing.process
import os
import pathlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from t5x import checkpoints
from tests.t5x import small_run

# Saved often, so that there is always something to go on from.
_OPTIONS = {
  'total_steps': 24,
  'period': 4,
  'slow_steps': True,
  'snapshot_period': 0,
}
# No wait is longer: what takes so long is a hang.
_PATIENCE_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Host:
  """A process of a run, and the file of its output."""

  process: multiprocessing.process.BaseProcess
  log: pathlib.Path

  @property
  def pid(self) -> int:
    return self.process.pid or 0

  @property
  def text(self) -> str:
    """What it has printed."""
    return self.log.read_text(errors='replace') if self.log.exists() else ''


@dataclasses.dataclass
class Run:
  """The processes of a run, in their order, and its folder."""

  folder: pathlib.Path
  hosts: Sequence[Host]

  def end(self, host: int = 0) -> tuple[int, str, float]:
    """Waits for one process.

    Returns:
      Its exit code, its output, and for how many seconds it was waited for.
    """
    process, begin = self.hosts[host], time.monotonic()
    hung = threading.Timer(_PATIENCE_SECONDS, self.send, (signal.SIGKILL, host))
    hung.start()
    try:
      process.process.join()
    finally:
      hung.cancel()
    seconds, text = time.monotonic() - begin, process.text
    assert seconds < _PATIENCE_SECONDS, f'It hung.\n{text[-3000:]}'
    return process.process.exitcode, text, seconds

  def send(self, number: int, host: int = 0) -> None:
    os.kill(self.hosts[host].pid, number)

  def wait_until(self, happened: Callable[[], object]) -> None:
    """Looks again and again; fails when a process ends or all hangs."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not happened():
      for process in self.hosts:
        assert _state(process.pid) not in 'ZX', process.text[-3000:]
      assert time.monotonic() < deadline, self.hosts[0].text[-3000:]
      time.sleep(0.002)

  def wait_for_step(self, step: int) -> None:
    """Waits until a step's metrics are written."""
    self.wait_until(lambda: step in losses(self.folder))

  def hold_in_save(self, step: int | str = '*', host: int = 0) -> int:
    """Stops a process within the save of a step, by default the next one.

    It goes on with SIGCONT, after the signals that it gets until then.

    Returns:
      The step. No signal was too late to meet its save.
    """

    def being_saved() -> list[str]:
      return [p.name for p in self.folder.glob(f'checkpoint_{step}.*tmp*')]

    self.wait_until(being_saved)
    self.hold(host)
    (name,) = being_saved()
    return int(name.removeprefix('checkpoint_').partition('.')[0])

  def hold(self, host: int = 0) -> None:
    """Stops a process, and waits until it has stopped."""
    self.send(signal.SIGSTOP, host)
    while _state(self.hosts[host].pid) != 'T':
      time.sleep(0.001)


def start(folder: pathlib.Path, hosts: int = 1, **options) -> Run:
  """Starts a run; `options` are those of `small_run`, on top of `_OPTIONS`."""
  address = f'localhost:{_free_port()}'
  started = []
  for i in range(hosts):
    given = {'folder': str(folder), **_OPTIONS, **options}
    if hosts > 1:
      given['distributed'] = [address, hosts, i]
    log = folder.with_name(f'{folder.name}-{i}.log')
    log.unlink(missing_ok=True)
    started.append(Host(small_run.start_process(given, log, 1), log))
  return Run(folder, started)


def finish(run: Run) -> str:
  """Waits for the end of a run; returns what the first process printed."""
  ended = [run.end(i) for i in range(len(run.hosts))]
  assert not any(code for code, *_ in ended), [t[-3000:] for _, t, _ in ended]
  return ended[0][1]


def evaluated_steps(folder: pathlib.Path) -> set[int]:
  """The steps whose metrics a run has written."""
  return {step for file in metrics_files(folder).values() for step in file}


def losses(folder: pathlib.Path) -> dict[int, float]:
  """The loss of each step that a run has written."""
  found = {}
  with contextlib.suppress(FileNotFoundError):
    text = (folder / 'train' / 'metrics.jsonl').read_text(encoding='utf-8')
    # The last line may be half a line.
    for line in text.split('\n')[:-1]:
      values = json.loads(line)
      if 'loss' in values:
        found[values['step']] = values['loss']
  return found


def assert_whole(folder: pathlib.Path) -> list[int]:
  """Checks that what counts as a checkpoint can be read; returns its steps."""
  steps = list(checkpoints.all_steps(folder))
  for step in steps:
    checkpoints.load_t5x_checkpoint(str(folder), step)
  return steps


def assert_same(found: pathlib.Path, expected: pathlib.Path) -> None:
  """Checks that two runs have ended in the same bits, and measured the same."""
  import jax

  step = checkpoints.latest_step(expected)
  assert checkpoints.latest_step(found) == step
  states = [
    checkpoints.load_t5x_checkpoint(str(f), step) for f in (found, expected)
  ]
  jax.tree.map(np.testing.assert_array_equal, *states)
  assert metrics_files(found) == metrics_files(expected)


def metrics_files(folder: pathlib.Path) -> dict[str, dict[int, dict]]:
  """The metrics of each evaluation, by file and step, without times."""
  found: dict[str, dict[int, dict]] = {}
  for path in sorted(folder.glob('inference_eval/*-metrics.jsonl')):
    by_step = found[path.name] = {}
    for line in path.read_text(encoding='utf-8').splitlines():
      values = json.loads(line)
      by_step[values['step']] = {
        k: v for k, v in values.items() if not k.startswith('timing')
      }
  return found


def _state(pid: int) -> str:
  """The letter of a process's state: R, S, D, T (stopped), Z, X (gone)."""
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_bytes()
  except OSError:
    return 'X'
  return stat.rpartition(b')')[2].split()[0].decode()


def _free_port() -> int:
  with socket.socket() as listening:
    listening.bind(('localhost', 0))
    return listening.getsockname()[1]
