"""Configurations of saving and restoring: defaults, and what they make."""

import dataclasses
import pathlib

import pytest

from t5x import checkpoints
from t5x.errors import UserError
from tests.t5x.checkpoints import toy_runs


def _values(cfg):
  return {f.name: getattr(cfg, f.name) for f in dataclasses.fields(cfg)}


def test_defaults_are_those_of_t5x_and_otherwise_off():
  classes = {
    'checkpointer_cls': checkpoints.Checkpointer,
    'checkpoint_manager_cls': checkpoints.OrbaxCheckpointManagerInterface,
  }
  assert _values(checkpoints.SaveCheckpointConfig()) == {
    **classes,
    'dtype': 'float32',
    'period': None,
    'checkpoint_steps': None,
    'keep': None,
    'keep_dataset_checkpoints': None,
    'save_dataset': False,
    'state_transformation_fns': [],
    'base': None,
  }
  assert _values(checkpoints.RestoreCheckpointConfig('x')) == {
    **classes,
    'path': 'x',
    'mode': 'latest',
    'assignment_map': None,
    'strict': True,
    'fallback_to_scratch': False,
    'dtype': None,
    'restore_dataset': False,
    'state_transformation_fns': (),
    'base': None,
    'from_scratch': (),
  }
  assert _values(checkpoints.CheckpointConfig()) == {
    'save': None,
    'restore': None,
    'accept_other_run': False,
  }


@pytest.mark.parametrize('name', ['period', 'keep'])
def test_numbers_of_steps_and_checkpoints_are_positive(name):
  for value in (None, 1, 2):
    checkpoints.SaveCheckpointConfig(**{name: value})
  for value in (0, -1):
    with pytest.raises(UserError, match=f'{name}: expected .*found {value}'):
      checkpoints.SaveCheckpointConfig(**{name: value})


def test_paths_are_one_or_several_and_of_any_kind():
  def paths(path):
    return checkpoints.RestoreCheckpointConfig(path).paths

  assert paths(None) == []
  assert paths('a/b') == paths(pathlib.Path('a/b')) == ['a/b']
  assert paths(['a', pathlib.Path('b')]) == ['a', 'b']


def test_what_saves_is_that_of_the_layout_and_gets_all_options(tmp_path):
  _, partitioner, state = toy_runs.run()
  cfg = checkpoints.SaveCheckpointConfig(
    dtype='bfloat16', period=4, checkpoint_steps=[6], keep=2
  )
  saver = cfg.make_manager(str(tmp_path), state, partitioner)
  assert type(saver) is checkpoints.OrbaxCheckpointManagerInterface
  assert [s for s in range(1, 10) if saver.should_save(s)] == [4, 6, 8]
  legacy = cfg.make_manager(str(tmp_path), state, partitioner, use_orbax=False)
  assert type(legacy) is checkpoints.Checkpointer
  for step in (1, 2, 3):
    legacy.save(toy_runs.at(state, step))
  assert legacy.all_steps() == [2, 3]
  stored = checkpoints.load_t5x_checkpoint(str(tmp_path))
  assert stored['target']['norm']['scale'].dtype == 'bfloat16'


def test_what_restores_is_that_of_the_layout(tmp_path):
  _, partitioner, state = toy_runs.run()

  class Own(checkpoints.Checkpointer):
    pass

  def made(use_orbax=None, **options):
    cfg = checkpoints.RestoreCheckpointConfig(None, **options)
    flag = {} if use_orbax is None else {'use_orbax': use_orbax}
    return type(cfg.make_restorer(str(tmp_path), state, partitioner, **flag))

  orbax = checkpoints.OrbaxCheckpointManagerInterface
  assert made() is made(True) is orbax
  assert made(False) is checkpoints.Checkpointer
  assert made(checkpointer_cls=Own) is made(True, checkpointer_cls=Own) is Own


def test_rules_come_after_what_changes_the_state_and_drop_the_rest():
  model = {'target': {'a': 0}}
  stored = {'target': {'b': 1, 'c': 2}}

  def renamed(state, target_state, *, is_resuming):
    del is_resuming
    assert target_state is model
    return {'target': {'old': state['target']['b'], 'c': 2}}

  def changed(is_resuming=False, **options):
    cfg = checkpoints.RestoreCheckpointConfig(
      None, state_transformation_fns=[renamed], **options
    )
    state = stored
    for transform in checkpoints.transformations(cfg):
      state = transform(state, model, is_resuming=is_resuming)
    return state

  rules = [('target/a', 'target/old')]
  assert changed() == {'target': {'old': 1, 'c': 2}}
  assert changed(assignment_map=rules) == {'target': {'a': 1}}
  # The run's own checkpoint has the model's names, and must fit.
  resumed = changed(True, assignment_map=rules)
  assert resumed == {'target': {'old': 1, 'c': 2}}
  rules.append(('target/z', None))
  with pytest.raises(UserError, match='target/z'):
    changed(assignment_map=rules)
  assert changed(assignment_map=rules, strict=False) == {'target': {'a': 1}}
