"""Runs as their folders tell them, whole or not."""

import json
import shutil

import pytest

from dss_jax import errors
from dss_jax.report import answered, mistakes, runs, scores, settings
from tests.dss_jax.report import made_run


def test_a_finished_run_lacks_nothing(tmp_path):
  (run,) = runs.read([made_run.write(tmp_path)])
  assert run.gaps == [] and run.is_done and not run.running
  assert (run.step, run.total_steps, run.parameters) == (60, 60, 345_088)
  assert run.seconds == 270.0
  assert [t.shown for t in run.label_tasks()] == ['validation', 'test']
  assert [t.step for t in run.rationale_tasks('test')] == [60]
  assert settings.about(run) == (
    'Distilling step by step · gold labels · rationales of palm · cqa (sample)'
  )
  assert settings.state(run) == 'Finished: step 60 of 60.'


def test_what_a_run_wrote_again_after_a_kill_counts(tmp_path):
  run_dir = made_run.write(tmp_path)
  with (run_dir / 'train' / 'metrics.jsonl').open('a') as f:
    f.write('{"step": 40, "label_loss": 9.0}\n{"step": 60, "label_l')
  (run,) = runs.read([run_dir])
  assert list(run.train) == [0, 20, 40, 60]
  assert run.train[40]['label_loss'] == 9.0
  assert run.train[60]['label_loss'] == 3.0


def test_gaps_are_said(tmp_path):
  run_dir = made_run.write(tmp_path)
  for name in ('inference_eval', 'train'):
    shutil.rmtree(run_dir / name)
  for name in ('commands.jsonl', 'training_data.json', 'model-info.txt'):
    (run_dir / name).unlink()
  (run,) = runs.read([run_dir])
  said = '\n'.join(run.gaps)
  assert 'No metrics of training yet (train/metrics.jsonl); the first' in said
  assert 'No evaluation of predictions yet; the first is due at step 20' in said
  assert 'No commands.jsonl' in said
  assert settings.state(run) == 'Not training, and no step was reported yet.'
  assert run.parameters is None


def test_a_file_that_cannot_be_read_is_a_gap_with_its_line(tmp_path):
  run_dir = made_run.write(tmp_path)
  (run_dir / 'train' / 'metrics.jsonl').write_text('{"step": 2}\nnonsense\n')
  (run_dir / 'run.json').write_text('[')
  (run_dir / 'training_data.json').write_text('{"tasks": [{"a": 1}]}')
  (run,) = runs.read([run_dir])
  said = '\n'.join(run.gaps)
  assert 'metrics.jsonl, line 2: expected a JSON object' in said
  assert 'run.json: expected a JSON object' in said
  assert 'training_data.json: expected what the run trains on' in said
  assert run.tasks


def test_rationales_that_were_not_evaluated_are_said(tmp_path):
  run_dir = made_run.write(tmp_path)
  for path in run_dir.glob('inference_eval/*_rationale_*'):
    path.unlink()
  (run,) = runs.read([run_dir])
  assert run.gaps == [
    'Rationales were not evaluated (EVAL_RATIONALES = False): none are shown'
    ' beside the answers.'
  ]


def test_a_run_that_goes_on_or_ended_early_says_so(tmp_path):
  from t5x.files import folder_lock

  run_dir = made_run.write(tmp_path)
  config = run_dir / 'config.gin'
  config.write_text(config.read_text().replace('_STEPS = 60', '_STEPS = 90'))
  with folder_lock.writing(str(run_dir)):
    (run,) = runs.read([run_dir])
    assert settings.state(run) == (
      'Still training: step 60 of 90 when this page was made.'
    )
  (run,) = runs.read([run_dir])
  assert settings.state(run) == (
    'Ended early: step 60 of 90. The same command goes on with it.'
  )


