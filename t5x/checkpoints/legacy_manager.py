"""T5X's manager of checkpoints from before Orbax: saves and restores a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from t5x.checkpoints import config, restore
from t5x.checkpoints.data_position import DatasetIterator
from t5x.errors import UserError
from t5x.partitioning import BasePartitioner
from t5x.train_state import TrainState


class LegacyCheckpointManager:
  """Saves in T5X's legacy layout, and restores from any, by configurations.

  Args:
    save_cfg: how to save; None restores alone.
    restore_cfg: how to restore, where `restore` is given none.
    train_state_shape: a state of the run, or its shapes.
    partitioner: lays states out on the devices.
    ds_iter: its position is saved with every state, and restored where a
      configuration has `restore_dataset`.
    model_dir: the run's folder, to save in.

  Raises:
    UserError: it is to save, and has no folder.
  """

  def __init__(
    self,
    *,
    save_cfg: config.SaveCheckpointConfig | None = None,
    restore_cfg: config.RestoreCheckpointConfig | None = None,
    train_state_shape: TrainState,
    partitioner: BasePartitioner,
    ds_iter: DatasetIterator | None = None,
    model_dir: str | None = None,
  ):
    self._restore_cfg = restore_cfg
    self._shape = train_state_shape
    self._partitioner = partitioner
    self._ds_iter = ds_iter
    self._saver = None
    if save_cfg is not None:
      if not model_dir:
        raise UserError(
          'LegacyCheckpointManager: save_cfg needs model_dir, the folder to'
          f' save in, found {model_dir!r}.'
        )
      self._saver = save_cfg.make_manager(
        model_dir, train_state_shape, partitioner, ds_iter, use_orbax=False
      )

  def save(
    self,
    train_state: TrainState,
    state_transformation_fns: Sequence[restore.SaveStateTransformationFn] = (),
  ) -> bool:
    """Saves a state; returns whether it did, see `Checkpointer.save`.

    Raises:
      UserError: the manager was made without `save_cfg`.
    """
    if self._saver is None:
      raise UserError(
        'LegacyCheckpointManager.save: it was made without save_cfg. Give one.'
      )
    return self._saver.save(train_state, state_transformation_fns)

  def restore(
    self,
    paths: Sequence[str],
    restore_cfg: config.RestoreCheckpointConfig | None = None,
    fallback_state: Mapping[str, Any] | None = None,
  ) -> TrainState | list[TrainState]:
    """Restores checkpoints.

    Args:
      paths: the checkpoints; the paths and the mode of the configuration do not
        count.
      restore_cfg: how; by default what the manager was made with.
      fallback_state: see `Restorer.restore`.

    Returns:
      The state of the one path, or a list for several.

    Raises:
      UserError: there is no configuration, or a checkpoint does not fit.
    """
    cfg = restore_cfg or self._restore_cfg
    if cfg is None or not paths:
      raise UserError(
        'LegacyCheckpointManager.restore: expected paths and a restore_cfg,'
        f' found {list(paths)} and {cfg}.'
      )
    states = [
      cfg.make_restorer(
        path.rstrip('/').rpartition('/')[0] or '.',
        self._shape,
        self._partitioner,
        self._ds_iter if cfg.restore_dataset else None,
        use_orbax=False,
      ).restore(
        path=path,
        fallback_state=fallback_state,
        state_transformation_fns=config.transformations(cfg),
      )
      for path in paths
    ]
    return states[0] if len(states) == 1 else states
