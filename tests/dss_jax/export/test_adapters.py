"""Adapters for peft, and from it: transformers' T5 has our network's logits.

`PEFT_PYTHON` names interpreters that have torch, transformers and peft, with
`:` between them; it is this one by default.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from dss_jax.errors import DataError
from dss_jax.export import command
from t5x import checkpoints, errors
from t5x.checkpoints.formats import huggingface, peft
from t5x.examples.t5 import network
from tests import golden_data, stacked_trees

_GOLDEN = pathlib.Path(golden_data.__file__).parent / 'golden'
_PYTHONS = os.environ.get('PEFT_PYTHON', sys.executable).split(':')
_KERNELS = {
  'hf_1_1': ('query', 'value', 'out', 'wi_0', 'wo', 'logits_dense'),
  'hf_1_0': ('key', 'wi'),
}
_INPUTS = np.random.default_rng(0).integers(2, 380, (3, 9))
_TARGETS = np.random.default_rng(1).integers(2, 380, (3, 5))


def student(name):
  """Returns a network's configuration, and a model with random adapters."""
  base = str(_GOLDEN / name / 'model')
  config = network.T5Config(
    **{
      **huggingface.network(base),
      'lora_rank': 3,
      'lora_alpha': 5.0,
      'lora_kernels': _KERNELS[name],
    }
  )
  params = traverse_util.flatten_dict(
    checkpoints.open_checkpoint(base)['target'], sep='/'
  )
  params = {name: x.get() for name, x in params.items()}
  rng = np.random.default_rng(2)
  for kernel in [n for n in params if n.endswith('/kernel')]:
    place = kernel.removesuffix('/kernel')
    if place.rpartition('/')[2] in _KERNELS[name]:
      for part, shape in (
        ('a', (params[kernel].shape[0], 3)),
        ('b', (3, params[kernel].shape[1])),
      ):
        drawn = rng.normal(size=shape).astype(np.float32) * 0.1
        params[f'{place}/lora/{part}'] = drawn
  return base, config, traverse_util.unflatten_dict(params, sep='/')


def logits(config, params):
  decoder_inputs = np.pad(_TARGETS, ((0, 0), (1, 0)))[:, :-1]
  return network.Transformer(config).apply(
    {'params': params},
    _INPUTS,
    decoder_inputs,
    _TARGETS,
    enable_dropout=False,
  )


def test_peft_s_layout_has_each_adapter_transposed(tmp_path):
  base, config, params = student('hf_1_1')
  huggingface.write_adapters(
    stacked_trees.stacked(params), config, str(tmp_path), base
  )
  assert {path.name for path in tmp_path.iterdir()} == {
    'adapter_config.json', 'adapter_model.safetensors'
  }  # fmt: skip
  described = json.loads((tmp_path / 'adapter_config.json').read_text())
  assert described['target_modules'] == ['lm_head', 'o', 'q', 'v', 'wi_0', 'wo']
  assert (described['r'], described['lora_alpha']) == (3, 5.0)
  assert described['base_model_name_or_path'] == base
  found = safetensors.numpy.load_file(tmp_path / 'adapter_model.safetensors')
  flat = traverse_util.flatten_dict(params, sep='/')
  assert len(found) == sum('/lora/' in name for name in flat)
  module = 'base_model.model.decoder.block.1.layer.1.EncDecAttention.q'
  place = 'decoder/layers_1/encoder_decoder_attention/query/lora'
  for part in 'ab':
    np.testing.assert_array_equal(
      found[f'{module}.lora_{part.upper()}.weight'], flat[f'{place}/{part}'].T
    )


def test_merged_adapters_are_sums_with_their_kernels(tmp_path):
  _, config, params = student('hf_1_0')
  huggingface.write(
    stacked_trees.stacked(params), config, str(tmp_path / 'merged')
  )
  found = checkpoints.open_checkpoint(tmp_path / 'merged')['target']
  flat = traverse_util.flatten_dict(params, sep='/')
  changed = 0
  for name, leaf in traverse_util.flatten_dict(found, sep='/').items():
    expected = flat[name]
    place = name.removesuffix('/kernel')
    if f'{place}/lora/a' in flat:
      a, b = flat[f'{place}/lora/a'], flat[f'{place}/lora/b']
      expected = expected + np.float32(5 / 3) * (a @ b)
      changed += 1
    np.testing.assert_allclose(leaf.get(), expected, rtol=1e-6, atol=1e-6)
  assert changed == sum(n.endswith('/lora/a') for n in flat)


