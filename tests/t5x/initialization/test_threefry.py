"""Tests of t5x.initialization.threefry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x.initialization import threefry

# Of the generator's authors (Random123): key, counter, what it becomes.
_KNOWN = [
  ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
  ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
  (
    (0x13198A2E, 0x03707344),
    (0x243F6A88, 0x85A308D3),
    (0xC4923A9C, 0x483DF7A0),
  ),
]
_SHAPES = [(), (1,), (7,), (0, 3), (33, 65), (3, 4, 5, 2)]


@pytest.mark.parametrize(('key', 'counter', 'expected'), _KNOWN)
def test_enciphers_as_published(key, counter, expected):
  high, low = threefry._hash(
    jnp.asarray(key, jnp.uint32),
    *(jnp.asarray([part], jnp.uint32) for part in counter),
  )
  assert (int(high[0]), int(low[0])) == expected


def _draws(key, shape):
  """What an initialiser may draw."""
  one, several = jax.random.fold_in(key, 2**31 + 5), jax.random.split(key, 3)
  return {
    'normal': jax.random.normal(one, shape),
    'truncated': jax.random.truncated_normal(one, -2, 2, shape),
    'uniform': jax.random.uniform(several[2], shape, jnp.bfloat16),
    'whether': jax.random.bernoulli(several[1], 0.1, shape),
    'bytes': jax.random.bits(one, shape, jnp.uint8),
    'integers': jax.random.randint(one, shape, 0, 1000),
    'of several': jax.vmap(lambda k: jax.random.normal(k, shape))(several),
    'in turn': jax.lax.map(lambda k: jax.random.normal(k, shape), several),
  }


def test_draws_what_jax_draws():
  @jax.jit
  def draw(key):
    return {shape: _draws(key, shape) for shape in _SHAPES}

  for seed in (0, 2**32 - 1):
    key = jax.random.key(seed)
    jax.tree.map(
      np.testing.assert_array_equal, draw(threefry.in_one_pass(key)), draw(key)
    )


def test_draws_what_jax_draws_where_places_depend_on_the_size():
  key = jax.random.key(5)
  with jax.threefry_partitionable(False):
    np.testing.assert_array_equal(
      jax.random.normal(threefry.in_one_pass(key), (7,)),
      jax.random.normal(key, (7,)),
    )


def test_has_no_loop_on_a_cpu():
  def rounds(key):
    return jax.jit(lambda k: jax.random.bits(k, (64,))).lower(key).as_text()

  key = jax.random.key(0)
  assert 'while' in rounds(key)  # Else this file is of no use any more.
  assert 'while' not in rounds(threefry.in_one_pass(key))


def test_more_elements_than_32_bits_count_are_drawn_by_jax():
  def text(*shape):
    key = threefry.in_one_pass(jax.random.key(0))
    return jax.jit(lambda k: jax.random.bits(k, shape)).lower(key).as_text()

  assert 'while' in text(2**16, 2**16)
  assert 'while' not in text(2**16 - 1, 2**16 + 1)


def test_wider_numbers_are_drawn_by_jax():
  with jax.enable_x64(True):
    key = threefry.in_one_pass(jax.random.key(3))
    drawn = jax.jit(lambda k: jax.random.bits(k, (5,), np.uint64)).lower(key)
  assert 'while' in drawn.as_text()


def test_can_be_lowered_for_other_devices():
  key = threefry.in_one_pass(jax.random.key(0))
  traced = jax.jit(lambda k: jax.random.bits(k, (64,))).trace(key)
  assert 'stablehlo' in traced.lower(lowering_platforms=('tpu',)).as_text()


def test_what_kind_of_key_it_is_does_not_depend_on_the_default():
  with jax.default_prng_impl('rbg'):
    key = jax.random.key(0, impl='threefry2x32')
    assert threefry.in_one_pass(key).dtype != key.dtype
    other = jax.random.key(0)
    assert threefry.in_one_pass(other) is other


@pytest.mark.parametrize('kind', ['rbg', 'unsafe_rbg'])
def test_leaves_other_generators_alone(kind):
  key = jax.random.key(0, impl=kind)
  assert threefry.in_one_pass(key) is key


def test_leaves_keys_without_a_type_alone():
  key = jax.random.PRNGKey(0)
  assert threefry.in_one_pass(key) is key
