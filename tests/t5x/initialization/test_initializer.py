"""Tests of t5x.initialization and of the configuration of checkpoints."""

import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec

from t5x import (
  adafactor,
  checkpoints,
  initialization,
  models,
  optimizers,
  partitioning,
  train_state,
)
from t5x.errors import DamagedError, UserError
from t5x.examples.t5 import network
from tests import golden_data, toy_model
from tests.t5x import toy_model as small_model

GOLDEN = pathlib.Path(golden_data.__file__).parent / 'golden'


def _restore(path, mode='specific', **kwargs):
  return checkpoints.RestoreCheckpointConfig(
    path=path if isinstance(path, list) else str(path), mode=mode, **kwargs
  )


def _legacy(name):
  return GOLDEN / name / 'legacy/checkpoint_0'


def _flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


@functools.cache
def _t5(name='t5x_1_1', optimizer=True, num_partitions=4, **overrides):
  """An initializer of the golden T5."""
  config = {**golden_data.load(name).config_kwargs, **overrides}
  module = network.Transformer(network.T5Config(**config))

  def init_fn(rng, input_shapes, input_types=None):
    tokens = [
      jnp.ones(input_shapes[f], (input_types or {}).get(f, jnp.int32))
      for f in ('encoder', 'decoder_input', 'decoder_target')
    ]
    return module.init({'params': rng}, *tokens, enable_dropout=False)

  return initialization.TrainStateInitializer(
    optimizer_def=adafactor.Adafactor(
      1e-3, logical_factor_rules=adafactor.standard_logical_factor_rules()
    )
    if optimizer
    else None,
    init_fn=init_fn,
    input_shapes={
      f: (8, 4) for f in ('encoder', 'decoder_input', 'decoder_target')
    },
    partitioner=partitioning.PjitPartitioner(num_partitions=num_partitions),
  )


@pytest.fixture(scope='module')
def toy():
  return toy_model.initializer(optimizers.adamw(1e-2), num_partitions=2)[0]


@pytest.fixture(scope='module')
def toy_run(toy, tmp_path_factory):
  """A run's folder with steps 1, 2 and 3."""
  folder = tmp_path_factory.mktemp('run')
  partitioner = toy_model.initializer(optimizers.adamw(1e-2))[1]
  state = toy.from_scratch(jax.random.key(0))
  saver = checkpoints.SaveCheckpointConfig().make_manager(
    str(folder), state, partitioner, toy_model.Position(30)
  )
  for step in (1, 2, 3):
    saver.save(state.replace_step(jnp.int32(step)))
  saver.close()
  return folder, state


def test_a_state_from_scratch_is_sharded_and_the_same_on_every_mesh(toy):
  state = toy.from_scratch(jax.random.key(0))
  kernel = state.params['mlp']['wi']['kernel']
  assert kernel.sharding.spec == PartitionSpec(None, 'model')
  assert {s.data.shape for s in kernel.addressable_shards} == {(8, 16)}
  axes = toy.train_state_axes
  assert isinstance(axes, train_state.FlaxOptimTrainState)
  assert axes.params['mlp']['wi']['kernel'] == PartitionSpec(None, 'model')
  shape = toy.global_train_state_shape
  assert shape.params['mlp']['wi']['kernel'].shape == (8, 32)
  other = toy_model.initializer(optimizers.adamw(1e-2))[0]
  jax.tree.map(
    np.testing.assert_array_equal,
    state.params,
    other.from_scratch(jax.random.key(0)).params,
  )


def test_a_model_s_initializer_gets_all_that_it_needs():
  model = small_model.ToyModel()
  given = {'partitioner': object(), 'input_shapes': {'x': (8, 3)}}
  made = initialization.initializer_of(
    model, **given, input_types={'x': 'int32'}, initializer_cls=dict
  )
  assert made == {
    **given,
    'optimizer_def': model.optimizer_def,
    'init_fn': model.get_initial_variables,
    'input_types': {'x': 'int32'},
    'use_orbax': True,
  }
  other = initialization.initializer_of(
    model, **given, for_training=False, use_orbax=False, initializer_cls=dict
  )
  assert other == {
    **made, 'optimizer_def': None, 'input_types': None, 'use_orbax': False
  }  # fmt: skip


def test_a_model_is_asked_for_variables_of_shapes_and_types():
  asked = []

  def init_fn(rng, **inputs):
    asked.append(inputs)
    return toy_model.variables(rng)

  inputs = {'input_shapes': {'x': (8, 3)}, 'input_types': {'x': 'int32'}}
  initialization.TrainStateInitializer(
    None,
    init_fn,
    partitioner=partitioning.PjitPartitioner(num_partitions=1),
    **inputs,
  )
  assert asked == [inputs]