def test_a_student_without_adapters_has_none_to_write(tmp_path):
  base = str(_GOLDEN / 'hf_1_1' / 'model')
  config = network.T5Config(**huggingface.network(base))
  params = checkpoints.open_checkpoint(base)['target']
  with pytest.raises(errors.UserError, match='found one without any'):
    huggingface.write_adapters(params, config, str(tmp_path), base)


def test_the_model_of_adapters_is_the_one_that_peft_or_a_folder_names(tmp_path):
  folder = tmp_path / 'adapters'
  folder.mkdir()
  safetensors.numpy.save_file({}, folder / peft.WEIGHTS_FILE)
  described = {
    'peft_type': 'LORA',
    'r': 2,
    'lora_alpha': 4,
    'base_model_name_or_path': 'google/t5-v1_1-base',
  }
  (folder / peft.CONFIG_FILE).write_text(json.dumps(described))
  assert command._base_model(str(folder)) == 'google/t5-v1_1-base'
  base = str(_GOLDEN / 'hf_1_1' / 'model')
  assert command._base_model(base) == base
  with pytest.raises(DataError, match='--base-model'):
    command._base_model(str(tmp_path))


_PROGRAM = """
import json, sys
import numpy as np, safetensors.torch, torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSeq2SeqLM, logging

logging.set_verbosity_error()
base, adapters, merged, given, out = sys.argv[1:]
given = np.load(given)
inputs = {
  'input_ids': torch.tensor(given['inputs']),
  'labels': torch.tensor(given['targets']),
}

def logits(model):
  with torch.no_grad():
    return model.eval()(**inputs).logits.numpy()

load = AutoModelForSeq2SeqLM.from_pretrained
model = PeftModel.from_pretrained(load(base), adapters)
found = {'adapted': logits(model), 'merged': logits(load(merged))}
found['merged by peft'] = logits(model.merge_and_unload())
found['base'] = logits(load(base))
# What peft itself writes for such adapters has the same names and shapes.
described = json.load(open(f'{adapters}/adapter_config.json'))
config = LoraConfig(
  r=described['r'],
  lora_alpha=described['lora_alpha'],
  target_modules=described['target_modules'],
  task_type=described['task_type'],
)
get_peft_model(load(base), config).save_pretrained(f'{out}.peft')
# (With adapters of the head, it saves the head as well.)
read = lambda folder: {
  name: tuple(x.shape) for name, x in safetensors.torch.load_file(
    f'{folder}/adapter_model.safetensors').items() if '.lora_' in name
}
assert read(adapters) == read(f'{out}.peft')
theirs = json.load(open(f'{out}.peft/adapter_config.json'))
unknown = set(described) - set(theirs)
assert not unknown, unknown
np.savez(out, **found)
"""


