"""Checkpoints: saving them, choosing one, and restoring it onto any mesh."""

# fmt: off
from jax.sharding import PartitionSpec
from jax.tree_util import PyTreeDef

from t5x.checkpoints import formats
from t5x.checkpoints.config import (
  CheckpointConfig, RestoreCheckpointConfig, SaveCheckpointConfig,
  transformations,
)
from t5x.checkpoints.data_position import DatasetIterator
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.checkpoints.integrity import digest
from t5x.checkpoints.legacy_manager import LegacyCheckpointManager
from t5x.checkpoints.locate import (
  all_steps, base_of, check_network, find_checkpoint, get_checkpoint_dir,
  latest_step, open_checkpoint,
)
from t5x.checkpoints.manager import (
  Checkpointer, CheckpointerConstructor, CheckpointManagerConstructor,
  OrbaxCheckpointManagerInterface, SaveBestCheckpointer, last_complete,
)
from t5x.checkpoints.restore import (
  PathLike, RestoreStateTransformationFn, SaveStateTransformationFn, StateDict,
  load_t5x_checkpoint,
)
from t5x.checkpoints.selection import (
  RestoreConfigs, get_first_valid_restore_config_and_paths, last_before,
  set_incomplete_aside,
)

__all__ = (
  'CheckpointConfig', 'CheckpointManagerConstructor', 'Checkpointer',
  'CheckpointerConstructor', 'DatasetIterator', 'LazyArray',
  'LegacyCheckpointManager',
  'OrbaxCheckpointManagerInterface', 'PartitionSpec', 'PathLike', 'PyTreeDef',
  'RestoreCheckpointConfig',
  'RestoreConfigs', 'RestoreStateTransformationFn', 'SaveBestCheckpointer',
  'SaveCheckpointConfig', 'SaveStateTransformationFn', 'StateDict', 'all_steps',
  'base_of', 'check_network', 'digest', 'find_checkpoint', 'formats',
  'get_checkpoint_dir',
  'get_first_valid_restore_config_and_paths', 'last_before', 'last_complete',
  'latest_step',
  'load_t5x_checkpoint', 'open_checkpoint', 'set_incomplete_aside',
  'transformations',
)
