"""Tests of the driver: whom a folder belongs to, and what it does next.

The pool is one whose workers are told how runs end; real ones are those of
`test_kills` and `test_command`.
"""

import io
import os
import subprocess
import sys

import pytest
import rich.console

from dss_jax import errors
from dss_jax.report import run_files
from dss_jax.study import driver, live_table, results
from dss_jax.study.running import execution, run_folder
from tests.dss_jax.study import commands, test_planned


class _Pool:
  """Ends each run at once, as a function says."""

  size = 1

  def __init__(self, out, end):
    self._out, self._end, self._ended, self.started = out, end, [], []

  def submit(self, job):
    self.started.append(job.name)
    folder = run_folder.RunFolder(self._out, job.name)
    folder.begin(job.token, {'device': 'd', 'versions': {}, 'commit': None})
    outcome = self._end(job.name, self.started.count(job.name))
    if not outcome.code:
      _finish(folder)
    folder.end(job.token, outcome.code)
    self._ended.append((job, outcome))

  def ended(self):
    found, self._ended = self._ended, []
    return found

  def stop(self):
    raise AssertionError('Nobody asked for it.')

  def close(self):
    pass


def _finish(folder):
  """Writes what a run leaves."""
  place = folder.path / 'inference_eval'
  place.mkdir(parents=True)
  for split in run_files.SPLITS:
    (place / f'cqa_label_{split}-metrics.jsonl').write_text(
      '{"step": 100, "accuracy": 50.0, "accuracy_low": 9.5,'
      ' "accuracy_high": 90.5}\n'
    )
    (place / f'cqa_label_{split}-000100.jsonl').write_text('{}\n{}\n')
  (folder.path / 'config.gin').write_text('A = 1\n')
  (folder.path / 'model-info.txt').write_text('Parameters: 1,000\n')


def _drive(out, runs, end):
  pool, shown = _Pool(out, end), io.StringIO()
  table = live_table.Table(
    out,
    {run.name: run for run in runs},
    1,
    rich.console.Console(file=shown, width=200),
  )
  ending = driver.Driver(out, runs, pool, table).drive()
  return ending, pool.started, shown.getvalue()


_RUNS = [
  test_planned._run(m, seed=s) for s in (0, 1) for m in ('finetune', 'dss')
]
_NAMES = [run.name for run in _RUNS]


def _well(name, count):
  return execution.Outcome(0)


def test_a_failed_run_does_not_end_the_others(tmp_path):
  def end(name, count):
    bad = name == 'dss_f1_s0'
    return execution.Outcome(3, 'x\x1b[31m[red]') if bad else _well(name, count)

  ending, started, shown = _drive(tmp_path, _RUNS, end)
  assert started == _NAMES
  assert ending.failed == {'dss_f1_s0': 'x\x1b[31m[red]'}
  assert [r.spec.name for r in ending.done] == [
    name for name in _NAMES if name != 'dss_f1_s0'
  ]
  assert 'dss_f1_s0: failed: x[red]' in shown
  assert '\x1b' not in shown
  # The same again does what is missing, and lines stay in the grid's order.
  ending, started, shown = _drive(tmp_path, _RUNS, _well)
  assert started == ['dss_f1_s0']
  assert '3 of 4 runs are done already' in shown
  assert [r.spec.name for r in results.read(tmp_path)] == _NAMES
  assert _drive(tmp_path, _RUNS, _well)[1] == []


def test_a_run_that_is_killed_starts_again_and_not_for_ever(tmp_path):
  def end(name, count):
    dies = name == 'dss_f1_s0' or (name == 'dss_f1_s1' and count == 1)
    return execution.Outcome(-9 if dies else 0, 'killed' if dies else '')

  ending, started, shown = _drive(tmp_path, _RUNS, end)
  assert started.count('dss_f1_s0') == 3
  assert started.count('dss_f1_s1') == 2
  assert list(ending.failed) == ['dss_f1_s0']
  assert shown.count('it is started again') == 3


def test_a_run_that_no_driver_lived_to_write_down_is_not_repeated(tmp_path):
  _drive(tmp_path, _RUNS, _well)
  (tmp_path / results.NAME).unlink()
  ending, started, _ = _drive(tmp_path, _RUNS, _well)
  assert started == []
  assert [r.spec.name for r in ending.done] == _NAMES


def test_more_runs_keep_those_that_are_there(tmp_path):
  _drive(tmp_path, _RUNS[2:], _well)
  _, started, _ = _drive(tmp_path, _RUNS, _well)
  assert started == _NAMES[:2]
  assert [r.spec.name for r in results.read(tmp_path)] == _NAMES


def test_a_run_without_its_evaluation_has_failed(tmp_path):
  def end(name, count):
    return _well(name, count)

  for run in _RUNS:
    folder = run_folder.RunFolder(tmp_path, run.name)
    folder.begin('a', {'device': 'd', 'versions': {}, 'commit': None})
    folder.end('a', 0)
  ending, started, _ = _drive(tmp_path, _RUNS, end)
  assert started == [] and list(ending.failed) == _NAMES
  assert 'expected an evaluation of the labels' in ending.failed['dss_f1_s0']


def test_a_second_driver_is_told_who_holds_the_folder(tmp_path):
  code = (
    'import sys, pathlib, time; from dss_jax.study import driver\n'
    'with driver.holding(pathlib.Path(sys.argv[1])):\n'
    '  print("held", flush=True); time.sleep(60)'
  )
  first = subprocess.Popen(
    [sys.executable, '-c', code, str(tmp_path)],
    stdout=subprocess.PIPE,
    env=commands.environment(tmp_path),
  )
  try:
    assert first.stdout.readline() == b'held\n'
    message = f'works in this folder .process {first.pid} on .* since 20'
    with (
      pytest.raises(errors.DataError, match=message),
      driver.holding(tmp_path),
    ):
      pass
  finally:
    first.kill()
    first.wait()
    first.stdout.close()
  with driver.holding(tmp_path):  # A kill leaves it to the next one.
    held = (tmp_path / 'study.lock').read_text()
    assert held.startswith(f'process {os.getpid()} on ')
