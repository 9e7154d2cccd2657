"""Results of runs: read from their folders, kept as lines."""

import dataclasses
import json

import pytest

from dss_jax import errors
from dss_jax.study import results
from tests.dss_jax.study import finished_run


def _recorded(folder, spec, marks, **more):
  run_dir = finished_run.write(folder, spec, marks, **more)
  return results.record(spec, run_dir, seconds=12.5, device='a CPU')


def test_a_result_has_what_the_run_wrote(tmp_path):
  spec = finished_run.spec('dss', seed=3)
  half, most, some = [True, False] * 5, [True] * 8 + [False] * 2, [True] * 6
  result = _recorded(
    tmp_path, spec, [*some, *[False] * 4], earlier=[half, most]
  )
  assert result.spec == spec
  assert result.rows == {'validation': 10, 'test': 10}
  assert (result.last.step, result.last.accuracy['test']) == (60, 60.0)
  assert result.last.interval['test'] == [55.0, 65.0]
  assert result.best_validation.step == result.best_test.step == 40
  assert result.best_test.accuracy == {'validation': 80.0, 'test': 80.0}
  assert result.parameters == 345_088
  assert result.settings['ALPHA'] == '0.2'
  assert result.settings['METHOD'] == "'dss'"
  assert 'MODEL_DIR' not in result.settings
  assert set(result.versions) == {'dss_jax', 'python', 'jax', 'flax'}
  assert result.predictions == 'predictions/dss_f1_s3.jsonl'


def test_of_equal_steps_the_first_is_the_best(tmp_path):
  marks = [True] * 4
  result = _recorded(
    tmp_path, finished_run.spec(), marks, earlier=[[False] * 4, marks]
  )
  assert result.best_validation.step == result.best_test.step == 40


def test_a_result_comes_back_from_its_line(tmp_path):
  result = _recorded(tmp_path, finished_run.spec('finetune'), [True, False])
  line = result.to_json()
  assert '\n' not in line
  assert json.loads(line)['method'] == 'finetune'
  assert results.RunResult.from_json(line, 'here') == result


def test_results_are_read_as_they_were_written(tmp_path):
  first, second = (
    _recorded(tmp_path, finished_run.spec(seed=seed), [True, False])
    for seed in (0, 1)
  )
  results.write(tmp_path, [first, second])
  assert results.read(tmp_path) == [first, second]
  # What a kill has left of a line is no result; a later line replaces.
  later = dataclasses.replace(first, seconds=1.0)
  with (tmp_path / results.NAME).open('a') as f:
    f.write(later.to_json() + '\n' + second.to_json()[:40])
  assert results.read(tmp_path) == [later, second]


def test_a_study_without_results_has_none(tmp_path):
  assert results.read(tmp_path) == []


@pytest.mark.parametrize('line', ['', 'no JSON', '[]', '{"name": "a"}', '3'])
def test_a_line_that_is_no_result_is_named(tmp_path, line):
  (tmp_path / results.NAME).write_text(line + '\n')
  with pytest.raises(errors.DataError, match=r'results.jsonl, line 1: exp'):
    results.read(tmp_path)


def test_a_run_that_is_not_finished_is_told_with_its_step(tmp_path):
  spec = finished_run.spec()
  run_dir = finished_run.write(tmp_path, spec, [True], earlier=[[True]])
  later = dataclasses.replace(spec, steps=90)
  with pytest.raises(errors.DataError, match='step 90, found the last one at'):
    results.record(later, run_dir, seconds=1, device='a CPU')
  with pytest.raises(errors.DataError, match='step 60, found none'):
    results.record(spec, tmp_path / 'nowhere', seconds=1, device='a CPU')
