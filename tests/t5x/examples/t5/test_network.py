"""Tests of t5x.examples.t5.network."""

import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from t5x import losses
from t5x.examples.t5 import blocks, network
from tests import golden_data
from tests.t5x import tiny_model

NAMES = ['t5x_1_1', 't5x_1_0']
TOKENS = (
  'encoder_input_tokens',
  'decoder_input_tokens',
  'decoder_target_tokens',
)
PACKING = (
  'encoder_segment_ids',
  'decoder_segment_ids',
  'encoder_positions',
  'decoder_positions',
)


# Fewer layers compile faster; the parameters of the others are not read.
SHALLOW = dict(num_encoder_layers=1, num_decoder_layers=2)


def make_module(name, **changes):
  kwargs = {**golden_data.load(name).config_kwargs, **changes}
  return network.Transformer(network.T5Config(**kwargs))


@functools.cache
def logits_fn(name, packed):
  module = make_module(name)

  def run(params, batch):
    return module.apply(
      {'params': params},
      *(batch[k] for k in TOKENS + (PACKING if packed else ())),
      enable_dropout=False,
    )

  return jax.jit(run)


def relative_error(found, expected):
  return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


@pytest.mark.parametrize('name', NAMES)
def test_logits_equal_t5x(name):
  golden = golden_data.load(name)
  found = logits_fn(name, False)(golden.params, golden.batch)
  assert found.dtype == jnp.float32
  assert relative_error(found, golden.logits) < 1e-5


@pytest.mark.parametrize('name', NAMES)
def test_logits_of_packed_rows_equal_t5x(name):
  golden = golden_data.load(name)
  found = logits_fn(name, True)(golden.params, golden.batch_packed)
  assert relative_error(found, golden.logits_packed) < 1e-5


