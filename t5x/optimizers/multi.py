"""Combination of optimizers, each for its part of the parameters."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import flax
import jax
import jax.numpy as jnp
from flax import serialization, traverse_util

from t5x import errors
from t5x.optimizers import optax_wrapper
from t5x.optimizers.definition import Optimizer, OptimizerDef, OptimizerState


class Selection(Protocol):
  """The part of flax's `Traversal` that is used here."""

  def iterate(self, inputs: Any) -> Iterable[Any]:
    """Returns the selected leaves of nested dicts."""


class MultiOptimizer(OptimizerDef):
  """Updates different parameters with different optimizers.

  Parameters that no traversal selects are frozen: they stay as they are, and
  the trainer computes no gradients of them. The state's `param_states` is a
  dict with the state of each optimizer under its number: '0', '1', ....

  Args:
    traversals_and_optimizers: which parameters
      (`flax.traverse_util.ModelParamTraversal`), and their optimizer.
  """

  def __init__(
    self,
    traversals_and_optimizers: Sequence[tuple[Selection, OptimizerDef]],
  ):
    pairs = list(traversals_and_optimizers)
    self.traversals = [traversal for traversal, _ in pairs]
    self.sub_optimizers = [optimizer for _, optimizer in pairs]
    super().__init__([o.hyper_params for o in self.sub_optimizers])

  def _split(self, flat: dict[tuple, Any]) -> list[set[tuple]]:
    """Returns the paths that each traversal selects."""
    # Traversals walk trees, so let them walk one whose leaves are the paths.
    tree = traverse_util.unflatten_dict(
      {k: optax_wrapper.Axes(k) for k in flat}
    )
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

  def _parts(
    self, params: Any, *trees: Any
  ) -> list[tuple[str, OptimizerDef, list[Any]]]:
    """Returns each optimizer's number, itself, and its part of each tree."""
    flat = [
      traverse_util.flatten_dict(flax.core.unfreeze(tree))
      for tree in (params, *trees)
    ]
    parts = []
    for number, paths in enumerate(self._split(flat[0])):
      own = [{k: v for k, v in f.items() if k in paths} for f in flat]
      optimizer = self.sub_optimizers[number]
      nested = [traverse_util.unflatten_dict(part) for part in own]
      parts.append((str(number), optimizer, nested))
    return parts

  def trained(self, params: Any) -> Any:
    flat = traverse_util.flatten_dict(flax.core.unfreeze(params))
    chosen = set().union(*self._split(flat))
    if chosen == set(flat):
      return params
    return traverse_util.unflatten_dict(
      {path: leaf for path, leaf in flat.items() if path in chosen}
    )

  def learning_rate(self, state: OptimizerState, given: jax.Array) -> jax.Array:
    if len(self.sub_optimizers) != 1:
      return given  # Each may have its own.
    (optimizer,) = self.sub_optimizers
    own = OptimizerState(state.step, state.param_states['0'])
    return optimizer.learning_rate(own, given)

  def state_dict(self, target: Any, state: OptimizerState) -> dict[str, Any]:
    full = super().state_dict(target, state)
    for number, optimizer in enumerate(self.sub_optimizers):
      own = OptimizerState(state.step, state.param_states[str(number)])
      of_part = optimizer.state_dict({}, own)['state']['param_states']
      full['state']['param_states'][str(number)] = of_part
    return full

  def restore_state(
    self, opt_target: Any, opt_state: OptimizerState, state_dict: Any
  ) -> Optimizer:
    target = serialization.from_state_dict(opt_target, state_dict['target'])
    step = state_dict['state']['step']
    states = {}
    for number, optimizer in enumerate(self.sub_optimizers):
      own = OptimizerState(step, opt_state.param_states[str(number)])
      # A part without parameters may be missing.
      given = state_dict['state']['param_states'].get(str(number), {})
      restored = optimizer.restore_state(
        {},
        own,
        {'target': {}, 'state': {'step': step, 'param_states': given}},
      )
      states[str(number)] = restored.state.param_states
    return Optimizer(self, state=OptimizerState(step, states), target=target)

  def init_state(self, params: Any) -> OptimizerState:
    states = {
      number: optimizer.init_state(part).param_states
      for number, optimizer, (part,) in self._parts(params)
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
    for hyper, (number, optimizer, (part, grad)) in zip(
      hyper_params, self._parts(params, grads), strict=True
    ):
      own = OptimizerState(state.step, state.param_states[number])
      part, new = optimizer.apply_gradient(hyper, part, own, grad)
      new_params.update(traverse_util.flatten_dict(part))
      new_states[number] = new.param_states
    return traverse_util.unflatten_dict(new_params), OptimizerState(
      state.step + 1, new_states
    )

  def set_param_axes(self, param_logical_axes: Any) -> None:
    for _, optimizer, (part,) in self._parts(param_logical_axes):
      optimizer.set_param_axes(part)

  def derive_logical_axes(
    self, optimizer: Optimizer, param_logical_axes: Any
  ) -> Optimizer:
    states = {}
    for number, sub, (part, axes) in self._parts(
      optimizer.target, param_logical_axes
    ):
      own = OptimizerState(
        optimizer.state.step, optimizer.state.param_states[number]
      )
      derived = sub.derive_logical_axes(
        Optimizer(sub, state=own, target=part), axes
      )
      states[number] = derived.state.param_states
    return self._with_axes(states, param_logical_axes)
