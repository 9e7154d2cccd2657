"""Tests of t5x.checkpoints.formats.huggingface."""

import functools
import json
import pathlib
import shutil
import tracemalloc
import types

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from t5x import adafactor, checkpoints, decoding, models
from t5x.checkpoints.formats import (
  huggingface,
  huggingface_config,
  torch_pickle,
)
from t5x.errors import UserError
from t5x.examples.t5 import network
from tests import golden_data, stacked_trees

GOLDEN = pathlib.Path(golden_data.__file__).parent / 'golden'
NAMES = ['hf_1_1', 'hf_1_0']
ACTIVATIONS = {'hf_1_1': ('gelu', 'linear'), 'hf_1_0': ('relu',)}


def _model(name):
  return str(GOLDEN / name / 'model')


def _config(name, dtype=np.float32):
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


def _read(path):
  return checkpoints.load_t5x_checkpoint(path)['target']


@functools.cache
def _params(name):
  return _read(_model(name))


def _flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


def _copy(name, tmp_path):
  return pathlib.Path(shutil.copytree(_model(name), tmp_path / 'model'))


@pytest.mark.parametrize('name', NAMES)
def test_the_weights_give_the_logits_of_transformers(name):
  with np.load(GOLDEN / name / 'arrays.npz') as arrays:
    inputs = arrays['predict_inputs'][0]
    targets = arrays['label_targets'][0]
    expected = arrays['logits_step0']
  real = targets > 0  # The rest is padding: 0, or -100 as torch has it.
  targets = np.where(real, targets, 0)
  shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  module = network.Transformer(_config(name))
  logits = jax.jit(functools.partial(module.apply, enable_dropout=False))(
    {'params': _params(name)}, inputs, shifted, targets
  )
  scale = np.abs(expected[real]).max()
  np.testing.assert_allclose(
    np.asarray(logits)[real], expected[real], rtol=1e-4, atol=1e-5 * scale
  )


@pytest.mark.parametrize('name', NAMES)
def test_greedy_generations_are_those_of_transformers(name):
  with np.load(GOLDEN / name / 'arrays.npz') as arrays:
    inputs, expected = arrays['predict_inputs'][0], arrays['greedy'][:, 1:]
  vocabulary = types.SimpleNamespace(eos_id=1, vocab_size=384)
  model = models.EncoderDecoderModel(
    network.Transformer(_config(name)),
    vocabulary,
    vocabulary,
    adafactor.Adafactor(),
    decode_fn=decoding.temperature_sample,
  )
  batch = {
    'encoder_input_tokens': inputs,
    'decoder_input_tokens': np.zeros_like(expected, np.int32),
  }
  found = jax.jit(model.predict_batch)(_params(name), batch)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('name', NAMES)
def test_the_tree_is_the_one_that_the_network_makes(name):
  module = network.Transformer(_config(name))
  tokens = jax.ShapeDtypeStruct((1, 4), np.int32)
  expected = jax.eval_shape(
    functools.partial(module.init, enable_dropout=False),
    jax.random.key(0),
    tokens,
    tokens,
    tokens,
  )['params']
  assert _shapes(_params(name)) == _shapes(expected)


def _shapes(tree):
  return {name: leaf.shape for name, leaf in _flat(tree).items()}


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('dtype', [np.float32, ml_dtypes.bfloat16])
def test_what_is_written_reads_back_to_the_bit(name, dtype, tmp_path):
  params = jax.tree.map(lambda x: x.astype(dtype), _params(name))
  huggingface.write(params, _config(name), str(tmp_path / 'out'))
  read = _flat(_read(str(tmp_path / 'out')))
  for key, leaf in _flat(params).items():
    assert read[key].dtype == dtype
    assert read[key].tobytes() == np.ascontiguousarray(leaf).tobytes(), key


