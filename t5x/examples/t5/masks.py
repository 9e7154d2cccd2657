"""Attention masks. Nonzero means visible.

Axes: B batch, Q query length, L key length, T decoder length.
"""

import functools

import jax.numpy as jnp
from flax import struct
from flax.linen import make_attention_mask, make_causal_mask
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Int


@struct.dataclass
class SegmentMask:
  """The numbers of a mask: pairs of one segment are visible, padding is not.

  Attributes:
    query: segment of each query, from 1; 0 is padding.
    key: the same of each key.
    causal: whether a query sees no key after it.
  """

  query: Int[Array, 'B Q']
  key: Int[Array, 'B L']
  causal: bool = struct.field(pytree_node=False, default=False)

  @classmethod
  def of(
    cls,
    queries: Int[Array, 'B Q'],
    keys: Int[Array, 'B L'],
    query_segment_ids: Int[Array, 'B Q'] | None = None,
    key_segment_ids: Int[Array, 'B L'] | None = None,
    causal: bool = False,
  ) -> 'SegmentMask':
    """Returns the mask of tokens, of which 0 is padding.

    Args:
      queries: tokens of the queries.
      keys: tokens of the keys.
      query_segment_ids: segments of packed rows, from 0; None if rows are not
        packed.
      key_segment_ids: the same of the keys.
      causal: see the class.
    """
    pairs = (queries, query_segment_ids), (keys, key_segment_ids)
    query, key = (
      jnp.where(tokens > 0, 1 if ids is None else 1 + ids, 0)
      for tokens, ids in pairs
    )
    return cls(query, key, causal)

  def dense(self) -> Bool[Array, 'B 1 Q L']:
    """Returns the mask itself."""
    visible = make_attention_mask(
      self.query, self.key, jnp.equal, dtype=jnp.bool_
    )
    visible &= (self.key > 0)[:, None, None]
    if self.causal:
      visible &= jnp.tri(*visible.shape[-2:]) > 0
    return visible


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
