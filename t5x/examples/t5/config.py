"""T5Config: the dimensions and options of a T5."""

from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from t5x import errors
from t5x.examples.t5 import dense
from t5x.examples.t5 import dropout as dropout_lib
from t5x.examples.t5 import lora as lora_lib

# What is kept of a layer's forward pass for its backward pass; everything else
# is computed again. 'none' rematerializes nothing.
REMAT_POLICIES = {
  'none': None,
  # What products with parameters and attention give, but not its weights.
  'minimal': jax.checkpoint_policies.save_only_these_names(dense.PRODUCT),
  # Only what a layer starts from.
  'full': jax.checkpoint_policies.nothing_saveable,
}


@struct.dataclass
class T5Config:
  """Dimensions and options of a T5.

  T5 1.0 has `mlp_activations=('relu',)` and `logits_via_embedding=True`, T5 1.1
  `('gelu', 'linear')` and False.

  Attributes:
    vocab_size: V, rows of the embedding.
    dtype: type of the activations.
    emb_dim: D.
    num_heads: attention heads.
    num_encoder_layers: layers of the encoder.
    num_decoder_layers: layers of the decoder.
    head_dim: size of a head.
    mlp_dim: inner size of the feed-forward blocks.
    mlp_activations: see `layers.MlpBlock`.
    dropout_rate: of every dropout.
    dropout_masks: which positions of a row share a mask of the features: 'row'
      (all of them, T5X's dropout), 'example' (those of one example of a packed
      row; in other rows, all) or 'position' (none). Attention drops whole keys
      at every setting. Not in T5X's config.
    logits_via_embedding: computes the logits with the token embedding.
    float32_attention_logits: attention logits in float32 and not `dtype`.
      Softmax, norms and loss are always in float32.
    attention_kernel: what computes attention over whole sequences: 'xla', or
      'cudnn', NVIDIA's kernel, which keeps no weights in memory and needs a GPU
      of theirs and a `dtype` of two bytes, or 'pallas', a kernel of this
      project for TPUs, which keeps no biases and masks there either. Decoding's
      steps always use 'xla'. Not in T5X's config.
    layer_norm_epsilon: what every norm adds to the mean square. Not in T5X's
      config, like the next two, whose defaults are T5X's constants.
    relative_attention_num_buckets: buckets of relative positions.
    relative_attention_max_distance: from here on all distances share the last
      bucket.
    scan_layers: compiles one encoder and one decoder layer and runs each in a
      loop, for a compile time that does not grow with the number of layers.
      The parameters of all layers of a stack are in one array (`layers/…` with
      a first axis 'layers', in place of `layers_0/…`, `layers_1/…`).
      Checkpoints of either kind restore into the other. Not in T5X's config.
    param_scan_axis: which axis of the parameters of a stack is the layer: 0 or
      1, as in T5X's scalable_t5.
    scalable_names: names and shapes of parameters as in T5X's scalable_t5: a
      stack is `encoder/encoder/…` in place of `encoder/layers/…`, and kernels
      of attention keep their axes of heads ([D, H, K] in place of [D, H * K]).
      The numbers stay the same.
    relative_bias_per_layer: gives each layer a table of relative position
      biases, as in scalable_t5 and umT5, and not all layers of a stack one.
      Neither this nor the two before are in T5X's config of this network.
    remat_policy: what the backward pass computes again to save memory: 'none',
      'minimal' (all but products with parameters and what attention gives) or
      'full' (everything inside a layer). The numbers stay the same. Not in
      T5X's config.
    param_dtype: type of kernels, embedding and relative biases, 'float32' or
      'bfloat16'; scales of norms and adapters are float32. Not in T5X's config,
      like the next four.
    lora_rank: rank of the adapters; 0 for none. Only they are meant to be
      trained: see `optimizers.PartialOptimizer`.
    lora_alpha: by which, divided by the rank, what they add is multiplied.
    lora_dropout_rate: dropout of their inputs, a feature of a row at a time,
      whatever `dropout_masks` says.
    lora_kernels: names of the kernels that have one, in all layers.
  """

  vocab_size: int
  dtype: dense.DType = jnp.float32
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
  attention_kernel: str = 'xla'
  layer_norm_epsilon: float = 1e-6
  relative_attention_num_buckets: int = 32
  relative_attention_max_distance: int = 128
  scan_layers: bool = False
  remat_policy: str = 'none'
  dropout_masks: str = 'row'
  param_scan_axis: int = 0
  scalable_names: bool = False
  relative_bias_per_layer: bool = False
  param_dtype: dense.DType = jnp.float32
  lora_rank: int = 0
  lora_alpha: float = 16.0
  lora_dropout_rate: float = 0.0
  lora_kernels: Sequence[str] = ('query', 'value')

  def __post_init__(self):
    for name, known in (
      ('remat_policy', REMAT_POLICIES),
      ('dropout_masks', dropout_lib.MASKS),
      ('attention_kernel', ('xla', 'cudnn', 'pallas')),
      # Norms have no more axes.
      ('param_scan_axis', (0, 1)),
    ):
      self._check(name, known)
    if jnp.dtype(self.param_dtype) not in (jnp.float32, jnp.bfloat16):
      raise errors.UserError(
        "T5Config.param_dtype: expected 'float32' or 'bfloat16', found"
        f' {self.param_dtype!r}.'
      )
    half = (jnp.bfloat16, jnp.float16)
    if self.attention_kernel == 'cudnn' and jnp.dtype(self.dtype) not in half:
      raise errors.UserError(
        "T5Config.attention_kernel: 'cudnn' needs a dtype of 'bfloat16' or"
        f" 'float16', found {jnp.dtype(self.dtype).name!r}; set T5Config.dtype,"
        " or attention_kernel = 'xla'."
      )
    if self.lora_rank:
      self._check_lora()

  @property
  def lora(self) -> lora_lib.Lora | None:
    """The adapters; None if there are none."""
    if not self.lora_rank:
      return None
    return lora_lib.Lora(
      self.lora_rank,
      self.lora_alpha,
      self.lora_dropout_rate,
      tuple(self.lora_kernels),
    )

  def _check_lora(self) -> None:
    """Raises a UserError unless the adapters can be made."""
    for name, fits, expected in (
      ('lora_rank', self.lora_rank > 0, 'a rank from 1, or 0 for none'),
      ('lora_alpha', self.lora_alpha > 0, 'a positive number'),
      ('lora_dropout_rate', 0 <= self.lora_dropout_rate < 1, '0 to below 1'),
      ('lora_kernels', bool(self.lora_kernels), 'names of kernels'),
    ):
      if not fits:
        raise errors.UserError(
          f'T5Config.{name}: expected {expected}, found'
          f' {getattr(self, name)!r}.'
        )
    count = len(self.mlp_activations)
    known = ['query', 'key', 'value', 'out', 'wo']
    known += ['wi'] if count == 1 else [f'wi_{i}' for i in range(count)]
    known += [] if self.logits_via_embedding else ['logits_dense']
    for kernel in self.lora_kernels:
      if kernel not in known:
        raise errors.UserError(
          f'T5Config.lora_kernels: expected names among {", ".join(known)},'
          f' found {kernel!r}.' + errors.did_you_mean(str(kernel), known)
        )

  def _check(self, name: str, known: Collection[Any]) -> None:
    """Raises a UserError unless an attribute has one of the known values."""
    value = getattr(self, name)
    if value not in known:
      raise errors.UserError(
        f'T5Config.{name}: expected one of {", ".join(map(repr, known))}, found'
        f' {value!r}.' + errors.did_you_mean(str(value), map(str, known))
      )