class _Noted(checkpoints.RestoreCheckpointConfig):
  """Keeps what its restorers are made of."""

  def make_restorer(self, *args):
    vars(self).setdefault('noted', []).append(args)
    return super().make_restorer(*args)


def test_a_checkpoint_is_read_from_its_run_s_folder(toy, toy_run, monkeypatch):
  folder, _ = toy_run
  position = toy_model.Position()
  monkeypatch.chdir(folder)
  for path, run in ((f'{folder}/checkpoint_2/', str(folder)),
                    ('checkpoint_2', '.')):  # fmt: skip
    cfg = _Noted(path=path, mode='specific')
    state = toy.from_checkpoint(ckpt_cfgs=[cfg], ds_iter=position)
    assert int(state.step) == 2
    ((found, _, _, iterator, use_orbax),) = cfg.noted
    assert (found, iterator, use_orbax) == (run, None, True)


@pytest.mark.parametrize('layout', ['legacy', 'orbax'])
@pytest.mark.parametrize('name', ['t5x_1_1', 't5x_1_0'])
def test_checkpoints_from_upstream_are_restored_with_their_optimizer(
  name, layout
):
  path = GOLDEN / name / layout / 'checkpoint_0'
  state = _t5(name).from_checkpoint([_restore(path)])
  golden = _flat(golden_data.load(name).params)
  params = _flat(state.params)
  assert params.keys() == golden.keys()
  for key, leaf in golden.items():
    assert np.asarray(params[key]).tobytes() == leaf.tobytes(), key
  stored = _flat(checkpoints.load_t5x_checkpoint(str(path)))
  for key, leaf in _flat(state.state_dict()).items():
    np.testing.assert_array_equal(leaf, stored[key], err_msg=key)
  kernel = state.params['encoder']['layers_0']['mlp']['wo']['kernel']
  assert kernel.sharding.spec == PartitionSpec('model', None)


def test_inference_states_take_the_parameters_alone():
  state = _t5(optimizer=False).from_checkpoint([_restore(_legacy('t5x_1_1'))])
  assert isinstance(state, train_state.InferenceState)
  golden = _flat(golden_data.load('t5x_1_1').params)
  for key, leaf in _flat(state.params).items():
    np.testing.assert_array_equal(leaf, golden[key])


def test_a_huggingface_folder_starts_a_run_at_step_0():
  there = json.loads((GOLDEN / 'hf_1_1/model/config.json').read_text())
  initializer = _t5(
    num_encoder_layers=there['num_layers'],
    num_decoder_layers=there['num_decoder_layers'],
  )
  # A type for T5X's checkpoints rounds no weight of such a folder.
  state = initializer.from_checkpoint(
    [_restore(GOLDEN / 'hf_1_1/model', dtype='bfloat16')]
  )
  assert int(state.step) == 0
  read = checkpoints.load_t5x_checkpoint(str(GOLDEN / 'hf_1_1/model'))
  for key, leaf in _flat(state.params).items():
    np.testing.assert_array_equal(leaf, _flat(read['target'])[key])


def test_a_folder_of_another_network_is_refused_before_it_is_read():
  there = json.loads((GOLDEN / 'hf_1_1/model/config.json').read_text())
  config = network.T5Config(
    **{
      **golden_data.load('t5x_1_1').config_kwargs,
      'num_encoder_layers': there['num_layers'],
      'num_decoder_layers': there['num_decoder_layers'],
      'mlp_activations': ('silu', 'linear'),
    }
  )
  model = models.EncoderDecoderModel(
    network.Transformer(config), None, None, adafactor.Adafactor()
  )
  initializer = initialization.initializer_of(
    model,
    partitioning.PjitPartitioner(num_partitions=1),
    {'encoder_input_tokens': (8, 4), 'decoder_input_tokens': (8, 4)},
    for_training=False,
  )
  with pytest.raises(UserError, match=r"feed_forward_proj is 'gated-gelu'.*"):
    initializer.from_checkpoint([_restore(GOLDEN / 'hf_1_1/model')])


