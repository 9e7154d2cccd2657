"""Folders of Hugging Face transformers, read, copied and changed."""

import functools
import json
import pathlib
import shutil

import numpy as np
import safetensors.numpy
from flax import traverse_util

from t5x import checkpoints
from t5x.examples.t5 import network
from tests import golden_data

GOLDEN = pathlib.Path(golden_data.__file__).parent / 'golden'
NAMES = ['hf_1_1', 'hf_1_0']
ACTIVATIONS = {'hf_1_1': ('gelu', 'linear'), 'hf_1_0': ('relu',)}


def model_folder(name):
  return str(GOLDEN / name / 'model')


def network_config(name, dtype=np.float32):
  there = json.loads((GOLDEN / name / 'model/config.json').read_text())
  return network.T5Config(
    vocab_size=there['vocab_size'],
    dtype=dtype,
    emb_dim=there['d_model'],
    num_heads=there['num_heads'],
    num_encoder_layers=there['num_layers'],
    num_decoder_layers=there['num_decoder_layers'],
    head_dim=there['d_kv'],
    mlp_dim=there['d_ff'],
    mlp_activations=ACTIVATIONS[name],
    dropout_rate=0.0,
    logits_via_embedding=name == 'hf_1_0',
  )


def read(path):
  return checkpoints.load_t5x_checkpoint(path)['target']


@functools.cache
def params(name):
  return read(model_folder(name))


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


def copy(name, tmp_path):
  return pathlib.Path(shutil.copytree(model_folder(name), tmp_path / 'model'))


def changed(folder, rename=(), weights=(), **config):
  """Writes a copied folder again with other keys and weights."""
  file = folder / 'config.json'
  there = {**json.loads(file.read_text()), **config}
  file.write_text(json.dumps(there))
  file = folder / 'model.safetensors'
  stored = safetensors.numpy.load_file(file)
  for old, new in dict(rename).items():
    stored[new] = stored.pop(old)
  safetensors.numpy.save_file({**stored, **dict(weights)}, file)
  return str(folder)


def assert_same(read, expected):
  read, expected = flat(read), flat(expected)
  assert read.keys() == expected.keys()
  for key, leaf in expected.items():
    np.testing.assert_array_equal(read[key], leaf, err_msg=key)
