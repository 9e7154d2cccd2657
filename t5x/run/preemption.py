"""Preemption: a run that is told to stop saves and ends early.

A scheduler that takes a machine away sends SIGTERM first. The run then finishes
the current step, saves, and exits with 143 (128 + SIGTERM), which shells,
Kubernetes and Slurm show for a process that was asked to stop: restart it.
Ctrl-C does the same with exit code 130. A second signal ends the process at
once; what is being saved then is cut short, and never counts.

Where several processes train together, any of them may get the signal. They
agree, through JAX's coordination service, on the first step that none of them
has passed, and stop there together. Since each may get its own SIGTERM, at
another time, only a second Ctrl-C ends one of them at once.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils

from t5x import trainer

# `timeout`, and some schedulers, send one signal twice in an instant.
_INSTANT_SECONDS = 0.2
_STOPPING = (
  '\n{}: stopping at the next step, and saving. Once more ends the process at'
  ' once.\n'
)


class Stopped(trainer.PreemptionError):
  """A run that ended early and was saved.

  Attributes:
    exit_code: of the process.
  """

  def __init__(self, message: str, exit_code: int):
    super().__init__(message)
    self.exit_code = exit_code


class Interrupted(Exception):
  """Raised inside `StopSignals.interruptible` when a signal comes."""


class StopSignals:
  """Listens for SIGTERM and Ctrl-C during a run.

  Use as a context manager, in the main thread (in others, signals are left
  alone).

  Attributes:
    stopped_at: the step at which all processes stop, once that is agreed.
  """

  def __init__(self) -> None:
    self.stopped_at: int | None = None
    self._signal: int | None = None
    self._interruptible = False
    self._before: dict[int, Callable | int | None] = {}

  def __enter__(self) -> 'StopSignals':
    if threading.current_thread() is threading.main_thread():
      # With several processes JAX itself listens for SIGTERM, on each.
      alone = jax.process_count() == 1
      for number in (signal.SIGTERM, signal.SIGINT)[0 if alone else 1 :]:
        self._before[number] = signal.signal(number, self._on_signal)
    return self

  def __exit__(self, *unused_exception) -> None:
    if self._signal is None:
      for number, handler in self._before.items():
        signal.signal(number, handler)

  def _on_signal(self, number: int, frame: FrameType | None) -> None:
    del frame
    if self._signal is not None:
      return
    self._signal = number
    # Not by a stream: the signal may have come in the middle of its write.
    with contextlib.suppress(OSError):
      os.write(2, _STOPPING.format(signal.Signals(number).name).encode())
    time.sleep(_INSTANT_SECONDS)
    for known in self._before:  # The next one ends the process at once.
      signal.signal(known, signal.SIG_DFL)
    if jax.process_count() > 1:
      os.kill(os.getpid(), signal.SIGTERM)  # Tells the others.
    elif self._interruptible:
      raise Interrupted

  def reached(self, step: int) -> bool:
    """Whether to stop before step `step + 1`.

    Every process calls this once a step, with the same numbers.
    """
    if self.stopped_at is None:
      if jax.process_count() > 1:
        stop = multihost_utils.reached_preemption_sync_point(step)
      else:
        stop = self._signal is not None
      if stop:
        self.stopped_at = step
    return self.stopped_at is not None

  @contextlib.contextmanager
  def interruptible(self) -> Iterator[None]:
    """Lets a signal interrupt the block, which then raises `Interrupted`.

    For work that changes no state. Several processes can't leave it together,
    so with these a signal waits until it is done.
    """
    if jax.process_count() == 1 and self._signal is not None:
      raise Interrupted
    self._interruptible = True
    try:
      yield
    finally:
      self._interruptible = False

  def stopped(self, saved: str | None) -> Stopped:
    """Returns what to raise when the run has saved and ends.

    Args:
      saved: the folder of the checkpoint from which the next start resumes.
    """
    number = self._signal or signal.SIGTERM
    goes_on = (
      f'{saved} is saved; the same command goes on from there.'
      if saved
      else 'Nothing is saved: no step was done, or the run saves nothing.'
    )
    return Stopped(
      f'{signal.Signals(number).name}: stopped after step {self.stopped_at}.'
      f' {goes_on}',
      128 + number,
    )
