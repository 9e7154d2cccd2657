"""Small functions of T5X's interface that belong to no other module."""

import importlib
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import core, traverse_util
from jax.experimental import multihost_utils


def get_zeros_batch_like_spec(
  batch_spec: Mapping[str, jax.ShapeDtypeStruct],
) -> Mapping[str, jax.Array]:
  """Returns a batch of zeros with the given shapes and types."""
  return {k: jnp.zeros(v.shape, v.dtype) for k, v in batch_spec.items()}


def round_vocab_size_to_multiple(vocabulary: Any, divisor: int = 128) -> int:
  """Returns the vocabulary's size, rounded up to a multiple of `divisor`.

  T5's 32,100 pieces give 32,128: rows that no token uses cost little, and a
  round size divides over devices.
  """
  return math.ceil(vocabulary.vocab_size / divisor) * divisor


def flatten_dict_string_keys(x: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a nested mapping as one level with keys joined by '/'."""
  return traverse_util.flatten_dict(core.unfreeze(x), sep='/')


def import_module(module: str) -> None:
  """Imports a module, for gin files that name one as a string."""
  importlib.import_module(module)


def sync_global_devices(name: str) -> None:
  """Waits until all processes have come to the point called `name`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def multihost_assert_equal(input_tree: Any, fail_message: str = '') -> None:
  """Raises AssertionError unless all processes hold an equal tree."""
  if jax.process_count() > 1:
    multihost_utils.assert_equal(input_tree, fail_message)
