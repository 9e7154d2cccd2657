"""Masks of attention: who sees whom. Nonzero means visible.

Axes: B batch, Q query length, L key length, T decoder length.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

DType = Any


def make_attention_mask(
  query_input: Array,
  key_input: Array,
  pairwise_fn: Callable = jnp.multiply,
  extra_batch_dims: int = 0,
  dtype: DType = jnp.float32,
) -> Array:
  """Mask of `pairwise_fn` between every query position and key position.

  Example (jnp.multiply): query [[1, 0]], key [[1, 1, 0]] ->
    [[[[1, 1, 0],
       [0, 0, 0]]]]

  Args:
    query_input: [*B, Q].
    key_input: [*B, L].
    pairwise_fn: elementwise function of a query's and a key's number.
    extra_batch_dims: axes of size 1 to put in front.
    dtype: type of the mask.

  Returns:
    [*B, 1, Q, L] with `extra_batch_dims` axes of size 1 in front.
  """
  mask = pairwise_fn(query_input[..., :, None], key_input[..., None, :])
  mask = mask[..., None, :, :]
  return jnp.expand_dims(mask, tuple(range(extra_batch_dims))).astype(dtype)


def make_causal_mask(
  x: Array, extra_batch_dims: int = 0, dtype: DType = jnp.float32
) -> Array:
  """Mask [*B, 1, T, T] that lets position t see positions up to t.

  Example: any x of shape [1, 3] ->
    [[[[1, 0, 0],
       [1, 1, 0],
       [1, 1, 1]]]]

  Args:
    x: [*B, T]; only its shape counts.
    extra_batch_dims: axes of size 1 to put in front.
    dtype: type of the mask.
  """
  positions = jnp.broadcast_to(jnp.arange(x.shape[-1]), x.shape)
  return make_attention_mask(
    positions, positions, jnp.greater_equal, extra_batch_dims, dtype
  )


def combine_masks(*masks: Array | None, dtype: DType = jnp.float32):
  """Logical and of all masks that are not None; None if there is none.

  Raises:
    ValueError: if ranks differ.
  """
  given = _of_equal_rank('combine_masks', masks)
  if not given:
    return None
  return functools.reduce(jnp.logical_and, given).astype(dtype)


def combine_biases(*masks: Array | None):
  """Sum of all biases that are not None; None if there is none.

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
  dtype: DType,
  decoder_causal_attention: Array | None = None,
  decoder_segment_ids: Int[Array, 'B T'] | None = None,
) -> Array:
  """Mask [B, 1, T, T] of the decoder's self-attention.

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
  masks = [visible, make_attention_mask(real, real, dtype=jnp.bool_)]
  if decoder_segment_ids is not None:
    masks.append(
      make_attention_mask(
        decoder_segment_ids, decoder_segment_ids, jnp.equal, dtype=jnp.bool_
      )
    )
  return combine_masks(*masks, dtype=dtype)