@pytest.mark.parametrize(
  'checkpoint, overrides, message',
  [
    (
      't5x_1_0',
      {},
      r'wi_0/kernel.*\(48, 96\).*checkpoint is T5 1\.0 .* the model T5 1\.1',
    ),
    (
      't5x_1_1',
      {'vocab_size': 512},
      r'token_embedder/embedding has shape \(384, 48\) in the checkpoint and'
      r' \(512, 48\) in the model.*another vocabulary size, 384 against 512',
    ),
    (
      't5x_1_1',
      {'emb_dim': 64},
      r'\(384, 48\) in the checkpoint and \(384, 64\).*another size of the mo',
    ),
    (
      't5x_1_1',
      {'num_encoder_layers': 3},
      r'lacks the leaf target/encoder/layers_2/.*more layers than the check',
    ),
    (
      't5x_1_1',
      {'num_decoder_layers': 1},
      r'leaf target/decoder/layers_1/.*model lacks.*fewer layers than the',
    ),
    (
      't5x_1_1',
      {'logits_via_embedding': True},
      r'leaf target/decoder/logits_dense/kernel.*logits_via_embedding = False',
    ),
    (
      't5x_1_1',
      {'mlp_activations': ('relu',), 'logits_via_embedding': True},
      r'checkpoint is T5 1\.1 .* and the model T5 1\.0',
    ),
  ],
)
def test_a_checkpoint_of_another_model_says_what_is_likely_wrong(
  checkpoint, overrides, message
):
  initializer = _t5(optimizer=False, num_partitions=1, **overrides)
  path = _legacy(checkpoint)
  with pytest.raises(UserError, match=rf'{path}: .*{message}'):
    initializer.from_checkpoint([_restore(path)])


def test_modes_choose_specific_latest_and_all(toy, toy_run):
  folder, _ = toy_run
  find = checkpoints.get_first_valid_restore_config_and_paths
  place = [f'{folder}/checkpoint_{step}' for step in (1, 2, 3)]
  assert find([_restore(place[0])])[1] == place[:1]
  assert find([_restore(place[:2])])[1] == place[:2]
  assert find([_restore(folder, 'latest')])[1] == place[2:]
  assert find([_restore(folder, 'all')])[1] == place
  restored = list(toy.from_checkpoints([_restore(folder, 'all')]))
  assert [int(state.step) for state, _ in restored] == [1, 2, 3]
  assert [path for _, path in restored] == place


def test_the_first_configuration_with_a_checkpoint_counts(toy_run, tmp_path):
  folder, _ = toy_run
  empty, full = _restore(tmp_path, 'latest'), _restore(folder, 'latest')
  find = checkpoints.get_first_valid_restore_config_and_paths
  assert find([empty, full])[0] is full
  assert find([empty]) == (None, [])
  nothing = checkpoints.RestoreCheckpointConfig(path=None)
  assert find([nothing]) == (None, [])


def test_a_resumed_run_gets_its_state_and_position_to_the_bit(toy, toy_run):
  folder, state = toy_run
  position = toy_model.Position()
  resumed = toy.from_checkpoint_or_scratch(
    ckpt_cfgs=[_restore(folder, 'latest', restore_dataset=True)],
    init_rng=jax.random.key(9),
    ds_iter=position,
  )
  assert position.batches == 30
  expected = state.replace_step(jnp.int32(3))
  jax.tree.map(np.testing.assert_array_equal, resumed, expected)


def test_a_run_that_only_starts_from_a_checkpoint_starts_its_data_anew(
  toy, toy_run
):
  position = toy_model.Position(7)
  toy.from_checkpoint([_restore(toy_run[0], 'latest')], ds_iter=position)
  assert position.batches == 7


def test_without_a_checkpoint_the_state_is_from_scratch(toy, tmp_path):
  state = toy.from_checkpoint_or_scratch(
    [_restore(tmp_path, 'latest')], init_rng=jax.random.key(0)
  )
  expected = toy.from_scratch(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, state, expected)
  assert toy.from_checkpoint([_restore(tmp_path, 'latest')]) is None


def test_only_a_run_that_resumes_goes_back_behind_a_damaged_checkpoint(
  toy, toy_run, tmp_path
):
  folder = tmp_path / 'run'
  shutil.copytree(toy_run[0], folder)
  last = folder / 'checkpoint_3'
  (last / 'state' / '_METADATA').write_text('{')
  position = toy_model.Position()
  for cfg in (
    _restore(folder, 'latest'),
    _restore(last, restore_dataset=True),
  ):
    with pytest.raises(DamagedError, match='checkpoint_3'):
      toy.from_checkpoint([cfg], ds_iter=position)
    assert last.exists()
  resumed = _restore(folder, 'latest', restore_dataset=True)
  ((state, path),) = toy.from_checkpoints([resumed], ds_iter=position)
  assert int(state.step) == 2 and path == f'{folder}/checkpoint_2'


