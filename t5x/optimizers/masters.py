"""Float32 copies of parameters of lower precision, for their optimizer.

A bfloat16 number has 8 bits: most updates would be rounded away. So the
optimizer updates a copy in float32, and the parameter is that copy, rounded.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import serialization, traverse_util

from t5x.optimizers.definition import Optimizer, OptimizerDef, OptimizerState


class Float32Masters(OptimizerDef):
  """Updates parameters of lower precision through float32 copies.

  The state's `param_states` has the copies under 'masters', and what the
  optimizer keeps under 'optimizer'. Parameters of float32 have no copy. A state
  that is made for parameters begins with copies of them as they are, rounded.

  Args:
    optimizer: what updates the copies, with gradients in float32.
  """

  def __init__(self, optimizer: OptimizerDef):
    self.optimizer = optimizer
    super().__init__(optimizer.hyper_params)

  def _wide(self, params: Any, masters: Any) -> Any:
    """Returns parameters with their copies in their place."""
    flat = {**_flat(params), **_flat(masters)}
    return traverse_util.unflatten_dict(flat)

  def init_state(self, params: Any) -> OptimizerState:
    masters = traverse_util.unflatten_dict(
      {k: v.astype(jnp.float32) for k, v in _flat(params).items() if _low(v)}
    )
    inner = self.optimizer.init_state(self._wide(params, masters))
    return OptimizerState(
      inner.step, {'masters': masters, 'optimizer': inner.param_states}
    )

  def update_hyper_params(self, **hyper_param_overrides: Any) -> Any:
    return self.optimizer.update_hyper_params(**hyper_param_overrides)

  def learning_rate(self, state: OptimizerState, given: jax.Array) -> jax.Array:
    return self.optimizer.learning_rate(_inner(state), given)

  def apply_gradient(
    self, hyper_params: Any, params: Any, state: OptimizerState, grads: Any
  ) -> tuple[Any, OptimizerState]:
    wide, inner = self.optimizer.apply_gradient(
      hyper_params,
      self._wide(params, state.param_states['masters']),
      _inner(state),
      jax.tree.map(lambda g: g.astype(jnp.float32), flax.core.unfreeze(grads)),
    )
    flat, new = _flat(params), _flat(wide)
    masters = {path: new[path] for path, old in flat.items() if _low(old)}
    rounded = {path: new[path].astype(old.dtype) for path, old in flat.items()}
    states = {
      'masters': traverse_util.unflatten_dict(masters),
      'optimizer': inner.param_states,
    }
    return traverse_util.unflatten_dict(rounded), OptimizerState(
      inner.step, states
    )

  def set_param_axes(self, param_logical_axes: Any) -> None:
    self.optimizer.set_param_axes(param_logical_axes)

  def derive_logical_axes(
    self, optimizer: Optimizer, param_logical_axes: Any
  ) -> Optimizer:
    masters = _flat(optimizer.state.param_states['masters'])
    inner = self.optimizer.derive_logical_axes(
      Optimizer(
        self.optimizer,
        state=_inner(optimizer.state),
        target=self._wide(
          optimizer.target, optimizer.state.param_states['masters']
        ),
      ),
      param_logical_axes,
    )
    axes = {
      path: names
      for path, names in _flat(param_logical_axes).items()
      if path in masters
    }
    states = {
      'masters': traverse_util.unflatten_dict(axes),
      'optimizer': inner.state.param_states,
    }
    return self._with_axes(states, param_logical_axes)

  def state_dict(self, target: Any, state: OptimizerState) -> dict[str, Any]:
    full = super().state_dict(target, state)
    inner = self.optimizer.state_dict({}, _inner(state))
    full['state']['param_states']['optimizer'] = inner['state']['param_states']
    return full

  def restore_state(
    self, opt_target: Any, opt_state: OptimizerState, state_dict: Any
  ) -> Optimizer:
    step = state_dict['state']['step']
    given = state_dict['state']['param_states']
    inner = self.optimizer.restore_state(
      {},
      _inner(opt_state),
      {
        'target': {},
        'state': {'step': step, 'param_states': given.get('optimizer', {})},
      },
    )
    states = {
      'masters': serialization.from_state_dict(
        opt_state.param_states['masters'], given.get('masters', {})
      ),
      'optimizer': inner.state.param_states,
    }
    return Optimizer(
      self,
      state=OptimizerState(step, states),
      target=serialization.from_state_dict(opt_target, state_dict['target']),
    )


def _low(array: Any) -> bool:
  """Whether an array is of lower precision than float32."""
  return jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4


def _flat(tree: Any) -> dict[tuple[str, ...], Any]:
  return traverse_util.flatten_dict(flax.core.unfreeze(tree))


def _inner(state: OptimizerState) -> OptimizerState:
  """Returns the state of the optimizer of the copies."""
  return OptimizerState(state.step, state.param_states['optimizer'])
