"""The layers of T5, under the names of `t5x.examples.t5.layers`."""

from t5x.examples.t5.attention import (
  MultiHeadDotProductAttention,
  dot_product_attention,
)
from t5x.examples.t5.cache_slices import dynamic_vector_slice_in_dim
from t5x.examples.t5.dense import DenseGeneral, Embed, LayerNorm, MlpBlock
from t5x.examples.t5.masks import (
  combine_biases,
  combine_masks,
  make_attention_mask,
  make_causal_mask,
  make_decoder_mask,
)
from t5x.examples.t5.positions import (
  RelativePositionBiases,
  relative_position_bucket,
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
  'relative_position_bucket',
]
