"""Signals end a run in good order, and a second one ends it at once."""

import os
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from t5x import checkpoints
from t5x.run import preemption
from tests.t5x import small_run


class _Sends:
  """Sends this process a signal after a step."""

  def __init__(self, number, after):
    self._number, self._after = number, after

  def run(self, train_state, metrics_by_task):
    if int(train_state.step) == self._after:
      os.kill(os.getpid(), self._number)
    return False


@pytest.mark.parametrize(
  ('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_saves_and_ends_with_its_code(tmp_path, number, code):
  handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
  try:
    with pytest.raises(
      preemption.Stopped, match='goes on from there'
    ) as raised:
      small_run.call(
        tmp_path,
        total_steps=20,
        period=100,
        devices=1,
        actions={'TRAIN': [_Sends(number, after=3)]},
      )
  finally:
    for n, handler in zip(
      (signal.SIGTERM, signal.SIGINT), handlers, strict=True
    ):
      signal.signal(n, handler)
  assert raised.value.exit_code == code
  assert checkpoints.all_steps(tmp_path) == [3]
  assert str(tmp_path / 'checkpoint_3') in str(raised.value)


def test_a_run_without_a_signal_leaves_the_handlers_as_they_were(tmp_path):
  before = signal.getsignal(signal.SIGINT)
  with preemption.StopSignals() as signals:
    assert signal.getsignal(signal.SIGINT) != before
    assert not signals.reached(1)
  assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_installs_no_handler():
  before = signal.getsignal(signal.SIGINT)

  def listen():
    with preemption.StopSignals() as signals:
      assert not signals.reached(1)

  thread = threading.Thread(target=listen)
  thread.start()
  thread.join()
  assert signal.getsignal(signal.SIGINT) is before


_TWICE = """
import os, signal
from t5x.run import preemption
with preemption.StopSignals() as signals:
  os.kill(os.getpid(), signal.SIG{0})
  assert signals.reached(5)
  print('first', signals.stopped(None).exit_code, flush=True)
  os.kill(os.getpid(), signal.SIG{0})
  print('alive', flush=True)
"""


@pytest.mark.parametrize('name', ['TERM', 'INT'])
def test_a_second_signal_ends_the_process_at_once(name):
  done = subprocess.run(
    [sys.executable, '-c', _TWICE.format(name)],
    cwd=pathlib.Path(preemption.__file__).parents[2],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  number = getattr(signal, f'SIG{name}')
  assert done.stdout.split() == ['first', str(128 + number)]
  assert done.returncode == -number


def test_two_signals_in_an_instant_are_one(capfd):
  """`timeout` sends SIGTERM twice; a regression ends the process of tests."""
  before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
  second = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM))
  try:
    with preemption.StopSignals() as signals:
      second.start()
      os.kill(os.getpid(), signal.SIGTERM)
      second.join()
      assert signals.reached(5)
  finally:
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])
  told = capfd.readouterr().err
  assert told.count('SIGTERM: stopping at the next step, and saving.') == 1


class _Stops(small_run.NoisyTable):
  """Sends this process SIGTERM while it is evaluated."""

  def predict_batch_with_aux(self, params, batch, rng=None):
    os.kill(os.getpid(), signal.SIGTERM)  # While it is traced.
    return super().predict_batch_with_aux(params, batch, rng)


def test_an_evaluation_is_cut_short(tmp_path):
  before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
  try:
    with pytest.raises(preemption.Stopped) as raised:
      small_run.call(
        tmp_path,
        total_steps=8,
        period=100,
        eval_period=4,
        evaluate=True,
        devices=1,
        model=_Stops(),
      )
  finally:
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])
  assert raised.value.exit_code == 143
  assert checkpoints.all_steps(tmp_path) == [4]
  assert not list(tmp_path.glob('inference_eval/*-metrics.jsonl'))


def test_what_was_cut_short_is_evaluated_when_the_run_goes_on(tmp_path):
  """As after a kill between the save and the evaluation of a step."""
  options = {'total_steps': 4, 'devices': 1, 'eval_period': 2}
  small_run.call(tmp_path, **options)
  (tmp_path / 'evaluated_step').write_text('2\n')
  small_run.call(tmp_path, evaluate=True, **options)
  (file,) = tmp_path.glob('inference_eval/*-metrics.jsonl')
  assert '"step": 4' in file.read_text()
  written = file.read_text()
  small_run.call(tmp_path, evaluate=True, **options)
  assert file.read_text() == written
  assert np.isfinite(
    checkpoints.load_t5x_checkpoint(str(tmp_path), 4)['target']['table']
  ).all()
