"""Optax optimizers through the wrapper, and several optimizers together."""

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec

import gin
from t5x import adafactor, errors, optimizers

P = PartitionSpec
PARAMS = {
  'a': {'w': np.arange(12, dtype=np.float32).reshape(3, 4) / 10 + 0.1},
  'b': {'scale': np.ones(4, np.float32)},
}
GRADS = jax.tree.map(lambda x: np.cos(3 * x), PARAMS)
AXES = {'a': {'w': P('embed', 'mlp')}, 'b': {'scale': P('mlp')}}

WRAPPED = sorted(
  name
  for name, fn in inspect.getmembers(optimizers, inspect.isfunction)
  if hasattr(fn, '__wrapped__') and name != 'chain'
)


def test_wrapped_functions_are_found_by_their_names():
  # As a pickle names them; optax's own functions are other objects.
  for wrapped in (optimizers.adamw, optimizers.chain):
    assert pickle.loads(pickle.dumps(wrapped)) is wrapped


def make(name):
  return getattr(optimizers, name)(learning_rate=0.1)


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_common_optimizers_are_there():
  common = {'adam', 'adamw', 'sgd', 'lamb', 'lion', 'adagrad', 'rmsprop'}
  assert common | {'adabelief', 'radam', 'yogi'} <= set(WRAPPED)


@pytest.mark.parametrize('name', WRAPPED)
def test_every_wrapped_optimizer_trains_saves_and_has_axes(name):
  optimizer_def = make(name)
  optimizer = optimizer_def.create(PARAMS)
  optimizer = optimizer.apply_gradient(GRADS, learning_rate=123.0)
  assert int(optimizer.state.step) == 1
  moved = jax.tree.map(
    lambda x, y: bool(np.any(x != y)), optimizer.target, PARAMS
  )
  assert any(jax.tree.leaves(moved))
  state = optimizer.state_dict()
  flat = traverse_util.flatten_dict(state)
  assert all(isinstance(v, np.ndarray | jax.Array) for v in flat.values())
  restored = optimizer_def.create(PARAMS).restore_state(state)
  same(restored, optimizer)
  derived = optimizer_def.derive_logical_axes(optimizer, AXES)
  # What is kept in the shape of a parameter has its axes, and nothing else.
  of_shape = {(3, 4): P('embed', 'mlp'), (4,): P('mlp')}
  right = jax.tree.map(
    lambda leaf, axes: axes == of_shape.get(np.shape(leaf)),
    optimizer.state.param_states,
    derived.state.param_states,
  )
  assert all(jax.tree.leaves(right)), derived.state.param_states
  assert derived.target == AXES


def test_the_wrapper_does_what_optax_does():
  tx = optax.adamw(1e-2, weight_decay=0.1)
  optimizer = optimizers.adamw(1e-2, weight_decay=0.1).create(PARAMS)
  params, state = PARAMS, tx.init(PARAMS)
  for _ in range(3):
    updates, state = tx.update(GRADS, state, params)
    params = optax.apply_updates(params, updates)
    optimizer = optimizer.apply_gradient(GRADS, learning_rate=0.0)
  same(optimizer.target, params)
  same(optimizer.state.param_states, state)


def test_optax_state_is_nested_dicts():
  optimizer = optimizers.adamw(1e-3).create(PARAMS)
  states = optimizer.state_dict()['state']['param_states']
  assert set(states) == {'0'}
  assert set(states['0']) == {'count', 'mu', 'nu'}
  assert set(states['0']['mu']) == {'a', 'b'}


def test_a_state_that_lacks_a_part_is_refused():
  optimizer = optimizers.adamw(1e-3).create(PARAMS)
  state = optimizer.state_dict()
  del state['state']['param_states']['0']['nu']
  with pytest.raises(ValueError, match='nu'):
    optimizer.restore_state(state)


def test_axes_follow_the_parameters_of_adam():
  optimizer_def = optimizers.adam(1e-3)
  derived = optimizer_def.derive_logical_axes(
    optimizer_def.create(PARAMS), AXES
  )
  adam = derived.state.param_states[0]
  assert adam.mu == AXES and adam.nu == AXES and adam.count is None


def test_a_parameter_without_axes_has_none_in_the_state():
  optimizer_def = optimizers.adam(1e-3)
  axes = {'a': {'w': None}, 'b': {'scale': P('mlp')}}
  derived = optimizer_def.derive_logical_axes(
    optimizer_def.create(PARAMS), axes
  )
  assert derived.state.param_states[0].mu == axes


def test_the_reported_rate_is_the_one_that_optax_uses():
  given = jnp.float32(0.5)
  constant = optimizers.sgd(0.25)
  state = constant.init_state(PARAMS)
  assert float(constant.learning_rate(state, given)) == 0.25
  scheduled = optimizers.adamw(optax.linear_schedule(1.0, 0.0, 4))
  optimizer = scheduled.create(PARAMS)
  rates = []
  for _ in range(3):
    rates.append(float(scheduled.learning_rate(optimizer.state, given)))
    optimizer = optimizer.apply_gradient(GRADS)
  assert rates == [1.0, 0.75, 0.5]
  # Its own count, not the step, which parameters may have come with.
  restored = optimizer.state.replace(step=jnp.int32(100))
  assert float(scheduled.learning_rate(restored, given)) == 0.25
  wrap = optimizers.wrap_optax_optimizer
  by_default = wrap(lambda learning_rate=0.125: optax.sgd(learning_rate))()
  assert float(by_default.learning_rate(state, given)) == 0.125
  unknown = optimizers.OptaxWrapper(optax.sgd(0.25))
  assert float(unknown.learning_rate(state, given)) == 0.5
  factor = adafactor.Adafactor()
  assert float(factor.learning_rate(state, given)) == 0.5


