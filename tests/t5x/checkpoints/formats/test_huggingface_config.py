"""A folder's config.json decides, and is compared with the network."""

import json
import pathlib
import tracemalloc
import types

import numpy as np
import pytest

from t5x import checkpoints
from t5x.checkpoints.formats import (
  huggingface,
  huggingface_config,
)
from t5x.errors import UserError
from t5x.examples.t5.config import T5Config
from tests.t5x.checkpoints.formats import hf_folders


def test_a_head_that_is_stored_counts_whatever_the_flag_says(tmp_path):
  # As transformers 5 saves a T5 1.1.
  path = hf_folders.changed(
    hf_folders.copy('hf_1_1', tmp_path),
    tie_word_embeddings=True,
    scale_decoder_outputs=False,
  )
  hf_folders.assert_same(hf_folders.read(path), hf_folders.params('hf_1_1'))
  checkpoints.check_network(path, hf_folders.network_config('hf_1_1'))


def test_a_head_that_the_flag_asks_for_and_nothing_stores_is_missing(tmp_path):
  path = hf_folders.changed(
    hf_folders.copy('hf_1_0', tmp_path), tie_word_embeddings=False
  )
  with pytest.raises(UserError, match=r"missing \['lm_head.weight'\]"):
    hf_folders.read(path)


@pytest.mark.parametrize('row', [0, 250, -1, None])
def test_heads_that_differ_anywhere_are_not_taken_for_copies(
  row, tmp_path, monkeypatch
):
  monkeypatch.setattr(huggingface, '_ROWS', 100)
  head = np.array(hf_folders.params('hf_1_0')['token_embedder']['embedding'])
  if row is not None:
    head[row, -1] += 1
  path = hf_folders.changed(
    hf_folders.copy('hf_1_0', tmp_path), weights={'lm_head.weight': head}
  )
  read = hf_folders.flat(hf_folders.read(path))
  if row is None:
    assert 'decoder/logits_dense/kernel' not in read
  else:
    np.testing.assert_array_equal(read['decoder/logits_dense/kernel'], head.T)


@pytest.mark.parametrize('rows', [300, 500])
def test_a_head_of_another_size_is_no_copy(rows, tmp_path):
  shared = hf_folders.params('hf_1_0')['token_embedder']['embedding']
  head = np.resize(shared, (rows, shared.shape[1]))
  path = hf_folders.changed(
    hf_folders.copy('hf_1_0', tmp_path), weights={'lm_head.weight': head}
  )
  read = hf_folders.flat(hf_folders.read(path))
  assert read['decoder/logits_dense/kernel'].shape == head.shape[::-1]


def test_a_tied_head_without_scale_is_loaded_as_a_head_of_its_own(tmp_path):
  path = hf_folders.changed(
    hf_folders.copy('hf_1_0', tmp_path), scale_decoder_outputs=False
  )
  read = hf_folders.flat(hf_folders.read(path))
  np.testing.assert_array_equal(
    read['decoder/logits_dense/kernel'], read['token_embedder/embedding'].T
  )
  config = hf_folders.network_config('hf_1_0')
  checkpoints.check_network(path, config.replace(logits_via_embedding=False))
  with pytest.raises(
    UserError,
    match=r'scale_decoder_outputs is False.*logits_via_embedding = True.*'
    r'Set network\.T5Config\.logits_via_embedding = False',
  ):
    checkpoints.check_network(path, config)


@pytest.mark.parametrize('stack', ['decoder', 'encoder'])
def test_an_embedding_under_the_name_of_a_stack_is_found(stack, tmp_path):
  # As the folders of MADLAD-400 have it.
  path = hf_folders.changed(
    hf_folders.copy('hf_1_1', tmp_path),
    {'shared.weight': f'{stack}.embed_tokens.weight'},
  )
  hf_folders.assert_same(hf_folders.read(path), hf_folders.params('hf_1_1'))
  checkpoints.check_network(path, hf_folders.network_config('hf_1_1'))
  # A head that is a copy of it is one of that one, too.
  own = hf_folders.copy('hf_1_0', tmp_path / 'own')
  head = np.array(hf_folders.params('hf_1_0')['token_embedder']['embedding'])
  name = f'{stack}.embed_tokens.weight'
  path = hf_folders.changed(
    own, {'shared.weight': name}, {'lm_head.weight': head}
  )
  assert huggingface.network(path)['logits_via_embedding']


