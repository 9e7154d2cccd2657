"""Tests of what a run's folder says about a checkpoint."""

import json

from etils import epath

from dss_jax.export import measured


def lines(path, *rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))


def test_scores_are_those_of_the_step(tmp_path):
  folder = tmp_path / 'inference_eval'
  low_high = {'accuracy_low': 1.0, 'accuracy_high': 3.0}
  lines(
    folder / 'custom_local_1_label_test-metrics.jsonl',
    {'step': 10, 'accuracy': 9.0, 'accuracy_low': 8.0, 'accuracy_high': 9.5},
    {'step': 20, 'accuracy': 1.5, **low_high},
    {'step': 20, 'accuracy': 2.0, 'support_of_a b': 4, 'bleu': 7, **low_high},
    {'step': 30, 'accuracy': 99.0},
  )
  lines(folder / 'custom_local_1_label_test-000020.jsonl', *[{'x': 1}] * 7)
  lines(
    folder / 'custom_local_1_label_teacher_test_validation-metrics.jsonl',
    {'step': 20, 'agreement': 50.0},
  )
  lines(
    folder / 'custom_local_1_rationale_mine_validation-metrics.jsonl',
    {'step': 20, 'bleu': 3, 'rouge_l': 4},
  )
  lines(
    folder / 'custom_local_1_rationale2_mine.program_validation-metrics.jsonl',
    {'step': 20, 'bleu': 5},
  )
  lines(folder / 'other-metrics.jsonl', {'step': 20, 'accuracy': 100.0})
  with (folder / 'custom_local_1_label_test-metrics.jsonl').open('a') as file:
    file.write('{"step": 20, "accur')
  (tmp_path / 'run.json').write_text(
    json.dumps({'data': {'examples': {'a': 3, 'b': 2}}})
  )
  found = measured.read(epath.Path(tmp_path), 20)
  assert found.scores == (
    measured.Score('accuracy', 'test', 2.0, (1.0, 3.0), 7),
    measured.Score('agreement', 'validation', 50.0, None, None),
    measured.Score('bleu', 'validation', 3.0, None, None, 1),
    measured.Score('rouge_l', 'validation', 4.0, None, None, 1),
    measured.Score('bleu', 'validation', 5.0, None, None, 2),
  )
  assert found.classes == ('a b',)
  assert found.examples == {'a': 3, 'b': 2}


def test_a_folder_without_a_run_says_nothing(tmp_path):
  assert measured.read(epath.Path(tmp_path), 20) == measured.Measured()
  (tmp_path / 'run.json').write_text('[]')
  assert measured.read(epath.Path(tmp_path), 20) == measured.Measured()
