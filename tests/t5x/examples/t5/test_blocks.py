"""Layers of the encoder and the decoder, and what the config makes of them."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x.examples.t5 import blocks, dense, layers, network
from tests import golden_data


@pytest.mark.parametrize(
  'method',
  [
    dense.MlpBlock.__call__,
    layers.MultiHeadDotProductAttention.__call__,
    blocks.EncoderLayer.__call__,
    blocks.DecoderLayer.__call__,
    network.Encoder.__call__,
    network.Decoder.__call__,
    network.Transformer.encode,
    network.Transformer.decode,
    network.Transformer.__call__,
  ],
  ids=lambda method: method.__qualname__,
)
def test_by_default_values_are_dropped_and_no_cache_is_used(method):
  # As in T5X, for networks of one's own.
  defaults = {
    name: parameter.default
    for name, parameter in inspect.signature(method).parameters.items()
    if name in ('deterministic', 'enable_dropout', 'decode')
  }
  assert defaults
  for name, default in defaults.items():
    assert default is (name == 'enable_dropout'), name


def test_the_layers_have_what_the_config_says():
  config = network.T5Config(
    *(8, jnp.bfloat16),
    dropout_rate=0.25,
    num_heads=2,
    head_dim=3,
    layer_norm_epsilon=0.5,
    float32_attention_logits=True,
  )
  assert blocks.layer_norm(config) == layers.LayerNorm(0.5, jnp.bfloat16)
  attention = blocks._attention(config)
  assert attention.float32_logits and attention.dtype == jnp.bfloat16
  assert (attention.num_heads, attention.head_dim) == (2, 3)
  assert attention.dropout_rate == 0.25
  assert blocks._mlp(config).intermediate_dropout_rate == 0.25
  # Each has none of its own accord.
  assert layers.MultiHeadDotProductAttention(2, 3).dropout_rate == 0.0


def test_relative_biases_are_drawn_uniformly_and_added_in_the_logits_type():
  config = network.T5Config(8, num_heads=8, dtype=jnp.bfloat16)
  biases = blocks.relative_biases(config)
  assert biases.dtype == jnp.bfloat16
  wide = blocks.relative_biases(config.replace(float32_attention_logits=True))
  assert wide.dtype == jnp.float32
  # Of 8 heads and 32 buckets: up to the root of 3 / 20.
  drawn = np.abs(biases.embedding_init(jax.random.key(0), (8, 32)))
  assert 0.98 < drawn.max() / 0.15**0.5 <= 1
  assert np.mean(drawn) / 0.15**0.5 == pytest.approx(0.5, rel=0.1)


def test_a_layer_by_itself_uses_the_biases_that_it_is_given():
  config = network.T5Config(8, emb_dim=6, num_heads=2, head_dim=3, mlp_dim=4)
  x = jnp.ones((2, 5, 6))
  for cls, inputs in (
    (blocks.EncoderLayer, (x,)),
    (blocks.DecoderLayer, (x, x[:, :3])),
  ):
    layer = cls(config, blocks.relative_biases(config))
    init = functools.partial(layer.init, deterministic=True)
    made = jax.eval_shape(init, jax.random.key(0), *inputs)
    table = made['params']['relative_embedding']['rel_embedding']
    assert table.shape == (2, 32)


def test_layers_with_the_same_biases_each_have_the_numbers_of_a_shared_table():
  golden = golden_data.load('t5x_1_1')
  module = network.Transformer(
    network.T5Config(**golden.config_kwargs, relative_bias_per_layer=True)
  )
  params = dict(golden.params)
  for stack in ('encoder', 'decoder'):
    part = dict(params[stack])
    shared = part.pop('relpos_bias')
    params[stack] = {
      name: {**leaf, 'relpos_bias': shared} if 'layers_' in name else leaf
      for name, leaf in part.items()
    }
  tokens = [
    golden.batch[name]
    for name in (
      'encoder_input_tokens',
      'decoder_input_tokens',
      'decoder_target_tokens',
    )
  ]
  apply = jax.jit(functools.partial(module.apply, enable_dropout=False))
  found = apply({'params': params}, *tokens)
  difference = np.abs(found - golden.logits).max()
  assert difference < 1e-5 * np.abs(golden.logits).max()
