"""Layers stored one by one restore into stacks, and stacks into layers."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from t5x import (
  adafactor,
  checkpoints,
  initialization,
  optimizers,
  partitioning,
  train_state,
)
from t5x.checkpoints import config as config_lib
from t5x.checkpoints.formats import layer_stacks, lazy_array
from t5x.errors import UserError
from t5x.examples.t5 import network
from tests import golden_data, stacked_trees

GOLDEN = pathlib.Path(golden_data.__file__).parent / 'golden'
SMALL = dict(
  vocab_size=16,
  emb_dim=8,
  num_heads=2,
  num_encoder_layers=2,
  num_decoder_layers=1,
  head_dim=4,
  mlp_dim=12,
  mlp_activations=('gelu', 'linear'),
)
OPTIMIZERS = {
  'adafactor': lambda: adafactor.Adafactor(min_dim_size_to_factor=8),
  'adafactor by rules, with momentum': lambda: adafactor.Adafactor(
    min_dim_size_to_factor=8,
    beta1=0.9,
    logical_factor_rules=adafactor.standard_logical_factor_rules(),
  ),
  'adamw': lambda: optimizers.adamw(1e-2),
}


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


def initializer(scan, optimizer=None, num_partitions=2, **config):
  module = network.Transformer(
    network.T5Config(**{**SMALL, **config}, scan_layers=scan)
  )

  def init_fn(rng, input_shapes, input_types=None):
    del input_types
    tokens = jnp.ones(input_shapes['tokens'], jnp.int32)
    return module.init(
      {'params': rng}, tokens, tokens, tokens, enable_dropout=False
    )

  partitioner = partitioning.PjitPartitioner(
    num_partitions=num_partitions,
    devices=jax.devices()[: 2 * num_partitions],
    logical_axis_rules=partitioning.standard_logical_axis_rules(
      parameter_partitioning_dims=2
    ),
  )
  return initialization.TrainStateInitializer(
    optimizer, init_fn, {'tokens': (8, 4)}, partitioner
  ), partitioner


def random_state(shapes):
  """A state of distinct numbers, each slot that is not in use 0."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: (
      np.zeros(x.shape, x.dtype)
      if x.shape in ((1,), ())
      else rng.normal(size=x.shape).astype(x.dtype)
    ),
    shapes,
  )


def restore(path, scan, optimizer=None, **config):
  cfg = config_lib.RestoreCheckpointConfig(str(path), mode='specific')
  the_initializer, _ = initializer(scan, optimizer, **config)
  return the_initializer.from_checkpoint([cfg])


def check_bits(found, expected):
  found, expected = flat(found), flat(expected)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert np.asarray(found[name]).tobytes() == np.asarray(value).tobytes(), (
      name
    )


def test_a_tree_is_stacked_and_unstacked():
  tree = {
    'encoder': {
      'layers_0': {'scale': np.array([1, 2])},
      'layers_1': {'scale': np.array([3, 4])},
      'norm': np.array([5]),
    }
  }
  stacked = stacked_trees.stacked(tree)
  np.testing.assert_array_equal(
    stacked['encoder']['layers']['scale'], [[1, 2], [3, 4]]
  )
  assert set(stacked['encoder']) == {'layers', 'norm'}
  check_bits(stacked_trees.unstacked(stacked), tree)


def test_layers_count_by_their_numbers_and_not_by_their_names():
  tree = {f'layers_{i}': {'w': np.array([i, i])} for i in range(12)}
  stacked = stacked_trees.stacked({'encoder': tree})
  assert stacked['encoder']['layers']['w'][:, 0].tolist() == list(range(12))


