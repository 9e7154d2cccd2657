"""Tests of the table on a terminal; lines in a log are in `test_driver`."""

import io

import pytest
import rich.console

from dss_jax.study import live_table
from dss_jax.study.running import run_folder
from tests.dss_jax.study import test_planned


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (4.6, '5 s'),
    (60, '1 min'),
    (3541, '59 min'),
    (3 * 3600 + 300, '3 h 05 min'),
  ],
)
def test_durations(seconds, text):
  assert live_table.duration(seconds) == text


def test_the_table_has_steps_and_reasons_and_obeys_nobody(tmp_path):
  runs = {run.name: run for run in map(test_planned._run, ('finetune', 'dss'))}
  shown = io.StringIO()
  console = rich.console.Console(
    file=shown, force_terminal=True, width=100, color_system=None
  )
  job = runs['dss_f1_s0'].job(tmp_path)
  folder = run_folder.RunFolder(tmp_path, job.name)
  folder.begin(job.token, {})
  folder.log.write_text('step 40/100  loss 1\n')
  table = live_table.Table(tmp_path, runs, 1, console)
  failed = {'finetune_f1_s0': run_folder.printable('[red]\x1b]0;x\x07 wrong')}
  with table:
    table.show({}, failed, {job.name: job})
  text = shown.getvalue()
  assert '0 of 2 runs done, 1 running, 0 waiting, 1 failed' in text
  assert '40 of 100' in text
  assert 'failed: [red]' in text and 'wrong' in text
  assert '\x1b]0' not in text and '\x07' not in text


def test_time_left_follows_from_two_steps_seen(tmp_path):
  folder = run_folder.RunFolder(tmp_path, 'a')
  folder.begin('t', {})
  watched = live_table._Watched(folder, 100)
  for step in (10, 20):
    folder.log.write_text(f'step {step}/100\n')
    watched.look()
    assert (watched.eta is None) == (step == 10)
  assert watched.step == 20 and watched.eta >= 0
