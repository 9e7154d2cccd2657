"""Turns an opened checkpoint into a train state that lies on the devices.

A state has two parts that restore differently. The parameters must fit, leaf
by leaf. The optimizer's state must fit when a run is resumed; a run that merely
starts from a checkpoint takes it if it fits and begins with a fresh one if not,
since pretrained checkpoints hold another optimizer's, or none.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from t5x import state_utils
from t5x.checkpoints import matching
from t5x.checkpoints.formats import lazy_array
from t5x.errors import UserError

TARGET = 'target/'
PARAM_STATES = 'state/param_states/'


@dataclasses.dataclass(frozen=True)
class RestoreOptions:
  """How to restore.

  Attributes:
    resuming: whether the run itself saved the checkpoint: its optimizer state
      must then fit exactly.
    dtype: type of floating-point parameters; None is the model's own.
    fallback_state: values, as a state dict, for leaves that the checkpoint
      lacks.
    lazy_parameters: leave the parameters unread, as `LazyArray`.
  """

  resuming: bool = False
  dtype: Any | None = None
  fallback_state: Mapping[str, Any] | None = None
  lazy_parameters: bool = False


def abstract_state(train_state: Any, partitioner: Any) -> Any:
  """Replaces a train state's leaves by shape, type and place on the mesh.

  Args:
    train_state: arrays, or `jax.ShapeDtypeStruct`s.
    partitioner: gives mesh and axes.

  Returns:
    The train state with `jax.ShapeDtypeStruct`s that have a sharding.
  """
  places = partitioner.shardings(partitioner.get_mesh_axes(train_state))

  def describe(place, subtree):
    return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        np.shape(leaf), _dtype(leaf), sharding=place
      ),
      subtree,
    )

  return jax.tree.map(describe, places, train_state)


def _dtype(leaf: Any) -> np.dtype:
  return getattr(leaf, 'dtype', None) or jnp.result_type(leaf)


def restore(
  path: str,
  checkpoint: Mapping[str, Any],
  abstract: Any,
  options: RestoreOptions,
) -> Any:
  """Reads a checkpoint into a train state.

  Args:
    path: the checkpoint, for messages.
    checkpoint: nested dict of lazy or real arrays, under the model's names.
    abstract: the train state to fill, from `abstract_state`.
    options: see `RestoreOptions`.

  Returns:
    The train state; every array on the devices as `abstract` says.

  Raises:
    UserError: the checkpoint does not fit.
  """
  expected_tree = abstract.state_dict()
  expected = state_utils.flatten_state_dict(expected_tree)
  stored = _known_leaves(checkpoint)
  if options.fallback_state is not None:
    stored = _complete(stored, expected, options.fallback_state)
  matching.check_parameters(
    path, _part(stored, TARGET), _part(expected, TARGET)
  )
  fresh = _check_optimizer(path, stored, expected, options.resuming)
  _check_rest(path, stored, expected)

  chosen = {
    name: _converted(name, stored[name], want, options)
    for name, want in expected.items()
    if not (fresh and name.startswith(PARAM_STATES))
  }
  lazily = options.lazy_parameters
  values = _to_devices(
    {n: v for n, v in chosen.items() if not (lazily and n.startswith(TARGET))},
    expected,
  )
  state_dict = _fill(expected_tree, {**expected, **chosen, **values})
  restored = abstract.restore_state(state_dict)
  return restored.restart_optimizer() if fresh else restored


def _part(leaves: Mapping[str, Any], prefix: str) -> dict[str, Any]:
  return {n: leaf for n, leaf in leaves.items() if n.startswith(prefix)}


def _known_leaves(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
  """Leaves by name; a checkpoint of parameters alone is at step 0."""
  flat = state_utils.flatten_state_dict(checkpoint)
  leaves = {name: leaf for name, leaf in flat.items() if leaf is not None}
  leaves.setdefault('state/step', np.zeros((), np.int32))
  return leaves


def _complete(
  stored: dict[str, Any], expected: Mapping[str, Any], fallback: Mapping
) -> dict[str, Any]:
  """Adds what the checkpoint lacks from `fallback`, drops what nobody wants."""
  added = {
    name: leaf
    for name, leaf in state_utils.flatten_state_dict(fallback).items()
    if name in expected and name not in stored
  }
  parameters = sorted(_part(added, TARGET))
  if parameters:
    logging.info('From scratch, not from the checkpoint: %s', parameters)
  return {**{n: v for n, v in stored.items() if n in expected}, **added}


def _check_optimizer(path, stored, expected, resuming: bool) -> bool:
  """Returns whether the optimizer must begin with a fresh state."""
  wanted = _part(expected, PARAM_STATES)
  found = _part(stored, PARAM_STATES)
  if not wanted or matching.fits(found, wanted):
    return False
  difference = matching.optimizer_mismatch(path, found, wanted)
  if resuming:
    raise UserError(
      f"{path}: the checkpoint's optimizer state is not this run's:"
      f' {difference}. A run is resumed with the optimizer and the model that'
      ' it was started with: set them back, or start a new MODEL_DIR with'
      ' INITIAL_CHECKPOINT_PATH set to this checkpoint, which takes its'
      ' parameters.'
    )
  logging.info(
    'The optimizer starts afresh: the state in %s does not fit it (%s).',
    path,
    difference,
  )
  return True


def _check_rest(path, stored, expected) -> None:
  """Checks what is neither a parameter nor the optimizer's."""
  for name, want in expected.items():
    if name.startswith((TARGET, PARAM_STATES)):
      continue
    if name not in stored:
      raise UserError(
        f'{path}: the checkpoint lacks the leaf {name}, of shape'
        f' {tuple(want.shape)} in the model. Set fallback_to_scratch = True to'
        ' start it from scratch.'
      )
    if np.shape(stored[name]) != tuple(want.shape):
      raise UserError(
        f'{path}: leaf {name} has shape {np.shape(stored[name])} in the'
        f' checkpoint and {tuple(want.shape)} in the model. Give a checkpoint'
        ' of this model.'
      )


def _converted(name: str, leaf: Any, want: Any, options: RestoreOptions):
  """The leaf in the type that the state is to have."""
  floating = jnp.issubdtype(want.dtype, jnp.floating)
  dtype = want.dtype
  if options.dtype is not None and floating and name.startswith(TARGET):
    dtype = np.dtype(options.dtype)
  if isinstance(leaf, jax.Array):
    return leaf.astype(dtype)
  if not isinstance(leaf, lazy_array.LazyArray):
    leaf = lazy_array.from_numpy(name, leaf)
  return leaf.astype(dtype)


def _to_devices(
  chosen: Mapping[str, Any], expected: Mapping[str, Any]
) -> dict[str, jax.Array]:
  """Puts real arrays in place and reads lazy ones."""
  values = {
    name: jax.device_put(leaf, expected[name].sharding)
    for name, leaf in chosen.items()
    if isinstance(leaf, jax.Array)
  }
  lazy = [name for name in chosen if name not in values]
  read = lazy_array.read_to_devices(
    [chosen[name] for name in lazy], [expected[name].sharding for name in lazy]
  )
  return {**values, **dict(zip(lazy, read, strict=True))}


def _fill(node: Any, leaves: Mapping[str, Any], prefix: str = '') -> Any:
  """The tree of `node` with leaves by name; empty dicts and None stay."""
  if isinstance(node, Mapping):
    return {
      key: _fill(child, leaves, f'{prefix}/{key}' if prefix else str(key))
      for key, child in node.items()
    }
  return None if node is None else leaves[prefix]
