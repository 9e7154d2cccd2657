"""Signals that meet a save, an evaluation or one another.

    pytest -m slow -s tests/t5x/disruption/test_signals.py

Whatever they interrupt, what is there afterwards is whole, and the same command
ends as a run that nothing disturbed.
"""

import signal

import pytest

from tests.t5x.disruption import runs

_OPTIONS = {'evaluate': True, 'eval_period': 12}


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  """The folder of a run that nothing disturbed."""
  folder = tmp_path_factory.mktemp('straight') / 'run'
  runs.finish(runs.start(folder, **_OPTIONS))
  return folder


def _held(folder, where):
  """Starts a run, and holds it still at a place."""
  run = runs.start(folder, **_OPTIONS)
  if where == 'a step':
    run.wait_for_step(6)
    run.hold()
  elif where == 'a save':
    assert run.hold_in_save(8)
  elif where == 'the final save':
    assert run.hold_in_save(24)
  elif where == 'the final evaluation':
    run.wait_until((folder / 'checkpoint_24').exists)
    run.hold()
    assert 24 not in runs.evaluated_steps(folder), 'It was too late.'
  elif where == 'the start':
    run.wait_until((folder / 'writer.json').exists)
    run.hold()
  return run


def _goes_on(run, straight):
  runs.assert_whole(run.folder)
  runs.finish(runs.start(run.folder, **_OPTIONS))
  runs.assert_same(run.folder, straight)
  assert not list(run.folder.glob('*tmp*'))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('where', 'number'),
  [
    ('the final save', signal.SIGTERM),
    ('the final evaluation', signal.SIGTERM),
    ('a save', signal.SIGINT),
  ],
)
def test_a_signal_leaves_what_is_whole(straight, tmp_path, where, number):
  """`pytest -m slow tests/t5x/disruption/test_signals.py -k whole`."""
  run = _held(tmp_path / 'run', where)
  run.send(number)
  run.send(signal.SIGCONT)
  code, text, _ = run.end()
  assert code == 128 + number, text
  assert f'{number.name}: stopped after step' in text
  steps = runs.assert_whole(run.folder)
  assert (24 in steps) == (where != 'a save'), steps
  # It says where it goes on.
  assert f'checkpoint_{max(steps)} is saved; the same command goes on' in text
  _goes_on(run, straight)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('first', 'second'),
  [
    (signal.SIGINT, signal.SIGINT),
    (signal.SIGTERM, signal.SIGINT),
  ],
)
def test_a_second_signal_ends_a_run_within_its_last_save(
  straight, tmp_path, first, second
):
  """`pytest -m slow tests/t5x/disruption/test_signals.py -k second`."""
  run = _held(tmp_path / 'run', 'a step')
  run.send(first)
  run.send(signal.SIGCONT)
  # The save that the first signal began.
  run.wait_until(lambda: 'Once more ends' in run.hosts[0].text)
  step = run.hold_in_save()
  run.send(second)
  run.send(signal.SIGCONT)
  code, text, seconds = run.end()
  print(f'{first.name}, {second.name}: {seconds:.1f} s')
  assert code == -second, text
  assert seconds < 5
  assert step not in runs.assert_whole(run.folder)
  _goes_on(run, straight)


@pytest.mark.slow
def test_two_signals_in_an_instant_are_one(straight, tmp_path):
  """`timeout` sends SIGTERM twice.

  `pytest -m slow tests/t5x/disruption/test_signals.py -k instant`
  """
  run = _held(tmp_path / 'run', 'a step')
  run.send(signal.SIGTERM)
  run.send(signal.SIGINT)
  run.send(signal.SIGCONT)
  code, text, _ = run.end()
  assert code in (130, 143), text
  assert 'is saved; the same command goes on' in text
  _goes_on(run, straight)


@pytest.mark.slow
def test_ctrl_c_before_the_first_step_is_one_message(tmp_path):
  """`pytest -m slow tests/t5x/disruption/test_signals.py -k ctrl_c`."""
  run = _held(tmp_path / 'run', 'the start')
  run.send(signal.SIGINT)
  run.send(signal.SIGCONT)
  code, text, _ = run.end()
  assert code == 128 + signal.SIGINT, text
  assert 'Traceback' not in text, text
  assert 'SIGINT: ' in text
  assert not runs.assert_whole(run.folder)
