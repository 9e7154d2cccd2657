"""The first line of each command: it comes before anything slow is loaded."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_ENGINE = '--gin_file=gin/dss_cqa.gin'


def _seconds(process: int) -> float:
  """Returns the CPU time of a process and of those that it has waited for."""
  text = pathlib.Path(f'/proc/{process}/stat').read_text()
  ticks = text.rpartition(')')[2].split()[11:15]
  return sum(map(int, ticks)) / os.sysconf('SC_CLK_TCK')


@pytest.mark.parametrize(
  ('command', 'expected'),
  [
    ('dss train cqa --out runs/a', 'Training on cqa (sample)'),
    ('dss check cqa', 'Checking cqa (sample)'),
    ('dss study cqa --out studies/a', 'A study of cqa in'),
    ('dss ask runs/a question', 'Loading runs/a'),
    ('dss export runs/a student', 'Exporting runs/a to student'),
    ('dss data inspect sample', 'Looking at sample'),
    ('dss data prepare sample', 'Preparing sample'),
    (f'dss plan --topology v5e:2x2 {_ENGINE}', 'A plan for v5e:2x2'),
    (f'python -m t5x.train {_ENGINE}', "gin/dss_cqa.gin, DATA 'sample'"),
  ],
)
def test_a_command_says_at_once_what_it_is_about_to_do(
  command, expected, tmp_path
):
  program, *words = command.split()
  words = ['-m', 'dss_jax.cli', *words] if program == 'dss' else words
  process = subprocess.Popen(
    [sys.executable, *words],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(_ROOT)},
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    # The programs that it starts have to end with it.
    start_new_session=True,
  )
  try:
    line = process.stdout.readline()
    seconds = _seconds(process.pid)
  finally:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
  assert line.decode().startswith(expected)
  # On a machine that does nothing else, about as long by the clock.
  assert seconds < 2
