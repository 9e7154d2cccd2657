"""Attention: its numbers, gradients, dropout and masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import errors
from t5x.examples.t5 import attention, blocks, layers, network


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


def test_operands_that_do_not_fit_are_refused():
  query, key, value, _, _ = attention_inputs()
  for operands in (
    (query[0], key, value),
    (query[None], key, value),
    (query, key, value[:, :4]),
    (query, key[:, :4], value),
    (query[0], key[0], value),
    (query, key[0], value[0]),
    (query, key[None], value[None]),
  ):
    with pytest.raises(ValueError, match=r'expected query \[B, Q, H, K\]'):
      layers.dot_product_attention(*operands)


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
    if not float32_logits:
      by_default = layers.dot_product_attention(
        query, key, value, bias, mask=mask, dtype=jnp.bfloat16
      )
      np.testing.assert_array_equal(by_default, found)
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


def values_and_gradients(attend, dtype=jnp.float32, lengths=(6, 8), size=8):
  q, k = lengths
  *arrays, mask = attention_inputs(q=q, k=k, size=size)
  arrays[0] /= np.sqrt(size)
  arrays = [jnp.asarray(x, dtype) for x in arrays]
  weights = random_array(*arrays[0].shape, seed=5)

  def loss(*arrays):
    attended = attend(*arrays, mask)
    return jnp.sum(weights * attended), attended

  grads, attended = jax.jit(jax.grad(loss, (0, 1, 2, 3), has_aux=True))(*arrays)
  return [np.asarray(x, np.float32) for x in (attended, *grads)]


def our_attention(query, key, value, bias, mask):
  return layers.dot_product_attention(
    *(query, key, value, bias),
    deterministic=True,
    mask=mask,
    dtype=query.dtype,
  )


def test_what_one_kernel_is_asked_for_is_the_same_attention():
  # Its formula, computed by JAX: the kernel itself needs a GPU.
  formula = functools.partial(
    attention._attend_in_one_kernel, dtype=jnp.float32, implementation='xla'
  )
  ours, found = map(values_and_gradients, (our_attention, formula))
  for a, b in zip(ours, found, strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() != 'gpu', reason='needs a GPU')
@pytest.mark.parametrize('lengths', [(256, 256), (96, 256), (6, 8)])
def test_one_kernel_of_a_gpu_gives_the_same_attention(lengths):
  kernel = functools.partial(
    attention._attend_in_one_kernel, dtype=jnp.bfloat16
  )
  exact = values_and_gradients(our_attention, lengths=lengths, size=64)
  found = values_and_gradients(kernel, jnp.bfloat16, lengths, size=64)
  for a, b in zip(exact, found, strict=True):
    assert np.linalg.norm(a - b) < 0.02 * np.linalg.norm(a)


def test_one_kernel_is_refused_where_it_cannot_run():
  config = network.T5Config(
    vocab_size=8, dtype='bfloat16', attention_kernel='cudnn'
  )
  assert blocks._attention(config).kernel == 'cudnn'
  layer, variables = identity_attention(2, dtype=jnp.bfloat16, kernel='cudnn')
  x = jnp.ones((1, 2, 2))
  if jax.default_backend() != 'gpu':
    with pytest.raises(errors.UserError, match=r"NVIDIA, found '.*cudnn"):
      layer.apply(variables, x, x, deterministic=True)
  odd = jnp.ones((1, 3, 2))
  for array in ('bias', 'mask'):
    with pytest.raises(errors.UserError, match='found 2 queries and 3 keys'):
      layer.apply(variables, x, odd, **{array: jnp.ones((1, 1, 2, 3))})
  with pytest.raises(errors.UserError, match="'float16', found 'float32'"):
    network.T5Config(vocab_size=8, attention_kernel='cudnn')
  with pytest.raises(errors.UserError, match=r"attention_kernel: .*'flash'"):
    network.T5Config(vocab_size=8, attention_kernel='flash')


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


@pytest.mark.parametrize('axes', [(0, 1, 2), (0,), ()])
def test_attentions_own_gradients_are_those_of_its_operations(axes):
  query, key, value, bias, mask = attention_inputs()
  mask[0, :, 1] = False  # A query that may see nothing.
  shape = [1 if axis in axes else n for axis, n in enumerate((2, 3, 4, 5))]
  bias = random_array(*shape, seed=3)
  weights = random_array(*query.shape, seed=5)

  def own(query, key, value, bias):
    return layers.dot_product_attention(
      query, key, value, bias, deterministic=True, mask=mask
    )

  def plain(query, key, value, bias):
    logits = jnp.einsum('bqhd,bkhd->bhqk', query, key) + bias
    shares = jax.nn.softmax(jnp.where(mask, logits, -1e10))
    return jnp.einsum('bhqk,bkhd->bqhd', shares, value)

  found, expected = (
    jax.grad(lambda *args, f=f: jnp.sum(weights * f(*args)), (0, 1, 2, 3))(
      query, key, value, bias
    )
    for f in (own, plain)
  )
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('shape', [(3, 4, 5), (4, 5), (5,), (3, 1, 1)])
def test_a_bias_of_fewer_axes_has_its_gradient(shape):
  query, key, value, _, mask = attention_inputs()
  bias = random_array(*shape, seed=3)
  along = random_array(*query.shape, seed=4)

  def total(bias):
    found = layers.dot_product_attention(query, key, value, bias, mask=mask)
    return jnp.sum(along * found)

  found = jax.grad(total)(bias)
  whole = jax.grad(total)(jnp.broadcast_to(bias, (1, 3, 4, 5)))
  assert found.shape == shape
  axes = [
    n
    for n, (a, b) in enumerate(
      zip((1,) * (4 - len(shape)) + shape, (1, 3, 4, 5), strict=True)
    )
    if a != b
  ]
  expected = np.sum(whole, tuple(axes)).reshape(shape)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_differences_of_bfloat16_values_are_taken_in_float32():
  # Of the sums 257 and 255, bfloat16 has the second only. Their mean is 256.
  value = jnp.array([[256.0, 1.0], [256.0, -1.0]])[None, :, None]
  query, key = jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 2, 1, 2))

  def total(bias):
    found = layers.dot_product_attention(
      query, key, value, bias, dtype=jnp.bfloat16
    )
    return jnp.sum(found.astype(jnp.float32))

  grad = jax.jit(jax.grad(total))(jnp.zeros((1, 1, 1, 2)))
  assert grad.ravel().tolist() == [0.5, -0.5]


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
  for shape in ((3, 1, 1, 5), (3, 1, 2, 5), (6, 1, 1, 5), (6, 1, 2, 5)):
    given_mask = np.repeat(mask, shape[0] // 3, 0)[:, None, None]
    found = apply(
      variables,
      queries,
      keys,
      np.broadcast_to(given_mask, shape),
      random_array(1, 2, 2, 5, seed=2),
    )
    np.testing.assert_allclose(found, repeated, rtol=1e-5, atol=1e-6)
  # Two rows of queries of one row of keys, each with a mask of its own.
  mask = mask[:2, None, None]
  found = apply(variables, queries[:2], keys[:1], mask)
  repeated = apply(variables, queries[:2], np.repeat(keys[:1], 2, 0), mask)
  np.testing.assert_allclose(found, repeated, rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match='expected the batch of the keys to div'):
    layer.apply(variables, queries[:4], keys)


@pytest.mark.parametrize(
  'shape',
  [(1, 1, 2, 5), (1, 2, 2, 1), (1, 2, 1, 1), (3, 1, 2, 1), (6, 1, 1, 1)],
)
def test_masks_and_biases_are_grouped_as_the_queries_are(shape):
  # Six rows of two queries, of which two each share a row of keys.
  x = random_array(*shape)
  rows = np.repeat(x, 2, 0) if shape[0] == 3 else x
  heads, keys = shape[1], shape[3]
  rows = np.broadcast_to(rows, (6, heads, 2, keys))
  grouped = rows.reshape(3, 2, heads, 2, keys).swapaxes(1, 2)
  expected = grouped.reshape(3, heads, 4, keys)
  found = attention._group_rows(x, 6, 2, 2)
  np.testing.assert_array_equal(
    np.broadcast_to(found, expected.shape), expected
  )


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
  # More rows, fewer, and more positions.
  for shape in ((4, 1, 8), (1, 1, 8), (2, 6, 8)):
    with pytest.raises(ValueError, match='one row for each decode'):
      y = jnp.ones(shape)
      layer.apply(variables, y, y, decode=True, mutable=['cache'])


def test_a_cache_can_be_filled_at_once():
  layer, variables = identity_attention(8)
  x = random_array(2, 4, 8)
  decode = functools.partial(
    layer.apply, decode=True, deterministic=True, mutable=['cache']
  )
  _, made = decode(variables, x, x)
  found, _ = decode({**variables, **made}, x, x)
  expected = layer.apply(
    variables, x, x, layers.make_causal_mask(x[..., 0]), deterministic=True
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_what_is_projected_beforehand_is_not_read_again():
  layer, variables = identity_attention(8)
  x, queries = random_array(2, 4, 8), random_array(2, 3, 8, seed=1)
  _, made = layer.apply(
    variables, x, method=layer.cache_encoded, mutable=['encoded_cache']
  )
  for name in ('key', 'value'):
    np.testing.assert_array_equal(
      made['encoded_cache'][name], np.moveaxis(x[:, :, None], 1, -1)
    )
  found, expected = (
    layer.apply(known, queries, keys, deterministic=True)
    for known, keys in (
      ({**variables, **made}, np.zeros_like(x)),
      (variables, x),
    )
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
