"""Real processes train on the same steps, together, alone, and after a kill."""

import json
import os
import signal
import time

import pytest

from t5x import checkpoints, errors
from tests.dss_jax import step_run
from tests.t5x import small_run, test_processes

# Two epochs of 144 rows.
_STEPS = 18


def _counts(folder):
  path = folder / 'train' / 'metrics.jsonl'
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  names = ('labels', 'rationales', 'rows')
  by_step = {
    x['step']: tuple(x[n] for n in names) for x in lines if 'labels' in x
  }
  assert sorted(by_step) == list(range(1, _STEPS + 1))
  return by_step


def _start(folder, count):
  return test_processes._start(
    folder, count, 2 // count, module='tests.dss_jax.step_run',
    total_steps=_STEPS,
  )  # fmt: skip


@pytest.mark.slow
def test_two_processes_and_one_after_a_kill_have_the_same_steps(tmp_path):
  straight, folder = tmp_path / 'straight', tmp_path / 'run'
  step_run.call(straight, total_steps=_STEPS, devices=2)
  started = _start(folder, 2)
  test_processes._wait_for(folder, 'step 7\n', started)
  while not checkpoints.all_steps(folder):
    time.sleep(0.1)
  for process in started:
    os.kill(process.pid, signal.SIGKILL)
  assert test_processes._codes(started) == [-signal.SIGKILL] * 2
  assert max(checkpoints.all_steps(folder)) < _STEPS
  test_processes._finish(folder, _start(folder, 1))
  counts = _counts(folder)
  assert counts == _counts(straight)
  assert {labels for labels, *_ in counts.values()} == {16}
  # Blank rationales and all, twice.
  rationales = sum(count for _, count, _ in counts.values())
  assert 250 < rationales <= 288


def test_a_folder_goes_on_with_its_own_label_examples_a_step(tmp_path):
  folder = tmp_path / 'run'
  step_run.call(folder, total_steps=2)
  with pytest.raises(
    errors.UserError,
    match='batch_size: 16 label examples there, 8 label examples here',
  ):
    step_run.call(folder, 8, total_steps=4)
  with pytest.raises(errors.UserError, match=r'batch_size: 16 label .* 8 here'):
    small_run.call(folder, total_steps=4)
  # Other devices have other rows, and the same steps.
  step, _ = step_run.call(folder, total_steps=4, devices=2)
  assert step == 4
