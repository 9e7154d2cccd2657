"""Checkpoint managers: they save train states, and restore them.

`OrbaxCheckpointManagerInterface` saves asynchronously in the Orbax layout.
`Checkpointer` saves in T5X's legacy layout, and `SaveBestCheckpointer` keeps
the best checkpoints by a metric. Each of them restores from any layout, onto
any mesh: T5X's legacy and Orbax ones, and a Hugging Face T5 folder.

A state is saved as `{'target': parameters, 'state': {'step', 'param_states'}}`,
with 'flax_mutables' if the model has any, and along with the data position; see
`data_position`.
"""

import logging as std_logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from t5x import files
from t5x.checkpoints import base as base_lib
from t5x.checkpoints import data_position, integrity, locate, restore, retention
from t5x.checkpoints.data_position import DatasetIterator
from t5x.checkpoints.formats import legacy_t5x, orbax
from t5x.checkpoints.restore import PathLike, SaveStateTransformationFn
from t5x.errors import UserError
from t5x.partitioning import BasePartitioner
from t5x.train_state import TrainState

CheckpointerConstructor = Callable[..., 'Checkpointer']
CheckpointManagerConstructor = Callable[..., 'OrbaxCheckpointManagerInterface']


class OrbaxCheckpointManagerInterface(restore.Restorer):
  """Saves a run in the Orbax layout while training continues.

  A checkpoint gets its name when it is complete. What a killed save left behind
  never counts, and is removed by the next manager's first save.
  """

  def __init__(
    self,
    directory: str,
    train_state: TrainState,
    partitioner: BasePartitioner,
    dataset_iterator: DatasetIterator | None = None,
    save_dtype: Any = None,
    restore_dtype: Any = None,
    keep: int | None = None,
    period: int | None = 1,
    checkpoint_steps: Sequence[int] | None = None,
    keep_dataset_checkpoints: int | None = None,
    force_keep_period: int | None = None,
    metric_name_to_monitor: str | None = None,
    metric_mode: str = 'max',
    keep_checkpoints_without_metrics: bool = True,
    base: restore.PathLike | None = None,
  ):
    """Prepares to save; the first save makes the folder.

    Args:
      directory: the run's folder.
      train_state: a state of the run, or its shapes.
      partitioner: lays states out on the devices.
      dataset_iterator: its position is saved and restored with every state.
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
      metric_name_to_monitor: keep the best by this metric, not the last; see
        `retention.Retention`.
      metric_mode: 'max' or 'min'.
      keep_checkpoints_without_metrics: whether those without a value stay.
      base: the checkpoint that the run's frozen parameters are from: they are
        not saved, but restored from there. None saves them, too.

    Raises:
      UserError: `train_state` has arrays that are frozen and not the base's.
    """
    super().__init__(
      directory, train_state, partitioner, dataset_iterator, restore_dtype, base
    )
    self._save_dtype = restore.as_dtype(save_dtype)
    self._described: base_lib.Base | None = None
    is_shapes = isinstance(train_state.step, jax.ShapeDtypeStruct)
    if self._base is not None and not is_shapes:
      self._describe_base(train_state)
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
    # The step that was saved last; its save may not be complete yet.
    self._last_step: int | None = None

  def _describe_base(self, train_state: TrainState) -> base_lib.Base:
    """Returns what each checkpoint says of its base."""
    if self._described is None:
      assert self._base is not None  # Only then it is asked for.
      _, frozen = train_state.split_frozen()
      self._described = base_lib.of_run(
        self._base, frozen, train_state.state_dict(), locate.open_checkpoint
      )
    return self._described

  def _opened(self) -> ocp.CheckpointManager:
    if self._manager is None:
      logging.get_absl_logger().addFilter(_is_news)
      metric = self._retention.metric
      self._manager = ocp.CheckpointManager(
        self._directory,
        options=ocp.CheckpointManagerOptions(
          step_prefix='checkpoint',
          create=True,
          cleanup_tmp_directories=True,
          enable_async_checkpointing=True,
          preservation_policy=self._retention,
          async_options=ocp.AsyncOptions(
            post_finalization_callback=self._add_checksums
          ),
          # Makes Orbax keep the value beside the checkpoint.
          best_fn=(lambda m: m[retention.SAVED_METRIC]) if metric else None,
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
      with files.naming_path_in_errors(self._directory, last_complete):
        self._manager.wait_until_finished()

  def close(self) -> None:
    if self._manager is not None:
      manager, self._manager = self._manager, None
      with files.naming_path_in_errors(self._directory, last_complete):
        manager.close()

  def save(
    self,
    train_state: TrainState,
    state_transformation_fns: Sequence[SaveStateTransformationFn] = (),
    force: bool = True,
    metrics: Mapping[str, float] | None = None,
  ) -> bool:
    """Begins to save and returns when the state's buffers may be reused.

    Waits for an earlier save that is not complete.

    Args:
      train_state: what to save; its `step` names the checkpoint.
      state_transformation_fns: applied to the state dict.
      force: save even if the step is not due.
      metrics: values of this step by name. The monitored one is saved with the
        checkpoint and decides what is kept; without it, it is read from the
        run's TensorBoard events when the next checkpoint is saved.

    Returns:
      Whether it saves: False if the step is saved already or is not due.

    Raises:
      UserError: this or an earlier checkpoint can't be written. No complete one
        is removed then.
    """
    step = int(train_state.step)
    if self._saved(step) or not (force or self.should_save(step)):
      return False
    items: dict[str, ocp.args.CheckpointArgs] = {}
    if self._base is not None:
      described = self._describe_base(train_state)
      items[base_lib.ITEM] = ocp.args.JsonSave(described.as_json())
      train_state, _ = train_state.split_frozen()
    state = _state_to_save(
      train_state, self._save_dtype, state_transformation_fns
    )
    items[orbax.STATE_ITEM] = ocp.args.PyTreeSave(state)
    if self._dataset_iterator is not None:
      items[orbax.DATASET_ITEM] = data_position.PositionSave.of(
        self._dataset_iterator
      )
    name, monitored = self._retention.metric, None
    if name is not None and metrics and name in metrics:
      monitored = {retention.SAVED_METRIC: float(metrics[name])}
    with files.naming_path_in_errors(self._directory, last_complete):
      manager = self._opened()
      manager.wait_until_finished()
      self._drop_old_positions(manager.all_steps())
      self._last_step = step
      return manager.save(
        step, args=ocp.args.Composite(**items), metrics=monitored, force=True
      )

  def _drop_old_positions(self, steps: Sequence[int]) -> None:
    """Leaves one less than to keep: another one is about to be saved."""
    if self._keep_positions is None or jax.process_index() != 0:
      return
    spare = max(self._keep_positions - 1, 0)
    for step in sorted(steps, reverse=True)[spare:]:
      folder = epath.Path(locate.get_checkpoint_dir(self._directory, step))
      position = folder / orbax.DATASET_ITEM
      if position.exists():
        position.rmtree()


class Checkpointer(restore.Restorer):
  """Saves a run in T5X's legacy layout, one checkpoint at a time."""

  def __init__(
    self,
    train_state: TrainState,
    partitioner: BasePartitioner,
    checkpoints_dir: PathLike,
    dataset_iterator: DatasetIterator | None = None,
    *,
    keep: int | None = None,
    save_dtype: Any = np.float32,
    restore_dtype: Any = None,
    keep_dataset_checkpoints: int | None = None,
    base: restore.PathLike | None = None,
  ):
    """As `OrbaxCheckpointManagerInterface`, without its periods and metric.

    It saves everything: `base` is where to restore checkpoints of a part from.
    """
    super().__init__(
      checkpoints_dir,
      train_state,
      partitioner,
      dataset_iterator,
      restore_dtype,
      base,
    )
    self._save_dtype = restore.as_dtype(save_dtype)
    self._keep_positions = keep_dataset_checkpoints
    self._retention = retention.Retention(self._directory, keep)

  def should_save(self, step: int) -> bool:
    """Whether `step` is not saved yet."""
    return not is_saved(self._directory, step)

  def all_dataset_checkpoint_steps(self) -> Sequence[int]:
    """Steps of the checkpoints that still hold a data position."""
    return [
      step
      for step in self.all_steps()
      if locate.read_position(locate.get_checkpoint_dir(self._directory, step))
      is not None
    ]

  def save(
    self,
    train_state: TrainState,
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
      force: unused: every step that is not saved yet is due.

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
    state = _state_to_save(
      train_state, self._save_dtype, state_transformation_fns
    )
    position = None
    if self._dataset_iterator is not None:
      position = dict(self._dataset_iterator.get_state())
    with files.naming_path_in_errors(self._directory, last_complete):
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
        # Without its index it no longer counts, if the rest is cut short.
        (folder / legacy_t5x.INDEX_FILE).unlink(missing_ok=True)
        folder.rmtree()
    if self._keep_positions is not None:
      with_position = self.all_dataset_checkpoint_steps()
      for step in sorted(with_position, reverse=True)[self._keep_positions :]:
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
    train_state: TrainState,
    partitioner: BasePartitioner,
    checkpoints_dir: str,
    dataset_iterator: DatasetIterator | None = None,
    *,
    keep: int | None = None,
    save_dtype: Any = np.float32,
    restore_dtype: Any = None,
    metric_name_to_monitor: str = 'train/accuracy',
    metric_mode: str = 'max',
    keep_checkpoints_without_metrics: bool = True,
    force_keep_period: int | None = None,
    keep_dataset_checkpoints: int | None = None,
    base: restore.PathLike | None = None,
  ):
    """As `Checkpointer`, and the metric; see `Retention`."""
    super().__init__(
      train_state,
      partitioner,
      checkpoints_dir,
      dataset_iterator,
      save_dtype=save_dtype,
      restore_dtype=restore_dtype,
      keep_dataset_checkpoints=keep_dataset_checkpoints,
      base=base,
    )
    self._retention = retention.Retention(
      self._directory,
      keep,
      force_keep_period,
      metric_name_to_monitor,
      metric_mode,
      keep_checkpoints_without_metrics,
    )


def _is_news(record: std_logging.LogRecord) -> bool:
  """Whether a log record is not Orbax's traceback of a failed save.

  Its manager raises the same when it is waited for, and that is told once.
  """
  traceback = record.exc_info and '/orbax/' in record.pathname
  return not traceback or logging.level_debug()


def last_complete(directory: str) -> str:
  """Returns what a run can go on from, for the message of a failed write."""
  latest = locate.latest_step(directory)
  if latest is None:
    return ' There is no complete checkpoint yet.'
  path = locate.get_checkpoint_dir(directory, latest)
  return f' {path} is complete, and the same command goes on from there.'


def is_saved(directory: str, step: int) -> bool:
  """Whether a run's folder has a complete checkpoint of a step.

  Raises:
    UserError: it has an incomplete one, which a save can't replace.
  """
  folder = locate.get_checkpoint_dir(directory, step)
  if locate.layout_of(folder) is not None:
    return True
  # On gs:// the folder also exists while a save is running or was cut short.
  if not files.is_remote(folder) and os.path.exists(folder):
    raise UserError(
      f'{folder}: cannot save this step here: there is an incomplete checkpoint'
      ' (a copy that was cut short?). Remove that folder.'
    )
  return False


def _state_to_save(
  train_state: TrainState,
  save_dtype: np.dtype | None,
  transformations: Sequence[SaveStateTransformationFn],
) -> dict[str, Any]:
  """Returns a train state's dict, transformed, in the type to save."""
  state: Mapping[str, Any] = train_state.state_dict()
  if transformations:
    infos = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(
        np.shape(x), jnp.result_type(x), sharding=getattr(x, 'sharding', None)
      ),
      state,
    )
    for transform in transformations:
      state, infos = transform(state, infos)
  if save_dtype is None:
    return dict(state)

  def converted(x):
    return x.astype(save_dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

  return {**state, 'target': jax.tree.map(converted, state['target'])}
