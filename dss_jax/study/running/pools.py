"""Workers of this machine, each with cores or a GPU of its own."""

import concurrent.futures
import queue
import threading
from collections.abc import Sequence
from typing import Protocol

from dss_jax.study.running import execution, places


class Pool(Protocol):
  """Workers that runs are handed to."""

  def submit(self, job: execution.Job) -> None:
    """Hands a run to the workers, after those before it."""

  def ended(self) -> list[tuple[execution.Job, execution.Outcome]]:
    """Returns the runs that have ended since the last call."""

  def stop(self) -> None:
    """Ends what runs, letting it save, and starts nothing more."""

  def close(self) -> None:
    """Waits for what runs."""

  @property
  def size(self) -> int:
    """How many runs go on beside each other, at most; 0 if unknown."""


class LocalPool:
  """Threads that each wait for one run's process at a time.

  A run's process is killed when the thread that started it ends, so threads
  live as long as the pool.
  """

  def __init__(self, available: Sequence[places.Place]):
    self._free: queue.Queue[places.Place] = queue.Queue()
    for place in available:
      self._free.put(place)
    self.size = len(available)
    self._stop = threading.Event()
    self._threads = concurrent.futures.ThreadPoolExecutor(self.size)
    self._futures: dict[concurrent.futures.Future, execution.Job] = {}

  def submit(self, job: execution.Job) -> None:
    """Hands a run to the workers, after those before it."""
    self._futures[self._threads.submit(self._execute, job)] = job

  def _execute(self, job: execution.Job) -> execution.Outcome:
    if self._stop.is_set():
      return execution.Outcome(0, stopped=True)
    place = self._free.get()
    try:
      return execution.execute(job, place, self._stop.is_set)
    finally:
      self._free.put(place)

  def ended(self) -> list[tuple[execution.Job, execution.Outcome]]:
    """Returns the runs that have ended since the last call.

    Raises:
      Exception: what kept one from being started.
    """
    done = [future for future in self._futures if future.done()]
    return [(self._futures.pop(future), future.result()) for future in done]

  def stop(self) -> None:
    """Ends what runs, letting it save, and starts nothing more."""
    self._stop.set()

  def close(self) -> None:
    """Waits for what runs."""
    self._threads.shutdown()