def test_what_is_more_than_a_file_holds_is_written_to_several(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(huggingface, '_MAX_FILE_BYTES', 20_000)
  huggingface.write(_params('hf_1_1'), _config('hf_1_1'), str(tmp_path))
  sizes = [file.stat().st_size for file in tmp_path.glob('model-*.safetensors')]
  assert len(sizes) > 2
  assert not (tmp_path / 'model.safetensors').exists()
  read = _flat(_read(str(tmp_path)))
  for key, leaf in _flat(_params('hf_1_1')).items():
    np.testing.assert_array_equal(read[key], leaf)


@pytest.mark.parametrize('name', NAMES)
def test_a_folder_written_again_is_what_transformers_wrote(name, tmp_path):
  huggingface.write(_params(name), _config(name), str(tmp_path))
  old = safetensors.numpy.load_file(f'{_model(name)}/model.safetensors')
  new = safetensors.numpy.load_file(tmp_path / 'model.safetensors')
  assert new.keys() == old.keys()
  for key in old:
    np.testing.assert_array_equal(new[key], old[key])
  there = huggingface_config.read(_model(name))
  here = huggingface_config.read(str(tmp_path))
  same = {key: here[key] for key in here if key in there}
  assert same == {key: there[key] for key in same}


def test_weights_in_several_files_are_read_through_their_index(tmp_path):
  folder = _copy('hf_1_1', tmp_path)
  weights = safetensors.numpy.load_file(folder / 'model.safetensors')
  (folder / 'model.safetensors').unlink()
  names = sorted(weights)
  files = {}
  for number, part in enumerate((names[::2], names[1::2])):
    file = f'model-{number}.safetensors'
    safetensors.numpy.save_file({n: weights[n] for n in part}, folder / file)
    files.update(dict.fromkeys(part, file))
  (folder / 'model.safetensors.index.json').write_text(
    json.dumps({'weight_map': files})
  )
  assert huggingface.is_huggingface_folder(str(folder))
  read = _flat(_read(str(folder)))
  for key, leaf in _flat(_params('hf_1_1')).items():
    np.testing.assert_array_equal(read[key], leaf)


def test_a_slice_of_a_kernel_is_the_slice_of_its_transpose():
  lazy = huggingface.open_folder(_model('hf_1_1'))
  kernel = lazy['encoder']['layers_0']['mlp']['wo']['kernel']
  whole = _params('hf_1_1')['encoder']['layers_0']['mlp']['wo']['kernel']
  part = kernel.start_read((slice(3, 9), slice(4, 5))).result()
  np.testing.assert_array_equal(part, whole[3:9, 4:5])


def test_spare_weights_of_old_folders_are_passed_over(tmp_path):
  folder = _copy('hf_1_0', tmp_path)
  file = folder / 'model.safetensors'
  weights = safetensors.numpy.load_file(file)
  weights['lm_head.weight'] = weights['shared.weight'].copy()
  bias = 'EncDecAttention.relative_attention_bias.weight'
  weights[f'decoder.block.0.layer.1.{bias}'] = np.zeros((32, 4), np.float32)
  safetensors.numpy.save_file(weights, file)
  read = _read(str(folder))
  assert _flat(read).keys() == _flat(_params('hf_1_0')).keys()


TORCH = GOLDEN / 'torch_files'


@pytest.mark.parametrize('name', ['one_file', 'sharded'])
def test_weights_of_pytorch_are_those_of_the_same_model(name):
  with np.load(TORCH / 'model.npz') as arrays:
    expected = dict(arrays)
  read = _flat(_read(str(TORCH / name)))
  np.testing.assert_array_equal(
    read['token_embedder/embedding'], expected['shared.weight']
  )
  np.testing.assert_array_equal(
    read['decoder/logits_dense/kernel'], expected['lm_head.weight'].T
  )
  block = 'decoder.block.1.layer.2.DenseReluDense'
  for kernel in ('wi_0', 'wi_1', 'wo'):
    np.testing.assert_array_equal(
      read[f'decoder/layers_1/mlp/{kernel}/kernel'],
      expected[f'{block}.{kernel}.weight'].T,
    )
  # The embedding is there three times, as it is used.
  assert len(read) == len(expected) - 2


def test_a_pytorch_folder_that_lacks_a_file_is_named(tmp_path):
  folder = pathlib.Path(shutil.copytree(TORCH / 'sharded', tmp_path / 'x'))
  (folder / 'pytorch_model-00002-of-00002.bin').unlink()
  with pytest.raises(UserError, match=r'pytorch_model-00002-of-00002\.bin is'):
    _read(str(folder))
  index = folder / 'pytorch_model.bin.index.json'
  index.write_text('{"weight_map": {"a": "../../secret.bin"}}')
  with pytest.raises(UserError, match=r"files beside it, found '\.\./\.\./sec"):
    _read(str(folder))
  index.write_text('[]')
  with pytest.raises(UserError, match=r"'weight_map' names the files"):
    _read(str(folder))


def test_quantized_weights_of_pytorch_are_refused():
  lazy = torch_pickle.open_file(TORCH / 'tensors.zip.bin')['int64']
  with pytest.raises(UserError, match=r'floating-point weights.*found int64'):
    huggingface._check_type(lazy)


def test_a_folder_without_weights_is_named(tmp_path):
  folder = _copy('hf_1_1', tmp_path)
  (folder / 'model.safetensors').unlink()
  with pytest.raises(UserError, match=r'no weights: looked for model\.safet'):
    _read(str(folder))


def test_another_kind_of_model_is_refused(tmp_path):
  folder = _copy('hf_1_1', tmp_path)
  (folder / 'config.json').write_text('{"model_type": "bert"}')
  with pytest.raises(UserError, match=r"model_type 't5'.*found 'bert'"):
    _read(str(folder))


def test_a_download_that_stopped_short_is_named(tmp_path):
  folder = _copy('hf_1_1', tmp_path)
  file = folder / 'model.safetensors'
  file.write_bytes(file.read_bytes()[:-100])
  with pytest.raises(UserError, match=rf'{file}: cannot be read as safetenso'):
    _read(str(folder))


def test_weights_that_do_not_fit_their_configuration_are_named(tmp_path):
  folder = _copy('hf_1_1', tmp_path)
  config = json.loads((folder / 'config.json').read_text())
  config['num_layers'] = 4
  (folder / 'config.json').write_text(json.dumps(config))
  with pytest.raises(UserError, match=r"4 encoder.*missing \['encoder.block.3"):
    _read(str(folder))


def test_stacked_layers_are_written_one_by_one(tmp_path):
  stacked = stacked_trees.stacked(_params('hf_1_1'))
  huggingface.write(stacked, _config('hf_1_1'), str(tmp_path))
  for key, leaf in _flat(_read(str(tmp_path))).items():
    np.testing.assert_array_equal(leaf, _flat(_params('hf_1_1'))[key])


def test_writing_needs_the_configuration_of_the_parameters(tmp_path):
  with pytest.raises(UserError, match=r"missing \['decoder/layers_0/mlp/wi/ke"):
    huggingface.write(_params('hf_1_1'), _config('hf_1_0'), str(tmp_path))
  assert list(tmp_path.iterdir()) == []


def test_weights_that_are_there_are_not_written_over(tmp_path):
  folder = _copy('hf_1_1', tmp_path)
  before = (folder / 'model.safetensors').read_bytes()
  with pytest.raises(UserError, match=r'holds the weights of a model already'):
    huggingface.write(_params('hf_1_1'), _config('hf_1_1'), str(folder))
  assert (folder / 'model.safetensors').read_bytes() == before


def _changed(folder, rename=(), weights=(), **config):
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


def _assert_same(read, expected):
  read, expected = _flat(read), _flat(expected)
  assert read.keys() == expected.keys()
  for key, leaf in expected.items():
    np.testing.assert_array_equal(read[key], leaf, err_msg=key)


def test_a_head_that_is_stored_counts_whatever_the_flag_says(tmp_path):
  # As transformers 5 saves a T5 1.1.
  path = _changed(
    _copy('hf_1_1', tmp_path),
    tie_word_embeddings=True,
    scale_decoder_outputs=False,
  )
  _assert_same(_read(path), _params('hf_1_1'))
  checkpoints.check_network(path, _config('hf_1_1'))


def test_heads_that_differ_late_are_not_taken_for_copies(tmp_path, monkeypatch):
  monkeypatch.setattr(huggingface, '_ROWS', 100)
  head = np.array(_params('hf_1_0')['token_embedder']['embedding'])
  head[-1, -1] += 1
  path = _changed(_copy('hf_1_0', tmp_path), weights={'lm_head.weight': head})
  read = _flat(_read(path))
  np.testing.assert_array_equal(read['decoder/logits_dense/kernel'], head.T)


def test_a_tied_head_without_scale_is_loaded_as_a_head_of_its_own(tmp_path):
  path = _changed(_copy('hf_1_0', tmp_path), scale_decoder_outputs=False)
  read = _flat(_read(path))
  np.testing.assert_array_equal(
    read['decoder/logits_dense/kernel'], read['token_embedder/embedding'].T
  )
  config = _config('hf_1_0')
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
  path = _changed(
    _copy('hf_1_1', tmp_path),
    {'shared.weight': f'{stack}.embed_tokens.weight'},
  )
  _assert_same(_read(path), _params('hf_1_1'))
  checkpoints.check_network(path, _config('hf_1_1'))


@pytest.mark.parametrize('name', NAMES)
def test_a_folder_fits_the_network_that_it_was_made_from(name):
  checkpoints.check_network(_model(name), _config(name))


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
  path = _changed(_copy(name, tmp_path), **changes)
  with pytest.raises(UserError, match=message):
    checkpoints.check_network(path, _config(name))
  if network_changes:
    checkpoints.check_network(path, _config(name).replace(**network_changes))


def test_what_a_configuration_leaves_out_is_t5s_own(tmp_path):
  folder = _copy('hf_1_0', tmp_path)
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
  checkpoints.check_network(str(folder), _config('hf_1_0'))


def test_an_embedding_of_one_stack_alone_is_refused(tmp_path):
  shared = _params('hf_1_1')['token_embedder']['embedding']
  own = {'decoder.embed_tokens.weight': shared + 1}
  path = _changed(_copy('hf_1_1', tmp_path), weights=own)
  with pytest.raises(UserError, match=r'decoder\.embed_tokens\.weight differs'):
    checkpoints.check_network(path, _config('hf_1_1'))
  same = {'decoder.embed_tokens.weight': np.array(shared)}
  path = _changed(_copy('hf_1_1', tmp_path / 'same'), weights=same)
  checkpoints.check_network(path, _config('hf_1_1'))


@pytest.mark.parametrize('key', ['num_layers', 'num_decoder_layers'])
def test_any_number_of_layers_is_refused_at_no_cost(key, tmp_path):
  path = _changed(_copy('hf_1_1', tmp_path), **{key: 10**9})
  tracemalloc.start()
  with pytest.raises(UserError, match=r'1000000000 .*missing \['):
    huggingface.open_folder(path)
  assert tracemalloc.get_traced_memory()[1] < 10e6
  tracemalloc.stop()
  path = _changed(pathlib.Path(path), **{key: '6'})
  with pytest.raises(UserError, match=rf"{key}: expected a positive.*'6'"):
    huggingface.open_folder(path)


def test_what_the_network_was_given_is_written(tmp_path):
  numbers = {
    'layer_norm_epsilon': 1e-5,
    'relative_attention_max_distance': 64,
  }
  config = _config('hf_1_1').replace(**numbers)
  huggingface.write(_params('hf_1_1'), config, str(tmp_path))
  checkpoints.check_network(str(tmp_path), config)
  there = huggingface_config.read(str(tmp_path))
  assert {key: there[key] for key in numbers} == numbers
  assert there['scale_decoder_outputs'] is False
