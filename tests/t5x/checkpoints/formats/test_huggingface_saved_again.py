"""Folders that transformers 4 and 5 saved again give transformers' scores."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from t5x import checkpoints, losses
from t5x.checkpoints.formats import huggingface
from t5x.examples.t5 import network
from tests.t5x.checkpoints.formats import hf_folders

_FOLDER = hf_folders.GOLDEN / 'hf_saved_again'
_KNOWN = json.loads((_FOLDER / 'scores.json').read_text())
_NAMES = sorted(path.parent.name for path in _FOLDER.glob('*/config.json'))


def _network(there, tied):
  plain = there['feed_forward_proj'] == 'relu'
  return network.T5Config(
    vocab_size=there['vocab_size'],
    emb_dim=there['d_model'],
    num_heads=there['num_heads'],
    num_encoder_layers=there['num_layers'],
    num_decoder_layers=there['num_decoder_layers'],
    head_dim=there['d_kv'],
    mlp_dim=there['d_ff'],
    mlp_activations=('relu',) if plain else ('gelu', 'linear'),
    dropout_rate=0.0,
    logits_via_embedding=tied,
  )


def _scores(config, params):
  inputs, targets = np.array(_KNOWN['inputs']), np.array(_KNOWN['targets'])
  logits = network.Transformer(config).apply(
    {'params': params},
    jnp.array(inputs),
    jnp.array(np.pad(targets, ((0, 0), (1, 0)))[:, :-1]),
    jnp.array(targets),
    enable_dropout=False,
  )
  loss, *_ = losses.cross_entropy_with_logits(
    logits, np.eye(config.vocab_size)[targets], z_loss=0.0
  )
  return -np.sum(np.where(targets > 0, loss, 0.0), axis=-1)


def test_every_folder_has_numbers_of_its_own_version():
  assert {*_NAMES, 'inputs', 'targets'} == set(_KNOWN)
  flags = {
    name: json.loads((_FOLDER / name / 'config.json').read_text()).get(
      'tie_word_embeddings'
    )
    for name in _NAMES
  }
  # What makes version 5 a case: the flag is wrong for two of three.
  assert flags['flan_t5_by_5'] and flags['mt5_by_5'] and flags['t5_by_5']
  assert flags['flan_t5_by_4'] is flags['mt5_by_4'] is False


@pytest.mark.parametrize('name', _NAMES)
def test_scores_are_those_of_transformers(name):
  path = str(_FOLDER / name)
  there = json.loads((_FOLDER / name / 'config.json').read_text())
  config = _network(there, tied=name.startswith('t5_'))
  huggingface.check_network(path, config)
  read = checkpoints.load_t5x_checkpoint(path, restore_dtype=jnp.float32)
  found = _scores(config, read['target'])
  np.testing.assert_allclose(found, _KNOWN[name], rtol=1e-6, atol=1e-5)
