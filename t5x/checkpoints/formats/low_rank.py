"""Low-rank adapters: merged into the kernels that they adapt, or for peft.

A kernel has its adapter beside it: `…/query/kernel` [D, F], `…/query/lora/a`
[D, R] and `…/query/lora/b` [R, F]. peft has a file for adapters alone, with
both of them transposed, as `lora_A` and `lora_B` of the module that
transformers calls `…SelfAttention.q`.
"""

import json
import os
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from t5x import files
from t5x.checkpoints.formats import lazy_array
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.errors import UserError

WEIGHTS_FILE = 'adapter_model.safetensors'
CONFIG_FILE = 'adapter_config.json'
_ADAPTER = re.compile(r'(.+)/lora/([ab])')


def is_adapter(name: str) -> bool:
  """Whether a leaf, by its name, is a part of an adapter."""
  return _ADAPTER.fullmatch(name) is not None


def merged(flat: Mapping[str, Any], scale: float) -> dict[str, Any]:
  """Returns leaves without adapters, which are added to their kernels.

  Args:
    flat: leaves of single layers by their names; kernels are matrices.
    scale: what a @ b is multiplied by.

  Returns:
    The others as they are, and a float32 `LazyArray` for each adapted kernel.
  """
  out = {name: leaf for name, leaf in flat.items() if not is_adapter(name)}
  for kernel, (a, b) in _adapters(flat).items():
    w, a, b = (lazy_array.as_lazy(kernel, x) for x in (flat[kernel], a, b))
    out[kernel] = _sum(w, a, b, scale)
  return out


def _adapters(flat: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
  """Returns a and b by the name of the kernel that they adapt."""
  maps = [m[1] for name in flat if (m := _ADAPTER.fullmatch(name))]
  found = {}
  for place in dict.fromkeys(maps):
    kernel, a, b = (f'{place}/{n}' for n in ('kernel', 'lora/a', 'lora/b'))
    for name in (kernel, a, b):
      if name not in flat:
        raise UserError(
          f'{place}/lora: the adapter lacks {name}. Give the checkpoint of a'
          ' run with gin/engine/lora.gin.'
        )
    found[kernel] = flat[a], flat[b]
  return found


def _sum(
  kernel: LazyArray, a: LazyArray, b: LazyArray, scale: float
) -> LazyArray:
  """Returns kernel + scale * a @ b, in float32."""
  every = slice(0, a.shape[1])

  def start_read(index):
    rows, columns = index
    return lazy_array.DerivedRead(
      lambda w, a, b: w + np.float32(scale) * (a @ b),
      kernel.astype(np.float32).start_read(index),
      a.astype(np.float32).start_read((rows, every)),
      b.astype(np.float32).start_read((every, columns)),
    )

  return LazyArray(kernel.name, kernel.shape, np.float32, start_read)


def write_peft(
  flat: Mapping[str, Any],
  modules: Mapping[str, str],
  config: Any,
  path: str,
  base_model: str,
) -> None:
  """Writes adapters as a folder that peft loads.

  Args:
    flat: leaves of single layers by their names.
    modules: what transformers calls the module of each kernel.
    config: the network's `T5Config`, whose `lora` they are.
    path: an existing folder.
    base_model: the model that they are for, as transformers finds it.

  Raises:
    UserError: there are no adapters.
  """
  adapters = _adapters(flat)
  if config.lora is None or not adapters:
    raise UserError(
      'Expected a student with adapters (gin/engine/lora.gin), found one'
      ' without any. Export it without --adapters-only.'
    )
  weights = {}
  for kernel, pair in adapters.items():
    module = f'base_model.model.{modules[kernel]}'
    for part, leaf in zip('AB', pair, strict=True):
      weights[f'{module}.lora_{part}.weight'] = np.ascontiguousarray(
        np.asarray(leaf).astype(np.float32).T
      )
  names = {modules[kernel].rpartition('.')[2] for kernel in adapters}
  described = {
    'base_model_name_or_path': base_model,
    'bias': 'none',
    'fan_in_fan_out': False,
    'inference_mode': True,
    'lora_alpha': config.lora.alpha,
    'lora_dropout': config.lora.dropout_rate,
    'peft_type': 'LORA',
    'r': config.lora.rank,
    'target_modules': sorted(names),
    'task_type': 'SEQ_2_SEQ_LM',
  }
  folder = pathlib.Path(path)
  with files.replacing(folder / CONFIG_FILE) as work:
    work.write_text(json.dumps(described, indent=2) + '\n', encoding='utf-8')
  with files.replacing(folder / WEIGHTS_FILE) as work:
    safetensors.numpy.save_file(
      weights, os.fspath(work), metadata={'format': 'pt'}
    )
    # safetensors creates it with mode 0600.
    shutil.copymode(folder / CONFIG_FILE, work)
