"""umT5 of Hugging Face: relative biases in every layer, read and written.

`tests/golden/hf_umt5/make.py` made the folder and its scores.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import initialization, losses, partitioning
from t5x.checkpoints import config as config_lib
from t5x.checkpoints import matching
from t5x.checkpoints.formats import huggingface
from t5x.errors import UserError
from t5x.examples.scalable_t5 import network as scalable
from t5x.examples.t5 import network
from tests.t5x.checkpoints.formats import hf_folders

_HERE = hf_folders.GOLDEN / 'hf_umt5'
_FOLDER = str(_HERE / 'model')
_KNOWN = json.loads((_HERE / 'scores.json').read_text())
_SIZES = {
  'vocab_size': 24,
  'emb_dim': 8,
  'num_heads': 3,
  'num_encoder_layers': 3,
  'num_decoder_layers': 2,
  'head_dim': 4,
  'mlp_dim': 12,
  'mlp_activations': ('gelu', 'linear'),
  'dropout_rate': 0.0,
  'relative_attention_num_buckets': 8,
  'relative_attention_max_distance': 12,
}
_MODULES = {
  'unrolled': network.Transformer(
    network.T5Config(**_SIZES, relative_bias_per_layer=True)
  ),
  'scalable': scalable.Transformer(scalable.T5Config(**_SIZES)),
  'scalable, unrolled': scalable.Transformer(
    scalable.T5Config(**_SIZES, scan_layers=False)
  ),
}


def _restored(module, **options):
  def init_fn(rng, input_shapes, input_types=None):
    del input_types
    tokens = jnp.ones(input_shapes['tokens'], jnp.int32)
    return module.init(
      {'params': rng}, tokens, tokens, tokens, enable_dropout=False
    )

  initializer = initialization.TrainStateInitializer(
    None,
    init_fn,
    {'tokens': (2, 4)},
    partitioning.PjitPartitioner(num_partitions=1, devices=jax.devices()[:1]),
  )
  cfg = config_lib.RestoreCheckpointConfig(_FOLDER, mode='specific', **options)
  return initializer.from_checkpoint([cfg]).params


def _scores(module, params):
  inputs, targets = np.array(_KNOWN['inputs']), np.array(_KNOWN['targets'])
  shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  logits = jax.jit(
    lambda params: module.apply(
      {'params': params}, inputs, shifted, targets, enable_dropout=False
    )
  )(params)
  loss, *_ = losses.cross_entropy_with_logits(
    logits, np.eye(module.config.vocab_size)[targets], z_loss=0.0
  )
  return -np.sum(np.where(targets > 0, loss, 0.0), axis=-1)


@pytest.mark.parametrize('form', _MODULES)
def test_scores_are_those_of_transformers(form):
  module = _MODULES[form]
  huggingface.check_network(_FOLDER, module.config)
  found = _scores(module, _restored(module))
  np.testing.assert_allclose(found, _KNOWN['scores'], rtol=1e-6, atol=1e-5)


def test_a_type_for_checkpoints_of_t5x_rounds_no_weight_of_a_folder(caplog):
  """T5X's infer.gin restores in bfloat16, which would move every score."""
  module = _MODULES['scalable']
  with caplog.at_level('WARNING', 'absl'):
    params = _restored(module, dtype='bfloat16')
  assert "RestoreCheckpointConfig.dtype = 'bfloat16' is for" in caplog.text
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
  found = _scores(module, params)
  np.testing.assert_allclose(found, _KNOWN['scores'], rtol=1e-6, atol=1e-5)


def test_each_layer_has_the_biases_of_its_block():
  read = hf_folders.read(_FOLDER)
  first, second = (
    read['decoder'][f'layers_{i}']['relpos_bias']['rel_embedding']
    for i in (0, 1)
  )
  assert first.shape == second.shape == (3, 8)
  assert np.abs(first - second).max() > 0.1
  assert 'relpos_bias' not in read['decoder']


@pytest.mark.parametrize(
  ('folder', 'per_layer', 'message'),
  [
    (_FOLDER, False, "'umt5'.*each layer.* = False. Set .* = True"),
    (hf_folders.model_folder('hf_1_1'), True, "'t5'.*each stack.* = False"),
  ],
)
def test_a_network_with_other_biases_is_refused(folder, per_layer, message):
  config = network.T5Config(**_SIZES, relative_bias_per_layer=per_layer)
  with pytest.raises(UserError, match=message):
    huggingface.check_network(folder, config)


@pytest.mark.parametrize('form', _MODULES)
def test_what_is_written_is_what_was_read(form, tmp_path):
  module = _MODULES[form]
  path = tmp_path / 'written'
  huggingface.write(_restored(module), module.config, str(path))
  hf_folders.assert_same(hf_folders.read(str(path)), hf_folders.read(_FOLDER))
  there = json.loads((path / 'config.json').read_text())
  known = json.loads((pathlib.Path(_FOLDER) / 'config.json').read_text())
  assert there['architectures'] == ['UMT5ForConditionalGeneration']
  differing = {
    key for key in known.keys() & there.keys() if known[key] != there[key]
  }
  # Version 5 writes that they are tied, whatever they are.
  assert differing == {'tie_word_embeddings'}
  huggingface.check_network(str(path), module.config)


def test_a_checkpoint_with_one_table_does_not_fit():
  tree = hf_folders.read(_FOLDER)
  module = network.Transformer(network.T5Config(**_SIZES))
  tokens = jnp.ones((1, 2), jnp.int32)
  made = jax.eval_shape(
    lambda: module.init(
      jax.random.key(0), tokens, tokens, tokens, enable_dropout=False
    )
  )['params']
  flat = {f'target/{k}': v for k, v in hf_folders.flat(tree).items()}
  model = {f'target/{k}': v for k, v in hf_folders.flat(made).items()}
  for stored, expected, value in ((flat, model, True), (model, flat, False)):
    with pytest.raises(UserError, match=f'relative_bias_per_layer = {value}'):
      matching.check_parameters('c', stored, expected)
