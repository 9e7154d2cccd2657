"""Saves and restores train states.

`OrbaxCheckpointManagerInterface` saves a run: asynchronously, in the Orbax
layout, the data position along with the state. `Checkpointer` does so in T5X's
legacy layout, and `SaveBestCheckpointer` keeps the best by a metric. Each of
them restores from any layout, onto any mesh: T5X's legacy and Orbax ones, this
project's own, and a Hugging Face T5 folder.

A state is saved as `{'target': parameters, 'state': {'step', 'param_states'}}`,
with 'flax_mutables' if the model has any. The data position is a small dict
that `dataset_iterator.get_state()` gives and `set_state` takes. An iterator may
also give a snapshot, from which it is a shorter way to the position; see
`data_position`.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from t5x import files
from t5x.checkpoints import (
  data_position,
  integrity,
  locate,
  restorer,
  retention,
)
from t5x.checkpoints.formats import legacy_t5x, orbax
from t5x.checkpoints.restorer import (
  PathLike,
  SaveStateTransformationFn,
)
from t5x.errors import UserError

CheckpointerConstructor = Callable[..., 'Checkpointer']
CheckpointManagerConstructor = Callable[..., 'OrbaxCheckpointManagerInterface']


class OrbaxCheckpointManagerInterface(restorer.Restorer):
  """Saves a run in the Orbax layout while it goes on training.

  A checkpoint appears under its name when it is complete, and not before. What
  a killed save left behind never counts and is removed at the next first save.
  """

  def __init__(
    self,
    directory: str,
    train_state: Any,
    partitioner: Any,
    dataset_iterator: Any | None = None,
    save_dtype: Any | None = None,
    restore_dtype: Any | None = None,
    keep: int | None = None,
    period: int | None = 1,
    checkpoint_steps: Sequence[int] | None = None,
    keep_dataset_checkpoints: int | None = None,
    force_keep_period: int | None = None,
    metric_name_to_monitor: str | None = None,
    metric_mode: str = 'max',
    keep_checkpoints_without_metrics: bool = True,
  ):
    """Makes no folder yet: the first save does.

    Args:
      directory: the run's folder.
      train_state: a state of the run, or its shapes.
      partitioner: says how states lie on the devices.
      dataset_iterator: object with `get_state() -> dict` and `set_state(dict)`;
        its position is saved and restored with every state.
      save_dtype: type in which floating-point parameters are saved; None keeps
        theirs. The optimizer's state keeps its own.
      restore_dtype: type that they are restored in; None is the model's.
      keep: how many checkpoints to keep; None keeps all.
      period: steps between saves that are not forced; None for only
        `checkpoint_steps`.
      checkpoint_steps: further steps at which to save.
      keep_dataset_checkpoints: for how many of the last checkpoints to keep the
        data position; None for all.
      force_keep_period: checkpoints whose step this divides always stay.
      metric_name_to_monitor: keep the best by this, not the last; see
        `retention.Retention`.
      metric_mode: 'max' or 'min'.
      keep_checkpoints_without_metrics: whether those without a value stay.
    """
    super().__init__(
      directory, train_state, partitioner, dataset_iterator, restore_dtype
    )
    self._save_dtype = restorer.as_dtype(save_dtype)
    self._period = period
    self._checkpoint_steps = frozenset(checkpoint_steps or ())
    self._keep_positions = keep_dataset_checkpoints
    self._retention = retention.Retention(
      self._directory,
      keep,
      force_keep_period,
      metric_name_to_monitor,
      metric_mode,
      keep_checkpoints_without_metrics,
    )
    self._manager: ocp.CheckpointManager | None = None
    # What was saved last, and may be under way still.
    self._last_step: int | None = None

  def _opened(self) -> ocp.CheckpointManager:
    if self._manager is None:
      metric = self._retention.metric
      self._manager = ocp.CheckpointManager(
        self._directory,
        options=ocp.CheckpointManagerOptions(
          step_prefix='checkpoint',
          create=True,
          cleanup_tmp_directories=True,
          enable_async_checkpointing=True,
          preservation_policy=self._retention,
          save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
          async_options=ocp.AsyncOptions(
            post_finalization_callback=self._add_checksums
          ),
          # Makes Orbax keep the value beside the checkpoint.
          best_fn=(lambda m: m[retention.SAVED_METRIC]) if metric else None,
          best_mode=self._retention.mode,
        ),
      )
    return self._manager

  def should_save(self, step: int) -> bool:
    """Whether `step` is due by `period` or `checkpoint_steps`."""
    due = step in self._checkpoint_steps
    due = due or bool(self._period and step % self._period == 0)
    return due and not self._saved(step)

  def _saved(self, step: int) -> bool:
    return step == self._last_step or is_saved(self._directory, step)

  def _add_checksums(self) -> None:
    """Called when all is written, before the checkpoint gets its name."""
    if jax.process_index() != 0 or files.is_remote(self._directory):
      return
    name = f'checkpoint_{self._last_step}.orbax-checkpoint-tmp*'
    for folder in self.directory.glob(name):
      integrity.write_checksums(os.fspath(folder))

  def wait_until_finished(self) -> None:
    if self._manager is not None:
      with save_errors_named(self._directory):
        self._manager.wait_until_finished()

  def close(self) -> None:
    if self._manager is not None:
      manager, self._manager = self._manager, None
      with save_errors_named(self._directory):
        manager.close()

  def save(
    self,
    train_state: Any,
    state_transformation_fns: Sequence[SaveStateTransformationFn] = (),
    force: bool = True,
    metrics: Mapping[str, float] | None = None,
  ) -> bool:
    """Begins to save and returns when the state's buffers may be reused.

    Waits for an earlier save that is still going on.

    Args:
      train_state: what to save; its `step` names the checkpoint.
      state_transformation_fns: applied to the state dict.
      force: save even if the step is not due.
      metrics: values of this step by name. If the monitored one is among them
        it is saved along and decides what is kept; otherwise it is read from
        the run's TensorBoard events when the next checkpoint is saved.

    Returns:
      Whether it saves: False if the step is saved already or is not due.

    Raises:
      UserError: this or an earlier checkpoint can't be written. No complete one
        is removed for it.
    """
    step = int(train_state.step)
    if self._saved(step) or not (force or self.should_save(step)):
      return False
    state = state_to_save(
      train_state, self._save_dtype, state_transformation_fns
    )
    items = {orbax.STATE_ITEM: ocp.args.PyTreeSave(state)}
    if self._dataset_iterator is not None:
      items[orbax.DATASET_ITEM] = data_position.PositionSave.of(
        self._dataset_iterator
      )
    with save_errors_named(self._directory):
      manager = self._opened()
      manager.wait_until_finished()
      self._drop_old_positions()
      self._last_step = step
      return manager.save(
        step,
        args=ocp.args.Composite(**items),
        metrics=self._monitored(metrics),
        force=True,
      )

  def _monitored(self, metrics) -> dict[str, float] | None:
    name = self._retention.metric
    if name is None or not metrics or name not in metrics:
      return None
    return {retention.SAVED_METRIC: float(metrics[name])}

  def _drop_old_positions(self) -> None:
    """Leaves room for the position that is about to be saved."""
    if self._keep_positions is None or jax.process_index() != 0:
      return
    self.wait_until_finished()
    steps = self._manager.all_steps()
    spare = max(self._keep_positions - 1, 0)
    for step in sorted(steps)[: len(steps) - spare]:
      folder = epath.Path(locate.get_checkpoint_dir(self._directory, step))
      if (folder / orbax.DATASET_ITEM).exists():
        (folder / orbax.DATASET_ITEM).rmtree()


class Checkpointer(restorer.Restorer):
  """Saves a run in T5X's legacy layout, one checkpoint at a time."""

  def __init__(
    self,
    train_state: Any,
    partitioner: Any,
    checkpoints_dir: PathLike,
    dataset_iterator: Any | None = None,
    *,
    keep: int | None = None,
    save_dtype: Any = np.float32,
    restore_dtype: Any | None = None,
    keep_dataset_checkpoints: int | None = None,
  ):
    """Takes what `OrbaxCheckpointManagerInterface` takes, less its periods."""
    super().__init__(
      checkpoints_dir, train_state, partitioner, dataset_iterator, restore_dtype
    )
    self._save_dtype = restorer.as_dtype(save_dtype)
    self._keep_positions = keep_dataset_checkpoints
    self._retention = retention.Retention(self._directory, keep)

  def should_save(self, step: int) -> bool:
    """Whether `step` is not saved yet."""
    return not is_saved(self._directory, step)

  def all_dataset_checkpoint_steps(self) -> Sequence[int]:
    """Steps whose data position is still there."""
    return [
      step
      for step in self.all_steps()
      if locate.read_position(locate.get_checkpoint_dir(self._directory, step))
      is not None
    ]

  def save(
    self,
    train_state: Any,
    state_transformation_fns: Sequence[SaveStateTransformationFn] = (),
    *,
    concurrent_gb: int = 128,
    force: bool = True,
  ) -> bool:
    """Saves and returns when the checkpoint is complete.

    Args:
      train_state: what to save; its `step` names the checkpoint.
      state_transformation_fns: applied to the state dict.
      concurrent_gb: not supported, leave it at its default: TensorStore bounds
        its own writes.
      force: save even where `should_save` is False for another reason than that
        the step is saved; there is none, so it changes nothing.

    Returns:
      Whether it saved: False if the step is saved already.
    """
    if concurrent_gb != 128:
      raise UserError(
        f'Checkpointer.save: concurrent_gb={concurrent_gb} is not supported.'
        ' Leave it at its default, 128.'
      )
    step = int(train_state.step)
    if not self.should_save(step):
      return False
    if jax.process_index() == 0:
      legacy_t5x.remove_leftovers(self._directory)
    state = state_to_save(
      train_state, self._save_dtype, state_transformation_fns
    )
    position = None
    if self._dataset_iterator is not None:
      position = dict(self._dataset_iterator.get_state())
    with save_errors_named(self._directory):
      legacy_t5x.write(
        locate.get_checkpoint_dir(self._directory, step), state, position
      )
    if jax.process_index() == 0:
      self._remove_old()
    return True

  def _remove_old(self) -> None:
    steps = self.all_steps()
    kept = self._retention.to_keep(steps)
    for step in steps:
      if step not in kept:
        folder = epath.Path(locate.get_checkpoint_dir(self._directory, step))
        # Without its index it no longer counts, should the rest be cut short.
        (folder / legacy_t5x.INDEX_FILE).unlink(missing_ok=True)
        folder.rmtree()
    if self._keep_positions is not None:
      with_position = self.all_dataset_checkpoint_steps()
      last = with_position[len(with_position) - self._keep_positions :]
      for step in set(with_position) - set(last):
        folder = epath.Path(locate.get_checkpoint_dir(self._directory, step))
        (folder / legacy_t5x.POSITION_FILE).unlink(missing_ok=True)

  def convert_from_tf_checkpoint(
    self,
    path_or_dir: str,
    *,
    state_transformation_fns: Sequence[SaveStateTransformationFn] = (),
    concurrent_gb: int = 16,
    translator: Any = None,
  ) -> None:
    """Not supported; see `restore_from_tf_checkpoint`."""
    self.restore_from_tf_checkpoint(path_or_dir)


