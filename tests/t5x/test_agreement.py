"""Processes that were not started alike end, all of them, and say why."""

import contextlib
import socket
import subprocess
import sys

import pytest

from t5x import distributed

# Like an entry point, without TensorFlow.
_PROCESS = """
import os, sys
from t5x import distributed, gin_utils
port, count, index, start_seconds, text = sys.argv[1:]
distributed.START_SECONDS = float(start_seconds)
distributed._PATIENCE_SECONDS = 1
with distributed.failures_end_all(), gin_utils.user_errors_end_the_process():
  distributed.start(f'localhost:{port}', int(count), int(index))
  distributed.check_agreement('configuration', text)
  print('agreed')
"""
_SAME = 'a = 1\nb = 2\n'


def _codes_and_texts(*processes, start_seconds=60):
  """Runs (count, index, text) each as a process, at the same time."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = s.getsockname()[1]
  with contextlib.ExitStack() as stack:
    started = []
    for arguments in processes:
      count, index, text = map(str, arguments)
      process = subprocess.Popen(
        [sys.executable, '-c', _PROCESS, str(port), count, index]
        + [str(start_seconds), text],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
      stack.callback(process.kill)
      started.append(process)
    texts = [process.communicate(timeout=120)[0] for process in started]
  return [process.returncode for process in started], texts


def test_processes_that_agree_go_on():
  codes, texts = _codes_and_texts((2, 0, _SAME), (2, 1, _SAME))
  assert codes == [0, 0], texts
  assert all('agreed' in text for text in texts)


def test_processes_that_differ_end_with_the_lines_that_differ():
  codes, texts = _codes_and_texts(
    (2, 0, _SAME), (2, 1, 'a = 1\nb = 3\nc = ü\n')
  )
  assert codes == [2, 2], texts
  for text in texts:
    assert 'The configuration of process 1 is not that of process 0:' in text
    listed = [line.strip() for line in text.splitlines() if 'process ' in line]
    assert listed[1:4] == [
      'process 0: b = 2',
      'process 1: b = 3',
      'process 1: c = ü',
    ]
    assert 'agreed' not in text


@pytest.mark.parametrize('index', [0, 1])
def test_a_process_that_stays_alone_says_what_it_waited_for(index):
  codes, (text,) = _codes_and_texts((2, index, _SAME), start_seconds=3)
  assert codes == [2], text
  assert 'Waiting at localhost:' in text
  assert 'after 3 s not all 2 processes have met' in text
  assert 'Traceback' not in text


def test_processes_that_were_told_other_numbers_end():
  codes, texts = _codes_and_texts((2, 0, _SAME), (3, 1, _SAME))
  assert codes == [2, 2], texts
  assert 'process 0 was started as one of 2, process 1 as one of 3' in texts[0]
  assert 'process 1 was started as one of 3, process 0 as one of 2' in texts[1]


def test_one_process_agrees_with_itself():
  distributed.check_agreement('configuration', 'a = 1')


def test_the_software_is_described_by_versions_and_its_own_files():
  lines = distributed.versions().splitlines()
  assert f'Python {sys.version.split()[0]}' in lines
  assert any(line.startswith('jax ') for line in lines)
  assert lines[-1].startswith('t5x, the files ')