def _wider():
  """The toy with one more parameter, and one under another name."""
  parameters = {
    'token_embedder/embedding': toy_model.PARAMETERS[
      'token_embedder/embedding'
    ],
    'feed/kernel': toy_model.PARAMETERS['mlp/wi/kernel'],
    'norm/scale': toy_model.PARAMETERS['norm/scale'],
    'adapter/scale': ((8,), ('embed',)),
    # By its whole name it is before the other, in the tree behind it.
    'adapter-b/bias': ((32,), ('mlp',)),
  }
  return toy_model.initializer(optimizers.sgd(1e-2), parameters=parameters)[0]


def test_rules_rename_and_leave_leaves_to_scratch(toy_run):
  folder, state = toy_run
  rules = [
    (r'target/feed/(.*)', r'target/mlp/wi/\1'),
    (r'target/adapter.*', None),
  ]
  wider = _wider()
  cfg = _restore(folder, 'latest', assignment_map=rules)
  restored = wider.from_checkpoint([cfg], init_rng=jax.random.key(4)).params
  np.testing.assert_array_equal(
    restored['feed']['kernel'], state.params['mlp']['wi']['kernel']
  )
  fresh = wider.from_scratch(jax.random.key(4)).params
  for name in ('adapter', 'adapter-b'):
    jax.tree.map(np.testing.assert_array_equal, restored[name], fresh[name])
  # A rule lets through what it names and nothing else.
  with pytest.raises(UserError, match=r'lacks the leaf target/feed/kernel'):
    wider.from_checkpoint(
      [_restore(folder, 'latest', assignment_map=rules[1:])],
      init_rng=jax.random.key(4),
    )
  with pytest.raises(UserError, match=r'needs a random seed'):
    wider.from_checkpoint([cfg])


def test_missing_leaves_start_from_scratch_if_allowed(toy_run):
  folder, state = toy_run
  wider = _wider()
  with pytest.raises(UserError, match=r'lacks the leaf target/adapter'):
    wider.from_checkpoint([_restore(folder, 'latest')])
  restored = wider.from_checkpoint_or_scratch(
    [_restore(folder, 'latest', fallback_to_scratch=True)],
    init_rng=jax.random.key(4),
  ).params
  fresh = wider.from_scratch(jax.random.key(4)).params
  expected = {
    **fresh,
    'norm': state.params['norm'],
    'token_embedder': state.params['token_embedder'],
  }
  jax.tree.map(np.testing.assert_array_equal, restored, expected)


def test_mistaken_configurations_are_explained(toy, toy_run):
  folder, _ = toy_run
  one = f'{folder}/checkpoint_1'
  with pytest.raises(UserError, match=r"found 'lates'\. Did you mean 'latest'"):
    _restore(folder, 'lates')
  with pytest.raises(UserError, match=rf"{one}: this is one .*mode = 'specifi"):
    toy.from_checkpoint([_restore(one, 'latest')])
  with pytest.raises(UserError, match=rf'{folder}: this is a folder of checkp'):
    toy.from_checkpoint([_restore(folder)])
  with pytest.raises(UserError, match=r'checkpoint_9: no such folder'):
    toy.from_checkpoint([_restore(f'{folder}/checkpoint_9')])
  with pytest.raises(UserError, match=r'expected one checkpoint, found 3'):
    toy.from_checkpoint([_restore(folder, 'all')])
  with pytest.raises(UserError, match=r'period: expected at least 1'):
    checkpoints.SaveCheckpointConfig(period=0)


def test_the_classes_that_are_configured_save_and_restore(
  toy, toy_run, tmp_path
):
  _, state = toy_run
  partitioner = toy_model.initializer(optimizers.adamw(1e-2))[1]
  default = checkpoints.SaveCheckpointConfig(period=5)
  orbax = default.make_manager(str(tmp_path), state, partitioner)
  assert isinstance(orbax, checkpoints.OrbaxCheckpointManagerInterface)
  assert orbax.should_save(5) and not orbax.should_save(6)
  legacy = default.make_manager(
    str(tmp_path), state, partitioner, use_orbax=False
  )
  assert type(legacy) is checkpoints.Checkpointer
  best = checkpoints.SaveCheckpointConfig(
    checkpointer_cls=functools.partial(
      checkpoints.SaveBestCheckpointer, metric_name_to_monitor='train/loss'
    )
  ).make_manager(str(tmp_path), state, partitioner)
  assert isinstance(best, checkpoints.SaveBestCheckpointer)
  best.save(state)
  restored = toy.from_checkpoint(
    [_restore(tmp_path, 'latest', checkpointer_cls=best.__class__)]
  )
  jax.tree.map(np.testing.assert_array_equal, restored, state)
