"""Runs that train adapters: what they save, and kills."""

import signal
import time

import jax
import numpy as np
import pytest
from flax import traverse_util

from t5x import checkpoints
from t5x.checkpoints.formats import orbax
from tests.t5x import adapter_run


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


def latest(folder):
  return checkpoints.latest_step(folder) or 0


@pytest.mark.slow
def test_a_run_that_is_killed_ends_in_the_same_bits(tmp_path):
  base = adapter_run.make_base(tmp_path / 'base')
  steps, folder = 16, tmp_path / 'run'
  options = {
    'module': 'tests.t5x.adapter_run', 'base': base, 'folder': str(folder),
    'total_steps': steps, 'period': 1, 'slow_steps': True, 'devices': 1,
  }  # fmt: skip
  for number in range(3):
    before = latest(folder)
    process = adapter_run.small_run.start_process(options, f'{folder}.log')
    while latest(folder) < before + 2:
      assert process.is_alive(), (tmp_path / 'run.log').read_text()[-3000:]
      time.sleep(0.05)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    print(f'kill {number + 1}: complete up to {latest(folder)}')
  assert latest(folder) < steps
  process = adapter_run.small_run.start_process(options, f'{folder}.log')
  process.join()
  assert process.exitcode == 0, (tmp_path / 'run.log').read_text()[-3000:]

  straight = tmp_path / 'straight'
  _, state = adapter_run.call(
    straight, base, total_steps=steps, period=steps, devices=1
  )
  found, expected = (
    checkpoints.load_t5x_checkpoint(str(f), steps) for f in (folder, straight)
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  params = flat(state.params)
  before = flat(checkpoints.load_t5x_checkpoint(base)['target'])
  saved = flat(orbax.read(str(straight / f'checkpoint_{steps}'))['target'])
  assert saved.keys() == {name for name in params if '/lora/' in name}
  for name, leaf in params.items():
    if name in saved:
      assert np.abs(leaf).max() > 0, name
    else:
      np.testing.assert_array_equal(leaf, before[name].astype(leaf.dtype))
  read = flat(expected['target'])
  assert read.keys() == params.keys()
