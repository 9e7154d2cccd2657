"""Tests of t5x.initialization.batched_draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x.initialization import batched_draws, threefry


def _draw_many(key):
  """Two shapes, two distributions, and what depends on what was drawn."""
  keys = [jax.random.fold_in(key, i) for i in range(5)]
  drawn = {
    'wide': [jax.random.truncated_normal(k, -2, 2, (4, 6)) / 3 for k in keys],
    'narrow': [jax.random.normal(k, (4,)) for k in keys],
    'uniform': [
      jax.random.uniform(k, (4, 6), maxval=m)
      for m, k in zip((1.0, 1.0, 2.0), keys, strict=False)
    ],
  }
  # What other models' initialisers may do as well.
  drawn['nothing'] = [jax.random.normal(k, (0, 4)) for k in keys]
  drawn['typed'] = [
    jax.random.bernoulli(k, np.float32(0.3), (9,)) for k in keys
  ]
  drawn['split'] = [jax.random.uniform(jax.random.split(k)[1]) for k in keys]
  drawn['looped'] = jax.lax.fori_loop(
    0, 3, lambda i, x: x + jax.random.uniform(jax.random.fold_in(key, i)), 0.0
  )
  drawn['of keys'] = jax.vmap(
    lambda k: jax.random.uniform(jax.random.fold_in(k, 1))
  )(jnp.stack(keys[:3]))
  both = jax.jit(lambda a, b: jax.random.bits(a) ^ jax.random.bits(b))
  drawn['of two'] = [both(keys[0], k) for k in keys[1:]]
  # A key made of one made of a key, and a draw scaled by a draw.
  again = jax.random.fold_in(keys[3], 7)
  drawn['nested'] = jax.random.normal(again, (4,)) * drawn['narrow'][0]
  unused = drawn['wide'][0] @ jnp.ones((6, 6))
  del unused
  return drawn


def _batched(key):
  """Returns what draws the same, flat."""
  return batched_draws.batched(jax.make_jaxpr(_draw_many)(key))


def _wide_loops(key):
  """How many of `wide` each loop draws."""
  program = jax.make_jaxpr(_batched(key))(key)
  return [
    equation.params['length']
    for equation in program.jaxpr.eqns
    if equation.primitive.name == 'scan'
    and 'erf_inv' in str(equation.params['jaxpr'])
    and equation.outvars[0].aval.shape[1:] == (4, 6)
  ]


def _check_the_same(key):
  expected = jax.tree.leaves(jax.jit(_draw_many)(key))
  for drawn, array in zip(jax.jit(_batched(key))(key), expected, strict=True):
    np.testing.assert_array_equal(drawn, array)


@pytest.mark.parametrize('kind', ['threefry2x32', 'rbg', 'unsafe_rbg'])
def test_every_array_is_what_it_was(kind):
  _check_the_same(jax.random.key(3, impl=kind))


_KEYS = [jax.random.key(0), threefry.in_one_pass(jax.random.key(0))]


@pytest.mark.parametrize('key', _KEYS, ids=['in rounds', 'in one pass'])
def test_draws_of_a_kind_become_one(key):
  assert _wide_loops(key) == [5]
  _check_the_same(key)
  # The keys are made at once; that of a loop, of a map and of a key apart.
  program = jax.make_jaxpr(_batched(key))(key)
  assert str(program).count('random_fold_in') == 4


def test_results_that_need_no_key_are_computed_alone():
  program = jax.make_jaxpr(lambda k: (jax.random.normal(k), 2 * jnp.ones(3)))
  key = jax.random.key(0)
  (twos,) = batched_draws.batched(program(key), {1})(key)
  np.testing.assert_array_equal(twos, [2, 2, 2])


def test_a_batch_holds_a_quarter_of_a_gibibyte():
  def draw(key):
    keys = [jax.random.fold_in(key, i) for i in range(5)]
    return [jax.random.uniform(k, (2**24,)) for k in keys]

  key = jax.random.key(0)
  compute = batched_draws.batched(jax.make_jaxpr(draw)(key))
  program = jax.make_jaxpr(compute)(key)
  loops = [x.params['length'] for x in program.eqns if 'length' in x.params]
  assert loops == [4]


def test_large_draws_stay_apart(monkeypatch):
  monkeypatch.setattr(batched_draws, '_MAX_BATCH_BYTES', 2 * 24 * 4)
  assert _wide_loops(jax.random.key(0)) == [2, 2]
  _check_the_same(jax.random.key(0))
  # Those that are larger by themselves are drawn one by one.
  monkeypatch.setattr(batched_draws, '_MAX_BATCH_BYTES', 24 * 4 - 1)
  assert _wide_loops(jax.random.key(0)) == []
