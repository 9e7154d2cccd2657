"""Conversion between a Hugging Face T5 folder and a T5X parameter tree.

Both hold the same numbers under different names. Hugging Face stores a
projection as [out, in] and T5X as [in, out]; Hugging Face numbers a layer's
parts (`block.0.layer.1`) and T5X names them (`layers_0/mlp`); the relative
position biases are [buckets, heads] in Hugging Face's first block, and
[heads, buckets] in T5X's stack. umT5 has them in every block, and so in every
layer of a network with `relative_bias_per_layer`.

T5 1.1 has `wi_0`, `wi_1` and its own `logits_dense`; T5 1.0 has `wi` and takes
its logits through the embedding.
"""

import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors
import safetensors.numpy

from t5x import files as files_lib
from t5x.checkpoints.formats import (
  attention_heads,
  huggingface_config,
  huggingface_names,
  layer_stacks,
  lazy_array,
  low_rank,
  torch_pickle,
)
from t5x.checkpoints.formats.huggingface_config import CONFIG_FILE
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.errors import UserError

WEIGHTS_FILE = 'model.safetensors'
# The most bytes that are written to one file of weights.
_MAX_FILE_BYTES = 5 * 10**9
# The most bytes that are read of an index: it has a line for each weight.
_MAX_INDEX_BYTES = 2**26
# Files of weights, in order of preference: one file, or the index of several.
_INDEX_FILE = 'model.safetensors.index.json'
_WEIGHTS = (
  WEIGHTS_FILE,
  _INDEX_FILE,
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
)


def is_huggingface_folder(path: str) -> bool:
  """Whether `path` is a local folder with a configuration and weights."""
  if files_lib.is_remote(path):
    return False
  folder = pathlib.Path(path)
  return (folder / CONFIG_FILE).is_file() and any(
    (folder / name).is_file() for name in _WEIGHTS
  )


def explain(path: str) -> UserError:
  """Returns the error for a folder with `config.json` that can't be opened."""
  if files_lib.is_remote(path):
    return UserError(
      f'{path}: a Hugging Face folder is read from local disk only. Copy it to'
      ' a local folder and give that path.'
    )
  return UserError(
    f'{path}: this Hugging Face folder has {CONFIG_FILE} but no weights: looked'
    f' for {", ".join(_WEIGHTS)}. Download the folder again.'
  )


# Names in an error, and rows that are compared at a time.
_SHOWN = 4
_ROWS = 4096


def open_folder(path: str) -> dict[str, Any]:
  """Opens a folder; no array is read yet, except to tell copies apart.

  Args:
    path: a local folder with `config.json` and weights, in one file or in
      several with an index: safetensors, or PyTorch's, whose pickled code is
      not executed (see `torch_pickle`).

  Returns:
    The parameters under T5X's names: nested dicts of `LazyArray`.

  Raises:
    UserError: weights are missing, unknown or damaged, or a PyTorch file holds
      anything but tensors.
  """
  if not is_huggingface_folder(path):
    raise explain(path)
  config = huggingface_config.read(path)
  stored = _open_weights(path)
  gated = huggingface_names.GATE in stored
  _name_embedding(stored)
  head, _ = _logits(config, stored)
  layers = huggingface_config.layers(path, config)
  names: list[tuple[str, str, bool]] = []
  missing: list[str] = []
  per_layer = huggingface_config.bias_per_layer(config)
  for entry in huggingface_names.entries(*layers, gated, head, per_layer):
    names.append(entry)
    if entry[1] not in stored:
      missing.append(entry[1])
      if len(missing) == _SHOWN:
        break  # A configuration can ask for any number of layers.
  known = {hf_name for _, hf_name, _ in names}
  unknown = sorted(set(stored) - known - set(huggingface_names.SPARE))
  if len(missing) == _SHOWN:
    unknown = []  # The names were not all listed.
  if missing or unknown:
    raise UserError(
      f'{path}: its weights do not fit its {CONFIG_FILE} ({layers[0]} encoder'
      f' layers, {layers[1]} decoder layers, {"gated" if gated else "plain"}'
      f' feed-forward): missing {missing or "none"}, not expected'
      f' {unknown[:_SHOWN] or "none"}. Download the folder again, or check that'
      ' both files are of the same model.'
    )
  return flax.traverse_util.unflatten_dict(
    {
      name: transposed(stored[hf_name]) if flip else stored[hf_name]
      for name, hf_name, flip in names
    },
    sep='/',
  )


