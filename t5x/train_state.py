"""Train states: parameters, optimizer state and step.

The state dict, which is what checkpoints hold, is
`{'target': parameters, 'state': {'step': ..., 'param_states': ...}}`, with
`'flax_mutables'` if a model has other variables.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any, Protocol, Self

import flax
import jax
import jax.numpy as jnp
from flax import serialization, struct, traverse_util
from flax.core import FrozenDict
from flax.linen import partitioning as flax_partitioning

from t5x import errors, optimizers

EMPTY_DICT: FrozenDict = FrozenDict({})


class TrainState(Protocol):
  """The part of a state that checkpoints, trainers and partitioners rely on."""

  @property
  def step(self) -> jax.Array:
    """The number of steps that were done, int32."""

  @property
  def params(self) -> Mapping[str, Any]:
    """The model's parameters, as nested dicts."""

  @property
  def param_states(self) -> Any:
    """The optimizer's state for the parameters."""

  @property
  def flax_mutables(self) -> Mapping[str, Any]:
    """Variables of the model besides its parameters, by collection."""

  def state_dict(self) -> MutableMapping[str, Any]:
    """Returns the state as nested dicts."""

  def restore_state(self, state_dict: Mapping[str, Any]) -> Self:
    """Returns the state that nested dicts were made from."""

  def replace_params(self, params: Mapping[str, Any]) -> Self:
    """Returns the state with other parameters."""

  def replace_flax_mutables(self, flax_mutables: Mapping[str, Any]) -> Self:
    """Returns the state with other variables."""

  def replace_step(self, step: jax.Array) -> Self:
    """Returns the state at another step."""

  def restart_optimizer(self) -> Self:
    """Returns the state with the optimizer's state as at step 0.

    The parameters are arrays; the optimizer's state may be shapes with
    shardings, which the new arrays then have. The step stays.
    """

  def apply_gradient(
    self,
    grads: Any,
    learning_rate: jax.Array,
    flax_mutables: Mapping[str, Any] = EMPTY_DICT,
  ) -> Self:
    """Returns the state after an update."""

  def next_learning_rate(self, given: jax.Array) -> jax.Array:
    """Returns the rate that the next update uses if it is given `given`."""

  def as_logical_axes(self) -> Self:
    """Returns the state with logical axes in place of its arrays."""

  def split_frozen(self) -> tuple[Self, Mapping[str, Any]]:
    """Returns the state without its frozen parameters, and those.

    Of a state without any it is the state itself, and an empty mapping.
    """

  def join_frozen(self, frozen: Mapping[str, Any]) -> Self:
    """Returns the state with the parameters that `split_frozen` took out."""


