"""Hub of the names that T5X keeps in `utils`, and its five small functions."""

# The imported names are handed on.
# ruff: noqa: F401

import importlib
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import seqio
from flax import core, traverse_util

from t5x.checkpoints import (
  CheckpointConfig,
  RestoreCheckpointConfig,
  SaveCheckpointConfig,
  get_first_valid_restore_config_and_paths,
)
from t5x.data import (
  DatasetConfig,
  get_dataset,
  get_training_eval_datasets,
  get_vocabulary,
  prepare_train_iter,
  verify_matching_vocabs,
)
from t5x.distributed import multihost_assert_equal, sync_global_devices
from t5x.inference import get_infer_fn
from t5x.initialization import TrainStateInitializer
from t5x.optimizers import create_learning_rate_scheduler
from t5x.run.model_info import log_model_info


def get_zeros_batch_like_spec(
  batch_spec: Mapping[str, jax.ShapeDtypeStruct],
) -> Mapping[str, jax.Array]:
  """Returns a batch of zeros with the given shapes and types."""
  return {k: jnp.zeros(v.shape, v.dtype) for k, v in batch_spec.items()}


def round_vocab_size_to_multiple(
  vocabulary: seqio.Vocabulary, divisor: int = 128
) -> int:
  """Returns the vocabulary's size, rounded up to a multiple of `divisor`.

  T5's 32,100 pieces give 32,128: rows that no token uses cost little, and a
  round size divides over devices.
  """
  return math.ceil(vocabulary.vocab_size / divisor) * divisor


def flatten_dict_string_keys(
  x: dict[str, Any] | core.FrozenDict,
) -> dict[str, Any]:
  """Returns a nested mapping as one level with keys joined by '/'."""
  return traverse_util.flatten_dict(core.unfreeze(x), sep='/')


def import_module(module: str) -> None:
  """Imports a module, for gin files that name one as a string."""
  importlib.import_module(module)
