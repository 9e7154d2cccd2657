"""The Orbax layout, in which T5X and this engine save runs: reading it lazily.

```
checkpoint_1000/
  _CHECKPOINT_METADATA
  state/_METADATA, manifest.ocdbt, d/, ...      the train state
  dataset/metadata                              the data position, as JSON
```

Orbax writes a checkpoint under a temporary name and renames it when it is
complete; on `gs://` it adds `commit_success.txt` last instead.
"""

from typing import Any

import flax.traverse_util
import tensorstore as ts
from etils import epath

from t5x import files
from t5x.checkpoints.formats import lazy_array
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.errors import DamagedError, UserError

STATE_ITEM = 'state'
DATASET_ITEM = 'dataset'
TREE_FILE = '_METADATA'
INDEX_FILE = 'manifest.ocdbt'
COMMIT_FILE = 'commit_success.txt'
# The file that Orbax's JSON handler writes.
POSITION_FILE = 'metadata'
# Orbax's names for leaves that hold an array of numbers.
_ARRAY_TYPES = ('jax.Array', 'np.ndarray', 'scalar')


def missing_part(path: str) -> str | None:
  """Returns what a checkpoint at `path` lacks; None if it is complete."""
  root = epath.Path(path)
  if '.orbax-checkpoint-tmp' in root.name:
    return 'its final name: this is a save that was cut short'
  needed = [f'{STATE_ITEM}/{TREE_FILE}']
  if files.is_remote(path):
    needed.append(COMMIT_FILE)
  for name in needed:
    if not (root / name).exists():
      return name
  index = f'{STATE_ITEM}/{INDEX_FILE}'
  if not (root / index).exists() and _read_tree(path).get('use_ocdbt', True):
    return index
  return None


def _read_tree(path: str) -> dict[str, Any]:
  file = files.join(path, STATE_ITEM, TREE_FILE)
  return lazy_array.read_json(file, 'the description of the leaves') or {}


def _leaves(
  path: str, tree: dict[str, Any]
) -> list[tuple[tuple[str, ...], str]]:
  """Returns (names from the root on, kind) of every leaf."""
  try:
    leaves = []
    for entry in tree['tree_metadata'].values():
      keys = tuple(part['key'] for part in entry['key_metadata'])
      if not keys or any(
        not isinstance(k, str) or '/' in k or k in ('', '.', '..') for k in keys
      ):
        raise ValueError(f'a leaf called {keys}')
      leaves.append((keys, str(entry['value_metadata']['value_type'])))
    known = {keys for keys, _ in leaves}
    for keys in known:
      if any(keys[:i] in known for i in range(1, len(keys))):
        raise ValueError(f'a leaf {keys} below another leaf')
  except (KeyError, TypeError, AttributeError, ValueError) as error:
    raise DamagedError(
      f'{path}/{STATE_ITEM}/{TREE_FILE}: not the description of leaves that'
      f' Orbax writes ({error!r}). Copy or save the checkpoint again.'
    ) from error
  return leaves


def read(path: str) -> dict[str, Any]:
  """Opens a checkpoint; no array is read yet.

  Args:
    path: the folder of a complete checkpoint, local or `gs://`.

  Returns:
    `{'target': …, 'state': {'step', 'param_states'}}`, with 'flax_mutables'
    if it has any: nested dicts of `LazyArray`.

  Raises:
    UserError: it is damaged, or holds something other than arrays.
  """
  tree = _read_tree(path)
  leaves: dict[tuple[str, ...], Any] = {}
  opening, context = {}, lazy_array.new_context()
  for keys, kind in _leaves(path, tree):
    name = f'{path}: leaf {"/".join(keys)}'
    if kind == 'None':
      leaves[keys] = None
    elif kind in ('Dict', 'List', 'Tuple', 'NamedTuple'):
      leaves[keys] = flax.traverse_util.empty_node
    elif kind in _ARRAY_TYPES:
      with lazy_array.naming_array_in_errors(name, (ValueError, TypeError)):
        opening[keys] = name, _open(path, keys, tree, context)
    else:
      raise UserError(
        f'{name}: expected an array, found a {kind}. Only checkpoints of arrays'
        ' can be restored.'
      )
  for keys, (name, future) in opening.items():
    with lazy_array.naming_array_in_errors(name):
      store = future.result()
    leaves[keys] = _lazy(name, store)
  return flax.traverse_util.unflatten_dict(leaves)


def _open(
  path: str, keys: tuple[str, ...], tree: dict[str, Any], context: ts.Context
) -> ts.Future:
  name = '.'.join(keys)
  if tree.get('use_ocdbt', True):
    base = lazy_array.kvstore(files.join(path, STATE_ITEM, ''))
    store = {'driver': 'ocdbt', 'base': base, 'path': f'{name}/'}
  else:
    store = lazy_array.kvstore(files.join(path, STATE_ITEM, name, ''))
  return lazy_array.open_zarr(
    store,
    'zarr3' if tree.get('use_zarr3') else 'zarr',
    # If Orbax wrote every chunk, a missing one is damage.
    strict=bool(tree.get('store_array_data_equal_to_fill_value')),
    context=context,
  )


def _lazy(name: str, store: ts.TensorStore) -> LazyArray:
  return LazyArray(
    name, store.shape, store.dtype.numpy_dtype, lambda i: store[i].read()
  )


def read_position(path: str) -> dict[str, Any] | None:
  """Returns the data position saved with the state, or None."""
  file = files.join(path, DATASET_ITEM, POSITION_FILE)
  return lazy_array.read_json(file, 'the data position')
