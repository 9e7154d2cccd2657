"""A Hugging Face folder as a student: its network, and what it says of its use.

`dss export` leaves `dss_jax.json` beside what transformers reads. Without that
file the folder is a T5 that reads an input as it is, and answers greedily.
"""

import functools
import inspect
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dss_jax import errors, run_config
from dss_jax.student import loading
from dss_jax.student import usage as usage_lib
from t5x import decoding

if TYPE_CHECKING:
  import seqio

  from t5x import models

FILE = 'dss_jax.json'
_VOCABULARY_FILES = ('spiece.model', 'sentencepiece.model')
_BYTES = 'ByT5Tokenizer'
# T5's sentinels, which its vocabulary file does not have.
_EXTRA_IDS = 100
_GREEDY = {
  'function': 'temperature_sample',
  'options': {'temperature': 0.0, 'topk': 1},
}
_DECODERS: dict[str, Callable[..., Any]] = {
  'beam_search': decoding.beam_search,
  'temperature_sample': decoding.temperature_sample,
}
# Types of options that a JSON file holds.
_PLAIN = (bool, int, float, str, type(None))
_TYPES = ('float32', 'bfloat16', 'float16')


def describe(
  model: 'models.BaseTransformerModel', run: str, checkpoint: str
) -> dict[str, Any]:
  """Returns what `dss export` writes into `dss_jax.json`.

  Args:
    model: the student's, made by the run's configuration, which is in force.
    run: the folder of the run, or one of its checkpoints.
    checkpoint: the one that is exported.
  """
  place = run_config.path_in(run, checkpoint)
  usage = usage_lib.of_run(model, place and place.parent)
  config = getattr(model.module, 'config', None)
  return {
    'usage': usage_lib.as_json(usage),
    'decoding': _decoder(model, run),
    'extra_ids': model.output_vocabulary.extra_ids,
    'dtype': np.dtype(getattr(config, 'dtype', 'float32')).name,
  }


def _decoder(
  model: 'models.BaseTransformerModel', place: str
) -> Mapping[str, Any]:
  """Returns how a model decodes; greedily, if not by a function of ours."""
  function = inspect.unwrap(model.decode_fn or _DECODERS['beam_search'])
  if function not in _DECODERS.values():
    return _GREEDY
  options = loading.decode_options(model, place)
  if not all(isinstance(value, _PLAIN) for value in options.values()):
    return _GREEDY
  return {'function': function.__name__, 'options': options}


def read(
  folder: str,
) -> tuple['models.EncoderDecoderModel', usage_lib.Usage]:
  """Returns the model of a folder, without its weights, and its usage.

  Args:
    folder: local, with `config.json`, weights and a vocabulary.

  Raises:
    DataError: it has no vocabulary, or its `dss_jax.json` is malformed.
    UserError: it is another network's.
  """
  from t5x import data, models
  from t5x.checkpoints import formats
  from t5x.examples.t5 import network

  described = _described(folder)
  config = network.T5Config(
    **formats.huggingface.network(folder), dtype=described['dtype']
  )
  vocabulary = _vocabulary(folder, described['extra_ids'], config.vocab_size)
  chosen = described['decoding']
  model = models.EncoderDecoderModel(
    module=network.Transformer(config),
    input_vocabulary=vocabulary,
    output_vocabulary=vocabulary,
    optimizer_def=None,  # type: ignore[arg-type]  # Nothing is trained.
    decode_fn=functools.partial(
      _DECODERS[chosen['function']], **chosen['options']
    ),
  )
  data.check_vocabulary(vocabulary, model, f'The vocabulary of {folder}')
  return model, described['usage']


def _described(folder: str) -> dict[str, Any]:
  """Returns the content of `dss_jax.json`, or what stands for it."""
  found = {
    'usage': usage_lib.Usage(),
    'decoding': _GREEDY,
    'extra_ids': None,
    'dtype': 'float32',
  }
  path = pathlib.Path(folder) / FILE
  if not path.exists():
    return found
  try:
    content = json.loads(path.read_text(encoding='utf-8'))
    chosen = content['decoding']
    options = dict(chosen['options'])
    found |= {
      'usage': usage_lib.from_json(content['usage'], str(path)),
      'decoding': {'function': chosen['function'], 'options': options},
      'extra_ids': int(content['extra_ids']),
      'dtype': content['dtype'],
    }
  except errors.DataError:
    raise
  except (OSError, ValueError, LookupError, TypeError) as error:
    raise errors.DataError(
      f'{path}: expected what `dss export` writes, found another content'
      f' ({error!r:.120}). Export the student again.'
    ) from error
  errors.choose(f'{path}: dtype', found['dtype'], _TYPES)
  errors.choose(f'{path}: decoding', chosen['function'], tuple(_DECODERS))
  known = inspect.signature(_DECODERS[chosen['function']]).parameters
  if not set(options) <= set(known) or not all(
    isinstance(value, _PLAIN) for value in options.values()
  ):
    raise errors.DataError(
      f'{path}: expected options of {chosen["function"]}, found'
      f' {options!r:.120}. Export the student again.'
    )
  return found


def _vocabulary(
  folder: str, extra_ids: int | None, rows: int
) -> 'seqio.Vocabulary':
  """Returns the vocabulary of a folder.

  Args:
    folder: where its file is.
    extra_ids: pieces beyond those of the file; None for T5's, where the network
      has rows for them.
    rows: of the network's embedding.

  Raises:
    DataError: there is no file that can be read.
  """
  import seqio

  from dss_jax import vocabularies

  for name in _VOCABULARY_FILES:
    path = os.path.join(folder, name)
    if os.path.isfile(path):
      if extra_ids is None:
        size = vocabularies.vocabulary(path, 0).vocab_size
        extra_ids = _EXTRA_IDS if size + _EXTRA_IDS <= rows else 0
      return vocabularies.vocabulary(path, extra_ids)
  if _tokenizer_class(folder) == _BYTES:
    return seqio.ByteVocabulary()
  raise errors.DataError(
    f'{folder}: expected the vocabulary {_VOCABULARY_FILES[0]} beside the'
    ' weights, found none. Copy it from the model that the weights come from;'
    ' `dss export` writes it.'
  )


def _tokenizer_class(folder: str) -> object:
  path = pathlib.Path(folder) / 'tokenizer_config.json'
  try:
    return json.loads(path.read_text(encoding='utf-8')).get('tokenizer_class')
  except (OSError, ValueError, AttributeError):
    return None
