"""Snapshots of `tf.data` pipelines, from which a run can resume quickly.

The position in the data is a number of batches, and reading a pipeline again
up to it always leads there, but takes longer the longer the run. A snapshot is
TensorFlow's own record of a pipeline after some number of batches (shuffle
buffers, memory caches, examples half packed), from which few batches are left
to read up to the position.

A snapshot is never trusted: it belongs to one TensorFlow, one pipeline and one
part of the data, and the batch that follows it has to be the one that followed
when it was taken. Otherwise the pipeline is read again from the start.
"""

import dataclasses
import json
import os
import pathlib
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf
from absl import logging

# Seconds between two snapshots of a run, and so at most of reading again. If
# snapshots take long, the period grows so that they take no more than this
# fraction of the time.
PERIOD_SECONDS = 30.0
_MAX_TIME_FRACTION = 1 / 40
_MAX_BYTES = 1 << 30
_MAX_HEADER_BYTES = 1 << 12
_FORMAT = 1
# What TensorFlow writes: the size of the index comes first, then the two files.
_INDEX, _DATA = 'state.index', 'state.data-00000-of-00001'
_INDEX_SIZE = struct.Struct('<Q')

# What reading a header raises that is not one.
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)

Batch = Mapping[str, np.ndarray]


class UnusableError(ValueError):
  """A snapshot that does not lead to the position where it was taken."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
  """A pipeline's state between two of its batches.

  Attributes:
    batches: how many batches came before.
    next_batch: checksum of the batch that comes next.
    pipeline: fingerprint of the pipeline.
    tensorflow: version of what wrote the state.
    state: the state, compressed.
    state_bytes: its size when it is not.
  """

  batches: int
  next_batch: int
  pipeline: int
  tensorflow: str
  state: bytes
  state_bytes: int

  def to_bytes(self) -> bytes:
    """Returns the content of a file: a line of JSON, then the state."""
    header = dataclasses.asdict(self)
    del header['state']
    header['state_crc'] = zlib.crc32(self.state)
    header['format'] = _FORMAT
    return json.dumps(header, sort_keys=True).encode() + b'\n' + self.state

  @classmethod
  def from_bytes(cls, content: bytes) -> 'Snapshot':
    """Reads the content that `to_bytes` gave.

    Raises:
      UnusableError: it is something else, or has been damaged.
    """
    end = content.find(b'\n', 0, _MAX_HEADER_BYTES)
    try:
      header = json.loads(content[: max(end, 0)])
      state = content[end + 1 :]
      if header.pop('format') != _FORMAT:
        raise UnusableError('it has another format')
      if header.pop('state_crc') != zlib.crc32(state):
        raise UnusableError('its bytes are not those that were written')
      snapshot = cls(**header, state=state)
      for field in ('batches', 'next_batch', 'pipeline', 'state_bytes'):
        if type(getattr(snapshot, field)) is not int:
          raise TypeError(f'{field} is no number')
      if not 0 <= snapshot.state_bytes <= _MAX_BYTES:
        raise ValueError(f'{snapshot.state_bytes} bytes')
    except UnusableError:
      raise
    except _MALFORMED as error:
      raise UnusableError(f'it is no such file ({error!r})') from error
    return snapshot


class Pipeline(Iterator[Batch]):
  """One pass through a dataset, which takes snapshots on the way.

  Attributes:
    batches: how many were read, from the dataset's start.
  """

  def __init__(
    self,
    open_dataset: Callable[[], tf.data.Dataset],
    keep: Callable[[Snapshot], None],
    period: float | None = None,
  ):
    """Begins at the start.

    Args:
      open_dataset: makes the dataset, anew each time: one that shuffles comes
        in another order when it is read once more.
      keep: called with each snapshot.
      period: seconds between snapshots, `PERIOD_SECONDS` by default; 0 takes
        one before every batch.
    """
    self._open_dataset = open_dataset
    self._dataset = open_dataset()
    self._keep = keep
    self._period = PERIOD_SECONDS if period is None else period
    self._due_at = time.monotonic() + self._period
    self._gave_up = False
    self._fingerprint: int | None = None
    self._begin()

  def _begin(self) -> None:
    self.batches = 0
    # Made when it is first read from.
    self._opened: Iterator[Batch] | None = None
    # The batch that was read to check a snapshot.
    self._ahead: Batch | None = None
    # A snapshot whose next batch has not been read yet.
    self._taken: Snapshot | None = None

  @property
  def _iterator(self) -> Iterator[Batch]:
    if self._opened is None:
      self._opened = self._dataset.as_numpy_iterator()
    return self._opened

  def _saver(self) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(iterator=self._iterator)

  def go_to(
    self,
    batches: int,
    snapshot: Snapshot | None,
    stopped: Callable[[], bool] = lambda: False,
  ) -> bool:
    """Goes from the start to a position, with a snapshot's help if it can.

    Args:
      batches: the position; the dataset may end before it.
      snapshot: of the same dataset, at or before the position.
      stopped: asked after every batch whether to stop.

    Returns:
      False if the snapshot is unusable.
    """
    if not batches:
      return True
    usable, why = True, 'there is no snapshot of it'
    if snapshot is not None:
      try:
        self._restore(snapshot, batches)
      except UnusableError as error:
        usable, why = False, f'its snapshot is unusable: {error}'
        if self._opened is not None:
          self._dataset = self._open_dataset()
          self._begin()
    if self.batches:
      again = f'{batches - self.batches} of them read again'
    else:
      again = f'all of them read again, since {why}'
    level = logging.INFO if usable else logging.WARNING
    logging.log(level, 'Input: going on after %d batches, %s.', batches, again)
    while self.batches < batches and not stopped():
      if self._ahead is None and next(self._iterator, None) is None:
        break
      self._ahead = None
      self.batches += 1
    return usable

  def __next__(self) -> Batch:
    if self._ahead is not None:
      batch, self._ahead = self._ahead, None
    else:
      if time.monotonic() >= self._due_at and not self._gave_up:
        self._take()
      batch = next(self._iterator)
      if self._taken is not None:
        self._keep(dataclasses.replace(self._taken, next_batch=checksum(batch)))
        self._taken = None
    self.batches += 1
    return batch

  def _take(self) -> None:
    begin = time.monotonic()
    try:
      if self._fingerprint is None:
        self._fingerprint = fingerprint(self._dataset)
      state = self._state()
      self._taken = Snapshot(
        batches=self.batches,
        next_batch=0,  # Known when it is read.
        pipeline=self._fingerprint,
        tensorflow=tf.__version__,
        state=zlib.compress(state, 1),
        state_bytes=len(state),
      )
    # Whatever it is, training continues without snapshots.
    except Exception as error:
      self._gave_up = True
      logging.info(
        'Input: no snapshots of this pipeline (%s). A run that goes on reads'
        ' it again up to its position.',
        str(error).partition('\n')[0][:300],
      )
    now = time.monotonic()
    if self._period:
      self._due_at = now + max(self._period, (now - begin) / _MAX_TIME_FRACTION)

  def _state(self) -> bytes:
    """Returns what TensorFlow writes for the iterator."""
    with tempfile.TemporaryDirectory(prefix='snapshot-') as folder:
      self._saver().write(os.path.join(folder, 'state'))
      if sorted(os.listdir(folder)) != sorted((_INDEX, _DATA)):
        raise UnusableError(f'TensorFlow wrote {sorted(os.listdir(folder))}')
      index, data = (
        pathlib.Path(folder, name).read_bytes() for name in (_INDEX, _DATA)
      )
    if len(index) + len(data) > _MAX_BYTES - _INDEX_SIZE.size:
      raise UnusableError(f'it takes {len(data) >> 20} MiB')
    return _INDEX_SIZE.pack(len(index)) + index + data

  def _restore(self, snapshot: Snapshot, batches: int) -> None:
    """Goes to where a snapshot was taken; raises `UnusableError` otherwise."""
    if snapshot.batches > batches:
      raise UnusableError(f'it was taken after {snapshot.batches} batches')
    if snapshot.tensorflow != tf.__version__:
      raise UnusableError(f'it is of TensorFlow {snapshot.tensorflow}')
    try:
      self._fingerprint = fingerprint(self._dataset)
      if snapshot.pipeline != self._fingerprint:
        raise UnusableError('it is of another pipeline')
      unpack = zlib.decompressobj()
      state = unpack.decompress(snapshot.state, snapshot.state_bytes + 1)
      if len(state) != snapshot.state_bytes:
        raise UnusableError('it has another size than it says')
      (size,) = _INDEX_SIZE.unpack_from(state)
      begin = _INDEX_SIZE.size
      with tempfile.TemporaryDirectory(prefix='snapshot-') as folder:
        pathlib.Path(folder, _INDEX).write_bytes(state[begin : begin + size])
        pathlib.Path(folder, _DATA).write_bytes(state[begin + size :])
        status = self._saver().read(os.path.join(folder, 'state'))
        status.assert_consumed()
      self._ahead = next(self._iterator)
    except UnusableError:
      raise
    # None of TensorFlow's many errors may end the run.
    except Exception as error:
      reason = str(error).partition('\n')[0][:300]
      raise UnusableError(f'TensorFlow cannot read it: {reason}') from error
    if checksum(self._ahead) != snapshot.next_batch:
      raise UnusableError('another batch follows than did then')
    self.batches = snapshot.batches


def checksum(batch: Batch) -> int:
  """Returns the CRC-32 of a batch: names, types, shapes and values."""
  crc = 0
  for name, value in sorted(batch.items()):
    value = np.asarray(value)
    crc = zlib.crc32(f'{name}{value.dtype}{value.shape}'.encode(), crc)
    is_text = value.dtype == object
    content = str(value.tolist()).encode() if is_text else value.tobytes()
    crc = zlib.crc32(content, crc)
  return crc


def fingerprint(dataset: tf.data.Dataset) -> int:
  """Returns a number that tells one pipeline from another, in any process.

  It covers all operations and constants of the pipeline's graph: data in
  memory, names of files, seeds, lengths, vocabularies. Names that TensorFlow
  makes up, handles of its resources, and the order of nodes don't count. What
  Python functions inside the pipeline do is not seen.

  Args:
    dataset: the pipeline.

  Returns:
    32 bits.
  """
  graph = tf.compat.v1.GraphDef.FromString(
    tf.raw_ops.DatasetToGraphV2(
      input_dataset=tf.data.experimental.to_variant(dataset),
      # Random seeds are state too, which the constants hold.
      external_state_policy=1,
      strip_device_assignment=True,
    ).numpy()
  )
  nodes = list(graph.node)
  for function in graph.library.function:
    nodes += function.node_def
  return zlib.crc32(repr(sorted(map(_node_checksum, nodes))).encode())


def _node_checksum(node) -> int:
  crc = zlib.crc32(node.op.encode())
  if node.op == 'Const':
    value = node.attr['value'].tensor
    if value.dtype != tf.resource.as_datatype_enum:
      crc = zlib.crc32(value.SerializeToString(deterministic=True), crc)
  return crc
