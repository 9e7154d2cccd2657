"""T5X's smaller public names, which projects import, do what theirs do.

Decoding's are in `decoding/test_beam_dims.py`, the notebook's in
`interactive_model/test_tasks.py`.
"""

import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from flax.linen import partitioning as flax_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from t5x import (
  binary_search,
  checkpoint_importer,
  checkpoints,
  decoding,
  errors,
  initialization,
  metrics,
  models,
  optimizers,
  partitioning,
  trainer,
  utils,
)
from t5x.examples.t5 import layers
from t5x.run import preemption
from tests import toy_model
from tests.t5x import small_models, toy_task


def test_types_are_those_of_the_values():
  assert isinstance(
    small_models.EchoModel().optimizer_def, optimizers.OptimizerDefType
  )
  structure = jax.tree.structure({'a': 1})
  assert isinstance(structure, models.PyTreeDef)
  assert isinstance(structure, checkpoints.PyTreeDef)
  assert isinstance(PartitionSpec('data'), checkpoints.PartitionSpec)
  assert models.MetricsMap is metrics.MetricsMap
  assert models.PyTree is typing.Any
  parts = typing.get_args(decoding.LogitCallbackFn)
  assert parts == ([jax.Array, decoding.SamplingLoopState], jax.Array)
  assert typing.get_args(decoding.StateCallbackFn)[1] is (
    decoding.SamplingLoopState
  )
  model = small_models.EchoModel()
  init: utils.InitFnCallable = model.get_initial_variables
  assert 'params' in init(jax.random.key(0), small_models.SHAPES)


def test_a_stopped_run_is_a_preemption():
  with pytest.raises(trainer.PreemptionError, match='stopped after step'):
    signals = preemption.StopSignals()
    signals.stopped_at = 3
    raise signals.stopped('checkpoint_3')


def test_masks_of_the_likely():
  x = jnp.array([[1.0, 3.0, 2.0, 3.0], [4.0, 1.0, 2.0, 0.0]])
  np.testing.assert_array_equal(
    binary_search.topk_mask(x, 2, -9.0), [[-9, 3, -9, 3], [4, -9, 2, -9]]
  )
  logits = jnp.log(jnp.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]))
  for p, kept in (
    (0.0, [[0, 1, 0], [0, 0, 1]]),
    (0.45, [[0, 1, 0], [0, 0, 1]]),
    (0.6, [[0, 1, 1], [0, 0, 1]]),
    (1.0, [[1, 1, 1], [1, 1, 1]]),
  ):
    masked = jax.jit(binary_search.topp_mask)(logits, p, -jnp.inf)
    np.testing.assert_array_equal(np.isfinite(masked), np.array(kept, bool))
    np.testing.assert_array_equal(
      np.asarray(masked)[np.array(kept, bool)],
      np.asarray(logits)[np.array(kept, bool)],
    )


def test_slices_that_begin_where_each_row_says():
  operand = jnp.arange(10).reshape(2, 5)
  np.testing.assert_array_equal(
    layers.dynamic_vector_slice_in_dim(operand, jnp.array([0, 3, 9]), 2, 1),
    [[[0, 1], [5, 6]], [[3, 4], [8, 9]], [[3, 4], [8, 9]]],
  )


def test_an_array_of_a_checkpoint_is_read_when_asked(tmp_path):
  small_models.save(small_models.EchoModel(), tmp_path, [1])
  state = checkpoints.load_t5x_checkpoint(str(tmp_path), lazy_parameters=True)
  leaf = state['target']['table']
  assert isinstance(leaf, checkpoint_importer.LazyArray)
  assert leaf.shape == leaf.get().shape == (1,)


@pytest.fixture
def variables():
  axes = flax_partitioning.AxisMetadata
  return {
    'params': {'a': {'kernel': jnp.zeros((2, 3))}, 'scale': jnp.zeros(2)},
    'params_axes': {
      'a': {'kernel_axes': axes(('embed', 'mlp'))},
      'scale_axes': axes(('embed',)),
    },
  }


def test_axes_of_parameters_are_named_again(variables):
  # The first rule that matches counts.
  rules = [(r'.*/kernel', ('x', 'y')), (r'.*kernel|scale', ('embed',))]
  made = utils.override_params_axes_names(variables, rules)
  assert tuple(made['params_axes']['a']['kernel_axes'].names) == ('x', 'y')
  assert tuple(made['params_axes']['scale_axes'].names) == ('embed',)
  # A parameter that the module gave no names.
  del variables['params_axes']['scale_axes']
  made = utils.override_params_axes_names(variables, [('scale', ('z',))])
  assert tuple(made['params_axes']['scale_axes'].names) == ('z',)


