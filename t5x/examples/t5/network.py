"""The T5 encoder-decoder, 1.0 and 1.1, with T5X's parameter names and axes.

Axes: B batch, L encoder length, T decoder length, D embedding, V vocabulary.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import partitioning
from jaxtyping import Array, Float, Int

from t5x.examples.t5 import blocks, layers, masks, stack
from t5x.examples.t5.blocks import DecoderLayer, EncoderLayer
from t5x.examples.t5.config import T5Config


class Encoder(nn.Module):
  """Embedding, layers and final norm."""

  config: T5Config
  shared_embedding: nn.Module

  def setup(self):
    if not self.config.relative_bias_per_layer:
      self.relpos_bias = blocks.relative_biases(self.config)
    layers_name = stack.name(self.config, 'encoder')
    count = self.config.num_encoder_layers
    setattr(self, layers_name, stack.make(EncoderLayer, self.config, count))
    self.encoder_norm = blocks.layer_norm(self.config)
    self.dropout = blocks.dropout(self.config)

  def __call__(
    self,
    encoder_input_tokens: Int[Array, 'B L'],
    encoder_mask: Array | masks.SegmentMask | None = None,
    deterministic: bool = False,
    segment_ids: Int[Array, 'B L'] | None = None,
  ) -> Float[Array, 'B L D']:
    """Encodes tokens; `encoder_mask` is [B, 1, L, L], or its numbers."""
    groups = blocks.dropout_groups(
      self.config, encoder_input_tokens, segment_ids
    )
    length = encoder_input_tokens.shape[-1]
    x = self.shared_embedding(encoder_input_tokens)
    x = blocks.constrain(self.dropout(x, deterministic, groups=groups))
    position_bias = None
    if not self.config.relative_bias_per_layer:
      position_bias = blocks.encoder_position_bias(
        self.relpos_bias, length, encoder_mask
      )
    layers = getattr(self, stack.name(self.config, 'encoder'))
    x = stack.run(layers, x, encoder_mask, deterministic, position_bias, groups)
    x = self.encoder_norm(x)
    return self.dropout(x, deterministic, groups=groups)


class Decoder(nn.Module):
  """Embedding, layers, final norm and logits."""

  config: T5Config
  shared_embedding: nn.Module

  def setup(self):
    if not self.config.relative_bias_per_layer:
      self.relpos_bias = blocks.relative_biases(self.config)
    count = self.config.num_decoder_layers
    setattr(
      self, self._layers_name, stack.make(DecoderLayer, self.config, count)
    )
    self.decoder_norm = blocks.layer_norm(self.config)
    self.dropout = blocks.dropout(self.config)
    if not self.config.logits_via_embedding:
      self.logits_dense = layers.DenseGeneral(
        self.config.vocab_size,
        dtype=self.config.dtype,
        kernel_axes=('embed', 'vocab'),
        float32_output=True,
        param_dtype=self.config.param_dtype,
        lora=self.config.lora,
      )

  @property
  def _layers_name(self) -> str:
    return stack.name(self.config, 'decoder')

  def __call__(
    self,
    encoded: Float[Array, 'B2 L D'],
    decoder_input_tokens: Int[Array, 'B T'],
    decoder_positions: Int[Array, 'B T'] | None = None,
    decoder_mask: Array | masks.SegmentMask | None = None,
    encoder_decoder_mask: Array | masks.SegmentMask | None = None,
    deterministic: bool = False,
    decode: bool = False,
    max_decode_length: int | None = None,
    segment_ids: Int[Array, 'B T'] | None = None,
  ) -> Float[Array, 'B T V']:
    """Returns float32 logits; see `Transformer.decode` for the arguments."""
    groups = blocks.dropout_groups(
      self.config, decoder_input_tokens, segment_ids
    )
    # Relative positions inside a segment do not depend on where it starts.
    del decoder_positions
    y = self.shared_embedding(decoder_input_tokens)
    y = blocks.constrain(self.dropout(y, deterministic, groups=groups))
    position_bias = None
    if not self.config.relative_bias_per_layer:
      position_bias = blocks.decoder_position_bias(
        self.relpos_bias,
        decoder_input_tokens.shape[-1],
        self._cache_position() if decode else None,
        max_decode_length,
        decoder_mask,
      )
    y = stack.run(
      getattr(self, self._layers_name),
      y,
      encoded,
      decoder_mask,
      encoder_decoder_mask,
      deterministic,
      decode,
      max_decode_length,
      position_bias,
      groups,
    )
    y = self.decoder_norm(y)
    y = self.dropout(y, deterministic, groups=groups)
    if self.config.logits_via_embedding:
      # D numbers to divide and not V.
      y = y.astype(jnp.float32) / math.sqrt(y.shape[-1])
      logits = self.shared_embedding.attend(y)
    else:
      logits = self.logits_dense(y, deterministic)
    return partitioning.with_sharding_constraint(
      logits, ('batch', 'length', 'vocab')
    )

  def cache_encoded(self, encoded: Float[Array, 'B L D']) -> None:
    """See `Transformer.cache_encoded`."""
    if not self.config.scan_layers:
      for layer in self.layers:
        layer.cache_encoded(encoded)
      return
    layer = DecoderLayer(self.config, None, parent=None)

    def project(params):
      _, made = layer.apply(
        {'params': params},
        encoded,
        method=layer.cache_encoded,
        mutable=['encoded_cache'],
      )
      return made['encoded_cache']

    params = jax.tree.map(
      lambda x: jnp.moveaxis(x, self.config.param_scan_axis, 0),
      self.get_variable('params', self._layers_name),
    )
    made = jax.lax.map(project, params)
    self.put_variable('encoded_cache', self._layers_name, made)

  def _cache_position(self) -> blocks.CachePosition | None:
    """Returns the position of decoding, from the first layer: all agree."""
    if not self.config.scan_layers:
      return self.layers[0].self_attention.cache_position()
    if not self.has_variable('cache', self._layers_name):
      return None
    layers_cache: dict[str, Any] = self.get_variable('cache', self._layers_name)
    cache = layers_cache['self_attention']
    return cache['cache_index'][0], cache['cached_key'].shape[-1]


class Transformer(nn.Module):
  """The T5 encoder-decoder.

  Packed rows: attention stays within a segment, and segments are contiguous, so
  relative positions are those within the row; `*_positions` are accepted, since
  T5X passes them, but make no difference.
  """

  config: T5Config

  @property
  def scan_layers(self) -> bool:
    """Whether axis 0 of the cache is the layer (T5X's name)."""
    return self.config.scan_layers

  def setup(self):
    self.token_embedder = layers.Embed(
      num_embeddings=self.config.vocab_size,
      features=self.config.emb_dim,
      dtype=self.config.dtype,
      attend_dtype=jnp.float32,
      embedding_init=nn.initializers.normal(stddev=1.0),
      param_dtype=self.config.param_dtype,
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
    return self.encoder(
      encoder_input_tokens,
      self._encoder_mask(encoder_input_tokens, encoder_segment_ids),
      deterministic=not enable_dropout,
      segment_ids=encoder_segment_ids,
    )

  def _encoder_mask(self, tokens, segment_ids):
    if self.config.attention_kernel == 'pallas':
      return masks.SegmentMask.of(tokens, tokens, segment_ids, segment_ids)
    real = tokens > 0
    mask = layers.make_attention_mask(real, real, dtype=jnp.bool_)
    if segment_ids is not None:
      mask &= layers.make_attention_mask(
        segment_ids, segment_ids, jnp.equal, dtype=jnp.bool_
      )
    return mask

  def _decoder_masks(self, encoder, decoder):
    """Returns masks of self- and cross attention, for whole sequences.

    Args:
      encoder: tokens and segment ids.
      decoder: target tokens and segment ids.
    """
    if self.config.attention_kernel == 'pallas':
      tokens, segments = zip(decoder, encoder, strict=True)
      return (
        masks.SegmentMask.of(*decoder[:1] * 2, *decoder[1:] * 2, causal=True),
        masks.SegmentMask.of(*tokens, *segments),
      )
    decoder_mask = layers.make_decoder_mask(
      decoder[0], jnp.bool_, decoder_segment_ids=decoder[1]
    )
    cross_mask = layers.make_attention_mask(
      decoder[0] > 0, encoder[0] > 0, dtype=jnp.bool_
    )
    if encoder[1] is not None:
      assert decoder[1] is not None  # Packed batches have both.
      cross_mask &= layers.make_attention_mask(
        decoder[1], encoder[1], jnp.equal, dtype=jnp.bool_
      )
    return decoder_mask, cross_mask

  def cache_encoded(self, encoded: Float[Array, 'B L D']) -> None:
    """Projects the keys and values of all cross attentions, for decoding.

    They go into the collection 'encoded_cache', which stays the same at every
    step and when beams are reordered. Its batch may be smaller than the
    decoder's by an integer factor, the number of decodes of each input:

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
      decode: decodes the next positions of the collection 'cache', which the
        first such call makes: its length is that call's T.
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
    # Masks: while decoding, the cache masks the decoder's own positions.
    if decode:
      decoder_mask = None
      cross_mask = (encoder_input_tokens > 0)[:, None, None, :]
    else:
      decoder_mask, cross_mask = self._decoder_masks(
        (encoder_input_tokens, encoder_segment_ids),
        (decoder_target_tokens, decoder_segment_ids),
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
      segment_ids=decoder_segment_ids,
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
