"""Tests of t5x.train: no steps left, actions, failed evaluations, writers."""

import gc
import json
import re

import numpy as np
import pytest
import seqio

from t5x import checkpoints, trainer
from t5x.errors import UserError
from t5x.files import folder_lock
from tests.t5x import small_run


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The folder of a run of four steps."""
  folder = tmp_path_factory.mktemp('finished')
  assert small_run.call(folder, total_steps=4, devices=1)[0] == 4
  return folder


def _from(folder):
  return checkpoints.RestoreCheckpointConfig(
    path=str(folder / 'checkpoint_4'), mode='specific'
  )


@pytest.mark.parametrize(
  'steps',
  [
    {'total_steps': 3},
    {'total_steps': 4},
    {'total_steps': 9, 'relative_steps': 0},
  ],
  ids=str,
)
def test_an_initial_checkpoint_that_leaves_no_step_is_refused(
  steps, finished, tmp_path
):
  message = (
    r'checkpoint_4: this initial checkpoint is at step 4, .* the last step is'
    r' [34]: .*Set TRAIN_STEPS \(train\.total_steps\) above 4, or'
    r' TRAIN_STEPS_RELATIVE \(train\.relative_steps\) to'
  )
  with pytest.raises(UserError, match=message):
    small_run.call(tmp_path, devices=1, restore=_from(finished), **steps)
  assert not list(tmp_path.glob('checkpoint_*'))


def test_an_initial_checkpoint_is_trained_on_for_relative_steps(
  finished, tmp_path, capsys
):
  options = {'devices': 1, 'restore': _from(finished), 'relative_steps': 2}
  step, _ = small_run.call(tmp_path, total_steps=1, **options)
  assert step == 6
  assert 'this run is done' not in capsys.readouterr().err
  # The initial checkpoint doesn't count in a folder that has its own.
  step, _ = small_run.call(tmp_path, total_steps=1, **options)
  assert step == 6
  printed = capsys.readouterr().err
  assert 'this run is done: it is at step 6, and by TRAIN_STEPS_REL' in printed


def test_a_finished_run_says_that_it_is_done(finished, capsys):
  step, state = small_run.call(finished, total_steps=4, devices=1)
  assert step == int(state.step) == 4
  assert re.search(
    rf'{finished}: this run is done: it is at step 4, and by TRAIN_STEPS'
    r' \(train\.total_steps\) the last step is 4\. To go on with it, give more'
    r' steps; to train again, give another MODEL_DIR\.',
    capsys.readouterr().err,
  )


class _FailsOnce(seqio.JSONLogger):
  """Fails where the metrics of a step are computed, the first time."""

  failed = False

  def __call__(self, *, step, **results):
    if step == 4 and not type(self).failed:
      type(self).failed = True
      raise RuntimeError('a prediction that no one expected')
    super().__call__(step=step, **results)


@pytest.mark.parametrize('total_steps', [4, 8])
def test_an_evaluation_whose_metrics_fail_is_repeated(
  total_steps, tmp_path, monkeypatch
):
  """At the end of a run, and in the middle, where training went on."""
  monkeypatch.setattr(_FailsOnce, 'failed', False)
  options = {
    'total_steps': total_steps,
    'eval_period': 4,
    'evaluate': True,
    'devices': 1,
    'logger_cls': [_FailsOnce],
  }
  with pytest.raises(ValueError, match='a prediction that no one expected'):
    small_run.call(tmp_path, **options)
  # A later checkpoint would be one that never evaluates step 4.
  assert max(checkpoints.all_steps(tmp_path)) == 4
  assert not (tmp_path / 'evaluated_step').exists()
  small_run.call(tmp_path, **options)
  path = tmp_path / 'inference_eval' / 'toy_backwards-metrics.jsonl'
  lines = path.read_text(encoding='utf-8').splitlines()
  steps = [json.loads(line)['step'] for line in lines]
  assert steps == list(range(4, total_steps + 1, 4))
  assert (tmp_path / 'evaluated_step').read_text().strip() == str(total_steps)


def test_a_folder_that_another_process_trains_in_is_refused(tmp_path):
  (tmp_path / 'config.gin').write_text('# of the other run')
  with (
    folder_lock.writing(str(tmp_path)),
    pytest.raises(UserError, match='no other process writes to'),
  ):
    small_run.call(
      tmp_path,
      total_steps=4,
      devices=1,
      summarize_config_fn=lambda *_: pytest.fail('wrote its configuration'),
    )
  assert [path.name for path in tmp_path.iterdir()] == ['config.gin']


class _Notes(trainer.BaseAction):
  """Notes what it is called with, and asks the run to stop at a step."""

  def __init__(self, stop_at=0):
    self.stop_at, self.steps, self.found = stop_at, [], {}

  def run(self, train_state, metrics_by_task):
    self.steps.append(int(train_state.step))
    self.found = metrics_by_task
    return self.steps[-1] == self.stop_at


def test_a_run_that_an_action_stops_is_saved_and_evaluated(tmp_path):
  """Garbage is collected every second step, and at no other time."""
  trained, measured, inferred = _Notes(3), _Notes(), _Notes()
  collected = []

  def note(phase, info):
    del info
    if phase == 'start' and not gc.isenabled():
      collected.append(trained.steps[-1])

  def doubled(state_dict, infos):
    target = {'table': 2 * state_dict['target']['table']}
    return {**state_dict, 'target': target}, infos

  gc.callbacks.append(note)
  try:
    step, state = small_run.call(
      tmp_path,
      total_steps=9,
      period=100,
      evaluate=True,
      devices=1,
      gc_period=2,
      transformations=[doubled],
      actions={
        'TRAIN': [trained],
        'TRAIN_EVAL': [measured],
        'INFER_EVAL': [inferred],
      },
    )
  finally:
    gc.callbacks.remove(note)
  assert step == 3 and checkpoints.all_steps(tmp_path) == [3]
  saved = checkpoints.load_t5x_checkpoint(str(tmp_path), 3)['target']
  np.testing.assert_array_equal(saved['table'], 2 * state.params['table'])
  assert trained.steps == [1, 2, 3]
  assert measured.steps == inferred.steps == [3]
  assert 'loss' in trained.found['train']
  for notes in (measured, inferred):
    (values,) = notes.found.values()
    assert values
  assert collected == [2]
  assert gc.isenabled()
