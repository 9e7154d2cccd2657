"""`dss ask --file` as a process that is killed: `pytest -m slow` runs it."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.dss_jax.student import small_run

_ROOT = pathlib.Path(__file__).parents[3]
_COUNT = 2000
# A chunk has 32 batches.
_BATCH_SIZE = 8


def _started(rows, out):
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  run = str(small_run.made())
  command = [sys.executable, '-m', 'dss_jax.cli', 'ask', run]
  options = ['--file', rows, '--out', out, '--batch-size', str(_BATCH_SIZE)]
  return subprocess.Popen([*command, *options], cwd=_ROOT, env=environment)


def _chunks(folder):
  return len(list(folder.glob('*-chunk*[0-9]'))) if folder.exists() else 0


def _resident(pid):
  text = pathlib.Path(f'/proc/{pid}/status').read_text()
  return int(text.partition('VmRSS:')[2].split()[0])


@pytest.mark.slow
def test_rows_and_memory_survive_two_kills(tmp_path):
  rows, out = tmp_path / 'rows.jsonl', tmp_path / 'answers.jsonl'
  texts = [small_run.TEXTS[i % 10] for i in range(_COUNT)]
  rows.write_text(
    ''.join(
      json.dumps({'n': i, 'ticket': text}) + '\n'
      for i, text in enumerate(texts)
    )
  )
  tmp, memory = tmp_path / 'tmp-answers.jsonl', {}
  for stop in (2, 4, None):
    process = _started(rows, out)
    while process.poll() is None and (stop is None or _chunks(tmp) < stop):
      if count := _chunks(tmp):
        memory[count] = _resident(process.pid)
      time.sleep(0.02)
    if stop is not None:
      assert process.poll() is None
      process.send_signal(signal.SIGKILL)
      process.wait()
      assert not out.exists()
  assert process.returncode == 0
  found = [json.loads(line) for line in out.read_text().splitlines()]
  assert [row['n'] for row in found] == list(range(_COUNT))
  labels = [row['predicted_label'] for row in found]
  assert labels == labels[:10] * (_COUNT // 10)
  # The last process made these chunks.
  last = [memory[count] for count in sorted(memory) if count > 4]
  assert len(last) > 1 and last[-1] < 1.05 * last[0]
