"""Names of T5's parameters: ours, and those of Hugging Face."""

from collections.abc import Iterator
from typing import Any

_ATTENTION = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}
# For each part of a layer: T5X's norm, T5X's part, Hugging Face's part.
_ENCODER_PARTS = (
  ('pre_attention_layer_norm', 'attention', 'SelfAttention'),
  ('pre_mlp_layer_norm', 'mlp', 'DenseReluDense'),
)
_DECODER_PARTS = (
  ('pre_self_attention_layer_norm', 'self_attention', 'SelfAttention'),
  (
    'pre_cross_attention_layer_norm',
    'encoder_decoder_attention',
    'EncDecAttention',
  ),
  ('pre_mlp_layer_norm', 'mlp', 'DenseReluDense'),
)


EMBEDDING = 'shared.weight'
HEAD = 'lm_head.weight'
# Only gated feed-forward blocks have it.
GATE = 'encoder.block.0.layer.1.DenseReluDense.wi_0.weight'
# The embedding again. Some folders have it under one of these names alone.
COPIES = ('decoder.embed_tokens.weight', 'encoder.embed_tokens.weight')
# Further weights of some folders: a head that is the embedding again, and a
# bias that T5's conversion left and no model uses.
SPARE = (
  *COPIES,
  HEAD,
  'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight',
)


def entries(
  num_encoder: int,
  num_decoder: int,
  gated: bool,
  head: str | None,
  bias_per_layer: bool,
) -> Iterator[tuple[str, str, bool]]:
  """Yields (T5X name, Hugging Face name, whether to transpose).

  Args:
    num_encoder: layers of the encoder.
    num_decoder: layers of the decoder.
    gated: whether the feed-forward blocks have two matrices before the last.
    head: what Hugging Face calls the matrix of the logits; None where the
      logits are taken through the embedding.
    bias_per_layer: whether each layer has relative biases, as in umT5.
  """
  wi = ('wi_0', 'wi_1') if gated else ('wi',)
  yield 'token_embedder/embedding', EMBEDDING, False
  if head is not None:
    yield 'decoder/logits_dense/kernel', head, True
  for stack, count, parts in (
    ('encoder', num_encoder, _ENCODER_PARTS),
    ('decoder', num_decoder, _DECODER_PARTS),
  ):
    norm_name = f'{stack}.final_layer_norm.weight'
    yield f'{stack}/{stack}_norm/scale', norm_name, False
    bias = 'layer.0.SelfAttention.relative_attention_bias.weight'
    for layer in range(count):
      ours = f'{stack}/layers_{layer}'
      if layer == 0 or bias_per_layer:
        owner = ours if bias_per_layer else stack
        table = f'{owner}/relpos_bias/rel_embedding'
        yield table, f'{stack}.block.{layer}.{bias}', True
      for i, (norm, part, hf_part) in enumerate(parts):
        theirs = f'{stack}.block.{layer}.layer.{i}'
        yield f'{ours}/{norm}/scale', f'{theirs}.layer_norm.weight', False
        kernels = {w: w for w in (*wi, 'wo')} if part == 'mlp' else _ATTENTION
        for name, hf_name in kernels.items():
          hf_kernel = f'{theirs}.{hf_part}.{hf_name}.weight'
          yield f'{ours}/{part}/{name}/kernel', hf_kernel, True


def of_network(config: Any) -> dict[str, tuple[str, bool]]:
  """Returns Hugging Face's name by T5X's, and whether to transpose."""
  names = entries(
    config.num_encoder_layers,
    config.num_decoder_layers,
    gated=len(config.mlp_activations) == 2,
    head=None if config.logits_via_embedding else HEAD,
    bias_per_layer=getattr(config, 'relative_bias_per_layer', False),
  )
  return {name: (hf_name, flip) for name, hf_name, flip in names}