@pytest.mark.parametrize(
  ('rule', 'message'),
  [
    (('b/kernel', ('x', 'y')), r"no parameter matches \['b/kernel'\]"),
    (('a/kernel', ('x',)), r'names 1 axes .* a/kernel has the shape \(2, 3\)'),
  ],
)
def test_axes_that_fit_no_parameter_are_refused(variables, rule, message):
  with pytest.raises(errors.UserError, match=message):
    utils.override_params_axes_names(variables, [rule])


def test_local_data_is_one_devices_copy():
  mesh = partitioning.default_mesh(1)
  x = jax.device_put(jnp.arange(3), NamedSharding(mesh, PartitionSpec()))
  local = utils.get_local_data(x)
  assert len(local.devices()) == 1 and local.tolist() == [0, 1, 2]
  assert utils.get_local_data('else') == 'else'
  assert jax.jit(utils.get_local_data)(x).tolist() == [0, 1, 2]


def test_hardware_keys_are_the_default_from_then_on():
  before = jax.config.jax_default_prng_impl
  try:
    utils.set_hardware_rng_ops()
    key = jax.random.key(0)
  finally:
    jax.config.update('jax_default_prng_impl', before)
  assert str(jax.random.key_impl(key)) == 'unsafe_rbg'


def test_a_shard_of_a_dataset_has_its_own_examples():
  cfg = utils.DatasetConfig(
    mixture_or_task_name=toy_task.NAME,
    task_feature_lengths=toy_task.LENGTHS,
    split='train',
    batch_size=8,
    shuffle=False,
    seed=0,
  )
  seen = []
  for index in range(2):
    dataset = utils.get_dataset_inner(
      cfg,
      seqio.ShardInfo(index=index, num_shards=2),
      seqio.EncDecFeatureConverter,
      seed=1,
      num_epochs=1,
    )
    batches = list(dataset.as_numpy_iterator())
    assert [len(b['encoder_input_tokens']) for b in batches] == [4, 4]
    seen += [bytes(r) for b in batches for r in b['encoder_input_tokens']]
  assert len(set(seen)) == toy_task.ROWS['train']


def test_the_legacy_manager_saves_and_restores(tmp_path):
  model, where = small_models.TableModel(), small_models.partitioner()
  initializer = initialization.TrainStateInitializer(
    model.optimizer_def, model.get_initial_variables, small_models.SHAPES, where
  )
  state = initializer.from_scratch(jax.random.key(0))
  there = toy_model.Position(12)
  shared = {'train_state_shape': state, 'partitioner': where, 'ds_iter': there}
  manager = utils.LegacyCheckpointManager(
    save_cfg=utils.SaveCheckpointConfig(keep=1, save_dataset=True),
    restore_cfg=utils.RestoreCheckpointConfig(path=[]),
    model_dir=str(tmp_path),
    **shared,
  )
  for step in (1, 2):
    assert manager.save(state.replace_step(jnp.int32(step)))
  # The legacy layout, of which one is kept.
  assert [p.name for p in tmp_path.glob('*/checkpoint')] == ['checkpoint']
  path = str(tmp_path / 'checkpoint_2')
  restored = manager.restore([path])
  assert int(restored.step) == 2
  np.testing.assert_array_equal(restored.params['table'], state.params['table'])
  # The position goes back where the configuration says so.
  there.batches = 20
  manager.restore([path])
  assert there.batches == 20
  with_data = utils.RestoreCheckpointConfig(path=[], restore_dataset=True)
  manager.restore([path], with_data)
  assert there.batches == 12
  # Rules of the configuration count.
  renamed = utils.RestoreCheckpointConfig(
    path=[], assignment_map=[('target/table', 'target/no_table')]
  )
  both = manager.restore([path, path])
  assert [int(s.step) for s in both] == [2, 2]
  with pytest.raises(errors.UserError, match='target/no_table'):
    manager.restore([path], renamed)
  reader = utils.LegacyCheckpointManager(**shared)
  with pytest.raises(errors.UserError, match='made without save_cfg'):
    reader.save(state)
  with pytest.raises(errors.UserError, match='expected paths and a restore_cf'):
    reader.restore([path])
  with pytest.raises(errors.UserError, match='save_cfg needs model_dir'):
    utils.LegacyCheckpointManager(
      save_cfg=utils.SaveCheckpointConfig(), **shared
    )
