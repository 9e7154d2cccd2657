"""The names that T5X keeps in `utils`, each from the module that defines it."""

from t5x.checkpoint_config import CheckpointConfig
from t5x.checkpoint_config import RestoreCheckpointConfig
from t5x.checkpoint_config import SaveCheckpointConfig
from t5x.datasets import DatasetConfig
from t5x.datasets import get_dataset
from t5x.datasets import get_training_eval_datasets
from t5x.datasets import get_vocabulary
from t5x.datasets import prepare_train_iter
from t5x.datasets import verify_matching_vocabs
from t5x.inference import get_infer_fn
from t5x.initialization import get_first_valid_restore_config_and_paths
from t5x.initialization import TrainStateInitializer
from t5x.model_info import log_model_info
from t5x.schedules import create_learning_rate_scheduler
from t5x.tools import flatten_dict_string_keys
from t5x.tools import get_zeros_batch_like_spec
from t5x.tools import import_module
from t5x.tools import multihost_assert_equal
from t5x.tools import round_vocab_size_to_multiple
from t5x.tools import sync_global_devices

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
