"""Delivery of a run's reports to a tracker, in a thread of its own.

A tracker's server may be slow, away, or full. The run neither waits for it nor
ends with it: what could not be delivered is kept, up to a limit, and tried
again with the next report.
"""

import atexit
import collections
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from dss_jax import neutral

# Reports that wait for a server which is away.
_MOST_WAITING = 1000
# How long the end of a run waits for what is left.
_PATIENCE_SECONDS = 30.0


class Tracked(Protocol):
  """A run in a tracker."""

  @property
  def place(self) -> str:
    """Where to look at it."""

  def report(self, step: int, metrics: Mapping[str, float]) -> None:
    """Delivers metrics by name.

    Args:
      step: of the run; may be lower than one before, after a restart.
      metrics: names such as `train/loss`.
    """

  def close(self, finished: bool) -> None:
    """Ends the run there.

    Args:
      finished: whether it did all that its configuration says.
    """


class Begin(Protocol):
  """A tracker's way to open a run."""

  def __call__(
    self,
    model_dir: str,
    name: str,
    settings: Mapping[str, str],
    before: Mapping[str, str],
  ) -> tuple[Tracked, Mapping[str, str]]:
    """Opens a run.

    Args:
      model_dir: the run's folder.
      name: of a new run.
      settings: what it is made with.
      before: what an earlier start has returned.

    Returns:
      The run, and what finds it again.
    """


class Delivery:
  """Hands reports over to a thread, which delivers them in order."""

  def __init__(
    self,
    name: str,
    begin: Callable[[], Tracked],
    patience: float | None = None,
  ):
    """Starts nothing yet.

    Args:
      name: of the tracker.
      begin: opens the run there; called in the thread.
      patience: seconds that the end waits for what is left; None for the usual.
    """
    self._name = name
    self._begin = begin
    self._patience = _PATIENCE_SECONDS if patience is None else patience
    self._waiting: collections.deque[tuple[int, Mapping[str, float]]] = (
      collections.deque(maxlen=_MOST_WAITING)
    )
    self._given = self._delivered = 0
    self._changed = threading.Condition()
    self._closing = False
    self._finished = False
    self._tracked: Tracked | None = None
    self._problem = ''
    self._thread: threading.Thread | None = None

  def put(self, step: int, metrics: Mapping[str, float]) -> None:
    """Hands a report over, without waiting.

    Args:
      step: of the run.
      metrics: values by name.
    """
    with self._changed:
      self._waiting.append((step, metrics))
      self._given += 1
      if self._thread is None:
        self._thread = threading.Thread(
          target=self._work, name=f'tracker_{self._name}', daemon=True
        )
        self._thread.start()
        atexit.register(self.close)
      self._changed.notify()

  def finish(self) -> None:
    """Takes the run for finished when it is closed, here or at the exit."""
    self._finished = True

  def close(self) -> None:
    """Waits for what is left, for a limited time, and says what came of it."""
    with self._changed:
      if self._closing or self._thread is None:
        return
      self._closing = True
      self._changed.notify()
    atexit.unregister(self.close)
    self._thread.join(self._patience)
    self._say()

  def _say(self) -> None:
    lost = self._given - self._delivered
    tracked = self._tracked
    if lost:
      why = f' ({self._problem})' if self._problem else ''
      neutral.say(
        f'{self._name}: {lost:,} of {self._given:,} reports were not'
        f' delivered{why}. They are in train/, training_eval/ and'
        ' inference_eval/ all the same.',
        err=True,
      )
    elif tracked is not None:
      neutral.say(f'{self._name}: {tracked.place}', err=True)

  def _work(self) -> None:
    """Delivers until the run is over; a failure waits for the next report."""
    while True:
      with self._changed:
        while not (self._waiting or self._closing):
          self._changed.wait()
        given = self._given
        over = self._closing
      try:
        self._deliver()
      except Exception as error:
        self._warn(error)
      if over:
        return self._end()
      with self._changed:
        # Nothing is tried again before there is something new.
        while self._waiting and self._given == given and not self._closing:
          self._changed.wait()

  def _deliver(self) -> None:
    if self._tracked is None:
      self._tracked = self._begin()
      # A tracker's own hooks at the exit have to come after this one.
      atexit.unregister(self.close)
      atexit.register(self.close)
    while self._waiting:
      step, metrics = self._waiting[0]
      self._tracked.report(step, metrics)
      with self._changed:
        # A full queue may have dropped it meanwhile.
        if self._waiting and self._waiting[0] == (step, metrics):
          self._waiting.popleft()
        self._delivered += 1

  def _end(self) -> None:
    if self._tracked is not None:
      try:
        self._tracked.close(self._finished)
      except Exception as error:
        self._warn(error)

  def _warn(self, error: Exception) -> None:
    """Says once that something is wrong."""
    first = not self._problem
    self._problem = neutral.line(
      neutral.without_logins(f'{type(error).__name__}: {error}')
    )
    if first:
      now = time.strftime('%H:%M:%S')
      neutral.say(
        f'{self._name}: a report could not be delivered at {now}'
        f' ({self._problem}). Training goes on; it is tried again with the next'
        ' one.',
        err=True,
      )
