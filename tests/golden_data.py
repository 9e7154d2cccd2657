"""Loads the golden T5X arrays of `tests/golden/<name>/`.

`t5x_1_1` and `t5x_1_0` come from upstream T5X on a tiny T5, float32, CPU,
dropout 0. They are facts about T5X: they change only if other models or batches
are run through it.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import numpy as np
from flax import traverse_util

_FOLDER = pathlib.Path(__file__).parent / 'golden'


@dataclasses.dataclass(frozen=True)
class Golden:
  """What T5X printed for one tiny model.

  Attributes:
    name: the folder, such as 't5x_1_1'.
    facts: facts.json: config, param_shapes, param_axes, loss, Adafactor steps.
    params: nested dict of the parameters.
    params_after_4_adafactor_steps: nested dict of the parameters.
    batch: one example a row.
    batch_packed: the same examples, two a row.
    logits: [B, T, V] of `batch`.
    logits_packed: [B, T, V] of `batch_packed`.
    decode: sequences and scores of T5X's decoders, and `score_batch`.
  """

  name: str
  facts: dict[str, Any]
  params: dict[str, Any]
  params_after_4_adafactor_steps: dict[str, Any]
  batch: dict[str, np.ndarray]
  batch_packed: dict[str, np.ndarray]
  logits: np.ndarray
  logits_packed: np.ndarray
  decode: dict[str, np.ndarray]

  @property
  def config_kwargs(self) -> dict[str, Any]:
    """Arguments of `T5Config`, with the activations as a tuple."""
    config = dict(self.facts['config'])
    config['mlp_activations'] = tuple(config['mlp_activations'])
    return config


@functools.cache
def load(name: str) -> Golden:
  """Returns the golden data of one folder, read once per process."""
  folder = _FOLDER / name

  def arrays(stem):
    with np.load(folder / f'{stem}.npz') as file:
      return dict(file)

  def tree(stem):
    return traverse_util.unflatten_dict(arrays(stem), sep='/')

  logits = arrays('logits')
  return Golden(
    name=name,
    facts=json.loads((folder / 'facts.json').read_text()),
    params=tree('params'),
    params_after_4_adafactor_steps=tree('params_after_4_adafactor_steps'),
    batch=arrays('batch'),
    batch_packed=arrays('batch_packed'),
    logits=logits['logits'],
    logits_packed=logits['logits_packed'],
    decode=arrays('decode'),
  )