def test_a_stack_has_the_type_and_the_axis_that_are_asked_for():
  """Also of numbers alone, and where a host holds no layer."""
  tree = {
    f'encoder/layers_{i}/{name}': np.asarray(value, (np.int8, np.int16)[i])
    for i in range(2)
    for name, value in (('w', [i, 5, 6]), ('one', i + 7), ('unused', [0]))
  }
  found = layer_stacks.stack({**tree, 'encoder/norm': 3})
  assert set(found) == {
    *(f'encoder/layers/{name}' for name in ('w', 'one', 'unused')),
    'encoder/norm',
  }
  w = found['encoder/layers/w']
  assert (w.dtype, w.shape) == (np.int8, (2, 3))
  np.testing.assert_array_equal(w.get(), [[0, 5, 6], [1, 5, 6]])
  np.testing.assert_array_equal(found['encoder/layers/one'].get(), [7, 8])
  assert found['encoder/layers/unused'].shape == (1,)
  named = layer_stacks.Form('named', 1)
  found = layer_stacks.stack(tree, named, {'encoder/encoder/one': 0})
  w = found['encoder/encoder/w']
  np.testing.assert_array_equal(w.get(), [[0, 1], [5, 5], [6, 6]])
  none = w.start_read((slice(1, 3), slice(1, 1))).result()
  assert none.shape == (2, 0) and none.dtype == np.int8


def test_slots_are_split_along_their_own_axis():
  """A factor that lacks the first axis has its layers there."""
  rng = np.random.default_rng(0)
  parts = {
    'w/kernel': (2, 3, 5), 'v/kernel': (9, 3, 5), 'scale': (4, 3),
    'temperature': (3,),
  }  # fmt: skip
  slots = {
    'w/kernel/m': (2, 3, 5), 'w/kernel/v_row': (2, 3), 'w/kernel/v_col': (3, 5),
    'v/kernel/v_row': (9, 3), 'v/kernel/v_col': (3, 5), 'scale/v': (4, 3),
    'w/kernel/v': (1,), 'temperature/v': (3,),
  }  # fmt: skip
  flat = {f'target/encoder/encoder/{n}': s for n, s in parts.items()} | {
    f'state/param_states/encoder/encoder/{n}': s for n, s in slots.items()
  }
  flat = {name: rng.normal(size=shape) for name, shape in flat.items()}
  found = layer_stacks.unstack({'step': 7, **flat})
  assert found.pop('step') == 7
  assert len(found) == 3 * len(flat)
  for name, value in flat.items():
    first = name.endswith(('v_col', 'temperature', 'temperature/v'))
    layers = (
      np.moveaxis(value, 0 if first else 1, 0)
      if value.size > 1
      else 3 * (value,)
    )
    before, _, leaf = name.partition('encoder/encoder/')
    for i, layer in enumerate(layers):
      one = found[f'{before}encoder/layers_{i}/{leaf}']
      np.testing.assert_array_equal(one.get(), layer, name)
      assert one.shape == np.shape(layer)
  # Of what is in no use, nobody knows how many there are.
  assert layer_stacks.unstack({'encoder/layers/v': np.zeros(1)}) == {}


@pytest.mark.parametrize(
  ('kind', 'norm', 'final', 'axis'),
  [
    ('named', (8, 3), (8,), 1),
    ('named', (3, 8), (8,), 0),
    ('layers', (8, 3), (8,), 1),
    # The default, where the norms do not say.
    ('layers', (8, 8), (8,), 0),
    ('named', (8, 8), (8,), 1),
    ('layers', (8, 3), (9,), 0),
    ('layers', (8, 3), None, 0),
    ('layers', (8, 3), (8, 1), 0),
    ('layers', None, (8,), 0),
  ],
)
def test_norms_alone_say_which_axis_is_the_layer(kind, norm, final, axis):
  """Other leaves may have any shape, before them and after."""
  stack = 'encoder/layers' if kind == 'layers' else 'encoder/encoder'
  other = np.zeros((8, 3) if axis == 0 else (3, 8))
  flat = {'encoder/embedding': other, f'{stack}/attention/kernel': other}
  if norm:
    flat[f'{stack}/pre_mlp_layer_norm/scale'] = np.zeros(norm)
  flat |= {f'{stack}/zero/kernel': other, 'decoder/norm': other}
  if final:
    flat['encoder/encoder_norm/scale'] = np.zeros(final)
  assert layer_stacks.form_of(flat) == (kind, axis)
  # Two forms are none.
  flat['encoder/layers_0/x'] = other
  assert layer_stacks.form_of(flat) is None
  assert layer_stacks.unstack(flat) == flat


