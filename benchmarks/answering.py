"""Random weights that answer with labels about as long as CQA's.

A network with random weights rarely emits EOS. Here one direction of the
decoder's residual stream decides when it does, and all else stays random:
computing an answer costs as much as with trained weights, and its tokens depend
on the whole network and its input.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

_EOS = 1
# Component 0 of the residual stream decides, and nothing else writes to it;
# component 1 marks the start token. The number of a row is read from component
# 2 of the encoder's outputs.
_DECIDES, _IS_START, _READ = 0, 1, 2
# A label ends with its n-th token if a number drawn for its row is above 1 / n,
# with this mean and deviation; they fit the lengths of 4,096 labels.
_MEAN, _DEVIATION = 0.47, 0.16
# EOS follows after this many tokens.
_MOST = 8
_NEVER = -30.0


def answering(
  params: Mapping[str, Any],
  encode: Callable[[Mapping[str, Any]], jax.Array],
  real: np.ndarray,
) -> dict[str, Any]:
  """Changes random weights so that labels end.

  The first layer's self-attention has a head that attends uniformly to all
  positions so far, and so reads 1 / n of the start token at the n-th step. Its
  cross attention has one that attends uniformly to the input, and reads a
  number that differs from row to row.

  Args:
    params: of a network with unstacked layers and a separate logits matrix.
    encode: returns the encoder's outputs [B, L, D] for some rows, given
      parameters.
    real: which of these positions are real, [B, L].

  Returns:
    The changed tree.
  """
  params = jax.tree.map(np.array, params)
  table = params['token_embedder']['embedding']
  table[:, _DECIDES], table[:, _IS_START] = 1, 0
  table[0] = 0
  table[0, [_DECIDES, _IS_START]] = 1
  decoder = params['decoder']
  for name in (key for key in decoder if key.startswith('layers_')):
    for part, kernel in (
      ('self_attention', 'out'),
      ('encoder_decoder_attention', 'out'),
      ('mlp', 'wo'),
    ):
      decoder[name][part][kernel]['kernel'][:, _DECIDES] = 0
    # Drawn at random, cross attention sees a mean of the whole input, much the
    # same for all rows; this way it attends to some tokens more than to others.
    decoder[name]['encoder_decoder_attention']['query']['kernel'] *= 4

  # Numbers of the rows: their mean over the input, scaled to fit.
  encoded = np.asarray(encode(params), np.float32)[..., _READ]
  means = (encoded * real).sum(1) / real.sum(1)
  # The sign that leaves the constant part positive.
  scale = -np.copysign(_DEVIATION / means.std(), means.mean())
  constant = _MEAN - scale * means.mean()

  # The constant part is 1 already, through the embedding.
  _read_alike(decoder, 'encoder_decoder_attention', 0, _READ, scale / constant)
  # The start token, its two ones divided by their root mean square.
  share = np.sqrt(2 / table.shape[1])
  _read_alike(decoder, 'self_attention', 0, _IS_START, -3 * share / constant)
  _read_alike(decoder, 'self_attention', 1, _IS_START, 2 * share / constant)
  # The second head attends to distant positions, if there are any; the first
  # doesn't, so that both together read -1 / n first and 2 in the end.
  bias = decoder['relpos_bias']['rel_embedding']
  bias[:2] = 0
  bias[0, _MOST:] = bias[1, :_MOST] = _NEVER

  logits = decoder['logits_dense']['kernel']
  logits[:, _EOS] = 0
  logits[_DECIDES, _EOS] = 1000
  return params


def _read_alike(
  decoder: dict[str, Any], part: str, head: int, component: int, by: float
) -> None:
  """Makes a head of the first layer add `by` times a mean to what decides."""
  kernels = {k: v['kernel'] for k, v in decoder['layers_0'][part].items()}
  heads = decoder['relpos_bias']['rel_embedding'].shape[0]
  size = kernels['query'].shape[1] // heads
  first = head * size
  kernels['query'][:, first : first + size] = 0
  kernels['value'][:, first] = 0
  kernels['value'][component, first] = 1
  kernels['out'][first] = 0
  kernels['out'][first, _DECIDES] = by
