"""Adafactor as T5X defines it (Shazeer and Stern, arXiv:1804.04235).

The running mean of squared gradients of a matrix is kept as the means over its
columns (`v_row`) and over its rows (`v_col`), whose outer product, divided by
their common mean, approximates it. Parameters that are too small for that keep
it whole (`v`). The size of an update follows the parameter's own scale.
"""

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct, traverse_util
from jax.sharding import PartitionSpec

from t5x import errors
from t5x.optimizers.definition import Optimizer, OptimizerDef, OptimizerState


class FactorDim(enum.Enum):
  """What a dimension is to the factored second moment.

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


class HParamMap:
  """A hyperparameter that depends on the parameter's path.

  `HParamMap([('embedding$', False), ('.*', True)])['token_embedder/embedding']`
  is False.

  Args:
    rules: pairs of a regular expression, searched for in the path (names joined
      by '/'), and a value; the first that is found counts.
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


def standard_logical_factor_rules() -> dict[str, FactorDim]:
  """Returns T5X's table from logical axis names to their role."""
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
  }


@struct.dataclass
class _AdafactorHyperParams:
  """Hyperparameters; see `Adafactor`."""

  learning_rate: float | None
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
  """What is kept for a parameter; what isn't used has shape (1,)."""

  v_row: Any
  v_col: Any
  v: Any
  m: Any


class _Roles:
  """Dimensions of a parameter by their role.

  Attributes:
    rows: dimensions averaged out of `v_col`; empty if not factored.
    columns: dimensions averaged out of `v_row`; empty if not factored.
    averaged: dimensions over which statistics run.
  """

  def __init__(
    self, rows: Sequence[int], columns: Sequence[int], averaged: Sequence[int]
  ):
    self.rows = tuple(rows)
    self.columns = tuple(columns)
    self.averaged = tuple(averaged)

  @property
  def factored(self) -> bool:
    return bool(self.rows)


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
    weight_decay_rate: part of a parameter that is taken away at each step.
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

    Without rules, axes named 'layers' or 'stack' are all that counts: a stack
    of layers is updated as its layers would be one by one.

    Args:
      param_logical_axes: a `PartitionSpec` of logical names, or None, for each
        parameter.

    Raises:
      errors.UserError: if an axis has no rule.
    """
    axes_by_path = traverse_util.flatten_dict(
      flax.core.unfreeze(param_logical_axes), sep='/'
    )
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
    """Says which dimensions of a parameter are factored and averaged."""
    hyper = self.hyper_params
    every = range(len(shape))
    stacked = self._layer_dims.get(path, ())
    own = [i for i in every if i not in stacked]
    rule: FactorRule = HEURISTIC_RULE
    if hyper.factor_map is not None:
      rule = hyper.factor_map[path]
    if rule is None:
      return _Roles((), (), own)
    least = hyper.min_dim_size_to_factor
    if rule is HEURISTIC_RULE:
      if not hyper.factored or len(own) < 2:
        return _Roles((), (), own)
      *_, row, column = sorted(own, key=lambda i: shape[i])
      if shape[row] < least:
        return _Roles((), (), own)
      return _Roles((row,), (column,), own)
    if stacked and len(rule) == len(own):
      # A rule for one layer is a rule for each of a stack.
      one = iter(rule)
      rule = [FactorDim.BATCH if i in stacked else next(one) for i in every]
    if len(rule) != len(shape):
      raise errors.UserError(
        f'Adafactor: the factor rule of {path} has {len(rule)} entries, but its'
        f' shape is {shape}. Give one FactorDim for each dimension.'
      )
    rows = [i for i in every if rule[i] is FactorDim.ROW]
    columns = [i for i in every if rule[i] is FactorDim.COLUMN]
    averaged = [i for i in every if rule[i] is not FactorDim.BATCH]
    size = min(np.prod([shape[i] for i in dims]) for dims in (rows, columns))
    if not (hyper.factored and rows and columns) or size < least:
      rows, columns = [], []
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
    # An array each, since each is donated to the step that replaces it.
    return _AdafactorParamState(
      v_row=jnp.zeros(row, jnp.float32),
      v_col=jnp.zeros(col, jnp.float32),
      v=jnp.zeros(full, jnp.float32),
      m=jnp.zeros(momentum, self.dtype_momentum),
    )

  def init_state(self, params: Any) -> OptimizerState:
    flat = traverse_util.flatten_dict(flax.core.unfreeze(params), sep='/')
    states = {k: self.init_param_state(p, k) for k, p in flat.items()}
    return OptimizerState(
      step=jnp.zeros((), jnp.int32),
      param_states=traverse_util.unflatten_dict(states, sep='/'),
    )

  def _parameter_scale(
    self, hyper: _AdafactorHyperParams, param: jax.Array, path: str, dims
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
      state = state.replace(v_row=v_row, v_col=v_col)
    else:
      v = moving(state.v, squared)
      update = grad * jax.lax.rsqrt(v)
      state = state.replace(v=v)
    if hyper.clipping_threshold is not None:
      size = _rms(update, roles.averaged) / hyper.clipping_threshold
      update = update / jnp.maximum(1.0, size)
    scale = self._parameter_scale(hyper, old, path, roles.averaged)
    update = hyper.learning_rate * scale * update
    if hyper.beta1 is not None:
      momentum = state.m.astype(jnp.float32)
      update = hyper.beta1 * momentum + (1.0 - hyper.beta1) * update
      state = state.replace(m=update.astype(self.dtype_momentum))
    new = old - update
    if hyper.weight_decay_rate is not None:
      weight_decay = hyper.weight_decay_rate
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
    if hyper_params.learning_rate is None:
      raise errors.UserError(
        'Adafactor: no learning rate. Set Adafactor.learning_rate, or pass'
        ' learning_rate to apply_gradient.'
      )
    threshold = hyper_params.global_norm_clip_threshold
    if threshold is not None:
      norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
      factor = jnp.minimum(1.0, threshold / norm)
      grads = jax.tree.map(lambda g: g * factor, grads)
    flat = [
      traverse_util.flatten_dict(flax.core.unfreeze(tree), sep='/')
      for tree in (params, state.param_states, grads)
    ]
    new_params, new_states = {}, {}
    for path, param in flat[0].items():
      new_params[path], new_states[path] = self.apply_param_gradient(
        state.step, hyper_params, param, flat[1][path], flat[2][path], path
      )
    new = tuple(
      traverse_util.unflatten_dict(tree, sep='/')
      for tree in (new_params, new_states)
    )
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

    flat = traverse_util.flatten_dict(optimizer_state.target, sep='/')
    axes = traverse_util.flatten_dict(
      flax.core.unfreeze(param_logical_axes), sep='/'
    )
    states = {k: axes_of(k, p, axes.get(k)) for k, p in flat.items()}
    return Optimizer(
      self,
      state=OptimizerState(
        step=None, param_states=traverse_util.unflatten_dict(states, sep='/')
      ),
      target=param_logical_axes,
    )