@pytest.mark.parametrize('turned', [False, True])
@pytest.mark.parametrize('stacked', [False, True])
def test_heads_alone_may_differ(stacked, turned):
  """Else a checkpoint of a network with other heads is not restored."""
  names = [
    f'encoder/layers{end}/attention/query/kernel'
    for end in ([''] if stacked else ['_0', '_1'])
  ]
  lead = (2,) if stacked else ()
  kernel = np.arange(24 * (2 if stacked else 1)).reshape(*lead, 4, 6)
  heads = kernel.reshape(*lead, 4, 2, 3)
  given, wanted = (heads, kernel) if turned else (kernel, heads)
  wi = np.zeros((*lead, 4, 7))
  extra = {name.replace('attention/query', 'mlp/wi'): wi for name in names}

  def tree(leaf):
    flat = dict.fromkeys(names, leaf) | extra
    return traverse_util.unflatten_dict(flat, sep='/')

  found = flat_of(layer_stacks.match(tree(given), tree(wanted)))
  assert found.keys() == {*names, *extra}
  for name in names:
    np.testing.assert_array_equal(found[name], wanted)
  state = tree(given)
  assert layer_stacks.match(state, tree(given)) is state


def flat_of(tree):
  return {name: np.asarray(leaf) for name, leaf in flat(tree).items()}


@functools.cache
def saved(scan, name, folder, layout):
  """A checkpoint of a state with random numbers, and the state."""
  optimizer = OPTIMIZERS[name]()
  the_initializer, partitioner = initializer(scan, optimizer)
  state = random_state(the_initializer.global_train_state_shape)
  state = partitioner.move_params_to_devices(
    state, the_initializer.train_state_axes
  )
  path = pathlib.Path(folder) / f'{name} {layout} {scan}'
  if layout == 'orbax':
    saver = checkpoints.OrbaxCheckpointManagerInterface(
      str(path), state, partitioner
    )
  else:
    saver = checkpoints.Checkpointer(state, partitioner, str(path))
  saver.save(state)
  saver.close()
  return path / 'checkpoint_0', state


CASES = [
  ('adafactor', 'orbax', False),
  ('adafactor', 'orbax', True),
  ('adafactor by rules, with momentum', 'legacy', False),
  ('adafactor by rules, with momentum', 'legacy', True),
  ('adamw', 'orbax', True),
]


@pytest.mark.parametrize(('name', 'layout', 'scan'), CASES)
def test_states_are_restored_in_the_other_form_to_the_bit(
  name, layout, scan, tmp_path
):
  path, state = saved(scan, name, str(tmp_path), layout)
  restored = restore(path, not scan, OPTIMIZERS[name]())
  change = stacked_trees.unstacked if scan else stacked_trees.stacked
  expected = change(jax.tree.map(np.asarray, state.state_dict()))
  check_bits(restored.state_dict(), expected)


@pytest.mark.parametrize('layout', ['legacy', 'orbax'])
@pytest.mark.parametrize('name', ['t5x_1_1', 't5x_1_0'])
def test_checkpoints_from_upstream_are_restored_as_stacks(name, layout):
  golden = golden_data.load(name)
  path = GOLDEN / name / layout / 'checkpoint_0'
  state = restore(path, True, adafactor.Adafactor(1e-3), **golden.config_kwargs)
  check_bits(state.params, stacked_trees.stacked(golden.params))
  stored = checkpoints.load_t5x_checkpoint(str(path))
  check_bits(state.state_dict(), stacked_trees.stacked(stored))
  kernel = state.params['encoder']['layers']['mlp']['wo']['kernel']
  assert kernel.sharding.spec == jax.sharding.PartitionSpec(
    None, 'model', 'data'
  )