@pytest.mark.slow
@pytest.mark.parametrize('python', _PYTHONS)
@pytest.mark.parametrize('name', list(_KERNELS))
def test_peft_gives_the_same_logits(name, python, tmp_path):
  code = 'import peft, torch, transformers'
  if subprocess.run([python, '-c', code], capture_output=True).returncode:
    pytest.skip(f'{python} has no peft')
  base, config, params = student(name)
  (tmp_path / 'adapters').mkdir()
  huggingface.write_adapters(params, config, str(tmp_path / 'adapters'), base)
  huggingface.write(params, config, str(tmp_path / 'merged'))
  np.savez(tmp_path / 'given.npz', inputs=_INPUTS, targets=_TARGETS)
  names = ('adapters', 'merged', 'given.npz', 'found.npz')
  done = subprocess.run(
    [python, '-c', _PROGRAM, base, *(str(tmp_path / n) for n in names)],
    env={**os.environ, 'HF_HUB_OFFLINE': '1', 'PYTHONPATH': ''},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  found = np.load(tmp_path / 'found.npz')
  expected = np.asarray(logits(config, params))
  size = np.abs(expected).max()
  for way in ('adapted', 'merged', 'merged by peft'):
    np.testing.assert_allclose(
      found[way], expected, atol=5e-5 * size, err_msg=way
    )
  assert np.abs(found['base'] - expected).max() > 0.01 * size


_SAVING = """
import sys
import numpy as np, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, logging

logging.set_verbosity_error()
base, given, out, *modules = sys.argv[1:]
given = np.load(given)
torch.manual_seed(0)
model = get_peft_model(
  AutoModelForSeq2SeqLM.from_pretrained(base),
  LoraConfig(
    r=3,
    lora_alpha=5,
    lora_dropout=0.1,
    target_modules=modules,
    init_lora_weights=False,  # Both factors are drawn.
    task_type='SEQ_2_SEQ_LM',
  ),
)
model.save_pretrained(out)
inputs = {
  'input_ids': torch.tensor(given['inputs']),
  'labels': torch.tensor(given['targets']),
}
with torch.no_grad():
  np.save(f'{out}/logits.npy', model.eval()(**inputs).logits.numpy())
"""
_MODULES = {
  'hf_1_1': ('q', 'v', 'o', 'wi_0', 'wo', 'lm_head'), 'hf_1_0': ('k', 'wi')
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('python', _PYTHONS)
@pytest.mark.parametrize('name', list(_KERNELS))
def test_what_peft_saved_gives_our_network_its_logits(name, python, tmp_path):
  code = 'import peft, torch, transformers'
  if subprocess.run([python, '-c', code], capture_output=True).returncode:
    pytest.skip(f'{python} has no peft')
  base, config, _ = student(name)
  folder, given = str(tmp_path / 'adapters'), str(tmp_path / 'given.npz')
  np.savez(given, inputs=_INPUTS, targets=_TARGETS)
  done = subprocess.run(
    [python, '-c', _SAVING, base, given, folder, *_MODULES[name]],
    env={**os.environ, 'HF_HUB_OFFLINE': '1', 'PYTHONPATH': ''},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  checkpoints.check_network(folder, config)
  params = checkpoints.load_t5x_checkpoint(folder)['target']
  expected = np.load(f'{folder}/logits.npy')
  size = np.abs(expected).max()
  found = np.asarray(logits(config, params))
  np.testing.assert_allclose(found, expected, atol=5e-5 * size)
  base_params = checkpoints.load_t5x_checkpoint(base)['target']
  plain = network.T5Config(**huggingface.network(base))
  assert np.abs(logits(plain, base_params) - expected).max() > 0.01 * size


def _ran(*command, cwd=None):
  root = pathlib.Path(golden_data.__file__).parents[1]
  done = subprocess.run(
    [sys.executable, '-m', *command],
    cwd=cwd or root,
    env={**os.environ, 'XLA_FLAGS': '', 'PYTHONPATH': str(root)},
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
  return done.stdout


@pytest.mark.slow
def test_the_adapters_of_a_run_are_exported_both_ways(tmp_path):
  """Weights, then adapters of them, then both kinds of folders."""
  macros = {
    'WARMUP_STEPS': 1, 'EVAL_PERIOD': 100, 'SAVE_PERIOD': 100,
    'EVAL_STEPS': 1, 'EVAL_NUM_EXAMPLES': 4, 'TRAIN_STEPS': 2,
  }  # fmt: skip
  shared = [f'--gin.{name}={value}' for name, value in macros.items()]
  train = ('t5x.train', '--gin_file=gin/dss_cqa.gin')
  base, run = str(tmp_path / 'base'), str(tmp_path / 'run')
  _ran(*train, *shared, f'--gin.MODEL_DIR="{base}"')
  _ran(
    *train,
    *('--gin_file=gin/engine/lora.gin', '--gin_file=gin/engine/scan.gin'),
    *shared,
    f'--gin.MODEL_DIR="{run}"',
    f'--gin.INITIAL_CHECKPOINT_PATH="{base}/checkpoint_2"',
    "--gin.LORA_KERNELS=('query', 'wo')",
  )
  export = ('dss_jax.cli', 'export', run)
  _ran('dss_jax.cli', 'export', base, 'base_folder', cwd=tmp_path)
  _ran(*export, 'merged', cwd=tmp_path)
  said = _ran(
    *(*export, 'adapters', '--adapters-only', '--base-model', 'base_folder'),
    cwd=tmp_path,
  )
  assert 'for peft to load' in said
  read = safetensors.numpy.load_file
  before, merged = (
    read(tmp_path / name / 'model.safetensors')
    for name in ('base_folder', 'merged')
  )
  adapters = read(tmp_path / 'adapters' / 'adapter_model.safetensors')
  card = (tmp_path / 'adapters' / 'README.md').read_text()
  assert 'library_name: peft' in card and 'PeftModel.from_pretrained' in card
  assert not (tmp_path / 'adapters' / 'dss_jax.json').exists()
  modules = {name.rpartition('.lora_')[0] for name in adapters}
  changed = 0
  for name, weight in merged.items():
    # Matrices were rounded; scales were not.
    kind = before[name].dtype if weight.ndim == 1 else 'bfloat16'
    expected = before[name].astype(kind).astype(np.float32)
    module = f'base_model.model.{name.removesuffix(".weight")}'
    if module in modules:
      a, b = (adapters[f'{module}.lora_{part}.weight'] for part in 'AB')
      assert np.abs(b).max() > 0
      expected = expected + 2 * (b @ a)
      changed += 1
    np.testing.assert_allclose(weight, expected, rtol=1e-6, atol=1e-7)
  assert changed == len(modules) > 0
