"""Tests of t5x.examples.t5.layers and the modules behind it."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import partitioning
from t5x.examples.t5 import dense, layers


def random_array(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_masks_are_the_examples_of_their_docstrings():
  query, key = np.array([[1, 0]]), np.array([[1, 1, 0]])
  assert layers.make_attention_mask(query, key).tolist() == [
    [[[1, 1, 0], [0, 0, 0]]]
  ]
  assert layers.make_attention_mask(query, key, extra_batch_dims=2).shape == (
    1,
    1,
    1,
    1,
    2,
    3,
  )
  assert layers.make_causal_mask(np.zeros((1, 3))).tolist() == [
    [[[1, 0, 0], [1, 1, 0], [1, 1, 1]]]
  ]
  found = layers.make_decoder_mask(
    jnp.array([[6, 7, 3, 4, 0]]),
    jnp.float32,
    decoder_segment_ids=jnp.array([[1, 1, 2, 2, 0]]),
  )
  assert found.tolist() == [
    [
      [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
      ]
    ]
  ]


def test_a_prefix_is_seen_in_both_directions():
  found = layers.make_decoder_mask(
    jnp.array([[5, 6, 7, 0]]),
    jnp.bool_,
    decoder_causal_attention=jnp.array([[1, 1, 0, 0]]),
  )
  assert found[0, 0].astype(int).tolist() == [
    [1, 1, 0, 0],
    [1, 1, 0, 0],
    [1, 1, 1, 0],
    [0, 0, 0, 0],
  ]


def test_masks_and_biases_combine_and_skip_none():
  a, b = np.array([[1.0, 1, 0]]), np.array([[1.0, 0, 0]])
  assert layers.combine_masks(a, None, b).tolist() == [[1, 0, 0]]
  assert layers.combine_biases(a, None, b).tolist() == [[2, 1, 0]]
  assert layers.combine_masks(None) is None
  assert layers.combine_biases(None) is None
  with pytest.raises(ValueError, match='add axes of size 1'):
    layers.combine_masks(a, b[0])


def reference_bucket(distance, bidirectional, buckets, max_distance):
  """The T5 paper's rule, in float64 logarithms."""
  base = 0
  if bidirectional:
    buckets //= 2
    base = buckets if distance > 0 else 0
    n = abs(distance)
  else:
    n = max(-distance, 0)
  exact = buckets // 2
  if n < exact:
    return base + n
  scale = math.log(n / exact) / math.log(max_distance / exact)
  return base + min(buckets - 1, exact + int(scale * (buckets - exact) + 1e-9))


@pytest.mark.parametrize('bidirectional', [True, False])
def test_buckets_follow_the_logarithmic_rule(bidirectional):
  distances = np.arange(-300, 301)
  found = layers.relative_position_bucket(distances, bidirectional, 32, 128)
  expected = [reference_bucket(d, bidirectional, 32, 128) for d in distances]
  assert np.asarray(found).tolist() == expected
  if bidirectional:
    by_default = layers.relative_position_bucket(distances)
    np.testing.assert_array_equal(by_default, found)


def test_buckets_are_the_example_of_the_docstring():
  found = layers.relative_position_bucket(
    np.array([-20, -3, -2, -1, 0, 1, 2, 3, 20]), True, 8, 16
  )
  assert found.tolist() == [3, 2, 2, 1, 0, 5, 6, 6, 7]


@pytest.mark.parametrize(
  'q, k, offset, bidirectional',
  [(5, 7, 0, True), (6, 6, 0, False), (1, 7, 3, False), (2, 30, 20, False)],
)
def test_biases_are_looked_up_by_relative_position(q, k, offset, bidirectional):
  table = random_array(3, 8)
  module = layers.RelativePositionBiases(8, 16, 3, jnp.float32)
  found = jax.jit(
    lambda offset: module.apply(
      {'params': {'rel_embedding': table}}, q, k, bidirectional, offset
    )
  )(offset)
  distance = np.arange(k)[None] - np.arange(q)[:, None] - offset
  buckets = layers.relative_position_bucket(distance, bidirectional, 8, 16)
  np.testing.assert_array_equal(found[0], table[:, np.asarray(buckets)])
  if bidirectional and not offset:
    params = {'params': {'rel_embedding': table}}
    np.testing.assert_array_equal(module.apply(params, q, k), found)


