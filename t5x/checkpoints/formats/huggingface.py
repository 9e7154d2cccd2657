"""Conversion between a Hugging Face T5 folder and a T5X parameter tree.

Both hold the same numbers under different names. Hugging Face stores a
projection as [out, in] and T5X as [in, out]; Hugging Face numbers a layer's
parts (`block.0.layer.1`) and T5X names them (`layers_0/mlp`); the relative
position biases are [buckets, heads] in Hugging Face's first block, and
[heads, buckets] in T5X's stack.

T5 1.1 has `wi_0`, `wi_1` and its own `logits_dense`; T5 1.0 has `wi` and takes
its logits through the embedding.
"""

import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors
import safetensors.numpy

from t5x import files as files_lib
from t5x.checkpoints.formats import layer_stacks, lazy_array, torch_pickle
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.errors import UserError

CONFIG_FILE = 'config.json'
WEIGHTS_FILE = 'model.safetensors'
# The most bytes that are written to one file of weights.
_MAX_FILE_BYTES = 5 * 10**9
# Files of weights, in order of preference: one file, or the index of several.
_INDEX_FILE = 'model.safetensors.index.json'
_WEIGHTS = (
  WEIGHTS_FILE,
  _INDEX_FILE,
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
)

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
# `feed_forward_proj` in a configuration, by T5X's `mlp_activations`.
_FEED_FORWARD = {
  ('gelu', 'linear'): 'gated-gelu',
  ('silu', 'linear'): 'gated-silu',
  ('relu',): 'relu',
  ('gelu',): 'gelu_new',
}


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


