"""Tests of t5x.checkpoints.formats.huggingface."""

import functools
import itertools
import json
import pathlib
import shutil
import types

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax import traverse_util

from t5x import adafactor, decoding, models
from t5x.checkpoints.formats import (
  huggingface,
  huggingface_config,
)
from t5x.errors import UserError
from t5x.examples.t5 import network
from tests import stacked_trees
from tests.t5x.checkpoints.formats import hf_folders


@pytest.mark.parametrize('name', hf_folders.NAMES)
def test_the_weights_give_the_logits_of_transformers(name):
  with np.load(hf_folders.GOLDEN / name / 'arrays.npz') as arrays:
    inputs = arrays['predict_inputs'][0]
    targets = arrays['label_targets'][0]
    expected = arrays['logits_step0']
  real = targets > 0  # The rest is padding: 0, or -100 as torch has it.
  targets = np.where(real, targets, 0)
  shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  module = network.Transformer(hf_folders.network_config(name))
  logits = jax.jit(functools.partial(module.apply, enable_dropout=False))(
    {'params': hf_folders.params(name)}, inputs, shifted, targets
  )
  scale = np.abs(expected[real]).max()
  np.testing.assert_allclose(
    np.asarray(logits)[real], expected[real], rtol=1e-4, atol=1e-5 * scale
  )


@pytest.mark.parametrize('name', hf_folders.NAMES)
def test_greedy_generations_are_those_of_transformers(name):
  with np.load(hf_folders.GOLDEN / name / 'arrays.npz') as arrays:
    inputs, expected = arrays['predict_inputs'][0], arrays['greedy'][:, 1:]
  vocabulary = types.SimpleNamespace(eos_id=1, vocab_size=384)
  model = models.EncoderDecoderModel(
    network.Transformer(hf_folders.network_config(name)),
    vocabulary,
    vocabulary,
    adafactor.Adafactor(),
    decode_fn=decoding.temperature_sample,
  )
  batch = {
    'encoder_input_tokens': inputs,
    'decoder_input_tokens': np.zeros_like(expected, np.int32),
  }
  found = jax.jit(model.predict_batch)(hf_folders.params(name), batch)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('name', hf_folders.NAMES)
def test_the_tree_is_the_one_that_the_network_makes(name):
  module = network.Transformer(hf_folders.network_config(name))
  tokens = jax.ShapeDtypeStruct((1, 4), np.int32)
  expected = jax.eval_shape(
    functools.partial(module.init, enable_dropout=False),
    jax.random.key(0),
    tokens,
    tokens,
    tokens,
  )['params']
  assert _shapes(hf_folders.params(name)) == _shapes(expected)


def _shapes(tree):
  return {name: leaf.shape for name, leaf in hf_folders.flat(tree).items()}


@pytest.mark.parametrize('name', hf_folders.NAMES)
@pytest.mark.parametrize('dtype', [np.float32, ml_dtypes.bfloat16])
def test_what_is_written_reads_back_to_the_bit(name, dtype, tmp_path):
  params = jax.tree.map(lambda x: x.astype(dtype), hf_folders.params(name))
  huggingface.write(
    params, hf_folders.network_config(name), str(tmp_path / 'out')
  )
  read = hf_folders.flat(hf_folders.read(str(tmp_path / 'out')))
  for key, leaf in hf_folders.flat(params).items():
    assert read[key].dtype == dtype
    assert read[key].tobytes() == np.ascontiguousarray(leaf).tobytes(), key


def test_what_is_more_than_a_file_holds_is_written_to_several(
  tmp_path, monkeypatch
):
  assert huggingface._MAX_FILE_BYTES == 5_000_000_000
  monkeypatch.setattr(huggingface, '_MAX_FILE_BYTES', 20_000)
  seen = []
  huggingface.write(
    hf_folders.params('hf_1_1'),
    hf_folders.network_config('hf_1_1'),
    str(tmp_path),
    lambda *counts: seen.append(counts),
  )
  assert not (tmp_path / 'model.safetensors').exists()
  text = (tmp_path / 'model.safetensors.index.json').read_text()
  index = json.loads(text)
  assert text == json.dumps(index, indent=2, sort_keys=True) + '\n'
  expected = hf_folders.flat(hf_folders.params('hf_1_1'))
  total = sum(leaf.nbytes for leaf in expected.values())
  assert index['metadata'] == {'total_size': total}
  # Told after each array.
  assert seen[-1] == (total, total) and len(seen) == len(expected)
  read = [0, *(done for done, _ in seen)]
  nbytes = [after - before for before, after in itertools.pairwise(read)]
  assert sorted(nbytes) == sorted(leaf.nbytes for leaf in expected.values())
  # Each file is as full as it may be.
  files = sorted(set(index['weight_map'].values()))
  count = len(files)
  assert files == [
    f'model-{i:05d}-of-{count:05d}.safetensors' for i in range(1, count + 1)
  ]
  assert {p.name for p in tmp_path.glob('*.safetensors')} == {*files}
  before, done = 0, 0
  for file in files:
    weights = safetensors.numpy.load_file(tmp_path / file)
    assert {n for n, f in index['weight_map'].items() if f == file} == {
      *weights
    }
    here = sum(w.nbytes for w in weights.values())
    assert here <= 20_000 or len(weights) == 1
    assert not before or before + nbytes[done] > 20_000
    before, done = here, done + len(weights)
    mode = (tmp_path / file).stat().st_mode
    assert mode == (tmp_path / 'config.json').stat().st_mode
    with safetensors.safe_open(tmp_path / file, framework='np') as stored:
      assert stored.metadata() == {'format': 'pt'}
  read = hf_folders.flat(hf_folders.read(str(tmp_path)))
  for key, leaf in expected.items():
    np.testing.assert_array_equal(read[key], leaf)


