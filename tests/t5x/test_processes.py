"""Several processes train as one does, stop together, and none is left alone.

The processes are real; what they train needs no network, so that most of the
time goes into imports.
"""

import json
import os
import pathlib
import re
import signal
import socket
import time

import numpy as np
import pytest

from t5x import checkpoints, distributed, errors
from tests.t5x import small_run


def _port():
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def _start(folder, count=2, devices=2, last=None, **options):
  """Starts `count` processes of a small run; each logs to a file.

  `last` are options of the last process alone.
  """
  port = _port()
  started = []
  for i in range(count):
    given = {
      'folder': str(folder),
      'slow_steps': True,
      'snapshot_period': 0,
      **options,
      **((last or {}) if i == count - 1 else {}),
    }
    if count > 1:
      given['distributed'] = [f'localhost:{port}', count, i]
    started.append(small_run.start_process(given, f'{folder}-{i}.log', devices))
  return started


def _log(folder, i=0):
  path = pathlib.Path(f'{folder}-{i}.log')
  return path.read_text(encoding='utf-8') if path.exists() else ''


def _wait_for(folder, text, started, i=0):
  deadline = time.monotonic() + 300
  while text not in _log(folder, i):
    assert all(p.is_alive() for p in started), _log(folder, i)[-3000:]
    assert time.monotonic() < deadline
    time.sleep(0.1)


def _codes(started):
  for process in started:
    process.join()
  return [process.exitcode for process in started]


def _finish(folder, started):
  codes = _codes(started)
  assert not any(codes), '\n'.join(
    _log(folder, i)[-3000:] for i in range(len(started))
  )


def _parameters(folder, step):
  state = checkpoints.load_t5x_checkpoint(str(folder), step)
  return state['target']['table']


def test_two_processes_stop_together_and_one_goes_on_as_if_alone(tmp_path):
  """SIGTERM to one; then one process with as many devices takes over."""
  straight, folder = tmp_path / 'straight', tmp_path / 'run'
  small_run.call(straight, total_steps=60, devices=4, period=100)
  options = {'total_steps': 60, 'period': 100}
  started = _start(folder, count=2, devices=2, **options)
  _wait_for(folder, 'step 2\n', started)
  os.kill(started[1].pid, signal.SIGTERM)
  assert _codes(started) == [143, 143], _log(folder) + _log(folder, 1)
  (step,) = checkpoints.all_steps(folder)
  assert 2 <= step < 60
  saved = folder / f'checkpoint_{step}' / 'dataset'
  parts = sorted(path.name for path in saved.glob('part_*'))
  assert parts == ['part_0-of-2', 'part_1-of-2']
  for i in range(2):
    assert f'SIGTERM: stopped after step {step}.' in _log(folder, i)
  # Only the first process writes.
  assert len(list((folder / 'train').glob('events.*'))) == 1
  small_run.call(folder, devices=4, **options)
  expected, found = small_run.losses(straight), small_run.losses(folder)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(
    _parameters(folder, 60), _parameters(straight, 60), rtol=1e-5, atol=1e-6
  )


def test_two_processes_that_read_other_rows_end_before_the_first_step(tmp_path):
  """Equal in their number and lengths; the data's digests tell them apart."""
  folder = tmp_path / 'run'
  started = _start(folder, total_steps=4, last={'other_rows': True})
  assert _codes(started) == [2, 2], _log(folder) + _log(folder, 1)
  for i in range(2):
    assert 'The experiment of process 1 is not that of process 0' in (
      _log(folder, i)
    )
    assert re.search(
      r'process 1: "toy_backwards": "[0-9a-f]{16}"', _log(folder, i)
    )
    assert 'step 1\n' not in _log(folder, i)
  assert not checkpoints.all_steps(folder)


def _predictions(folder):
  found = {}
  for path in sorted((folder / 'inference_eval').glob('*.jsonl')):
    lines = path.read_text(encoding='utf-8').splitlines()
    found[path.name] = [json.loads(line) for line in lines]
  return found