def test_a_run_of_another_model_is_read(tmp_path):
  (run,) = runs.read([made_run.write_other(tmp_path)])
  assert (run.step, run.total_steps, run.method) == (100, 100, '')
  assert settings.about(run) == 'A model trained on wmt_ende'
  (task,) = run.label_tasks()
  found = answered.Answers([run]).of(run, task)
  assert [(a.id, a.gold, a.prediction, a.correct) for a in found.answers] == [
    ('1', '1', '1', True),
    ('2', '1', '0', False),
  ]
  assert found.judged


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('nowhere', r'found nothing there\. Runs there: .*dss_f1_s0'),
    ('a_file', r'found a file'),
    ('empty', r'with config\.gin, .* found none of them'),
    ('gs://bucket/run', r'expected a folder of this machine\. Copy the run'),
  ],
)
def test_a_folder_that_is_no_run_is_an_error_that_helps(tmp_path, name, text):
  made_run.write(tmp_path)
  (tmp_path / 'a_file').write_text('')
  (tmp_path / 'empty').mkdir()
  given = name if '://' in name else tmp_path / name
  with pytest.raises(errors.DataError, match=text):
    runs.read([given])


def test_a_run_that_is_given_twice_is_an_error(tmp_path):
  run_dir = made_run.write(tmp_path)
  with pytest.raises(errors.DataError, match='found this one twice'):
    runs.read([run_dir, run_dir / '..' / run_dir.name])


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
  folders = [made_run.write(tmp_path / name) for name in ('a', 'b')]
  assert [r.name for r in runs.read(folders)] == ['a/dss_f1_s0', 'b/dss_f1_s0']


def test_answers_that_are_judged_by_another_rule_are_called_neither(tmp_path):
  run_dir = made_run.write(tmp_path)
  path = run_dir / 'inference_eval' / 'cqa_sample_label_test-metrics.jsonl'
  row = {'step': 60, 'accuracy': 12.5}
  path.write_text(json.dumps(row) + '\n')
  found = runs.read([run_dir])
  answers = answered.Answers(found)
  task = found[0].label_tasks()[-1]
  assert not answers.of(found[0], task).judged
  (gap,) = answers.gaps[found[0].name]
  assert 'measured 12.5 at step 60, and of 20 answers 60%' in gap
  shown = mistakes.collect(found, answers, ())
  tests = [item for item in shown.data['items'] if item[0] == 1]
  assert all(given[0][2] == 0 for *_, given in tests)


def test_commands_are_those_that_one_types(tmp_path):
  (run,) = runs.read([made_run.write(tmp_path)])
  (command,) = settings.ran(run)
  assert command.why == 'Started 2026-05-04 10:00:00 UTC, and 1 more time'
  assert command.text == (
    'python -m t5x.train --gin_file=gin/dss_cqa.gin --gin.METHOD="\'dss\'"'
  )
  texts = [command.text for command in settings.comes_next([run])]
  assert texts[0] == f'dss ask {run.folder} "your text"'
  assert any('--gin.METHOD="\'finetune\'"' in text for text in texts)
  assert f'dss report {run.folder} {run.folder}_finetune' in texts
  assert ('source', 'cccccccccccc+') in settings.environment(run)
  assert ('t5x', '0123456789ab') in settings.environment(run)


def test_labels_of_the_teacher_give_an_agreement(tmp_path):
  run_dir = made_run.write(tmp_path)
  for path in run_dir.glob('inference_eval/*_label_*-metrics.jsonl'):
    path.write_text(path.read_text().replace('"accuracy', '"agreement'))
  found = runs.read([run_dir])
  answers = answered.Answers(found)
  first, second = scores.accuracies(found, answers)
  assert first.measure == second.measure == 'agreement with the teacher'
  assert (first.name, first.value, first.count) == ('test', 60.0, 20)
  assert len(scores.confusions(found)) == 2
  data = mistakes.collect(found, answers, ()).data
  assert data['golds'] == ["The teacher's label: "] * 2
