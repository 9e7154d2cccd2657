"""Restoring: from a checkpoint of any layout to a train state on any mesh.

The two parts of a state restore differently. The parameters must fit, leaf by
leaf. The optimizer's state must fit when a run is resumed; a run that merely
starts from a checkpoint takes it if it fits and begins with a fresh one if not,
since pretrained checkpoints hold another optimizer's, or none.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath

from t5x import files, partitioning, state_utils
from t5x.checkpoints import data_position, integrity, locate, matching
from t5x.checkpoints.formats import layer_stacks, lazy_array
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.checkpoints.locate import PathLike
from t5x.checkpoints.matching import PARAM_STATES, TARGET
from t5x.errors import UserError
from t5x.train_state import TrainState

StateDict = Mapping[str, Any]


class SaveStateTransformationFn(Protocol):
  """Changes a state before it is saved.

  Takes the state dict and, in the same structure, shapes and shardings of its
  arrays; returns both.
  """

  def __call__(
    self, state_dict: StateDict, parameter_infos: StateDict
  ) -> tuple[StateDict, StateDict]: ...


class RestoreStateTransformationFn(Protocol):
  """Changes an opened checkpoint before it is matched against the model.

  Takes the checkpoint's state dict, whose leaves may be `LazyArray`, the
  model's, whose leaves have shape and type, and whether the run is resumed;
  returns the checkpoint's state dict under the model's names.
  """

  def __call__(
    self,
    state_dict: StateDict,
    target_state_dict: StateDict,
    *,
    is_resuming: bool,
  ) -> StateDict: ...


class Restorer:
  """The base of all checkpointers: a run's folder, and restoring from any."""

  def __init__(
    self,
    directory: PathLike,
    train_state: TrainState,
    partitioner: partitioning.BasePartitioner,
    dataset_iterator: data_position.DatasetIterator | None,
    restore_dtype: Any,
    base: PathLike | None = None,
  ):
    path = os.fspath(directory)
    self._directory = path if files.is_remote(path) else os.path.abspath(path)
    # Shapes only: the caller may donate the arrays.
    self._abstract = abstract_state(train_state, partitioner)
    self._dataset_iterator = dataset_iterator
    self._restore_dtype = as_dtype(restore_dtype)
    self._base = None if base is None else os.fspath(base)

  @property
  def directory(self) -> epath.Path:
    """The run's folder."""
    return epath.Path(self._directory)

  def all_steps(self) -> Sequence[int]:
    """Steps of the run's complete checkpoints, ascending."""
    self.wait_until_finished()
    return locate.all_steps(self._directory)

  def latest_step(self) -> int | None:
    """The run's last complete checkpoint, or None."""
    steps = self.all_steps()
    return steps[-1] if steps else None

  def wait_until_finished(self) -> None:
    """Returns when nothing is being saved any more."""

  def close(self) -> None:
    """Finishes what is being saved. Call it when the run ends."""
    self.wait_until_finished()

  def restore(
    self,
    step: int | None = None,
    path: str | None = None,
    fallback_state: Mapping[str, Any] | None = None,
    state_transformation_fns: Sequence[RestoreStateTransformationFn] = (),
    lazy_parameters: bool | None = False,
  ) -> TrainState:
    """Restores a checkpoint, and the data position if there is an iterator.

    Restoring the run's own folder with a dataset iterator resumes the run: its
    optimizer state must then fit. Otherwise one that does not fit is replaced
    by a fresh one, with one line in the log.

    Args:
      step: which of the run's checkpoints; the last by default.
      path: a checkpoint elsewhere, in any layout.
      fallback_state: values, as a state dict, for leaves that the checkpoint
        lacks; leaves that only the checkpoint has are then dropped.
      state_transformation_fns: applied in order to the opened checkpoint.
      lazy_parameters: leave parameters as `LazyArray`, to be read with `get`.

    Returns:
      A train state, sharded as the partitioner says.

    Raises:
      UserError: there is no such checkpoint, or it does not fit.
      DamagedError: it is not what was written.
    """
    self.wait_until_finished()
    folder = self._directory if path is None else path
    path = locate.find_checkpoint(folder, step)
    for place in locate.with_bases(path, self._base):
      integrity.check(place)
    model = self._abstract.state_dict()
    # Rules and transformations see the layers as the model has them.
    checkpoint = layer_stacks.match(
      locate.open_checkpoint(path, self._base), model
    )
    # Without its data, a run is only looked at, not resumed.
    resuming = self._dataset_iterator is not None
    for transform in state_transformation_fns:
      checkpoint = transform(checkpoint, model, is_resuming=resuming)
    train_state = self._filled(
      path, checkpoint, resuming, fallback_state, bool(lazy_parameters)
    )
    if self._dataset_iterator is not None:
      data_position.restore(self._dataset_iterator, path, _position(path))
    logging.info('Restored %s.', path)
    return train_state

  def _filled(
    self,
    path: str,
    checkpoint: StateDict,
    resuming: bool,
    fallback_state: StateDict | None,
    lazy_parameters: bool,
  ) -> TrainState:
    """Returns the train state with a checkpoint's values, if they fit."""
    tree = state_utils.flatten_state_dict(
      self._abstract.state_dict(), keep_empty_nodes=True
    )
    expected = {n: leaf for n, leaf in tree.items() if hasattr(leaf, 'shape')}
    flat = state_utils.flatten_state_dict(checkpoint)
    stored = {name: leaf for name, leaf in flat.items() if leaf is not None}
    # A checkpoint of parameters alone is at step 0.
    stored.setdefault('state/step', np.zeros((), np.int32))
    if fallback_state is not None:
      stored = _complete(stored, expected, fallback_state)
    matching.check_parameters(path, stored, expected)
    fresh = not matching.check_optimizer(path, stored, expected, resuming)
    matching.check_rest(path, stored, expected)

    # Of a Hugging Face folder, whoever saved it chose the precision.
    foreign = locate.layout_of(path) in ('huggingface', 'peft')
    parameter_dtype = None if foreign else self._restore_dtype
    if foreign and self._restore_dtype is not None:
      logging.warning(
        '%s: a folder of Hugging Face or peft, whose weights get the types of'
        ' the model; RestoreCheckpointConfig.dtype = %r is for checkpoints of'
        ' T5X. To have them rounded, save the folder in that type.',
        path,
        str(self._restore_dtype),
      )
    chosen = {
      name: _converted(name, stored[name], leaf.dtype, parameter_dtype)
      for name, leaf in expected.items()
      if not (fresh and name.startswith(PARAM_STATES))
    }
    to_read = {
      name: leaf
      for name, leaf in chosen.items()
      if not (lazy_parameters and name.startswith(TARGET))
    }
    values = _to_devices(to_read, expected)
    restored = self._abstract.restore_state(
      flax.traverse_util.unflatten_dict({**tree, **chosen, **values}, sep='/')
    )
    return restored.restart_optimizer() if fresh else restored

  def restore_from_tf_checkpoint(
    self, path_or_dir: str, strict: bool = True, translator: Any = None
  ) -> Any:
    """Not supported: Mesh TensorFlow checkpoints can't be read here."""
    raise UserError(
      f'{path_or_dir}: Mesh TensorFlow checkpoints are not supported. Take the'
      ' converted T5X checkpoint of the same model (t5_1_1_base in place of'
      " t5.1.1.base) or its Hugging Face folder, with mode = 'specific'."
    )


