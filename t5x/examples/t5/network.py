"""The T5 encoder-decoder, 1.0 and 1.1, with T5X's parameter names and axes.

Axes: B batch, L encoder length, T decoder length, D embedding, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from flax.linen import partitioning
from jaxtyping import Array, Float, Int

from t5x.examples.t5 import layers


@struct.dataclass
class T5Config:
  """Dimensions and options of a T5.

  T5 1.0 has `mlp_activations=('relu',)` and `logits_via_embedding=True`, T5 1.1
  `('gelu', 'linear')` and False.

  Attributes:
    vocab_size: V, rows of the embedding.
    dtype: type of the activations; parameters are float32.
    emb_dim: D.
    num_heads: attention heads.
    num_encoder_layers: layers of the encoder.
    num_decoder_layers: layers of the decoder.
    head_dim: size of a head.
    mlp_dim: inner size of the feed-forward blocks.
    mlp_activations: see `layers.MlpBlock`.
    dropout_rate: of every dropout.
    logits_via_embedding: computes the logits with the token embedding.
    float32_attention_logits: attention logits and softmax in float32.
  """

  vocab_size: int
  dtype: Any = jnp.float32
  emb_dim: int = 512
  num_heads: int = 8
  num_encoder_layers: int = 6
  num_decoder_layers: int = 6
  head_dim: int = 64
  mlp_dim: int = 2048
  mlp_activations: Sequence[str] = ('relu',)
  dropout_rate: float = 0.1
  logits_via_embedding: bool = False
  float32_attention_logits: bool = False


def _layer_norm(config: T5Config) -> layers.LayerNorm:
  return layers.LayerNorm(dtype=config.dtype)


def _dropout(config: T5Config) -> nn.Dropout:
  # One mask for all positions of a row, as in T5.
  return nn.Dropout(config.dropout_rate, broadcast_dims=(-2,))


def _attention(config: T5Config) -> layers.MultiHeadDotProductAttention:
  return layers.MultiHeadDotProductAttention(
    num_heads=config.num_heads,
    head_dim=config.head_dim,
    dtype=config.dtype,
    dropout_rate=config.dropout_rate,
    float32_logits=config.float32_attention_logits,
  )


def _mlp(config: T5Config) -> layers.MlpBlock:
  return layers.MlpBlock(
    intermediate_dim=config.mlp_dim,
    activations=config.mlp_activations,
    intermediate_dropout_rate=config.dropout_rate,
    dtype=config.dtype,
  )


def _relative_biases(config: T5Config) -> layers.RelativePositionBiases:
  # In the type of the logits that they are added to.
  dtype = jnp.float32 if config.float32_attention_logits else config.dtype
  return layers.RelativePositionBiases(
    num_buckets=32,
    max_distance=128,
    num_heads=config.num_heads,
    dtype=dtype,
    embedding_init=nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform'),
  )


def _constrain(x: jax.Array) -> jax.Array:
  return partitioning.with_sharding_constraint(x, ('batch', 'length', 'embed'))


class EncoderLayer(nn.Module):
  """Self-attention and feed-forward block, each with norm and residual."""

  config: T5Config
  relative_embedding: nn.Module

  def setup(self):
    self.pre_attention_layer_norm = _layer_norm(self.config)
    self.attention = _attention(self.config)
    self.pre_mlp_layer_norm = _layer_norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = _dropout(self.config)

  def __call__(
    self,
    inputs: Float[Array, 'B L D'],
    encoder_mask: Array | None = None,
    deterministic: bool = False,
    position_bias: Float[Array, '1 H L L'] | None = None,
  ) -> Float[Array, 'B L D']:
    """Applies the layer.

    Args:
      inputs: the residual stream.
      encoder_mask: [B, 1, L, L].
      deterministic: True turns dropout off.
      position_bias: the result of `relative_embedding` for this length, which
        a stack computes once for all layers; None computes it here.
    """
    if position_bias is None:
      length = inputs.shape[-2]
      position_bias = self.relative_embedding(length, length, True)
    inputs = _constrain(inputs)
    x = self.pre_attention_layer_norm(inputs)
    x = self.attention(
      x, x, encoder_mask, position_bias, deterministic=deterministic
    )
    x = inputs + self.dropout(x, deterministic=deterministic)
    y = self.pre_mlp_layer_norm(_constrain(x))
    y = self.mlp(y, deterministic=deterministic)
    return _constrain(x + self.dropout(y, deterministic=deterministic))


class DecoderLayer(nn.Module):
  """Self-attention, cross attention and feed-forward block."""

  config: T5Config
  relative_embedding: nn.Module

  def setup(self):
    self.pre_self_attention_layer_norm = _layer_norm(self.config)
    self.self_attention = _attention(self.config)
    self.pre_cross_attention_layer_norm = _layer_norm(self.config)
    self.encoder_decoder_attention = _attention(self.config)
    self.pre_mlp_layer_norm = _layer_norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = _dropout(self.config)

  def __call__(
    self,
    inputs: Float[Array, 'B T D'],
    encoded: Float[Array, 'B2 L D'],
    decoder_mask: Array | None = None,
    encoder_decoder_mask: Array | None = None,
    deterministic: bool = False,
    decode: bool = False,
    max_decode_length: int | None = None,
    position_bias: Float[Array, '1 H T _'] | None = None,
  ) -> Float[Array, 'B T D']:
    """Applies the layer.

    Args:
      inputs: the residual stream.
      encoded: outputs of the encoder; B2 may divide B (see
        `layers.MultiHeadDotProductAttention`).
      decoder_mask: [B, 1, T, T].
      encoder_decoder_mask: [B, 1, T, L].
      deterministic: True turns dropout off.
      decode: reads and writes the cache.
      max_decode_length: see `position_bias`.
      position_bias: the result of the method `position_bias`, which a stack
        computes once for all layers; None computes it here.

    Returns:
      The residual stream with the three blocks added.
    """
    if position_bias is None:
      position_bias = self.position_bias(
        inputs.shape[-2], decode, max_decode_length
      )
    inputs = _constrain(inputs)
    x = self.pre_self_attention_layer_norm(inputs)
    x = self.self_attention(
      x,
      x,
      decoder_mask,
      position_bias,
      decode=decode,
      deterministic=deterministic,
    )
    x = inputs + self.dropout(x, deterministic=deterministic)
    y = self.pre_cross_attention_layer_norm(_constrain(x))
    y = self.encoder_decoder_attention(
      y, encoded, encoder_decoder_mask, deterministic=deterministic
    )
    y = x + self.dropout(y, deterministic=deterministic)
    z = self.pre_mlp_layer_norm(_constrain(y))
    z = self.mlp(z, decode=decode, deterministic=deterministic)
    return _constrain(y + self.dropout(z, deterministic=deterministic))

  def position_bias(
    self, length: int, decode: bool, max_decode_length: int | None
  ) -> Float[Array, '1 H T _']:
    """The relative biases of self-attention for the next `length` positions.

    While decoding, only those of the positions that come next are computed,
    to every position of the cache.

    Raises:
      ValueError: if max_decode_length is not the length of the cache.
    """
    cache = self.self_attention.cache_position() if decode else None
    if cache is None:
      return self.relative_embedding(length, length, False)
    position, capacity = cache
    if max_decode_length not in (None, capacity):
      raise ValueError(
        f'max_decode_length: expected {capacity}, the length that the cache was'
        f' made for, found {max_decode_length}; make the cache with decoder'
        f' inputs of length {max_decode_length}.'
      )
    return self.relative_embedding(length, capacity, False, position)


class Encoder(nn.Module):
  """Embedding, layers and final norm."""

  config: T5Config
  shared_embedding: nn.Module

  def setup(self):
    self.relpos_bias = _relative_biases(self.config)
    self.layers = [
      EncoderLayer(self.config, self.relpos_bias)
      for _ in range(self.config.num_encoder_layers)
    ]
    self.encoder_norm = _layer_norm(self.config)
    self.dropout = _dropout(self.config)

  def __call__(
    self,
    encoder_input_tokens: Int[Array, 'B L'],
    encoder_mask: Array | None = None,
    deterministic: bool = False,
  ) -> Float[Array, 'B L D']:
    """Encodes tokens; `encoder_mask` is [B, 1, L, L]."""
    length = encoder_input_tokens.shape[-1]
    x = self.shared_embedding(encoder_input_tokens)
    x = _constrain(self.dropout(x, deterministic=deterministic))
    position_bias = self.relpos_bias(length, length, True)
    for layer in self.layers:
      x = layer(x, encoder_mask, deterministic, position_bias)
    x = self.encoder_norm(x)
    return self.dropout(x, deterministic=deterministic)


class Decoder(nn.Module):
  """Embedding, layers, final norm and logits."""

  config: T5Config
  shared_embedding: nn.Module

  def setup(self):
    self.relpos_bias = _relative_biases(self.config)
    self.layers = [
      DecoderLayer(self.config, self.relpos_bias)
      for _ in range(self.config.num_decoder_layers)
    ]
    self.decoder_norm = _layer_norm(self.config)
    self.dropout = _dropout(self.config)
    if not self.config.logits_via_embedding:
      self.logits_dense = layers.DenseGeneral(
        self.config.vocab_size,
        dtype=self.config.dtype,
        kernel_axes=('embed', 'vocab'),
        float32_output=True,
      )

  def __call__(
    self,
    encoded: Float[Array, 'B2 L D'],
    decoder_input_tokens: Int[Array, 'B T'],
    decoder_positions: Int[Array, 'B T'] | None = None,
    decoder_mask: Array | None = None,
    encoder_decoder_mask: Array | None = None,
    deterministic: bool = False,
    decode: bool = False,
    max_decode_length: int | None = None,
  ) -> Float[Array, 'B T V']:
    """Returns float32 logits; see `Transformer.decode` for the arguments."""
    # Relative positions inside a segment do not depend on where it starts.
    del decoder_positions
    y = self.shared_embedding(decoder_input_tokens)
    y = _constrain(self.dropout(y, deterministic=deterministic))
    # All layers are at the same position: the first one tells for all.
    position_bias = self.layers[0].position_bias(
      decoder_input_tokens.shape[-1], decode, max_decode_length
    )
    for layer in self.layers:
      y = layer(
        y,
        encoded,
        decoder_mask,
        encoder_decoder_mask,
        deterministic,
        decode,
        max_decode_length,
        position_bias,
      )
    y = self.decoder_norm(y)
    y = self.dropout(y, deterministic=deterministic)
    if self.config.logits_via_embedding:
      # D numbers to divide and not V.
      y = y.astype(jnp.float32) / math.sqrt(y.shape[-1])
      logits = self.shared_embedding.attend(y)
    else:
      logits = self.logits_dense(y)
    return partitioning.with_sharding_constraint(
      logits, ('batch', 'length', 'vocab')
    )

  def cache_encoded(self, encoded: Float[Array, 'B L D']) -> None:
    """See `Transformer.cache_encoded`."""
    for layer in self.layers:
      layer.encoder_decoder_attention.cache_encoded(encoded)


class Transformer(nn.Module):
  """The T5 encoder-decoder.

  Packed rows: attention stays within a segment, and a segment lies in one
  piece, so relative positions are those within the row; `*_positions` are
  accepted (T5X passes them) and have nothing to add.
  """

  config: T5Config

  def setup(self):
    self.token_embedder = layers.Embed(
      num_embeddings=self.config.vocab_size,
      features=self.config.emb_dim,
      dtype=self.config.dtype,
      attend_dtype=jnp.float32,
      embedding_init=nn.initializers.normal(stddev=1.0),
    )
    self.encoder = Encoder(self.config, self.token_embedder)
    self.decoder = Decoder(self.config, self.token_embedder)

  def encode(
    self,
    encoder_input_tokens: Int[Array, 'B L'],
    encoder_segment_ids: Int[Array, 'B L'] | None = None,
    enable_dropout: bool = True,
  ) -> Float[Array, 'B L D']:
    """Encodes tokens (0 is padding), within the segments of packed rows."""
    real = encoder_input_tokens > 0
    mask = layers.make_attention_mask(real, real, dtype=jnp.bool_)
    if encoder_segment_ids is not None:
      mask &= layers.make_attention_mask(
        encoder_segment_ids, encoder_segment_ids, jnp.equal, dtype=jnp.bool_
      )
    return self.encoder(
      encoder_input_tokens, mask, deterministic=not enable_dropout
    )

  def cache_encoded(self, encoded: Float[Array, 'B L D']) -> None:
    """Projects the keys and values of all cross attentions, for decoding.

    They go into the collection 'encoded_cache', which stays the same at every
    step and under a reordering of beams. Its batch may be smaller than that of
    the decoder by a whole factor, the number of decodes of each input:

      encoded = module.apply(variables, tokens, method=module.encode, ...)
      _, made = module.apply(
        variables, encoded, method=module.cache_encoded,
        mutable=['encoded_cache'])
      module.apply(
        {**variables, **made, 'cache': cache}, encoded, tokens, ids, ids,
        decode=True, enable_dropout=False, method=module.decode,
        mutable=['cache'])
    """
    self.decoder.cache_encoded(encoded)

  def decode(
    self,
    encoded: Float[Array, 'B2 L D'],
    encoder_input_tokens: Int[Array, 'B2 L'],
    decoder_input_tokens: Int[Array, 'B T'],
    decoder_target_tokens: Int[Array, 'B T'],
    encoder_segment_ids: Int[Array, 'B L'] | None = None,
    decoder_segment_ids: Int[Array, 'B T'] | None = None,
    decoder_positions: Int[Array, 'B T'] | None = None,
    enable_dropout: bool = True,
    decode: bool = False,
    max_decode_length: int | None = None,
  ) -> Float[Array, 'B T V']:
    """Applies the decoder to encoded inputs.

    Args:
      encoded: outputs of the encoder. With decode=True B2 may divide B: each
        row serves B / B2 successive rows of the decoder.
      encoder_input_tokens: token ids, for the mask; 0 is padding.
      decoder_input_tokens: token ids, shifted right by one position.
      decoder_target_tokens: token ids, for the mask; 0 is padding. Not read
        with decode=True.
      encoder_segment_ids: segments of packed rows.
      decoder_segment_ids: segments of packed rows.
      decoder_positions: see the class.
      enable_dropout: False for evaluation.
      decode: takes the positions as the next ones of the collection 'cache',
        which the first such call makes: its length is that call's T.
      max_decode_length: the cache's length, checked if given.

    Returns:
      float32 logits.

    Raises:
      ValueError: if packed rows are to be decoded, or max_decode_length is not
        the length of the cache.
    """
    if decode and (
      encoder_segment_ids is not None or decoder_segment_ids is not None
    ):
      raise ValueError(
        'Transformer.decode: expected rows of one example with decode=True,'
        ' found segment ids of packed rows; decode unpacked rows.'
      )
    encoder_real = encoder_input_tokens > 0
    if decode:
      decoder_mask = None
      cross_mask = encoder_real[:, None, None, :]
    else:
      decoder_mask = layers.make_decoder_mask(
        decoder_target_tokens,
        jnp.bool_,
        decoder_segment_ids=decoder_segment_ids,
      )
      cross_mask = layers.make_attention_mask(
        decoder_target_tokens > 0, encoder_real, dtype=jnp.bool_
      )
    if encoder_segment_ids is not None:
      cross_mask &= layers.make_attention_mask(
        decoder_segment_ids, encoder_segment_ids, jnp.equal, dtype=jnp.bool_
      )
    return self.decoder(
      encoded,
      decoder_input_tokens,
      decoder_positions=decoder_positions,
      decoder_mask=decoder_mask,
      encoder_decoder_mask=cross_mask,
      deterministic=not enable_dropout,
      decode=decode,
      max_decode_length=max_decode_length,
    )

  def __call__(
    self,
    encoder_input_tokens: Int[Array, 'B L'],
    decoder_input_tokens: Int[Array, 'B T'],
    decoder_target_tokens: Int[Array, 'B T'],
    encoder_segment_ids: Int[Array, 'B L'] | None = None,
    decoder_segment_ids: Int[Array, 'B T'] | None = None,
    encoder_positions: Int[Array, 'B L'] | None = None,
    decoder_positions: Int[Array, 'B T'] | None = None,
    *,
    enable_dropout: bool = True,
    decode: bool = False,
  ) -> Float[Array, 'B T V']:
    """Encodes and decodes; see `encode` and `decode` for the arguments.

    With decode=True a first call makes the collection 'cache' for decoding as
    many positions as decoder_input_tokens has.
    """
    del encoder_positions  # See the class.
    encoded = self.encode(
      encoder_input_tokens, encoder_segment_ids, enable_dropout
    )
    return self.decode(
      encoded,
      encoder_input_tokens,
      decoder_input_tokens,
      decoder_target_tokens,
      encoder_segment_ids,
      decoder_segment_ids,
      decoder_positions,
      enable_dropout,
      decode,
    )