@pytest.mark.parametrize('name', hf_folders.NAMES)
def test_a_folder_written_again_is_what_transformers_wrote(name, tmp_path):
  huggingface.write(
    hf_folders.params(name), hf_folders.network_config(name), str(tmp_path)
  )
  old = safetensors.numpy.load_file(
    f'{hf_folders.model_folder(name)}/model.safetensors'
  )
  new = safetensors.numpy.load_file(tmp_path / 'model.safetensors')
  assert new.keys() == old.keys()
  for key in old:
    np.testing.assert_array_equal(new[key], old[key])
  there = huggingface_config.read(hf_folders.model_folder(name))
  here = huggingface_config.read(str(tmp_path))
  same = {key: here[key] for key in here if key in there}
  assert same == {key: there[key] for key in same}


def test_weights_in_several_files_are_read_through_their_index(tmp_path):
  folder = hf_folders.copy('hf_1_1', tmp_path)
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
  read = hf_folders.flat(hf_folders.read(str(folder)))
  for key, leaf in hf_folders.flat(hf_folders.params('hf_1_1')).items():
    np.testing.assert_array_equal(read[key], leaf)


def test_a_slice_of_a_kernel_is_the_slice_of_its_transpose():
  lazy = huggingface.open_folder(hf_folders.model_folder('hf_1_1'))
  kernel = lazy['encoder']['layers_0']['mlp']['wo']['kernel']
  whole = hf_folders.params('hf_1_1')['encoder']['layers_0']['mlp']['wo'][
    'kernel'
  ]
  part = kernel.start_read((slice(3, 9), slice(4, 5))).result()
  np.testing.assert_array_equal(part, whole[3:9, 4:5])


def test_spare_weights_of_old_folders_are_passed_over(tmp_path):
  folder = hf_folders.copy('hf_1_0', tmp_path)
  file = folder / 'model.safetensors'
  weights = safetensors.numpy.load_file(file)
  weights['lm_head.weight'] = weights['shared.weight'].copy()
  bias = 'EncDecAttention.relative_attention_bias.weight'
  weights[f'decoder.block.0.layer.1.{bias}'] = np.zeros((32, 4), np.float32)
  safetensors.numpy.save_file(weights, file)
  read = hf_folders.read(str(folder))
  assert (
    hf_folders.flat(read).keys()
    == hf_folders.flat(hf_folders.params('hf_1_0')).keys()
  )


TORCH = hf_folders.GOLDEN / 'torch_files'


@pytest.mark.parametrize('name', ['one_file', 'sharded'])
def test_weights_of_pytorch_are_those_of_the_same_model(name):
  with np.load(TORCH / 'model.npz') as arrays:
    expected = dict(arrays)
  read = hf_folders.flat(hf_folders.read(str(TORCH / name)))
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
    hf_folders.read(str(folder))
  index = folder / 'pytorch_model.bin.index.json'
  index.write_text('{"weight_map": {"a": "../../secret.bin"}}')
  with pytest.raises(UserError, match=r"files beside it, found '\.\./\.\./sec"):
    hf_folders.read(str(folder))
  for content, said in (
    ('[]', 'index of the files of weights as a JSON'),
    ('{}', r"JSON object whose 'weight_map' names .*KeyError"),
    ('{"weight_map": ["a"]}', r"JSON object whose 'weight_map' names .*Attr"),
    ('{"weight_map": {"a": ["b"]}}', r"whose 'weight_map' names .*TypeError"),
    ('{"weight_map": {"a": 3}}', 'names of files beside it, found 3'),
    ('{"weight_map": {"a": "x/a.bin"}}', r"files beside it, found 'x/a\.bin'"),
  ):
    index.write_text(content)
    with pytest.raises(UserError, match=said):
      hf_folders.read(str(folder))


def test_quantized_weights_of_pytorch_are_refused(tmp_path):
  shutil.copy(TORCH / 'tensors.zip.bin', tmp_path / 'pytorch_model.bin')
  with pytest.raises(UserError, match=r'floating-point weights.*found u?int'):
    huggingface._open_weights(str(tmp_path))


def test_a_folder_without_weights_is_named(tmp_path):
  folder = hf_folders.copy('hf_1_1', tmp_path)
  (folder / 'model.safetensors').unlink()
  with pytest.raises(UserError, match=r'no weights: looked for model\.safet'):
    hf_folders.read(str(folder))