def test_layer_norm_divides_by_the_root_mean_square_in_float32():
  x = 300 * random_array(2, 3, 16)
  scale = random_array(16, seed=1)
  found = layers.LayerNorm().apply({'params': {'scale': scale}}, x)
  expected = x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * scale
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  # The squares of these overflow float16.
  half = layers.LayerNorm(dtype=jnp.float16).apply(
    {'params': {'scale': np.ones(16)}}, x.astype(np.float16)
  )
  assert half.dtype == jnp.float16 and np.all(np.isfinite(half))


def norm_and_formula(dtype):
  """A layer norm with a weighted sum, and the same by its formula."""
  weights = random_array(2, 3, 64, seed=1)

  def by_layer(x, scale):
    layer = layers.LayerNorm(dtype=dtype)
    return jnp.sum(layer.apply({'params': {'scale': scale}}, x) * weights)

  def by_formula(x, scale):
    mean_square = jnp.mean(jnp.square(x), -1, keepdims=True)
    y = (x / jnp.sqrt(mean_square + 1e-6)).astype(dtype) * scale.astype(dtype)
    return jnp.sum(y * weights)

  return by_layer, by_formula


def test_layer_norm_has_the_gradients_of_its_formula():
  found, expected = (
    jax.jit(jax.grad(f, argnums=(0, 1)))(
      random_array(2, 3, 64), 1 + random_array(64, seed=2)
    )
    for f in norm_and_formula(jnp.float32)
  )
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_no_float32_copy_of_its_input_waits_for_a_norms_gradient():
  by_layer, _ = norm_and_formula(jnp.bfloat16)
  x = jax.ShapeDtypeStruct((2, 3, 64), jnp.bfloat16)
  scale = jax.ShapeDtypeStruct((64,), jnp.float32)
  backward = jax.eval_shape(lambda *args: jax.vjp(by_layer, *args)[1], x, scale)
  kept = [k for k in jax.tree.leaves(backward) if k.shape == x.shape]
  # The other one is the test's own: its weights.
  assert sorted(str(k.dtype) for k in kept) == ['bfloat16', 'float32']


def test_gated_activations_multiply():
  x = random_array(1, 2, 4)
  params = {
    name: {'kernel': random_array(*shape, seed=i)}
    for i, (name, shape) in enumerate(
      {'wi_0': (4, 6), 'wi_1': (4, 6), 'wo': (6, 4)}.items()
    )
  }
  found = layers.MlpBlock(6, ('gelu', 'linear')).apply(
    {'params': params}, x, deterministic=True
  )
  gate, up, down = (params[n]['kernel'] for n in ('wi_0', 'wi_1', 'wo'))
  gated = jax.nn.gelu(x @ gate, approximate=True) * (x @ up)
  np.testing.assert_allclose(found, gated @ down, rtol=1e-4, atol=1e-5)
  # As T5X has it, for networks of one's own.
  assert layers.MlpBlock().intermediate_dropout_rate == 0.1
  assert layers.MlpBlock().intermediate_dim == 2048


def test_positions_of_a_row_or_group_share_what_a_block_drops():
  block = layers.MlpBlock(64, ('linear',), intermediate_dropout_rate=0.5)
  x = jnp.ones((2, 3, 8))
  init = functools.partial(block.init, deterministic=True)
  variables = jax.jit(init)(jax.random.key(0), x)
  # Drops by default.
  apply = jax.jit(
    functools.partial(block.apply, rngs={'dropout': jax.random.key(1)})
  )
  for groups, last in ((None, True), (jnp.array([[1, 1, 2]]), False)):
    y = np.asarray(apply(variables, x, dropout_groups=groups))
    assert np.allclose(y[:, 0], y[:, 1], rtol=1e-5)
    assert np.allclose(y[:, 0], y[:, 2], rtol=1e-5) == last
    assert not np.allclose(y[0], y[1])
    assert np.abs(y).min(axis=-1).all()


