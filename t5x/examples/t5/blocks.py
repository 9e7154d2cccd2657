"""A layer of T5's encoder, a layer of its decoder, and their parts.

Axes: B batch, L encoder length, T decoder length, D embedding, H heads.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import partitioning
from jaxtyping import Array, Float, Int

from t5x.examples.t5 import dropout as dropout_lib
from t5x.examples.t5 import layers, masks
from t5x.examples.t5.config import T5Config

# Of self-attention: [1, H, L, L], or [H, _] beside a `masks.SegmentMask`.
Bias = Float[Array, '...']
# How many positions of a cache are written, and its length.
CachePosition = tuple[jax.Array, int]


def layer_norm(config: T5Config) -> layers.LayerNorm:
  return layers.LayerNorm(config.layer_norm_epsilon, dtype=config.dtype)


def dropout(config: T5Config) -> dropout_lib.Dropout:
  # One mask for all positions of a row, as in T5, unless groups are given.
  return dropout_lib.Dropout(config.dropout_rate, broadcast_dims=(-2,))


def dropout_groups(
  config: T5Config,
  tokens: Int[Array, 'B L'],
  segment_ids: Int[Array, 'B L'] | None,
) -> Int[Array, '#B L'] | None:
  """Returns the groups of positions that share dropout masks.

  Args:
    config: its `dropout_masks` matters.
    tokens: of which the length matters.
    segment_ids: examples of packed rows; None if they are not packed.
  """
  if config.dropout_masks == 'example':
    return segment_ids
  if config.dropout_masks == 'position':
    return jnp.arange(tokens.shape[-1])[None]
  return None


def _attention(config: T5Config) -> layers.MultiHeadDotProductAttention:
  return layers.MultiHeadDotProductAttention(
    num_heads=config.num_heads,
    head_dim=config.head_dim,
    dtype=config.dtype,
    dropout_rate=config.dropout_rate,
    float32_logits=config.float32_attention_logits,
    kernel=config.attention_kernel,
    joined_kernels=not config.scalable_names,
    param_dtype=config.param_dtype,
    lora=config.lora,
  )


def _mlp(config: T5Config) -> layers.MlpBlock:
  return layers.MlpBlock(
    intermediate_dim=config.mlp_dim,
    activations=config.mlp_activations,
    intermediate_dropout_rate=config.dropout_rate,
    dtype=config.dtype,
    param_dtype=config.param_dtype,
    lora=config.lora,
  )


def relative_biases(config: T5Config) -> layers.RelativePositionBiases:
  # In the type of the logits that they are added to.
  dtype = jnp.float32 if config.float32_attention_logits else config.dtype
  return layers.RelativePositionBiases(
    num_buckets=config.relative_attention_num_buckets,
    max_distance=config.relative_attention_max_distance,
    num_heads=config.num_heads,
    dtype=dtype,
    embedding_init=nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform'),
    param_dtype=config.param_dtype,
  )


def constrain(x: jax.Array) -> jax.Array:
  return partitioning.with_sharding_constraint(x, ('batch', 'length', 'embed'))


def encoder_position_bias(
  relative_embedding: nn.Module,
  length: int,
  mask: Array | masks.SegmentMask | None,
) -> Bias:
  """Returns the relative biases of self-attention, as its kernel takes them.

  Args:
    relative_embedding: a `layers.RelativePositionBiases`.
    length: L.
    mask: of self-attention; a `masks.SegmentMask` has the numbers of the biases
      beside it, and not the biases.
  """
  if isinstance(mask, masks.SegmentMask):
    return relative_embedding.diagonals(length, length, True)
  return relative_embedding(length, length, True)


def decoder_position_bias(
  relative_embedding: nn.Module,
  length: int,
  cache: CachePosition | None,
  max_decode_length: int | None = None,
  mask: Array | masks.SegmentMask | None = None,
) -> Bias:
  """Returns the relative biases of self-attention for the next positions.

  With a cache, they are those of the next positions to all of the cache.

  Args:
    relative_embedding: a `layers.RelativePositionBiases`.
    length: T, the number of positions.
    cache: None if there is no cache, or if it is about to be made.
    max_decode_length: the length that the cache should have; None for any.
    mask: see `encoder_position_bias`; without a cache.

  Raises:
    ValueError: if max_decode_length is not the length of the cache.
  """
  if isinstance(mask, masks.SegmentMask):
    return relative_embedding.diagonals(length, length, False)
  if cache is None:
    return relative_embedding(length, length, False)
  position, capacity = cache
  if max_decode_length not in (None, capacity):
    raise ValueError(
      f'max_decode_length: expected {capacity}, the length that the cache was'
      f' made for, found {max_decode_length}; make the cache with decoder'
      f' inputs of length {max_decode_length}.'
    )
  return relative_embedding(length, capacity, False, position)


def _biases_of(layer: 'EncoderLayer | DecoderLayer') -> nn.Module:
  """Returns the relative biases of a layer: its own, or those it was given."""
  if layer.config.relative_bias_per_layer:
    return layer.relpos_bias
  assert layer.relative_embedding is not None
  return layer.relative_embedding


class EncoderLayer(nn.Module):
  """Self-attention and feed-forward block, each with norm and residual."""

  config: T5Config
  relative_embedding: nn.Module | None

  def setup(self):
    if self.config.relative_bias_per_layer:
      self.relpos_bias = relative_biases(self.config)
    self.pre_attention_layer_norm = layer_norm(self.config)
    self.attention = _attention(self.config)
    self.pre_mlp_layer_norm = layer_norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = dropout(self.config)

  def __call__(
    self,
    inputs: Float[Array, 'B L D'],
    encoder_mask: Array | masks.SegmentMask | None = None,
    deterministic: bool = False,
    position_bias: Bias | None = None,
    dropout_groups: Int[Array, '#B L'] | None = None,
  ) -> Float[Array, 'B L D']:
    """Applies the layer.

    Args:
      inputs: the residual stream.
      encoder_mask: [B, 1, L, L], or its numbers for a kernel.
      deterministic: True turns dropout off.
      position_bias: the result of `encoder_position_bias`, which a stack
        computes once for all layers; None computes it here, with the layer's
        own biases where it has some.
      dropout_groups: the result of the function of that name.
    """
    if position_bias is None:
      position_bias = encoder_position_bias(
        _biases_of(self), inputs.shape[-2], encoder_mask
      )
    inputs = constrain(inputs)
    x = self.pre_attention_layer_norm(inputs)
    x = self.attention(
      x, x, encoder_mask, position_bias, deterministic=deterministic
    )
    x = inputs + self.dropout(x, deterministic, groups=dropout_groups)
    y = self.pre_mlp_layer_norm(constrain(x))
    y = self.mlp(y, deterministic=deterministic, dropout_groups=dropout_groups)
    y = self.dropout(y, deterministic, groups=dropout_groups)
    return constrain(x + y)


class DecoderLayer(nn.Module):
  """Self-attention, cross attention and feed-forward block."""

  config: T5Config
  relative_embedding: nn.Module | None

  def setup(self):
    if self.config.relative_bias_per_layer:
      self.relpos_bias = relative_biases(self.config)
    self.pre_self_attention_layer_norm = layer_norm(self.config)
    self.self_attention = _attention(self.config)
    self.pre_cross_attention_layer_norm = layer_norm(self.config)
    self.encoder_decoder_attention = _attention(self.config)
    self.pre_mlp_layer_norm = layer_norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = dropout(self.config)

  def __call__(
    self,
    inputs: Float[Array, 'B T D'],
    encoded: Float[Array, 'B2 L D'],
    decoder_mask: Array | masks.SegmentMask | None = None,
    encoder_decoder_mask: Array | masks.SegmentMask | None = None,
    deterministic: bool = False,
    decode: bool = False,
    max_decode_length: int | None = None,
    position_bias: Bias | None = None,
    dropout_groups: Int[Array, '#B T'] | None = None,
  ) -> Float[Array, 'B T D']:
    """Applies the layer.

    Args:
      inputs: the residual stream.
      encoded: outputs of the encoder; B2 may divide B (see
        `layers.MultiHeadDotProductAttention`).
      decoder_mask: [B, 1, T, T], or its numbers for a kernel.
      encoder_decoder_mask: [B, 1, T, L], or its numbers for a kernel.
      deterministic: True turns dropout off.
      decode: reads and writes the cache.
      max_decode_length: see `decoder_position_bias`.
      position_bias: the result of `decoder_position_bias`, which a stack
        computes once for all layers; None computes it here, with the layer's
        own biases where it has some.
      dropout_groups: the result of the function of that name.

    Returns:
      The residual stream with the three blocks added.
    """
    if position_bias is None:
      position_bias = decoder_position_bias(
        _biases_of(self),
        inputs.shape[-2],
        self.self_attention.cache_position() if decode else None,
        max_decode_length,
        decoder_mask,
      )
    inputs = constrain(inputs)
    x = self.pre_self_attention_layer_norm(inputs)
    x = self.self_attention(
      x,
      x,
      decoder_mask,
      position_bias,
      decode=decode,
      deterministic=deterministic,
    )
    x = inputs + self.dropout(x, deterministic, groups=dropout_groups)
    y = self.pre_cross_attention_layer_norm(constrain(x))
    y = self.encoder_decoder_attention(
      y, encoded, encoder_decoder_mask, deterministic=deterministic
    )
    y = x + self.dropout(y, deterministic, groups=dropout_groups)
    z = self.pre_mlp_layer_norm(constrain(y))
    z = self.mlp(
      z,
      decode=decode,
      deterministic=deterministic,
      dropout_groups=dropout_groups,
    )
    z = self.dropout(z, deterministic, groups=dropout_groups)
    return constrain(y + z)

  def cache_encoded(self, encoded: Float[Array, 'B L D']) -> None:
    """Projects the keys and values of cross attention, for decoding."""
    self.encoder_decoder_attention.cache_encoded(encoded)
