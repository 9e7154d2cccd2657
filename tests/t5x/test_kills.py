"""A run that is killed again and again ends in the same bits."""

import random
import signal
import time

import jax
import numpy as np
import pytest

from t5x import checkpoints
from tests.t5x import small_run

_KILLS = 30
_STEPS = 120


def _start(folder):
  options = {
    'folder': str(folder),
    'total_steps': _STEPS,
    'period': 1,
    'keep': 3,
    'slow_steps': True,
    'snapshot_period': 0,
  }
  return small_run.start_process(options, f'{folder}.log')


def _latest(folder):
  return checkpoints.latest_step(folder) or 0


@pytest.mark.slow
def test_thirty_kills_change_no_bit(tmp_path):
  """Every step is saved, so that many a kill falls into a save.

  With each goes a snapshot of the input, from which the next start goes on.
  """
  rng = random.Random(0)
  folder, cut_short = tmp_path / 'run', 0
  for number in range(_KILLS):
    before, process = _latest(folder), _start(folder)
    while _latest(folder) == before:
      assert process.is_alive()
      time.sleep(0.05)
    time.sleep(rng.uniform(0, 1))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    saves = list(folder.glob('checkpoint_*tmp*'))
    cut_short += bool(saves)
    print(
      f'kill {number + 1}: complete up to {_latest(folder)},'
      f' cut short {len(saves)}',
      flush=True,
    )
  assert _latest(folder) < _STEPS, 'It ended before it was killed so often.'
  process = _start(folder)
  process.join()
  assert process.exitcode == 0
  print(f'{_KILLS} kills survived, {cut_short} of them during a save.')
  straight = tmp_path / 'straight'
  small_run.call(straight, total_steps=_STEPS, period=1000, devices=1)
  found, expected = (
    checkpoints.load_t5x_checkpoint(str(f), _STEPS) for f in (folder, straight)
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)
