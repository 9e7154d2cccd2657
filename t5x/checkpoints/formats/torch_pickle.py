"""Reader of `torch.save` files, without torch and without executing pickles.

Such a file is a pickle, and a pickle is a program: Python's own loader runs
whatever its author wrote. Here the pickle may only name the few functions and
classes that a dict of tensors needs, each of which is replaced by a harmless
one of this module. Everything else is refused before it is looked up.

Both of torch's formats are read: the zip archive (torch 1.6 and later), with
uncompressed numbers in members `<root>/data/<key>`, and the older sequence of
pickles followed by the numbers. Numbers are only read on demand.
"""

import os
import pathlib
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from t5x.checkpoints.formats import lazy_array
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.errors import UserError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# The largest T5 has some thousand tensors of some ten objects each.
_MAX_OBJECTS = 10**7
_MAX_DEPTH = 40

# Types of numbers by the class of their storage.
_STORAGES = {
  'DoubleStorage': 'float64',
  'FloatStorage': 'float32',
  'HalfStorage': 'float16',
  'BFloat16Storage': 'bfloat16',
  'LongStorage': 'int64',
  'IntStorage': 'int32',
  'ShortStorage': 'int16',
  'CharStorage': 'int8',
  'ByteStorage': 'uint8',
  'BoolStorage': 'bool',
}


class _Storage(NamedTuple):
  """A run of numbers of one type, as the pickle names it."""

  key: str
  dtype: str
  size: int


class _Tensor(NamedTuple):
  """A view of a storage; offset and strides count numbers, not bytes."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _Extent(NamedTuple):
  """The bytes of a storage in the file."""

  start: int
  nbytes: int


class _Refused(pickle.UnpicklingError):
  """The pickle asks for something that a dict of tensors doesn't need."""


class _PlainDict(dict):
  """Stand-in for OrderedDict; drops attributes."""

  def __setstate__(self, state):
    del state  # torch adds the versions of modules to a state dict.


class _StandIn:
  """Stand-in for a name that the pickle may use; it can't be altered."""

  __slots__ = ('_call', '_name')

  def __init__(self, name: str, call: Callable[..., Any]):
    object.__setattr__(self, '_name', name)
    object.__setattr__(self, '_call', call)

  def __call__(self, *args):
    return self._call(*args)

  def __setattr__(self, *_):
    raise _Refused(f'it changes {self._name}')

  __setstate__ = __setattr__


def _rebuild_tensor(storage, offset, size, stride, *_) -> _Tensor:
  """Stand-in for torch's functions that make a tensor of a storage."""
  if not isinstance(storage, _Storage):
    raise _Refused('a tensor has no storage')
  shape, strides = (tuple(int(n) for n in x) for x in (size, stride))
  return _Tensor(storage, int(offset), shape, strides)


def _rebuild_parameter(data, *_) -> _Tensor:
  """Stand-in for torch's function that makes a parameter of a tensor."""
  if not isinstance(data, _Tensor):
    raise _Refused('a parameter is not a tensor')
  return data


def _make_storage(*_):
  raise _Refused('it makes a storage other than those of the file')


_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
  ('collections', 'OrderedDict'): _PlainDict,
  ('torch._utils', '_rebuild_tensor'): _rebuild_tensor,
  ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
  ('torch._utils', '_rebuild_parameter'): _rebuild_parameter,
  **{('torch', name): _make_storage for name in _STORAGES},
}