def test_packed_examples_have_the_logits_of_unpacked_ones():
  golden = golden_data.load('t5x_1_1')
  plain = np.asarray(logits_fn('t5x_1_1', False)(golden.params, golden.batch))
  packed = np.asarray(
    logits_fn('t5x_1_1', True)(golden.params, golden.batch_packed)
  )
  segments = golden.batch_packed['decoder_segment_ids']
  for example in range(6):
    here = segments[example // 2] == example % 2 + 1
    expected = plain[example, : here.sum()]
    assert relative_error(packed[example // 2][here], expected) < 1e-5


@pytest.mark.parametrize('name', NAMES)
def test_parameter_names_shapes_and_axes_equal_t5x(name):
  facts = golden_data.load(name).facts
  module = make_module(name)
  tokens = jnp.ones((2, 4), jnp.int32)
  variables = jax.eval_shape(
    lambda key: module.init(key, tokens, tokens, tokens, enable_dropout=False),
    jax.random.key(0),
  )
  shapes = traverse_util.flatten_dict(variables['params'], sep='/')
  axes = traverse_util.flatten_dict(variables['params_axes'], sep='/')
  assert {k: list(v.shape) for k, v in shapes.items()} == facts['param_shapes']
  assert {k: list(v.names) for k, v in axes.items()} == facts['param_axes']
  assert {v.dtype for v in shapes.values()} == {jnp.dtype('float32')}


def test_a_position_has_no_gradient_from_later_inputs():
  golden = golden_data.load('t5x_1_1')
  module = make_module('t5x_1_1', vocab_size=64, **SHALLOW)
  length, position = 8, 4
  # One token each, so that a row of the embedding is one input position.
  encoder_tokens = jnp.array([[40, 41, 42]])
  decoder_tokens = jnp.arange(1, length + 1)[None]

  def logit(params):
    logits = module.apply(
      {'params': params},
      encoder_tokens,
      decoder_tokens,
      jnp.ones_like(decoder_tokens),
      enable_dropout=False,
    )
    return jnp.sum(logits[0, position] ** 2)

  params = {
    **golden.params,
    'token_embedder': {
      'embedding': golden.params['token_embedder']['embedding'][:64]
    },
  }
  params['decoder'] = {
    **params['decoder'],
    'logits_dense': {
      'kernel': params['decoder']['logits_dense']['kernel'][:, :64]
    },
  }
  grad = jax.jit(jax.grad(logit))(params)['token_embedder']['embedding']
  per_position = np.abs(grad[1 : length + 1]).sum(-1)
  assert np.all(per_position[: position + 1] > 0)
  assert np.all(per_position[position + 1 :] == 0)


@pytest.mark.parametrize('name', NAMES)
def test_cached_decoding_equals_the_full_pass_position_by_position(name):
  golden = golden_data.load(name)
  module = make_module(name, **SHALLOW)
  variables = {'params': golden.params}
  tokens, inputs = (golden.batch[k] for k in TOKENS[:2])

  @jax.jit
  def run():
    encoded = module.apply(
      variables, tokens, enable_dropout=False, method=module.encode
    )
    _, made = module.apply(
      variables,
      tokens,
      inputs,
      inputs,
      enable_dropout=False,
      decode=True,
      mutable=['cache'],
    )
    _, projected = module.apply(
      variables,
      encoded,
      method=module.cache_encoded,
      mutable=['encoded_cache'],
    )

    def decode(known, cache, part):
      # What is projected beforehand is all that is known of the inputs.
      given = jnp.zeros_like(encoded) if known is projected else encoded
      logits, new = module.apply(
        {**variables, **known, 'cache': cache},
        given,
        tokens,
        part,
        part,
        enable_dropout=False,
        decode=True,
        max_decode_length=inputs.shape[1],
        mutable=['cache'],
        method=module.decode,
      )
      return new['cache'], logits

    full = module.apply(
      variables, tokens, inputs, jnp.ones_like(inputs), enable_dropout=False
    )
    _, stepwise = jax.lax.scan(
      lambda cache, token: decode(variables, cache, token[:, None]),
      made['cache'],
      inputs.T,
    )
    # Three positions at once, then the rest: a prompt can be read in one go.
    cache, first = decode(projected, made['cache'], inputs[:, :3])
    _, rest = decode(projected, cache, inputs[:, 3:])
    stepwise = jnp.moveaxis(stepwise[:, :, 0], 0, 1)
    return full, stepwise, jnp.concatenate([first, rest], axis=1)

  full, stepwise, chunked = run()
  assert relative_error(stepwise, full) < 1e-5
  assert relative_error(chunked, full) < 1e-5


def cache_shapes(module, length):
  """The cache for decoding one row, without its numbers."""
  tokens = jnp.ones((1, length), jnp.int32)
  return jax.eval_shape(
    lambda: module.init(
      jax.random.key(0),
      tokens,
      tokens,
      tokens,
      enable_dropout=False,
      decode=True,
    )
  )


def step_fn(module, length):
  """One decoding step of one row, as a function of the variables."""
  tokens = jnp.ones((1, length), jnp.int32)

  def step(variables, **kwargs):
    return module.apply(
      variables,
      jnp.ones((1, length, 48)),
      tokens,
      tokens[:, :1],
      tokens[:, :1],
      enable_dropout=False,
      decode=True,
      mutable=['cache'],
      method=module.decode,
      **kwargs,
    )

  return step


def test_a_decoding_step_computes_the_biases_of_that_step_only():
  module, length = make_module('t5x_1_1'), 23
  variables = cache_shapes(module, length)
  text = str(jax.make_jaxpr(step_fn(module, length))(variables))
  assert f',{length}]' in text
  assert f'{length},{length}' not in text


def test_decoding_refuses_a_wrong_length_and_packed_rows():
  module = make_module('t5x_1_1', **SHALLOW)
  variables, step = cache_shapes(module, 5), step_fn(module, 5)
  with pytest.raises(ValueError, match='max_decode_length: expected 5'):
    jax.eval_shape(functools.partial(step, max_decode_length=9), variables)
  segments = jnp.ones((1, 1), jnp.int32)
  with pytest.raises(ValueError, match='decode unpacked rows'):
    jax.eval_shape(
      functools.partial(step, decoder_segment_ids=segments), variables
    )


def test_dropout_of_rate_zero_adds_no_operation_and_else_changes_the_logits():
  golden = golden_data.load('t5x_1_1')
  args = ({'params': golden.params}, *(golden.batch[k] for k in TOKENS))
  rngs = {'dropout': jax.random.key(1)}

  def run(module, enable_dropout):
    return jax.jit(
      functools.partial(module.apply, enable_dropout=enable_dropout)
    )

  without = make_module('t5x_1_1', **SHALLOW)
  on, off = (
    run(without, flag).lower(*args, rngs=rngs).as_text()
    for flag in (True, False)
  )
  assert on == off
  dropped = run(make_module('t5x_1_1', dropout_rate=0.3), True)(
    *args, rngs=rngs
  )
  assert np.all(np.isfinite(dropped))
  assert relative_error(dropped, golden.logits) > 0.05


def equations(jaxpr):
  """All equations of a program, those of its parts included."""
  for equation in jaxpr.eqns:
    yield equation
    for part in jax.extend.core.jaxprs_in_params(equation.params):
      yield from equations(part)


def test_embeddings_are_drawn_from_a_normal_distribution_of_one():
  module = network.Transformer(tiny_model.config())
  made = module.init(
    jax.random.key(0),
    jnp.ones((1, 1), jnp.int32),
    method=lambda module, tokens: module.token_embedder(tokens),
  )
  table = np.asarray(made['params']['token_embedder']['embedding'])
  assert np.std(table) == pytest.approx(1, rel=0.07)
  # Not uniform: that has none beyond the root of 3.
  assert 0.02 < np.mean(np.abs(table) > 2) < 0.08


def test_logits_of_the_embedding_are_float32():
  module = network.Transformer(
    tiny_model.config(logits_via_embedding=True, dtype=jnp.bfloat16)
  )
  tokens = jnp.ones((1, 2), jnp.int32)
  logits, _ = jax.eval_shape(
    lambda: module.init_with_output(
      jax.random.key(0), tokens, tokens, tokens, enable_dropout=False
    )
  )
  assert logits.dtype == jnp.float32


@pytest.mark.parametrize('axis', [0, 1])
def test_a_loop_projects_the_inputs_of_all_layers(axis):
  module = network.Transformer(
    tiny_model.config(
      scan_layers=True, param_scan_axis=axis, num_decoder_layers=3
    )
  )
  tokens = jnp.ones((2, 5), jnp.int32)

  def made():
    variables = module.init(
      jax.random.key(0), tokens, tokens, tokens, enable_dropout=False
    )
    return module.apply(
      variables,
      jnp.ones((2, 5, 16)),
      method=module.cache_encoded,
      mutable=['encoded_cache'],
    )[1]

  attention = {'key': (3, 2, 4, 4, 5), 'value': (3, 2, 4, 4, 5)}
  assert jax.tree.map(lambda x: x.shape, jax.eval_shape(made)) == {
    'encoded_cache': {
      'decoder': {'layers': {'encoder_decoder_attention': attention}}
    }
  }


# Where bfloat16 loses what matters: softmax, norms and the loss.
_FLOAT32 = {'exp', 'log', 'rsqrt', 'sqrt', 'reduce_sum', 'log1p'}


@pytest.mark.parametrize('scan', [False, True])
def test_bfloat16_networks_compute_softmax_norms_and_loss_in_float32(scan):
  model = tiny_model.model(
    config={'dtype': jnp.bfloat16, 'dropout_rate': 0.1, 'scan_layers': scan},
    z_loss=1e-4,
    label_smoothing=0.1,
  )
  params = jax.eval_shape(lambda: tiny_model.initial_variables(model))
  program = jax.make_jaxpr(
    lambda p: model.loss_fn(p, tiny_model.batch(), jax.random.key(0))[0]
  )(params['params'])
  (loss,) = program.out_avals
  assert loss.dtype == jnp.float32
  found = {}
  for equation in equations(program.jaxpr):
    types = {v.aval.dtype.name for v in equation.invars}
    floats = frozenset(t for t in types if 'float' in t)
    found.setdefault(equation.primitive.name, set()).add(floats)
  # The products are of bfloat16, and so is what a layer hands on.
  assert found['dot_general'] == {frozenset({'bfloat16'})}
  assert frozenset({'bfloat16'}) in found['add']
  for name in _FLOAT32 & found.keys():
    assert found[name] <= {frozenset({'float32'}), frozenset()}, name
  assert {'exp', 'log', 'rsqrt', 'reduce_sum'} <= found.keys()


def test_bfloat16_activations_give_float32_logits_and_gradients():
  name = 't5x_1_1'
  golden = golden_data.load(name)
  module = make_module(name, dtype=jnp.bfloat16, float32_attention_logits=True)
  batch = golden.batch

  def loss(params):
    logits = module.apply(
      {'params': params}, *(batch[k] for k in TOKENS), enable_dropout=False
    )
    assert logits.dtype == jnp.float32
    total, _, weight = losses.compute_weighted_cross_entropy(
      logits, batch['decoder_target_tokens'], batch['decoder_loss_weights']
    )
    return total / weight

  value, grads = jax.jit(jax.value_and_grad(loss))(golden.params)
  total, _, weight = golden.facts['loss']['label_smoothing=0.0,z_loss=0.0']
  assert float(value) == pytest.approx(total / weight, rel=0.02)
  assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype('float32')}
  assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


def _transformers_bucket(distance, buckets, furthest):
  """The bucket of the decoder's self-attention, as transformers computes it."""
  if distance < buckets // 2:
    return distance
  exact = buckets // 2
  growth = np.log(distance / exact) / np.log(furthest / exact)
  return min(exact + int(growth * (buckets - exact)), buckets - 1)


def test_the_configuration_decides_about_norms_and_relative_positions():
  config = network.T5Config(
    vocab_size=8,
    emb_dim=4,
    num_heads=2,
    layer_norm_epsilon=0.5,
    relative_attention_num_buckets=10,
    relative_attention_max_distance=23,
  )
  x = np.arange(8, dtype=np.float32).reshape(2, 4)
  found = blocks.layer_norm(config).apply({'params': {'scale': np.ones(4)}}, x)
  expected = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 0.5)
  np.testing.assert_allclose(found, expected, rtol=1e-6)

  table = np.arange(20, dtype=np.float32).reshape(2, 10)
  biases = blocks.relative_biases(config)
  params = {'params': {'rel_embedding': table}}
  last = np.asarray(biases.apply(params, 1, 40, False, 39))[0, :, 0]
  wanted = [_transformers_bucket(39 - i, 10, 23) for i in range(40)]
  np.testing.assert_array_equal(last, table[:, wanted])