def test_a_huggingface_folder_is_restored_as_a_stack():
  folder = GOLDEN / 'torch_files/one_file'
  state = restore(folder, True, num_encoder_layers=1, num_decoder_layers=2)
  assert isinstance(state, train_state.InferenceState)
  read = checkpoints.load_t5x_checkpoint(str(folder))['target']
  check_bits(state.params, stacked_trees.stacked(read))


def test_a_part_of_a_stack_reads_the_layers_of_that_part_alone():
  read = []

  def layer(i):
    def start_read(index):
      read.append((i, index))
      return lazy_array.Ready(np.full((2, 3), i)[index])

    return lazy_array.LazyArray(f'l{i}', (2, 3), np.int64, start_read)

  tree = {f'layers_{i}': {'w': layer(i)} for i in range(4)}
  stack = layer_stacks.match(tree, {'layers': {'w': 0}})['layers']['w']
  assert (stack.shape, read) == ((4, 2, 3), [])
  index = (slice(1, 3), slice(0, 1), slice(0, 3))
  part = stack.start_read(index).result()
  np.testing.assert_array_equal(part, [[[1, 1, 1]], [[2, 2, 2]]])
  assert read == [(1, index[1:]), (2, index[1:])]


def test_a_checkpoint_in_the_form_of_the_model_is_left_alone():
  tree = {'encoder': {'layers_0': {'w': 1}, 'norm': 2}}
  for model in (tree, {'encoder': {'norm': 0}}):
    assert layer_stacks.match(tree, model) is tree


def test_layers_that_make_no_stack_are_named():
  def match(**layers):
    layer_stacks.match(layers, {'layers': {'w': 0}})

  with pytest.raises(
    UserError, match=r'^layers_0/w: .*layers 0 to 1, found \[0, 2\]'
  ):
    match(layers_0={'w': np.ones(2)}, layers_2={'w': np.ones(2)})
  with pytest.raises(UserError, match=r'one shape, found \[\(2,\), \(3,\)\]'):
    match(layers_0={'w': np.ones(2)}, layers_1={'w': np.ones(3)})


@pytest.mark.parametrize(
  'checkpoint, overrides, message',
  [
    (
      't5x_1_1',
      {'num_encoder_layers': 3},
      r'leaf target/encoder/layers/.* has shape \(2, .*\) in the checkpoint and'
      r' \(3, .*\) in the model.*the encoder has 2 layers in the checkpoint and'
      r' 3 in the model',
    ),
    (
      't5x_1_1',
      {'mlp_dim': 64},
      r'/layers/.*\(3, 48, 96\) in the checkpoint and \(3, 48, 64\).*another s',
    ),
    (
      't5x_1_0',
      {},
      r'layers/mlp/wi_0/kernel.*checkpoint is T5 1\.0 .* the model T5 1\.1',
    ),
  ],
)
def test_a_checkpoint_of_another_model_says_what_is_likely_wrong(
  checkpoint, overrides, message
):
  path = GOLDEN / checkpoint / 'legacy/checkpoint_0'
  config = {**golden_data.load('t5x_1_1').config_kwargs, **overrides}
  with pytest.raises(UserError, match=rf'{path}: .*{message}'):
    restore(path, True, num_partitions=1, **config)


