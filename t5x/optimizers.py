"""Optimizers in T5X's interface, and every optax optimizer through a wrapper.

An `OptimizerDef` holds hyperparameters and knows how to make a state and apply
gradients; an `Optimizer` is the pytree of a definition, its state and the
parameters. The functions at the end (`adamw`, `sgd`, ...) take the arguments
of the functions in optax and return an `OptimizerDef`, for gin files to name.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import serialization, struct, traverse_util
from jax.sharding import PartitionSpec

from t5x import errors


@struct.dataclass
class OptimizerState:
  """What an optimizer remembers.

  Attributes:
    step: how many gradients were applied, int32.
    param_states: what it keeps for the parameters.
  """

  step: jax.Array
  param_states: Any


class OptimizerDef:
  """A way to update parameters from gradients.

  Args:
    hyper_params: a dataclass with `replace`, or None if nothing can be
      overridden at a step.
  """

  def __init__(self, hyper_params: Any):
    self.hyper_params = hyper_params

  def init_state(self, params: Any) -> OptimizerState:
    """Returns the state at step 0 for these parameters."""
    raise NotImplementedError

  def apply_gradient(
    self, hyper_params: Any, params: Any, state: OptimizerState, grads: Any
  ) -> tuple[Any, OptimizerState]:
    """Returns updated parameters and state."""
    raise NotImplementedError

  def update_hyper_params(self, **hyper_param_overrides: Any) -> Any:
    """Returns the hyperparameters with some replaced."""
    if self.hyper_params is None:
      return None
    return self.hyper_params.replace(**hyper_param_overrides)

  def create(self, target: Any) -> 'Optimizer':
    """Returns an optimizer for these parameters at step 0."""
    return Optimizer(self, state=self.init_state(target), target=target)

  def set_param_axes(self, param_logical_axes: Any) -> None:
    """Tells the definition the logical axes of the parameters."""

  def derive_logical_axes(
    self, optimizer: 'Optimizer', param_logical_axes: Any
  ) -> 'Optimizer':
    """Returns the optimizer with logical axes in place of its arrays.

    Args:
      optimizer: arrays, or `jax.ShapeDtypeStruct`s.
      param_logical_axes: a `PartitionSpec` of logical names, or None, for each
        parameter.
    """
    raise NotImplementedError

  def learning_rate(self, state: OptimizerState, given: jax.Array) -> jax.Array:
    """Returns the learning rate that the next update uses, for reporting.

    Args:
      state: the state before the update.
      given: the rate that the trainer passes to `apply_gradient`.
    """
    del state
    return given

  def state_dict(self, target: Any, state: OptimizerState) -> dict[str, Any]:
    """Returns parameters and state as nested dicts."""
    return {
      'target': serialization.to_state_dict(target),
      'state': serialization.to_state_dict(state),
    }

  def restore_state(
    self, opt_target: Any, opt_state: OptimizerState, state_dict: Any
  ) -> 'Optimizer':
    """Returns the optimizer that `state_dict` was made from.

    Args:
      opt_target: parameters of the right structure; values don't matter.
      opt_state: a state of the right structure; values don't matter.
      state_dict: what `state_dict` returned.
    """
    target = serialization.from_state_dict(opt_target, state_dict['target'])
    state = serialization.from_state_dict(opt_state, state_dict['state'])
    return Optimizer(self, state=state, target=target)


class Optimizer(struct.PyTreeNode):
  """An optimizer's definition, its state, and the parameters it updates."""

  optimizer_def: OptimizerDef = struct.field(pytree_node=False)
  state: Any
  target: Any

  def apply_gradient(
    self, grads: Any, **hyper_param_overrides: Any
  ) -> 'Optimizer':
    """Returns the optimizer after one update.

    Args:
      grads: one gradient a parameter.
      **hyper_param_overrides: hyperparameters at this step, such as
        `learning_rate`.
    """
    hyper_params = self.optimizer_def.update_hyper_params(
      **hyper_param_overrides
    )
    target, state = self.optimizer_def.apply_gradient(
      hyper_params, self.target, self.state, grads
    )
    return self.replace(target=target, state=state)

  def state_dict(self) -> dict[str, Any]:
    """Returns parameters and state as nested dicts."""
    return self.optimizer_def.state_dict(self.target, self.state)

  def restore_state(self, state: Any) -> 'Optimizer':
    """Returns the optimizer that the nested dicts `state` were made from."""
    return self.optimizer_def.restore_state(self.target, self.state, state)


