"""Adapters as peft saves them, in folders that are written here by hand.

`tests/dss_jax/export/test_adapters.py` has peft itself save some.
"""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import seqio
from flax import traverse_util

from t5x import (
  checkpoints,
  initialization,
  models,
  optimizers,
  partitioning,
)
from t5x.checkpoints.formats import huggingface, orbax, peft
from t5x.errors import UserError
from t5x.examples.t5 import network
from tests import golden_data, stacked_trees

_BASE = str(pathlib.Path(golden_data.__file__).parent / 'golden/hf_1_1/model')
_RANK, _ALPHA = 3, 5.0
# Of T5 1.1: transformers' names of the modules by ours, in each stack.
_STACKS = {
  'encoder': {'attention': '0.SelfAttention', 'mlp': '1.DenseReluDense'},
  'decoder': {
    'self_attention': '0.SelfAttention',
    'encoder_decoder_attention': '1.EncDecAttention',
    'mlp': '2.DenseReluDense',
  },
}
# As peft 0.21 writes them, besides what says what the adapters are.
_DEFAULTS = {
  'alpha_pattern': {}, 'auto_mapping': None, 'bias': 'none',
  'fan_in_fan_out': False, 'inference_mode': True, 'init_lora_weights': True,
  'layers_to_transform': None, 'lora_bias': False, 'lora_dropout': 0.1,
  'megatron_core': 'megatron.core', 'modules_to_save': None,
  'peft_version': '0.21.2', 'qalora_group_size': 16, 'rank_pattern': {},
  'task_type': 'SEQ_2_SEQ_LM', 'use_dora': False, 'use_rslora': False,
}  # fmt: skip


def modules():
  """transformers' names of the adapted modules, by our names of the maps."""
  with open(f'{_BASE}/config.json', encoding='utf-8') as file:
    config = json.load(file)
  counts = {
    'encoder': config['num_layers'], 'decoder': config['num_decoder_layers']
  }  # fmt: skip
  found = {}
  for stack, parts in _STACKS.items():
    for i in range(counts[stack]):
      for ours, theirs in parts.items():
        for map_, module in (('query', 'q'), ('wo', 'wo')):
          if (map_ == 'wo') == (ours == 'mlp'):
            found[f'{stack}/layers_{i}/{ours}/{map_}'] = (
              f'{stack}.block.{i}.layer.{theirs}.{module}'
            )
  return found


def write(folder, base=_BASE, change=lambda weights: None, **changes):
  """Writes adapters of all queries and `wo`; returns them by our names."""
  kernels = flat(checkpoints.open_checkpoint(_BASE)['target'])
  rng = np.random.default_rng(0)
  ours, theirs = {}, {}
  for place, module in modules().items():
    features, outputs = kernels[f'{place}/kernel'].shape
    a, b = (
      rng.normal(size=s).astype(np.float32) * 0.1
      for s in ((features, _RANK), (_RANK, outputs))
    )
    ours |= {f'{place}/lora/a': a, f'{place}/lora/b': b}
    for part, factor in (('A', a), ('B', b)):
      name = f'base_model.model.{module}.lora_{part}.weight'
      theirs[name] = np.ascontiguousarray(factor.T)
  change(theirs)
  folder.mkdir(exist_ok=True)
  safetensors.numpy.save_file(theirs, folder / peft.WEIGHTS_FILE)
  described = {
    **_DEFAULTS, 'base_model_name_or_path': base, 'peft_type': 'LORA',
    'r': _RANK, 'lora_alpha': 5, 'target_modules': ['wo', 'q'], **changes,
  }  # fmt: skip
  (folder / peft.CONFIG_FILE).write_text(json.dumps(described))
  return ours


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


def config(**changes):
  return network.T5Config(
    **{
      **huggingface.network(_BASE),
      'lora_rank': _RANK,
      'lora_alpha': _ALPHA,
      'lora_kernels': ('query', 'wo'),
      **changes,
    }
  )


