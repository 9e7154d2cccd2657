"""Files of a run's folder, read as data."""

import json

import pytest

from dss_jax import errors
from dss_jax.report import run_files
from tests.dss_jax.study import finished_run


def test_a_step_that_was_evaluated_again_counts_once_with_its_last(tmp_path):
  spec = finished_run.spec('finetune')
  run_dir = finished_run.write(tmp_path, spec, [True, False], earlier=())
  path = run_dir / 'inference_eval' / 'cqa_sample_finetune_test-metrics.jsonl'
  again = {'step': 60, **finished_run.accuracy([True, True])}
  path.write_text(path.read_text() + json.dumps(again) + '\n{"step": 6')
  (found,) = run_files.evaluations(run_dir)
  assert found.accuracy == {'validation': 50.0, 'test': 100.0}


def test_a_metric_that_cannot_be_read_is_named_with_its_line(tmp_path):
  spec = finished_run.spec('finetune')
  run_dir = finished_run.write(tmp_path, spec, [True], earlier=())
  path = run_dir / 'inference_eval' / 'cqa_sample_finetune_test-metrics.jsonl'
  path.write_text(path.read_text() + 'no JSON\n')
  with pytest.raises(errors.DataError, match=r'test-metrics.jsonl, line 2:'):
    run_files.evaluations(run_dir)


def test_macros_are_read_over_several_lines(tmp_path):
  config = tmp_path / 'config.gin'
  config.write_text(
    'import seqio\n\n# Macros:\n# ===\nALPHA = 0.2\nROW = \\\n'
    '    {"inputs": 5,\n     "targets": 6}\nMODEL = @models.Distill()\n'
    '\n# Parameters for a.b:\n'
    'a.b.clip_norm = 1.0\n'
  )
  assert run_files.macros(config) == {
    'ALPHA': '0.2',
    'ROW': '{"inputs": 5, "targets": 6}',
    'MODEL': '@models.Distill()',
  }


def test_a_run_without_a_number_of_parameters_is_told(tmp_path):
  info = tmp_path / 'model-info.txt'
  info.write_text('Mesh: none\n')
  with pytest.raises(errors.DataError, match=r'model-info.txt: expected'):
    run_files.parameters(info)


def test_a_split_is_the_last_one_in_a_tasks_name(tmp_path):
  run_dir = finished_run.write(
    tmp_path, finished_run.spec(fraction=0.5), [True] * 4, earlier=()
  )
  folder = run_dir / 'inference_eval'
  for split in ('validation', 'test'):
    old = f'cqa_sample_rationale_palm_{split}'
    for path in folder.glob(f'{old}*'):
      new = path.name.replace(old, f'cqa_sample_rationale_test_{split}_f0.5')
      path.rename(folder / new)
  found = run_files.answer_files(run_dir, 'bleu', 60)
  assert {split: path.name for split, path in found.items()} == {
    split: f'cqa_sample_rationale_test_{split}_f0.5-000060.jsonl'
    for split in ('validation', 'test')
  }
  assert all(path.exists() for path in found.values())


def test_labels_that_are_sentences_are_not_taken_for_rationales(tmp_path):
  run_dir = finished_run.write(
    tmp_path, finished_run.spec('finetune'), [True] * 4, earlier=()
  )
  for path in run_dir.glob('inference_eval/*-metrics.jsonl'):
    row = json.loads(path.read_text()) | {'bleu': 3.0, 'rouge_l': 4.0}
    path.write_text(json.dumps(row) + '\n')
  assert run_files.answer_files(run_dir, 'bleu', 60) == {}
  assert set(run_files.answer_files(run_dir, 'accuracy', 60)) == {
    'validation',
    'test',
  }