def test_embedding_by_gather_and_by_product_agree():
  table = random_array(7, 4)
  ids = np.array([[0, 6, 3]])
  for one_hot in (False, True):
    found = layers.Embed(7, 4, one_hot=one_hot).apply(
      {'params': {'embedding': table}}, ids
    )
    np.testing.assert_array_equal(found, table[ids])
    half = layers.Embed(7, 4, one_hot=one_hot, dtype=jnp.bfloat16)
    assert half.apply({'params': {'embedding': table}}, ids).dtype == half.dtype
  with pytest.raises(ValueError, match='set cast_input_dtype'):
    layers.Embed(7, 4).init(jax.random.key(0), ids.astype(np.float32))
  layers.Embed(7, 4, cast_input_dtype=jnp.int32).init(
    jax.random.key(0), ids.astype(np.float32)
  )


def test_logits_of_bfloat16_operands_are_summed_in_float32():
  x, kernel = random_array(3, 512), random_array(512, 9, seed=1)
  rounded = [jnp.asarray(a, jnp.bfloat16) for a in (x, kernel)]
  exact = np.matmul(*(np.asarray(a, np.float64) for a in rounded))
  found = layers.DenseGeneral(9, dtype=jnp.bfloat16, float32_output=True).apply(
    {'params': {'kernel': kernel}}, x
  )
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-3)
  attended = layers.Embed(
    9, 512, dtype=jnp.bfloat16, attend_dtype=jnp.float32
  ).apply({'params': {'embedding': kernel.T}}, x, method=layers.Embed.attend)
  np.testing.assert_array_equal(attended, found)
  half = layers.Embed(9, 512, dtype=jnp.bfloat16).apply(
    {'params': {'embedding': kernel.T}}, x, method=layers.Embed.attend
  )
  assert half.dtype == jnp.bfloat16


