"""Checkpoints of scalable_t5, stacked along axis 1, in all forms of a network.

Checkpoints are written in T5X's legacy layout, and read into the same network
with its layers stacked along an axis, named or one by one, with the heads of
attention joined or split.
"""

import functools

import jax
import numpy as np
import pytest

from t5x import adafactor, checkpoints, initialization, partitioning
from t5x.checkpoints import config as config_lib
from t5x.checkpoints.formats import attention_heads, layer_stacks, lazy_array
from t5x.errors import UserError
from t5x.examples.scalable_t5 import network as scalable
from t5x.examples.t5 import network
from tests.t5x.checkpoints.formats import hf_folders

# The number of layers is that of the heads, and D = H * K, as in T5 base.
SIZES = {
  'vocab_size': 16,
  'emb_dim': 8,
  'num_heads': 2,
  'num_encoder_layers': 2,
  'num_decoder_layers': 3,
  'head_dim': 4,
  'mlp_dim': 12,
  'mlp_activations': ('gelu', 'linear'),
  'relative_attention_num_buckets': 8,
}
CONFIGS = {
  'scalable': scalable.T5Config(**SIZES),
  'axis 0': scalable.T5Config(**SIZES, param_scan_axis=0),
  'one by one, heads split': scalable.T5Config(**SIZES, scan_layers=False),
  'one by one': network.T5Config(**SIZES, relative_bias_per_layer=True),
  'layers': network.T5Config(
    **SIZES, relative_bias_per_layer=True, scan_layers=True
  ),
}
OPTIMIZER = functools.partial(
  adafactor.Adafactor,
  1e-3,
  min_dim_size_to_factor=8,
  beta1=0.9,
  logical_factor_rules=adafactor.standard_logical_factor_rules(),
)


def initializer(config):
  module = network.Transformer(config)

  def init_fn(rng, input_shapes, input_types=None):
    del input_types
    tokens = np.ones(input_shapes['tokens'], np.int32)
    return module.init(
      {'params': rng}, tokens, tokens, tokens, enable_dropout=False
    )

  partitioner = partitioning.PjitPartitioner(
    num_partitions=2,
    devices=jax.devices()[:4],
    logical_axis_rules=partitioning.standard_logical_axis_rules(
      parameter_partitioning_dims=2
    ),
  )
  return initialization.TrainStateInitializer(
    OPTIMIZER(), init_fn, {'tokens': (4, 3)}, partitioner
  ), partitioner