@pytest.fixture(name='saved', scope='module')
def saved_fixture(tmp_path_factory):
  folder = tmp_path_factory.mktemp('peft') / 'adapters'
  return str(folder), write(folder)


def test_a_folder_of_peft_is_a_checkpoint_with_its_base(saved):
  path, adapters = saved
  assert checkpoints.base_of(path) == _BASE
  found = flat(checkpoints.open_checkpoint(path)['target'])
  weights = flat(checkpoints.open_checkpoint(_BASE)['target'])
  assert found.keys() == weights.keys() | adapters.keys()
  for name, leaf in found.items():
    expected = adapters[name] if name in adapters else weights[name].get()
    np.testing.assert_array_equal(leaf.get(), expected, err_msg=name)
  checkpoints.check_network(path, config())
  checkpoints.check_network(path, object())


def test_what_we_write_for_peft_is_read_again(saved, tmp_path):
  path, adapters = saved
  params = checkpoints.open_checkpoint(path)['target']
  huggingface.write_adapters(params, config(), str(tmp_path), _BASE)
  checkpoints.check_network(tmp_path, config())
  found = flat(checkpoints.open_checkpoint(tmp_path)['target'])
  for name, expected in adapters.items():
    np.testing.assert_array_equal(found[name].get(), expected, err_msg=name)


def test_a_run_starts_from_both_and_names_the_folder(saved, tmp_path):
  """With its layers stacked, and the model's weights rounded."""
  path, adapters = saved
  vocabulary = seqio.PassThroughVocabulary(384, eos_id=1)
  options = {'scan_layers': True, 'param_dtype': 'bfloat16'}
  model = models.EncoderDecoderModel(
    network.Transformer(config(**options)),
    vocabulary,
    vocabulary,
    optimizers.PartialOptimizer(optimizers.adamw(1e-2), trained=('lora',)),
  )
  where = partitioning.PjitPartitioner(num_partitions=1)
  initializer = initialization.initializer_of(
    model,
    where,
    {'encoder_input_tokens': (2, 4), 'decoder_input_tokens': (2, 4)},
  )
  restore = checkpoints.RestoreCheckpointConfig(path=path, mode='specific')
  state = initializer.from_checkpoint([restore])
  found = flat(stacked_trees.unstacked(dict(state.params)))
  weights = flat(checkpoints.open_checkpoint(_BASE)['target'])
  assert found.keys() == weights.keys() | adapters.keys()
  for name, leaf in found.items():
    if name in adapters:
      assert leaf.dtype == np.float32
      expected = adapters[name]
    else:
      expected = weights[name].get().astype(leaf.dtype)
      assert (leaf.dtype == jnp.bfloat16) == (not name.endswith('/scale'))
    np.testing.assert_array_equal(leaf, expected, err_msg=name)

  manager = checkpoints.SaveCheckpointConfig(base=path).make_manager(
    str(tmp_path), state, where
  )
  manager.save(state)
  manager.close()
  own = str(tmp_path / 'checkpoint_0')
  stored = flat(orbax.read(own)['target'])
  assert stored and all('/lora/' in name for name in stored)
  assert checkpoints.base_of(own) == path
  read = flat(checkpoints.load_t5x_checkpoint(own)['target'])
  for name, leaf in flat(dict(state.params)).items():
    np.testing.assert_array_equal(read[name], leaf, err_msg=name)


def test_a_base_that_is_elsewhere_is_given(saved, tmp_path):
  """transformers knows names of the hub; here is only what is on disk."""
  path, adapters = saved
  write(tmp_path, base='google/t5-v1_1-small')
  with pytest.raises(
    UserError,
    match=r'google/t5-v1_1-small: expected the weights there, found no'
    r' checkpoint on this machine. Put the .*base_model_name_or_path of',
  ):
    checkpoints.open_checkpoint(tmp_path)
  found = flat(checkpoints.open_checkpoint(tmp_path, _BASE)['target'])
  assert adapters.keys() <= found.keys()
  assert checkpoints.base_of(tmp_path, _BASE) == _BASE
  with pytest.raises(UserError, match='found adapters, too'):
    checkpoints.open_checkpoint(tmp_path, path)
  write(tmp_path, base=str(tmp_path))
  with pytest.raises(UserError, match='is its own base'):
    checkpoints.check_network(tmp_path, config())


