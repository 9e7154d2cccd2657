"""The layers of T5, under the names of `t5x.examples.scalable_t5.layers`."""

from t5x.examples.t5 import attention
from t5x.examples.t5.layers import (
  DenseGeneral,
  Embed,
  LayerNorm,
  MlpBlock,
  RelativePositionBiases,
  combine_biases,
  combine_masks,
  dot_product_attention,
  dynamic_vector_slice_in_dim,
  make_attention_mask,
  make_causal_mask,
  make_decoder_mask,
)

__all__ = [
  'DenseGeneral',
  'Embed',
  'LayerNorm',
  'MlpBlock',
  'MultiHeadDotProductAttention',
  'RelativePositionBiases',
  'combine_biases',
  'combine_masks',
  'dot_product_attention',
  'dynamic_vector_slice_in_dim',
  'make_attention_mask',
  'make_causal_mask',
  'make_decoder_mask',
]


class MultiHeadDotProductAttention(attention.MultiHeadDotProductAttention):
  """Multi-head attention whose kernels keep an axis for the heads."""

  joined_kernels: bool = False
