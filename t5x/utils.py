"""The names that T5X keeps in `utils`, each from the module that defines it."""

from t5x.checkpoint_config import (
  CheckpointConfig,
  RestoreCheckpointConfig,
  SaveCheckpointConfig,
)
from t5x.datasets import (
  DatasetConfig,
  get_dataset,
  get_training_eval_datasets,
  get_vocabulary,
  prepare_train_iter,
  verify_matching_vocabs,
)
from t5x.inference import get_infer_fn
from t5x.initialization import (
  TrainStateInitializer,
  get_first_valid_restore_config_and_paths,
)
from t5x.model_info import log_model_info
from t5x.schedules import create_learning_rate_scheduler
from t5x.tools import (
  flatten_dict_string_keys,
  get_zeros_batch_like_spec,
  import_module,
  multihost_assert_equal,
  round_vocab_size_to_multiple,
  sync_global_devices,
)

__all__ = [
  'CheckpointConfig',
  'DatasetConfig',
  'RestoreCheckpointConfig',
  'SaveCheckpointConfig',
  'TrainStateInitializer',
  'create_learning_rate_scheduler',
  'flatten_dict_string_keys',
  'get_dataset',
  'get_first_valid_restore_config_and_paths',
  'get_infer_fn',
  'get_training_eval_datasets',
  'get_vocabulary',
  'get_zeros_batch_like_spec',
  'import_module',
  'log_model_info',
  'multihost_assert_equal',
  'prepare_train_iter',
  'round_vocab_size_to_multiple',
  'sync_global_devices',
  'verify_matching_vocabs',
]
