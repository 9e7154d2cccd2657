"""Checkpoints of a part: what is not in them is in another one, their base.

A run that trains a part of its parameters may save that part alone:

```
checkpoint_1000/
  state/            trained parameters, and the optimizer's state for them
  base/metadata     {"path": …, "digest": …, "leaves":
                     {"encoder/layers_0/…/kernel": ["bfloat16", [512, 512]]}}
```

The digest is of a few numbers of each leaf of the base: whatever has trained
them has changed it, while it is read in no time. Leaves of the base are read in
the type that the run had them in.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from t5x import files, state_utils
from t5x.checkpoints.formats import layer_stacks, lazy_array
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.errors import DamagedError, UserError

# The item of an Orbax checkpoint, and what its JSON handler calls the file.
ITEM = 'base'
_FILE = 'metadata'
# Of each dimension of a leaf, so many numbers are compared.
_CORNER = 8
_TYPES = ('float32', 'bfloat16', 'float16', 'float64')

Open = Callable[[str], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Base:
  """What a checkpoint says of its base.

  Attributes:
    path: where the base is, or was.
    digest: of its parameters; see `digest`.
    leaves: the parameters that are the base's, by the run's names: type and
      shape.
  """

  path: str
  digest: str
  leaves: Mapping[str, tuple[str, tuple[int, ...]]]

  def as_json(self) -> dict[str, Any]:
    """Returns it as `read` reads it."""
    leaves = {
      name: [t, list(shape)] for name, (t, shape) in self.leaves.items()
    }
    return {'path': self.path, 'digest': self.digest, 'leaves': leaves}


def read(checkpoint: str) -> Base | None:
  """Returns the base that a checkpoint of the Orbax layout names, or None.

  Raises:
    DamagedError: its description can't be read.
  """
  file = files.join(checkpoint, ITEM, _FILE)
  found = lazy_array.read_json(file, 'the description of the base')
  if found is None:
    return None
  try:
    leaves = {
      str(name): (str(kind), tuple(int(n) for n in shape))
      for name, (kind, shape) in found['leaves'].items()
    }
    if not leaves or any(kind not in _TYPES for kind, _ in leaves.values()):
      raise ValueError('leaves of no known type')
    return Base(str(found['path']), str(found['digest']), leaves)
  except (LookupError, TypeError, ValueError, AttributeError) as error:
    raise DamagedError(
      f'{file}: expected path, digest and leaves of the base, found something'
      f' else ({error!r}). Copy the checkpoint again, or choose another step.'
    ) from error


def digest(checkpoint: Mapping[str, Any]) -> str:
  """Returns what tells a checkpoint's parameters from others.

  Args:
    checkpoint: opened, as `locate.open_checkpoint` does.
  """
  flat = _targets(checkpoint)
  corners = _corners(flat)
  described = hashlib.sha256()
  for name, leaf in sorted(flat.items()):
    described.update(f'{name} {leaf.dtype.name} {leaf.shape}\n'.encode())
    described.update(corners[name].tobytes())
  return described.hexdigest()[:32]


def _targets(checkpoint: Mapping[str, Any]) -> dict[str, LazyArray]:
  flat = state_utils.flatten_state_dict(checkpoint['target'])
  return {name: lazy_array.as_lazy(name, leaf) for name, leaf in flat.items()}


def _corner(shape: tuple[int, ...]) -> tuple[slice, ...]:
  return tuple(slice(0, min(n, _CORNER)) for n in shape)


def _corners(leaves: Mapping[str, LazyArray]) -> dict[str, np.ndarray]:
  """Reads the first numbers of each leaf, many leaves at a time."""
  reads = {n: x.start_read(_corner(x.shape)) for n, x in leaves.items()}
  return {n: np.ascontiguousarray(r.result()) for n, r in reads.items()}


def of_run(
  path: str, frozen: Mapping[str, Any], model: Mapping[str, Any], opening: Open
) -> Base:
  """Describes the base of a run, and makes sure that it is the run's.

  Args:
    path: the base's checkpoint.
    frozen: the run's frozen parameters: nested dicts of `jax.Array`.
    model: the run's state dict.
    opening: `locate.open_checkpoint`.

  Raises:
    UserError: nothing is frozen, or the base has other values.
  """
  if not frozen:
    raise UserError(
      f'SaveCheckpointConfig.base: {path} is to hold what the run does not'
      ' train, but it trains all of its parameters. Set base = None, or freeze'
      ' some (optimizers.PartialOptimizer).'
    )
  arrays = state_utils.flatten_state_dict(frozen)
  base = opening(path)
  described = Base(
    path=path if files.is_remote(path) else os.path.abspath(path),
    digest=digest(base),
    leaves={n: (x.dtype.name, tuple(x.shape)) for n, x in arrays.items()},
  )
  expected = _corners(_chosen(path, base, described, model))
  # Replicated: a host may hold another part of an array.
  mesh = next(iter(arrays.values())).sharding
  everywhere = (
    jax.sharding.NamedSharding(mesh.mesh, jax.sharding.PartitionSpec())
    if isinstance(mesh, jax.sharding.NamedSharding)
    else None
  )
  found = jax.jit(
    lambda leaves: {n: x[_corner(x.shape)] for n, x in leaves.items()},
    out_shardings=everywhere,
  )(arrays)
  for name, corner in found.items():
    if np.asarray(corner).tobytes() != expected[name].tobytes():
      raise UserError(
        f'SaveCheckpointConfig.base: {path} has other values of {name} than'
        ' this run, which has not trained it: expected the checkpoint that the'
        ' run started from. Give that one, or base = None to save everything.'
      )
  return described


def _chosen(
  path: str, base: Mapping[str, Any], described: Base, model: Mapping[str, Any]
) -> dict[str, LazyArray]:
  """Returns the described leaves of an opened base, under the run's names.

  Args:
    path: of the base, for messages.
    base: opened.
    described: what it is to hold.
    model: the run's state dict, of which names and shapes count.

  Raises:
    UserError: it lacks one of them.
  """
  flat = _targets(layer_stacks.match(base, model))
  chosen = {}
  for name, (kind, shape) in described.leaves.items():
    leaf = flat.get(name)
    if leaf is None or leaf.shape != shape:
      found = 'no such leaf' if leaf is None else f'shape {leaf.shape}'
      raise UserError(
        f'{path}: the base of a run: expected {name} of shape {shape} there,'
        f' found {found}. Give the checkpoint that the run started from.'
      )
    # Rounded once: what is restored in another type has these values still.
    rounded = leaf.astype(jnp.dtype(kind))
    chosen[name] = LazyArray(
      leaf.name, leaf.shape, rounded.dtype, rounded.start_read
    )
  return chosen


def completed(
  path: str, state: Mapping[str, Any], base_path: str | None, opening: Open
) -> Mapping[str, Any]:
  """Returns an opened checkpoint with what is in its base.

  Args:
    path: the checkpoint, of the Orbax layout.
    state: what is in it, opened.
    base_path: where the base is; None for where it was.
    opening: `locate.open_checkpoint`.

  Returns:
    `state` itself if it has no base.

  Raises:
    UserError: the base is not there, or is another checkpoint by now.
  """
  described = read(path)
  if described is None:
    return state
  place = base_path or described.path
  hint = (
    'If it is elsewhere by now, give its place: RestoreCheckpointConfig.base,'
    ' INITIAL_CHECKPOINT_PATH of a run with gin/engine/lora.gin, or'
    ' dss export --base.'
  )
  try:
    base = opening(place)
  except UserError as error:
    raise UserError(
      f'{path}: holds what was trained alone; the rest is that of {place},'
      f' which cannot be opened: {error} {hint}'
    ) from error
  found = digest(base)
  if found != described.digest:
    raise UserError(
      f'{path}: was trained on {described.path} with the digest'
      f' {described.digest}, but {place} has the digest {found}: another'
      f' checkpoint. {hint}'
    )
  own = state_utils.flatten_state_dict(state['target'])
  shapes = {
    name: jax.ShapeDtypeStruct(shape, jnp.dtype(kind))
    for name, (kind, shape) in described.leaves.items()
  }
  model = {
    'target': flax.traverse_util.unflatten_dict({**shapes, **own}, sep='/')
  }
  target = {**_chosen(place, base, described, model), **own}
  return {
    **state,
    'target': flax.traverse_util.unflatten_dict(target, sep='/'),
  }
