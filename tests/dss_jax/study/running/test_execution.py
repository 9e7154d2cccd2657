"""Tests of one run's process, with runs that end before they train."""

import threading

from dss_jax.study.running import execution, places, run_folder


def _job(tmp_path, *flags):
  return execution.Job('a', str(tmp_path), flags, str(tmp_path))


def test_a_run_that_is_refused_says_why(tmp_path):
  job = _job(tmp_path, '--gin_file=none.gin', "--gin.DATA='a b'")
  outcome = execution.execute(job, places.Place(), lambda: False)
  assert (outcome.code, outcome.stopped, outcome.killed) == (2, False, False)
  assert outcome.reason.startswith('exit code 2: Gin file not found: none.gin')
  folder = run_folder.RunFolder(tmp_path, 'a')
  first, *_ = folder.log.read_text().splitlines()
  assert first == (
    '$ python -m t5x.train --gin_file=none.gin --gin.DATA="\'a b\'"'
  )
  (start,) = folder.starts()
  assert (start.code, start.token) == (2, job.token)
  assert start.ended > start.began
  assert start.place['versions'].keys() >= {'python', 'jax'}


def test_a_run_that_nobody_wants_any_more_ends(tmp_path):
  wanted = threading.Event()
  log = run_folder.RunFolder(tmp_path, 'a').log

  def stop():
    if log.exists() and log.stat().st_size:
      wanted.set()
    return wanted.is_set()

  outcome = execution.execute(
    _job(tmp_path, '--gin_file=gin/dss_cqa.gin'), places.Place(), stop
  )
  assert outcome.stopped and not outcome.killed
  assert outcome.code != 0


def test_runs_share_what_they_compile_unless_told_otherwise(tmp_path):
  place = places.Place(gpu='1')
  found = execution.environment(tmp_path, place, {'A': 'b'})
  folder = tmp_path / 'compilations' / places.machine_kind()
  assert found['JAX_COMPILATION_CACHE_DIR'] == str(folder)
  assert (found['A'], found['CUDA_VISIBLE_DEVICES']) == ('b', '1')
  given = {'JAX_COMPILATION_CACHE_DIR': 'mine'}
  assert execution.environment(tmp_path, places.Place(), given) == given
