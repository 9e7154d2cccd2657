"""Which checkpoint a run goes on from, and what is put out of its way."""

import os
import pathlib

import jax
import pytest

from t5x import checkpoints, distributed
from t5x.checkpoints import locate, selection
from t5x.errors import UserError
from tests.t5x.checkpoints import toy_runs


def _run(folder, steps, incomplete=()):
  """A run's folder with complete checkpoints, and some that are not."""
  for step in (*steps, *incomplete):
    path = folder / f'checkpoint_{step}'
    path.mkdir(parents=True)
    name = 'checkpoint' if step in steps else 'target.a'
    (path / name).touch()
  return str(folder)


@pytest.fixture(name='barriers')
def barriers_fixture(monkeypatch, tmp_path):
  """What is in the run's folder each time that processes wait for others."""
  seen = []
  monkeypatch.setattr(
    distributed,
    'sync_global_devices',
    lambda name: seen.append(sorted(os.listdir(tmp_path))),
  )
  return seen


def test_all_that_is_incomplete_is_set_aside_and_the_rest_left(
  tmp_path, barriers, caplog
):
  folder = _run(tmp_path, (2, 4), (1, 3, 5))
  (tmp_path / 'checkpoint_x').mkdir()
  before = sorted(os.listdir(folder))
  checkpoints.set_incomplete_aside(folder)
  after = sorted(
    ['checkpoint_2', 'checkpoint_4', 'checkpoint_x']
    + [f'damaged-checkpoint_{i}' for i in (1, 3, 5)]
  )
  assert sorted(os.listdir(folder)) == after
  for step in (1, 3, 5):
    assert f'Set aside as {folder}/damaged-checkpoint_{step}' in caplog.text
  # All look at the folder before one changes it, and go on when it has.
  assert barriers == [before, after]


def test_a_run_that_has_nothing_complete_is_left_as_it_is(tmp_path):
  folder = _run(tmp_path / 'run', (), (1,))
  with pytest.raises(UserError, match=f'{folder}/checkpoint_1: this T5X legac'):
    checkpoints.set_incomplete_aside(folder)
  assert os.listdir(folder) == ['checkpoint_1']
  checkpoints.set_incomplete_aside(str(tmp_path / 'none'))
  checkpoints.set_incomplete_aside('gs://nobody/none')


def test_the_one_before_a_damaged_checkpoint_is_taken(
  tmp_path, barriers, caplog
):
  folder = _run(tmp_path, (2, 4, 6, 8))
  before = sorted(os.listdir(folder))
  path = f'{folder}/checkpoint_6'
  assert checkpoints.last_before(f'{path}/', None) == f'{folder}/checkpoint_4'
  after = sorted(os.listdir(folder))
  assert locate.all_steps(folder) == [2, 4, 8]
  assert 'damaged-checkpoint_6' in after
  assert barriers == [before, after]
  assert f'{path}/: damaged, as another process found.' in caplog.text
  assert 'going on from step 4' in caplog.text
  caplog.clear()
  damage = UserError('a bit is wrong.')
  assert checkpoints.last_before(f'{folder}/checkpoint_4', damage) == (
    f'{folder}/checkpoint_2'
  )
  assert 'a bit is wrong. Set aside' in caplog.text


def test_without_one_before_it_a_damaged_checkpoint_is_an_error(tmp_path):
  folder = _run(tmp_path, (2, 4))
  with pytest.raises(UserError, match=r'wrong\. The run has no') as raised:
    checkpoints.last_before(f'{folder}/checkpoint_2', UserError('wrong.'))
  assert isinstance(raised.value.__cause__, UserError)
  # One of another name has no step that others could be before.
  (tmp_path / 'best').mkdir()
  with pytest.raises(UserError, match='no other complete checkpoint'):
    checkpoints.last_before(f'{folder}/best', None)
  assert sorted(os.listdir(folder)) == ['best', 'checkpoint_2', 'checkpoint_4']


def test_process_0_alone_sets_aside(tmp_path, monkeypatch):
  """Else the second rename fails, or takes another checkpoint's name."""
  monkeypatch.setattr(selection, 'jax', toy_runs.AsProcess(1))
  assert selection.jax.tree is jax.tree
  folder = _run(tmp_path, (2, 4), (3,))
  checkpoints.set_incomplete_aside(folder)
  found = checkpoints.last_before(f'{folder}/checkpoint_4', None)
  assert pathlib.Path(found).name == 'checkpoint_2'
  assert sorted(os.listdir(folder)) == [
    'checkpoint_2',
    'checkpoint_3',
    'checkpoint_4',
  ]


def test_modes_choose_what_is_there(tmp_path):
  folder = _run(tmp_path, (2, 10, 9))
  find = checkpoints.get_first_valid_restore_config_and_paths

  def paths(path, mode):
    return find([checkpoints.RestoreCheckpointConfig(path, mode)])[1]

  steps = [f'{folder}/checkpoint_{step}' for step in (2, 9, 10)]
  assert paths(folder, 'all') == steps
  assert paths(folder, 'latest') == steps[-1:]
  assert paths(steps[0], 'specific') == steps[:1]
  for mode in ('latest', 'all'):
    with pytest.raises(UserError, match=f'one checkpoint, but mode is .{mode}'):
      paths(steps[0], mode)
  with pytest.raises(UserError, match='a folder of checkpoints'):
    paths(folder, 'specific')