@pytest.mark.slow
@pytest.mark.parametrize(
  ('count', 'devices', 'num_partitions', 'microbatches', 'data_shards'),
  [
    (2, 2, 1, None, 1),
    (2, 2, 1, 2, 4),
    (2, 4, 2, None, 1),
    (2, 2, 4, None, 1),
    (4, 2, 1, None, 4),
    (4, 2, 2, 2, 1),
    (4, 4, 4, None, 4),
  ],
)
def test_processes_train_and_evaluate_as_one_does(
  tmp_path, count, devices, num_partitions, microbatches, data_shards
):
  options = {
    'total_steps': 20,
    'batch_size': 16,
    'evaluate': True,
    'num_partitions': num_partitions,
    'num_microbatches': microbatches,
    'data_shards': data_shards,
    'slow_steps': False,
  }
  one, many = tmp_path / 'one', tmp_path / 'many'
  _finish(one, _start(one, 1, 1, **{**options, 'num_partitions': 1}))
  _finish(many, _start(many, count, devices, **options))
  losses = small_run.losses(one)
  assert len(losses) == 20
  np.testing.assert_allclose(small_run.losses(many), losses, rtol=1e-5)
  expected, found = _predictions(one), _predictions(many)
  assert expected.keys() == found.keys() and expected
  for name in expected:
    if name.endswith('-metrics.jsonl'):
      continue
    for mine, other in zip(found[name], expected[name], strict=True):
      assert mine.get('prediction') == other.get('prediction')


@pytest.mark.slow
def test_the_loss_of_one_process_ends_the_other_and_both_resume(tmp_path):
  straight, folder = tmp_path / 'straight', tmp_path / 'run'
  options = {'total_steps': 40, 'period': 2}
  small_run.call(straight, devices=4, **options)
  for victim in (1, 0):
    started = _start(folder, count=2, devices=2, **options)
    _wait_for(folder, 'step ', started)
    time.sleep(2)
    started[victim].kill()
    begin = time.monotonic()
    (code,) = _codes(started[1 - victim : 2 - victim])
    assert code
    seconds = time.monotonic() - begin
    print(f'Process {1 - victim} ended {seconds:.1f} s after the other.')
    print(_log(folder, 1 - victim)[-1500:])
    assert seconds < 60
  _finish(folder, _start(folder, count=2, devices=2, **options))
  for i in range(2):
    assert 'its snapshot is of no use' not in _log(folder, i)
  np.testing.assert_allclose(
    _parameters(folder, 40), _parameters(straight, 40), rtol=1e-5, atol=1e-6
  )


@pytest.mark.slow
@pytest.mark.parametrize('broken', [0, 1])
def test_an_exception_on_one_process_ends_the_other(tmp_path, broken):
  folder = tmp_path / 'run'
  started = _start(
    folder, total_steps=4000, period=1000, breaks={'process': broken, 'at': 3}
  )
  assert _codes([started[broken]]) == [1]
  begin = time.monotonic()
  assert _codes([started[1 - broken]]) != [0]
  assert time.monotonic() - begin < 60
  assert 'RuntimeError: broken on purpose' in _log(folder, broken)
  assert re.search(f'Process {broken} of 2 failed', _log(folder, broken))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('devices', 'num_partitions'), [(1, 1), (2, 1), (4, 2), (8, 4)]
)
def test_a_run_goes_on_with_other_devices_and_partitions(
  tmp_path, devices, num_partitions
):
  straight, folder = tmp_path / 'straight', tmp_path / 'run'
  small_run.call(straight, total_steps=12, devices=8, num_partitions=2)
  small_run.call(folder, total_steps=6, devices=8, num_partitions=2)
  small_run.call(
    folder, total_steps=12, devices=devices, num_partitions=num_partitions
  )
  np.testing.assert_allclose(
    small_run.losses(folder), small_run.losses(straight), rtol=1e-5
  )


def test_what_started_a_process_is_read_from_its_environment():
  cpu = {'JAX_PLATFORMS': 'cpu'}
  assert distributed.cluster(cpu) is None
  assert distributed.cluster({**cpu, 'SLURM_STEP_NUM_TASKS': '4'}) == 'Slurm'
  assert distributed.cluster({**cpu, 'SLURM_STEP_NUM_TASKS': '1'}) is None
  # The batch script itself, and not srun, sees this one.
  assert distributed.cluster({**cpu, 'SLURM_NTASKS': '4'}) is None
  assert distributed.cluster({**cpu, 'OMPI_COMM_WORLD_SIZE': '2'}) == 'Open MPI'


def test_a_process_number_that_does_not_exist_is_a_users_mistake():
  with pytest.raises(errors.UserError, match=r'0 to 1, .*found 2'):
    distributed.start('localhost:1234', 2, 2)
  with pytest.raises(errors.UserError, match=r'HOST:PORT.*found .localhost.'):
    distributed.start('localhost', 2, 0)