@pytest.mark.parametrize('name', hf_folders.NAMES)
def test_a_folder_fits_the_network_that_it_was_made_from(name):
  checkpoints.check_network(
    hf_folders.model_folder(name), hf_folders.network_config(name)
  )


def _differing(key, found, attribute, value, wanted):
  return (
    rf'config\.json: {key} is {found}, but the network has'
    rf' {attribute} = {value}\..*Set network\.T5Config\.{attribute} = {wanted}'
  )


@pytest.mark.parametrize(
  'name, changes, message, network_changes',
  [
    (
      'hf_1_1',
      {'feed_forward_proj': 'gated-silu', 'dense_act_fn': 'silu'},
      _differing(
        'feed_forward_proj',
        "'gated-silu'",
        'mlp_activations',
        r"\('gelu', 'linear'\)",
        r"\('silu', 'linear'\)",
      ),
      {'mlp_activations': ('silu', 'linear')},
    ),
    (
      'hf_1_1',
      {'dense_act_fn': 'relu'},
      _differing(
        'dense_act_fn',
        "'relu'",
        'mlp_activations',
        r"\('gelu', 'linear'\)",
        r"\('relu', 'linear'\)",
      ),
      {'mlp_activations': ('relu', 'linear')},
    ),
    (
      'hf_1_1',
      {'feed_forward_proj': 'relu', 'dense_act_fn': 'relu'},
      r"feed_forward_proj is 'relu', but.*mlp_activations = \('gelu', 'linear'",
      None,
    ),
    (
      'hf_1_0',
      {'feed_forward_proj': 'gelu', 'dense_act_fn': 'gelu'},
      r"feed_forward_proj is 'gelu'.*no such option: take another folder",
      None,
    ),
    (
      'hf_1_1',
      {'layer_norm_epsilon': 1e-5},
      _differing(
        'layer_norm_epsilon', '1e-05', 'layer_norm_epsilon', '1e-06', '1e-05'
      ),
      {'layer_norm_epsilon': 1e-5},
    ),
    (
      'hf_1_0',
      {'relative_attention_num_buckets': 16},
      _differing(
        'relative_attention_num_buckets',
        '16',
        'relative_attention_num_buckets',
        '32',
        '16',
      ),
      {'relative_attention_num_buckets': 16},
    ),
    (
      'hf_1_0',
      {'relative_attention_max_distance': 64},
      _differing(
        'relative_attention_max_distance',
        '64',
        'relative_attention_max_distance',
        '128',
        '64',
      ),
      {'relative_attention_max_distance': 64},
    ),
    (
      'hf_1_1',
      {'scale_decoder_outputs': True},
      r'scale_decoder_outputs is True.*logits_via_embedding = False.*no such',
      None,
    ),
  ],
)
def test_what_shapes_cannot_show_is_compared_with_the_network(
  name, changes, message, network_changes, tmp_path
):
  path = hf_folders.changed(hf_folders.copy(name, tmp_path), **changes)
  with pytest.raises(UserError, match=message):
    checkpoints.check_network(path, hf_folders.network_config(name))
  if network_changes:
    checkpoints.check_network(
      path, hf_folders.network_config(name).replace(**network_changes)
    )


def test_what_a_configuration_leaves_out_is_t5s_own(tmp_path):
  folder = hf_folders.copy('hf_1_0', tmp_path)
  there = json.loads((folder / 'config.json').read_text())
  for key in (
    'dense_act_fn',
    'feed_forward_proj',
    'layer_norm_epsilon',
    'relative_attention_max_distance',
    'relative_attention_num_buckets',
  ):
    del there[key]
  (folder / 'config.json').write_text(json.dumps(there))
  checkpoints.check_network(str(folder), hf_folders.network_config('hf_1_0'))


