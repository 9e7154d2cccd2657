"""A study that is killed again and again ends in the same bits."""

import json
import os
import signal

import jax
import numpy as np
import pytest

from dss_jax.study import results
from t5x import checkpoints
from tests.dss_jax.study import commands

pytestmark = pytest.mark.slow

_STEPS = 100
_GRID = (
  *('cqa', '--methods', 'dss,shuffled', '--fractions', '0.5', '--seeds', '1'),
  *('--steps', str(_STEPS), '--set', 'SAVE_PERIOD=10'),
  *('--set', 'WARMUP_STEPS=10', '--set', 'EVAL_PERIOD=50'),
  *('--set', 'EVAL_NUM_EXAMPLES=40', '--set', 'EVAL_STEPS=2'),
)
_RUNS = 2


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  """The folder of a study that nobody disturbed."""
  folder = tmp_path_factory.mktemp('straight')
  code, out, error = commands.call(
    folder, *_GRID, '--out', 'out', '--workers', '2'
  )
  assert code == 0, out + error
  return folder / 'out'


def _rows(out):
  """The lines of results.jsonl, without what differs from run to run."""
  lines = (out / 'results.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  for row in rows:
    del row['seconds'], row['device'], row['commit']
    for name in ('MODEL_DIR', 'DATA'):
      row['settings'].pop(name, None)
  return rows


def _parameters(out):
  return {
    path.name: checkpoints.load_t5x_checkpoint(str(path), _STEPS)['target']
    for path in sorted((out / results.RUNS).iterdir())
  }


def _check_equal(found, expected):
  assert len(_rows(found)) == _RUNS
  assert _rows(found) == _rows(expected)
  ours, theirs = _parameters(found), _parameters(expected)
  assert list(ours) == list(theirs) and len(ours) == _RUNS
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def _saved(out):
  """The last saved step of each run, by its folder."""
  return {
    path: checkpoints.latest_step(str(path)) or 0
    for path in (out / results.RUNS).glob('*')
  }


def _running(out, before):
  """The process of a run that went on, has saved, and is not at its end.

  Args:
    out: the study's folder.
    before: from `_saved`.
  """
  for path, step in _saved(out).items():
    if before.get(path, 0) < step < _STEPS:
      number = _trainer_of(out, path)
      if number is not None:
        return number
  return None


def _kill(number):
  print(f'kill -9 {number}', flush=True)
  os.kill(number, signal.SIGKILL)


def _trainer_of(out, path):
  for number in commands.trainers(out):
    with open(f'/proc/{number}/cmdline', 'rb') as f:
      if f"{path}'" in f.read().decode():
        return number
  return None


def test_kills_of_driver_and_runs_change_no_bit(straight, tmp_path):
  out = tmp_path / 'out'
  arguments = [*_GRID, '--out', 'out', '--workers', '2']
  for _ in range(2):
    before = _saved(out)
    process = commands.start(tmp_path, arguments)
    commands.until(lambda: _running(out, before))  # noqa: B023
    _kill(process.pid)
    process.wait()
    # What it started has ended with it.
    commands.until(lambda: not commands.trainers(out), 5)
  before = _saved(out)
  process = commands.start(tmp_path, arguments)
  _kill(commands.until(lambda: _running(out, before)))
  assert process.wait() == 0, (tmp_path / 'study.log').read_text()
  assert 'it is started again' in (tmp_path / 'study.log').read_text()
  _check_equal(out, straight)


def test_kills_on_a_dask_cluster_change_no_bit(straight, tmp_path):
  distributed = pytest.importorskip('distributed')
  out = tmp_path / 'out'
  with commands.dask(tmp_path, workers=2) as address:
    arguments = [
      *_GRID,
      *('--out', 'out', '--scheduler', address, '--resources', 'RUN=1'),
    ]
    # The driver: what it had begun ends, since nobody waits for it.
    process = commands.start(tmp_path, arguments)
    commands.until(lambda: _running(out, {}))
    _kill(process.pid)
    process.wait()
    commands.until(lambda: not commands.trainers(out), 130)
    # A worker, with its run.
    before = _saved(out)
    process = commands.start(tmp_path, arguments)
    number = commands.until(lambda: _running(out, before))
    with open(f'/proc/{number}/stat') as f:
      parent = int(f.read().rpartition(')')[2].split()[1])
    with distributed.Client(address) as client:
      assert parent in client.run(os.getpid).values()
    _kill(parent)
    commands.until(lambda: number not in commands.trainers(out), 5)
    # A run.
    _kill(commands.until(lambda: _running(out, before)))
    assert process.wait() == 0, (tmp_path / 'study.log').read_text()
  _check_equal(out, straight)
