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


@pytest.mark.parametrize('measured', [75.0, 25.0, 50.5, 100.0, None])
def test_answers_that_are_not_what_was_measured_are_an_error(
  tmp_path, measured
):
  run = _run(tmp_path, finished_run.spec(), [True, False])
  accuracy = {} if measured is None else {'test': measured}
  other = dataclasses.replace(run.last, accuracy=accuracy)
  with pytest.raises(
    errors.DataError, match=rf'{measured}%, found 50.0% of 2 answers'
  ):
    answers.prepare(tmp_path, dataclasses.replace(run, last=other))
  assert not (tmp_path / run.predictions).exists()


def test_a_test_split_without_questions_has_no_answers(tmp_path):
  run = _run(tmp_path, finished_run.spec(), [])
  assert answers.prepare(tmp_path, run)
  assert answers.read(tmp_path, run) == []


@pytest.mark.parametrize(
  ('kinds', 'own', 'teachers'),
  [
    (
      "('thought', 'program')",
      'thought: It has gills.\nprogram: fish(0)',
      'thought: Animal 0 likes it.\nprogram: likes(0)',
    ),
    # One kind needs no name before it, and a task of no kind is not read.
    ("('thought',)", 'It has gills.', 'Animal 0 likes it.'),
  ],
)
def test_rationales_of_several_kinds_are_told_apart(
  tmp_path, kinds, own, teachers
):
  """Else a report shows one kind as the other's, or none."""
  run = _run(
    tmp_path, finished_run.spec(), [True], rationales={0: 'It has gills.'}
  )
  folder = tmp_path / results.RUNS / run.spec.name / 'inference_eval'
  task = 'cqa_sample_rationale_palm_test'
  for end in ('metrics', '000060'):
    path = folder / f'{task}-{end}.jsonl'
    text = path.read_text().replace('explain: ', 'program: ')
    text = text.replace('It has gills.', 'fish(0)')
    text = text.replace('Animal 0 likes it.', 'likes(0)')
    other = path.name.replace('rationale', 'rationale2')
    (folder / other).write_text(text)
  settings = {**run.settings, 'RATIONALE_KINDS': kinds}
  run = dataclasses.replace(run, settings=settings)
  assert answers.prepare(tmp_path, run)
  (answer,) = answers.read(tmp_path, run)
  assert (answer.rationale, answer.teacher_rationale) == (own, teachers)


def test_predictions_outlive_the_folder_and_follow_a_new_one(tmp_path):
  spec = finished_run.spec('finetune')
  run = _run(tmp_path, spec, [True, False])
  assert answers.prepare(tmp_path, run)
  path = tmp_path / run.predictions
  before = path.stat().st_mtime_ns
  assert answers.prepare(tmp_path, run)
  assert path.stat().st_mtime_ns == before
  # As old as its source is new enough: clocks of file systems are coarse.
  folder = tmp_path / results.RUNS / spec.name
  (source,) = (folder / 'inference_eval').glob('*_test-000060.jsonl')
  text = path.read_text()
  path.write_text(f'{text}\n')
  os.utime(path, ns=(before, source.stat().st_mtime_ns))
  assert answers.prepare(tmp_path, run)
  assert path.read_text() == f'{text}\n'
  path.write_text(text)
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
  # Whichever comes first.
  text = 'in line 2' if len(ids) == 2 else '1 of them, found 2'
  with pytest.raises(errors.DataError, match=text):
    answers.Marks(tmp_path).of([other, first])


def test_a_file_of_other_lines_is_an_error(tmp_path):
  run = _run(tmp_path, finished_run.spec(), [True])
  (tmp_path / 'predictions').mkdir()
  (tmp_path / run.predictions).write_text('{"id": "a"}\n')
  with pytest.raises(errors.DataError, match='expected answers of a run'):
    answers.read(tmp_path, run)