def test_an_embedding_of_one_stack_alone_is_refused(tmp_path):
  shared = hf_folders.params('hf_1_1')['token_embedder']['embedding']
  own = {'decoder.embed_tokens.weight': shared + 1}
  path = hf_folders.changed(hf_folders.copy('hf_1_1', tmp_path), weights=own)
  with pytest.raises(UserError, match=r'decoder\.embed_tokens\.weight differs'):
    checkpoints.check_network(path, hf_folders.network_config('hf_1_1'))
  same = {'decoder.embed_tokens.weight': np.array(shared)}
  path = hf_folders.changed(
    hf_folders.copy('hf_1_1', tmp_path / 'same'), weights=same
  )
  checkpoints.check_network(path, hf_folders.network_config('hf_1_1'))


@pytest.mark.parametrize('key', ['num_layers', 'num_decoder_layers'])
def test_any_number_of_layers_is_refused_at_no_cost(key, tmp_path):
  path = hf_folders.changed(hf_folders.copy('hf_1_1', tmp_path), **{key: 10**9})
  tracemalloc.start()
  with pytest.raises(UserError, match=r'1000000000 .*missing \['):
    huggingface.open_folder(path)
  assert tracemalloc.get_traced_memory()[1] < 10e6
  tracemalloc.stop()
  path = hf_folders.changed(pathlib.Path(path), **{key: '6'})
  with pytest.raises(UserError, match=rf"{key}: expected a positive.*'6'"):
    huggingface.open_folder(path)


@pytest.mark.parametrize('found', [None, 0, -8, True, 8.0, '8'])
def test_a_size_of_the_network_is_a_positive_integer(found):
  config = {
    **huggingface_config.read(hf_folders.model_folder('hf_1_1')),
    'd_ff': found,
  }
  message = rf'f/config\.json: d_ff: expected a positive .* found {found!r}\.'
  with pytest.raises(UserError, match=message):
    huggingface_config.network('f', config, via_embedding=False)


def test_what_the_network_was_given_is_written(tmp_path):
  numbers = {
    'layer_norm_epsilon': 1e-5,
    'relative_attention_max_distance': 64,
  }
  config = hf_folders.network_config('hf_1_1').replace(**numbers)
  huggingface.write(hf_folders.params('hf_1_1'), config, str(tmp_path))
  checkpoints.check_network(str(tmp_path), config)
  there = huggingface_config.read(str(tmp_path))
  assert {key: there[key] for key in numbers} == numbers
  assert there['scale_decoder_outputs'] is False


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'{"model_type": "t5", "x": "' + b'y' * 2**20 + b'"}', 'most 1,048,576'),
    (b'[' * 100_000, 'as a JSON object, found something else'),
    (b'{"a":' * 100_000, 'as a JSON object, found something else'),
    (b'[]', 'as a JSON object, found something else'),
    (b'{"model_type": ["t5"]}', "found .'t5'.\\."),
    (b'{"model_type": "' + b'x' * 10**6 + b'"}', 'expected model_type'),
    (b'{"model_type": "t5", "num_layers": 1e999}', 'num_layers: expected'),
    (b'{"model_type": "t5", "num_layers": 1' + b'0' * 5000 + b'}', 'something'),
    (b'{"model_type": "t5", "num_layers": 999999999999}', 'missing .*block'),
    (b'{"model_type": "t5", "num_layers": true}', 'num_layers: expected'),
    (
      b'{"model_type": "t5", "num_layers": 2, "num_decoder_layers": -1}',
      'num_decoder_layers: expected',
    ),
  ],
)  # fmt: skip
def test_a_configuration_that_asks_for_too_much_is_one_short_message(
  tmp_path, content, message
):
  path = hf_folders.copy('hf_1_1', tmp_path)
  (pathlib.Path(path) / huggingface_config.CONFIG_FILE).write_bytes(content)
  tracemalloc.start()
  try:
    with pytest.raises(UserError, match=message) as raised:
      hf_folders.read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
  finally:
    tracemalloc.stop()
  assert len(str(raised.value)) < 1000


