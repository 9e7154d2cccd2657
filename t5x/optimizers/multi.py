"""Several optimizers, each for its part of the parameters."""

from collections.abc import Sequence
from typing import Any

import flax
import jax.numpy as jnp
from flax import traverse_util

from t5x import errors
from t5x.optimizers import optax_wrapper
from t5x.optimizers.definition import (
  Optimizer,
  OptimizerDef,
  OptimizerState,
)


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