def check_network(path: str, network: Any) -> None:
  """Raises if a network would give other numbers with a folder's weights.

  Names and shapes of the weights don't show what is checked here.

  Args:
    path: the folder.
    network: the `T5Config` of the network, or an object with the same
      attributes. One without `mlp_activations` is not a T5's, and passes.

  Raises:
    UserError: says what differs, and the binding to change.
  """
  if not hasattr(network, 'mlp_activations'):
    return
  config = huggingface_config.read(path)
  stored = _open_weights(path)
  huggingface_config.check_network(
    path, config, network, huggingface_names.GATE in stored
  )
  _name_embedding(stored)
  for name in huggingface_names.COPIES:
    if name in stored and not _same(
      stored[name], stored[huggingface_names.EMBEDDING]
    ):
      raise UserError(
        f'{path}: {name} differs from the other embedding: expected one'
        ' embedding for encoder and decoder, which is all that the network'
        ' (network.T5Config) has, found two. Take one whose stacks share it.'
      )
  head, scaled = _logits(config, stored)
  huggingface_config.check_scale(
    path, network, head == huggingface_names.HEAD, scaled
  )


def network(path: str) -> dict[str, Any]:
  """Returns the arguments of the `T5Config` of a folder's network.

  Raises:
    UserError: the folder cannot be opened, or no network of ours is its.
  """
  if not is_huggingface_folder(path):
    raise explain(path)
  config = huggingface_config.read(path)
  stored = _open_weights(path)
  _name_embedding(stored)
  head, _ = _logits(config, stored)
  return huggingface_config.network(path, config, head is None)


def _name_embedding(stored: dict[str, LazyArray]) -> None:
  """Gives the embedding its usual name, where it has the name of a copy."""
  for name in huggingface_names.COPIES:
    if name in stored:
      stored.setdefault(huggingface_names.EMBEDDING, stored[name])


def _logits(
  config: Mapping[str, Any], stored: Mapping[str, LazyArray]
) -> tuple[str | None, bool]:
  """Returns the name of the matrix of the logits, and whether they are scaled.

  The name is None where they are taken through the embedding and scaled, as the
  network does then. What is stored decides, not the flag alone: transformers 5
  writes for T5 1.1, too, that the embeddings are tied.
  """
  head, embedding = (
    stored.get(huggingface_names.HEAD),
    stored.get(huggingface_names.EMBEDDING),
  )
  flag = config.get('tie_word_embeddings')
  # Where the flag says no and none is stored, the head is missing.
  tied = (flag is None or bool(flag)) and (
    head is None or (embedding is not None and _same(head, embedding))
  )
  scaled = config.get('scale_decoder_outputs')
  scaled = tied if scaled is None else bool(scaled)
  if not tied:
    return huggingface_names.HEAD, scaled
  # A head of its own is not scaled.
  return (None if scaled else huggingface_names.EMBEDDING), scaled


def _same(a: LazyArray, b: LazyArray) -> bool:
  """Whether two matrices are equal; reads up to the first rows that differ."""
  return a.shape == b.shape and all(
    np.array_equal(
      a.start_read((slice(row, row + _ROWS), slice(None))).result(),
      b.start_read((slice(row, row + _ROWS), slice(None))).result(),
    )
    for row in range(0, a.shape[0], _ROWS)
  )


def transposed(array: LazyArray) -> LazyArray:
  """Returns a matrix with its axes in the other order; nothing is read."""

  def start_read(index):
    rows = array.start_read(index[::-1])
    return lazy_array.DerivedRead(lambda x: np.ascontiguousarray(x.T), rows)

  return LazyArray(array.name, array.shape[::-1], array.dtype, start_read)


