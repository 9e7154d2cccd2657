"""Tests of the beginning of a run's process, with processes that sleep."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from tests.dss_jax.study import commands

_LAUNCHER = [sys.executable, '-m', 'dss_jax.study.running.launcher']
_ROOT = pathlib.Path(__file__).parents[4]
# Writes its number and its cores, then sleeps.
_SLEEP = (
  'import os, sys, time;'
  " open(sys.argv[1], 'w').write(f'{os.getpid()} {os.sched_getaffinity(0)}.');"
  ' time.sleep(60)'
)
# Starts a launcher as its child and waits for it.
_PARENT = (
  'import json, os, subprocess, sys;'
  " options = json.loads(sys.argv[1]) | {'parent': os.getpid()};"
  ' subprocess.run([*sys.argv[2:-4], json.dumps(options), *sys.argv[-4:]])'
)


def _command(tmp_path, name, cores=None, parent=None):
  options = {
    'parent': parent or os.getpid(),
    'lock': str(tmp_path / 'lock'),
    'cores': cores,
  }
  return [
    *_LAUNCHER,
    json.dumps(options),
    *(sys.executable, '-c', _SLEEP, str(tmp_path / name)),
  ]


def _wait_for(path):
  def whole():
    return path.exists() and path.read_text().endswith('.')

  commands.until(whole, 30)
  return path.read_text()


def test_it_becomes_the_command_on_its_cores(tmp_path):
  core = min(os.sched_getaffinity(0))
  process = subprocess.Popen(_command(tmp_path, 'one', [core]), cwd=_ROOT)
  try:
    assert _wait_for(tmp_path / 'one') == f'{process.pid} {{{core}}}.'
  finally:
    process.kill()
    process.wait()


def test_a_folder_is_one_process_s_at_a_time(tmp_path):
  first = subprocess.Popen(_command(tmp_path, 'one'), cwd=_ROOT)
  try:
    _wait_for(tmp_path / 'one')
    second = subprocess.Popen(
      _command(tmp_path, 'two'), cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
      assert 'waiting for its end' in second.stdout.readline()
      time.sleep(0.5)
      assert not (tmp_path / 'two').exists()
      first.send_signal(signal.SIGKILL)
      first.wait()
      assert _wait_for(tmp_path / 'two').startswith(f'{second.pid} ')
    finally:
      second.kill()
      second.wait()
      second.stdout.close()
  finally:
    first.kill()
    first.wait()


def test_it_ends_with_its_parent_however_that_ends(tmp_path):
  *launcher, options, python, flag, code, path = _command(tmp_path, 'one')
  parent = subprocess.Popen(
    [
      *(sys.executable, '-c', _PARENT, options),
      *(*launcher, python, flag, code, path),
    ],
    cwd=_ROOT,
  )
  number = int(_wait_for(tmp_path / 'one').split()[0])
  assert number != parent.pid
  parent.send_signal(signal.SIGKILL)
  parent.wait()

  def gone():
    try:
      # Whoever adopts it may be slow to collect it.
      stat = pathlib.Path(f'/proc/{number}/stat').read_text()
    except FileNotFoundError:
      return True
    return stat.rpartition(')')[2].split()[0] == 'Z'

  commands.until(gone, 5)


def test_without_its_parent_it_does_not_begin(tmp_path):
  process = subprocess.run(
    _command(tmp_path, 'one', parent=1 if os.getpid() != 1 else 2), cwd=_ROOT
  )
  assert process.returncode == -signal.SIGKILL
  assert not (tmp_path / 'one').exists()