def read_config(path: str) -> dict[str, Any]:
  """Reads `config.json` and checks that it is an encoder-decoder T5.

  Raises:
    UserError: it is another kind of model, or no JSON.
  """
  file = pathlib.Path(path) / CONFIG_FILE
  try:
    config = json.loads(file.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise UserError(
      f'{file}: expected the configuration of a Hugging Face T5 model; it can'
      f' not be read ({error}). Download the folder again.'
    ) from error
  kind = config.get('model_type')
  if kind not in ('t5', 'mt5'):
    raise UserError(
      f"{file}: expected model_type 't5' or 'mt5', found {kind!r}. Only T5"
      ' encoder-decoder models can be loaded.'
    )
  return config


def _name_map(
  num_encoder: int, num_decoder: int, gated: bool, tied: bool
) -> Iterator[tuple[str, str, bool]]:
  """Yields (T5X name, Hugging Face name, whether to transpose)."""
  wi = ('wi_0', 'wi_1') if gated else ('wi',)
  yield 'token_embedder/embedding', 'shared.weight', False
  if not tied:
    yield 'decoder/logits_dense/kernel', 'lm_head.weight', True
  for stack, count, parts in (
    ('encoder', num_encoder, _ENCODER_PARTS),
    ('decoder', num_decoder, _DECODER_PARTS),
  ):
    norm_name = f'{stack}.final_layer_norm.weight'
    yield f'{stack}/{stack}_norm/scale', norm_name, False
    bias = 'block.0.layer.0.SelfAttention.relative_attention_bias.weight'
    yield f'{stack}/relpos_bias/rel_embedding', f'{stack}.{bias}', True
    for layer in range(count):
      ours = f'{stack}/layers_{layer}'
      for i, (norm, part, hf_part) in enumerate(parts):
        theirs = f'{stack}.block.{layer}.layer.{i}'
        yield f'{ours}/{norm}/scale', f'{theirs}.layer_norm.weight', False
        kernels = {w: w for w in (*wi, 'wo')} if part == 'mlp' else _ATTENTION
        for name, hf_name in kernels.items():
          hf_kernel = f'{theirs}.{hf_part}.{hf_name}.weight'
          yield f'{ours}/{part}/{name}/kernel', hf_kernel, True


# Further weights of some folders: copies of `shared.weight`, and a bias that
# T5's conversion left and no model uses.
_SPARE = (
  'encoder.embed_tokens.weight',
  'decoder.embed_tokens.weight',
  'lm_head.weight',
  'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight',
)


def open_folder(path: str) -> dict[str, Any]:
  """Opens a folder; no array is read yet.

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
  config = read_config(path)
  stored = _open_weights(path)
  gated = 'encoder.block.0.layer.1.DenseReluDense.wi_0.weight' in stored
  # A tied folder may list the shared matrix again under lm_head.
  tied = (
    config.get('tie_word_embeddings', True) or 'lm_head.weight' not in stored
  )
  layers = config['num_layers']
  names = list(
    _name_map(layers, config.get('num_decoder_layers') or layers, gated, tied)
  )
  known = {hf_name for _, hf_name, _ in names}
  missing = sorted(known - set(stored))
  unknown = sorted(set(stored) - known - set(_SPARE))
  if missing or unknown:
    raise UserError(
      f'{path}: its weights do not fit its {CONFIG_FILE} ({layers} encoder'
      f' layers, {"gated" if gated else "plain"} feed-forward): missing'
      f' {missing[:4] or "none"}, not expected {unknown[:4] or "none"}.'
      ' Download the folder again, or check that both files are of the same'
      ' model.'
    )
  return flax.traverse_util.unflatten_dict(
    {
      name: _transposed(stored[hf_name]) if transposed else stored[hf_name]
      for name, hf_name, transposed in names
    },
    sep='/',
  )


def _transposed(array: LazyArray) -> LazyArray:
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
  open_file = torch_pickle.open_file if is_torch else _open_safetensors
  stored: dict[str, LazyArray] = {}
  for file in files:
    stored.update(open_file(folder / file))
  for array in stored.values():
    _check_type(array)
  return stored


def _files_of_index(index: pathlib.Path) -> list[str]:
  try:
    weight_map = json.loads(index.read_text(encoding='utf-8'))['weight_map']
    names = sorted(set(weight_map.values()))
  except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
    raise UserError(
      f"{index}: expected a JSON object whose 'weight_map' names the files of"
      f' weights, found another ({error!r}). Download the folder again.'
    ) from error
  for name in names:
    if pathlib.PurePath(name).name != name:
      raise UserError(
        f'{index}: expected names of files beside it, found {name!r}. Take the'
        ' folder from a source that you trust.'
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


def _open_safetensors(file: pathlib.Path) -> dict[str, LazyArray]:
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


def write(params: Mapping[str, Any], config: Any, path: str) -> None:
  """Writes a T5X parameter tree as a folder that transformers loads.

  The weights appear complete or not at all. More than 5 GB of them go into
  several files with an index, which also bounds the memory that this takes.

  Args:
    params: nested dicts under T5X's names, layers stacked or not; leaves are
      arrays or `LazyArray`s.
    config: the network's `T5Config`, or an object with the same attributes.
    path: the folder to make. May exist if it holds no weights.

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
  names = _name_map(
    config.num_encoder_layers,
    config.num_decoder_layers,
    gated=len(config.mlp_activations) == 2,
    tied=config.logits_via_embedding,
  )
  expected = {name: (hf_name, flip) for name, hf_name, flip in names}
  wanted = flax.traverse_util.unflatten_dict(expected, sep='/')
  flat = flax.traverse_util.flatten_dict(
    layer_stacks.match(params, wanted), sep='/'
  )
  if set(expected) != set(flat):
    raise UserError(
      'The parameters do not fit the configuration: missing'
      f' {sorted(set(expected) - set(flat))[:4] or "none"}, not expected'
      f' {sorted(set(flat) - set(expected))[:4] or "none"}. Give the'
      ' configuration that they were trained with.'
    )
  description = _describe(config, flat)
  folder.mkdir(parents=True, exist_ok=True)
  with files_lib.replacing(folder / CONFIG_FILE) as work:
    work.write_text(_as_json(description), encoding='utf-8')
  _write_weights(
    folder,
    {
      hf: (flat[name], transposed)
      for name, (hf, transposed) in expected.items()
    },
  )


def _write_weights(
  folder: pathlib.Path, weights: Mapping[str, tuple[Any, bool]]
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
  for number, part in enumerate(parts, 1):
    file = f'{whole}-{number:05d}-of-{len(parts):05d}.safetensors'
    file = file if len(parts) > 1 else WEIGHTS_FILE
    with files_lib.replacing(folder / file) as work:
      safetensors.numpy.save_file(
        {
          name: np.ascontiguousarray(np.asarray(leaf).T if transposed else leaf)
          for name, (leaf, transposed) in part.items()
        },
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


def _describe(config: Any, flat: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the `config.json` for transformers."""
  activations: Sequence[str] = tuple(config.mlp_activations)
  if activations not in _FEED_FORWARD:
    raise UserError(
      f'mlp_activations: {activations} has no name in a Hugging Face T5'
      f' configuration. Expected one of {sorted(_FEED_FORWARD)}.'
    )
  embedding = flat['token_embedder/embedding']
  buckets = flat['encoder/relpos_bias/rel_embedding'].shape[1]
  gated = len(activations) == 2
  return {
    'architectures': ['T5ForConditionalGeneration'],
    'model_type': 't5',
    'is_encoder_decoder': True,
    'vocab_size': int(embedding.shape[0]),
    'd_model': config.emb_dim,
    'd_kv': config.head_dim,
    'd_ff': config.mlp_dim,
    'num_heads': config.num_heads,
    'num_layers': config.num_encoder_layers,
    'num_decoder_layers': config.num_decoder_layers,
    'dropout_rate': config.dropout_rate,
    'feed_forward_proj': _FEED_FORWARD[activations],
    'dense_act_fn': 'gelu_new' if activations[0] == 'gelu' else activations[0],
    'is_gated_act': gated,
    'layer_norm_epsilon': 1e-6,
    'relative_attention_num_buckets': int(buckets),
    'relative_attention_max_distance': 128,
    'tie_word_embeddings': bool(config.logits_via_embedding),
    'dtype': str(np.dtype(embedding.dtype)),
    'initializer_factor': 1.0,
    'decoder_start_token_id': 0,
    'pad_token_id': 0,
    'eos_token_id': 1,
    'use_cache': True,
  }
