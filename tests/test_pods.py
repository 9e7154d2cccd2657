"""The commands of docs/pods.md that one machine can run."""

import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parent.parent


def _commands() -> list[list[str]]:
  """The two commands on loopback, as docs/pods.md has them."""
  text = (_ROOT / 'docs' / 'pods.md').read_text(encoding='utf-8')
  text = text.replace('\\\n', ' ')
  lines = re.findall(r'^(python .*localhost.*?) ?&?$', text, re.MULTILINE)
  return [shlex.split(line) for line in lines]


def test_the_page_has_a_command_for_each_process():
  first, second = _commands()
  assert first[:-1] == second[:-1]
  assert (first[-1], second[-1]) == ('--process_index=0', '--process_index=1')


@pytest.mark.slow
def test_two_processes_on_loopback_train_the_sample(tmp_path):
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = s.getsockname()[1]
  started = []
  for command in _commands():
    command = [part.replace(':8476', f':{port}') for part in command[1:]]
    command.append(f'--gin.MODEL_DIR="{tmp_path / "run"}"')
    started.append(
      subprocess.Popen(
        [sys.executable, *command],
        cwd=_ROOT,
        env={
          **os.environ,
          'XLA_FLAGS': '',
          'TFDS_DATA_DIR': str(tmp_path / 'tfds'),
        },
        stderr=subprocess.PIPE,
        text=True,
      )
    )
  errors = [process.communicate()[1] for process in started]
  assert [p.returncode for p in started] == [0, 0], errors
  lines = (tmp_path / 'run' / 'train' / 'metrics.jsonl').read_text()
  assert json.loads(lines.splitlines()[-1])['step'] == 4
  assert (tmp_path / 'run' / 'checkpoint_4').exists()