def test_a_chain_applies_its_parts_in_turn():
  chain = optimizers.chain([optax.clip(0.1), optax.sgd(1.0)])
  new = chain.create(PARAMS).apply_gradient(GRADS).target
  expected = jax.tree.map(lambda p, g: p - np.clip(g, -0.1, 0.1), PARAMS, GRADS)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), new, expected
  )


def test_gin_finds_wrapped_optimizers():
  config = """
  from __gin__ import dynamic_registration
  from t5x import optimizers
  import optax
  OPTIMIZER = @optimizers.adamw()
  optimizers.adamw.learning_rate = 0.5
  optimizers.chain.transformations = [@optax.clip(), @optax.sgd()]
  optax.clip.max_delta = 1.0
  optax.sgd.learning_rate = 0.1
  CHAIN = @optimizers.chain()
  """
  try:
    gin.parse_config(config)
    optimizer_def = gin.query_parameter('%OPTIMIZER').scoped_configurable_fn()
    state = optimizer_def.init_state(PARAMS)
    assert float(optimizer_def.learning_rate(state, jnp.float32(1))) == 0.5
    chain = gin.query_parameter('%CHAIN').scoped_configurable_fn()
    assert isinstance(chain, optimizers.OptaxWrapper)
  finally:
    gin.clear_config()


def _traversal(name):
  return traverse_util.ModelParamTraversal(lambda path, _: name in path)


# Flax says so of its traversals, which are what T5X's interface takes.
@pytest.mark.filterwarnings('ignore:.*Traversal. will be deprecated')
def test_parameters_are_updated_by_their_own_optimizer():
  multi = optimizers.MultiOptimizer(
    [
      (_traversal('/a/'), optimizers.sgd(1.0)),
      (_traversal('/b/'), adafactor.Adafactor()),
    ]
  )
  params = {**PARAMS, 'frozen': {'x': np.ones(2, np.float32)}}
  grads = {**GRADS, 'frozen': {'x': np.ones(2, np.float32)}}
  axes = {**AXES, 'frozen': {'x': P('embed')}}
  multi.set_param_axes(axes)
  optimizer = multi.create(params).apply_gradient(grads, learning_rate=0.1)
  np.testing.assert_allclose(
    optimizer.target['a']['w'], PARAMS['a']['w'] - GRADS['a']['w'], rtol=1e-6
  )
  alone = adafactor.Adafactor().create({'b': PARAMS['b']})
  alone = alone.apply_gradient({'b': GRADS['b']}, learning_rate=0.1)
  same(optimizer.target['b'], alone.target['b'])
  # The step goes on, which decides how slowly Adafactor forgets.
  twice = optimizer.apply_gradient(
    jax.tree.map(lambda g: g / 2, grads), learning_rate=0.1
  )
  assert [int(o.state.step) for o in (optimizer, twice)] == [1, 2]
  alone = alone.apply_gradient(
    {'b': {'scale': GRADS['b']['scale'] / 2}}, learning_rate=0.1
  )
  same(twice.target['b'], alone.target['b'])
  same(optimizer.target['frozen'], params['frozen'])
  same(multi.create(params).restore_state(optimizer.state_dict()), optimizer)
  derived = multi.derive_logical_axes(optimizer, axes)
  assert derived.state.param_states['1']['b']['scale'].v == P('mlp')
  # Each may have a rate of its own, so that the trainer's is reported.
  assert float(multi.learning_rate(optimizer.state, jnp.float32(0.5))) == 0.5


@pytest.mark.filterwarnings('ignore:.*Traversal. will be deprecated')
@pytest.mark.parametrize(
  'around',
  [
    optimizers.Float32Masters,
    optimizers.PartialOptimizer,
    lambda inner: optimizers.MultiOptimizer([(_traversal('/w'), inner)]),
  ],
)
def test_the_axes_reach_the_optimizer_inside(around):
  # It has to know which axis is that of layers, or else refuses three.
  optimizer_def = around(adafactor.Adafactor(min_dim_size_to_factor=4))
  params = {'a': {'w': jnp.zeros((2, 4, 6), jnp.bfloat16)}}
  with pytest.raises(errors.UserError, match='no rule says which'):
    optimizer_def.init_state(params)
  optimizer_def.set_param_axes({'a': {'w': P('layers', 'embed', 'mlp')}})
  kept = jax.tree.leaves(optimizer_def.init_state(params).param_states)
  assert {(2, 4), (2, 6)} <= {x.shape for x in kept}


@pytest.mark.filterwarnings('ignore:.*Traversal. will be deprecated')
def test_traversals_must_not_overlap():
  multi = optimizers.MultiOptimizer(
    [
      (_traversal('/a/'), optimizers.sgd(1.0)),
      (_traversal('/w'), optimizers.sgd(1.0)),
    ]
  )
  with pytest.raises(errors.UserError, match="traversal 1 selects 'a/w'"):
    multi.create(PARAMS)
