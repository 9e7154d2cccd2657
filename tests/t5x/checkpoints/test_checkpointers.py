"""When checkpointers save, what they keep, and what they do as one of many."""

import logging
import pathlib
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging as absl_logging

from t5x import checkpoints
from t5x.checkpoints import integrity, manager
from t5x.errors import UserError
from tests import toy_model
from tests.t5x.checkpoints import toy_runs

LAYOUTS = toy_runs.LAYOUTS


@pytest.fixture
def run():
  return toy_runs.run()


def _with_position(saver):
  """The steps whose checkpoint still holds the position in the data."""
  folder = pathlib.Path(saver.directory)
  found = [*folder.glob('*/dataset/metadata'), *folder.glob('*/dataset.json')]
  return {p.relative_to(folder).parts[0].split('_')[1] for p in found}


def test_a_step_is_due_by_period_and_by_list(tmp_path, run):
  _, partitioner, state = run
  saver = toy_runs.manager(
    'orbax', tmp_path, state, partitioner, period=4, checkpoint_steps=[6]
  )
  assert [s for s in range(1, 10) if saver.should_save(s)] == [4, 6, 8]
  assert saver.save(toy_runs.at(state, 5), force=False) is False
  assert saver.save(toy_runs.at(state, 6), force=False) is True
  assert not saver.should_save(6) and saver.should_save(4)
  # A save is forced unless one says otherwise, before the last one, too.
  assert saver.save(toy_runs.at(state, 3)) is True
  saver.close()
  assert checkpoints.all_steps(str(tmp_path)) == [3, 6]
  # By default every step is due, and without a period none.
  every = toy_runs.manager('orbax', tmp_path, state, partitioner)
  assert [s for s in range(1, 5) if every.should_save(s)] == [1, 2, 4]
  none = toy_runs.manager('orbax', tmp_path, state, partitioner, period=None)
  assert not any(none.should_save(s) for s in range(1, 5))


def test_legacy_saves_only_what_is_not_saved(tmp_path, run):
  _, partitioner, state = run
  saver = toy_runs.manager('legacy', tmp_path, state, partitioner)
  assert saver.should_save(3) and saver.save(state, force=False) is True
  assert not saver.should_save(3) and saver.save(state) is False
  for number in (127, 129):
    with pytest.raises(UserError, match=f'concurrent_gb={number} is not'):
      saver.save(state, concurrent_gb=number)


def test_a_run_goes_on_while_it_is_saved(tmp_path, run, monkeypatch):
  """Else every save costs the time that it takes to write."""
  _, partitioner, state = run
  returned, seen = threading.Event(), []
  monkeypatch.setattr(
    integrity, 'write_checksums', lambda _: seen.append(returned.wait(5))
  )
  saver = toy_runs.manager('orbax', tmp_path, state, partitioner)
  saver.save(state)
  returned.set()
  saver.close()
  assert seen == [True]


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize(
  ('keep', 'expected'), [(0, []), (1, [3]), (2, [2, 3]), (9, [1, 2, 3])]
)
def test_only_the_last_positions_are_kept_if_asked(
  tmp_path, run, layout, keep, expected
):
  _, partitioner, state = run
  options = {'keep_dataset_checkpoints': keep}
  saver = toy_runs.manager(
    layout, tmp_path, state, partitioner, toy_model.Position(1), **options
  )
  for step in (1, 2, 3):
    saver.save(toy_runs.at(state, step))
  assert saver.all_steps() == [1, 2, 3]
  if layout == 'orbax' and not keep:
    expected = [3]  # It goes when another one is saved.
  assert _with_position(saver) == {*map(str, expected)}
  if layout == 'legacy':
    assert saver.all_dataset_checkpoint_steps() == expected
  if keep == 1:
    assert int(saver.restore(step=3).step) == 3
    with pytest.raises(UserError, match=r'checkpoint_2: .*no data position'):
      saver.restore(step=2)
  saver.close()


def test_legacy_goes_on_in_a_folder_of_orbax(tmp_path, run):
  _, partitioner, state = run
  first = toy_runs.manager(
    'orbax', tmp_path, state, partitioner, toy_model.Position(1)
  )
  for step in (1, 2):
    first.save(toy_runs.at(state, step))
  first.close()
  options = {'keep': 2, 'keep_dataset_checkpoints': 1}
  saver = toy_runs.manager(
    'legacy', tmp_path, state, partitioner, toy_model.Position(2), **options
  )
  saver.save(toy_runs.at(state, 3))
  assert saver.all_steps() == [2, 3]


