"""T5X's legacy layout: one msgpack file, and one zarr folder per array.

```
checkpoint_1000000/
  checkpoint                                    msgpack: the tree
  target.encoder.encoder_norm.scale/.zarray     an array's shape and type
  target.encoder.encoder_norm.scale/0           its chunks
  state.param_states.encoder.encoder_norm.scale.v/...
```

The msgpack file holds `{'version': 3, 'optimizer': {'target', 'state'}}`, and
'flax_mutables' if the model has any. A leaf is an array if it has at most one
element, and otherwise a TensorStore specification whose path names the folder.
The file is written last: a folder without it is not a checkpoint.
"""

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

import flax.serialization
import flax.traverse_util
import jax
import numpy as np
import tensorstore as ts
from etils import epath

from t5x import distributed, files, state_utils
from t5x.checkpoints import integrity
from t5x.checkpoints.formats import lazy_array
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.errors import DamagedError, UserError

VERSION = 3
INDEX_FILE = 'checkpoint'
POSITION_FILE = 'dataset.json'
# Part of the name of a folder that is still being written.
TMP_INFIX = '.legacy-tmp'
# A chunk is one device's shard; a larger one is cut along its first even axis.
MAX_CHUNK_BYTES = 64 << 20
# What an index of an unexpected form raises while it is read.
_MALFORMED = (KeyError, TypeError, AttributeError, ValueError, RecursionError)


def is_legacy_checkpoint(path: str) -> bool:
  """Whether `path` is a folder in this layout, complete with its index."""
  if files.is_remote(path):
    return lazy_array.read_bytes(files.join(path, INDEX_FILE)) is not None
  return os.path.isfile(os.path.join(path, INDEX_FILE))


def read(path: str) -> dict[str, Any]:
  """Opens a checkpoint; no array is read yet.

  Args:
    path: the folder (`…/checkpoint_1000000`), local, `gs://` or `https://`.

  Returns:
    `{'target': …, 'state': {'step', 'param_states'}}`, with 'flax_mutables'
    if it has any: nested dicts of `LazyArray`.

  Raises:
    UserError: there is no index, or it is damaged or of an unknown version.
  """
  index_path = files.join(path, INDEX_FILE)
  content = lazy_array.read_bytes(index_path)
  if content is None:
    raise UserError(
      f'{path}: no T5X legacy checkpoint here: looked for the file'
      f' {INDEX_FILE!r}, which is written last, and found none. Choose another'
      ' step, or copy the checkpoint again.'
    )
  index = _parse_index(index_path, content)
  version: Any = index.get('version')
  # An array of several numbers can't be compared with one.
  if getattr(version, 'ndim', 0) or version not in range(1, VERSION + 1):
    raise UserError(
      f'{index_path}: expected version 1 to {VERSION} of the legacy layout,'
      f' found {version}. Save it again with a current T5X.'
    )
  tree = dict(index['optimizer'])
  if 'flax_mutables' in index:
    tree['flax_mutables'] = index['flax_mutables']
  try:
    return _lazy_tree(path, tree, version, ())
  except _MALFORMED as error:
    raise DamagedError(
      f'{index_path}: an entry is not the description of an array that T5X'
      f' writes ({error!r}). Copy the checkpoint again.'
    ) from error


def _parse_index(index_path: str, content: bytes) -> dict[str, Any]:
  try:
    index = flax.serialization.msgpack_restore(content)
  except Exception as error:  # The parser's own, of many kinds.
    raise DamagedError(
      f'{index_path}: expected the msgpack index of a T5X checkpoint, found'
      f' {len(content)} bytes that are not msgpack or stop short. Copy the'
      ' checkpoint again.'
    ) from error
  optimizer = index.get('optimizer') if isinstance(index, dict) else None
  if not isinstance(optimizer, dict) or 'target' not in optimizer:
    is_dict = isinstance(index, dict)
    found = sorted(map(str, index)) if is_dict else type(index).__name__
    raise DamagedError(
      f"{index_path}: expected the entries 'optimizer' → 'target', found"
      f' {found}. This is not a T5X checkpoint.'
    )
  return index


def _lazy_tree(
  path: str, node: Any, version: int, keys: tuple[str, ...]
) -> Any:
  name = f'{path}: leaf {"/".join(keys)}'
  if state_utils.tensorstore_leaf(keys, node):
    return _lazy_leaf(path, name, node, version)
  if isinstance(node, Mapping):
    return {
      key: _lazy_tree(path, child, version, (*keys, key))
      for key, child in node.items()
    }
  return None if node is None else lazy_array.as_lazy(name, node)


def _lazy_leaf(
  path: str, name: str, spec: Mapping[str, Any], version: int
) -> LazyArray:
  # Only the last part of the stored path counts: the folder may have moved.
  stored = spec['kvstore'].get('path') or spec['path']
  last = stored.rstrip('/').rpartition('/')[2]
  if last in ('', '.', '..'):
    raise ValueError(f'an array at {stored!r}')
  folder = files.join(path, last, '')
  type_name = spec.get('dtype') or spec['metadata']['dtype']
  # Up to version 2, bfloat16 is stored as its 16 bits.
  as_bits = type_name in ('uint16', '<u2') and version < 3
  dtype = np.dtype('bfloat16' if as_bits else type_name)

  def start_read(index):
    store = lazy_array.open_zarr(lazy_array.kvstore(folder)).result()
    values = store[index].read()
    if dtype != store.dtype.numpy_dtype and store.dtype.name == 'uint16':
      return lazy_array.DerivedRead(lambda x: np.asarray(x).view(dtype), values)
    return values

  return LazyArray(name, spec['metadata']['shape'], dtype, start_read)