def abstract_state(
  train_state: TrainState, partitioner: partitioning.BasePartitioner
) -> TrainState:
  """Replaces a train state's leaves by shape, type and place on the mesh.

  Args:
    train_state: arrays, or `jax.ShapeDtypeStruct`s.
    partitioner: gives mesh and axes.

  Returns:
    The train state with `jax.ShapeDtypeStruct`s that have a sharding.
  """
  shardings = partitioner.shardings(partitioner.get_mesh_axes(train_state))

  def describe(sharding, subtree):
    return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        np.shape(leaf),
        getattr(leaf, 'dtype', None) or jnp.result_type(leaf),
        sharding=sharding,
      ),
      subtree,
    )

  return jax.tree.map(describe, shardings, train_state)


def _complete(
  stored: dict[str, Any], expected: Mapping[str, Any], fallback: StateDict
) -> dict[str, Any]:
  """Adds missing leaves from `fallback`.

  Leaves that are not expected are dropped if the fallback is a whole state.
  """
  given = state_utils.flatten_state_dict(fallback)
  added = {
    name: leaf
    for name, leaf in given.items()
    if name in expected and name not in stored
  }
  parameters = sorted(name for name in added if name.startswith(TARGET))
  if parameters:
    logging.info('From scratch, not from the checkpoint: %s', parameters)
  if set(expected) <= set(given):
    stored = {n: v for n, v in stored.items() if n in expected}
  return {**stored, **added}