def test_adapters_beside_adapters_are_refused(saved):
  path, _ = saved
  both = checkpoints.open_checkpoint(path)
  with pytest.raises(UserError, match=r'its base has .*/lora/a. Merge those'):
    peft.joined(path, both)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'lora_rank': 8}, r'r is 3, .* lora_rank = 8. Set LORA_RANK = 3'),
    ({'lora_alpha': 16.0}, r'lora_alpha is 5, .* = 16.0. Set LORA_ALPHA = 5'),
    (
      {'lora_kernels': ('query', 'value')},
      r"lora_kernels = \('query', 'value'\) in all layers: missing"
      r" \['decoder.block.0.layer.0.SelfAttention.v', .*, not expected"
      r" \['decoder.block.0.layer.2.DenseReluDense.wo', .*"
      r" Set LORA_KERNELS = \('query', 'wo'\)",
    ),
    (
      {'lora_rank': 0},
      r'but the network has none. Add --gin_file=gin/engine/lora.gin with'
      r" LORA_RANK = 3, LORA_ALPHA = 5 and LORA_KERNELS = \('query', 'wo'\)",
    ),
    ({'num_decoder_layers': 3}, r"missing \['decoder.block.2.*all layers of"),
    ({'num_decoder_layers': 1}, r"expected \['decoder.block.1.*all layers of"),
    ({'lora_rank': 2}, r'r is 3, .* lora_rank = 2. Set LORA_RANK = 3'),
    ({'lora_alpha': 2.0}, r'lora_alpha is 5, .* = 2.0. Set LORA_ALPHA = 5'),
  ],
)
def test_a_network_with_other_adapters_is_refused(saved, changes, said):
  path, _ = saved
  with pytest.raises(UserError, match=said):
    checkpoints.check_network(path, config(**changes))


def test_adapters_of_some_layers_alone_are_refused(tmp_path):
  """The network's others would not be what peft has there: none."""

  def without_the_first(weights):
    for name in [n for n in weights if '.encoder.block.0.' in n]:
      del weights[name]

  write(tmp_path, change=without_the_first, layers_to_transform=[1])
  with pytest.raises(UserError, match=r'encoder.block.0.*in all layers of'):
    checkpoints.check_network(tmp_path, config())


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'peft_type': 'IA3'}, "expected peft_type 'LORA', found 'IA3'"),
    ({'use_dora': True}, 'found use_dora = True'),
    ({'use_rslora': True}, 'found use_rslora = True'),
    ({'bias': 'all'}, "found bias = 'all'"),
    ({'modules_to_save': ['lm_head']}, 'found modules_to_save ='),
    ({'rank_pattern': {'q': 2}}, "found rank_pattern = {'q': 2}"),
    ({'init_lora_weights': 'pissa'}, "found init_lora_weights = 'pissa'"),
    ({'what_comes_next': 1}, 'found what_comes_next = 1'),
    ({'r': 0}, 'r: expected a positive integer, found 0'),
    ({'r': True}, 'r: expected a positive integer, found True'),
    ({'lora_alpha': '5'}, "lora_alpha: expected a positive number, found '5'"),
    ({'r': 4}, r'says r = 4, found the rank 3'),
    ({'r': 1}, r'says r = 1, found the rank 3'),
    ({'lora_alpha': 0}, 'lora_alpha: expected a positive number, found 0'),
    ({'lora_alpha': -1}, 'lora_alpha: expected a positive number, found -1'),
    ({'base_model_name_or_path': None}, 'expected the checkpoint .*found None'),
    ({'base_model_name_or_path': ''}, "expected the checkpoint .*found ''"),
    ({'base_model_name_or_path': 3}, 'expected the checkpoint .*found 3'),
  ],
)
def test_what_is_not_low_rank_alone_is_refused_by_name(tmp_path, changes, said):
  write(tmp_path, **changes)
  with pytest.raises(UserError, match=said):
    checkpoints.open_checkpoint(tmp_path)


