"""States, their dicts, and what is derived from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict
from flax.linen import partitioning as flax_partitioning
from jax.sharding import PartitionSpec

from t5x import adafactor, errors, optimizers, train_state

P = PartitionSpec


def variables(mutables=False):
  axes = flax_partitioning.AxisMetadata
  result = {
    'params': {'mlp': {'kernel': np.ones((2, 3), np.float32)}},
    'params_axes': {'mlp': {'kernel_axes': axes(P('embed', 'mlp'))}},
  }
  if mutables:
    result['batch_stats'] = {'mean': np.zeros(3, np.float32)}
    result['batch_stats_axes'] = {'mean_axes': axes(P('mlp'))}
  return result


def create(mutables=False, optimizer_def=None):
  return train_state.FlaxOptimTrainState.create(
    optimizer_def or adafactor.Adafactor(), variables(mutables)
  )


def grads():
  return {'mlp': {'kernel': np.full((2, 3), 0.5, np.float32)}}


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_state_as_a_dict():
  state = create().state_dict()
  assert set(state) == {'target', 'state'}
  assert set(state['state']) == {'step', 'param_states'}
  assert state['state']['step'].dtype == jnp.int32
  assert set(create(mutables=True).state_dict()) == {
    'target',
    'state',
    'flax_mutables',
  }


@pytest.mark.parametrize('mutables', [False, True])
@pytest.mark.parametrize('make', [adafactor.Adafactor, None])
def test_a_dict_restores_the_state(mutables, make):
  optimizer_def = make() if make else optimizers.adamw(0.1)
  state = create(mutables, optimizer_def)
  others = {}
  if mutables:
    others['flax_mutables'] = FrozenDict({'batch_stats': {'mean': np.ones(3)}})
  state = state.apply_gradient(grads(), learning_rate=0.1, **others)
  same(state.flax_mutables, others.get('flax_mutables', FrozenDict({})))
  restored = create(mutables, optimizer_def).restore_state(state.state_dict())
  same(restored, state)
  assert int(restored.step) == 1


def test_parts_are_replaced():
  state = create(mutables=True)
  assert int(state.replace_step(7).step) == 7
  assert state.replace_step(7).step.dtype == jnp.int32
  other = {'mlp': {'kernel': np.zeros((2, 3))}}
  same(state.replace_params(other).params, other)
  mutables = FrozenDict({'batch_stats': {'mean': np.ones(3)}})
  same(state.replace_flax_mutables(mutables).flax_mutables, mutables)


def test_logical_axes_stand_in_for_arrays():
  axes = create(mutables=True).as_logical_axes()
  assert axes.params == {'mlp': {'kernel': P('embed', 'mlp')}}
  assert axes.param_states['mlp']['kernel'].v == P('embed', 'mlp')
  assert axes.flax_mutables['batch_stats']['mean'] == P('mlp')
  assert axes.step is None
  inference = train_state.InferenceState.create(variables(mutables=True))
  axes = inference.as_logical_axes()
  assert axes.params == {'mlp': {'kernel': P('embed', 'mlp')}}
  assert axes.flax_mutables['batch_stats']['mean'] == P('mlp')


def test_the_optimizer_is_told_the_axes():
  optimizer_def = adafactor.Adafactor(
    logical_factor_rules=adafactor.standard_logical_factor_rules()
  )
  create(optimizer_def=optimizer_def)
  roles = optimizer_def.hyper_params.factor_map['mlp/kernel']
  assert roles == (adafactor.FactorDim.ROW, adafactor.FactorDim.COLUMN)


def test_an_inference_state_has_no_optimizer():
  state = train_state.InferenceState.create(variables())
  assert state.param_states == {}
  with pytest.raises(NotImplementedError, match='has no optimizer'):
    state.apply_gradient(grads(), learning_rate=0.1)
  with pytest.raises(NotImplementedError, match='has no optimizer'):
    state.next_learning_rate(jnp.float32(0.1))
  assert int(state.step) == 0
  state = state.replace_step(3)
  assert set(state.state_dict()['state']) == {'step'}
  assert int(state.step) == 3


def test_parts_of_an_inference_state_are_replaced_and_restored():
  fresh = train_state.InferenceState.create(variables(mutables=True))
  params = {'mlp': {'kernel': np.full((2, 3), 5, np.float32)}}
  mutables = FrozenDict({'batch_stats': {'mean': np.full(3, 7, np.float32)}})
  state = fresh.replace_params(params).replace_flax_mutables(mutables)
  same(state.params, params)
  same(state.flax_mutables, mutables)
  state = state.replace_step(3)
  same(fresh.restore_state(state.state_dict()), state)


def test_frozen_parameters_are_taken_out_and_put_back():
  made = variables()
  made['params']['norm'] = {'scale': np.full(3, 2, np.float32)}
  state = train_state.FlaxOptimTrainState.create(
    optimizers.PartialOptimizer(optimizers.adamw(0.1), frozen=('norm',)), made
  )
  trained, frozen = state.split_frozen()
  assert set(trained.params) == {'mlp'} and set(frozen) == {'norm'}
  same(trained.join_frozen(frozen).params, made['params'])
  # A state without any is left as it is.
  whole = create()
  alone, nothing = whole.split_frozen()
  assert alone is whole and not nothing
  assert whole.join_frozen(nothing) is whole


@pytest.mark.parametrize('what', ['one', 'all'])
def test_a_parameter_without_names_of_axes_is_named(what):
  made = variables()
  made['params']['bias'] = np.zeros(3, np.float32)
  if what == 'all':
    del made['params_axes']
  for state in (
    train_state.FlaxOptimTrainState.create(adafactor.Adafactor(), made),
    train_state.InferenceState.create(made),
  ):
    name = 'bias' if what == 'one' else 'mlp/kernel'
    with pytest.raises(errors.UserError, match=f'parameter {name} has no name'):
      state.as_logical_axes()


def test_a_restarted_optimizer_lies_where_it_lay():
  mesh = jax.make_mesh((2,), ('model',), devices=jax.devices()[:2])
  state = create(optimizer_def=optimizers.adamw(0.1))

  def put(leaf):
    spec = P('model') if leaf.ndim == 2 else P()
    return jax.device_put(leaf, jax.sharding.NamedSharding(mesh, spec))

  state = jax.tree.map(put, state)
  state = state.apply_gradient(grads(), learning_rate=0.1)
  restarted = state.restart_optimizer()
  assert int(restarted.step) == 1
  before, after = (jax.tree.leaves(s.param_states) for s in (state, restarted))
  assert any(leaf.any() for leaf in before)
  assert not any(leaf.any() for leaf in after)
  assert [x.sharding for x in after] == [x.sharding for x in before]
  assert any(not x.sharding.is_fully_replicated for x in after)
