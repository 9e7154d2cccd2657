"""`dss study` and Dask as processes, to be killed."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

_ROOT = pathlib.Path(__file__).parents[3]


def environment(folder):
  """Returns the environment of a user's shell, with data below a folder."""
  kept = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  return kept | {
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(_ROOT),
    'TFDS_DATA_DIR': str(folder / 'tfds'),
  }


def start(folder, arguments):
  """Starts `dss study`; its output goes to a file in the folder."""
  with (folder / 'study.log').open('ab') as log:
    return subprocess.Popen(
      [sys.executable, '-m', 'dss_jax.cli', 'study', *arguments],
      stdout=log,
      stderr=subprocess.STDOUT,
      cwd=folder,
      env=environment(folder),
    )


def call(folder, *arguments):
  """Runs `dss study`; returns exit code, standard output and error."""
  done = subprocess.run(
    [sys.executable, '-m', 'dss_jax.cli', 'study', *arguments],
    capture_output=True,
    text=True,
    cwd=folder,
    env=environment(folder),
  )
  return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def dask(folder, workers):
  """Yields the address of a scheduler, whose workers are processes.

  Each worker has one core, as those of `--workers` do on two cores: the number
  of cores decides in which order numbers are added.
  """
  file = folder / 'scheduler.json'
  common = ('--no-dashboard', '--scheduler-file', str(file))
  cores = sorted(os.sched_getaffinity(0))
  commands = [
    ('scheduler', '--host', '127.0.0.1', '--port', '0', *common),
    *[
      ('worker', '--nthreads', '1', '--resources', 'RUN=1', *common)
      for _ in range(workers)
    ],
  ]
  processes = []
  try:
    for n, command in enumerate(commands):
      with (folder / f'dask_{n}.log').open('wb') as log:
        processes.append(
          subprocess.Popen(
            [
              *('taskset', '-c', str(cores[n % len(cores)])),
              *(sys.executable, '-m', 'dask', *command),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(folder),
            cwd=folder,
          )
        )
    until(lambda: file.exists() and file.read_text().endswith('}'), 60)
    yield json.loads(file.read_text())['address']
  finally:
    for process in reversed(processes):
      process.terminate()
    for process in processes:
      process.wait(60)


def until(condition, seconds=600):
  """Waits until a condition is true; returns its value."""
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    value = condition()
    if value:
      return value
    time.sleep(0.02)
  raise AssertionError(f'Not true after {seconds} s: {condition}')


def trainers(out):
  """Returns the numbers of the processes that train below a folder."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):
      command = (path / 'cmdline').read_bytes().decode()
      if 't5x.train' in command and f"'{out}/runs/" in command:
        found.append(int(path.name))
  return found