class SaveBestCheckpointer(Checkpointer):
  """Keeps the `keep` best checkpoints by a metric, in the legacy layout."""

  def __init__(
    self,
    train_state: Any,
    partitioner: Any,
    checkpoints_dir: str,
    dataset_iterator: Any | None = None,
    *,
    keep: int | None = None,
    save_dtype: Any = np.float32,
    restore_dtype: Any | None = None,
    metric_name_to_monitor: str = 'train/accuracy',
    metric_mode: str = 'max',
    keep_checkpoints_without_metrics: bool = True,
    force_keep_period: int | None = None,
    keep_dataset_checkpoints: int | None = None,
  ):
    """As `Checkpointer`, and what decides; see `Retention`."""
    super().__init__(
      train_state,
      partitioner,
      checkpoints_dir,
      dataset_iterator,
      keep=keep,
      save_dtype=save_dtype,
      restore_dtype=restore_dtype,
      keep_dataset_checkpoints=keep_dataset_checkpoints,
    )
    self._retention = retention.Retention(
      self._directory,
      keep,
      force_keep_period,
      metric_name_to_monitor,
      metric_mode,
      keep_checkpoints_without_metrics,
    )


@contextlib.contextmanager
def save_errors_named(directory: str) -> Iterator[None]:
  """Says what is left when a checkpoint can't be written.

  Args:
    directory: the run's folder.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    fix = files.fix_for(error)
    if fix is None:
      raise
    latest = locate.latest_step(directory)
    left = (
      f'{locate.get_checkpoint_dir(directory, latest)} is complete,'
      ' and the same command goes on from there'
      if latest is not None
      else 'There is no complete checkpoint yet'
    )
    said = str(error).partition(' [')[0]
    raise UserError(
      f'{directory}: a checkpoint cannot be saved ({said}). {fix}. {left}.'
    ) from error


def is_saved(directory: str, step: int) -> bool:
  """Whether a run's folder has a complete checkpoint of a step.

  Raises:
    UserError: it has an incomplete one, which a save can't replace.
  """
  folder = locate.get_checkpoint_dir(directory, step)
  if locate.layout_of(folder) is not None:
    return True
  # On gs:// a save that is under way, or was cut short, lies there as well.
  if not files.is_remote(folder) and os.path.exists(folder):
    raise UserError(
      f'{folder}: cannot save this step here: there is an incomplete checkpoint'
      ' (a copy that was cut short?). Remove that folder.'
    )
  return False


def state_to_save(
  train_state: Any,
  save_dtype: np.dtype | None,
  transformations: Sequence[SaveStateTransformationFn],
) -> dict[str, Any]:
  """The state dict of a train state, transformed, in the type to save."""
  state = train_state.state_dict()
  if transformations:
    infos = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(
        np.shape(x), jnp.result_type(x), sharding=getattr(x, 'sharding', None)
      ),
      state,
    )
    for transform in transformations:
      state, infos = transform(state, infos)
  state = dict(state)
  if save_dtype is not None:
    state['target'] = jax.tree.map(
      lambda x: (
        x.astype(save_dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
      ),
      state['target'],
    )
  return state