def _open_weights(path: str) -> dict[str, LazyArray]:
  """Opens the folder's files of weights; returns arrays by their names."""
  folder = pathlib.Path(path)
  (name, *_) = (name for name in _WEIGHTS if (folder / name).is_file())
  files = _files_of_index(folder / name) if name.endswith('.json') else [name]
  is_torch = name.startswith('pytorch')
  open_file = torch_pickle.open_file if is_torch else open_safetensors
  stored: dict[str, LazyArray] = {}
  for file in files:
    stored.update(open_file(folder / file))
  for array in stored.values():
    _check_type(array)
  return stored


def _files_of_index(index: pathlib.Path) -> list[str]:
  what = 'the index of the files of weights'
  content = lazy_array.json_file(index, what, _MAX_INDEX_BYTES)
  try:
    names = sorted(set(content['weight_map'].values()))
  except (LookupError, AttributeError, TypeError) as error:
    raise UserError(
      f"{index}: expected a JSON object whose 'weight_map' names the files of"
      f' weights, found another ({error!r}). Download the folder again.'
    ) from error
  for name in names:
    if not isinstance(name, str) or pathlib.PurePath(name).name != name:
      raise UserError(
        f'{index}: expected names of files beside it, found {name!r:.60}. Take'
        ' the folder from a source that you trust.'
      )
  missing = [name for name in names if not (index.parent / name).is_file()]
  if missing:
    raise UserError(
      f'{index.parent}: {missing[0]} is missing, one of the {len(names)} files'
      f' that {index.name} names. Download the folder again.'
    )
  return names


def _check_type(array: LazyArray) -> None:
  if array.dtype.name not in _TYPES.values():
    raise _not_floating(array.name, array.dtype.name)


def open_safetensors(file: pathlib.Path) -> dict[str, LazyArray]:
  """Opens a file of safetensors; returns arrays by their names.

  Raises:
    UserError: it is none, or its weights are not floating-point.
  """
  try:
    handle = safetensors.safe_open(file, framework='np')
  except (OSError, safetensors.SafetensorError) as error:
    raise UserError(
      f'{file}: cannot be read as safetensors ({error}). Download the file'
      ' again.'
    ) from error
  return {
    name: _lazy(f'{file}: {name}', handle.get_slice(name))
    for name in list(handle.keys())
  }


def _lazy(where: str, part: Any) -> LazyArray:
  """Wraps a slice object of safetensors."""
  dtype = _TYPES.get(part.get_dtype())
  if dtype is None:
    raise _not_floating(where, part.get_dtype())
  return LazyArray(
    where, part.get_shape(), dtype, lambda i: lazy_array.Ready(part[i])
  )


_TYPES = {
  'F64': 'float64',
  'F32': 'float32',
  'F16': 'float16',
  'BF16': 'bfloat16',
}


def _not_floating(where: str, name: str) -> UserError:
  return UserError(
    f'{where}: expected floating-point weights ({", ".join(_TYPES)}), found'
    f' {name}. Quantized folders cannot be loaded; take the original one.'
  )


