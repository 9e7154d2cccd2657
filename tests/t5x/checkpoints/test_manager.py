"""Tests of t5x.checkpoints.manager and of restoring."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
import safetensors.numpy
import tensorflow as tf
from flax import traverse_util

from t5x import checkpoints, optimizers
from t5x.checkpoints import restore
from t5x.checkpoints.formats import orbax
from t5x.errors import UserError
from tests import golden_data, toy_model
from tests.t5x.checkpoints import toy_runs

GOLDEN = pathlib.Path(golden_data.__file__).parent / 'golden'
LAYOUTS = toy_runs.LAYOUTS


@pytest.fixture
def run():
  return toy_runs.run()


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('name', ['t5x_1_1', 't5x_1_0'])
def test_checkpoints_from_upstream_are_read_to_the_bit(name, layout):
  path = str(GOLDEN / name / layout / 'checkpoint_0')
  state = checkpoints.load_t5x_checkpoint(path)
  read = traverse_util.flatten_dict(state['target'], sep='/')
  golden = traverse_util.flatten_dict(golden_data.load(name).params, sep='/')
  assert read.keys() == golden.keys()
  for key in golden:
    assert read[key].dtype == golden[key].dtype
    assert read[key].tobytes() == golden[key].tobytes(), key
  assert state['state']['step'] == 0


def test_a_state_is_changed_as_one_that_no_run_goes_on_with():
  seen = []

  def transform(state, model, is_resuming):
    seen.append(is_resuming)
    return {**state, 'target': {'table': np.ones(2)}}

  path = str(GOLDEN / 't5x_1_1/legacy/checkpoint_0')
  state = checkpoints.load_t5x_checkpoint(
    path, state_transformation_fns=[transform]
  )
  assert seen == [False]
  assert state['target']['table'].tolist() == [1, 1]


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_state_comes_back_to_the_bit_with_its_position(
  tmp_path, layout, dtype
):
  initializer, partitioner, state = toy_runs.run(dtype)
  saver = toy_runs.manager(
    layout,
    tmp_path,
    state,
    partitioner,
    toy_model.Position(12),
    save_dtype=dtype,
  )
  assert saver.save(state)
  saver.close()
  there = toy_model.Position()
  restored = toy_runs.manager(
    layout, tmp_path, initializer.global_train_state_shape, partitioner, there
  ).restore()
  toy_runs.assert_same_bits(restored, state)
  assert there.batches == 12
  stored = checkpoints.load_t5x_checkpoint(str(tmp_path))
  assert stored['target']['norm']['scale'].dtype == jnp.dtype(dtype)


def test_bfloat16_parameters_saved_as_float32_come_back_to_the_bit(tmp_path):
  _, partitioner, state = toy_runs.run('bfloat16')
  saver = toy_runs.manager(
    'orbax', tmp_path, state, partitioner, save_dtype='float32'
  )
  saver.save(state)
  toy_runs.assert_same_bits(saver.restore(), state)
  saver.close()
  stored = checkpoints.load_t5x_checkpoint(str(tmp_path))
  assert stored['target']['norm']['scale'].dtype == np.float32


def test_parameters_are_restored_in_the_type_asked_for(tmp_path, run, caplog):
  _, partitioner, state = run
  toy_runs.manager('legacy', tmp_path, state, partitioner).save(state)
  restored = toy_runs.manager(
    'orbax', tmp_path, state, partitioner, restore_dtype='bfloat16'
  ).restore()
  assert restored.params['norm']['scale'].dtype == jnp.bfloat16
  jax.tree.map(
    lambda found, saved: np.testing.assert_array_equal(
      found, saved.astype(jnp.bfloat16)
    ),
    restored.params,
    state.params,
  )
  assert 'Hugging Face' not in caplog.text
  # The optimizer's state keeps its type.
  leaves = jax.tree.leaves(restored.param_states)
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype('f4'), jnp.dtype('i4')}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_state_saved_on_one_mesh_is_restored_on_another(
  tmp_path, run, layout
):
  _, partitioner, state = run  # 8x1.
  saver = toy_runs.manager(layout, tmp_path, state, partitioner)
  saver.save(state)
  saver.close()
  there, other = toy_model.initializer(
    toy_runs.adamw(), num_partitions=4
  )  # 2x4.
  assert dict(other.mesh.shape) == {'data': 2, 'model': 4}
  restored = toy_runs.manager(
    layout, tmp_path, there.global_train_state_shape, other
  ).restore()
  toy_runs.assert_same_bits(restored, state)
  kernel = restored.params['mlp']['wi']['kernel']
  assert {s.data.shape for s in kernel.addressable_shards} == {(8, 8)}
  mu = restored.param_states[0].mu['mlp']['wi']['kernel']
  assert mu.sharding.is_equivalent_to(kernel.sharding, 2)


def test_the_buffers_of_a_state_may_be_donated_once_save_returns(tmp_path, run):
  _, partitioner, state = run
  before = jax.tree.map(np.array, state.state_dict())
  donated = jax.tree.map(jnp.copy, state)
  saver = toy_runs.manager('orbax', tmp_path, donated, partitioner)
  saver.save(donated)
  overwrite = jax.jit(
    lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0
  )
  jax.block_until_ready(overwrite(donated))
  restored = saver.restore()  # Waits for the save.
  saver.close()
  jax.tree.map(np.testing.assert_array_equal, restored.state_dict(), before)


def test_saving_goes_on_after_save_returns(tmp_path, run):
  _, partitioner, state = run
  saver = toy_runs.manager('orbax', tmp_path, state, partitioner)
  saver.save(state)
  # Nothing has waited yet: it counts as soon as something does.
  assert saver.latest_step() == 3
  assert saver.save(state) is False  # The step is saved already.
  saver.close()


def test_what_is_being_saved_counts_once_it_is_saved(tmp_path, run):
  """The base waits for whatever its class is saving."""
  _, partitioner, state = run
  done = toy_runs.manager('legacy', tmp_path / 'done', state, partitioner)
  done.save(toy_runs.at(state, 7))
  done.close()

  class Slow(restore.Restorer):
    def wait_until_finished(self):
      shutil.copytree(tmp_path / 'done', self.directory, dirs_exist_ok=True)

  slow = Slow(tmp_path / 'slow', state, partitioner, None, None)
  assert slow.all_steps() == [7] and slow.latest_step() == 7
  closed = Slow(tmp_path / 'closed', state, partitioner, None, None)
  closed.close()
  assert (tmp_path / 'closed' / 'checkpoint_7').exists()


@pytest.mark.parametrize('layout', LAYOUTS)
def test_the_last_ones_are_kept(tmp_path, run, layout):
  _, partitioner, state = run
  saver = toy_runs.manager(layout, tmp_path, state, partitioner, keep=2)
  for step in (1, 2, 10):
    saver.save(toy_runs.at(state, step))
  saver.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'checkpoint_10',
    'checkpoint_2',
  ]


def test_a_period_is_kept_beside_the_last_ones(tmp_path, run):
  _, partitioner, state = run
  saver = toy_runs.manager(
    'orbax', tmp_path, state, partitioner, keep=1, force_keep_period=10
  )
  for step in (5, 10, 15, 20, 25):
    saver.save(toy_runs.at(state, step))
  assert saver.all_steps() == [10, 20, 25]
  saver.close()


def test_the_best_by_a_metric_given_when_saving_are_kept(tmp_path, run):
  _, partitioner, state = run

  def manager():
    return toy_runs.manager(
      'orbax',
      tmp_path,
      state,
      partitioner,
      keep=1,
      metric_mode='min',
      metric_name_to_monitor='training_eval/cqa/loss',
    )

  saver = manager()
  for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0)):
    saver.save(
      toy_runs.at(state, step), metrics={'training_eval/cqa/loss': loss}
    )
  assert saver.all_steps() == [2, 3]
  saver.close()
  # A run that goes on still knows the values.
  saver = manager()
  saver.save(toy_runs.at(state, 4), metrics={'training_eval/cqa/loss': 5.0})
  assert saver.all_steps() == [2, 4]
  saver.close()


@pytest.mark.parametrize('layout', LAYOUTS)
def test_the_best_by_a_metric_in_tensorboard_are_kept(tmp_path, run, layout):
  _, partitioner, state = run
  writer = tf.summary.create_file_writer(str(tmp_path / 'inference_eval/cqa'))
  cls = {
    'orbax': checkpoints.OrbaxCheckpointManagerInterface,
    'legacy': checkpoints.SaveBestCheckpointer,
  }[layout]
  place = {'orbax': 'directory', 'legacy': 'checkpoints_dir'}[layout]
  saver = cls(
    **{place: str(tmp_path)},
    train_state=state,
    partitioner=partitioner,
    keep=1,
    metric_name_to_monitor='inference_eval/cqa/accuracy',
  )
  for step, accuracy in ((1, 0.2), (2, 0.9), (3, 0.5), (4, 0.1)):
    saver.save(toy_runs.at(state, step))
    # As in a run: evaluated after it was saved.
    with writer.as_default(step=step):
      tf.summary.scalar('accuracy', accuracy)
    writer.flush()
  assert saver.all_steps() == [2, 4]
  saver.close()
  writer.close()


def test_a_save_that_was_killed_does_not_count_and_is_removed(tmp_path, run):
  _, partitioner, state = run
  saver = toy_runs.manager('orbax', tmp_path, state, partitioner)
  saver.save(state)
  saver.close()
  killed = tmp_path / 'checkpoint_9.orbax-checkpoint-tmp'
  shutil.copytree(tmp_path / 'checkpoint_3', killed)
  again = toy_runs.manager('orbax', tmp_path, state, partitioner)
  assert again.latest_step() == 3
  assert int(again.restore().step) == 3
  assert killed.exists()  # Restoring removes nothing.
  again.save(toy_runs.at(state, 4))
  again.close()
  assert not killed.exists()
  assert checkpoints.all_steps(str(tmp_path)) == [3, 4]


@pytest.mark.parametrize('layout', LAYOUTS)
def test_an_incomplete_checkpoint_of_the_same_step_is_named(
  tmp_path, run, layout
):
  _, partitioner, state = run
  path = tmp_path / 'checkpoint_3'
  path.mkdir()
  saver = toy_runs.manager(layout, tmp_path, state, partitioner)
  with pytest.raises(UserError, match=rf'{path}: cannot save .*incomplete'):
    saver.save(state)
  saver.close()


def test_a_resumed_run_needs_its_own_optimizer(tmp_path, run):
  _, partitioner, state = run
  saver = toy_runs.manager(
    'orbax', tmp_path, state, partitioner, toy_model.Position()
  )
  saver.save(state)
  saver.close()
  other, _ = toy_model.initializer(optimizers.sgd(1e-2, momentum=0.9))
  resumed = toy_runs.manager(
    'orbax',
    tmp_path,
    other.global_train_state_shape,
    partitioner,
    toy_model.Position(),
  )
  with pytest.raises(
    UserError, match=r"optimizer state is not this run's: it lacks state/param"
  ):
    resumed.restore()


def test_a_run_that_starts_from_another_optimizers_checkpoint_begins_it_afresh(
  tmp_path, run
):
  _, partitioner, state = run
  toy_runs.manager('legacy', tmp_path, state, partitioner).save(state)
  other, _ = toy_model.initializer(optimizers.sgd(1e-2, momentum=0.9))
  restored = toy_runs.manager(
    'orbax', tmp_path, other.global_train_state_shape, partitioner
  ).restore()
  assert int(restored.step) == 3
  jax.tree.map(np.testing.assert_array_equal, restored.params, state.params)
  expected = optax.sgd(1e-2, momentum=0.9).init(state.params)
  jax.tree.map(np.testing.assert_array_equal, restored.param_states, expected)


def test_fallback_values_fill_in_and_what_nobody_wants_is_dropped(
  tmp_path, run
):
  initializer, partitioner, state = run
  saver = toy_runs.manager('legacy', tmp_path, state, partitioner)

  def transform(stored, model, *, is_resuming):
    assert not is_resuming
    assert model['target']['norm']['scale'].shape == (8,)
    return {
      **stored,
      'target': {
        'token_embedder': stored['target']['token_embedder'],
        'mlp': stored['target']['mlp'],
        'unwanted': stored['target']['norm']['scale'],
      },
    }

  saver.save(state)
  with pytest.raises(UserError, match=r'lacks the leaf target/norm/scale'):
    saver.restore(state_transformation_fns=[transform])
  fresh = initializer.from_scratch(jax.random.key(5))
  restored = saver.restore(
    state_transformation_fns=[transform], fallback_state=fresh.state_dict()
  )
  expected = {**state.params, 'norm': fresh.params['norm']}
  jax.tree.map(np.testing.assert_array_equal, restored.params, expected)


def test_a_part_that_starts_from_scratch_hides_no_leaf_that_nobody_wants(
  tmp_path, run
):
  _, partitioner, state = run
  saver = toy_runs.manager('legacy', tmp_path, state, partitioner)
  saver.save(state)

  def transform(stored, model, *, is_resuming):
    target = {**stored['target'], 'head': stored['target']['norm']}
    return {**stored, 'target': target}

  part = {'target': {'norm': state.state_dict()['target']['norm']}}
  with pytest.raises(UserError, match='head'):
    saver.restore(fallback_state=part, state_transformation_fns=[transform])


def test_a_fallback_value_takes_the_type_of_its_place(tmp_path, run):
  initializer, partitioner, state = run
  saver = toy_runs.manager('legacy', tmp_path, state, partitioner)

  def transform(stored, model, *, is_resuming):
    target = dict(stored['target'])
    del target['norm']
    return {**stored, 'target': target}

  saver.save(state)
  fallback = initializer.from_scratch(jax.random.key(5)).state_dict()
  # Eighths, which every type has; on the devices and not.
  eighths = np.arange(8) / 8
  for given in (jnp.asarray(eighths, jnp.bfloat16), eighths):
    fallback['target'] = {**fallback['target'], 'norm': {'scale': given}}
    for dtype in (None, 'bfloat16'):
      restored = toy_runs.manager(
        'legacy', tmp_path, state, partitioner, restore_dtype=dtype
      ).restore(state_transformation_fns=[transform], fallback_state=fallback)
      scale = restored.params['norm']['scale']
      assert scale.dtype == (dtype or 'float32')
      np.testing.assert_array_equal(np.asarray(scale, np.float32), eighths)


def test_states_are_transformed_before_they_are_saved(tmp_path, run):
  _, partitioner, state = run

  def only_parameters(stored, infos):
    assert infos['target']['norm']['scale'].shape == (8,)
    return {'target': stored['target']}, {'target': infos['target']}

  for layout in LAYOUTS:
    saver = toy_runs.manager(layout, tmp_path / layout, state, partitioner)
    saver.save(state, state_transformation_fns=[only_parameters])
    saver.close()
    stored = checkpoints.load_t5x_checkpoint(str(tmp_path / layout))
    assert stored['target']['mlp']['wi']['kernel'].shape == (8, 32)
    assert not stored.get('state')


def test_parameters_can_stay_where_they_are_until_asked_for(tmp_path, run):
  _, partitioner, state = run
  saver = toy_runs.manager('legacy', tmp_path, state, partitioner)
  saver.save(state)
  lazy = saver.restore(lazy_parameters=True).params['norm']['scale']
  assert isinstance(lazy, checkpoints.LazyArray)
  np.testing.assert_array_equal(lazy.get(), state.params['norm']['scale'])
  loaded = checkpoints.load_t5x_checkpoint(
    str(tmp_path), lazy_parameters=True, restore_dtype='bfloat16'
  )
  found = loaded['target']['norm']['scale'].get()
  assert found.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(
    found, np.asarray(state.params['norm']['scale'], ml_dtypes.bfloat16)
  )
  assert loaded['state']['step'] == 3


def test_a_huggingface_folder_loads_like_any_checkpoint():
  loaded = checkpoints.load_t5x_checkpoint(str(GOLDEN / 'hf_1_1/model'))
  found = loaded['target']['token_embedder']['embedding']
  assert found.shape == (384, 48)
  stored = safetensors.numpy.load_file(
    GOLDEN / 'hf_1_1/model/model.safetensors'
  )
  np.testing.assert_array_equal(found, stored['shared.weight'])


def test_the_state_lies_in_the_layout_of_upstream(tmp_path, run):
  _, partitioner, state = run
  saver = toy_runs.manager(
    'orbax', tmp_path, state, partitioner, toy_model.Position(4)
  )
  saver.save(state)
  saver.close()
  path = tmp_path / 'checkpoint_3'
  upstream = GOLDEN / 't5x_1_1/orbax/checkpoint_0'
  for folder in ('', 'state'):
    names = {p.name for p in (upstream / folder).iterdir()}
    assert names <= {p.name for p in (path / folder).iterdir()}
  tree = orbax.read(str(path))
  assert set(tree) == {'target', 'state'}
  assert set(tree['state']) == {'step', 'param_states'}


@pytest.mark.parametrize(
  'cls', [checkpoints.Checkpointer, checkpoints.OrbaxCheckpointManagerInterface]
)
def test_what_is_not_supported_says_so(tmp_path, run, cls):
  _, partitioner, state = run
  place = 'directory' if 'Orbax' in cls.__name__ else 'checkpoints_dir'
  saver = cls(
    **{place: str(tmp_path)}, train_state=state, partitioner=partitioner
  )
  with pytest.raises(UserError, match=r'Mesh TensorFlow .* not supported'):
    saver.restore_from_tf_checkpoint('gs://t5-data/x')
  with pytest.raises(UserError, match=r"such as 'float32'.*found 'float31'"):
    cls(
      **{place: str(tmp_path)},
      train_state=state,
      partitioner=partitioner,
      restore_dtype='float31',
    )


def test_abstract_states_hold_no_arrays(run):
  _, partitioner, state = run
  abstract = restore.abstract_state(state, partitioner)
  kinds = {type(leaf) for leaf in jax.tree.leaves(abstract)}
  assert kinds == {jax.ShapeDtypeStruct}
