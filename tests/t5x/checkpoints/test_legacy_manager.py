"""T5X's manager from before Orbax passes on what it is given."""

import jax
import numpy as np
import pytest

from t5x import checkpoints
from t5x.errors import UserError
from tests.t5x.checkpoints import toy_runs


class _Told(checkpoints.Checkpointer):
  """Restores nothing, but says where from."""

  def restore(self, **options):
    return str(self.directory), options['path']


class _Never(checkpoints.OrbaxCheckpointManagerInterface):
  def restore(self, **options):
    raise AssertionError('the manager of another layout')


def _manager(state, partitioner, **options):
  return checkpoints.LegacyCheckpointManager(
    restore_cfg=checkpoints.RestoreCheckpointConfig(path=None, **options),
    train_state_shape=state,
    partitioner=partitioner,
  )


def test_what_restores_is_that_of_the_folder_and_the_layout(
  tmp_path, monkeypatch
):
  _, partitioner, state = toy_runs.run()
  told = _manager(state, partitioner, checkpointer_cls=_Told)
  path = f'{tmp_path}/run/checkpoint_3'
  assert told.restore([path]) == (f'{tmp_path}/run', path)
  assert told.restore([f'{path}/']) == (f'{tmp_path}/run', f'{path}/')
  monkeypatch.chdir(tmp_path)
  assert told.restore(['checkpoint_3']) == (str(tmp_path), 'checkpoint_3')
  other = checkpoints.RestoreCheckpointConfig(None, checkpointer_cls=_Told)
  never = _manager(state, partitioner, checkpoint_manager_cls=_Never)
  assert never.restore([path, path], other) == [(f'{tmp_path}/run', path)] * 2
  # Legacy, whatever the manager of Orbax is.
  with pytest.raises(UserError, match='no such folder'):
    never.restore([path])
  for cfg in (None, other):
    with pytest.raises(UserError, match=r'expected paths and .*found \[\] and'):
      never.restore([], cfg)


def test_fallback_values_fill_in(tmp_path):
  initializer, partitioner, state = toy_runs.run()
  toy_runs.manager('legacy', tmp_path, state, partitioner).save(state)
  fresh = initializer.from_scratch(jax.random.key(5))
  manager = _manager(
    state, partitioner, assignment_map=[('target/norm/.*', None)]
  )
  path = str(tmp_path / 'checkpoint_3')
  with pytest.raises(UserError, match='lacks the leaf target/norm/scale'):
    manager.restore([path])
  found = manager.restore([path], fallback_state=fresh.state_dict()).params
  expected = {**state.params, 'norm': fresh.params['norm']}
  jax.tree.map(np.testing.assert_array_equal, found, expected)