def write(
  params: Mapping[str, Any],
  config: Any,
  path: str,
  progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
  """Writes a T5X parameter tree as a folder that transformers loads.

  Adapters are merged into the kernels that they adapt. The weights appear
  complete or not at all. More than 5 GB of them go into several files with an
  index, which also bounds the memory that this takes.

  Args:
    params: nested dicts under T5X's names, layers stacked or not; leaves are
      arrays or `LazyArray`s.
    config: the network's `T5Config`, or an object with the same attributes.
    path: the folder to make. May exist if it holds no weights.
    progress: told, after each array, how many bytes are read, and of how many.

  Raises:
    UserError: `path` holds weights, or `params` don't fit `config`.
  """
  folder = pathlib.Path(path)
  taken = [name for name in _WEIGHTS if (folder / name).exists()]
  if taken:
    raise UserError(
      f'{path}: holds the weights of a model already ({taken[0]}). Give another'
      ' folder.'
    )
  expected = huggingface_names.of_network(config)
  flat = _one_by_one(params, expected)
  adapters = getattr(config, 'lora', None)
  if adapters is not None:
    flat = low_rank.merged(flat, adapters.scale)
  if set(expected) != set(flat):
    raise UserError(
      'The parameters do not fit the configuration: missing'
      f' {sorted(set(expected) - set(flat))[:4] or "none"}, not expected'
      f' {sorted(set(flat) - set(expected))[:4] or "none"}. Give the'
      ' configuration that they were trained with.'
    )
  description = huggingface_config.describe(
    config,
    embedding=flat['token_embedder/embedding'],
    relative_biases=next(
      flat[name] for name in flat if name.endswith('/rel_embedding')
    ),
  )
  folder.mkdir(parents=True, exist_ok=True)
  with files_lib.replacing(folder / CONFIG_FILE) as work:
    work.write_text(_as_json(description), encoding='utf-8')
  _write_weights(
    folder,
    {
      hf: (flat[name], transposed)
      for name, (hf, transposed) in expected.items()
    },
    progress,
  )


def write_adapters(
  params: Mapping[str, Any], config: Any, path: str, base_model: str
) -> None:
  """Writes the adapters of a T5X parameter tree as a folder that peft loads.

  Args:
    params: nested dicts under T5X's names, layers stacked or not; leaves are
      arrays or `LazyArray`s.
    config: the network's `T5Config`.
    path: an existing folder.
    base_model: the model that they are for, as transformers finds it.

  Raises:
    UserError: there are no adapters, or `params` don't fit `config`.
  """
  expected = huggingface_names.of_network(config)
  flat = _one_by_one(params, expected)
  modules = {
    name: hf_name.removesuffix('.weight')
    for name, (hf_name, _) in expected.items()
  }
  low_rank.write_peft(flat, modules, config, path, base_model)


def is_adapter(name: str) -> bool:
  """Whether a leaf, by its name, is a part of an adapter."""
  return low_rank.is_adapter(name)


def _one_by_one(
  params: Mapping[str, Any], expected: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns leaves of single layers by their names; kernels are matrices."""
  wanted = flax.traverse_util.unflatten_dict(dict(expected), sep='/')
  flat = flax.traverse_util.flatten_dict(
    layer_stacks.match(params, wanted), sep='/'
  )
  return {name: attention_heads.joined(name, x) for name, x in flat.items()}


def _write_weights(
  folder: pathlib.Path,
  weights: Mapping[str, tuple[Any, bool]],
  progress: Callable[[int, int], None],
) -> None:
  """Writes pairs of an array and whether to transpose it, by their names."""
  parts: list[dict[str, tuple[Any, bool]]] = [{}]
  size = total = 0
  for name, (leaf, transposed) in weights.items():
    nbytes = leaf.size * leaf.dtype.itemsize
    if parts[-1] and size + nbytes > _MAX_FILE_BYTES:
      parts.append({})
      size = 0
    parts[-1][name] = leaf, transposed
    size += nbytes
    total += nbytes
  whole = WEIGHTS_FILE.removesuffix('.safetensors')
  file_of: dict[str, str] = {}
  read = 0

  def ready(leaf: Any, transposed: bool) -> np.ndarray:
    nonlocal read
    array = np.asarray(leaf)
    read += leaf.size * leaf.dtype.itemsize
    progress(read, total)
    return np.ascontiguousarray(array.T if transposed else array)

  for number, part in enumerate(parts, 1):
    file = f'{whole}-{number:05d}-of-{len(parts):05d}.safetensors'
    file = file if len(parts) > 1 else WEIGHTS_FILE
    with files_lib.replacing(folder / file) as work:
      safetensors.numpy.save_file(
        {name: ready(*weight) for name, weight in part.items()},
        os.fspath(work),
        metadata={'format': 'pt'},
      )
      # safetensors creates it with mode 0600.
      shutil.copymode(folder / CONFIG_FILE, work)
    file_of.update(dict.fromkeys(part, file))
  if len(parts) > 1:
    with files_lib.replacing(folder / _INDEX_FILE) as work:
      work.write_text(
        _as_json({'metadata': {'total_size': total}, 'weight_map': file_of}),
        encoding='utf-8',
      )


def _as_json(content: Mapping[str, Any]) -> str:
  return json.dumps(content, indent=2, sort_keys=True) + '\n'
