"""`config.json` of a Hugging Face T5 folder, and what a network makes of it.

Shapes of weights can't show everything that the numbers depend on. What they
can't is compared with the network before the weights are used.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from t5x.checkpoints.formats import lazy_array
from t5x.errors import UserError

CONFIG_FILE = 'config.json'
# The largest that are published have some ten thousand.
_MAX_BYTES = 2**20

# `feed_forward_proj` in a configuration, by T5X's `mlp_activations`.
_FEED_FORWARD = {
  ('gelu', 'linear'): 'gated-gelu',
  ('silu', 'linear'): 'gated-silu',
  ('relu',): 'relu',
  ('gelu',): 'gelu_new',
}
# Hugging Face's activations by T5X's names: its `gelu` is the exact one, which
# T5X has not.
_ACTIVATIONS = {
  'gelu_new': 'gelu',
  'gelu_fast': 'gelu',
  'gelu_pytorch_tanh': 'gelu',
  'relu': 'relu',
  'sigmoid': 'sigmoid',
  'silu': 'silu',
  'swish': 'silu',
  'tanh': 'tanh',
}
# Numbers of the network under the names of both, with T5's values, which count
# where a configuration has none.
_NUMBERS = {
  'layer_norm_epsilon': 1e-6,
  'relative_attention_num_buckets': 32,
  'relative_attention_max_distance': 128,
}


def read(path: str) -> dict[str, Any]:
  """Reads `config.json` and checks that it is a T5's, an mT5's or a umT5's.

  Raises:
    UserError: it is another kind of model, or no JSON object.
  """
  file = pathlib.Path(path) / CONFIG_FILE
  config = lazy_array.json_file(
    file, 'the configuration of a Hugging Face T5 model', _MAX_BYTES
  )
  kind = config.get('model_type')
  if kind not in ('t5', 'mt5', 'umt5'):
    raise UserError(
      f"{file}: expected model_type 't5', 'mt5' or 'umt5', found {kind!r:.60}."
      ' Only T5 encoder-decoder models can be loaded.'
    )
  return config


def bias_per_layer(config: Mapping[str, Any]) -> bool:
  """Whether each layer has a table of relative biases, as in umT5."""
  return config.get('model_type') == 'umt5'


def layers(path: str, config: Mapping[str, Any]) -> tuple[int, int]:
  """Returns the numbers of encoder and decoder layers.

  Raises:
    UserError: one is no positive integer.
  """
  encoder = config.get('num_layers')
  counts: dict[str, Any] = {
    'num_layers': encoder,
    'num_decoder_layers': config.get('num_decoder_layers') or encoder,
  }
  for key, value in counts.items():
    if type(value) is not int or value < 1:
      raise UserError(
        f'{path}/{CONFIG_FILE}: {key}: expected a positive integer, found'
        f' {value!r:.60}. Download the folder again.'
      )
  return counts['num_layers'], counts['num_decoder_layers']


def check_network(
  path: str, config: Mapping[str, Any], network: Any, gated: bool
) -> None:
  """Raises if activations or numbers differ; see `huggingface.check_network`.

  Args:
    path: the folder.
    config: its configuration.
    network: the `T5Config`.
    gated: whether the feed-forward blocks of the weights are gated; where the
      network's are not, or the other way round, names of weights differ.
  """
  activations = network.mlp_activations
  ours = tuple(_ACTIVATIONS.get(str(name), name) for name in activations)
  _check_biases(path, config, network)
  key, found, wanted = _feed_forward(config)
  same_form = len(ours) == (2 if gated else 1)
  if same_form and ours != wanted and not any(map(callable, ours)):
    raise _differs(path, key, found, 'mlp_activations', activations, wanted)
  for key, usual in _NUMBERS.items():
    found = usual if config.get(key) is None else config[key]
    if found != (value := getattr(network, key, usual)):
      raise _differs(path, key, found, key, value, found)


def _check_biases(path: str, config: Mapping[str, Any], network: Any) -> None:
  attribute = 'relative_bias_per_layer'
  ours = bool(getattr(network, attribute, False))
  per_layer = bias_per_layer(config)
  if ours != per_layer:
    raise UserError(
      f'{path}/{CONFIG_FILE}: model_type is {config.get("model_type")!r}, whose'
      f' relative biases are those of each {"layer" if per_layer else "stack"},'
      f' but the network has {attribute} = {ours}. Set'
      f' network.T5Config.{attribute} = {per_layer}.'
    )


def check_scale(path: str, network: Any, own_head: bool, scaled: bool) -> None:
  """Raises unless a network scales its logits as a folder's model does.

  Args:
    path: the folder.
    network: the `T5Config`, which scales logits through the embedding alone.
    own_head: whether the logits have a matrix of their own.
    scaled: whether the model divides the decoder's outputs by the root of
      their width.
  """
  key, attribute = 'scale_decoder_outputs', 'logits_via_embedding'
  ours = bool(network.logits_via_embedding)
  if own_head and scaled:
    raise _differs(path, key, True, attribute, ours, None)
  if not scaled and not own_head and ours:
    raise _differs(path, key, False, attribute, ours, False)


def _is_gated(config: Mapping[str, Any]) -> bool:
  return str(config.get('feed_forward_proj')).startswith('gated-')


def _feed_forward(
  config: Mapping[str, Any],
) -> tuple[str, Any, tuple[str, ...] | None]:
  """Returns a key, its value, and the `mlp_activations` that it stands for."""
  key = 'feed_forward_proj'
  kind = str(config.get(key) or 'relu')
  name = 'gelu_new' if kind == 'gated-gelu' else kind.removeprefix('gated-')
  stored = config.get('dense_act_fn') or name
  if stored != name:  # transformers takes this one.
    key, kind, name = 'dense_act_fn', stored, stored
  ours = _ACTIVATIONS.get(name) if isinstance(name, str) else None
  if ours is None:
    return key, kind, None
  return key, kind, (ours, 'linear') if _is_gated(config) else (ours,)


def _differs(
  path: str, key: str, found: Any, attribute: str, value: Any, wanted: Any
) -> UserError:
  if wanted is None:
    fix = 'The network has no such option: take another folder.'
  else:
    fix = f'Set network.T5Config.{attribute} = {wanted!r}.'
  return UserError(
    f'{path}/{CONFIG_FILE}: {key} is {found!r:.60}, but the network has'
    f' {attribute} = {value!r}. The weights would fit and give other numbers.'
    f' {fix}'
  )


def describe(
  config: Any, embedding: Any, relative_biases: Any
) -> dict[str, Any]:
  """Returns the `config.json` for transformers.

  Args:
    config: the network's `T5Config`, or an object with the same attributes.
    embedding: the token embedding [V, D]; only shape and type count.
    relative_biases: a table of them [H, buckets].

  Raises:
    UserError: transformers has no name for the activations.
  """
  activations = tuple(config.mlp_activations)
  if activations not in _FEED_FORWARD:
    raise UserError(
      f'mlp_activations: {activations} has no name in a Hugging Face T5'
      f' configuration. Expected one of {sorted(_FEED_FORWARD)}.'
    )
  numbers = {k: getattr(config, k, usual) for k, usual in _NUMBERS.items()}
  numbers['relative_attention_num_buckets'] = int(relative_biases.shape[1])
  per_layer = getattr(config, 'relative_bias_per_layer', False)
  return {
    'architectures': [
      f'{"UMT5" if per_layer else "T5"}ForConditionalGeneration'
    ],
    'model_type': 'umt5' if per_layer else 't5',
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
    'is_gated_act': len(activations) == 2,
    **numbers,
    'tie_word_embeddings': bool(config.logits_via_embedding),
    'scale_decoder_outputs': bool(config.logits_via_embedding),
    'dtype': str(np.dtype(embedding.dtype)),
    'initializer_factor': 1.0,
    'decoder_start_token_id': 0,
    'pad_token_id': 0,
    'eos_token_id': 1,
    'use_cache': True,
  }


def network(
  path: str, config: Mapping[str, Any], via_embedding: bool
) -> dict[str, Any]:
  """Returns the arguments of the `T5Config` of a folder's network.

  Args:
    path: the folder.
    config: its configuration.
    via_embedding: whether the logits are taken through the embedding.

  Raises:
    UserError: the network has no such activation, or a number is none.
  """
  key, found, activations = _feed_forward(config)
  if activations is None:
    raise UserError(
      f'{path}/{CONFIG_FILE}: {key} is {found!r}: expected one of'
      f' {", ".join(sorted(_ACTIVATIONS))}. Take another folder.'
    )
  encoder, decoder = layers(path, config)
  sizes = {
    'vocab_size': 'vocab_size', 'emb_dim': 'd_model', 'head_dim': 'd_kv',
    'mlp_dim': 'd_ff', 'num_heads': 'num_heads',
  }  # fmt: skip
  for name in sizes.values():
    if type(config.get(name)) is not int or config[name] < 1:
      raise UserError(
        f'{path}/{CONFIG_FILE}: {name}: expected a positive integer, found'
        f' {config.get(name)!r}. Download the folder again.'
      )
  numbers = {
    key: usual if config.get(key) is None else config[key]
    for key, usual in _NUMBERS.items()
  }
  return {
    **{ours: config[name] for ours, name in sizes.items()},
    **numbers,
    'num_encoder_layers': encoder,
    'num_decoder_layers': decoder,
    'mlp_activations': activations,
    'logits_via_embedding': via_embedding,
    'relative_bias_per_layer': bias_per_layer(config),
  }
