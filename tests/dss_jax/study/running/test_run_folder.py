"""Tests of a run's folder: its starts and its log."""

import json
import os

import pytest

from dss_jax import errors
from dss_jax.study.running import run_folder


@pytest.fixture
def folder(tmp_path):
  return run_folder.RunFolder(tmp_path, 'dss_f1_s0')


def test_a_run_that_came_to_its_end_is_finished(folder):
  assert folder.finished is None and folder.starts() == []
  folder.begin('a', {'device': 'x'})
  assert folder.finished is None
  folder.end('a', 3)
  folder.begin('b', {'device': 'y'})
  folder.end('b', 0)
  assert folder.finished.place == {'device': 'y'}
  assert [start.code for start in folder.starts()] == [3, 0]


def test_a_start_that_was_killed_counts_as_long_as_its_log_grew(folder):
  folder.begin('a', {})
  (start,) = folder.starts()
  folder.log.write_text('step 1\n')
  os.utime(folder.log, (start.began + 5, start.began + 5))
  assert folder.seconds() == 0
  folder.begin('b', {})
  assert folder.seconds() == pytest.approx(5, abs=1e-3)


def test_a_token_that_comes_back_is_another_start(folder):
  folder.begin('a', {'device': 'x'})
  folder.begin('a', {'device': 'y'})
  folder.end('a', 0)
  assert [(s.place['device'], s.code) for s in folder.starts()] == [
    ('x', None),
    ('y', 0),
  ]


def test_a_torn_line_is_made_good(folder):
  folder.begin('a', {})
  with (folder.path / 'starts.jsonl').open('ab') as f:
    f.write(b'{"token": "a", "en')
  assert folder.starts()[0].ended is None
  folder.end('a', 0)
  assert folder.starts()[0].code == 0


@pytest.mark.parametrize(
  'row', [{}, {'token': 'b', 'ended': 1}, {'token': 'a', 'began': 1, 'x': 2}]
)
def test_something_else_is_named(folder, row):
  folder.begin('a', {})
  with (folder.path / 'starts.jsonl').open('ab') as f:
    f.write(json.dumps(row).encode() + b'\n')
  with pytest.raises(errors.DataError, match=r'starts\.jsonl: expected the'):
    folder.starts()


def test_the_last_step_of_the_log_is_found(folder):
  assert folder.step() is None
  folder.path.mkdir(parents=True)
  folder.log.write_text('$ python\nstep 20: label accuracy\nstep 20/40  loss\n')
  assert folder.step() == 20
  with folder.log.open('a') as f:
    f.write('x' * 30_000 + '\nstep 40/40  loss 1\n' + 'y' * 3_000)
  assert folder.step() == 40


@pytest.mark.parametrize(
  ('text', 'reason'),
  [
    ('a\n\nerror: no such file\nmore\n', 'no such file more'),
    ('Traceback\nValueError: wrong\n\n', 'ValueError: wrong'),
    ('', 'no word of it'),
    ('a\n\x1b[31mred\x1b[0m \x07[bold]\n', 'red [bold]'),
    ('old\nerror: old\n', 'old'),
  ],
)
def test_the_reason_is_in_the_log_s_words(folder, text, reason):
  folder.path.mkdir(parents=True)
  folder.log.write_text(text)
  assert folder.reason() == reason


def test_the_reason_is_that_of_this_start(folder):
  folder.path.mkdir(parents=True)
  folder.log.write_text('a\nerror: old\n')
  offset = folder.log.stat().st_size
  with folder.log.open('a') as f:
    f.write('$ python\nnew\n')
  assert folder.reason(offset) == 'new'


@pytest.mark.parametrize('kinds', ['None', "('thought', 'program')"])
def test_a_run_from_before_there_were_kinds_goes_on_with_one(tmp_path, kinds):
  run = run_folder.RunFolder(tmp_path, 'dss')
  (run.path / 'checkpoint_3').mkdir(parents=True)
  before = "METHOD = 'dss'\nmodels.DistillModel.method = %METHOD\n"
  (run.path / 'config.gin').write_text(before)
  now = (
    f'{before}RATIONALE_KINDS = {kinds}\n'
    'models.DistillModel.rationale_kinds = %RATIONALE_KINDS\n'
  )
  if kinds == 'None':
    run.check(now, 'dss_cqa')
  else:
    with pytest.raises(errors.DataError, match='RATIONALE_KINDS: nothing the'):
      run.check(now, 'dss_cqa')
