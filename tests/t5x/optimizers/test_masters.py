"""Float32 copies of bfloat16 parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec as P

from t5x import adafactor, optimizers

WIDE = {
  'a': {'w': jnp.linspace(0.5, 1.5, 6).reshape(2, 3)},
  'b': {'scale': jnp.ones(3)},
}
LOW = {'a': {'w': WIDE['a']['w'].astype(jnp.bfloat16)}, 'b': WIDE['b']}
GRADS = jax.tree.map(lambda x: jnp.full(x.shape, 1.0, x.dtype), LOW)


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


@pytest.mark.parametrize(
  'make', [lambda: optimizers.adamw(1e-4), adafactor.Adafactor]
)
def test_updates_are_those_of_float32(make):
  masters = optimizers.Float32Masters(make())
  low = masters.create(LOW)
  rounded = jax.tree.map(lambda x: x.astype(jnp.float32), LOW)
  wide = make().create(rounded)
  for _ in range(3):
    low = low.apply_gradient(GRADS, learning_rate=1e-4)
    wide = wide.apply_gradient(
      jax.tree.map(lambda x: x.astype(jnp.float32), GRADS), learning_rate=1e-4
    )
  copies = low.state.param_states['masters']
  assert flat(copies).keys() == {'a/w'}
  np.testing.assert_array_equal(copies['a']['w'], wide.target['a']['w'])
  np.testing.assert_array_equal(low.target['b']['scale'],
                                wide.target['b']['scale'])  # fmt: skip
  assert low.target['a']['w'].dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    low.target['a']['w'], wide.target['a']['w'].astype(jnp.bfloat16)
  )
  # The copy has moved, though no bfloat16 number has.
  assert np.all(copies['a']['w'] != rounded['a']['w'])
  assert int(low.state.step) == 3
  # Optax's transformations without a state leave nothing empty.
  state = low.state_dict()
  assert (
    traverse_util.flatten_dict(state, keep_empty_nodes=True).keys()
    == traverse_util.flatten_dict(state).keys()
  )
  restored = masters.create(LOW).restore_state(
    traverse_util.unflatten_dict(traverse_util.flatten_dict(low.state_dict()))
  )
  jax.tree.map(np.testing.assert_array_equal, restored, low)
  axes = {'a': {'w': P('embed', 'mlp')}, 'b': {'scale': P('embed')}}
  masters.set_param_axes(axes)
  derived = masters.derive_logical_axes(low, axes)
  assert derived.state.param_states['masters'] == {'a': axes['a']}
  assert float(masters.learning_rate(low.state, jnp.float32(2))) in (
    pytest.approx(1e-4), 2.0
  )  # fmt: skip


def test_without_low_precision_nothing_is_copied():
  masters = optimizers.Float32Masters(optimizers.sgd(0.5))
  optimizer = masters.create(WIDE)
  assert not jax.tree.leaves(optimizer.state.param_states)
  new = optimizer.apply_gradient(
    jax.tree.map(jnp.ones_like, WIDE), learning_rate=1.0
  )
  np.testing.assert_allclose(new.target['a']['w'], WIDE['a']['w'] - 0.5)


def test_what_is_frozen_has_no_copy():
  optimizer = optimizers.PartialOptimizer(
    optimizers.Float32Masters(optimizers.sgd(0.5)), frozen=('a',)
  ).create(LOW)
  assert not [x for x in jax.tree.leaves(optimizer.state) if x.ndim]
