"""Iterator that feeds a run: reads ahead, and keeps its position."""

import collections
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures

import jax
import numpy as np
import tensorflow as tf
from absl import logging

from t5x.data import snapshots

# Batches that wait on the devices while a step runs: one to start at once, one
# for a hiccup of the input. More would only hold memory.
_PREFETCH_BATCHES = 2


class TrainIterator(Iterator[Mapping[str, jax.Array]]):
  """Batches on the devices, with a position that can be saved and restored.

  A background thread reads and copies ahead. The position counts the batches
  that were handed out, not those read ahead. A position is restored by reading
  the (seeded, deterministic) pipeline again up to it, from the last snapshot
  before it if there is one.

  Attributes:
    part: which part of the data this is, which names its snapshots.
    make_again: makes the dataset anew, for when it has been read from and its
      start is needed once more: the same `tf.data.Dataset`, read a second time,
      comes shuffled otherwise.
  """

  def __init__(
    self,
    dataset: tf.data.Dataset,
    shard_batch: Callable[[Mapping[str, np.ndarray]], Mapping[str, jax.Array]],
    part: str = '0-of-1',
    saves: bool = True,
    snapshot_period: float | None = None,
  ):
    """Wraps a dataset; nothing is read before `read_ahead` or a first batch.

    Args:
      dataset: one host's batches.
      shard_batch: puts a host's rows on the mesh, as a partitioner does.
      part: which part of the data this is: '1-of-2' is the second half of each
        batch.
      saves: whether this host gives snapshots; of the hosts that read the same
        part, one does.
      snapshot_period: seconds between snapshots, by default
        `snapshots.PERIOD_SECONDS`.
    """
    self.part = part
    self._dataset = dataset
    self._shard_batch = shard_batch
    self._saves = saves
    self._period = snapshot_period
    self.make_again: Callable[[], tf.data.Dataset] | None = None
    self._opened = False
    self._batches = 0
    self._reader: _ReadAhead | None = None
    # Ascending; the reader adds those of batches not yet handed out.
    self._snapshots: list[snapshots.Snapshot] = []
    self._lock = threading.Lock()

  @property
  def element_spec(self) -> Mapping[str, tf.TensorSpec]:
    """Shapes and types of one host's batch."""
    return self._dataset.element_spec

  def get_state(self) -> dict[str, int]:
    """Returns the position: `{'batches': batches handed out}`."""
    return {'batches': self._batches}

  def set_state(self, state: Mapping[str, int]) -> None:
    """Goes to a position that `get_state` gave."""
    self.close()
    self._batches = int(state['batches'])

  def get_snapshot(self) -> bytes | None:
    """Returns the last snapshot up to the position, to be saved with it."""
    snapshot = self._last_snapshot() if self._saves else None
    return None if snapshot is None else snapshot.to_bytes()

  def set_snapshot(self, content: bytes) -> None:
    """Takes a snapshot that `get_snapshot` gave, along with `set_state`.

    An unusable one is named in the log, and the position is reached without it.
    """
    self.close()
    try:
      snapshot = snapshots.Snapshot.from_bytes(content)
    except snapshots.UnusableError as error:
      logging.warning('Input: the snapshot of %s: %s.', self.part, error)
      return
    with self._lock:
      self._snapshots = [snapshot]

  def _last_snapshot(self) -> snapshots.Snapshot | None:
    with self._lock:
      self._drop_passed()
      first = next(iter(self._snapshots), None)
    return first if first and first.batches <= self._batches else None

  def _keep(self, snapshot: snapshots.Snapshot) -> None:
    with self._lock:
      earlier = [s for s in self._snapshots if s.batches < snapshot.batches]
      self._snapshots = [*earlier, snapshot]
      self._drop_passed()

  def _drop_passed(self) -> None:
    """Drops the snapshots before the last one up to the position."""
    passed = sum(s.batches <= self._batches for s in self._snapshots)
    del self._snapshots[: max(passed - 1, 0)]

  def _open_dataset(self) -> tf.data.Dataset:
    if self._opened:
      if self.make_again is None:
        raise RuntimeError(
          'This TrainIterator has to read its dataset again from the start, and'
          ' was not told how: set make_again.'
        )
      self._dataset = self.make_again()
    self._opened = True
    return self._dataset

  def _open(self, stopped: Callable[[], bool]) -> Iterator[snapshots.Batch]:
    """Returns the batches from the position on."""
    pipeline = snapshots.Pipeline(self._open_dataset, self._keep, self._period)
    snapshot = self._last_snapshot()
    usable = pipeline.go_to(self._batches, snapshot, stopped)
    if snapshot is not None and not usable:
      with self._lock:
        self._snapshots.remove(snapshot)
    return pipeline

  def read_ahead(self) -> '_ReadAhead':
    """Begins to read from the position on, before a batch is asked for."""
    if self._reader is None:
      self._reader = _ReadAhead(self._open, self._shard_batch)
    return self._reader

  def __next__(self) -> Mapping[str, jax.Array]:
    batch = self.read_ahead().get()
    self._batches += 1
    return batch

  def close(self) -> None:
    """Ends the background thread; the position stays."""
    if self._reader is not None:
      self._reader.close()
      self._reader = None


class _ReadAhead:
  """A thread that keeps a few batches ready on the devices."""

  def __init__(
    self,
    open_batches: Callable[[Callable[[], bool]], Iterator[snapshots.Batch]],
    shard_batch: Callable[[snapshots.Batch], Mapping[str, jax.Array]],
  ):
    self._stopped = threading.Event()
    self._thread = futures.ThreadPoolExecutor(1, 'read-ahead')
    opened = self._thread.submit(open_batches, self._stopped.is_set)
    self._read = lambda: shard_batch(next(opened.result()))
    self._batches = collections.deque(
      self._thread.submit(self._read) for _ in range(_PREFETCH_BATCHES)
    )

  def get(self) -> Mapping[str, jax.Array]:
    # What raises stays first, so that every further call ends in the same way.
    batch = self._batches[0].result()
    self._batches.popleft()
    self._batches.append(self._thread.submit(self._read))
    return batch

  def close(self) -> None:
    self._stopped.set()
    self._thread.shutdown(cancel_futures=True)
