"""Adafactor as T5X defines it (Shazeer and Stern, arXiv:1804.04235).

The running mean of squared gradients of a matrix is kept as the means over its
columns (`v_row`) and over its rows (`v_col`), whose outer product, divided by
their common mean, approximates it. Parameters that are too small for that keep
it whole (`v`). The size of an update follows the parameter's own scale.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct, traverse_util
from jax.sharding import PartitionSpec

from t5x import errors
from t5x.optimizers.definition import (
  HParamMap,
  Optimizer,
  OptimizerDef,
  OptimizerState,
)


class FactorDim(enum.Enum):
  """Role of a dimension in the factored second moment.

  NONE: kept in both factors; statistics such as the RMS run over it.
  BATCH: kept in both factors, and statistics don't run over it: each index is
    a parameter of its own, like a layer in a stack of layers.
  ROW, COLUMN: averaged out of `v_col` and `v_row`, respectively.
  """

  NONE = None
  BATCH = 'batch'
  ROW = 'row'
  COLUMN = 'column'


class HeuristicRule(enum.Enum):
  """Marks parameters whose two largest dimensions are row and column."""

  TOKEN = 1


HEURISTIC_RULE = HeuristicRule.TOKEN

# Logical axes that count layers: each index is a parameter of its own.
_LAYER_AXES = ('layers', 'stack')

FactorRule = HeuristicRule | Sequence[FactorDim] | None


def standard_logical_factor_rules() -> dict[str, FactorDim]:
  """Returns T5X's table from logical axis names to their roles."""
  return {
    'vocab': FactorDim.COLUMN,
    'embed': FactorDim.ROW,
    'mlp': FactorDim.COLUMN,
    'heads': FactorDim.COLUMN,
    'kv': FactorDim.COLUMN,
    'joined_kv': FactorDim.COLUMN,
    'relpos_buckets': FactorDim.NONE,
    'layers': FactorDim.BATCH,
    'stack': FactorDim.BATCH,
    'q_wi_fused': FactorDim.COLUMN,
    'o_wo_fused': FactorDim.COLUMN,
    'multiquery_heads': FactorDim.COLUMN,
    'kv_fused': FactorDim.COLUMN,
    'layer_norm_scale': FactorDim.NONE,
    'mlp_activations': FactorDim.COLUMN,
    # Of adapters, which T5X lacks: they are small, and kept whole.
    'lora_rank': FactorDim.NONE,
  }


@struct.dataclass
class _AdafactorHyperParams:
  """Hyperparameters; see `Adafactor`."""

  learning_rate: float | jax.Array | None
  factored: bool
  multiply_by_parameter_scale: bool | HParamMap
  beta1: float | None
  decay_rate: float
  step_offset: int
  clipping_threshold: float | None
  weight_decay_rate: float | None
  min_dim_size_to_factor: int
  epsilon1: float
  epsilon2: float
  factor_map: HParamMap | Mapping[str, FactorRule] | None
  logical_factor_rules: Mapping[str, FactorDim] | None
  weight_decay_rate_lr_exponent: float | None
  global_norm_clip_threshold: float | None
  max_parameter_scale: float | None
  skip_nan_updates: bool | None


@struct.dataclass
class _AdafactorParamState:
  """What is kept for a parameter; unused arrays have shape (1,)."""

  v_row: Any
  v_col: Any
  v: Any
  m: Any


class _Roles(NamedTuple):
  """Dimensions of a parameter by their role.

  Attributes:
    rows: dimensions averaged out of `v_col`; empty if not factored.
    columns: dimensions averaged out of `v_row`; empty if not factored.
    averaged: dimensions over which statistics run.
  """

  rows: tuple[int, ...]
  columns: tuple[int, ...]
  averaged: tuple[int, ...]

  @property
  def factored(self) -> bool:
    return bool(self.rows)


def _flat(tree: Any) -> dict[str, Any]:
  """Returns the leaves of nested dicts by path, names joined by '/'."""
  return traverse_util.flatten_dict(flax.core.unfreeze(tree), sep='/')


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
  return traverse_util.unflatten_dict(flat, sep='/')


def _rms(x: jax.Array, dims: tuple[int, ...]) -> jax.Array:
  return jnp.sqrt(jnp.mean(jnp.square(x), axis=dims, keepdims=True))


def _without(items: Sequence[Any], dims: Sequence[int]) -> tuple[Any, ...]:
  return tuple(x for i, x in enumerate(items) if i not in dims)


