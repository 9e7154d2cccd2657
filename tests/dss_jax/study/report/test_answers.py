"""Predictions of runs: written once, checked, and compared."""

import dataclasses
import json
import os

import numpy as np
import pytest

from dss_jax import errors
from dss_jax.report import predictions
from dss_jax.study import results
from dss_jax.study.report import answers
from tests.dss_jax.study import finished_run


def _run(out, spec, marks, **more):
  run_dir = finished_run.write(out / results.RUNS, spec, marks, **more)
  return results.record(spec, run_dir, seconds=1.0, device='a CPU')


@pytest.mark.parametrize(
  ('method', 'own', 'teachers'),
  [
    ('finetune', None, None),
    ('dss', 'It has <b>gills</b>.', 'Animal 0 likes it.'),
    ('shuffled', 'It has <b>gills</b>.', 'Animal 0 likes it.'),
    ('single_task', 'It has <b>gills</b>.', 'Animal 0 likes it.'),
  ],
)
def test_an_answer_has_the_question_and_both_rationales(
  tmp_path, method, own, teachers
):
  run = _run(
    tmp_path,
    finished_run.spec(method),
    [True, False],
    rationales={0: 'It has <b>gills</b>.'},
  )
  assert answers.prepare(tmp_path, run)
  first, second = answers.read(tmp_path, run)
  assert first == predictions.Answer(
    'id0', finished_run.question(0), 'pond', 'pond', True, own, teachers
  )
  assert (second.prediction, second.correct) == ('attic', False)


def test_equations_are_compared_by_value(tmp_path):
  spec = finished_run.spec('finetune', by_value=True)
  run = _run(tmp_path, spec, [False, False])
  path = answers_file = None
  folder = tmp_path / 'runs' / spec.name / 'inference_eval'
  path = folder / 'cqa_sample_finetune_test-000060.jsonl'
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  rows[0] |= {'target': '( 2 + 3 )', 'prediction': '( 3 + 2 )'}
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  run = dataclasses.replace(
    run, last=dataclasses.replace(run.last, accuracy={'test': 50.0})
  )
  answers.prepare(tmp_path, run)
  answers_file = answers.read(tmp_path, run)
  assert [a.correct for a in answers_file] == [True, False]


def test_answers_that_are_not_what_was_measured_are_an_error(tmp_path):
  run = _run(tmp_path, finished_run.spec(), [True, False])
  other = dataclasses.replace(run.last, accuracy={'test': 75.0})
  with pytest.raises(
    errors.DataError, match=r'75.0%, found 50.0% of 2 answers'
  ):
    answers.prepare(tmp_path, dataclasses.replace(run, last=other))
  assert not (tmp_path / run.predictions).exists()


def test_predictions_outlive_the_folder_and_follow_a_new_one(tmp_path):
  spec = finished_run.spec('finetune')
  run = _run(tmp_path, spec, [True, False])
  assert answers.prepare(tmp_path, run)
  path = tmp_path / run.predictions
  before = path.stat().st_mtime_ns
  assert answers.prepare(tmp_path, run)
  assert path.stat().st_mtime_ns == before
  folder = tmp_path / results.RUNS / spec.name
  os.rename(folder, tmp_path / 'away')
  assert answers.prepare(tmp_path, run)
  again = _run(tmp_path, spec, [False, True])
  (source,) = (folder / 'inference_eval').glob('*_test-000060.jsonl')
  os.utime(source, ns=(before + 10**9, before + 10**9))
  assert answers.prepare(tmp_path, again)
  assert [a.correct for a in answers.read(tmp_path, again)] == [False, True]


def test_a_run_without_folder_and_predictions_has_none(tmp_path):
  spec = finished_run.spec()
  run = _run(tmp_path, spec, [True])
  os.rename(tmp_path / results.RUNS, tmp_path / 'away')
  assert not answers.prepare(tmp_path, run)


def test_marks_are_the_same_questions_for_all(tmp_path):
  marks = [True, False, True]
  runs = [
    _run(tmp_path, finished_run.spec('dss'), marks),
    _run(tmp_path, finished_run.spec('finetune'), marks[::-1]),
    _run(tmp_path, finished_run.spec('single_task'), [False, False, True]),
  ]
  for run in runs:
    answers.prepare(tmp_path, run)
  found = answers.Marks(tmp_path).of(runs)
  np.testing.assert_array_equal(found, [marks, marks, [False, False, True]])


@pytest.mark.parametrize(
  ('marks', 'ids', 'text'),
  [
    ([True, True], ['id0', 'x'], 'instead of .*id1.* in line 2'),
    ([True], ['id0'], '2 of them, found 1'),
  ],
)
def test_other_questions_are_an_error_that_names_both(
  tmp_path, marks, ids, text
):
  first = _run(tmp_path, finished_run.spec('dss'), [True, True])
  other = _run(tmp_path, finished_run.spec('finetune'), marks, ids=ids)
  for run in (first, other):
    answers.prepare(tmp_path, run)
  with pytest.raises(errors.DataError, match=text) as error:
    answers.Marks(tmp_path).of([first, other])
  assert 'dss_f1_s0.jsonl' in str(error.value)
  assert 'finetune_f1_s0.jsonl' in str(error.value)


def test_a_file_of_other_lines_is_an_error(tmp_path):
  run = _run(tmp_path, finished_run.spec(), [True])
  (tmp_path / 'predictions').mkdir()
  (tmp_path / run.predictions).write_text('{"id": "a"}\n')
  with pytest.raises(errors.DataError, match='expected answers of a run'):
    answers.read(tmp_path, run)
