"""When a run saves, and what it starts from; T5X's names and defaults."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from t5x.checkpoints import manager, restorer
from t5x.errors import UserError, did_you_mean

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
    save_dataset: of no use here: the position in the data is a few bytes, and
      is always saved.
    checkpointer_cls: saves, if it is not left at its default or
      `train.use_orbax` is False; the legacy layout.
    state_transformation_fns: applied to every state before it is saved.
    checkpoint_manager_cls: saves otherwise; the Orbax layout.
  """

  dtype: str = 'float32'
  period: int | None = None
  checkpoint_steps: Sequence[int] | None = None
  keep: int | None = None
  keep_dataset_checkpoints: int | None = None
  save_dataset: bool = False
  checkpointer_cls: manager.CheckpointerConstructor = manager.Checkpointer
  state_transformation_fns: Sequence[restorer.SaveStateTransformationFn] = (
    dataclasses.field(default_factory=list)
  )
  checkpoint_manager_cls: manager.CheckpointManagerConstructor = (
    manager.OrbaxCheckpointManagerInterface
  )

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
    train_state: Any,
    partitioner: Any,
    dataset_iterator: Any | None = None,
    use_orbax: bool = True,
  ) -> Any:
    """Makes what saves a run in `directory` as this configuration says.

    Args:
      directory: the run's folder.
      train_state: a state of the run, or its shapes.
      partitioner: says how states lie on the devices.
      dataset_iterator: its position is saved with every state.
      use_orbax: whether the default is the Orbax layout.
    """
    shared = {
      'keep': self.keep,
      'save_dtype': self.dtype,
      'keep_dataset_checkpoints': self.keep_dataset_checkpoints,
    }
    if _takes_legacy(self, use_orbax):
      return self.checkpointer_cls(
        train_state, partitioner, directory, dataset_iterator, **shared
      )
    return self.checkpoint_manager_cls(
      directory=directory,
      train_state=train_state,
      partitioner=partitioner,
      dataset_iterator=dataset_iterator,
      period=self.period,
      checkpoint_steps=self.checkpoint_steps,
      **shared,
    )


@dataclasses.dataclass
class RestoreCheckpointConfig:
  """What to start from.

  Attributes:
    path: with mode 'specific' one checkpoint in any layout (T5X's legacy or
      Orbax, or a Hugging Face T5 folder); with 'latest' and 'all' a folder of
      checkpoints. Several are allowed; None restores nothing.
    mode: 'specific', 'latest' or 'all'.
    assignment_map: rules that say which of the checkpoint's leaves become
      which of the model's; see `state_utils.apply_assignment_map`.
    strict: whether a rule that matches nothing is an error.
    fallback_to_scratch: whether leaves that the checkpoint lacks start from
      scratch, and leaves that only it has are dropped, instead of an error.
    dtype: type that floating-point parameters get; None is the model's own.
    restore_dataset: whether to go on at the saved position in the data. This
      resumes the run that saved: its optimizer's state must then fit exactly.
      Otherwise a state that does not fit is replaced by a fresh one.
    checkpointer_cls: restores, if it is not left at its default or `use_orbax`
      is False.
    state_transformation_fns: applied in order to the opened checkpoint, before
      `assignment_map`.
    checkpoint_manager_cls: restores otherwise.
  """

  path: str | Sequence[str] | None
  mode: str = 'latest'
  assignment_map: Sequence[tuple[str, str | None]] | None = None
  strict: bool = True
  fallback_to_scratch: bool = False
  dtype: str | None = None
  restore_dataset: bool = False
  checkpointer_cls: manager.CheckpointerConstructor = manager.Checkpointer
  state_transformation_fns: Sequence[restorer.RestoreStateTransformationFn] = ()
  checkpoint_manager_cls: manager.CheckpointManagerConstructor = (
    manager.OrbaxCheckpointManagerInterface
  )

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
    train_state: Any,
    partitioner: Any,
    dataset_iterator: Any | None = None,
    use_orbax: bool = True,
  ) -> Any:
    """Makes what restores checkpoints of `directory`; see `make_manager`."""
    if _takes_legacy(self, use_orbax):
      return self.checkpointer_cls(
        train_state,
        partitioner,
        directory,
        dataset_iterator,
        restore_dtype=self.dtype,
      )
    return self.checkpoint_manager_cls(
      directory=directory,
      train_state=train_state,
      partitioner=partitioner,
      dataset_iterator=dataset_iterator,
      restore_dtype=self.dtype,
    )


def _takes_legacy(cfg: Any, use_orbax: bool) -> bool:
  """Whether `checkpointer_cls` counts: asked for by flag or by being set."""
  return not use_orbax or cfg.checkpointer_cls is not manager.Checkpointer


@dataclasses.dataclass
class CheckpointConfig:
  """How a run is saved, and what it starts from.

  Attributes:
    save: None saves nothing.
    restore: None starts from scratch. A list is tried in order.
    accept_other_run: (not in T5X) whether to go on in a folder whose checkpoint
      is of another model or of other data; see `run.identity`.
  """

  save: SaveCheckpointConfig | None = None
  restore: (
    RestoreCheckpointConfig | Sequence[RestoreCheckpointConfig] | None
  ) = None
  accept_other_run: bool = False
