"""transformers' `generate` in PyTorch, on rows of real lengths."""

import numpy as np
import torch
import transformers


class Generator:
  """Answers in batches, each padded to its longest input.

  As released: float32, batches in the order of the data set. `best` sorts rows
  by length and, on a GPU, runs in bfloat16.
  """

  def __init__(self, path: str, best: bool = False, device: str = 'cpu'):
    """Loads a folder of weights; see the class for `best`."""
    self._device, self._best = device, best
    self._half = best and device != 'cpu'
    model = transformers.T5ForConditionalGeneration.from_pretrained(
      path, dtype=torch.bfloat16 if self._half else torch.float32
    )
    self._model = model.to(device).eval()

  def answers(
    self, inputs: list[np.ndarray], batch_size: int, max_length: int
  ) -> list[np.ndarray]:
    """Returns the tokens of the answer to each input, EOS included."""
    order = np.arange(len(inputs))
    if self._best:
      order = np.argsort([-len(x) for x in inputs], kind='stable')
    answers = [np.zeros(0, np.int64)] * len(inputs)
    for start in range(0, len(order), batch_size):
      rows = order[start : start + batch_size]
      generated = self._generate([inputs[i] for i in rows], max_length)
      for i, tokens in zip(rows, generated, strict=True):
        answers[i] = tokens
    return answers

  def _generate(self, inputs, max_length):
    length = max(len(x) for x in inputs)
    tokens = np.zeros((len(inputs), length), np.int64)
    for row, x in zip(tokens, inputs, strict=True):
      row[: len(x)] = x
    tokens = torch.from_numpy(tokens).to(self._device)
    with torch.inference_mode():
      generated = self._model.generate(
        input_ids=tokens,
        attention_mask=(tokens != 0).long(),
        max_new_tokens=max_length,
        num_beams=1,
        do_sample=False,
        use_cache=True,
      )
    # The start token comes first; what follows EOS is padding, 0.
    generated = generated[:, 1:].cpu().numpy()
    return [row[: int(np.count_nonzero(row))] for row in generated]
