"""Arrays that lie in a checkpoint until somebody asks for a slice of them.

All checkpoint layouts are read the same way: opening one gives a nested dict
of `LazyArray`, whose names, shapes and types can be matched against a model
at no cost; `read_to_devices` then fetches, for every array, just the slices
that this host's devices hold, many arrays at a time.
"""

import collections
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import ml_dtypes
import numpy as np
import tensorstore as ts

from t5x.errors import DamagedError, UserError

# Host memory that slices on their way to the devices may take up together.
MAX_BYTES_IN_FLIGHT = 2 << 30

Index = tuple[slice, ...]


class Pending(Protocol):
  """What a started read hands out: `result()` waits and gives the array."""

  def result(self) -> np.ndarray: ...


class Ready:
  """A read that needs no waiting."""

  def __init__(self, value: np.ndarray):
    self._value = value

  def result(self) -> np.ndarray:
    return self._value


class LazyArray:
  """An array in a checkpoint: name, shape and type now, values when asked.

  Attributes:
    name: where it lies, for messages: the checkpoint's path and the leaf.
    shape: its shape.
    dtype: the type that its values will have when read.
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
      dtype: the type to hand out; values are converted if they differ.
      start_read: begins to read a slice (one `slice` a dimension, explicit
        bounds) and returns a handle with `result()`.
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
    """Begins to read `index` (default all of it) and returns a handle."""
    index = bounded(index or (slice(None),) * self.ndim, self.shape)
    return _Named(self.name, self.dtype, self._begin(index))

  def _begin(self, index: Index) -> Pending:
    try:
      return self._start_read(index)
    except (ValueError, OSError) as error:
      raise unreadable(self.name, error) from error

  def get(self) -> np.ndarray:
    """Reads the whole array to the host."""
    return self.start_read().result()

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    value = self.get()
    return value if dtype is None else value.astype(dtype)

  def astype(self, dtype: Any) -> 'LazyArray':
    """The same array, handed out as `dtype`."""
    return LazyArray(self.name, self.shape, dtype, self._start_read)

  def __repr__(self) -> str:
    return f'LazyArray({self.name}, {self.dtype}{list(self.shape)})'


class _Named:
  """A started read that says which array failed and converts its type."""

  def __init__(self, name: str, dtype: np.dtype, pending: Pending):
    self._name, self._dtype, self._pending = name, dtype, pending

  def result(self) -> np.ndarray:
    try:
      value = np.asarray(self._pending.result())
    except (ValueError, OSError) as error:
      raise unreadable(self._name, error) from error
    return value if value.dtype == self._dtype else value.astype(self._dtype)


def unreadable(name: str, error: Exception) -> DamagedError:
  """The error for values that are named in a checkpoint but can't be read."""
  said = (str(error) or repr(error)).partition(' [')[0]
  return DamagedError(
    f'{name}: its values cannot be read, so the checkpoint is incomplete or'
    ' damaged (a copy that was cut short?). Copy or save it again. The'
    f' storage said: {said}'
  )


def from_numpy(name: str, value: Any) -> LazyArray:
  """Wraps a value that is in memory already."""
  value = np.asarray(value)
  return LazyArray(
    name, value.shape, value.dtype, lambda index: Ready(value[index])
  )


def new_context() -> ts.Context:
  """A cache that the arrays of one checkpoint share.

  With it, an index that they share is read once. It must not outlive the
  checkpoint's being opened: another one may come to lie at the same path.
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
  """The content of one file, local or remote; None if there is none."""
  spec = kvstore(path)
  folder, _, key = spec['path'].rpartition('/')
  store = ts.KvStore.open({**spec, 'path': folder + '/'}).result()
  found = store.read(key).result()
  return found.value if found.state == 'value' else None


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
    strict: whether a chunk without a file is an error; otherwise it counts as
      filled with the array's fill value, as zarr has it.
    context: what it shares with other arrays; see `new_context`.
  """
  spec = {'driver': driver, 'kvstore': dict(store)}
  if strict:
    spec['fill_missing_data_reads'] = False
  return ts.open(spec, open=True, read=True, context=context)


def bounded(index: Index, shape: Sequence[int]) -> Index:
  """Gives every slice its start and stop: `[:]` of 4 → `slice(0, 4)`."""
  return tuple(
    slice(*s.indices(n)[:2]) for s, n in zip(index, shape, strict=True)
  )


def _extent(index: Index) -> tuple[tuple[int, int], ...]:
  return tuple((s.start, s.stop) for s in index)


class _Transfer:
  """One array on its way: a started read for each distinct slice."""

  def __init__(self, array: LazyArray, sharding: jax.sharding.Sharding):
    self._array, self._sharding = array, sharding
    places = sharding.addressable_devices_indices_map(array.shape)
    self._slice_of = {
      device: _extent(bounded(index, array.shape))
      for device, index in places.items()
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
    shardings: where each goes; must divide its shape evenly.
    max_bytes: host memory that unfinished arrays may take up. One array is
      always under way, however large.

  Returns:
    Global arrays, in the order of `arrays`.
  """
  done, under_way, nbytes = [], collections.deque(), 0
  for array, sharding in zip(arrays, shardings, strict=True):
    transfer = _Transfer(array, sharding)
    under_way.append(transfer)
    nbytes += transfer.nbytes
    while nbytes > max_bytes and under_way:
      oldest = under_way.popleft()
      nbytes -= oldest.nbytes
      done.append(oldest.finish())
  return done + [transfer.finish() for transfer in under_way]


def numpy_dtype(name: str) -> np.dtype:
  """The type called `name`, also where NumPy lacks it: 'bfloat16'."""
  return np.dtype(ml_dtypes.bfloat16 if name == 'bfloat16' else name)
