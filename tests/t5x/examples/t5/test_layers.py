"""Tests of t5x.examples.t5.layers and the modules behind it."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x.examples.t5 import attention, blocks, dense, layers, network


def random_array(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def reference_attention(query, key, value, bias, mask):
  logits = np.einsum('bqhd,bkhd->bhqk', query, key) + bias
  logits = np.where(mask, logits, -np.inf)
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  return np.einsum('bhqk,bkhd->bqhd', weights, value)


def attention_inputs(batch=2, q=4, k=5, heads=3, size=8):
  query = random_array(batch, q, heads, size)
  key = random_array(batch, k, heads, size, seed=1)
  value = random_array(batch, k, heads, size, seed=2)
  bias = random_array(1, heads, q, k, seed=3)
  mask = random_array(batch, 1, q, k, seed=4) > -0.5
  mask[..., 0] = True
  return query, key, value, bias, mask


def test_attention_is_an_unscaled_softmax_of_logits_bias_and_mask():
  query, key, value, bias, mask = attention_inputs()
  found = layers.dot_product_attention(
    query, key, value, bias, deterministic=True, mask=mask
  )
  expected = reference_attention(query, key, value, bias, mask)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_query_that_may_see_nothing_gets_the_mean_and_no_nan():
  query, key, value, bias, _ = attention_inputs()
  found = layers.dot_product_attention(
    query, key, value, bias, deterministic=True, mask=np.zeros((2, 1, 4, 5))
  )
  expected = np.broadcast_to(value.mean(1, keepdims=True), found.shape)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_float32_logits_beat_bfloat16_logits():
  query, key, value, bias, mask = attention_inputs()
  exact = reference_attention(query, key, value, bias, mask)
  distance = {}
  for float32_logits in (False, True):
    found = layers.dot_product_attention(
      query,
      key,
      value,
      bias,
      deterministic=True,
      mask=mask,
      dtype=jnp.bfloat16,
      float32_logits=float32_logits,
    )
    assert found.dtype == jnp.bfloat16
    distance[float32_logits] = np.abs(found.astype(jnp.float32) - exact).mean()
  assert distance[True] < distance[False] < 0.1


def identity_attention(size, **options):
  """One head whose projections change nothing, and its variables."""
  layer = layers.MultiHeadDotProductAttention(1, size, **options)
  names = ('query', 'key', 'value', 'out')
  params = {name: {'kernel': jnp.eye(size)} for name in names}
  return layer, {'params': params}


def test_the_module_computes_float32_logits_where_asked():
  query = jnp.array([[[16.0, 1.0]]])
  keys = jnp.array([[[16.0, 0.0], [16.0, 1.0]]])
  # The logits are 256 and 257, of which bfloat16 has the first only.
  for float32_logits, weight in (
    (True, 1 / (1 + np.exp(-1))),
    (False, 0.5),
  ):
    layer, variables = identity_attention(
      2, dtype=jnp.bfloat16, float32_logits=float32_logits
    )
    found = layer.apply(variables, query, keys, deterministic=True)
    assert found.dtype == jnp.bfloat16
    assert float(found[0, 0, 1]) == pytest.approx(weight, abs=0.004)
    config = network.T5Config(
      vocab_size=8, float32_attention_logits=float32_logits
    )
    assert blocks._attention(config).float32_logits == float32_logits
  layer, variables = identity_attention(2, dtype=jnp.bfloat16)
  found = layer.apply(variables, query, keys, deterministic=True)
  assert float(found[0, 0, 1]) == pytest.approx(0.5, abs=0.004)


def test_attention_has_the_gradients_of_its_formula():
  query, key, value, bias, mask = attention_inputs()
  weights = random_array(*query.shape, seed=5)

  def loss(query, key, value, bias):
    found = layers.dot_product_attention(
      query, key, value, bias, deterministic=True, mask=mask
    )
    return jnp.sum(weights * found)

  def step(argument, delta):
    args = [query, key, value, bias]
    args = [np.asarray(x, np.float64) for x in args]
    args[argument] = args[argument] + delta
    return np.sum(weights * reference_attention(*args, mask))

  grads = jax.grad(loss, (0, 1, 2, 3))(query, key, value, bias)
  for argument, grad in enumerate(grads):
    # Along random directions, by central differences in float64.
    for seed in range(3):
      along = random_array(*grad.shape, seed=10 + seed).astype(np.float64)
      slope = step(argument, 1e-5 * along) - step(argument, -1e-5 * along)
      np.testing.assert_allclose(
        np.sum(along * grad), slope / 2e-5, rtol=1e-3, atol=1e-3
      )


def test_attention_drops_while_it_is_trained_alone():
  x = random_array(2, 5, 8)

  def attended(rate, deterministic):
    layer = layers.MultiHeadDotProductAttention(2, 4, dropout_rate=rate)
    rngs = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}
    y, _ = layer.init_with_output(rngs, x, x, deterministic=deterministic)
    return y

  whole = attended(0.5, True)
  np.testing.assert_array_equal(whole, attended(0.0, False))
  assert not np.allclose(whole, attended(0.5, False))


def test_attention_dropout_drops_whole_keys_of_a_head():
  _, _, value, _, _ = attention_inputs(batch=1, k=5)
  query = np.zeros((1, 4, 3, 8), np.float32)
  key = np.zeros_like(value)
  kept = set()
  for seed in range(8):
    # Equal weights over one-hot values show which keys were dropped.
    eye = np.broadcast_to(np.eye(5, 8)[None, :, None], value.shape)
    found = layers.dot_product_attention(
      query,
      key,
      eye.astype(np.float32),
      dropout_rng=jax.random.key(seed),
      dropout_rate=0.5,
    )[..., :5]
    assert np.all(np.ptp(found, axis=1) == 0)
    kept |= set((np.ravel(found) * 5).round(4).tolist())
  # A fifth of the weight each, doubled where it is kept.
  assert kept == {0.0, 2.0}
  # All numbers of a key at once, but for each head and row by itself.
  found = layers.dot_product_attention(
    np.zeros((4, 1, 3, 8), np.float32),
    np.zeros((4, 9, 3, 8), np.float32),
    np.ones((4, 9, 3, 8), np.float32),
    dropout_rng=jax.random.key(0),
    dropout_rate=0.5,
  )
  np.testing.assert_array_equal(np.ptp(found, axis=-1), 0.0)
  assert np.all(np.ptp(found, axis=0) > 0)
  assert np.all(np.ptp(found, axis=2) > 0)
  with pytest.raises(ValueError, match='needs a dropout_rng'):
    layers.dot_product_attention(query, key, value, dropout_rate=0.5)


@pytest.mark.parametrize('kv_axes', ['bkhd', 'bhdk'])
def test_dropped_keys_are_dropped_in_either_order_of_axes(kv_axes):
  sizes = {'b': 2, 'k': 5, 'h': 3, 'd': 4}
  found = np.asarray(
    attention._drop_keys(
      jnp.ones([sizes[axis] for axis in kv_axes]),
      jax.random.key(0),
      0.75,
      kv_axes,
    )
  )
  assert set(np.unique(found)) == {0.0, 4.0}
  for axis, name in enumerate(kv_axes):
    assert np.any(np.ptp(found, axis=axis)) == (name != 'd')


def test_dropout_that_is_off_adds_no_operation():
  layer = layers.MultiHeadDotProductAttention(2, 4, dropout_rate=0.0)
  mlp = layers.MlpBlock(8, intermediate_dropout_rate=0.0)
  x = jnp.ones((1, 3, 6))
  for module, inputs in ((layer, (x, x)), (mlp, (x,))):
    variables = module.init(jax.random.key(0), *inputs)
    rngs = {'dropout': jax.random.key(1)}
    on, off = (
      jax.jit(functools.partial(module.apply, deterministic=flag))
      .lower(variables, *inputs, rngs=rngs)
      .as_text()
      for flag in (False, True)
    )
    assert on == off


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


def test_embedding_by_gather_and_by_product_agree():
  table = random_array(7, 4)
  ids = np.array([[0, 6, 3]])
  for one_hot in (False, True):
    found = layers.Embed(7, 4, one_hot=one_hot).apply(
      {'params': {'embedding': table}}, ids
    )
    np.testing.assert_array_equal(found, table[ids])
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


def test_dense_contracts_the_last_axes_only():
  x = jnp.ones((2, 3, 4, 5))
  dense = layers.DenseGeneral(6, axis=(-2, -1))
  variables = dense.init(jax.random.key(0), x)
  assert variables['params']['kernel'].shape == (20, 6)
  assert dense.apply(variables, x).shape == (2, 3, 6)
  with pytest.raises(ValueError, match='move the contracted axes to the end'):
    layers.DenseGeneral(6, axis=(1,)).init(jax.random.key(0), x)


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


def test_tables_are_drawn_by_the_length_of_their_rows():
  embed = layers.Embed(500, 64)
  params = embed.init(jax.random.key(0), jnp.ones((1, 2), jnp.int32))['params']
  assert float(jnp.std(params['embedding'])) == pytest.approx(1 / 8, rel=0.05)
  biases = layers.RelativePositionBiases(256, 128, 40, jnp.float32)
  params = biases.init(jax.random.key(0), 2, 2)['params']
  found = float(jnp.std(params['rel_embedding']))
  assert found == pytest.approx(1 / 16, rel=0.05)


def test_keys_serve_groups_of_queries_as_if_repeated():
  layer = layers.MultiHeadDotProductAttention(2, 4)
  queries, keys = random_array(6, 2, 8), random_array(3, 5, 8, seed=1)
  variables = layer.init(jax.random.key(0), queries[:3], keys)
  apply = jax.jit(functools.partial(layer.apply, deterministic=True))
  mask = np.arange(5)[None] < np.array([[5], [2], [3]])
  repeated = apply(
    variables,
    queries,
    np.repeat(keys, 2, 0),
    np.repeat(mask, 2, 0)[:, None, None],
    random_array(1, 2, 2, 5, seed=2),
  )
  for shape in ((3, 1, 1, 5), (6, 1, 1, 5), (6, 1, 2, 5)):
    given_mask = np.repeat(mask, shape[0] // 3, 0)[:, None, None]
    found = apply(
      variables,
      queries,
      keys,
      np.broadcast_to(given_mask, shape),
      random_array(1, 2, 2, 5, seed=2),
    )
    np.testing.assert_allclose(found, repeated, rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match='expected the batch of the keys to div'):
    layer.apply(variables, queries[:4], keys)


def test_a_mask_counts_beside_the_cache():
  layer, variables = identity_attention(8)
  x = random_array(2, 4, 8)
  seen = np.array([[1, 1, 0, 1], [1, 0, 1, 1]])[:, None, None]
  _, made = layer.apply(variables, x, x, decode=True, mutable=['cache'])
  found = []
  for t in range(4):
    here = x[:, t : t + 1]
    y, made = layer.apply(
      {**variables, **made},
      here,
      here,
      seen,
      decode=True,
      deterministic=True,
      mutable=['cache'],
    )
    found.append(y)
  causal = np.tril(np.ones((4, 4)))[None, None]
  expected = reference_attention(
    *[x[:, :, None]] * 3, np.zeros((2, 1, 4, 4)), (seen * causal) > 0
  )[:, :, 0]
  np.testing.assert_allclose(
    np.concatenate(found, axis=1), expected, rtol=1e-4, atol=1e-5
  )


def test_a_cache_of_another_batch_is_refused():
  layer = layers.MultiHeadDotProductAttention(2, 4)
  x = jnp.ones((2, 5, 8))
  variables = layer.init(jax.random.key(0), x, x, decode=True)
  assert variables['cache']['cached_key'].shape == (2, 2, 4, 5)
  with pytest.raises(ValueError, match='one row for each decode'):
    y = jnp.ones((4, 1, 8))
    layer.apply(variables, y, y, decode=True, mutable=['cache'])


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
