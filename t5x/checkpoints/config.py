"""Configuration of saving and restoring; T5X's names and defaults."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from t5x import state_utils
from t5x.checkpoints import manager, restore
from t5x.checkpoints.data_position import DatasetIterator
from t5x.errors import UserError, did_you_mean
from t5x.partitioning import BasePartitioner
from t5x.train_state import TrainState

MODES = ('specific', 'latest', 'all')


@dataclasses.dataclass
class SaveCheckpointConfig:
  """When and how a run is saved.

  Attributes:
    dtype: type in which floating-point parameters are saved.
    period: steps between checkpoints; None saves at `checkpoint_steps` and at
      the end.
    checkpoint_steps: further steps at which to save.
    keep: how many checkpoints to keep; None keeps all.
    keep_dataset_checkpoints: for how many of the last to keep the data
      position; None for all.
    save_dataset: unused: the data position is a few bytes, and is always saved.
    checkpointer_cls: saves (in the legacy layout) if it is not left at its
      default or `train.use_orbax` is False.
    state_transformation_fns: applied to every state before it is saved.
    checkpoint_manager_cls: saves otherwise (in the Orbax layout).
    base: (not in T5X) the checkpoint that the run starts from, if its frozen
      parameters are not to be saved again: checkpoints then name it, with a
      digest, and are restored from both. None saves all parameters. It needs
      the Orbax layout.
  """

  dtype: str = 'float32'
  period: int | None = None
  checkpoint_steps: Sequence[int] | None = None
  keep: int | None = None
  keep_dataset_checkpoints: int | None = None
  save_dataset: bool = False
  checkpointer_cls: manager.CheckpointerConstructor = manager.Checkpointer
  state_transformation_fns: Sequence[restore.SaveStateTransformationFn] = (
    dataclasses.field(default_factory=list)
  )
  checkpoint_manager_cls: manager.CheckpointManagerConstructor = (
    manager.OrbaxCheckpointManagerInterface
  )
  base: str | None = None

  def __post_init__(self):
    for name in ('period', 'keep'):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise UserError(
          f'SaveCheckpointConfig.{name}: expected at least 1, or None, found'
          f' {value}.'
        )

  def make_manager(
    self,
    directory: str,
    train_state: TrainState,
    partitioner: BasePartitioner,
    dataset_iterator: DatasetIterator | None = None,
    use_orbax: bool = True,
  ) -> 'manager.Checkpointer | manager.OrbaxCheckpointManagerInterface':
    """Makes what saves a run in `directory` as this configuration says.

    Args:
      directory: the run's folder.
      train_state: a state of the run, or its shapes.
      partitioner: lays states out on the devices.
      dataset_iterator: its position is saved with every state.
      use_orbax: whether the default is the Orbax layout.
    """
    shared: dict[str, Any] = {
      'train_state': train_state,
      'partitioner': partitioner,
      'dataset_iterator': dataset_iterator,
      'keep': self.keep,
      'save_dtype': self.dtype,
      'keep_dataset_checkpoints': self.keep_dataset_checkpoints,
    }
    if _is_legacy(self, use_orbax):
      if self.base is not None:
        raise UserError(
          "SaveCheckpointConfig.base: T5X's legacy layout holds all parameters,"
          f' found base = {self.base!r}. Set base = None, or use_orbax = True'
          ' and leave checkpointer_cls.'
        )
      return self.checkpointer_cls(checkpoints_dir=directory, **shared)
    if self.base is not None:
      shared['base'] = self.base
    return self.checkpoint_manager_cls(
      directory=directory,
      period=self.period,
      checkpoint_steps=self.checkpoint_steps,
      **shared,
    )


@dataclasses.dataclass
class RestoreCheckpointConfig:
  """What to start from.

  Attributes:
    path: with mode 'specific' one checkpoint in any layout (T5X's legacy or
      Orbax, a Hugging Face T5 folder, or one of peft, whose adapters are then
      beside the model that it names); with 'latest' and 'all' a folder of
      checkpoints. Several are allowed; None restores nothing.
    mode: 'specific', 'latest' or 'all'.
    assignment_map: rules that say which of the checkpoint's leaves become
      which of the model's; see `state_utils.apply_assignment_map`.
    strict: whether a rule that matches nothing is an error.
    fallback_to_scratch: whether leaves that the checkpoint lacks start from
      scratch, and leaves that only it has are dropped, instead of an error.
    dtype: type that floating-point parameters get; None is the model's own.
      Those of a folder of Hugging Face or peft always get the model's own,
      since whoever saved it chose its precision: T5X's run files ask for
      bfloat16 because checkpoints of T5X are in float32.
    restore_dataset: whether to continue at the saved position in the data. This
      resumes the run that saved: its optimizer's state must then fit exactly.
      Otherwise a state that does not fit is replaced by a fresh one.
    checkpointer_cls: restores, if it is not left at its default or `use_orbax`
      is False.
    state_transformation_fns: applied in order to the opened checkpoint, before
      `assignment_map`.
    checkpoint_manager_cls: restores otherwise.
    base: (not in T5X) where the base of a checkpoint of a part is (see
      `SaveCheckpointConfig.base`); None for where it was when that was saved.
      The same for the model of adapters that peft saved.
    from_scratch: (not in T5X) parameters that start from scratch where the
      checkpoint lacks them, such as adapters: regular expressions that match
      whole names of a path (see `optimizers.PartialOptimizer`). All others must
      fit.
  """

  path: str | Sequence[str] | None
  mode: str = 'latest'
  assignment_map: Sequence[tuple[str, str | None]] | None = None
  strict: bool = True
  fallback_to_scratch: bool = False
  dtype: str | None = None
  restore_dataset: bool = False
  checkpointer_cls: manager.CheckpointerConstructor = manager.Checkpointer
  state_transformation_fns: Sequence[restore.RestoreStateTransformationFn] = ()
  checkpoint_manager_cls: manager.CheckpointManagerConstructor = (
    manager.OrbaxCheckpointManagerInterface
  )
  base: str | None = None
  from_scratch: Sequence[str] = ()

  def __post_init__(self):
    if self.mode not in MODES:
      raise UserError(
        f'RestoreCheckpointConfig.mode: expected one of {", ".join(MODES)},'
        f' found {self.mode!r}.{did_you_mean(str(self.mode), MODES)}'
      )

  @property
  def paths(self) -> list[str]:
    """`path` as a list, empty if it is None."""
    if self.path is None:
      return []
    single = isinstance(self.path, str) or hasattr(self.path, '__fspath__')
    return [str(p) for p in ([self.path] if single else self.path)]

  def make_restorer(
    self,
    directory: str,
    train_state: TrainState,
    partitioner: BasePartitioner,
    dataset_iterator: DatasetIterator | None = None,
    use_orbax: bool = True,
  ) -> restore.Restorer:
    """Makes what restores checkpoints of `directory`; see `make_manager`."""
    shared: dict[str, Any] = {
      'train_state': train_state,
      'partitioner': partitioner,
      'dataset_iterator': dataset_iterator,
      'restore_dtype': self.dtype,
    }
    if self.base is not None:
      shared['base'] = self.base
    if _is_legacy(self, use_orbax):
      return self.checkpointer_cls(checkpoints_dir=directory, **shared)
    return self.checkpoint_manager_cls(directory=directory, **shared)


def transformations(
  cfg: RestoreCheckpointConfig,
) -> list[restore.RestoreStateTransformationFn]:
  """Returns what a configuration does to an opened checkpoint, in order."""
  found = list(cfg.state_transformation_fns)
  if cfg.assignment_map:
    found.append(
      functools.partial(
        state_utils.apply_assignment_map,
        assignment_map=cfg.assignment_map,
        require_all_rules_match=cfg.strict,
      )
    )
    # Whoever gives rules says what of the checkpoint is used.
    found.append(_only_the_models)
  return found


def _only_the_models(
  state_dict: restore.StateDict,
  target_state_dict: restore.StateDict,
  *,
  is_resuming: bool,
) -> restore.StateDict:
  """Leaves out what the model lacks, with a line in the log."""
  if is_resuming:
    return state_dict
  return state_utils.intersect_state(state_dict, target_state_dict)


def _is_legacy(
  cfg: SaveCheckpointConfig | RestoreCheckpointConfig, use_orbax: bool
) -> bool:
  """Whether `checkpointer_cls` counts: by flag, or because it is set."""
  return not use_orbax or cfg.checkpointer_cls is not manager.Checkpointer


@dataclasses.dataclass
class CheckpointConfig:
  """How a run is saved, and what it starts from.

  Attributes:
    save: None saves nothing.
    restore: None starts from scratch. A list is tried in order.
    accept_other_run: (not in T5X) whether to continue in a folder whose
      checkpoint is of another model or of other data; see `run.identity`.
  """

  save: SaveCheckpointConfig | None = None
  restore: (
    RestoreCheckpointConfig | Sequence[RestoreCheckpointConfig] | None
  ) = None
  accept_other_run: bool = False
