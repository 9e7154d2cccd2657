"""The kernel for TPUs: the numbers and gradients of our attention.

Its operations are computed here one after the other; a TPU's compiler is asked
in docs/plans.md.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import partitioning as flax_partitioning

from t5x import errors, partitioning
from t5x.examples.t5 import (
  attention,
  attention_kernel,
  masks,
  network,
  positions,
)


@pytest.fixture
def interpreted(monkeypatch):
  monkeypatch.setattr(attention_kernel, 'INTERPRET', True)


def random_array(*shape, seed=0, dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def segments(rows, length, seed):
  """Ids of packed rows: 1, 2, 3, …, then padding."""
  ids = np.random.default_rng(seed).integers(1, 5, (rows, length))
  ids = np.sort(ids, axis=1)
  return jnp.asarray(np.where(ids == 4, 0, ids))


def operands(rows, queries, keys, heads, size, dtype, has_bias, causal):
  query = random_array(rows, queries, heads, size, dtype=dtype)
  key, value = (
    random_array(rows, keys, heads, size, seed=n, dtype=dtype) for n in (1, 2)
  )
  arrays = [0.5 * query, key, value]
  if has_bias:
    arrays.append(random_array(heads, queries + keys - 1, seed=3))
  query_ids = segments(rows, queries, 4)
  key_ids = query_ids if causal or has_bias else segments(rows, keys, 5)
  return arrays, masks.SegmentMask(query_ids, key_ids, causal)


def values_and_gradients(attend, arrays):
  along = random_array(*arrays[0].shape, seed=6)

  def loss(*arrays):
    attended = attend(*arrays)
    return jnp.sum(along * attended), attended

  grads, attended = jax.jit(
    jax.grad(loss, tuple(range(len(arrays))), has_aux=True)
  )(*arrays)
  return [np.asarray(x, np.float32) for x in (attended, *grads)]


def ours(mask, float32_logits, query, key, value, diagonals=None):
  bias = None
  if diagonals is not None:
    lengths = query.shape[1], key.shape[1]
    bias = positions._diagonals_to_matrix(diagonals, *lengths)[None]
  return attention.dot_product_attention(
    *(query, key, value, bias),
    deterministic=True,
    dtype=query.dtype,
    float32_logits=float32_logits,
    mask=mask.dense(),
  )


# Rows, queries, keys, heads, their size, queries of a block.
WHOLE = 2, 256, 256, 1, 8, 128
PADDED = 3, 21, 21, 2, 128, 8
CROSS = 2, 13, 20, 2, 8, 16


@pytest.mark.parametrize(
  ('sizes', 'causal', 'dtype', 'float32_logits'),
  [
    pytest.param(WHOLE, False, jnp.float32, True, marks=pytest.mark.slow),
    (WHOLE, False, jnp.bfloat16, False),
    (PADDED, True, jnp.float32, False),
    (CROSS, False, jnp.bfloat16, True),
  ],
)
def test_the_kernel_is_our_attention(
  interpreted, sizes, causal, dtype, float32_logits
):
  *sizes, block = sizes
  has_bias = sizes[1] == sizes[2]
  arrays, mask = operands(*sizes, dtype, has_bias, causal)
  # Some queries see nothing, and get the mean.
  assert not mask.dense().any(-1).all()

  def kernel(query, key, value, diagonals=None):
    given = query, key, value, diagonals, mask, float32_logits
    return attention_kernel.attend(*given, most_queries=block)

  expected = values_and_gradients(
    functools.partial(ours, mask, float32_logits), arrays
  )
  found = values_and_gradients(kernel, arrays)
  tolerance = 3e-6 if dtype == jnp.float32 else 4e-3
  for a, b in zip(expected, found, strict=True):
    assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(a)


def test_the_numbers_of_a_mask_are_the_mask():
  tokens = jnp.array([[7, 7, 0, 0], [7, 7, 7, 0]])
  targets = jnp.array([[6, 7, 3, 4, 0], [6, 7, 3, 4, 5]])
  of = masks.SegmentMask.of
  ids = jnp.array([[1, 1, 2, 2, 0], [0, 1, 1, 1, 1]])
  np.testing.assert_array_equal(
    of(targets, targets, ids, ids, causal=True).dense(),
    masks.make_decoder_mask(targets, jnp.bool_, decoder_segment_ids=ids),
  )
  np.testing.assert_array_equal(
    of(targets, tokens).dense(),
    masks.make_attention_mask(targets > 0, tokens > 0, dtype=jnp.bool_),
  )


def tiny_network(kernel, **options):
  return network.Transformer(
    network.T5Config(
      vocab_size=16,
      emb_dim=8,
      num_heads=2,
      num_encoder_layers=1,
      num_decoder_layers=1,
      head_dim=4,
      mlp_dim=8,
      attention_kernel=kernel,
      **options,
    )
  )


def loss_and_gradients(kernel, **options):
  """Of a tiny network, on two rows of data and two partitions of heads."""
  module = tiny_network(kernel, **options)
  tokens = 1 + random_array(2, 2, 8, seed=1).astype(jnp.int32) ** 2
  inputs, targets = tokens.at[:, :, 6:].set(0)
  ids = [segments(2, 8, n) for n in (2, 3)]
  shapes = jax.eval_shape(
    module.init, jax.random.key(0), inputs, targets, targets
  )['params']
  params = jax.tree.map(lambda x: random_array(*x.shape, seed=x.size), shapes)

  def loss(params):
    logits = module.apply(
      {'params': params},
      *(inputs, targets, targets, *ids),
      rngs={'dropout': jax.random.key(1)},
    )
    return jnp.mean(jax.nn.logsumexp(logits, -1) - logits[..., 3])

  partitioner = partitioning.PjitPartitioner(
    num_partitions=2, devices=jax.devices()[:4]
  )
  step = partitioner.partition(jax.value_and_grad(loss), (None,), None)
  return step(params)


@pytest.mark.parametrize(
  'options',
  [
    {},
    pytest.param(
      {'scan_layers': True, 'remat_policy': 'minimal'}, marks=pytest.mark.slow
    ),
  ],
)
def test_a_network_with_the_kernel_learns_the_same(interpreted, options):
  (expected, grads), (found, of_kernel) = (
    loss_and_gradients(kernel, **options) for kernel in ('xla', 'pallas')
  )
  assert found == pytest.approx(float(expected), rel=1e-6)
  for a, b in zip(
    jax.tree.leaves(grads), jax.tree.leaves(of_kernel), strict=True
  ):
    np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


def test_the_kernel_is_refused_where_it_cannot_run(monkeypatch):
  arrays, mask = operands(2, 4, 4, 3, 8, jnp.float32, True, False)
  attend = functools.partial(attention_kernel.attend, *arrays, mask)
  with pytest.raises(errors.UserError, match="'pallas' needs a TPU, found"):
    attend()
  with pytest.raises(errors.UserError, match="'pallas' needs a TPU, found"):
    loss_and_gradients('pallas')
  monkeypatch.setattr(attention_kernel, 'INTERPRET', True)
  partitioner = partitioning.PjitPartitioner(num_partitions=2)
  rules = flax_partitioning.axis_rules(partitioner.logical_axis_rules)
  refused = pytest.raises(errors.UserError, match='found 3 heads on 2 part')
  with jax.set_mesh(partitioner.mesh), rules, refused:
    attend()
  arrays, mask = operands(1, 4096, 4096, 1, 2, jnp.float32, True, False)
  with pytest.raises(errors.UserError, match='4096 keys, which need 134,217'):
    attention_kernel.attend(*arrays, mask)


@pytest.mark.slow
def test_decoding_is_that_of_the_other_kernels(interpreted):
  tokens = jnp.array([[5, 6, 7, 0]])
  steps = []
  for kernel in ('xla', 'pallas'):
    module = tiny_network(kernel)
    apply = functools.partial(module.apply, enable_dropout=False)
    variables = module.init(
      jax.random.key(0), tokens, tokens, tokens, decode=True
    )
    del variables['params_axes']
    encoded = apply(variables, tokens, method=module.encode)
    logits, _ = apply(
      variables,
      *(encoded, tokens, tokens[:, :1], tokens[:, :1]),
      decode=True,
      method=module.decode,
      mutable=['cache'],
    )
    steps.append(logits)
  np.testing.assert_allclose(*steps, rtol=1e-5, atol=1e-6)
