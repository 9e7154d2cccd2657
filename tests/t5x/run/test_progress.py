"""Tests of what a person sees while waiting, on a terminal and in a log."""

import io
import re
import time

import pytest
from rich import console as rich_console
from rich import panel

from t5x import neutral
from t5x.cli import above_bar, stages
from t5x.run import progress
from tests import terminal

_VALUES = {
  'loss': 0.43121, 'label_loss': 0.12012, 'rationale_loss': 0.51201,
  'accuracy': 0.88231, 'learning_rate': 0.00123,
  'timing/tokens_per_second': 123456.7,
}  # fmt: skip


def _have_consoles_write_to(monkeypatch, file):
  # Pytest puts a standard error of its own in place before each test.
  made = neutral.console
  monkeypatch.setattr(
    neutral, 'console', lambda **options: made(**(options | {'file': file}))
  )


@pytest.fixture
def seen(monkeypatch):
  """A terminal of 80 columns, which standard error goes to."""
  screen = terminal.Terminal()
  _have_consoles_write_to(monkeypatch, screen.file)
  for name in ('COLUMNS', 'LINES', 'NO_COLOR'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('TERM', 'xterm-256color')
  yield screen
  screen.close()


@pytest.fixture
def log(monkeypatch):
  """A file, which standard error goes to."""
  file = io.StringIO()
  _have_consoles_write_to(monkeypatch, file)
  return file


def test_a_bar_of_80_columns_is_whole_beside_its_metrics(seen):
  with progress.Progress(20_000, 0) as shown:
    shown.step(12_345)
    shown.report(12_345, _VALUES)
    bar, metrics = seen.read(0.3)[-2:]
  assert bar.startswith('training') and '━━━━━━' in bar
  assert '12345/20000' in bar and 'eta' in bar
  assert bar.endswith('123,457 tok/s') and len(bar) <= 80
  assert (
    metrics
    == (
      'loss 0.4312  label_loss 0.1201  rationale_loss 0.512  accuracy 0.8823'
      '  learning'
    )[:79]
    + '…'
  )
  # Nothing stale is left.
  assert seen.read(0.2) == []


def test_an_evaluation_has_a_bar_of_its_own(seen):
  with progress.Progress(100, 0) as shown:
    shown.phase('evaluating')
    with shown.evaluation(50) as on_rows:
      on_rows(30, 40)
      lines = seen.read(0.3)
      assert [line.split()[0] for line in lines] == ['evaluating', 'predicting']
      assert '30/40' in lines[1]
      on_rows(10, 40)  # Of the next task, there is nothing yet.
      assert [line.split()[0] for line in seen.read(0.3)] == ['evaluating']
      on_rows(5, -1)
      assert '5/?' in seen.read(0.3)[1]
  assert seen.read(0.2) == []


def test_a_log_has_a_line_for_each_report(log):
  with progress.Progress(100, 0) as shown:
    shown.step(7)
    shown.phase('saving')
    shown.report(10, {'loss': 1.5, 'timing/tokens_per_second': 12.0})
    with shown.evaluation(10) as on_rows:
      on_rows(30, 40)
      on_rows(10, 40)
    with shown.evaluation(10):
      pass
  lines = log.getvalue().splitlines()
  assert lines[0] == 'step 10/100  loss 1.5  12 tokens/s'
  assert lines[1].startswith('step 10/100  evaluated 40 rows in ')
  assert len(lines) == 2


def test_rows_of_an_inference(seen):
  with progress.rows(
    'custom_local_0123456789_predict_inputs', 400, 100
  ) as shown:
    shown.advance(60)
    shown.report()
    (line,) = seen.read(0.3)
  assert line.startswith('custom_loc') and '160/400' in line
  assert '━━━━' in line and len(line) <= 80
  assert seen.read(0.2) == []


def test_rows_of_an_inference_in_a_log(log):
  with progress.rows('task', 40, 10) as shown:
    shown.advance(5)
    shown.advance(5)
    shown.report()
  assert log.getvalue() == 'task  20/40 rows\n'


def test_stages_are_lines_with_times(log):
  shown = stages.Stages()
  shown.begin('reading data')
  shown.begin('reading data')  # Goes on.
  shown.begin('compiling')
  shown.end()
  shown.begin('failing')
  shown.drop()
  shown.end()
  assert re.fullmatch(
    r'reading data         \d\.\d s\ncompiling            \d\.\d s\n',
    log.getvalue(),
  )
  shown.is_silent = True
  shown.begin('quiet')
  shown.end()
  assert 'quiet' not in log.getvalue()


def test_a_stage_at_work_is_seen_and_replaced(seen):
  shown = stages.Stages()
  shown.begin('loading libraries', alone=True)
  assert seen.read(0.2) == ['loading libraries …']
  shown.begin('reading data')
  lines = seen.read(0.4)
  assert re.fullmatch(r'loading libraries    \d\.\d s', lines[0])
  assert lines[1].startswith('reading data … 0:00:0')
  shown.end()
  (line,) = seen.read(0.2)[1:]
  assert re.fullmatch(r'reading data         \d\.\d s', line)
  shown.begin('loading libraries', alone=True)
  shown.drop()
  assert len(seen.read(0.2)) == 2


def test_what_is_printed_appears_above_the_bar(seen, monkeypatch):
  """Lines of `print`, and tables of another console."""
  with progress.Progress(10, 3) as shown:
    shown.step(3)
    monkeypatch.setattr('sys.stdout', seen.file)
    with above_bar.of(shown._console):
      print('one')
      print('two ', end='')
      rich_console.Console(width=70).print(panel.Panel('a\nb'))
      print()
      print('three')
    lines = seen.read(0.4)
  assert [line[:7].strip() for line in lines] == [
    'one', 'two ╭──', '│ a', '│ b', '╰──────', '', 'three', 'trainin',
  ]  # fmt: skip
  assert seen.read(0.2)[-1] == 'three'


def test_what_is_printed_to_a_file_stays_there(seen, monkeypatch):
  """A bar on standard error does not take standard output from its file."""
  out = io.StringIO()
  monkeypatch.setattr('sys.stdout', out)
  with progress.Progress(10, 0):
    neutral.say('result')
    time.sleep(0.1)
  assert out.getvalue() == 'result\n'
  assert 'result' not in ''.join(seen.read(0.2))
