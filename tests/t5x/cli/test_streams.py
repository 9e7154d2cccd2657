"""A reader that leaves ends no run."""

import os
import subprocess
import sys

import pytest

_PROCESS = """
import sys
from t5x.cli import streams
if sys.argv[1] == 'forgiving':
  streams.forgive_closed()
for i in range(20_000):
  print('line', i)
print('done', file=sys.stderr)
"""


def _run(kind, stdout):
  with subprocess.Popen(
    [sys.executable, '-c', _PROCESS, kind],
    stdout=stdout,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    if process.stdout is not None:
      assert process.stdout.readline() == 'line 0\n'
      process.stdout.close()
    errors = process.stderr.read()
  return process.returncode, errors


def test_a_pipe_that_is_closed_ends_nothing():
  assert _run('forgiving', subprocess.PIPE) == (0, 'done\n')
  # What Python does by itself.
  code, errors = _run('plain', subprocess.PIPE)
  assert code != 0
  assert 'BrokenPipeError' in errors


@pytest.mark.skipif(
  not os.path.exists('/dev/full'), reason='needs a device that is full'
)
def test_a_file_on_a_full_disk_ends_nothing():
  with open('/dev/full', 'w') as full:
    assert _run('forgiving', full) == (0, 'done\n')
    assert _run('plain', full)[0] != 0


def test_what_can_be_written_is_written(tmp_path):
  path = tmp_path / 'out'
  with open(path, 'w') as out:
    assert _run('forgiving', out) == (0, 'done\n')
  lines = path.read_text().splitlines()
  assert lines == [f'line {i}' for i in range(20_000)]
