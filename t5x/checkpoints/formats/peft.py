"""Adapters that peft saved, beside the checkpoint that they are for.

peft's folder holds the two factors of each adapter, which `low_rank` writes in
the same way, and names the model that they are for. Opened with that model, it
is a checkpoint as any other: its leaves are the model's, and beside the kernels
the adapters'. What else peft can do to a model is refused by its name.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util

from t5x import files, state_utils
from t5x.checkpoints.formats import (
  huggingface,
  huggingface_names,
  layer_stacks,
  lazy_array,
  low_rank,
)
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.errors import UserError

CONFIG_FILE = low_rank.CONFIG_FILE
WEIGHTS_FILE = low_rank.WEIGHTS_FILE
# It may list every module of a model by its name.
_MAX_BYTES = 2**22
_BASE = 'base_model_name_or_path'
# What a configuration says that changes none of the numbers, or what is read.
_HARMLESS = {
  'auto_mapping', 'exclude_modules', 'inference_mode', 'init_lora_weights',
  'layers_pattern', 'layers_to_transform', 'lora_alpha', 'lora_dropout',
  'megatron_core', 'peft_type', 'peft_version', 'qalora_group_size', 'r',
  'revision', 'target_modules', 'task_type', _BASE,
}  # fmt: skip
_OFF: tuple[Any, ...] = (None, False, 'none', [], {})
# Ways to begin that leave the model's own weights as they are.
_BEGINNINGS = (None, True, False, 'gaussian')
_WEIGHT = re.compile(
  r'base_model\.model\.(.+)\.(lora_A|lora_B|base_layer)\.weight'
)
# The model's own weight is saved, too, where the head has an adapter.
_OURS = {'lora_A': 'lora/a', 'lora_B': 'lora/b', 'base_layer': 'kernel'}
_LAYER = re.compile(r'(encoder|decoder)/layers_(\d+)/.+')
_SHOWN = 4


def is_folder(path: str) -> bool:
  """Whether `path` is a local folder with adapters that peft saved."""
  if files.is_remote(path):
    return False
  folder = pathlib.Path(path)
  return all((folder / n).is_file() for n in (CONFIG_FILE, WEIGHTS_FILE))


def explain(path: str) -> UserError:
  """Returns the error for a folder with `adapter_config.json` alone."""
  if files.is_remote(path):
    return UserError(
      f"{path}: peft's folders are read from local disk only. Copy it to a"
      ' local folder and give that path.'
    )
  return UserError(
    f'{path}: this folder of peft has {CONFIG_FILE} but no {WEIGHTS_FILE}. Copy'
    ' it again, or save the adapters again with safe_serialization = True.'
  )


def base_model(path: str) -> str:
  """Returns what a folder calls the model that its adapters are for.

  Raises:
    UserError: it names none.
  """
  name = _read(path).get(_BASE)
  if not isinstance(name, str) or not name:
    raise UserError(
      f'{path}/{CONFIG_FILE}: {_BASE}: expected the checkpoint that the'
      f' adapters are for, found {name!r:.60}. {base_hint(path)}'
    )
  return name


def base_hint(path: str) -> str:
  """Returns how to say where the model of a folder's adapters is."""
  return (
    f'Put the place of the model into {_BASE} of {path}/{CONFIG_FILE}: a'
    ' Hugging Face folder or a T5X checkpoint on this machine; or give'
    ' RestoreCheckpointConfig.base.'
  )


def joined(path: str, base: Mapping[str, Any]) -> dict[str, Any]:
  """Returns an opened base with a folder's adapters; nothing is read.

  Args:
    path: the folder.
    base: the opened checkpoint of the model that they are for.

  Returns:
    The parameters: nested dicts of `LazyArray`, with layers one by one.

  Raises:
    UserError: the base has adapters itself, or the folder holds anything but
      adapters of the base's kernels.
  """
  rank = _read(path)['r']
  flat = layer_stacks.unstack(state_utils.flatten_state_dict(base['target']))
  own = sorted(filter(low_rank.is_adapter, flat))
  if own:
    raise UserError(
      f'{path}: expected adapters of a model without any, but its base has'
      f' {own[0]}. Merge those first (dss export), and give that folder as the'
      ' base.'
    )
  places = _places(flat)
  file = f'{path}/{WEIGHTS_FILE}'
  added: dict[str, LazyArray] = {}
  for name, leaf in _open(path).items():
    parts = _WEIGHT.fullmatch(name)
    if parts is None or parts[1] not in places:
      raise UserError(
        f'{file}: expected lora_A and lora_B of modules of the base, such as'
        f' {next(iter(places), "none")}, found {name!r:.120}. Give adapters of'
        ' this model that are LoRA and nothing else.'
      )
    ours = huggingface.transposed(leaf)
    _check_rank(f'{file}: {name}', parts[2], ours.shape, rank)
    added[f'{places[parts[1]]}/{_OURS[parts[2]]}'] = ours
  for name in filter(low_rank.is_adapter, added):
    other = name[:-1] + ('b' if name.endswith('a') else 'a')
    if other not in added:
      raise UserError(
        f'{file}: an adapter has two factors, found {added[name].name} without'
        ' the other. Copy the folder again.'
      )
  return flax.traverse_util.unflatten_dict({**flat, **added}, sep='/')


