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


def test_what_a_run_has_not_is_left_open(tmp_path):
  """Else a run without validation, or of another machine, is no result."""
  spec = finished_run.spec('finetune')
  run_dir = finished_run.write(tmp_path, spec, [True, False, True])
  for path in (run_dir / 'inference_eval').glob('*_validation*'):
    path.unlink()
  result = results.record(
    spec,
    run_dir,
    seconds=12.5,
    device='2 GPUs',
    versions={'jax': '0.1'},
    commit='abc',
  )
  assert result.best_validation is None
  assert result.rows == {'test': 3}
  assert (result.versions, result.commit) == ({'jax': '0.1'}, 'abc')
  assert (result.device, result.seconds) == ('2 GPUs', 12.5)
  back = results.RunResult.from_json(result.to_json(), 'here')
  assert back == result


def test_fields_that_nobody_gives_are_those_of_most_runs():
  """Labels are texts, and rationales of one kind, unless a run says more."""
  spec = results.Spec(
    'a', 'cqa', 'b', 'dss', 'gold', None, 0.5, 'base', 1, 0, 9
  )
  assert (spec.by_value, spec.kinds) == (False, '')
  assert (spec.label_examples, spec.train_rows) == (None, None)
  assert spec.teacher_accuracy == {}


def test_a_commit_is_short_and_says_whether_files_were_changed(tmp_path):
  result = _recorded(tmp_path, finished_run.spec(), [True])
  commits = {
    '0123456789abcdef': '0123456789ab',
    '0123456789abcdef+': '0123456789ab+',
    None: 'none',
  }
  for commit, short in commits.items():
    assert dataclasses.replace(result, commit=commit).short_commit == short
  # What was written down of a run stays.
  for one, name in ((result, 'seconds'), (result.spec, 'steps')):
    with pytest.raises(dataclasses.FrozenInstanceError):
      setattr(one, name, 0)


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
  # Other alphabets are legible, and lines of before there were kinds are read.
  spec = dataclasses.replace(result.spec, data='Größe.jsonl')
  line = dataclasses.replace(result, spec=spec).to_json()
  assert 'Größe.jsonl' in line and line.count(', "kinds": ""') == 1
  line = line.replace(', "kinds": ""', '')
  assert results.RunResult.from_json(line, 'here').spec == spec


@pytest.mark.parametrize('half', ['\\ud83d', '\\uD83D', '\\udc00'])
def test_half_a_character_of_a_line_becomes_one_that_files_can_hold(
  tmp_path, half
):
  """Else the report of a whole study fails where it is written."""
  spec = finished_run.spec('finetune', data='DATA 🙂')
  result = _recorded(tmp_path, spec, [True])
  line = result.to_json().replace('DATA', f'{half} \\ud83d\\ude42')
  found = results.RunResult.from_json(line, 'here')
  assert found.spec.data == '\ufffd 🙂 🙂'
  assert dataclasses.replace(found, spec=spec) == result


@pytest.mark.parametrize(
  ('name', 'file'),
  [
    ('run', 'predictions/other.jsonl'),
    ('run', 'predictions/sun.jsonl'),
    ('run', '../run.jsonl'),
    ('run', 'predictions/run'),
    ('a/b', 'predictions/a/b.jsonl'),
    ('b/a', 'predictions/b/a.jsonl'),
    (3, 'predictions/3.jsonl'),
  ],
)
def test_a_line_names_no_file_but_its_own(tmp_path, name, file):
  """Else a line of a study reads, or replaces, what is elsewhere."""
  result = _recorded(tmp_path, finished_run.spec(), [True])
  row = json.loads(result.to_json()) | {'name': name, 'predictions': file}
  with pytest.raises(errors.DataError, match='here: expected the result of'):
    results.RunResult.from_json(json.dumps(row), 'here')


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
  # Neither is one that went further, nor one whose last step lacks a test.
  with pytest.raises(
    errors.DataError, match='step 30, found the last one at 60'
  ):
    results.record(
      dataclasses.replace(spec, steps=30), run_dir, seconds=1, device='a CPU'
    )
  (path,) = (run_dir / 'inference_eval').glob('*label_test-metrics.jsonl')
  path.write_text(''.join(path.read_text().splitlines(True)[:-1]))
  with pytest.raises(
    errors.DataError, match='step 60, found the last one at 30'
  ):
    results.record(spec, run_dir, seconds=1, device='a CPU')