def test_an_activation_that_is_no_name_is_refused(tmp_path):
  path = hf_folders.changed(
    hf_folders.copy('hf_1_1', tmp_path), dense_act_fn=['gelu_new']
  )
  with pytest.raises(UserError, match='dense_act_fn'):
    checkpoints.check_network(path, hf_folders.network_config('hf_1_1'))


_SIZES = {
  'vocab_size': 7,
  'emb_dim': 6,
  'head_dim': 2,
  'mlp_dim': 9,
  'num_heads': 3,
  'num_encoder_layers': 5,
  'num_decoder_layers': 4,
  'mlp_activations': ('silu', 'linear'),
  'logits_via_embedding': False,
  'layer_norm_epsilon': 1e-5,
  'relative_attention_num_buckets': 8,
  'relative_attention_max_distance': 64,
  'relative_bias_per_layer': False,
}


def test_a_network_is_described_in_full_and_read_again():
  config = T5Config(**_SIZES, dropout_rate=0.25)
  embedding, biases = np.zeros((11, 6), np.float16), np.zeros((3, 10))
  found = huggingface_config.describe(config, embedding, biases)
  assert found == {
    'architectures': ['T5ForConditionalGeneration'],
    'model_type': 't5',
    'is_encoder_decoder': True,
    'vocab_size': 11,
    'd_model': 6,
    'd_kv': 2,
    'd_ff': 9,
    'num_heads': 3,
    'num_layers': 5,
    'num_decoder_layers': 4,
    'dropout_rate': 0.25,
    'feed_forward_proj': 'gated-silu',
    'dense_act_fn': 'silu',
    'is_gated_act': True,
    'layer_norm_epsilon': 1e-5,
    'relative_attention_num_buckets': 10,
    'relative_attention_max_distance': 64,
    'tie_word_embeddings': False,
    'scale_decoder_outputs': False,
    'dtype': 'float16',
    'initializer_factor': 1.0,
    'decoder_start_token_id': 0,
    'pad_token_id': 0,
    'eos_token_id': 1,
    'use_cache': True,
  }
  again = huggingface_config.network('f', found, via_embedding=False)
  assert again == {
    **_SIZES,
    'vocab_size': 11,
    'relative_attention_num_buckets': 10,
  }


@pytest.mark.parametrize(
  ('activations', 'kind', 'act', 'gated'),
  [
    (('relu',), 'relu', 'relu', False),
    (('gelu',), 'gelu_new', 'gelu_new', False),
    (('gelu', 'linear'), 'gated-gelu', 'gelu_new', True),
  ],
)
def test_activations_have_the_names_of_transformers(
  activations, kind, act, gated
):
  config = T5Config(
    **{
      **_SIZES,
      'mlp_activations': activations,
      'logits_via_embedding': True,
      'relative_bias_per_layer': True,
    }
  )
  weights = np.zeros((7, 6)), np.zeros((3, 8))
  found = huggingface_config.describe(config, *weights)
  keys = ('feed_forward_proj', 'dense_act_fn', 'is_gated_act', 'model_type')
  assert tuple(found[key] for key in keys) == (kind, act, gated, 'umt5')
  assert found['architectures'] == ['UMT5ForConditionalGeneration']
  assert found['tie_word_embeddings'] is found['scale_decoder_outputs'] is True
  again = huggingface_config.network('f', found, via_embedding=True)
  assert again['mlp_activations'] == activations
  assert again['relative_bias_per_layer'] and again['logits_via_embedding']
  config = config.replace(mlp_activations=('tanh',))
  with pytest.raises(UserError, match=r"\('tanh',\) has no name"):
    huggingface_config.describe(config, *weights)