def test_a_checkpoint_that_is_half_removed_does_not_count(
  tmp_path, run, monkeypatch
):
  _, partitioner, state = run
  saver = toy_runs.manager('legacy', tmp_path, state, partitioner, keep=1)
  saver.save(toy_runs.at(state, 1))

  def stop(*_, **__):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(shutil, 'rmtree', stop)
    with pytest.raises(KeyboardInterrupt):
      saver.save(toy_runs.at(state, 2))
  assert (tmp_path / 'checkpoint_1').exists()
  assert saver.all_steps() == [2]


def test_all_that_the_best_checkpointer_is_given_counts(tmp_path, run):
  _, partitioner, state = run
  options = {'metric_name_to_monitor': 'train/loss', 'base': 'elsewhere'}
  saver = checkpoints.SaveBestCheckpointer(
    state,
    partitioner,
    str(tmp_path),
    toy_model.Position(1),
    keep=1,
    save_dtype='float16',
    restore_dtype='bfloat16',
    keep_dataset_checkpoints=2,
    **options,
  )
  for step in (1, 2, 3):
    saver.save(toy_runs.at(state, step))
  # None has a value, so all stay.
  assert saver.all_steps() == [1, 2, 3]
  assert saver.all_dataset_checkpoint_steps() == [2, 3]
  stored = checkpoints.load_t5x_checkpoint(str(tmp_path))
  assert stored['target']['norm']['scale'].dtype == np.float16
  assert saver.restore().params['norm']['scale'].dtype == jnp.bfloat16
  assert saver._base == 'elsewhere'
  strict = checkpoints.SaveBestCheckpointer(
    state,
    partitioner,
    str(tmp_path),
    keep=1,
    keep_checkpoints_without_metrics=False,
    force_keep_period=2,
  )
  strict.save(toy_runs.at(state, 5))
  assert strict.all_steps() == [2, 5]


def test_checkpoints_without_a_value_stay_unless_told(tmp_path, run):
  _, partitioner, state = run
  options = {'keep': 1, 'metric_name_to_monitor': 'eval/loss'}
  for keeps in (True, False):
    folder = tmp_path / str(keeps)
    if not keeps:
      options['keep_checkpoints_without_metrics'] = False
    saver = toy_runs.manager('orbax', folder, state, partitioner, **options)
    for step in (1, 2):
      saver.save(toy_runs.at(state, step), metrics={'other': 3.0})
    assert saver.all_steps() == ([1, 2] if keeps else [2])
    saver.close()


@pytest.mark.parametrize('layout', LAYOUTS)
def test_process_0_alone_cleans_up_and_writes_what_is_one_for_all(
  tmp_path, run, monkeypatch, layout
):
  """Else processes remove and write the same files at the same time."""
  _, partitioner, state = run
  options = {'keep_dataset_checkpoints': 1}
  saver = toy_runs.manager(
    layout, tmp_path, state, partitioner, toy_model.Position(1), **options
  )
  saver.save(toy_runs.at(state, 1))
  saver.wait_until_finished()
  left = tmp_path / 'checkpoint_9.legacy-tmp'
  left.mkdir()
  monkeypatch.setattr(manager, 'jax', toy_runs.AsProcess(1))
  saver.save(toy_runs.at(state, 2))
  saver.close()
  assert left.exists()
  assert _with_position(saver) == {'1', '2'}
  if layout == 'orbax':
    assert (tmp_path / 'checkpoint_1/checksums.json').exists()
    assert not (tmp_path / 'checkpoint_2/checksums.json').exists()
  monkeypatch.setattr(manager, 'jax', jax)
  saver.save(toy_runs.at(state, 3))
  saver.close()
  assert left.exists() == (layout == 'orbax')
  assert _with_position(saver) == {'3'}


def test_a_traceback_of_orbax_is_no_news(tmp_path, run):
  """What failed is told once, by who waits for it."""
  _, partitioner, state = run
  saver = toy_runs.manager('orbax', tmp_path, state, partitioner)
  saver.save(state)
  saver.close()

  def told(path, exception):
    record = logging.LogRecord(
      'absl', logging.ERROR, path, 1, 'failed', (), exception
    )
    return bool(absl_logging.get_absl_logger().filter(record))

  error = (ValueError, ValueError('x'), None)
  assert not told('/lib/orbax/checkpoint/manager.py', error)
  assert told('/lib/orbax/checkpoint/manager.py', None)
  assert told('/t5x/train.py', error)


def test_a_transformation_sees_where_each_array_lies(tmp_path, run):
  _, partitioner, state = run
  seen = []

  def look(stored, infos):
    seen.append((stored['target'], infos['target']))
    return stored, infos

  saver = toy_runs.manager('legacy', tmp_path, state, partitioner)
  saver.save(state, [look])
  ((stored, infos),) = seen
  for leaf, info in zip(*map(jax.tree.leaves, (stored, infos)), strict=True):
    assert (leaf.shape, leaf.dtype) == (info.shape, info.dtype)
    assert leaf.sharding == info.sharding is not None