def _places(flat: Mapping[str, Any]) -> dict[str, str]:
  """Returns our names of maps by what transformers calls them.

  `decoder.block.1.layer.1.EncDecAttention.q` →
  `decoder/layers_1/encoder_decoder_attention/query`.

  Args:
    flat: leaves of the base by their names, with layers one by one.
  """
  counts = {'encoder': 0, 'decoder': 0}
  for name in flat:
    if parts := _LAYER.fullmatch(name):
      counts[parts[1]] = max(counts[parts[1]], int(parts[2]) + 1)
  entries = huggingface_names.entries(
    counts['encoder'],
    counts['decoder'],
    gated='encoder/layers_0/mlp/wi_0/kernel' in flat,
    head=(
      huggingface_names.HEAD if 'decoder/logits_dense/kernel' in flat else None
    ),
    bias_per_layer=False,
  )
  return {
    hf_name.removesuffix('.weight'): name.removesuffix('/kernel')
    for name, hf_name, _ in entries
    if name.endswith('/kernel')
  }


def _check_rank(
  where: str, part: str, shape: tuple[int, ...], rank: int
) -> None:
  """Raises unless a factor is a matrix of the configuration's rank.

  Args:
    where: names it.
    part: 'lora_A', 'lora_B' or 'base_layer'.
    shape: as we have it: [D, R] and [R, F].
    rank: R.
  """
  if len(shape) != 2:
    raise UserError(f'{where}: expected a matrix, found the shape {shape}.')
  axis = {'lora_A': 1, 'lora_B': 0}.get(part)
  if axis is not None and shape[axis] != rank:
    raise UserError(
      f'{where}: {CONFIG_FILE} says r = {rank}, found the rank {shape[axis]}.'
      ' Copy the folder again, with both files of the same adapters.'
    )


def check_network(path: str, network: Any) -> None:
  """Raises unless a network has just the adapters of a folder.

  Args:
    path: the folder.
    network: the `T5Config` of the network. Anything without `lora` is not a
      T5's, and passes.

  Raises:
    UserError: names both sides, and the binding to change.
  """
  if not hasattr(network, 'lora'):
    return
  config = _read(path)
  ours = {
    hf_name.removesuffix('.weight'): name.split('/')[-2]
    for name, (hf_name, _) in huggingface_names.of_network(network).items()
    if name.endswith('/kernel')
  }
  found = {p[1] for n in _open(path) if (p := _WEIGHT.fullmatch(n))}
  kernels = tuple(dict.fromkeys(ours[m] for m in sorted(found & set(ours))))
  if network.lora is None:
    raise UserError(
      f'{path}: holds adapters, but the network has none. Add'
      ' --gin_file=gin/engine/lora.gin with'
      f' LORA_RANK = {config["r"]}, LORA_ALPHA = {config["lora_alpha"]} and'
      f' LORA_KERNELS = {kernels}, or merge them into the model with peft.'
    )
  for key, attribute in (('r', 'rank'), ('lora_alpha', 'alpha')):
    value = getattr(network.lora, attribute)
    if config[key] != value:
      raise UserError(
        f'{path}/{CONFIG_FILE}: {key} is {config[key]}, but the network has'
        f' lora_{attribute} = {value}. Set LORA_{attribute.upper()} ='
        f' {config[key]} (network.T5Config.lora_{attribute}).'
      )
  wanted = {m for m, kernel in ours.items() if kernel in network.lora.kernels}
  if found != wanted:
    missing, more = sorted(wanted - found), sorted(found - wanted)
    whole = found == {m for m, kernel in ours.items() if kernel in kernels}
    raise UserError(
      f'{path}: its adapters are not those of the network, which has'
      f' lora_kernels = {network.lora.kernels} in all layers: missing'
      f' {missing[:_SHOWN] or "none"}, not expected {more[:_SHOWN] or "none"}. '
      + (
        f'Set LORA_KERNELS = {kernels} (network.T5Config.lora_kernels).'
        if whole
        else 'Give adapters that are in all layers of this model.'
      )
    )


def _read(path: str) -> dict[str, Any]:
  """Reads the configuration.

  Raises:
    UserError: it is of another method than LoRA, or of more than that.
  """
  file = pathlib.Path(path) / CONFIG_FILE
  config = lazy_array.json_file(
    file, 'the configuration of adapters that peft saved', _MAX_BYTES
  )
  if config.get('peft_type') != 'LORA':
    raise UserError(
      f"{file}: expected peft_type 'LORA', found"
      f' {config.get("peft_type")!r:.60}. Only low-rank adapters can be loaded;'
      ' merge others into the model with peft.'
    )
  more = {
    key: value
    for key, value in sorted(config.items())
    if key not in _HARMLESS and value not in _OFF
  }
  beginning = config.get('init_lora_weights', True)
  if beginning not in _BEGINNINGS:
    more['init_lora_weights'] = beginning
  if more:
    key, value = next(iter(more.items()))
    raise UserError(
      f'{file}: expected low-rank adapters and nothing else, found {key} ='
      f' {value!r:.60}. The network has no such thing; merge it into the model'
      ' with peft.'
    )
  rank, alpha = config.get('r'), config.get('lora_alpha', 0)
  if type(rank) is not int or rank < 1:
    raise UserError(
      f'{file}: r: expected a positive integer, found {rank!r:.60}. Copy the'
      ' folder again.'
    )
  if type(alpha) not in (int, float) or not alpha > 0:
    raise UserError(
      f'{file}: lora_alpha: expected a positive number, found {alpha!r:.60}.'
      ' Copy the folder again.'
    )
  return config


def _open(path: str) -> dict[str, LazyArray]:
  return huggingface.open_safetensors(pathlib.Path(path) / WEIGHTS_FILE)
