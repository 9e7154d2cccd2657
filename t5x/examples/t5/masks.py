"""Attention masks. Nonzero means visible.

Axes: B batch, Q query length, L key length, T decoder length.
"""

import functools

import jax.numpy as jnp
from flax.linen import make_attention_mask, make_causal_mask
from jax.typing import DTypeLike
from jaxtyping import Array, Int


def combine_masks(
  *masks: Array | None, dtype: DTypeLike = jnp.float32
) -> Array | None:
  """Returns the logical and of all masks but None; None if there are none.

  Raises:
    ValueError: if ranks differ.
  """
  given = _of_equal_rank('combine_masks', masks)
  if not given:
    return None
  return functools.reduce(jnp.logical_and, given).astype(dtype)


def combine_biases(*masks: Array | None) -> Array | None:
  """Returns the sum of all biases but None; None if there are none.

  Raises:
    ValueError: if ranks differ.
  """
  given = _of_equal_rank('combine_biases', masks)
  return functools.reduce(jnp.add, given) if given else None


def _of_equal_rank(what: str, arrays) -> list:
  given = [x for x in arrays if x is not None]
  if len({x.ndim for x in given}) > 1:
    raise ValueError(
      f'{what}: expected arrays of one rank, found shapes'
      f' {[x.shape for x in given]}; add axes of size 1.'
    )
  return given


def make_decoder_mask(
  decoder_target_tokens: Int[Array, 'B T'],
  dtype: DTypeLike,
  decoder_causal_attention: Array | None = None,
  decoder_segment_ids: Int[Array, 'B T'] | None = None,
) -> Array:
  """Returns the mask [B, 1, T, T] of the decoder's self-attention.

  A position sees itself and what comes before it, within its own segment, and
  no padding (id 0). Positions marked in `decoder_causal_attention` (the inputs
  of a prefix language model) see each other in both directions.

  Example:
    decoder_target_tokens: [[6, 7, 3, 4, 0]]
    decoder_segment_ids:   [[1, 1, 2, 2, 0]]
    -> [[[[1, 0, 0, 0, 0],
          [1, 1, 0, 0, 0],
          [0, 0, 1, 0, 0],
          [0, 0, 1, 1, 0],
          [0, 0, 0, 0, 0]]]]

  Args:
    decoder_target_tokens: token ids, 0 is padding.
    dtype: type of the mask.
    decoder_causal_attention: [B, T], 1 on the positions of the prefix.
    decoder_segment_ids: segments of packed rows.
  """
  visible = make_causal_mask(decoder_target_tokens, dtype=jnp.bool_)
  if decoder_causal_attention is not None:
    prefix = decoder_causal_attention > 0
    visible |= make_attention_mask(prefix, prefix, dtype=jnp.bool_)
  real = decoder_target_tokens > 0
  visible &= make_attention_mask(real, real, dtype=jnp.bool_)
  if decoder_segment_ids is not None:
    visible &= make_attention_mask(
      decoder_segment_ids, decoder_segment_ids, jnp.equal, dtype=jnp.bool_
    )
  return visible.astype(dtype)
