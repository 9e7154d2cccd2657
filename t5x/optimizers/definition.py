"""Optimizer interface.

An `OptimizerDef` holds hyperparameters, makes a state and applies gradients; an
`Optimizer` is the pytree of a definition, its state and the parameters.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
from flax import serialization, struct

from t5x import errors


@struct.dataclass
class OptimizerState:
  """The state of an optimizer.

  Attributes:
    step: how many gradients were applied, int32.
    param_states: what the optimizer keeps for the parameters.
  """

  step: jax.Array
  param_states: Any


class HParamMap:
  """A hyperparameter that depends on the parameter's path.

  `HParamMap([('embedding$', False), ('.*', True)])['token_embedder/embedding']`
  is False.

  Args:
    rules: pairs of a regular expression, searched for in the path (names joined
      by '/'), and a value; the first match counts.
  """

  def __init__(self, rules: Sequence[tuple[str, Any]]):
    self._rules = [(re.compile(pattern), value) for pattern, value in rules]

  def __getitem__(self, path: str) -> Any:
    for pattern, value in self._rules:
      if pattern.search(path):
        return value
    raise errors.UserError(
      f'HParamMap: no rule matches {path!r}; found the patterns'
      f' {[pattern.pattern for pattern, _ in self._rules]}. Add a last rule'
      " ('.*', value)."
    )

  def __call__(self, path: str) -> Any:
    return self[path]


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

  def trained(self, params: Any) -> Any:
    """Returns the part of the parameters that is trained, here all of them.

    Args:
      params: nested dicts, whose leaves don't matter.

    Returns:
      `params` itself, or nested dicts with fewer leaves: the others are frozen,
      have no gradients, and stay as they are.
    """
    return params

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

  def _with_axes(
    self, param_states: Any, param_logical_axes: Any
  ) -> 'Optimizer':
    """Returns the optimizer with these logical axes in place of its arrays."""
    # The step, a scalar, has none.
    state = OptimizerState(None, param_states)  # type: ignore[arg-type]
    return Optimizer(self, state=state, target=param_logical_axes)

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
      grads: one gradient per parameter.
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


OptimizerDefType = OptimizerDef