def _is_axes(x: Any) -> bool:
  return x is None or isinstance(x, PartitionSpec)


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
    # A schedule is driven by optax's own count, which differs from the step of
    # training where parameters were restored without the optimizer.
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

    boxed = jax.tree.map(_Axes, param_logical_axes, is_leaf=_is_axes)
    param_states = optax.tree_utils.tree_map_params(
      self.optax_optimizer,
      axes_of,
      optimizer.state.param_states,
      boxed,
      optimizer.target,
      transform_non_params=lambda _: None,
    )
    return Optimizer(
      self,
      state=OptimizerState(step=None, param_states=param_states),
      target=param_logical_axes,
    )

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
      serialization.to_state_dict(opt_state.param_states),
      keep_empty_nodes=True,
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


class _Axes:
  """Holds a PartitionSpec or None, so that it is a leaf of a pytree."""

  def __init__(self, value: PartitionSpec | None):
    self.value = value


class MultiOptimizer(OptimizerDef):
  """Updates different parameters with different optimizers.

  Parameters that no traversal selects stay as they are. The state's
  `param_states` is a dict with the state of each optimizer under its number:
  '0', '1', ....

  Args:
    traversals_and_optimizers: which parameters
      (`flax.traverse_util.ModelParamTraversal`), and their optimizer.
  """

  def __init__(
    self,
    traversals_and_optimizers: Sequence[
      tuple[traverse_util.Traversal, OptimizerDef]
    ],
  ):
    pairs = list(traversals_and_optimizers)
    self.traversals = [traversal for traversal, _ in pairs]
    self.sub_optimizers = [optimizer for _, optimizer in pairs]
    super().__init__([o.hyper_params for o in self.sub_optimizers])

  def _split(self, flat: dict[tuple, Any]) -> list[set[tuple]]:
    """Returns the paths that each traversal selects."""
    # Traversals walk trees, so let them walk one whose leaves are the paths.
    tree = traverse_util.unflatten_dict({k: _Axes(k) for k in flat})
    chosen = [{leaf.value for leaf in t.iterate(tree)} for t in self.traversals]
    taken: set[tuple] = set()
    for number, paths in enumerate(chosen):
      if both := taken & paths:
        raise errors.UserError(
          f'MultiOptimizer: traversal {number} selects'
          f' {"/".join(min(both))!r}, which an earlier one selects already.'
          ' Make the traversals disjoint.'
        )
      taken |= paths
    return chosen

  def _parts(self, params: Any, *trees: Any) -> list[list[Any]]:
    """Returns, for each optimizer, its part of each tree."""
    paths = self._split(traverse_util.flatten_dict(params))
    flat = [
      traverse_util.flatten_dict(flax.core.unfreeze(tree))
      for tree in (params, *trees)
    ]
    return [
      [
        traverse_util.unflatten_dict({k: v for k, v in f.items() if k in part})
        for f in flat
      ]
      for part in paths
    ]

  def init_state(self, params: Any) -> OptimizerState:
    states = {
      str(i): optimizer.init_state(part).param_states
      for i, (optimizer, (part,)) in enumerate(
        zip(self.sub_optimizers, self._parts(params), strict=True)
      )
    }
    return OptimizerState(jnp.zeros((), jnp.int32), states)

  def update_hyper_params(self, **hyper_param_overrides: Any) -> list[Any]:
    return [
      optimizer.update_hyper_params(**hyper_param_overrides)
      for optimizer in self.sub_optimizers
    ]

  def apply_gradient(
    self, hyper_params: Any, params: Any, state: OptimizerState, grads: Any
  ) -> tuple[Any, OptimizerState]:
    new_params = dict(traverse_util.flatten_dict(params))
    new_states = {}
    for i, (optimizer, hyper, (part, grad)) in enumerate(
      zip(
        self.sub_optimizers,
        hyper_params,
        self._parts(params, grads),
        strict=True,
      )
    ):
      part, sub = optimizer.apply_gradient(
        hyper,
        part,
        OptimizerState(state.step, state.param_states[str(i)]),
        grad,
      )
      new_params.update(traverse_util.flatten_dict(part))
      new_states[str(i)] = sub.param_states
    return traverse_util.unflatten_dict(new_params), OptimizerState(
      state.step + 1, new_states
    )

  def set_param_axes(self, param_logical_axes: Any) -> None:
    parts = self._parts(param_logical_axes)
    for optimizer, (part,) in zip(self.sub_optimizers, parts, strict=True):
      optimizer.set_param_axes(part)

  def derive_logical_axes(
    self, optimizer: Optimizer, param_logical_axes: Any
  ) -> Optimizer:
    states = {}
    parts = self._parts(optimizer.target, param_logical_axes)
    for i, (sub, (part, axes)) in enumerate(
      zip(self.sub_optimizers, parts, strict=True)
    ):
      own = OptimizerState(None, optimizer.state.param_states[str(i)])
      states[str(i)] = sub.derive_logical_axes(
        Optimizer(sub, state=own, target=part), axes
      ).state.param_states
    return Optimizer(
      self,
      state=OptimizerState(step=None, param_states=states),
      target=param_logical_axes,
    )


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
