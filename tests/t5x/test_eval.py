"""Evaluation goes through the checkpoints, and leaves SeqIO's files."""

import json

import pytest
import seqio

import t5x.eval
from t5x import checkpoints, data, errors
from t5x import trainer as trainer_lib
from tests.t5x import small_models, toy_task


@pytest.fixture(scope='module')
def run_folder(tmp_path_factory):
  return small_models.save(
    small_models.EchoModel(), tmp_path_factory.mktemp('run'), [3, 7]
  )


def _evaluate(path, output_dir, mode, split='validation', **options):
  return t5x.eval.evaluate(
    model=small_models.EchoModel(),
    dataset_cfg=data.DatasetConfig(
      mixture_or_task_name=toy_task.NAME,
      task_feature_lengths=toy_task.LENGTHS,
      split=split,
      batch_size=8,
      shuffle=False,
      seed=0,
    ),
    restore_checkpoint_cfg=checkpoints.RestoreCheckpointConfig(
      path=str(path), mode=mode
    ),
    partitioner=small_models.partitioner(),
    output_dir=str(output_dir),
    **{'inference_evaluator_cls': _evaluator, **options},
  )


def _evaluator(**kwargs):
  return seqio.Evaluator(logger_cls=[seqio.JSONLogger], **kwargs)


def _trainer(**kwargs):
  return trainer_lib.Trainer(
    learning_rate_fn=lambda step: 0.0, num_microbatches=None, **kwargs
  )


def test_all_checkpoints_are_evaluated_in_order(run_folder, tmp_path, capsys):
  results = _evaluate(run_folder, tmp_path, 'all')
  folder = tmp_path / 'inference_eval'
  lines = (folder / 'toy_backwards-metrics.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in lines] == [3, 7]
  assert list(results) == [str(run_folder / f'checkpoint_{s}') for s in (3, 7)]
  assert all(
    tasks[toy_task.NAME]['exact_match'] == 100 for tasks in results.values()
  )
  printed = capsys.readouterr().out
  assert 'checkpoint_7  toy_backwards  exact_match 100' in printed
  rows = (folder / 'toy_backwards-000007.jsonl').read_text().splitlines()
  row = json.loads(rows[2])
  text, answer = toy_task.texts('validation')[2]
  assert row['prediction'] == row['target'] == answer
  assert row['input']['inputs_pretokenized'] == text


def test_a_trainer_measures_the_loss_of_the_same_checkpoint(
  run_folder, tmp_path
):
  (by_task,) = _evaluate(
    run_folder / 'checkpoint_3',
    tmp_path,
    'specific',
    training_evaluator_cls=_trainer,
  ).values()
  metrics = by_task[toy_task.NAME]
  loss = float(getattr(metrics['loss'], 'value', metrics['loss']))
  # Ten rows in two batches; the loss is a mean over batches of sums of rows.
  assert loss == pytest.approx(-5 * metrics['mean_score'], rel=1e-4)
  assert (tmp_path / 'training_eval' / toy_task.NAME).is_dir()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'mode': 'latest', 'path': 'nothing'}, 'no checkpoint in'),
    ({'mode': 'all', 'split': 'validtaion'}, "Did you mean 'validation'"),
    ({'mode': 'all', 'inference_evaluator_cls': None}, 'nothing to compute'),
  ],
)
def test_what_can_not_work_is_said(run_folder, tmp_path, options, message):
  options = {'path': run_folder, **options}
  with pytest.raises(errors.UserError, match=message):
    _evaluate(output_dir=tmp_path, **options)
