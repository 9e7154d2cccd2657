"""transformers' T5 in PyTorch, trained as in the paper's code.

Two forward passes, one for labels and one for rationales, each padded to the
longest of its batch; the weighted sum of the two mean losses; AdamW; gradients
clipped to norm 1.
"""

import contextlib

import numpy as np
import torch
import transformers

from benchmarks import engine, workload

_ALPHA = 0.5


def make_model(
  size: str, best: bool = False
) -> transformers.T5ForConditionalGeneration:
  """Returns T5 1.1 of a size with random weights.

  Args:
    size: of `engine.SIZES`.
    best: use PyTorch's own attention where this transformers has it for T5.
  """
  emb_dim, num_heads, layers, mlp_dim = engine.SIZES[size]
  torch.manual_seed(0)
  config = transformers.T5Config(
    vocab_size=engine.VOCAB_SIZE,
    d_model=emb_dim,
    d_kv=64,
    d_ff=mlp_dim,
    num_layers=layers,
    num_heads=num_heads,
    feed_forward_proj='gated-gelu',
    tie_word_embeddings=False,
    dropout_rate=0.1,
    decoder_start_token_id=0,
  )
  kind = transformers.T5ForConditionalGeneration
  attention = 'sdpa' if best and kind._supports_sdpa else 'eager'
  return kind._from_config(config, attn_implementation=attention)


class Stepper:
  """Takes optimizer steps; `best` enables what makes PyTorch fast.

  That is bfloat16 autocast, the fused optimizer and PyTorch's own attention;
  `compiled` adds `torch.compile`, which takes minutes before the first step.
  """

  def __init__(
    self,
    size: str,
    best: bool = False,
    device: str = 'cpu',
    compiled: bool = False,
  ):
    """Draws the weights of a size; see the class for the options."""
    self._device, self._best = device, best
    self._model = make_model(size, best).to(device).train()
    self._forward = self._model
    if compiled:
      self._forward = torch.compile(self._model, dynamic=True)
    self._optimizer = torch.optim.AdamW(
      self._model.parameters(), lr=5e-5, fused=best
    )

  def step(self, rows: list[workload.Example]) -> torch.Tensor:
    """Takes a step on some rows; returns the loss, which can be waited for."""
    explained = [row for row in rows if row.rationale.size]
    label = self._loss([r.predict for r in rows], [r.label for r in rows])
    rationale = self._loss(
      [r.explain for r in explained], [r.rationale for r in explained]
    )
    loss = _ALPHA * label + (1 - _ALPHA) * rationale
    loss.backward()
    torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
    self._optimizer.step()
    self._optimizer.zero_grad()
    return loss.detach()

  def peak_bytes(self) -> int:
    """Most of a GPU's memory that was used."""
    return torch.cuda.max_memory_allocated() if self._device != 'cpu' else 0

  def _loss(self, inputs, targets):
    tokens = self._padded(inputs, 0)
    labels = self._padded(targets, -100)
    cast = contextlib.nullcontext()
    if self._best:
      cast = torch.autocast(self._device, dtype=torch.bfloat16)
    with cast:
      return self._forward(
        input_ids=tokens, attention_mask=(tokens != 0).long(), labels=labels
      ).loss

  def _padded(self, sequences, padding):
    length = max(len(x) for x in sequences)
    array = np.full((len(sequences), length), padding, np.int64)
    for row, x in zip(array, sequences, strict=True):
      row[: len(x)] = x
    return torch.from_numpy(array).to(self._device)
