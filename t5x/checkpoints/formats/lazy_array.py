"""Arrays of a checkpoint that are read slice by slice, on demand.

All layouts are read the same way: opening a checkpoint gives a nested dict of
`LazyArray`, whose names, shapes and types can be matched against a model at no
cost; `read_to_devices` then fetches, for every array, just the slices
that this host's devices hold, many arrays at a time.
"""

import collections
import contextlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
import tensorstore as ts

from t5x.errors import DamagedError, UserError

# Host memory for all slices that are being read onto the devices.
MAX_BYTES_IN_FLIGHT = 2 << 30

Index = tuple[slice, ...]


class Pending(Protocol):
  """A started read: `result()` waits for the array and returns it."""

  def result(self) -> np.ndarray: ...


class Ready:
  """A read that needs no waiting."""

  def __init__(self, value: np.ndarray):
    self._value = value

  def result(self) -> np.ndarray:
    return self._value


class DerivedRead:
  """A started read whose array is computed from those of other reads."""

  def __init__(self, compute: Callable[..., np.ndarray], *reads: Pending):
    self._compute, self._reads = compute, reads

  def result(self) -> np.ndarray:
    return self._compute(*(read.result() for read in self._reads))


class LazyArray:
  """An array in a checkpoint: name, shape and type now, values when asked.

  Attributes:
    name: the checkpoint's path and the leaf, for messages.
    shape: its shape.
    dtype: the type of its values when read.
  """

  def __init__(
    self,
    name: str,
    shape: Sequence[int],
    dtype: Any,
    start_read: Callable[[Index], Pending],
  ):
    """Wraps a reader.

    Args:
      name: for messages.
      shape: the array's shape.
      dtype: the type to return; values of another type are converted.
      start_read: begins to read a slice (one `slice` per dimension, with
        explicit bounds).
    """
    self.name = name
    self.shape = tuple(int(n) for n in shape)
    self.dtype = np.dtype(dtype)
    self._start_read = start_read

  @property
  def ndim(self) -> int:
    return len(self.shape)

  @property
  def size(self) -> int:
    return int(np.prod(self.shape))

  def start_read(self, index: Index | None = None) -> Pending:
    """Begins to read `index`, by default all of it."""
    index = bounded(index or (slice(None),) * self.ndim, self.shape)
    with naming_array_in_errors(self.name):
      read = self._start_read(index)

    def finish():
      with naming_array_in_errors(self.name):
        value = np.asarray(read.result())
      return value if value.dtype == self.dtype else value.astype(self.dtype)

    return DerivedRead(finish)

  def get(self) -> np.ndarray:
    """Reads the whole array to the host."""
    return self.start_read().result()

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    value = self.get()
    return value if dtype is None else value.astype(dtype)

  def astype(self, dtype: Any) -> 'LazyArray':
    """Returns the same array, to be read as `dtype`."""
    return LazyArray(self.name, self.shape, dtype, self._start_read)

  def __repr__(self) -> str:
    return f'LazyArray({self.name}, {self.dtype}{list(self.shape)})'


@contextlib.contextmanager
def naming_array_in_errors(
  name: str, kinds: tuple[type[Exception], ...] = (ValueError, OSError)
) -> Iterator[None]:
  """Turns a failure to read an array's values into a `DamagedError`."""
  try:
    yield
  except kinds as error:
    reason = (str(error) or repr(error)).partition(' [')[0]
    raise DamagedError(
      f'{name}: its values cannot be read, so the checkpoint is incomplete or'
      ' damaged (a copy that was cut short?). Copy or save it again. The'
      f' storage said: {reason}'
    ) from error


def as_lazy(name: str, value: Any) -> LazyArray:
  """Wraps a value that is in memory; returns a `LazyArray` unchanged."""
  if isinstance(value, LazyArray):
    return value
  value = np.asarray(value)
  return LazyArray(
    name, value.shape, value.dtype, lambda index: Ready(value[index])
  )


def new_context() -> ts.Context:
  """A cache that the arrays of one checkpoint share.

  With it, an index that they share is read once. Make a new one each time a
  checkpoint is opened: another checkpoint may be at the same path by then.
  """
  return ts.Context({'cache_pool': {'total_bytes_limit': 256 << 20}})


def kvstore(path: str) -> dict[str, Any]:
  """The TensorStore key-value store of a folder or file.

  Args:
    path: a local path, `gs://bucket/path` or `http(s)://host/path`.

  Returns:
    Its JSON specification, for example
    `{'driver': 'gcs', 'bucket': 't5-data', 'path': 'pretrained_models/x'}`.
  """
  path = os.fspath(path)
  if match := re.fullmatch(r'gs://([^/]+)/?(.*)', path):
    return {'driver': 'gcs', 'bucket': match[1], 'path': match[2]}
  if match := re.fullmatch(r'(https?://[^/]+)(/.*)?', path):
    return {'driver': 'http', 'base_url': match[1], 'path': match[2] or '/'}
  if match := re.match(r'([a-z0-9]+)://', path):
    raise UserError(
      f'{path}: cannot read from {match[1]}://. Expected a local path,'
      ' gs://bucket/path or http(s)://host/path.'
    )
  return {'driver': 'file', 'path': os.path.abspath(path)}


