"""Adapters added to kernels, slice by slice."""

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from t5x.checkpoints.formats import low_rank
from t5x.errors import UserError
from t5x.examples.t5.config import T5Config

_RNG = np.random.default_rng(0)
FLAT = {
  'mlp/wo/kernel': _RNG.normal(size=(6, 5)).astype(np.float16),
  'mlp/wo/lora/a': _RNG.normal(size=(6, 2)).astype(np.float32),
  'mlp/wo/lora/b': _RNG.normal(size=(2, 5)).astype(np.float16),
  'norm/scale': np.ones(3, np.float32),
}


def test_a_slice_of_a_kernel_is_that_of_the_sum():
  merged = low_rank.merged(FLAT, 0.5)
  assert merged.keys() == {'mlp/wo/kernel', 'norm/scale'}
  kernel, a, b = (FLAT[name] for name in list(FLAT)[:3])
  expected = kernel.astype(np.float32) + 0.5 * (a @ b)
  found = merged['mlp/wo/kernel']
  assert found.dtype == np.float32
  np.testing.assert_allclose(found.get(), expected, rtol=1e-6)
  part = found.start_read((slice(2, 5), slice(1, 3))).result()
  np.testing.assert_allclose(part, expected[2:5, 1:3], rtol=1e-6)


def test_half_an_adapter_is_refused():
  half = {name: x for name, x in FLAT.items() if not name.endswith('/b')}
  with pytest.raises(UserError, match='lacks mlp/wo/lora/b'):
    low_rank.merged(half, 1.0)


def test_a_folder_for_peft_holds_both_factors_transposed(tmp_path):
  config = T5Config(
    8, lora_rank=2, lora_alpha=3.0, lora_kernels=('wo',), lora_dropout_rate=0.25
  )
  modules = {'mlp/wo/kernel': 'encoder.block.0.layer.1.DenseReluDense.wo'}
  low_rank.write_peft(FLAT, modules, config, str(tmp_path), 'some/base')
  weights = safetensors.numpy.load_file(tmp_path / low_rank.WEIGHTS_FILE)
  place = f'base_model.model.{modules["mlp/wo/kernel"]}'
  assert weights.keys() == {f'{place}.lora_{x}.weight' for x in 'AB'}
  for part in 'AB':
    np.testing.assert_array_equal(
      weights[f'{place}.lora_{part}.weight'],
      FLAT[f'mlp/wo/lora/{part.lower()}'].T,
    )
  file = tmp_path / low_rank.CONFIG_FILE
  described = {
    'base_model_name_or_path': 'some/base',
    'bias': 'none',
    'fan_in_fan_out': False,
    'inference_mode': True,
    'lora_alpha': 3.0,
    'lora_dropout': 0.25,
    'peft_type': 'LORA',
    'r': 2,
    'target_modules': ['wo'],
    'task_type': 'SEQ_2_SEQ_LM',
  }
  assert file.read_text() == json.dumps(described, indent=2) + '\n'
  weights = tmp_path / low_rank.WEIGHTS_FILE
  with safetensors.safe_open(weights, framework='np') as stored:
    assert stored.metadata() == {'format': 'pt'}
    types = {stored.get_slice(name).get_dtype() for name in [*stored.keys()]}
  assert types == {'F32'}
  # Whoever may read one may read the other.
  assert weights.stat().st_mode == file.stat().st_mode


@pytest.mark.parametrize('rank', [0, 2])
def test_adapters_need_a_network_with_some_and_weights(rank, tmp_path):
  config = T5Config(8, lora_rank=rank, lora_alpha=3.0, lora_kernels=('wo',))
  flat = {'norm/scale': FLAT['norm/scale']} if rank else FLAT
  modules = {'mlp/wo/kernel': 'wo'}
  with pytest.raises(UserError, match='Expected a student with adapters'):
    low_rank.write_peft(flat, modules, config, str(tmp_path), 'some/base')
  assert list(tmp_path.iterdir()) == []


def test_a_rank_may_be_more_than_the_features():
  flat = {
    'wo/kernel': np.ones((2, 5), np.float32),
    'wo/lora/a': np.ones((2, 3), np.float32),
    'wo/lora/b': np.ones((3, 5), np.float32),
  }
  found = low_rank.merged(flat, 2.0)['wo/kernel'].get()
  np.testing.assert_array_equal(found, np.full((2, 5), 7.0))