class Adafactor(OptimizerDef):
  """Adafactor with T5X's options.

  Args:
    learning_rate: the rate; the trainer gives one at each step.
    factored: whether large parameters keep factored second moments.
    multiply_by_parameter_scale: whether updates are multiplied by the RMS of
      the parameter, for all or by path.
    beta1: decay of the momentum; None for no momentum.
    decay_rate: c in the decay of second moments, 1 - t^-c at the t-th step.
    step_offset: subtracted from the step to get t; set it to the step at which
      fine-tuning starts.
    clipping_threshold: updates with a larger RMS are scaled down to it; None
      for no clipping.
    weight_decay_rate: part of a parameter that is subtracted at each step.
    min_dim_size_to_factor: smallest size of rows and columns to factor.
    epsilon1: added to squared gradients.
    epsilon2: smallest scale of a parameter.
    dtype_momentum: type in which the momentum is kept.
    factor_map: by path, a role for each dimension, `HEURISTIC_RULE`, or None
      for no factoring.
    logical_factor_rules: role of each logical axis; makes the `factor_map` from
      the parameters' axes.
    weight_decay_rate_lr_exponent: if given, weight decay is multiplied by the
      learning rate to this power.
    global_norm_clip_threshold: gradients with a larger global norm are scaled
      down to it.
    max_parameter_scale: largest scale of a parameter.
    skip_nan_updates: whether a step that would give a NaN parameter changes
      nothing but the step.

  Raises:
    errors.UserError: if both `factor_map` and `logical_factor_rules` are given.
  """

  def __init__(
    self,
    learning_rate: float | None = None,
    factored: bool = True,
    multiply_by_parameter_scale: bool | HParamMap = True,
    beta1: float | None = None,
    decay_rate: float = 0.8,
    step_offset: int = 0,
    clipping_threshold: float | None = 1.0,
    weight_decay_rate: float | None = None,
    min_dim_size_to_factor: int = 128,
    epsilon1: float = 1e-30,
    epsilon2: float = 1e-3,
    dtype_momentum: Any = jnp.float32,
    factor_map: HParamMap | None = None,
    logical_factor_rules: Mapping[str, FactorDim] | None = None,
    weight_decay_rate_lr_exponent: float | None = None,
    global_norm_clip_threshold: float | None = None,
    max_parameter_scale: float | None = None,
    skip_nan_updates: bool | None = False,
  ):
    if factor_map is not None and logical_factor_rules is not None:
      raise errors.UserError(
        'Adafactor: factor_map and logical_factor_rules both say how parameters'
        ' are factored. Set one of them.'
      )
    self.dtype_momentum = jax.dtypes.canonicalize_dtype(dtype_momentum)
    self._layer_dims: dict[str, tuple[int, ...]] = {}
    super().__init__(
      _AdafactorHyperParams(
        learning_rate=learning_rate,
        factored=factored,
        multiply_by_parameter_scale=multiply_by_parameter_scale,
        beta1=beta1,
        decay_rate=decay_rate,
        step_offset=step_offset,
        clipping_threshold=clipping_threshold,
        weight_decay_rate=weight_decay_rate,
        min_dim_size_to_factor=min_dim_size_to_factor,
        epsilon1=epsilon1,
        epsilon2=epsilon2,
        factor_map=factor_map,
        logical_factor_rules=logical_factor_rules,
        weight_decay_rate_lr_exponent=weight_decay_rate_lr_exponent,
        global_norm_clip_threshold=global_norm_clip_threshold,
        max_parameter_scale=max_parameter_scale,
        skip_nan_updates=skip_nan_updates,
      )
    )

  def set_param_axes(self, param_logical_axes: Any) -> None:
    """Makes the `factor_map` from logical axes, if there are rules for them.

    Without rules, only axes named 'layers' or 'stack' matter: a stack of layers
    is updated as its layers would be one by one.

    Args:
      param_logical_axes: a `PartitionSpec` of logical names, or None, for each
        parameter.

    Raises:
      errors.UserError: if an axis has no rule.
    """
    axes_by_path = _flat(param_logical_axes)
    rules = self.hyper_params.logical_factor_rules
    if rules is None:
      self._layer_dims = {
        path: tuple(i for i, name in enumerate(axes) if name in _LAYER_AXES)
        for path, axes in axes_by_path.items()
        if axes is not None
      }
      return
    factor_map = {}
    for path, axes in axes_by_path.items():
      unknown = [name for name in axes or () if name not in rules]
      if unknown:
        raise errors.UserError(
          f'Adafactor.logical_factor_rules: no rule for axis {unknown[0]!r} of'
          f' {path}; found rules for {sorted(rules)}. Add one (FactorDim.NONE'
          ' keeps an axis out of the factors).'
          + errors.did_you_mean(str(unknown[0]), rules)
        )
      factor_map[path] = (
        HEURISTIC_RULE if axes is None else tuple(rules[name] for name in axes)
      )
    self.hyper_params = self.hyper_params.replace(factor_map=factor_map)

  def _roles(self, shape: tuple[int, ...], path: str) -> _Roles:
    """Returns which dimensions of a parameter are factored and averaged."""
    hyper = self.hyper_params
    every = range(len(shape))
    stacked = self._layer_dims.get(path, ())
    own = tuple(i for i in every if i not in stacked)
    rule: FactorRule = HEURISTIC_RULE
    if hyper.factor_map is not None:
      rule = hyper.factor_map[path]
    if rule is None:
      return _Roles((), (), own)
    least = hyper.min_dim_size_to_factor
    if rule is HEURISTIC_RULE:
      # The row is the second largest dimension, the column the largest.
      if hyper.factored and len(own) > 2:
        raise errors.UserError(
          f'Adafactor: {path} has the shape {shape}, and no rule says which of'
          ' its dimensions are rows and columns. Give its axes names and'
          ' logical_factor_rules, or give a factor_map.'
        )
      by_size = sorted(own, key=lambda i: shape[i])
      if not hyper.factored or len(own) < 2 or shape[by_size[-2]] < least:
        return _Roles((), (), own)
      return _Roles((by_size[-2],), (by_size[-1],), own)
    if stacked and len(rule) == len(own):
      # A rule for one layer is a rule for each of a stack.
      one = iter(rule)
      rule = [FactorDim.BATCH if i in stacked else next(one) for i in every]
    if len(rule) != len(shape):
      raise errors.UserError(
        f'Adafactor: the factor rule of {path} has {len(rule)} entries, but its'
        f' shape is {shape}. Give one FactorDim for each dimension.'
      )
    rows = tuple(i for i in every if rule[i] is FactorDim.ROW)
    columns = tuple(i for i in every if rule[i] is FactorDim.COLUMN)
    averaged = tuple(i for i in every if rule[i] is not FactorDim.BATCH)
    size = min(np.prod([shape[i] for i in dims]) for dims in (rows, columns))
    if not (hyper.factored and rows and columns) or size < least:
      rows, columns = (), ()
    return _Roles(rows, columns, averaged)

  def init_param_state(self, param: Any, path: str) -> _AdafactorParamState:
    """Returns the state of one parameter at step 0.

    Args:
      param: the parameter.
      path: its names, joined by '/'.
    """
    roles = self._roles(param.shape, path)
    shape = tuple(param.shape)
    row = col = full = momentum = (1,)
    if roles.factored:
      row, col = _without(shape, roles.columns), _without(shape, roles.rows)
    else:
      full = shape
    if self.hyper_params.beta1 is not None:
      momentum = shape
    # Separate arrays, since each is donated to the step that replaces it.
    return _AdafactorParamState(
      v_row=jnp.zeros(row, jnp.float32),
      v_col=jnp.zeros(col, jnp.float32),
      v=jnp.zeros(full, jnp.float32),
      m=jnp.zeros(momentum, self.dtype_momentum),
    )

  def init_state(self, params: Any) -> OptimizerState:
    states = {k: self.init_param_state(p, k) for k, p in _flat(params).items()}
    return OptimizerState(
      step=jnp.zeros((), jnp.int32), param_states=_nested(states)
    )

  def _parameter_scale(
    self,
    hyper: _AdafactorHyperParams,
    param: jax.Array,
    path: str,
    dims: tuple[int, ...],
  ) -> jax.Array | float:
    multiply = hyper.multiply_by_parameter_scale
    if isinstance(multiply, HParamMap):
      multiply = multiply[path]
    if not multiply:
      return 1.0
    scale = jnp.maximum(_rms(param, dims), hyper.epsilon2)
    if hyper.max_parameter_scale is not None:
      scale = jnp.minimum(scale, hyper.max_parameter_scale)
    return scale

  def apply_param_gradient(
    self,
    step: jax.Array,
    hyper_params: _AdafactorHyperParams,
    param: jax.Array,
    state: _AdafactorParamState,
    grad: jax.Array,
    path: str,
  ) -> tuple[jax.Array, _AdafactorParamState]:
    """Updates one parameter.

    Args:
      step: updates done before this one.
      hyper_params: see `Adafactor`; the learning rate must be set.
      param: the parameter.
      state: its state.
      grad: its gradient.
      path: its names, joined by '/'.

    Returns:
      The new parameter and its new state.
    """
    hyper = hyper_params
    if hyper.learning_rate is None:
      raise errors.UserError(
        'Adafactor: no learning rate. Set Adafactor.learning_rate, or pass'
        ' learning_rate to apply_gradient.'
      )
    # The second moment, factored or whole, scales the gradient.
    roles = self._roles(param.shape, path)
    grad = grad.astype(jnp.float32)
    old = param.astype(jnp.float32)
    t = jnp.asarray(step - hyper.step_offset + 1, jnp.float32)
    decay = 1.0 - t ** (-hyper.decay_rate)
    squared = jnp.square(grad) + hyper.epsilon1

    def moving(mean, new):
      return decay * mean + (1.0 - decay) * new

    if roles.factored:
      rows, columns = roles.rows, roles.columns
      v_row = moving(state.v_row, jnp.mean(squared, axis=columns))
      v_col = moving(state.v_col, jnp.mean(squared, axis=rows))
      wide_row = jnp.expand_dims(v_row, columns)
      row_factor = wide_row / jnp.mean(wide_row, axis=rows, keepdims=True)
      col_factor = jnp.expand_dims(v_col, rows)
      update = grad * jax.lax.rsqrt(row_factor) * jax.lax.rsqrt(col_factor)
      state = dataclasses.replace(state, v_row=v_row, v_col=v_col)
    else:
      v = moving(state.v, squared)
      update = grad * jax.lax.rsqrt(v)
      state = dataclasses.replace(state, v=v)

    # Clip, scale, and add momentum.
    if hyper.clipping_threshold is not None:
      size = _rms(update, roles.averaged) / hyper.clipping_threshold
      update = update / jnp.maximum(1.0, size)
    scale = self._parameter_scale(hyper, old, path, roles.averaged)
    update = hyper.learning_rate * scale * update
    if hyper.beta1 is not None:
      momentum = state.m.astype(jnp.float32)
      update = hyper.beta1 * momentum + (1.0 - hyper.beta1) * update
      momentum = update.astype(self.dtype_momentum)
      state = dataclasses.replace(state, m=momentum)

    new = old - update
    if hyper.weight_decay_rate is not None:
      weight_decay: float | jax.Array = hyper.weight_decay_rate
      if hyper.weight_decay_rate_lr_exponent is not None:
        weight_decay *= hyper.learning_rate**hyper.weight_decay_rate_lr_exponent
      new = new - weight_decay * old
    return new.astype(param.dtype), state

  def apply_gradient(
    self,
    hyper_params: _AdafactorHyperParams,
    params: Any,
    state: OptimizerState,
    grads: Any,
  ) -> tuple[Any, OptimizerState]:
    """Updates all parameters; see `OptimizerDef`."""
    threshold = hyper_params.global_norm_clip_threshold
    if threshold is not None:
      norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
      factor = jnp.minimum(1.0, threshold / norm)
      grads = jax.tree.map(lambda g: g * factor, grads)
    states, flat_grads = _flat(state.param_states), _flat(grads)
    new_params, new_states = {}, {}
    for path, param in _flat(params).items():
      new_params[path], new_states[path] = self.apply_param_gradient(
        state.step, hyper_params, param, states[path], flat_grads[path], path
      )
    new = (_nested(new_params), _nested(new_states))
    if hyper_params.skip_nan_updates:
      nan = jnp.any(
        jnp.stack([jnp.any(jnp.isnan(p)) for p in new_params.values()])
      )
      new = jax.tree.map(
        lambda before, after: jnp.where(nan, before, after),
        (flax.core.unfreeze(params), state.param_states),
        new,
      )
    return new[0], OptimizerState(step=state.step + 1, param_states=new[1])

  def derive_logical_axes(
    self, optimizer_state: Optimizer, param_logical_axes: Any
  ) -> Optimizer:
    """Returns the optimizer with logical axes in place of its arrays."""

    def axes_of(path, param, axes):
      if axes is None:
        return _AdafactorParamState(v_row=None, v_col=None, v=None, m=None)
      roles = self._roles(param.shape, path)
      row = PartitionSpec(*_without(axes, roles.columns))
      col = PartitionSpec(*_without(axes, roles.rows))
      return _AdafactorParamState(
        v_row=row if roles.factored else None,
        v_col=col if roles.factored else None,
        v=None if roles.factored else axes,
        m=None if self.hyper_params.beta1 is None else axes,
      )

    axes = _flat(param_logical_axes)
    states = {
      k: axes_of(k, p, axes.get(k))
      for k, p in _flat(optimizer_state.target).items()
    }
    return self._with_axes(_nested(states), param_logical_axes)
