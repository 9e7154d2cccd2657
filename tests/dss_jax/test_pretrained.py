"""Tests of dss_jax.pretrained."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from flax import traverse_util

from dss_jax import pretrained
from t5x import adafactor, checkpoints, initialization, optimizers, partitioning
from t5x.errors import UserError
from t5x.examples.t5 import network
from t5x.models import EncoderDecoderModel
from tests import golden_data

GOLDEN = pathlib.Path(golden_data.__file__).parent / 'golden'


def _initializer(optimizer=None, **overrides):
  config = {**golden_data.load('t5x_1_1').config_kwargs, **overrides}
  vocabulary = seqio.PassThroughVocabulary(config['vocab_size'], eos_id=1)
  model = EncoderDecoderModel(
    network.Transformer(network.T5Config(**config)),
    vocabulary,
    vocabulary,
    optimizer or optimizers.adamw(1e-2),
  )
  return initialization.initializer_of(
    model,
    partitioning.PjitPartitioner(num_partitions=1),
    {'encoder_input_tokens': (8, 4), 'decoder_input_tokens': (8, 4)},
  )


def _restored(path, initializer):
  return initializer.from_checkpoint(
    [pretrained.initial_checkpoint(str(path))], init_rng=jax.random.key(0)
  )


def _assert_same_weights(found, expected):
  found, expected = (
    traverse_util.flatten_dict(tree, sep='/') for tree in (found, expected)
  )
  assert found.keys() == expected.keys()
  for name, leaf in expected.items():
    np.testing.assert_array_equal(found[name], leaf, err_msg=name)


@pytest.mark.parametrize('layout', ['legacy', 'orbax'])
def test_weights_of_t5x_are_restored_and_the_rest_starts_afresh(layout):
  path = GOLDEN / 't5x_1_1' / layout / 'checkpoint_0'
  initializer = _initializer()
  state = _restored(path, initializer)
  _assert_same_weights(state.params, golden_data.load('t5x_1_1').params)
  fresh = initializer.from_scratch(jax.random.key(1))
  jax.tree.map(
    np.testing.assert_array_equal, state.param_states, fresh.param_states
  )


@pytest.mark.parametrize('optimizer', ['the same', 'another'])
def test_a_runs_own_checkpoint_starts_another_run_at_step_0(
  optimizer, tmp_path
):
  first = _initializer()
  state = first.from_scratch(jax.random.key(5)).replace_step(jnp.int32(7))
  saver = checkpoints.SaveCheckpointConfig().make_manager(
    str(tmp_path), state, partitioning.PjitPartitioner(num_partitions=1)
  )
  saver.save(state)
  saver.close()
  other = adafactor.Adafactor(
    1e-3, logical_factor_rules=adafactor.standard_logical_factor_rules()
  )
  second = first if optimizer == 'the same' else _initializer(other)
  found = _restored(tmp_path / 'checkpoint_7', second)
  assert int(found.step) == 0
  _assert_same_weights(found.params, state.params)


def test_a_folder_of_transformers_brings_all_its_weights():
  path = GOLDEN / 'hf_1_1/model'
  there = json.loads((path / 'config.json').read_text())
  initializer = _initializer(
    num_encoder_layers=there['num_layers'],
    num_decoder_layers=there['num_decoder_layers'],
  )
  state = _restored(path, initializer)
  assert int(state.step) == 0
  read = checkpoints.load_t5x_checkpoint(str(path))['target']
  _assert_same_weights(state.params, read)


@pytest.mark.parametrize(
  'name, overrides, message',
  [
    (
      't5x_1_0/legacy/checkpoint_0',
      {},
      r'lacks the leaf target/decoder/layers_0/mlp/wi_0/kernel, which has shape'
      r' \(48, 96\).*checkpoint is T5 1\.0 .*model T5 1\.1',
    ),
    (
      'hf_1_0/model',
      {'num_encoder_layers': 3},
      r'lacks the leaf target/decoder/.*checkpoint is T5 1\.0 .*model T5 1\.1',
    ),
    (
      't5x_1_1/orbax/checkpoint_0',
      {'num_encoder_layers': 1},
      r'has the leaf target/encoder/layers_1/.* of shape .*fewer layers',
    ),
    (
      't5x_1_1/orbax/checkpoint_0',
      {'logits_via_embedding': True},
      r'has the leaf target/decoder/logits_dense/kernel of shape \(48, 384\)',
    ),
  ],
)
def test_weights_of_another_network_are_refused(name, overrides, message):
  with pytest.raises(UserError, match=message):
    _restored(GOLDEN / name, _initializer(**overrides))


def test_adapters_start_from_scratch_beside_weights_in_bfloat16():
  path = GOLDEN / 't5x_1_1' / 'orbax' / 'checkpoint_0'
  initializer = _initializer(
    optimizers.PartialOptimizer(optimizers.adamw(1e-2), trained=('lora',)),
    lora_rank=2,
    param_dtype='bfloat16',
  )
  state = initializer.from_checkpoint(
    [pretrained.initial_checkpoint(str(path), ('lora',))],
    init_rng=jax.random.key(0),
  )
  found = traverse_util.flatten_dict(state.params, sep='/')
  stored = traverse_util.flatten_dict(
    golden_data.load('t5x_1_1').params, sep='/'
  )
  adapters = {name for name in found if '/lora/' in name}
  assert found.keys() - adapters == stored.keys()
  for name, leaf in stored.items():
    kind = jnp.float32 if name.endswith('/scale') else jnp.bfloat16
    np.testing.assert_array_equal(found[name], leaf.astype(kind), err_msg=name)
  for name in adapters:
    assert np.any(found[name] != 0) == name.endswith('/a'), name
  moments = [x for x in jax.tree.leaves(state.param_states) if x.ndim]
  assert len(moments) == 2 * len(adapters) > 0


def test_no_checkpoint_is_a_start_from_scratch():
  assert pretrained.initial_checkpoint(None) is None
