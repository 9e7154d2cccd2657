"""What all checkpointers share: opening, restoring, reading without a model."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import flax.traverse_util
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath

from t5x import files, state_utils
from t5x.checkpoints import data_position, integrity, locate
from t5x.checkpoints import restore as restore_lib
from t5x.checkpoints.formats import layer_stacks
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.checkpoints.locate import all_steps, find_checkpoint
from t5x.errors import UserError

StateDict = Mapping[str, Any]
PathLike = str | os.PathLike


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
  """What all checkpointers share: a run's folder, and restoring from any."""

  def __init__(
    self,
    directory: PathLike,
    train_state: Any,
    partitioner: Any,
    dataset_iterator: Any | None,
    restore_dtype: Any | None,
  ):
    path = os.fspath(directory)
    remote = files.is_remote(path)
    self._directory = path if remote else os.path.abspath(path)
    # Shapes only: the caller may donate the arrays.
    self._abstract = restore_lib.abstract_state(train_state, partitioner)
    self._dataset_iterator = dataset_iterator
    self._restore_dtype = as_dtype(restore_dtype)

  @property
  def directory(self) -> epath.Path:
    """The run's folder."""
    return epath.Path(self._directory)

  def all_steps(self) -> Sequence[int]:
    """Steps of the run's complete checkpoints, ascending."""
    self.wait_until_finished()
    return all_steps(self._directory)

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
  ) -> Any:
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
    place = path if path is not None else self._directory
    found = find_checkpoint(place, step)
    # A run is resumed with its data; without, it is merely looked at.
    resuming = self._dataset_iterator is not None
    integrity.check(found)
    model = self._abstract.state_dict()
    # Layers are stacked, or not, as the model has them: rules and
    # transformations get to see one form only.
    checkpoint = layer_stacks.match(locate.open_checkpoint(found), model)
    for transform in state_transformation_fns:
      checkpoint = transform(checkpoint, model, is_resuming=resuming)
    train_state = restore_lib.restore(
      found,
      checkpoint,
      self._abstract,
      restore_lib.RestoreOptions(
        resuming=resuming,
        dtype=self._restore_dtype,
        fallback_state=fallback_state,
        lazy_parameters=bool(lazy_parameters),
      ),
    )
    if self._dataset_iterator is not None:
      data_position.restore(self._dataset_iterator, found, _position(found))
    logging.info('Restored %s.', found)
    return train_state

  def restore_from_tf_checkpoint(
    self, path_or_dir: str, strict: bool = True, translator: Any = None
  ) -> Any:
    """Not supported: Mesh TensorFlow checkpoints can't be read here."""
    raise UserError(
      f'{path_or_dir}: Mesh TensorFlow checkpoints are not supported. Take the'
      ' converted T5X checkpoint of the same model (t5_1_1_base in place of'
      " t5.1.1.base) or its Hugging Face folder, with mode = 'specific'."
    )


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


def as_dtype(dtype: Any) -> np.dtype | None:
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
  found = find_checkpoint(path, step)
  state = locate.open_checkpoint(found)
  for transform in state_transformation_fns:
    state = transform(state, state, is_resuming=False)
  dtype = as_dtype(restore_dtype)

  def load(name: str, leaf: Any) -> Any:
    if not isinstance(leaf, LazyArray):
      return leaf
    parameter = name.startswith(restore_lib.TARGET)
    if (
      parameter
      and dtype is not None
      and jnp.issubdtype(leaf.dtype, np.floating)
    ):
      leaf = leaf.astype(dtype)
    return leaf if parameter and lazy_parameters else leaf.start_read()

  flat = state_utils.flatten_state_dict(state, keep_empty_nodes=True)
  # All reads are under way before the first is waited for.
  started = {name: load(name, leaf) for name, leaf in flat.items()}
  return flax.traverse_util.unflatten_dict(
    {
      name: leaf.result() if hasattr(leaf, 'result') else leaf
      for name, leaf in started.items()
    },
    sep='/',
  )