def test_gradient_of_the_float32_product_is_that_of_a_product():
  x, kernel = random_array(2, 3, 5), random_array(5, 7, seed=1)
  weights = random_array(2, 3, 7, seed=2)
  layer = layers.DenseGeneral(7, float32_output=True)

  def loss(x, kernel):
    return jnp.sum(weights * layer.apply({'params': {'kernel': kernel}}, x))

  def plain(x, kernel):
    return jnp.sum(weights * (x @ kernel))

  for found, expected in zip(
    jax.grad(loss, (0, 1))(x, kernel),
    jax.grad(plain, (0, 1))(x, kernel),
    strict=True,
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_float32_products_gradient_is_summed_in_float32():
  x = jnp.asarray(random_array(4, 5), jnp.bfloat16)
  kernel, cotangent = random_array(5, 7, seed=1), random_array(4, 7, seed=2)
  _, backward = jax.vjp(dense.float32_product, x, kernel)
  grad_x, grad_kernel = backward(jnp.asarray(cotangent))
  # Of bfloat16 operands, not of bfloat16 precision.
  rounded = np.asarray(jnp.asarray(cotangent, jnp.bfloat16), np.float32)
  np.testing.assert_allclose(
    grad_kernel, np.asarray(x, np.float32).T @ rounded, rtol=1e-5, atol=1e-5
  )
  assert (grad_x.dtype, grad_kernel.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize(('platform', 'held'), [('cpu', True), ('cuda', False)])
def test_operands_are_finished_before_a_gradients_product_on_a_cpu(
  platform, held
):
  grad = jax.jit(jax.grad(lambda x, y: jnp.sum(dense.product(x, y)), (0, 1)))
  traced = grad.trace(random_array(3, 4), random_array(4, 5))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert ('optimization_barrier' in text) is held


def test_dense_contracts_the_last_axes_only():
  x = jnp.ones((2, 3, 4, 5))
  dense = layers.DenseGeneral(6, axis=(-2, -1))
  variables = dense.init(jax.random.key(0), x)
  assert variables['params']['kernel'].shape == (20, 6)
  assert dense.apply(variables, x).shape == (2, 3, 6)
  with pytest.raises(ValueError, match='move the contracted axes to the end'):
    layers.DenseGeneral(6, axis=(1,)).init(jax.random.key(0), x)
  with pytest.raises(ValueError, match='move the contracted axes to the end'):
    layers.DenseGeneral(6, axis=(-1, -2)).init(jax.random.key(0), x)


@pytest.mark.parametrize('gathers', [False, True])
def test_a_kernel_is_gathered_before_its_products_if_a_rule_says_so(gathers):
  layer = layers.DenseGeneral(6, kernel_axes=('embed', 'mlp'))
  x = jnp.ones((8, 3, 4))
  params = layer.init(jax.random.key(0), x)
  partitioner = partitioning.PjitPartitioner(
    num_partitions=2,
    logical_axis_rules=partitioning.standard_logical_axis_rules(
      parameter_partitioning_dims=2, gather_kernels=gathers
    ),
  )
  partitioned = partitioner.partition(layer.apply, (None, None), None)
  program = partitioned.lower({'params': params['params']}, x).as_text()
  # Split over 'model' alone.
  layout = r'sharding_constraint %\d+ <@mesh, \[\{\}, \{"model"\}\]>'
  assert len(re.findall(layout, program)) == gathers


def test_tables_are_drawn_by_the_length_of_their_rows():
  embed = layers.Embed(500, 64)
  params = embed.init(jax.random.key(0), jnp.ones((1, 2), jnp.int32))['params']
  assert float(jnp.std(params['embedding'])) == pytest.approx(1 / 8, rel=0.05)
  biases = layers.RelativePositionBiases(256, 128, 40, jnp.float32)
  params = biases.init(jax.random.key(0), 2, 2)['params']
  found = float(jnp.std(params['rel_embedding']))
  assert found == pytest.approx(1 / 16, rel=0.05)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_product_has_the_gradients_of_a_matrix_product(dtype):
  keys = jax.random.split(jax.random.key(0), 3)
  shapes = (3, 5, 8), (8, 6), (3, 5, 6)
  x, kernel, weights = (
    jax.random.normal(key, shape, dtype)
    for key, shape in zip(keys, shapes, strict=True)
  )

  def total(product, x, kernel):
    return jnp.sum((product(jnp.tanh(x), kernel) * weights).astype(jnp.float32))

  found, expected = (
    jax.jit(jax.grad(lambda *args, f=f: total(f, *args), argnums=(0, 1)))(
      x, kernel
    )
    for f in (dense.product, jnp.matmul)
  )
  for one, other in zip(found, expected, strict=True):
    assert one.dtype == dtype
    np.testing.assert_allclose(
      np.float32(one),
      np.float32(other),
      rtol=1e-5 if dtype == 'float32' else 0.05,
      atol=1e-5 if dtype == 'float32' else 0.05,
    )


def test_initial_scales_are_those_of_t5():
  layer = layers.MultiHeadDotProductAttention(8, 16)
  x = jnp.ones((1, 2, 64))
  params = layer.init(jax.random.key(0), x, x)['params']
  key, query, out = (
    float(jnp.std(params[n]['kernel'])) for n in ('key', 'query', 'out')
  )
  assert key == pytest.approx(64**-0.5, rel=0.05)
  assert query == pytest.approx(64**-0.5 / 16**0.5, rel=0.05)
  assert out == pytest.approx(128**-0.5, rel=0.05)


def test_another_initializer_draws_all_kernels():
  ones, x = jax.nn.initializers.ones, jnp.ones((1, 2, 6))
  layer = layers.MultiHeadDotProductAttention(2, 4, kernel_init=ones)
  params = jax.jit(layer.init)(jax.random.key(0), x, x)['params']
  # The queries' are smaller by the root of the size of a head.
  found = {name: np.unique(leaf['kernel']) for name, leaf in params.items()}
  assert found == {'query': 0.5, 'key': 1, 'value': 1, 'out': 1}
  block = layers.MlpBlock(8, ('gelu', 'linear'), kernel_init=ones)
  init = functools.partial(block.init, deterministic=True)
  params = jax.jit(init)(jax.random.key(0), x)['params']
  assert set(params) == {'wi_0', 'wi_1', 'wo'}
  assert all(np.all(leaf['kernel'] == 1) for leaf in params.values())