def _split_variables(variables: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns params, and the fields that both kinds of states share."""
  variables = dict(flax.core.unfreeze(variables))
  params = variables.pop('params')
  params_axes = variables.pop('params_axes', None)
  axes = {k: v for k, v in variables.items() if k.endswith('_axes')}
  mutables = {k: v for k, v in variables.items() if k not in axes}
  axes = {k.removesuffix('_axes'): v for k, v in axes.items()}
  return params, {
    'params_axes': params_axes,
    'flax_mutables': flax.core.freeze(mutables),
    'flax_mutables_axes': axes or None,
  }


def _logical_axes(values: Any, metadata: Any) -> dict[str, Any]:
  """Returns the logical axes of each value, None where it was given none."""
  flat = {}
  if metadata is not None:
    names = flax_partitioning.get_axis_names(metadata)
    flat = traverse_util.flatten_dict(flax.core.unfreeze(names))
  paths = traverse_util.flatten_dict(flax.core.unfreeze(values))
  return traverse_util.unflatten_dict({k: flat.get(k) for k in paths})


def _param_axes(params: Any, metadata: Any) -> dict[str, Any]:
  """Returns the logical axes of each parameter.

  Raises:
    errors.UserError: a parameter was given none.
  """
  axes = _logical_axes(params, metadata)
  unnamed = [
    '/'.join(path)
    for path, names in traverse_util.flatten_dict(axes).items()
    if names is None
  ]
  if unnamed:
    raise errors.UserError(
      f'The parameter {unnamed[0]} has no names of its axes, by which it is'
      f' laid out on the devices ({len(unnamed)} have none). Make it with'
      " flax.linen.partitioning.param_with_axes(…, axes=('embed', 'mlp')), or"
      " name them by utils.override_params_axes_names in the model's"
      ' get_initial_variables.'
    )
  return axes


def _mutables_axes(mutables: Mapping[str, Any], metadata: Any) -> FrozenDict:
  metadata = metadata or {}
  axes = {k: _logical_axes(v, metadata.get(k)) for k, v in mutables.items()}
  return flax.core.freeze(axes)


def _with_mutables(state: dict[str, Any], mutables: Any) -> dict[str, Any]:
  if mutables:
    state['flax_mutables'] = serialization.to_state_dict(
      flax.core.unfreeze(mutables)
    )
  return state


def _restored_mutables(mutables: Any, state_dict: Mapping[str, Any]) -> Any:
  if not mutables:
    return EMPTY_DICT
  restored = serialization.from_state_dict(
    flax.core.unfreeze(mutables), state_dict['flax_mutables']
  )
  return flax.core.freeze(restored)


class FlaxOptimTrainState(struct.PyTreeNode):
  """A train state around an `optimizers.Optimizer`.

  Attributes:
    _optimizer: parameters, optimizer and its state.
    params_axes: logical axes of the parameters, as flax records them.
    flax_mutables: variables of the model besides its parameters.
    flax_mutables_axes: their logical axes.
  """

  _optimizer: optimizers.Optimizer
  params_axes: Any = None
  flax_mutables: Any = EMPTY_DICT
  flax_mutables_axes: Any = None

  @classmethod
  def create(
    cls,
    optimizer_def: optimizers.OptimizerDef,
    model_variables: Mapping[str, Any],
  ) -> Self:
    """Returns the state at step 0.

    Args:
      optimizer_def: how parameters are updated.
      model_variables: what `module.init` returns.
    """
    params, fields = _split_variables(model_variables)
    if fields['params_axes'] is not None:
      axes = _logical_axes(params, fields['params_axes'])
      optimizer_def.set_param_axes(axes)
    return cls(_optimizer=optimizer_def.create(params), **fields)

  @property
  def step(self) -> jax.Array:
    return self._optimizer.state.step

  @property
  def params(self) -> Mapping[str, Any]:
    return self._optimizer.target

  @property
  def param_states(self) -> Any:
    return self._optimizer.state.param_states

  def state_dict(self) -> dict[str, Any]:
    return _with_mutables(self._optimizer.state_dict(), self.flax_mutables)

  def restore_state(self, state_dict: Mapping[str, Any]) -> Self:
    return self.replace(
      _optimizer=self._optimizer.restore_state(state_dict),
      flax_mutables=_restored_mutables(self.flax_mutables, state_dict),
    )

  def apply_gradient(
    self,
    grads: Any,
    learning_rate: jax.Array,
    flax_mutables: Mapping[str, Any] = EMPTY_DICT,
  ) -> Self:
    optimizer = self._optimizer.apply_gradient(
      grads, learning_rate=learning_rate
    )
    return self.replace(_optimizer=optimizer, flax_mutables=flax_mutables)

  def next_learning_rate(self, given: jax.Array) -> jax.Array:
    optimizer = self._optimizer
    return optimizer.optimizer_def.learning_rate(optimizer.state, given)

  def replace_params(self, params: Mapping[str, Any]) -> Self:
    return self.replace(_optimizer=self._optimizer.replace(target=params))

  def replace_flax_mutables(self, flax_mutables: Mapping[str, Any]) -> Self:
    return self.replace(flax_mutables=flax_mutables)

  def replace_step(self, step: jax.Array) -> Self:
    state = self._optimizer.state.replace(step=jnp.asarray(step, jnp.int32))
    return self.replace(_optimizer=self._optimizer.replace(state=state))

  def restart_optimizer(self) -> Self:
    optimizer = self._optimizer
    shardings = jax.tree.map(lambda leaf: leaf.sharding, optimizer.state)
    init_state = optimizer.optimizer_def.init_state
    state = jax.jit(init_state, out_shardings=shardings)(optimizer.target)
    restarted = self.replace(_optimizer=optimizer.replace(state=state))
    return restarted.replace_step(self.step)

  def split_frozen(self) -> tuple[Self, Mapping[str, Any]]:
    trained = self._optimizer.optimizer_def.trained(self.params)
    if trained is self.params:
      return self, EMPTY_DICT
    kept = traverse_util.flatten_dict(trained)
    frozen = {
      path: leaf
      for path, leaf in traverse_util.flatten_dict(self.params).items()
      if path not in kept
    }
    return self.replace_params(trained), traverse_util.unflatten_dict(frozen)

  def join_frozen(self, frozen: Mapping[str, Any]) -> Self:
    if not frozen:
      return self
    flat = {
      **traverse_util.flatten_dict(self.params),
      **traverse_util.flatten_dict(frozen),
    }
    return self.replace_params(traverse_util.unflatten_dict(flat))

  def as_logical_axes(self) -> 'FlaxOptimTrainState':
    optimizer = self._optimizer.optimizer_def.derive_logical_axes(
      self._optimizer, _param_axes(self.params, self.params_axes)
    )
    return FlaxOptimTrainState(
      _optimizer=optimizer,
      flax_mutables=_mutables_axes(self.flax_mutables, self.flax_mutables_axes),
    )


_NO_OPTIMIZER = (
  'InferenceState has no optimizer. Use FlaxOptimTrainState to train.'
)


class InferenceState(struct.PyTreeNode):
  """A state without an optimizer, for evaluation and inference."""

  step: jax.Array | None
  params: Any
  params_axes: Any = None
  flax_mutables: Any = EMPTY_DICT
  flax_mutables_axes: Any = None

  @classmethod
  def create(cls, model_variables: Mapping[str, Any]) -> Self:
    """Returns the state at step 0 with these variables of `module.init`."""
    params, fields = _split_variables(model_variables)
    return cls(step=jnp.zeros((), jnp.int32), params=params, **fields)

  @property
  def param_states(self) -> FrozenDict:
    return EMPTY_DICT

  def apply_gradient(self, *args: Any, **kwargs: Any) -> Self:
    raise NotImplementedError(_NO_OPTIMIZER)

  def next_learning_rate(self, given: jax.Array) -> jax.Array:
    raise NotImplementedError(_NO_OPTIMIZER)

  def restart_optimizer(self) -> Self:
    return self  # It has none.

  def split_frozen(self) -> tuple[Self, Mapping[str, Any]]:
    return self, EMPTY_DICT

  def join_frozen(self, frozen: Mapping[str, Any]) -> Self:
    del frozen  # There are none.
    return self

  def state_dict(self) -> MutableMapping[str, Any]:
    return _with_mutables(
      {
        'target': serialization.to_state_dict(flax.core.unfreeze(self.params)),
        'state': {'step': self.step},
      },
      self.flax_mutables,
    )

  def replace_step(self, step: jax.Array) -> Self:
    return self.replace(step=jnp.asarray(step, jnp.int32))

  def replace_params(self, params: Mapping[str, Any]) -> Self:
    return self.replace(params=params)

  def replace_flax_mutables(self, flax_mutables: Mapping[str, Any]) -> Self:
    return self.replace(flax_mutables=flax_mutables)

  def restore_state(self, state_dict: Mapping[str, Any]) -> Self:
    return self.replace(
      params=serialization.from_state_dict(self.params, state_dict['target']),
      step=state_dict['state']['step'],
      flax_mutables=_restored_mutables(self.flax_mutables, state_dict),
    )

  def as_logical_axes(self) -> 'InferenceState':
    return InferenceState(
      step=None,
      params=_param_axes(self.params, self.params_axes),
      flax_mutables=_mutables_axes(self.flax_mutables, self.flax_mutables_axes),
    )
