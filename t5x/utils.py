"""Hub of the names that T5X keeps in `utils`, and its small functions."""

# The imported names are handed on.
# ruff: noqa: F401

import importlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import seqio
from flax import core, traverse_util
from flax.linen import partitioning as flax_partitioning

from t5x import errors
from t5x.checkpoints import (
  CheckpointConfig,
  LegacyCheckpointManager,
  RestoreCheckpointConfig,
  SaveCheckpointConfig,
  get_first_valid_restore_config_and_paths,
)
from t5x.data import (
  DatasetConfig,
  get_dataset,
  get_dataset_inner,
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


class InitFnCallable(Protocol):
  """A model's `get_initial_variables`."""

  def __call__(
    self,
    rng: jax.Array,
    input_shapes: Mapping[str, Sequence[int]],
    input_types: Mapping[str, Any] | None = None,
  ) -> Mapping[str, Any]: ...


def override_params_axes_names(
  model_variables: core.FrozenDict | Mapping[str, Any],
  params_axes_names_override: Sequence[tuple[str, tuple[str, ...]]] = (),
) -> core.FrozenDict:
  r"""Returns a model's variables with other logical axes of parameters.

  `[(r'decoder/.*/wo/kernel', ('mlp', 'embed'))]` names the axes of the kernels
  `wo` of the decoder.

  Args:
    model_variables: what `module.init` returns.
    params_axes_names_override: pairs of a pattern and names. For each parameter
      the first one counts that matches its whole path, joined by '/'.

  Raises:
    errors.UserError: a pattern matches no parameter, or names another number
      of axes than it has.
  """
  variables = core.unfreeze(core.freeze(dict(model_variables)))
  flat = traverse_util.flatten_dict(variables['params'], sep='/')
  axes = traverse_util.flatten_dict(variables.get('params_axes', {}), sep='/')
  unused = [pattern for pattern, _ in params_axes_names_override]
  for path, param in flat.items():
    for pattern, names in params_axes_names_override:
      if not re.fullmatch(pattern, path):
        continue
      unused = [other for other in unused if other != pattern]
      if len(names) != param.ndim:
        raise errors.UserError(
          f'override_params_axes_names: {pattern!r} names {len(names)} axes'
          f' {tuple(names)}, but {path} has the shape {param.shape}.'
        )
      axes[f'{path}_axes'] = flax_partitioning.AxisMetadata(tuple(names))
      break
  if unused:
    raise errors.UserError(
      f'override_params_axes_names: no parameter matches {unused}. Patterns'
      f' match a whole path, such as {next(iter(flat), None)!r}.'
    )
  variables['params_axes'] = traverse_util.unflatten_dict(axes, sep='/')
  return core.freeze(variables)


def get_local_data(x: Any) -> Any:
  """Returns what the first device of this process holds of an array.

  For arrays that every device has a copy of. Anything else is returned as it
  is.
  """
  if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer):
    return x.addressable_data(0)
  return x


def set_hardware_rng_ops() -> None:
  """Makes the device's own generator the default of all keys made from now on.

  It is faster than the default one, and differs between kinds of devices.
  """
  jax.config.update('jax_default_prng_impl', 'unsafe_rbg')


def import_module(module: str) -> None:
  """Imports a module, for gin files that name one as a string."""
  importlib.import_module(module)