class _TensorUnpickler(pickle.Unpickler):
  """Builds records of tensors; refuses every name that they don't need."""

  def __init__(self, file):
    super().__init__(file, encoding='utf-8')
    self._stand_ins = {
      key: _StandIn('.'.join(key), call) for key, call in _CALLS.items()
    }
    self._storages = {
      self._stand_ins['torch', name]: dtype for name, dtype in _STORAGES.items()
    }

  def find_class(self, module, name):
    """Returns the stand-in for a name that a dict of tensors needs."""
    try:
      return self._stand_ins[module, name]
    except KeyError:
      raise _Refused(f'it asks for {module}.{name}') from None

  def persistent_load(self, pid):
    """Returns the record of a storage, whose bytes are outside the pickle."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != 'storage':
      raise _Refused('it asks for an object outside of itself')
    _, kind, key, _, size, *view = pid
    if view and view[0] is not None:
      raise _Refused('it asks for a view of a storage')
    if not isinstance(kind, _StandIn) or kind not in self._storages:
      raise _Refused('it asks for a storage of an unknown type')
    return _Storage(str(key), self._storages[kind], int(size))


def _load(file: Any) -> Any:
  """Loads one pickle, after a check that it can't break the loader itself.

  The loader allocates a memo as large as the largest index in use, and
  overflows its stack on an object that is nested a million times.

  Args:
    file: at the pickle's start; afterwards behind its end.
  """
  start = file.tell()
  stack: list[int | None] = []  # How deep each object is; None is a mark.
  memo: dict[Any, int | None] = {}
  for code, argument, _ in pickletools.genops(file):
    if code.name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
      number = len(memo) if argument is None else argument
      if number > _MAX_OBJECTS:
        raise _Refused(f'it has room for {number} objects')
      memo[number] = stack[-1]
    elif code.name in ('GET', 'BINGET', 'LONG_BINGET'):
      stack.append(memo[argument])
    elif code.name == 'MARK':
      stack.append(None)
    else:
      depth = _pop_arguments(stack, code) + 1
      if depth > _MAX_DEPTH:
        raise _Refused(f'it has objects in objects, {depth} deep')
      stack.extend([depth] * len(code.stack_after))
  file.seek(start)
  return _TensorUnpickler(file).load()


def _pop_arguments(
  stack: list[int | None], code: pickletools.OpcodeInfo
) -> int:
  """Pops what an instruction takes off the stack; returns the largest depth."""
  depths, singly = [0], len(code.stack_before)
  if pickletools.markobject in code.stack_before:
    singly = code.stack_before.index(pickletools.markobject)
    while (depth := stack.pop()) is not None:
      depths.append(depth)
  depths += [stack.pop() or 0 for _ in range(singly)]
  return max(depths)


def open_file(path: str | os.PathLike) -> dict[str, LazyArray]:
  """Opens a dict of tensors that `torch.save` wrote; reads no number yet.

  Args:
    path: a local file.

  Returns:
    The tensors by name; numbers of torch's bfloat16 are `ml_dtypes.bfloat16`.

  Raises:
    UserError: the file is damaged, or holds anything but a dict of tensors.
  """
  path = pathlib.Path(path)
  try:
    with path.open('rb') as file:
      is_zip = file.read(2) == b'PK'
    content, extents = (_open_zip if is_zip else _open_legacy)(path)
    return {
      name: _lazy(path, name, tensor, extents)
      for name, tensor in content.items()
    }
  except _Refused as error:
    raise UserError(
      f'{path}: this pickle was not loaded: {error}. Expected a dict of tensors'
      ' and nothing else; a file that asks for more could run any program.'
      ' Nothing of it was executed. Take the file from a source that you trust,'
      ' or the safetensors file of the same model.'
    ) from error
  except _DAMAGED as error:
    raise UserError(
      f'{path}: cannot be read as a PyTorch file:'
      f' {str(error) or type(error).__name__}. Expected what torch.save writes;'
      ' was the download cut short? Download the file again.'
    ) from error


# What Python's loaders raise for invalid bytes.
_DAMAGED = (
  OSError,
  zipfile.BadZipFile,
  pickle.UnpicklingError,
  struct.error,
  ArithmeticError,
  AttributeError,
  EOFError,
  LookupError,
  MemoryError,
  TypeError,
  ValueError,
)


def _tensors(content: Any) -> dict[str, _Tensor]:
  if not isinstance(content, Mapping):
    raise _Refused('it is not a dict of tensors')
  for name, tensor in content.items():
    if not isinstance(tensor, _Tensor):
      raise _Refused(f'{name} is not a tensor')
  return {str(name): tensor for name, tensor in content.items()}


_Content = tuple[dict[str, _Tensor], dict[str, _Extent]]


def _open_zip(path: pathlib.Path) -> _Content:
  with zipfile.ZipFile(path) as archive, path.open('rb') as file:
    members = {info.filename: info for info in archive.infolist()}
    (pickled,) = [n for n in members if n.split('/')[1:] == ['data.pkl']]
    root = pickled.removesuffix('data.pkl')
    for name, info in members.items():
      if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f'{name} is compressed')
    if f'{root}byteorder' in members:
      order = archive.read(f'{root}byteorder').decode()
      if order != 'little':
        raise ValueError(f'its byte order is {order}, expected little')
    with archive.open(pickled) as stream:
      content = _tensors(_load(stream))
    extents = {
      name.removeprefix(f'{root}data/'): _extent_of_member(file, info)
      for name, info in members.items()
      if name.startswith(f'{root}data/')
    }
  return content, extents


def _extent_of_member(file: BinaryIO, info: zipfile.ZipInfo) -> _Extent:
  # A member's own header may be longer than the archive's index says.
  file.seek(info.header_offset)
  header = struct.unpack('<4s22xHH', file.read(30))
  if header[0] != b'PK\x03\x04':
    raise ValueError(f'{info.filename} has no header')
  return _Extent(info.header_offset + 30 + sum(header[1:]), info.file_size)


def _open_legacy(path: pathlib.Path) -> _Content:
  """Opens a file of torch before 1.6: pickles, then the storages in turn."""
  with path.open('rb') as file:
    if _load(file) != _MAGIC_NUMBER:
      raise ValueError('it is neither a zip archive nor a pickle of torch')
    if _load(file) != _LEGACY_PROTOCOL:
      raise ValueError('it is a pickle of an unknown version of torch')
    system = _load(file)
    if not system.get('little_endian', True):
      raise ValueError('its byte order is big, expected little')
    content = _tensors(_load(file))
    keys = _load(file)
    sizes = {
      tensor.storage.key: np.dtype(tensor.storage.dtype).itemsize
      for tensor in content.values()
    }
    extents = {}
    for key in map(str, keys):
      (count,) = struct.unpack('<q', file.read(8))
      extents[key] = _Extent(file.tell(), count * sizes[key])
      file.seek(extents[key].nbytes, os.SEEK_CUR)
  return content, extents


def _lazy(
  path: pathlib.Path, name: str, tensor: _Tensor, extents: Mapping[str, _Extent]
) -> LazyArray:
  """Wraps a tensor of the file, if all of it is inside its storage."""
  storage = tensor.storage
  dtype = np.dtype(storage.dtype)
  extent = extents.get(storage.key)
  if extent is None:
    raise ValueError(f'the numbers of {name} are missing')
  reach = tensor.offset + sum(
    (n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True)
  )
  empty = 0 in tensor.shape
  numbers = (tensor.offset, *tensor.shape, *tensor.strides)
  stored = extent.nbytes // dtype.itemsize
  available = min(storage.size, stored)
  if min(numbers) < 0 or not (empty or reach < available):
    raise ValueError(
      f'{name} of shape {tensor.shape} goes beyond its {available} numbers'
    )
  if extent.start + extent.nbytes > path.stat().st_size:
    raise ValueError(f'the file ends inside the numbers of {name}')

  def start_read(index):
    if empty:
      return lazy_array.Ready(np.zeros(tensor.shape, dtype)[index])
    memory = np.memmap(path, dtype, 'r', extent.start, (stored,))
    view = np.lib.stride_tricks.as_strided(
      memory[tensor.offset :],
      tensor.shape,
      [step * dtype.itemsize for step in tensor.strides],
      writeable=False,
    )
    return lazy_array.Ready(np.array(view[index]))

  return LazyArray(f'{path}: {name}', tensor.shape, dtype, start_read)