def test_another_kind_of_model_is_refused(tmp_path):
  folder = hf_folders.copy('hf_1_1', tmp_path)
  (folder / 'config.json').write_text('{"model_type": "bert"}')
  with pytest.raises(UserError, match=r"model_type 't5'.*found 'bert'"):
    hf_folders.read(str(folder))


def test_a_download_that_stopped_short_is_named(tmp_path):
  folder = hf_folders.copy('hf_1_1', tmp_path)
  file = folder / 'model.safetensors'
  file.write_bytes(file.read_bytes()[:-100])
  with pytest.raises(UserError, match=rf'{file}: cannot be read as safetenso'):
    hf_folders.read(str(folder))


def test_weights_that_do_not_fit_their_configuration_are_named(tmp_path):
  folder = hf_folders.copy('hf_1_1', tmp_path)
  config = json.loads((folder / 'config.json').read_text())
  config['num_layers'] = 4
  (folder / 'config.json').write_text(json.dumps(config))
  with pytest.raises(UserError, match=r"4 encoder.*missing \['encoder.block.3"):
    hf_folders.read(str(folder))


def test_what_is_missing_and_what_is_more_are_both_named(tmp_path):
  folder = hf_folders.copy('hf_1_1', tmp_path)
  file = folder / 'model.safetensors'
  weights = safetensors.numpy.load_file(file)
  norm = weights['encoder.final_layer_norm.weight']
  # A kernel of each layer at a time, so that none tells of another form.
  names = sorted(name for name in weights if name.endswith('.wo.weight'))
  for count in range(5):
    changed = {**weights, 'bert.weight': norm}
    for name in names[:count]:
      del changed[name]
    safetensors.numpy.save_file(changed, file)
    # With more missing, those that were not looked for are not unexpected.
    more = 'none' if count >= 4 else r"\['bert\.weight'\]"
    with pytest.raises(UserError, match=f'not expected {more}') as raised:
      hf_folders.read(str(folder))
    assert ('missing none' in str(raised.value)) == (not count)
    for name in names[:count]:
      assert f"'{name}'" in str(raised.value)


def test_what_are_no_weights_of_a_model_is_named(tmp_path):
  folder = hf_folders.copy('hf_1_1', tmp_path)
  file = folder / 'model.safetensors'
  weights = safetensors.numpy.load_file(file)
  weights['shared.weight'] = weights['shared.weight'].astype(np.int8)
  safetensors.numpy.save_file(weights, file)
  with pytest.raises(UserError, match=r'shared\.weight: .*found I8\. Quant'):
    hf_folders.read(str(folder))
  for place in (tmp_path / 'none', tmp_path):
    with pytest.raises(UserError, match='cannot be read as safetensors'):
      huggingface.open_safetensors(place)


def test_folders_on_local_disks_alone_are_opened():
  place = 'gs://bucket/model'
  assert not huggingface.is_huggingface_folder(place)
  assert 'read from local disk only' in str(huggingface.explain(place))
  for read in (huggingface.open_folder, huggingface.network):
    with pytest.raises(UserError, match='read from local disk only'):
      read(place)


@pytest.mark.parametrize('more', [False, True])
def test_parameters_are_those_of_the_configuration(tmp_path, more):
  params = dict(hf_folders.flat(hf_folders.params('hf_1_1')))
  name = 'encoder/encoder_norm/scale'
  if more:
    params['encoder/other/scale'] = params[name]
    said = r"missing none, not expected \['encoder/other"
  else:
    del params[name]
    said = rf"missing \['{name}'\], not expected none"
  tree = traverse_util.unflatten_dict(params, sep='/')
  config, path = hf_folders.network_config('hf_1_1'), str(tmp_path / 'a/b')
  with pytest.raises(UserError, match=said):
    huggingface.write(tree, config, path)
  assert not (tmp_path / 'a').exists()


def test_stacked_layers_are_written_one_by_one(tmp_path):
  stacked = stacked_trees.stacked(hf_folders.params('hf_1_1'))
  tmp_path = tmp_path / 'new' / 'folder'
  huggingface.write(stacked, hf_folders.network_config('hf_1_1'), str(tmp_path))
  for key, leaf in hf_folders.flat(hf_folders.read(str(tmp_path))).items():
    np.testing.assert_array_equal(
      leaf, hf_folders.flat(hf_folders.params('hf_1_1'))[key]
    )


def test_writing_needs_the_configuration_of_the_parameters(tmp_path):
  with pytest.raises(UserError, match=r"missing \['decoder/layers_0/mlp/wi/ke"):
    huggingface.write(
      hf_folders.params('hf_1_1'),
      hf_folders.network_config('hf_1_0'),
      str(tmp_path),
    )
  assert list(tmp_path.iterdir()) == []


def test_weights_that_are_there_are_not_written_over(tmp_path):
  folder = hf_folders.copy('hf_1_1', tmp_path)
  before = (folder / 'model.safetensors').read_bytes()
  with pytest.raises(UserError, match=r'holds the weights of a model already'):
    huggingface.write(
      hf_folders.params('hf_1_1'),
      hf_folders.network_config('hf_1_1'),
      str(folder),
    )
  assert (folder / 'model.safetensors').read_bytes() == before
