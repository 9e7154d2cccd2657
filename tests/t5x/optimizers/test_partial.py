"""Optimizers of a part of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec as P

from t5x import adafactor, errors, optimizers

PARAMS = {
  'encoder': {'w': jnp.ones((2, 3)), 'scale': jnp.ones(3)},
  'decoder': {'encoder_decoder_attention': {'w': jnp.ones((3, 2))}},
}


def paths(tree):
  return sorted(traverse_util.flatten_dict(tree, sep='/'))


def test_what_is_frozen_has_no_state_and_stays():
  optimizer_def = optimizers.PartialOptimizer(
    optimizers.adamw(0.1), frozen=('decoder', 'scale')
  )
  assert paths(optimizer_def.trained(PARAMS)) == ['encoder/w']
  optimizer = optimizer_def.create(PARAMS)
  moments = [x for x in jax.tree.leaves(optimizer.state) if x.ndim]
  assert [x.shape for x in moments] == [(2, 3), (2, 3)]
  new = optimizer.apply_gradient(
    {'encoder': {'w': jnp.ones((2, 3))}}, learning_rate=0.5
  )
  before, after = (
    traverse_util.flatten_dict(x.target, sep='/') for x in (optimizer, new)
  )
  assert paths(new.target) == paths(PARAMS)
  for name, leaf in after.items():
    assert np.array_equal(leaf, before[name]) == (name != 'encoder/w'), name
  # Optax has its own rate, and states that hold nothing.
  rate = optimizer_def.learning_rate(new.state, jnp.float32(7))
  assert float(rate) == pytest.approx(0.1)
  state = new.state_dict()
  assert (
    traverse_util.flatten_dict(state, keep_empty_nodes=True).keys()
    == traverse_util.flatten_dict(state).keys()
  )
  restored = optimizer_def.create(PARAMS).restore_state(
    traverse_util.unflatten_dict(traverse_util.flatten_dict(new.state_dict()))
  )
  jax.tree.map(np.testing.assert_array_equal, restored, new)
  axes = jax.tree.map(lambda x: P(*['embed'] * x.ndim), PARAMS)
  derived = optimizer_def.derive_logical_axes(optimizer, axes)
  assert jax.tree.structure(derived.state) != jax.tree.structure(None)


def test_only_what_is_named_is_trained():
  optimizer_def = optimizers.PartialOptimizer(
    adafactor.Adafactor(), frozen=('decoder',), trained=('w',)
  )
  assert paths(optimizer_def.trained(PARAMS)) == ['encoder/w']
  # Each of several names is enough.
  optimizer_def = optimizers.PartialOptimizer(
    adafactor.Adafactor(), trained=('scale', 'decoder')
  )
  assert paths(optimizer_def.trained(PARAMS)) == [
    'decoder/encoder_decoder_attention/w',
    'encoder/scale',
  ]


def test_nothing_frozen_is_the_optimizer_itself():
  optimizer_def = optimizers.PartialOptimizer(optimizers.sgd(0.5))
  assert optimizer_def.trained(PARAMS) is PARAMS


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ({'frozen': ('encodr',)}, "frozen: .*'encodr'.*[Dd]id you mean 'encoder'"),
    ({'trained': ('lora',)}, "trained: .*'lora'"),
    ({'frozen': ('encoder', 'decoder')}, 'every parameter is frozen'),
  ],
)
def test_patterns_that_do_not_fit_the_model_are_refused(arguments, said):
  optimizer_def = optimizers.PartialOptimizer(optimizers.sgd(1.0), **arguments)
  with pytest.raises(errors.UserError, match=said):
    optimizer_def.create(PARAMS)


@pytest.mark.parametrize('frozen', ['encoder', ('(',), (1,), ('scale', 1)])
def test_patterns_are_a_list_of_expressions(frozen):
  with pytest.raises(errors.UserError, match=r'PartialOptimizer\.frozen'):
    optimizers.PartialOptimizer(optimizers.sgd(1.0), frozen=frozen)