def read_bytes(path: str) -> bytes | None:
  """Returns the content of a file, local or remote; None if it is absent."""
  spec = kvstore(path)
  folder, _, key = spec['path'].rpartition('/')
  store = ts.KvStore.open({**spec, 'path': folder + '/'}).result()
  result = store.read(key).result()
  return result.value if result.state == 'value' else None


def read_json(path: str, what: str) -> dict[str, Any] | None:
  """Returns the JSON object in a file; None if the file is absent.

  Raises:
    DamagedError: it holds something else than `what`.
  """
  content = read_bytes(path)
  if content is None:
    return None
  fix = 'Copy the checkpoint again, or choose another step.'
  return _json_object(content, path, what, fix)


def json_file(file: pathlib.Path, what: str, max_bytes: int) -> dict[str, Any]:
  """Returns the JSON object in a local file of someone else's.

  Args:
    file: the file.
    what: is expected in it, for messages.
    max_bytes: of which it may have no more.

  Raises:
    UserError: it can't be read, is longer, or holds something else.
  """
  fix = 'Download the folder again.'
  try:
    with file.open('rb') as stream:
      content = stream.read(max_bytes + 1)
  except OSError as error:
    raise UserError(
      f'{file}: expected {what}; it can not be read ({error}). {fix}'
    ) from error
  if len(content) > max_bytes:
    raise UserError(
      f'{file}: expected {what}, of at most {max_bytes:,} bytes; found'
      f' {file.stat().st_size:,}. {fix}'
    )
  return _json_object(content, os.fspath(file), what, fix)


def _json_object(
  content: bytes, path: str, what: str, fix: str
) -> dict[str, Any]:
  try:
    value = json.loads(content)
    if not isinstance(value, dict):
      raise ValueError(f'a {type(value).__name__}')
  except (ValueError, RecursionError) as error:
    raise DamagedError(
      f'{path}: expected {what} as a JSON object, found something else'
      f' ({error}). {fix}'
    ) from error
  return value


def open_zarr(
  store: Mapping[str, Any],
  driver: str = 'zarr',
  strict: bool = True,
  context: ts.Context | None = None,
) -> ts.Future:
  """Begins to open a zarr array.

  Args:
    store: the key-value store of the array's folder.
    driver: `'zarr'` or `'zarr3'`.
    strict: whether a missing chunk is an error; otherwise it holds the array's
      fill value, as zarr defines it.
    context: cache shared with other arrays; see `new_context`.
  """
  spec: dict[str, Any] = {'driver': driver, 'kvstore': dict(store)}
  if strict:
    spec['fill_missing_data_reads'] = False
  return ts.open(spec, open=True, read=True, context=context)


def bounded(index: Index, shape: Sequence[int]) -> Index:
  """Returns slices with start and stop: `[:]` of 4 → `slice(0, 4)`."""
  return tuple(
    slice(*s.indices(n)[:2]) for s, n in zip(index, shape, strict=True)
  )


class _Transfer:
  """An array that is being read: one read per distinct slice."""

  def __init__(self, array: LazyArray, sharding: jax.sharding.Sharding):
    self._array, self._sharding = array, sharding
    places = sharding.addressable_devices_indices_map(array.shape)
    # Pairs (start, stop), since slices have no hash before Python 3.12.
    self._slice_of = {
      device: tuple((s.start, s.stop) for s in bounded(index, array.shape))
      for device, index in places.items()
      if index is not None
    }
    self._reads = {
      extent: array.start_read(tuple(slice(*pair) for pair in extent))
      for extent in dict.fromkeys(self._slice_of.values())
    }
    self.nbytes = array.dtype.itemsize * sum(
      int(np.prod([stop - start for start, stop in extent]))
      for extent in self._reads
    )

  def finish(self) -> jax.Array:
    values = {extent: read.result() for extent, read in self._reads.items()}
    return jax.make_array_from_single_device_arrays(
      self._array.shape,
      self._sharding,
      [
        jax.device_put(values[extent], device)
        for device, extent in self._slice_of.items()
      ],
    )


def read_to_devices(
  arrays: Sequence[LazyArray],
  shardings: Sequence[jax.sharding.Sharding],
  max_bytes: int = MAX_BYTES_IN_FLIGHT,
) -> list[jax.Array]:
  """Reads arrays onto the devices, each device its own slice only.

  Reads run concurrently; a slice that several devices share is read once.

  Args:
    arrays: what to read.
    shardings: of the results; must divide their shapes evenly.
    max_bytes: host memory that unfinished arrays may take up. One array is
      always read, however large.

  Returns:
    Global arrays, in the order of `arrays`.
  """
  done: list[jax.Array] = []
  under_way: collections.deque[_Transfer] = collections.deque()
  nbytes = 0
  for array, sharding in zip(arrays, shardings, strict=True):
    transfer = _Transfer(array, sharding)
    under_way.append(transfer)
    nbytes += transfer.nbytes
    while nbytes > max_bytes and under_way:
      oldest = under_way.popleft()
      nbytes -= oldest.nbytes
      done.append(oldest.finish())
  return done + [transfer.finish() for transfer in under_way]
