"""Adafactor against its formulas, written out in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from jax.sharding import PartitionSpec

from t5x import adafactor, errors
from t5x.adafactor import HEURISTIC_RULE, FactorDim

P = PartitionSpec
B, R, C, N = (
  FactorDim.BATCH,
  FactorDim.ROW,
  FactorDim.COLUMN,
  FactorDim.NONE,
)


def arrays(*shape, count=3):
  rng = np.random.default_rng(sum(shape))
  return [rng.normal(size=shape).astype(np.float32) for _ in range(count)]


def run(optimizer_def, param, grads, learning_rate=0.1):
  optimizer = optimizer_def.create({'w': jnp.asarray(param)})
  for grad in grads:
    optimizer = optimizer.apply_gradient(
      {'w': jnp.asarray(grad)}, learning_rate=learning_rate
    )
  return np.asarray(optimizer.target['w']), optimizer.state


def reference(
  param,
  grads,
  rate=0.1,
  decay_rate=0.8,
  clip=1.0,
  eps2=1e-3,
  factored=False,
  beta1=0.0,
):
  """Adafactor of a matrix whose rows are dimension 0."""
  v = v_row = v_col = momentum = 0.0
  for t, grad in enumerate(grads, start=1):
    decay = 1 - t**-decay_rate
    squared = grad**2 + 1e-30
    v = decay * v + (1 - decay) * squared
    v_row = decay * v_row + (1 - decay) * squared.mean(1)
    v_col = decay * v_col + (1 - decay) * squared.mean(0)
    moment = np.outer(v_row, v_col) / v_row.mean() if factored else v
    update = grad / np.sqrt(moment)
    update /= max(1.0, np.sqrt((update**2).mean()) / clip)
    scale = max(np.sqrt((param**2).mean()), eps2)
    momentum = beta1 * momentum + (1 - beta1) * rate * scale * update
    param = param - momentum
  return param


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize('factored', [False, True])
def test_updates_follow_the_formulas(factored):
  param, *grads = arrays(4, 6, count=4)
  least = 4 if factored else 5
  new, state = run(
    adafactor.Adafactor(min_dim_size_to_factor=least), param, grads
  )
  close(new, reference(param, grads, factored=factored))
  assert int(state.step) == 3


def test_step_offset_restarts_the_decay():
  param, grad = arrays(4, 6, count=2)
  optimizer = adafactor.Adafactor(step_offset=5).create({'w': param})
  at_5 = optimizer.replace(state=optimizer.state.replace(step=jnp.int32(5)))
  at_5 = at_5.apply_gradient({'w': grad}, learning_rate=0.1)
  close(at_5.target['w'], reference(param, [grad]))


def test_second_moments_are_averaged_from_the_step_of_the_offset_on():
  param, *grads = arrays(4, 6, count=4)
  optimizer = adafactor.Adafactor(step_offset=5).create({'w': param})
  # What is left from before does not count at t = 1, whose decay is 0.
  before = jax.tree.map(jnp.ones_like, optimizer.state.param_states)
  state = optimizer.state.replace(step=jnp.int32(5), param_states=before)
  optimizer = optimizer.replace(state=state)
  for grad in grads:
    optimizer = optimizer.apply_gradient({'w': grad}, learning_rate=0.1)
  assert int(optimizer.state.step) == 8
  # 1 - 2^-0.8 = 0.425651 and 1 - 3^-0.8 = 0.584757.
  v = 0.425651 * grads[0] ** 2 + 0.574349 * grads[1] ** 2
  v = 0.584757 * v + 0.415243 * grads[2] ** 2
  np.testing.assert_allclose(
    optimizer.state.param_states['w'].v, v, rtol=2e-5, atol=1e-6
  )
  close(optimizer.target['w'], reference(param, grads))


@pytest.mark.parametrize('least', [1, 128])
def test_epsilon1_is_added_to_squared_gradients(least):
  param = np.full((2, 2), 2.0, np.float32)
  grad = np.full((2, 2), 0.5, np.float32)
  make = functools.partial(
    adafactor.Adafactor, min_dim_size_to_factor=least, clipping_threshold=None
  )
  # 0.5 / sqrt(0.5^2 + 0.75) = 0.5, times the rate 0.1 and the scale 2.
  new, state = run(make(epsilon1=0.75), param, [grad])
  close(new, np.full((2, 2), 1.9))
  kept = state.param_states['w']
  moments = [kept.v_row, kept.v_col] if least == 1 else [kept.v]
  for moment in moments:
    close(moment, np.ones(moment.shape))
  # By default it only keeps a gradient of 0 from 0 / 0.
  new, state = run(make(), param, [np.zeros_like(grad)])
  np.testing.assert_array_equal(new, param)
  kept = state.param_states['w']
  for moment in [kept.v_row, kept.v_col] if least == 1 else [kept.v]:
    np.testing.assert_allclose(moment, 1e-30, rtol=1e-5)


def test_momentum_averages_updates():
  param, grad = arrays(4, 6, count=2)
  plain, _ = run(adafactor.Adafactor(), param, [grad])
  new, state = run(adafactor.Adafactor(beta1=0.75), param, [grad])
  close(new - param, 0.25 * (plain - param))
  close(state.param_states['w'].m, param - new)
  param, *grads = arrays(4, 6, count=4)
  new, _ = run(adafactor.Adafactor(beta1=0.75), param, grads)
  close(new, reference(param, grads, beta1=0.75))


def test_momentum_is_kept_in_its_type():
  param, *grads = arrays(4, 6)
  _, state = run(
    adafactor.Adafactor(beta1=0.9, dtype_momentum=jnp.bfloat16), param, grads
  )
  assert state.param_states['w'].m.dtype == jnp.bfloat16


def test_weight_decay_takes_a_part_away():
  param, grad = arrays(4, 6, count=2)
  plain, _ = run(adafactor.Adafactor(), param, [grad])
  new, _ = run(adafactor.Adafactor(weight_decay_rate=0.2), param, [grad])
  close(new, plain - 0.2 * param)
  new, _ = run(
    adafactor.Adafactor(
      weight_decay_rate=0.2, weight_decay_rate_lr_exponent=2.0
    ),
    param,
    [grad],
  )
  close(new, plain - 0.2 * 0.1**2 * param)


def test_parameter_scale_is_bounded_and_optional():
  param, grad = arrays(4, 6, count=2)
  rms = np.sqrt((param**2).mean())
  plain, _ = run(adafactor.Adafactor(), param, [grad])
  new, _ = run(adafactor.Adafactor(max_parameter_scale=0.5), param, [grad])
  close(new - param, (plain - param) * 0.5 / rms)
  new, _ = run(
    adafactor.Adafactor(multiply_by_parameter_scale=False), param, [grad]
  )
  close(new - param, (plain - param) / rms)
  by_path = adafactor.HParamMap([('w$', False), ('.*', True)])
  same, _ = run(
    adafactor.Adafactor(multiply_by_parameter_scale=by_path), param, [grad]
  )
  close(same, new)
  small, _ = run(adafactor.Adafactor(), 1e-5 * param, [grad])
  close(small, reference(1e-5 * param, [grad]))


def test_clipping_can_be_set_and_left_out():
  param, *grads = arrays(4, 6, count=3)
  grads[1] = 100 * grads[1]
  for clip in (0.5, None):
    new, _ = run(adafactor.Adafactor(clipping_threshold=clip), param, grads)
    close(new, reference(param, grads, clip=clip or np.inf))


def test_the_global_norm_is_clipped_over_all_parameters():
  a, b = arrays(4, 6)[0], arrays(5)[0]
  grads = {'a': 30 * a, 'b': 40 * b}
  norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
  make = adafactor.Adafactor
  clipped = make(global_norm_clip_threshold=2.0).create({'a': a, 'b': b})
  scaled = make().create({'a': a, 'b': b})
  tiny = {k: g * (2.0 / norm) for k, g in grads.items()}
  clipped = clipped.apply_gradient(grads, learning_rate=0.1)
  scaled = scaled.apply_gradient(tiny, learning_rate=0.1)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4),
    clipped.state.param_states,
    scaled.state.param_states,
  )
  # What is below stays as it is.
  below = make(global_norm_clip_threshold=2 * norm).create({'a': a, 'b': b})
  whole = make().create({'a': a, 'b': b})
  below, whole = (
    optimizer.apply_gradient(grads, learning_rate=0.1)
    for optimizer in (below, whole)
  )
  jax.tree.map(np.testing.assert_array_equal, below.state, whole.state)


def test_a_step_with_nan_is_skipped_if_asked():
  param, grad = arrays(4, 6, count=2)
  broken = grad.copy()
  broken[0, 0] = np.nan
  new, state = run(
    adafactor.Adafactor(skip_nan_updates=True), param, [grad, broken]
  )
  once, state_once = run(adafactor.Adafactor(), param, [grad])
  np.testing.assert_array_equal(new, once)
  np.testing.assert_array_equal(
    state.param_states['w'].v, state_once.param_states['w'].v
  )
  assert int(state.step) == 2
  new, _ = run(adafactor.Adafactor(), param, [broken])
  assert np.isnan(new[0, 0])


def test_one_nan_in_one_parameter_skips_the_step_for_all():
  params = {'a': jnp.ones((2, 3)), 'b': jnp.ones(3)}
  grads = {'a': jnp.full((2, 3), 0.5).at[1, 2].set(jnp.nan), 'b': jnp.ones(3)}
  # Without clipping, the other numbers of `a` stay numbers.
  make = functools.partial(
    adafactor.Adafactor, clipping_threshold=None, beta1=0.9
  )
  before = make(skip_nan_updates=True).create(params)
  after = before.apply_gradient(grads, learning_rate=0.1)
  assert int(after.state.step) == 1
  for found, expected in (
    (after.target, before.target),
    (after.state.param_states, before.state.param_states),
  ):
    jax.tree.map(np.testing.assert_array_equal, found, expected)
  taken = make().create(params).apply_gradient(grads, learning_rate=0.1)
  assert np.isnan(taken.target['a']).sum() == 1
  assert not np.isnan(taken.target['b']).any()


def test_a_missing_learning_rate_is_reported():
  optimizer = adafactor.Adafactor().create({'w': jnp.ones(3)})
  with pytest.raises(errors.UserError, match='no learning rate'):
    optimizer.apply_gradient({'w': jnp.ones(3)})


@pytest.mark.parametrize(
  ('shape', 'rule', 'v_row', 'v_col', 'v'),
  [
    ((4, 6), HEURISTIC_RULE, (4,), (6,), (1,)),
    ((6, 4), HEURISTIC_RULE, (4,), (6,), (1,)),
    ((3, 6), HEURISTIC_RULE, (1,), (1,), (3, 6)),
    ((6,), HEURISTIC_RULE, (1,), (1,), (6,)),
    ((4, 6), None, (1,), (1,), (4, 6)),
    ((6, 4), (R, C), (6,), (4,), (1,)),
    ((3, 6), (R, C), (1,), (1,), (3, 6)),
    ((2, 4, 6), (B, C, R), (2, 6), (2, 4), (1,)),
    ((4, 2, 3), (R, C, C), (4,), (2, 3), (1,)),
    ((4, 6), (N, R), (1,), (1,), (4, 6)),
  ],
)
def test_what_is_kept_follows_the_rule(shape, rule, v_row, v_col, v):
  optimizer_def = adafactor.Adafactor(
    min_dim_size_to_factor=4, factor_map=adafactor.HParamMap([('.*', rule)])
  )
  kept = optimizer_def.init_param_state(jnp.zeros(shape), 'w')
  assert kept.v_row.shape == v_row
  assert kept.v_col.shape == v_col
  assert kept.v.shape == v
  assert kept.m.shape == (1,)
  assert not any(np.any(x) for x in (kept.v_row, kept.v_col, kept.v, kept.m))


def test_matrices_are_factored_from_128_rows_and_columns_on():
  for rows, factored in ((127, False), (128, True)):
    kept = adafactor.Adafactor().init_param_state(jnp.zeros((rows, 200)), 'w')
    assert (kept.v.shape == (1,)) is factored


def test_rows_without_columns_are_kept_whole_however_small():
  optimizer_def = adafactor.Adafactor(
    min_dim_size_to_factor=1, factor_map=adafactor.HParamMap([('w', (R, N))])
  )
  kept = optimizer_def.init_param_state(jnp.zeros((4, 6)), 'w')
  assert kept.v.shape == (4, 6)


def test_three_dimensions_need_a_rule():
  param = jnp.zeros((2, 4, 6))
  with pytest.raises(errors.UserError, match=r'attention/w has .*\(2, 4, 6\)'):
    adafactor.Adafactor().init_param_state(param, 'attention/w')
  # Whole moments need none, and a stack of matrices has two of its own.
  whole = adafactor.Adafactor(factored=False).init_param_state(param, 'w')
  assert whole.v.shape == (2, 4, 6)
  stacked = adafactor.Adafactor(min_dim_size_to_factor=4)
  stacked.set_param_axes({'w': P('layers', 'embed', 'mlp')})
  assert stacked.init_param_state(param, 'w').v_row.shape == (2, 4)


def test_factored_false_keeps_whole_moments():
  for rule in (None, (R, C)):
    factor_map = adafactor.HParamMap([('.*', rule)]) if rule else None
    kept = adafactor.Adafactor(
      factored=False, min_dim_size_to_factor=1, factor_map=factor_map
    ).init_param_state(jnp.zeros((4, 6)), 'w')
    assert kept.v.shape == (4, 6)
    assert kept.v_row.shape == kept.v_col.shape == (1,)


def test_merged_columns_equal_a_reshaped_matrix():
  param, *grads = arrays(4, 2, 3, count=4)
  merged, _ = run(
    adafactor.Adafactor(
      min_dim_size_to_factor=4,
      factor_map=adafactor.HParamMap([('w', (R, C, C))]),
    ),
    param,
    grads,
  )
  flat = reference(
    param.reshape(4, 6), [g.reshape(4, 6) for g in grads], factored=True
  )
  close(merged.reshape(4, 6), flat)


def test_a_stack_of_layers_is_updated_like_its_layers():
  param, *grads = arrays(3, 4, 6, count=4)
  optimizer_def = adafactor.Adafactor(
    min_dim_size_to_factor=4,
    logical_factor_rules=adafactor.standard_logical_factor_rules(),
  )
  optimizer_def.set_param_axes({'w': P('layers', 'embed', 'mlp')})
  stacked, _ = run(optimizer_def, param, grads)
  for i in range(3):
    close(stacked[i], reference(param[i], [g[i] for g in grads], factored=True))


def test_a_rule_for_one_layer_is_one_for_each_of_a_stack():
  optimizer_def = adafactor.Adafactor(
    min_dim_size_to_factor=4,
    factor_map=adafactor.HParamMap([('w', (C, R))]),
  )
  for axes in (P('layers', 'embed', 'mlp'), P('embed', 'layers', 'mlp')):
    shape = [{'layers': 3, 'embed': 4, 'mlp': 6}[name] for name in axes]
    optimizer_def.set_param_axes({'w': axes})
    kept = optimizer_def.init_param_state(jnp.zeros(shape), 'w')
    assert sorted(kept.v_row.shape) == [3, 6], axes
    assert sorted(kept.v_col.shape) == [3, 4], axes
  # One for all axes of a stack is taken as it is.
  whole = adafactor.Adafactor(
    min_dim_size_to_factor=4,
    factor_map=adafactor.HParamMap([('w', (B, R, C))]),
  )
  whole.set_param_axes({'w': P('layers', 'embed', 'mlp')})
  kept = whole.init_param_state(jnp.zeros((3, 4, 6)), 'w')
  assert (kept.v_row.shape, kept.v_col.shape) == ((3, 4), (3, 6))


def test_logical_rules_leave_what_has_no_columns_whole():
  optimizer_def = adafactor.Adafactor(
    min_dim_size_to_factor=2,
    logical_factor_rules=adafactor.standard_logical_factor_rules(),
  )
  optimizer_def.set_param_axes(
    {'norm': P('layers', 'embed'), 'bias': P('heads', 'relpos_buckets')}
  )
  for path in ('norm', 'bias'):
    kept = optimizer_def.init_param_state(jnp.zeros((4, 6)), path)
    assert kept.v.shape == (4, 6)


def test_an_axis_without_a_rule_is_reported():
  optimizer_def = adafactor.Adafactor(
    logical_factor_rules=adafactor.standard_logical_factor_rules()
  )
  with pytest.raises(errors.UserError, match=r"'embd' of w.*mean 'embed'"):
    optimizer_def.set_param_axes({'w': P('embd', 'mlp')})


def test_two_ways_to_factor_are_refused():
  with pytest.raises(errors.UserError, match='Set one of them'):
    adafactor.Adafactor(
      factor_map=adafactor.HParamMap([]), logical_factor_rules={}
    )


def test_the_first_matching_rule_counts():
  rules = adafactor.HParamMap([('embedding$', False), ('.*', True)])
  assert rules['token_embedder/embedding'] is False
  assert rules('encoder/mlp') is True
  with pytest.raises(errors.UserError, match="no rule matches 'b'"):
    _ = adafactor.HParamMap([('a', 1)])['b']


def test_a_rule_of_another_length_is_refused():
  optimizer_def = adafactor.Adafactor(
    factor_map=adafactor.HParamMap([('w', (R, C))])
  )
  with pytest.raises(errors.UserError, match='has 2 entries, but its shape'):
    optimizer_def.init_param_state(jnp.zeros(3), 'w')
  with pytest.raises(errors.UserError, match='has 2 entries, but its shape'):
    optimizer_def.init_param_state(jnp.zeros((3, 4, 5)), 'w')


def test_axes_are_derived_for_each_kept_array():
  optimizer_def = adafactor.Adafactor(min_dim_size_to_factor=4, beta1=0.9)
  params = {'w': jnp.zeros((4, 6)), 'scale': jnp.zeros(4), 'free': jnp.ones(2)}
  axes = {'w': P('embed', 'mlp'), 'scale': P('embed'), 'free': None}
  derived = optimizer_def.derive_logical_axes(
    optimizer_def.create(params), axes
  )
  kept = derived.state.param_states
  assert (kept['w'].v_row, kept['w'].v_col) == (P('embed'), P('mlp'))
  assert (kept['w'].v, kept['w'].m) == (None, P('embed', 'mlp'))
  assert (kept['scale'].v, kept['scale'].v_row) == (P('embed'), None)
  assert kept['free'].v is None
  assert derived.target == axes


def test_state_has_t5x_names_and_survives_a_round_trip():
  optimizer = adafactor.Adafactor().create({'a': {'w': jnp.ones((2, 3))}})
  optimizer = optimizer.apply_gradient(
    {'a': {'w': jnp.full((2, 3), 2.0)}}, learning_rate=0.1
  )
  state = optimizer.state_dict()
  assert set(state) == {'target', 'state'}
  assert set(state['state']) == {'step', 'param_states'}
  kept = state['state']['param_states']['a']['w']
  assert set(kept) == {'v', 'v_row', 'v_col', 'm'}
  fresh = adafactor.Adafactor().create({'a': {'w': jnp.zeros((2, 3))}})
  restored = fresh.restore_state(state)
  jax.tree.map(
    np.testing.assert_array_equal,
    serialization.to_state_dict(restored.state_dict()),
    state,
  )