def numbered(shapes):
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


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A checkpoint of scalable_t5 and its numbers by their names."""
  folder = tmp_path_factory.mktemp('scalable')
  the_initializer, partitioner = initializer(CONFIGS['scalable'])
  state = partitioner.move_params_to_devices(
    numbered(the_initializer.global_train_state_shape),
    the_initializer.train_state_axes,
  )
  saver = checkpoints.Checkpointer(state, partitioner, str(folder))
  saver.save(state)
  saver.close()
  numbers = jax.tree.map(np.asarray, state.state_dict())
  return folder / 'checkpoint_0', hf_folders.flat(numbers)


def restored(path, config):
  cfg = config_lib.RestoreCheckpointConfig(str(path), mode='specific')
  state = initializer(config)[0].from_checkpoint([cfg])
  return hf_folders.flat(jax.tree.map(np.asarray, state.state_dict()))


# Of Adafactor: which axes of [D, H, K] a factor has.
_ROW, _COLUMN = (0,), (1, 2)


def layers_of(numbers, name, kept=None):
  """The layers of a stacked leaf, from axis 1, or from 0 if D is averaged."""
  axis = 0 if kept == _COLUMN else 1
  return np.moveaxis(numbers[name], axis, 0)


def test_it_is_restored_to_the_bit_in_its_own_form(saved):
  path, numbers = saved
  found = restored(path, CONFIGS['scalable'])
  assert found.keys() == numbers.keys()
  for name, value in numbers.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  # What it is that was saved.
  assert numbers['target/decoder/decoder/mlp/wo/kernel'].shape == (12, 3, 8)
  slots = 'state/param_states/decoder/decoder/self_attention/query/kernel'
  assert numbers[f'{slots}/m'].shape == (8, 3, 2, 4)
  assert numbers[f'{slots}/v_row'].shape == (8, 3)
  assert numbers[f'{slots}/v_col'].shape == (3, 2, 4)


@pytest.mark.parametrize('form', ['one by one', 'one by one, heads split'])
def test_layers_are_taken_from_it_one_by_one(form, saved):
  path, numbers = saved
  found = restored(path, CONFIGS[form])
  joined = form == 'one by one'
  for stack, part in (
    ('encoder', 'attention'),
    ('decoder', 'self_attention'),
    ('decoder', 'encoder_decoder_attention'),
  ):
    for kernel, flipped in (('query', False), ('out', True)):
      for prefix, slot, kept in (
        ('target', '', None),
        ('state/param_states', '/m', None),
        ('state/param_states', '/v_row', _ROW),
        ('state/param_states', '/v_col', _COLUMN),
      ):
        leaf = f'{part}/{kernel}/kernel{slot}'
        name = f'{prefix}/{stack}/{stack}/{leaf}'
        if flipped and kept is not None:
          # The first axis of [H, K, D] is a column.
          kept = _COLUMN if kept == _ROW else _ROW
        for i, one in enumerate(layers_of(numbers, name, kept)):
          mine = found[f'{prefix}/{stack}/layers_{i}/{leaf}']
          if not joined:
            assert mine.shape == one.shape, name
          np.testing.assert_array_equal(mine.ravel(), one.ravel(), name)
          if joined and kept is None:
            assert mine.shape == (8, 8), name
  for i in range(3):
    np.testing.assert_array_equal(
      found[f'target/decoder/layers_{i}/relpos_bias/rel_embedding'],
      numbers['target/decoder/decoder/relpos_bias/rel_embedding'][:, i],
    )
    np.testing.assert_array_equal(
      found[f'target/decoder/layers_{i}/pre_mlp_layer_norm/scale'],
      numbers['target/decoder/decoder/pre_mlp_layer_norm/scale'][:, i],
    )


@pytest.mark.parametrize('form', CONFIGS)
def test_there_and_back_nothing_changes(form, saved, tmp_path):
  path, numbers = saved
  the_initializer, partitioner = initializer(CONFIGS[form])
  cfg = config_lib.RestoreCheckpointConfig(str(path), mode='specific')
  state = the_initializer.from_checkpoint([cfg])
  saver = checkpoints.Checkpointer(state, partitioner, str(tmp_path))
  saver.save(state)
  saver.close()
  found = restored(tmp_path / 'checkpoint_0', CONFIGS['scalable'])
  assert found.keys() == numbers.keys()
  for name, value in numbers.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_the_axis_of_layers_is_told_by_the_norms():
  def form(axis, scale):
    return layer_stacks.form_of(
      {
        'decoder/decoder/pre_mlp_layer_norm/scale': np.zeros(scale),
        'decoder/decoder_norm/scale': np.zeros(8),
      }
    ) == ('named', axis)

  assert form(1, (8, 3)) and form(0, (3, 8))
  # T5X's, where it can't be told.
  assert form(1, (8, 8))


def test_a_part_of_split_heads_reads_that_part_alone():
  read = []
  whole = np.arange(2 * 12).reshape(2, 12)

  def start_read(index):
    read.append(index)
    return lazy_array.Ready(whole[index])

  leaf = lazy_array.LazyArray('x', (2, 12), whole.dtype, start_read)
  split = attention_heads.fitted('query/kernel', leaf, (2, 3, 4))
  part = (slice(0, 2), slice(1, 2), slice(1, 3))
  np.testing.assert_array_equal(
    split.start_read(part).result(), whole.reshape(2, 3, 4)[part]
  )
  assert read == [(slice(0, 2), slice(4, 8))]
  one = attention_heads.fitted('query/kernel', split, (2, 12))
  part = (slice(1, 2), slice(3, 9))
  np.testing.assert_array_equal(one.start_read(part).result(), whole[part])
  # Other leaves keep their shape.
  assert attention_heads.fitted('mlp/wi/kernel', leaf, (2, 3, 4)) is leaf
  assert attention_heads.fitted('query/kernel', leaf, (2, 5, 4)) is leaf


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    (
      {'num_decoder_layers': 2},
      r'the decoder has 3 layers in the checkpoint and 2 in the model',
    ),
    ({'mlp_dim': 16}, r'12.* in the checkpoint and .*16.*another size'),
    (
      {'relative_bias_per_layer': False},
      r'relative_bias_per_layer = True',
    ),
  ],
)
def test_another_model_is_told_what_is_likely_wrong(sizes, message, saved):
  path, _ = saved
  with pytest.raises(UserError, match=message):
    restored(path, CONFIGS['scalable'].replace(**sizes))
