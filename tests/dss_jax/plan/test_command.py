"""The command `dss plan`."""

import contextlib
import os
import subprocess
import sys

import pytest
from click import testing

from dss_jax.errors import DataError
from dss_jax.plan import child, command, worker
from t5x import train
from tests.dss_jax.plan import test_table
from tests.t5x import entry_points

RUN = ['--gin_file=gin/dss_cqa.gin', '--topology=gpu:l4']


class _SameProcess(contextlib.nullcontext):
  """The worker, in this process: another one costs seconds to start."""

  def __init__(self, options):
    self._worker = worker.Worker(**options)
    super().__init__(self)

  def call(self, name, **arguments):
    with entry_points.main_module(train):
      return getattr(self._worker, name)(**arguments)


@pytest.fixture
def plan(monkeypatch, tmp_path):
  monkeypatch.setattr(child, 'Child', _SameProcess)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))

  def run(*arguments):
    return testing.CliRunner().invoke(command.plan, arguments)

  return run


def test_a_gpu_gets_a_counted_plan_of_the_configured_batch(plan):
  done = plan(*RUN, '--gin.BATCH_SIZE=24', '--gin.LABELS_PER_STEP=None')
  assert done.exit_code == 0, done.output
  assert '24 rows' in done.output
  assert 'counted and not compiled' in done.output


def test_the_rows_of_a_step_follow_from_its_label_examples(plan):
  done = plan(*RUN)
  assert done.exit_code == 0, done.output
  assert '8 rows' in done.output


def test_batch_size_replaces_the_configured_one(plan):
  done = plan(*RUN, '--batch_size=48')
  assert '48 rows' in done.output


def test_rows_that_suit_the_data_are_planned_too(plan, tmp_path):
  path = tmp_path / 'long.gin'
  path.write_text("TASK_FEATURE_LENGTHS = {'inputs': 1024, 'targets': 1024}\n")
  done = plan(*RUN, f'--gin_file={path}', '--data')
  assert done.exit_code == 0, done.output
  # Shorter rows, with fewer targets for their inputs, take less time.
  assert ' x 256/' in done.output
  assert 'rows of 256/' in done.output
  refused = plan(*RUN, '--data', '--decode')
  assert 'decoding packs no rows' in str(refused.exception)


def test_decoding_takes_the_batch_of_evaluation(plan):
  done = plan(*RUN, '--decode', '--gin.EVAL_BATCH_SIZE=96')
  assert 'decoding of 96 rows' in done.output


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--topology=v5e:2x2'], 'gin_file'),
    ([*RUN, '--btach_size=3'], 'No such option'),
    ([*RUN, '--gin.BATCH_SIZE'], 'No such option'),
    ([*RUN, 'more'], 'No such option'),
    ([*RUN, '--batch_size=0'], 'batch_size'),
  ],
)
def test_a_wrong_option_is_refused(plan, arguments, message):
  done = plan(*arguments)
  assert done.exit_code == 2
  assert message in done.output


def test_the_place_of_a_plan_is_looked_at_before_any_work(plan, tmp_path):
  place = tmp_path / 'nowhere' / 'plan.gin'
  done = plan(*RUN, f'--write={place}')
  assert f'found no folder {place.parent}' in str(done.exception)
  done = plan(*RUN, f'--write={tmp_path / "plan.gin"}')
  assert 'is not written' in done.output or (tmp_path / 'plan.gin').exists()


@pytest.mark.parametrize('option', ['--why', '--exact'])
def test_what_only_a_program_tells_is_refused_without_one(plan, option):
  done = plan(*RUN, option)
  assert f'{option}: gpu:l4 is a GPU' in str(done.exception)


class _WithoutCode(_SameProcess):
  """One whose compiler gets as far as a schedule: libtpu isn't here."""

  def call(self, name, **arguments):
    if name != 'plan':
      return super().call(name, **arguments)
    if arguments.get('exact'):
      raise DataError('No code.')
    return test_table.FITS.result


def test_a_plan_that_was_found_is_reported_where_no_code_follows(
  plan, monkeypatch, tmp_path
):
  monkeypatch.setattr(child, 'Child', _WithoutCode)
  path = tmp_path / 'plan.gin'
  done = plan(
    '--gin_file=gin/dss_cqa.gin',
    '--topology=v5e:2x2',
    '--exact',
    f'--write={path}',
  )
  assert str(done.exception) == 'No code.'
  assert 'Best:' in done.output
  assert 'num_partitions' in path.read_text()


def test_a_misspelled_macro_is_named(plan):
  done = plan(*RUN, '--gin.BACH_SIZE=3')
  assert 'BATCH_SIZE' in str(done.exception)


def test_a_topology_that_does_not_exist_is_refused(plan):
  done = plan('--gin_file=gin/dss_cqa.gin', '--topology=v7:2x2')
  assert 'expected a TPU of v4' in str(done.exception)


@pytest.mark.slow
def test_the_command_plans_as_a_user_calls_it(tmp_path):
  pytest.importorskip('libtpu')
  path = tmp_path / 'best.gin'
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'dss_jax.cli',
      'plan',
      '--gin_file=gin/dss_cqa.gin',
      '--gin.BATCH_SIZE=16',
      '--gin.LABELS_PER_STEP=None',
      '--topology=v5e:2x2',
      '--limit=1',
      '--exact',
      '--why',
      f'--cache={tmp_path / "plan.jsonl"}',
      f'--write={path}',
    ],
    capture_output=True,
    text=True,
    env={**os.environ, 'XLA_FLAGS': ''},
  )
  assert done.returncode == 0, done.stderr
  assert 'Best:' in done.stdout
  assert "By the compiler's own estimates:" in done.stdout
  assert 'compiler ms' in done.stdout
  assert 'num_partitions' in path.read_text()
