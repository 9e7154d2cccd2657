"""Masks of dropout: which positions share one, and that others do not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from t5x import errors
from t5x.examples.t5 import dropout
from t5x.examples.t5.config import T5Config
from tests.t5x import tiny_model

_KEY = jax.random.key(7)


def kept(groups, rate=0.4, features=4096, rows=2):
  """Which values of ones are kept, [rows, positions, features]."""
  x = jnp.ones((rows, len(groups), features))
  layer = dropout.Dropout(rate, broadcast_dims=(-2,))
  y = layer.apply(
    {}, x, False, groups=jnp.array([groups]), rngs={'dropout': _KEY}
  )
  np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)
  return np.asarray(y != 0)


def test_without_groups_it_is_flax_dropout_to_the_bit():
  x = jax.random.normal(jax.random.key(1), (2, 5, 64))
  rngs = {'dropout': _KEY}
  ours = dropout.Dropout(0.3, broadcast_dims=(-2,))
  theirs = nn.Dropout(0.3, broadcast_dims=(-2,))
  np.testing.assert_array_equal(
    ours.apply({}, x, False, rngs=rngs), theirs.apply({}, x, False, rngs=rngs)
  )


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_its_gradient_is_that_of_flax_dropout(dtype):
  x = jax.random.normal(jax.random.key(1), (2, 5, 512), dtype)

  def gradient(layer):
    def total(x):
      y = layer.apply({}, x, False, rngs={'dropout': _KEY})
      return jnp.sum(jnp.sin(y).astype(jnp.float32))

    return np.float32(jax.jit(jax.grad(total))(x))

  found, expected = (
    gradient(cls(0.1, broadcast_dims=(-2,)))
    for cls in (dropout.Dropout, nn.Dropout)
  )
  tolerance = 1e-6 if dtype == 'float32' else 2**-7
  np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-7)
  # Not greater or smaller on average, as with a reciprocal in bfloat16.
  np.testing.assert_allclose(
    np.abs(found).mean(), np.abs(expected).mean(), rtol=3e-4
  )


def test_no_more_than_the_mask_of_a_position_waits_for_the_gradient():
  x = jnp.ones((2, 50, 16))
  layer = dropout.Dropout(0.3, broadcast_dims=(-2,))
  backward = jax.eval_shape(
    lambda x: jax.vjp(
      lambda x: layer.apply({}, x, False, rngs={'dropout': _KEY}), x
    )[1],
    x,
  )
  assert sum(kept.size for kept in jax.tree.leaves(backward)) == 2 * 16


def test_a_group_shares_its_mask_and_groups_and_rows_differ():
  mask = kept([1, 1, 2, 3, 0])
  np.testing.assert_array_equal(mask[:, 0], mask[:, 1])
  # Independent masks agree where both keep or both drop.
  agreement = 0.6**2 + 0.4**2
  pairs = [(0, 2), (0, 3), (2, 3), (0, 4), (3, 4)]
  found = [np.mean(mask[:, a] == mask[:, b]) for a, b in pairs]
  np.testing.assert_allclose(found, agreement, atol=0.03)
  np.testing.assert_allclose(np.mean(mask[0] == mask[1]), agreement, atol=0.03)


@pytest.mark.parametrize('rate', [0.1, 0.5])
def test_masks_of_many_groups_are_as_good_as_drawn_ones(rate):
  mask = kept(list(range(512)), rate, features=512, rows=1)[0]
  # Kept at the rate, in every group and for every feature, as binomials vary.
  deviation = np.sqrt(rate * (1 - rate) / 512)
  for axis in (0, 1):
    means = mask.mean(axis)
    assert abs(means.mean() - (1 - rate)) < deviation / 5
    assert 0.85 < means.std() / deviation < 1.15
  # No two groups, near or far, have masks that go together.
  correlation = np.corrcoef(mask)[np.triu_indices(512, 1)]
  assert abs(correlation).max() < 0.27  # Six standard deviations.
  assert 0.9 < correlation.std() * np.sqrt(512) < 1.1


def test_the_mixed_numbers_are_all_different():
  numbers = jnp.arange(2**16, dtype=jnp.uint32)
  assert len(np.unique(dropout.mix(numbers))) == 2**16


def test_numbers_are_mixed_as_murmurhash3_ends():
  # A run that goes on in a later version drops what it would have dropped.
  found = dropout.mix(jnp.array([0, 1, 2, 0xFFFFFFFF], jnp.uint32))
  assert found.tolist() == [0, 0x514E28B7, 0x30F4C306, 0x81F16F39]
  drawn = jax.random.bits(_KEY, (2, 1, 64), jnp.uint32)
  layer = dropout.Dropout(0.25)
  y = layer.apply(
    {}, jnp.ones((2, 3, 64)), False, _KEY, groups=jnp.array([[0, 1, 5]])
  )
  # Multiples of the golden ratio's, of 32 bits.
  spread = np.array([0, 0x9E3779B9, 0x1715609D], np.uint32)[:, None]
  bits = np.asarray(dropout.mix(drawn ^ spread))
  np.testing.assert_array_equal(y != 0, bits < 3 * 2**30)


@pytest.mark.parametrize('rate', [0.0, 1.0])
def test_nothing_or_everything_is_dropped(rate):
  x = jnp.ones((1, 3, 4))
  layer = dropout.Dropout(rate)
  y = layer.apply(
    {}, x, False, groups=jnp.array([[1, 1, 2]]), rngs={'dropout': _KEY}
  )
  np.testing.assert_array_equal(y, x * (1 - rate))


# A row that has the same example twice.
_TOKENS = jnp.array([[5, 6, 7, 1, 5, 6, 7, 1]])
_IDS = jnp.array([[1] * 4 + [2] * 4])


def module(masks, scan):
  return tiny_model.model(
    config={'dropout_rate': 0.4, 'dropout_masks': masks, 'scan_layers': scan}
  ).module


@functools.cache
def variables(scan):
  init = functools.partial(module('row', scan).init, enable_dropout=False)
  return jax.jit(init)(jax.random.key(0), *[_TOKENS] * 3)


@functools.cache
def run(masks, segments, scan=False):
  """Logits of the row, with dropout, and what each dropout gives."""
  apply = functools.partial(
    module(masks, scan).apply,
    rngs={'dropout': _KEY},
    capture_intermediates=lambda layer, _: isinstance(layer, dropout.Dropout),
    mutable=['intermediates'],
  )
  ids = [_IDS] * 2 if segments else []
  logits, state = jax.jit(apply)(variables(scan), *[_TOKENS] * 3, *ids)
  return logits, jax.tree.leaves(state['intermediates'])


def logits(*args, **kwargs):
  return run(*args, **kwargs)[0]


@pytest.mark.parametrize(
  ('masks', 'segments', 'groups'),
  [
    ('row', True, [0] * 8),
    ('example', True, [1] * 4 + [2] * 4),
    ('position', False, range(8)),
  ],
)
def test_every_dropout_of_the_network_has_the_masks_that_are_asked_for(
  masks, segments, groups
):
  _, outputs = run(masks, segments)
  # Embedding, end, layer and block: 2 + 2 + 1 of the encoder, 2 + 3 + 1.
  assert len(outputs) == 11
  expected = np.equal.outer(groups, groups)
  for (dropped,) in (np.asarray(x) == 0 for x in outputs):
    same = np.all(dropped[:, None] == dropped[None], axis=-1)
    np.testing.assert_array_equal(same, expected)
    assert np.all(np.any(dropped, axis=1) & ~np.all(dropped, axis=1))


def test_examples_of_a_packed_row_have_masks_of_their_own_in_a_loop():
  scanned = logits('row', True, scan=True), logits('example', True, scan=True)
  assert not np.allclose(*scanned)


def test_rows_of_one_example_keep_their_masks():
  row = logits('row', False)
  np.testing.assert_array_equal(row, logits('example', False))
  assert not np.allclose(row, logits('position', False))


def test_other_masks_are_refused():
  with pytest.raises(errors.UserError, match="found 'rows'"):
    T5Config(8, dropout_masks='rows')