def _to_devices(
  chosen: Mapping[str, Any], expected: Mapping[str, Any]
) -> dict[str, jax.Array]:
  """Moves arrays to their shardings and reads lazy ones."""
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


def _position(path: str) -> dict[str, Any]:
  position = locate.read_position(path)
  if position is None:
    raise UserError(
      f'{path}: the checkpoint holds no data position that this engine wrote,'
      ' so the run cannot go on where it was in its data. Start a new MODEL_DIR'
      ' with INITIAL_CHECKPOINT_PATH set to this checkpoint, or set'
      ' restore_dataset = False.'
    )
  return position


def _converted(
  name: str, leaf: Any, dtype: np.dtype, parameter_dtype: np.dtype | None
) -> Any:
  """Returns a leaf of a checkpoint in the type that the state is to have."""
  if name.startswith(TARGET) and jnp.issubdtype(dtype, jnp.floating):
    dtype = parameter_dtype or dtype
  if not isinstance(leaf, jax.Array):
    leaf = lazy_array.as_lazy(name, leaf)
  return leaf.astype(dtype)


def as_dtype(dtype: Any) -> np.dtype | None:
  """Returns the type with a name, such as 'bfloat16'; None for None.

  Raises:
    UserError: there is no such type.
  """
  if dtype is None:
    return None
  try:
    return jnp.dtype(dtype)
  except TypeError as error:
    raise UserError(
      "dtype: expected a type such as 'float32' or 'bfloat16', found"
      f' {dtype!r}.'
    ) from error


def load_t5x_checkpoint(
  path: str,
  step: int | None = None,
  state_transformation_fns: Sequence[RestoreStateTransformationFn] = (),
  remap: bool = True,
  restore_dtype: Any | None = None,
  lazy_parameters: bool = False,
) -> Any:
  """Reads a checkpoint of any layout to the host, without a model.

  Args:
    path: a checkpoint, or a folder of checkpoints.
    step: which one of the folder; the latest by default.
    state_transformation_fns: applied in order, the checkpoint being the model.
    remap: must stay True: names are always the train state's.
    restore_dtype: type of floating-point parameters; None keeps what is stored.
    lazy_parameters: leave parameters as `LazyArray`.

  Returns:
    `{'target': …, 'state': …}`, nested dicts of numpy arrays, bfloat16 ones
    too.

  Raises:
    UserError: there is no such checkpoint.
  """
  if not remap:
    raise UserError(
      'load_t5x_checkpoint: remap=False is not supported. Leave it True.'
    )
  state: StateDict = locate.open_checkpoint(locate.find_checkpoint(path, step))
  for transform in state_transformation_fns:
    state = transform(state, state, is_resuming=False)
  dtype = as_dtype(restore_dtype)

  def start(leaf: Any, is_parameter: bool) -> Any:
    if not isinstance(leaf, LazyArray):
      return leaf
    if is_parameter and jnp.issubdtype(leaf.dtype, np.floating):
      leaf = leaf.astype(dtype or leaf.dtype)
    return leaf if is_parameter and lazy_parameters else leaf.start_read()

  # All reads are started before the first is waited for.
  started = {
    key: jax.tree.map(lambda leaf, key=key: start(leaf, key == 'target'), part)
    for key, part in state.items()
  }
  return jax.tree.map(
    lambda x: x.result() if isinstance(x, lazy_array.DerivedRead) else x,
    started,
  )
