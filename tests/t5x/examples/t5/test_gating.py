"""What a feed-forward block does between its products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x.examples.t5 import gating


def _products():
  keys = jax.random.split(jax.random.key(0), 2)
  return [jax.random.normal(key, (2, 3, 8)) for key in keys]


def _plain(gate, up):
  return jax.nn.gelu(gate, approximate=True) * up


def _gated(*products):
  return gating.gated(('gelu', 'linear'), products)


def test_gradients_are_those_of_the_formula():
  weights = jax.random.normal(jax.random.key(1), (2, 3, 8))
  found, expected = (
    jax.grad(lambda *p, f=f: jnp.sum(f(*p) * weights), argnums=(0, 1))(
      *_products()
    )
    for f in (_gated, _plain)
  )
  np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_the_products_are_all_that_the_backward_pass_needs():
  def kept(f):
    backward = jax.eval_shape(lambda *p: jax.vjp(f, *p)[1], *_products())
    return len([x for x in jax.tree.leaves(backward) if x.shape == (2, 3, 8)])

  assert kept(_gated) == 2 < kept(_plain)


def test_one_activation_is_applied_alone():
  (x, _) = _products()
  np.testing.assert_array_equal(gating.gated(('relu',), [x]), jax.nn.relu(x))
  np.testing.assert_array_equal(gating.gated([jnp.sin], [x]), jnp.sin(x))


def test_an_unknown_activation_is_refused():
  with pytest.raises(ValueError, match="found 'geluu'"):
    gating.gated(('geluu',), _products()[:1])


def test_a_product_for_each_activation():
  # Not the activations that there happen to be products for.
  with pytest.raises(ValueError, match='shorter'):
    gating.gated(('gelu', 'linear'), _products()[:1])