@pytest.mark.parametrize(
  ('stack', 'norm', 'final', 'axis'),
  [
    ('layers', (8, 3), (8,), 1),
    ('layers', (3, 8), (8,), 0),
    ('encoder', (3, 8), (8,), 0),
    ('encoder', (8, 3), (8,), 1),
    # Where it can't be told, as upstream has it.
    ('layers', (8, 8), (8,), 0),
    ('layers', (4, 3), (8,), 0),
    ('layers', (8, 3), (8, 3), 0),
    ('layers', (8, 3), (), 0),
    ('layers', (8, 3, 2), (8,), 0),
    ('encoder', (), (8,), 1),
  ],
)
def test_the_axis_of_layers_is_that_beside_the_width(stack, norm, final, axis):
  flat = {
    f'target/encoder/{stack}/mlp/wi/kernel': np.zeros((8, 3, 4)),
    f'target/encoder/{stack}/pre_mlp_layer_norm/scale': np.zeros(norm),
    f'target/encoder/{stack}/mlp/wo/kernel': np.zeros((4, 3, 8)),
    'target/encoder/encoder_norm/scale': np.zeros(final),
  }
  kind = 'layers' if stack == 'layers' else 'named'
  assert layer_stacks.form_of(flat) == (kind, axis)
  several = {**flat, 'target/encoder/layers_0/w': np.zeros(2)}
  assert layer_stacks.form_of(several) is None


def test_a_host_may_hold_no_layer_and_the_first_says_the_type():
  tree = {
    'layers_0': {'w': np.full((2, 3), 1, np.float32)},
    'layers_1': {'w': np.full((2, 3), 2, np.float16)},
  }
  stack = layer_stacks.match(tree, {'layers': {'w': 0}})['layers']['w']
  assert stack.get().dtype == stack.dtype == np.float32
  none = stack.start_read((slice(1, 1), slice(1, 2), slice(1, 3))).result()
  assert (none.shape, none.dtype) == ((0, 1, 2), np.float32)


def test_layers_along_the_second_axis_are_read_in_part():
  final = np.zeros(4)
  model = {
    'encoder': {
      'encoder': {
        'pre_mlp_layer_norm': {'scale': np.zeros((4, 2))},
        'w': np.zeros((3, 2, 5)),
      },
      'encoder_norm': {'scale': final},
    }
  }
  values = np.arange(30).reshape(2, 3, 5)
  tree = {
    'encoder': {
      'encoder_norm': {'scale': final},
      **{
        f'layers_{i}': {
          'w': values[i],
          'pre_mlp_layer_norm': {'scale': np.arange(4) + i},
        }
        for i in range(2)
      },
    }
  }
  stacked = layer_stacks.match(tree, model)
  found = stacked['encoder']['encoder']['w']
  whole = np.moveaxis(values, 0, 1)
  assert found.shape == whole.shape
  part = (slice(1, 3), slice(1, 2), slice(2, 4))
  np.testing.assert_array_equal(found.start_read(part).result(), whole[part])
  again = layer_stacks.match(stacked, tree)['encoder']
  for i in range(2):
    one = again[f'layers_{i}']['w']
    np.testing.assert_array_equal(one.get(), values[i])
    index = (slice(1, 3), slice(2, 4))
    np.testing.assert_array_equal(
      one.start_read(index).result(), values[i][index]
    )


@pytest.mark.parametrize('split', [False, True])
def test_heads_alone_are_split_or_joined_as_in_the_model(split):
  def tree(shape):
    layer = {'query': {'kernel': np.arange(24).reshape(shape)}, 'w': np.ones(3)}
    return {'encoder': {'layers_0': layer}}

  stored, wanted = (4, 6), (4, 3, 2)
  if not split:
    stored, wanted = wanted, stored
  found = layer_stacks.match(tree(stored), tree(wanted))['encoder']['layers_0']
  kernel = found['query']['kernel']
  assert kernel.shape == wanted
  np.testing.assert_array_equal(kernel.get().ravel(), np.arange(24))
  same = tree(stored)
  assert layer_stacks.match(same, tree(stored)) is same


def test_a_checkpoint_without_layers_is_left_alone():
  tree = {'a': {'w': np.ones(2)}}
  assert layer_stacks.match(tree, {'layers_0': {'w': 0}}) is tree
