"""Restoring: what a state takes from where, and of which type."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import checkpoints
from t5x.checkpoints import restore
from t5x.errors import UserError
from tests import toy_model
from tests.t5x.checkpoints import toy_runs


@pytest.fixture(name='saved', scope='module')
def saved_fixture(tmp_path_factory):
  """Steps 3 and 4 of a run, its state and its partitioner."""
  folder = tmp_path_factory.mktemp('saved')
  _, partitioner, state = toy_runs.run()
  saver = toy_runs.manager('legacy', folder, state, partitioner)
  saver.save(state)
  saver.save(toy_runs.at(state, 4))
  return str(folder), state, partitioner


def test_the_last_step_is_restored_unless_one_says_another(saved):
  folder, state, partitioner = saved
  saver = toy_runs.manager('orbax', folder, state, partitioner)
  assert saver.latest_step() == 4
  assert [int(saver.restore(s).step) for s in (None, 3, 4)] == [4, 3, 4]
  elsewhere = toy_runs.manager('orbax', '/nowhere', state, partitioner)
  assert elsewhere.latest_step() is None
  assert int(elsewhere.restore(path=folder).step) == 4
  assert int(elsewhere.restore(path=f'{folder}/checkpoint_3').step) == 3


def test_a_runs_folder_is_the_same_wherever_one_goes(
  saved, tmp_path, monkeypatch
):
  _, state, partitioner = saved
  monkeypatch.chdir(tmp_path)
  saver = toy_runs.manager('legacy', 'run', state, partitioner)
  monkeypatch.chdir('/')
  saver.save(state)
  assert str(saver.directory) == f'{tmp_path}/run'
  assert saver.all_steps() == [3]
  remote = toy_runs.manager('legacy', 'gs://b/run', state, partitioner)
  assert str(remote.directory) == 'gs://b/run'


def test_restoring_waits_for_what_is_being_saved(saved):
  _, state, partitioner = saved

  class Slow(restore.Restorer):
    waited = 0

    def wait_until_finished(self):
      self.waited += 1

  slow = Slow('/nowhere', state, partitioner, None, None)
  with pytest.raises(UserError, match='no such folder'):
    slow.restore()
  assert slow.waited == 1


def test_parameters_alone_are_at_step_0(saved, tmp_path):
  _, state, partitioner = saved
  saver = toy_runs.manager('legacy', tmp_path, state, partitioner)
  saver.save(state, [lambda s, i: ({'target': s['target']}, i)])
  assert int(saver.restore().step) == 0


def test_a_fallback_may_hold_more_than_the_model(saved, caplog):
  folder, state, partitioner = saved
  saver = toy_runs.manager('legacy', folder, state, partitioner)

  def transform(stored, model, *, is_resuming):
    assert not is_resuming
    target = dict(stored['target'])
    target['unwanted'] = target.pop('norm')
    return {**stored, 'target': target}

  fallback = state.state_dict()
  scale = jnp.arange(8.0)
  fallback['target'] = {
    **fallback['target'],
    'norm': {'scale': scale},
    'further': {'scale': scale},
  }
  with caplog.at_level('INFO', 'absl'):
    restored = saver.restore(
      fallback_state=fallback, state_transformation_fns=[transform]
    )
  expected = {**state.params, 'norm': {'scale': scale}}
  jax.tree.map(np.testing.assert_array_equal, restored.params, expected)
  from_scratch = "From scratch, not from the checkpoint: ['target/norm/scale']"
  assert from_scratch in caplog.text
  caplog.clear()
  with caplog.at_level('INFO', 'absl'):
    saver.restore(fallback_state=fallback)
  assert 'From scratch' not in caplog.text


def test_what_is_no_parameter_and_not_the_optimizers_must_fit(saved):
  folder, state, partitioner = saved
  saver = toy_runs.manager('legacy', folder, state, partitioner)

  def transform(stored, model, *, is_resuming):
    return {**stored, 'state': {**stored['state'], 'step': np.zeros(2)}}

  with pytest.raises(UserError, match=r'leaf state/step has shape \(2,\)'):
    saver.restore(state_transformation_fns=[transform])


def test_only_floating_point_parameters_are_read_in_another_type(tmp_path):
  _, partitioner, state = toy_runs.run()

  def with_numbers(stored, infos):
    table = np.arange(3, dtype=np.int32)
    return {**stored, 'target': {**stored['target'], 'ids': table}}, infos

  saver = toy_runs.manager('legacy', tmp_path, state, partitioner)
  saver.save(state, [with_numbers])
  read = checkpoints.load_t5x_checkpoint(
    str(tmp_path), restore_dtype='bfloat16'
  )
  target = read['target']
  assert target['norm']['scale'].dtype == 'bfloat16'
  assert target['ids'].dtype == np.int32
  slots = jax.tree.leaves(read['state']['param_states'])
  assert {x.dtype for x in slots} == {np.dtype('f4'), np.dtype('i4')}
  whole = checkpoints.load_t5x_checkpoint(str(tmp_path))
  assert whole['target']['norm']['scale'].dtype == np.float32
  assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(whole))
  with pytest.raises(UserError, match='remap=False is not supported'):
    checkpoints.load_t5x_checkpoint(str(tmp_path), remap=False)


def test_numbers_without_a_type_have_one_on_the_devices():
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  plain = types.SimpleNamespace(
    shardings=lambda axes: axes,
    get_mesh_axes=lambda state: jax.tree.map(lambda _: sharding, state),
  )
  found = restore.abstract_state({'a': 3, 'b': np.ones(2, np.int8)}, plain)
  described = {k: (x.shape, x.dtype, x.sharding) for k, x in found.items()}
  assert described == {
    'a': ((), 'int32', sharding),
    'b': ((2,), 'int8', sharding),
  }


def test_a_state_without_an_optimizer_needs_none(saved):
  folder, state, _ = saved
  there, partitioner = toy_model.initializer(None)
  shape = there.global_train_state_shape
  found = toy_runs.manager('legacy', folder, shape, partitioner).restore()
  assert int(found.step) == 4
  jax.tree.map(np.testing.assert_array_equal, found.params, dict(state.params))