def _half(weights):
  del weights[next(n for n in weights if n.endswith('lora_B.weight'))]


def _magnitude(weights):
  name = next(n for n in weights if n.endswith('lora_B.weight'))
  weights[name.replace('lora_B', 'lora_magnitude_vector')] = weights[name]


def _another_module(weights):
  name = next(n for n in weights if n.endswith('lora_B.weight'))
  weights[name.replace('block.0', 'block.9')] = weights[name]


def _next_layer(weights):
  count = sum('encoder.block' in n and 'lora_A' in n for n in weights) // 2
  name = next(n for n in weights if 'encoder.block.0' in n)
  weights[name.replace('block.0', f'block.{count}')] = weights[name]


def _more_axes(weights):
  name = next(n for n in weights if n.endswith('lora_B.weight'))
  weights[name] = weights[name][..., np.newaxis]


def _without_a(weights):
  del weights[next(n for n in weights if n.endswith('lora_A.weight'))]


def test_harmless_options_are_taken(saved, tmp_path):
  _, adapters = saved
  for beginning in (None, True, False, 'gaussian'):
    write(tmp_path, init_lora_weights=beginning, lora_alpha=0.5)
    found = flat(checkpoints.open_checkpoint(tmp_path)['target'])
    assert adapters.keys() <= found.keys()
  file = tmp_path / peft.CONFIG_FILE
  described = json.loads(file.read_text())
  del described['lora_alpha'], described['init_lora_weights']
  file.write_text(json.dumps(described))
  with pytest.raises(UserError, match=r'lora_alpha: expected .*, found 0'):
    checkpoints.open_checkpoint(tmp_path)
  file.write_text(json.dumps({**described, 'lora_alpha': 1}))
  checkpoints.open_checkpoint(tmp_path)


def test_an_adapter_of_the_head_has_the_head_beside_it(tmp_path):
  rng = np.random.default_rng(1)
  head = {
    part: rng.normal(size=shape).astype(np.float32)
    for part, shape in (
      ('lora_A', (_RANK, 48)), ('lora_B', (384, _RANK)),
      ('base_layer', (384, 48)),
    )
  }  # fmt: skip
  write(
    tmp_path,
    change=lambda weights: weights.update(
      {f'base_model.model.lm_head.{n}.weight': x for n, x in head.items()}
    ),
  )
  found = flat(checkpoints.open_checkpoint(tmp_path)['target'])
  place = 'decoder/logits_dense'
  for name, part in (
    ('kernel', 'base_layer'), ('lora/a', 'lora_A'), ('lora/b', 'lora_B')
  ):  # fmt: skip
    np.testing.assert_array_equal(found[f'{place}/{name}'].get(), head[part].T)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (_next_layer, 'lora_A and lora_B of modules of the base'),
    (_more_axes, r'expected a matrix, found the shape \(1, 3, \d+\)'),
    (_without_a, 'two factors, found .*lora_B.weight without the other'),
    (_half, 'two factors, found .* without the other'),
    (
      _magnitude,
      'lora_A and lora_B of modules .*found .*lora_magnitude_vector',
    ),
    (_another_module, 'found .*block.9'),
  ],
)
def test_weights_that_are_no_adapters_of_the_base_are_refused(
  tmp_path, change, said
):
  write(tmp_path, change=change)
  with pytest.raises(UserError, match=said):
    checkpoints.open_checkpoint(tmp_path)


def test_a_folder_without_weights_is_named(tmp_path):
  (tmp_path / peft.CONFIG_FILE).write_text('{}')
  with pytest.raises(UserError, match=r'but no adapter_model\.safetensors'):
    checkpoints.open_checkpoint(tmp_path)