def test_what_a_configuration_lacks_is_what_t5_has():
  sizes = {'d_model': 1, 'd_kv': 1, 'd_ff': 1, 'num_heads': 1, 'vocab_size': 1}
  bare = {'model_type': 't5', 'num_layers': 1, **sizes}
  for given in ({}, {'num_decoder_layers': None, 'layer_norm_epsilon': None}):
    found = huggingface_config.network('f', {**bare, **given}, True)
    assert found == {
      'vocab_size': 1,
      'emb_dim': 1,
      'head_dim': 1,
      'mlp_dim': 1,
      'num_heads': 1,
      'num_encoder_layers': 1,
      'num_decoder_layers': 1,
      'mlp_activations': ('relu',),
      'logits_via_embedding': True,
      'layer_norm_epsilon': 1e-6,
      'relative_attention_num_buckets': 32,
      'relative_attention_max_distance': 128,
      'relative_bias_per_layer': False,
    }
  for key in ('num_layers', 'num_decoder_layers'):
    for value in (-1, 1.0):
      with pytest.raises(UserError, match=f'f/config.json: {key}: expected a'):
        huggingface_config.layers('f', {**bare, key: value})
  with pytest.raises(UserError, match=r"dense_act_fn is 'mish': expected one"):
    huggingface_config.network('f', {**bare, 'dense_act_fn': 'mish'}, True)


@pytest.mark.parametrize('ours', [True, False])
@pytest.mark.parametrize('own_head', [True, False])
@pytest.mark.parametrize('scaled', [True, False])
def test_logits_are_scaled_by_the_network_as_by_the_model(
  ours, own_head, scaled
):
  network = types.SimpleNamespace(logits_via_embedding=ours)
  check = huggingface_config.check_scale
  said = None
  if own_head and scaled:
    said = 'scale_decoder_outputs is True.* take another folder'
  elif not own_head and not scaled and ours:
    said = r'is False.*T5Config\.logits_via_embedding = False'
  if said is None:
    check('f', network, own_head, scaled)
  else:
    with pytest.raises(UserError, match=said):
      check('f', network, own_head, scaled)


_RELU, _PLAIN = {'feed_forward_proj': 'relu'}, {'mlp_activations': ('relu',)}


def _gelu(x):
  return x


@pytest.mark.parametrize(
  ('changes', 'network', 'gated', 'said'),
  [
    ({}, {}, True, None),
    ({}, {'layer_norm_epsilon': 1e-5}, True, 'layer_norm_epsilon is 1e-06'),
    ({}, {'layer_norm_epsilon': 1e-7}, True, 'layer_norm_epsilon is 1e-06'),
    ({'layer_norm_epsilon': 1e-5}, {}, True, 'layer_norm_epsilon is 1e-05'),
    ({'dense_act_fn': 'silu'}, {}, True, r'mlp_activations = \(.silu., .li'),
    ({'dense_act_fn': 'relu'}, {}, True, r'mlp_activations = \(.relu., .li'),
    ({'feed_forward_proj': 'gated-mish'}, {}, True, 'no such option'),
    # A function of one's own is not known to differ.
    ({}, {'mlp_activations': (_gelu, 'linear')}, True, None),
    # Kernels that are not there are named when they are restored.
    ({'feed_forward_proj': 'relu'}, {}, False, None),
    ({}, {'mlp_activations': ('relu',)}, True, None),
    (_RELU, {'mlp_activations': ('relu',)}, False, None),
    (_RELU, {'mlp_activations': ('tanh',)}, False, "is 'relu'"),
    ({**_RELU, 'dense_act_fn': 'tanh'}, _PLAIN, False, "is 'tanh'"),
    ({'model_type': 'umt5'}, {}, True, 'each layer.*= False. Set .* = True'),
    ({'model_type': 'umt5'}, {'relative_bias_per_layer': True}, True, None),
    ({}, {'relative_bias_per_layer': True}, True, 'each stack.* Set .*False'),
  ],
)  # fmt: skip
def test_numbers_and_activations_are_compared_in_both_directions(
  changes, network, gated, said
):
  config = {'model_type': 't5', 'feed_forward_proj': 'gated-gelu', **changes}
  ours = types.SimpleNamespace(
    **{'mlp_activations': ('gelu_new', 'linear'), **network}
  )
  check = huggingface_config.check_network
  if said is None:
    check('f', config, ours, gated)
  else:
    with pytest.raises(UserError, match=said):
      check('f', config, ours, gated)
