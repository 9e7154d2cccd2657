"""Optax optimizers in T5X's interface.

The functions at the end (`adamw`, `sgd`, ...) take the arguments of the
functions in optax and return an `OptimizerDef`, for gin files to name.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import serialization, traverse_util
from jax.sharding import PartitionSpec

from t5x.optimizers.definition import Optimizer, OptimizerDef, OptimizerState


class OptaxWrapper(OptimizerDef):
  """An optax gradient transformation as an `OptimizerDef`.

  The learning rate is the one that optax was given: what the trainer passes to
  `apply_gradient` has no effect on the update.

  Args:
    optax_optimizer: what to wrap.
  """

  def __init__(self, optax_optimizer: optax.GradientTransformation):
    self.optax_optimizer = optax_optimizer
    # Optax's own rate, where the wrapped function was called with one.
    self._learning_rate: float | Callable[..., jax.Array] | None = None
    super().__init__(hyper_params=None)

  def init_state(self, params: Any) -> OptimizerState:
    return OptimizerState(
      step=jnp.zeros((), jnp.int32),
      param_states=self.optax_optimizer.init(params),
    )

  def apply_gradient(
    self, hyper_params: Any, params: Any, state: OptimizerState, grads: Any
  ) -> tuple[Any, OptimizerState]:
    del hyper_params  # Optax holds its own.
    updates, param_states = self.optax_optimizer.update(
      grads, state.param_states, params
    )
    return optax.apply_updates(params, updates), OptimizerState(
      step=state.step + 1, param_states=param_states
    )

  def learning_rate(self, state: OptimizerState, given: jax.Array) -> jax.Array:
    if self._learning_rate is None:
      return given
    if not callable(self._learning_rate):
      return jnp.asarray(self._learning_rate, jnp.float32)
    # Optax's own count drives a schedule. It differs from the training step
    # where parameters were restored without the optimizer.
    counts = optax.tree_utils.tree_get_all_with_path(
      state.param_states, 'count'
    )
    count = counts[0][1] if counts else state.step
    return jnp.asarray(self._learning_rate(count), jnp.float32)

  def derive_logical_axes(
    self, optimizer: Optimizer, param_logical_axes: Any
  ) -> Optimizer:
    def axes_of(leaf, axes, param):
      # Statistics of another shape than the parameter's are kept whole.
      return axes.value if leaf.shape == param.shape else None

    boxed = jax.tree.map(
      Axes,
      param_logical_axes,
      is_leaf=lambda x: x is None or isinstance(x, PartitionSpec),
    )
    param_states = optax.tree_utils.tree_map_params(
      self.optax_optimizer,
      axes_of,
      optimizer.state.param_states,
      boxed,
      optimizer.target,
      transform_non_params=lambda _: None,
    )
    return self._with_axes(param_states, param_logical_axes)

  def state_dict(self, target: Any, state: OptimizerState) -> dict[str, Any]:
    """Returns parameters and state as nested dicts.

    Tuples become dicts with keys '0', '1', ...; transformations without a
    state are left out: `{'step': 3, 'param_states': {'0': {'count': ...,
    'mu': ..., 'nu': ...}}}`.
    """
    full = super().state_dict(target, state)
    full['state']['param_states'] = traverse_util.unflatten_dict(
      traverse_util.flatten_dict(full['state']['param_states'])
    )
    return full

  def restore_state(
    self, opt_target: Any, opt_state: OptimizerState, state_dict: Any
  ) -> Optimizer:
    empty = traverse_util.flatten_dict(
      serialization.to_state_dict(opt_state.param_states), keep_empty_nodes=True
    )
    empty = {k: v for k, v in empty.items() if v is traverse_util.empty_node}
    given = traverse_util.flatten_dict(
      flax.core.unfreeze(state_dict['state']['param_states'])
    )
    param_states = traverse_util.unflatten_dict({**empty, **given})
    state = {**state_dict['state'], 'param_states': param_states}
    return super().restore_state(
      opt_target, opt_state, {**state_dict, 'state': state}
    )


class Axes:
  """Holds a value, such as a PartitionSpec or None, as a leaf of a pytree."""

  def __init__(self, value: Any):
    self.value = value


def wrap_optax_optimizer(
  optax_optimizer: Callable[..., optax.GradientTransformation],
) -> Callable[..., OptaxWrapper]:
  """Turns a function that makes an optax optimizer into one that wraps it.

  Args:
    optax_optimizer: such as `optax.adamw`.

  Returns:
    A function with the same arguments that returns an `OptaxWrapper`, which
    reports the `learning_rate` it was given.
  """
  signature = inspect.signature(optax_optimizer)

  @functools.wraps(optax_optimizer)
  def wrapped(*args, **kwargs):
    wrapper = OptaxWrapper(optax_optimizer(*args, **kwargs))
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    wrapper._learning_rate = bound.arguments.get('learning_rate')
    return wrapper

  wrapped.__module__ = __name__
  return wrapped


def _chain(
  transformations: Sequence[optax.GradientTransformation],
) -> optax.GradientTransformation:
  """Applies transformations one after the other."""
  return optax.chain(*transformations)


# The wrapped function is known to gin under this name.
_chain.__name__ = _chain.__qualname__ = 'chain'

chain = wrap_optax_optimizer(_chain)
adabelief = wrap_optax_optimizer(optax.adabelief)
adadelta = wrap_optax_optimizer(optax.adadelta)
adafactor_optax = wrap_optax_optimizer(optax.adafactor)
adagrad = wrap_optax_optimizer(optax.adagrad)
adam = wrap_optax_optimizer(optax.adam)
adamax = wrap_optax_optimizer(optax.adamax)
adamaxw = wrap_optax_optimizer(optax.adamaxw)
adamw = wrap_optax_optimizer(optax.adamw)
adan = wrap_optax_optimizer(optax.adan)
amsgrad = wrap_optax_optimizer(optax.amsgrad)
fromage = wrap_optax_optimizer(optax.fromage)
lamb = wrap_optax_optimizer(optax.lamb)
lars = wrap_optax_optimizer(optax.lars)
lion = wrap_optax_optimizer(optax.lion)
nadam = wrap_optax_optimizer(optax.nadam)
nadamw = wrap_optax_optimizer(optax.nadamw)
novograd = wrap_optax_optimizer(optax.novograd)
radam = wrap_optax_optimizer(optax.radam)
rmsprop = wrap_optax_optimizer(optax.rmsprop)
sgd = wrap_optax_optimizer(optax.sgd)
yogi = wrap_optax_optimizer(optax.yogi)
