"""Runs that train adapters: what they save, kills, and several processes."""

import signal
import socket
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


def run_processes(folder, base, count, devices, **options):
  """Runs one training in `count` processes; all must end well."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = s.getsockname()[1]
  logs = [folder.parent / f'{folder.name}-{i}.log' for i in range(count)]
  given = {
    'module': 'tests.t5x.adapter_run', 'base': base, 'folder': str(folder),
    **options,
  }  # fmt: skip
  started = [
    adapter_run.small_run.start_process(
      given | {'distributed': [f'localhost:{port}', count, i]}
      if count > 1
      else given,
      log,
      devices,
    )
    for i, log in enumerate(logs)
  ]
  for process in started:
    process.join()
  assert not any(process.exitcode for process in started), '\n'.join(
    log.read_text()[-3000:] for log in logs
  )


@pytest.mark.slow
@pytest.mark.parametrize('num_partitions', [1, 2])
def test_two_processes_train_and_resume_adapters_as_one_does(
  tmp_path, num_partitions
):
  base = adapter_run.make_base(tmp_path / 'base')
  one, two = tmp_path / 'one', tmp_path / 'two'
  options = {'period': 4, 'num_partitions': num_partitions}
  run_processes(one, base, 1, 4, total_steps=8, **options)
  for steps in (4, 8):
    run_processes(two, base, 2, 2, total_steps=steps, **options)
  losses = adapter_run.small_run.losses(one)
  assert len(losses) == 8
  found_losses = adapter_run.small_run.losses(two)
  np.testing.assert_allclose(found_losses, losses, rtol=1e-5)
  # Each has what was trained, and takes the rest from the same base.
  saved = flat(orbax.read(str(two / 'checkpoint_8'))['target'])
  assert saved and all('/lora/' in name for name in saved)
  assert checkpoints.base_of(two / 'checkpoint_8') == base
  found, expected = (
    flat(checkpoints.load_t5x_checkpoint(str(f), 8)['target'])
    for f in (two, one)
  )
  assert found.keys() == expected.keys()
  for name, leaf in found.items():
    if name in saved:
      size = np.abs(expected[name]).max()
      np.testing.assert_allclose(
        leaf, expected[name], rtol=0, atol=1e-4 * size, err_msg=name
      )
    else:
      np.testing.assert_array_equal(leaf, expected[name], err_msg=name)