def read_position(path: str) -> dict[str, Any] | None:
  """Returns the data position saved with the state, or None."""
  file = files.join(path, POSITION_FILE)
  return lazy_array.read_json(file, 'the data position')


def write(
  path: str, state: Mapping[str, Any], position: Mapping[str, Any] | None = None
) -> None:
  """Writes a checkpoint; it appears at `path` complete or not at all.

  Locally it is written under a temporary name and renamed. On `gs://`, which
  has no rename, the index file goes last. Every host calls this and writes the
  slices of which it holds the first copy; host 0 also writes the index.

  Args:
    path: the folder to make. Must not exist.
    state: nested dict with 'target' and 'state' (and 'flax_mutables').
    position: data position to put beside it, saved as JSON.

  Raises:
    UserError: `path` exists.
  """
  final = epath.Path(path)
  if final.exists():
    raise UserError(
      f'{path}: a checkpoint of this step exists already. Remove it first, or'
      ' save under another step.'
    )
  local = not files.is_remote(path)
  work = epath.Path(f'{path}{TMP_INFIX}') if local else final
  if jax.process_index() == 0:
    if work.exists():
      work.rmtree()
    work.mkdir(parents=True)
  distributed.sync_global_devices(f'legacy checkpoint folder {path}')
  index = _write_arrays(os.fspath(work), state)
  distributed.sync_global_devices(f'legacy checkpoint arrays {path}')
  if jax.process_index() == 0:
    if position is not None:
      (work / POSITION_FILE).write_text(json.dumps(position))
    content = flax.serialization.msgpack_serialize(index)
    (work / INDEX_FILE).write_bytes(content)
    if local:
      integrity.write_checksums(os.fspath(work))
      os.replace(work, final)
  distributed.sync_global_devices(f'legacy checkpoint done {path}')


def _write_arrays(folder: str, state: Mapping[str, Any]) -> dict[str, Any]:
  """Writes the arrays of `state`; returns the tree for the index file."""
  flat = flax.traverse_util.flatten_dict(dict(state), keep_empty_nodes=True)
  flat_index, pending = {}, []
  for keys, value in flat.items():
    empty = value is None or value is flax.traverse_util.empty_node
    if empty or np.size(value) <= 1:
      flat_index[keys] = value if empty else np.asarray(value)
      continue
    spec, writes = _write_array(folder, '.'.join(keys), value)
    flat_index[keys] = spec
    pending.extend(writes)
  for writing in pending:
    writing.result()
  tree = flax.traverse_util.unflatten_dict(flat_index)
  index = {
    'version': VERSION,
    'optimizer': {key: tree[key] for key in ('target', 'state') if key in tree},
  }
  if 'flax_mutables' in tree:
    index['flax_mutables'] = tree['flax_mutables']
  return index


def _write_array(
  folder: str, name: str, value: Any
) -> tuple[dict[str, Any], list[ts.WriteFutures]]:
  """Begins to write one array; returns its index entry and the writes."""
  is_global = isinstance(value, jax.Array)
  value = value if is_global else np.asarray(value)
  shard = value.sharding.shard_shape(value.shape) if is_global else value.shape
  metadata = {
    'shape': list(value.shape),
    'chunks': _chunks(shard, value.dtype.itemsize),
    'compressor': {'id': 'gzip', 'level': 1},
  }
  spec = {'driver': 'zarr', 'dtype': str(value.dtype), 'metadata': metadata}
  store = ts.open(
    {
      **spec,
      'kvstore': lazy_array.kvstore(files.join(folder, name, '')),
      'store_data_equal_to_fill_value': True,
    },
    create=True,
    open=True,
  ).result()
  if is_global:
    writes = [
      store[lazy_array.bounded(part.index, value.shape)].write(
        np.asarray(part.data)
      )
      for part in value.addressable_shards
      if part.replica_id == 0
    ]
  else:
    writes = [store.write(value)] if jax.process_index() == 0 else []
  return {**spec, 'kvstore': {'driver': 'file', 'path': f'{name}/'}}, writes


def _chunks(shard: tuple[int, ...], itemsize: int) -> list[int]:
  """Returns chunks that divide a shard: `(8, 16)` → `[8, 16]` if small."""
  chunks = list(shard)
  while chunks and int(np.prod(chunks)) * itemsize > MAX_CHUNK_BYTES:
    # Halving an even axis keeps chunks inside one shard.
    axis = next((i for i, n in enumerate(chunks) if n % 2 == 0), None)
    if axis is None:
      break
    chunks[axis] //= 2
  return chunks


def remove_leftovers(folder: str) -> list[str]:
  """Removes saves that were cut short from a local folder; returns names."""
  if files.is_remote(folder) or not os.path.isdir(folder):
    return []
  leftovers = [name for name in os.listdir(folder) if name.endswith(TMP_INFIX)]
  for name in leftovers:
    shutil.rmtree(os.path.join(folder, name))
  return leftovers
