"""A folder's config.json decides, and is compared with the network."""

import json
import pathlib
import tracemalloc

import numpy as np
import pytest

from t5x import checkpoints
from t5x.checkpoints.formats import (
  huggingface,
  huggingface_config,
)
from t5x.errors import UserError
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


def test_heads_that_differ_late_are_not_taken_for_copies(tmp_path, monkeypatch):
  monkeypatch.setattr(huggingface, '_ROWS', 100)
  head = np.array(hf_folders.params('hf_1_0')['token_embedder']['embedding'])
  head[-1, -1] += 1
  path = hf_folders.changed(
    hf_folders.copy('hf_1_0', tmp_path), weights={'lm_head.weight': head}
  )
  read = hf_folders.flat(hf_folders.read(path))
  np.testing.assert_array_equal(read['decoder/logits_dense/kernel'], head.T)


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
