"""Folders of runs for reports, made without training.

`write` makes what a run of the method leaves, `write_other` what one of another
model does.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from dss_jax.pipeline.scoring import metrics
from dss_jax.training_data import record
from tests.dss_jax.study import finished_run

CLASSES = finished_run.CHOICES
STEPS = 60
_MACROS = {
  'DATA': 'sample',
  'DATA_SET': 'cqa',
  'EVAL_PERIOD': 20,
  'LABELS': 'gold',
  'STATS_PERIOD': 20,
  'TEACHER': 'palm',
  'TRAIN_STEPS': STEPS,
}
_COMMAND = {
  'time': '2026-05-04T10:00:00+00:00',
  'folder': '/home/me',
  'versions': ['Python 3.12.1', 'jax 0.10.2', 't5x, the files 0123456789ab'],
  'commit': 'c' * 40 + '+',
  'devices': {'cpu': 2},
}


def write(
  folder: pathlib.Path,
  method: str = 'dss',
  right: Sequence[bool] = (True, False, True, True, False) * 4,
  **more: Any,
) -> pathlib.Path:
  """Writes a finished run whose labels are classes; returns its folder.

  Args:
    folder: where it is.
    method: METHOD.
    right: whether each test question is answered right at the last step.
    **more: for `finished_run.write`.
  """
  spec = finished_run.spec(method, steps=STEPS)
  earlier = ([False] * len(right), [True] * len(right))
  run_dir = finished_run.write(folder, spec, right, earlier=earlier, **more)
  _add_macros(run_dir)
  _score_classes(run_dir)
  _write_losses(run_dir, method)
  _write_records(run_dir, method)
  return run_dir


def _add_macros(run_dir: pathlib.Path) -> None:
  path = run_dir / 'config.gin'
  lines = ''.join(f'{name} = {value!r}\n' for name, value in _MACROS.items())
  path.write_text(path.read_text().replace('ALPHA = ', f'{lines}ALPHA = '))


def _score_classes(run_dir: pathlib.Path) -> None:
  """Measures the answers to label tasks by class, as the metric does."""
  metric = metrics.class_accuracy(CLASSES)
  for path in run_dir.glob('inference_eval/*-metrics.jsonl'):
    if '_rationale_' in path.name:
      continue
    lines = []
    for line in path.read_text().splitlines():
      step = json.loads(line)['step']
      task = path.name.removesuffix('-metrics.jsonl')
      rows = answers(run_dir, task, step)
      found = metric(
        [row['target'] for row in rows], [row['prediction'] for row in rows]
      )
      lines.append(json.dumps({'step': step, **found}) + '\n')
    path.write_text(''.join(lines))


def answers(run_dir: pathlib.Path, task: str, step: int) -> list[Any]:
  """Returns the lines of a file of predictions."""
  path = run_dir / 'inference_eval' / f'{task}-{step:06}.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()]


def _write_losses(run_dir: pathlib.Path, method: str) -> None:
  train = run_dir / 'train' / 'metrics.jsonl'
  task = run_dir / 'training_eval' / 'cqa_sample_paired_gold_palm'
  task.mkdir(parents=True)
  lines = []
  measured = []
  for step in range(20, STEPS + 1, 20):
    loss = 6.0 - step / 20
    row = {'step': step, 'label_loss': loss, 'loss': loss}
    if method == 'dss':
      row |= {'rationale_loss': loss + 1}
    # Validation is best in the middle.
    measured.append({**row, 'label_loss': 3.0 + abs(step - 40) / 100})
    lines.append(
      row
      | {
        'learning_rate': 0.001 * step,
        'timing/seconds': 90.0,
        'timing/tokens_per_second': 1000.0 + step,
        'grad_norm': float('nan') if step == 20 else 1.0,
      }
    )
  train.write_text(
    '{"step": 0, "timing/compilation_seconds": 4.8}\n'
    + ''.join(json.dumps(row) + '\n' for row in lines)
  )
  (task / 'metrics.jsonl').write_text(
    ''.join(json.dumps(row) + '\n' for row in measured)
  )


def _write_records(run_dir: pathlib.Path, method: str) -> None:
  data = record.TrainingData(
    data_set='cqa',
    place='sample',
    rows={'train': 900, 'validation': 100, 'test': 400},
    tasks=[
      record.TaskRows(
        'cqa_sample_rationale_palm',
        drawn=900,
        used=890,
        needs=['rationale'],
        teacher_right=810,
        cut_targets=12,
        counted=890,
        longest=[100, 130],
      )
    ],
    lengths={'inputs': 120, 'targets': 80},
    step={
      'labels': 16,
      'rows': 8,
      'inputs': 512,
      'targets': 192,
      'inputs_fill': 0.86,
      'targets_fill': 0.9,
      'epochs': 1.07,
    },
  )
  text = json.dumps(data, default=vars)
  (run_dir / record.FILE).write_text(text)
  command = [
    '/lib/t5x/train.py',
    '--gin_file=gin/dss_cqa.gin',
    f"--gin.METHOD='{method}'",
  ]
  row = json.dumps(_COMMAND | {'command': command})
  (run_dir / 'commands.jsonl').write_text(f'{row}\n{row}\n')


def write_other(folder: pathlib.Path) -> pathlib.Path:
  """Writes a run of another model than the method's; returns its folder."""
  run_dir = folder / 'translation'
  (run_dir / 'train').mkdir(parents=True)
  (run_dir / 'inference_eval').mkdir()
  (run_dir / 'config.gin').write_text(
    'import __main__ as train_script\n\n'
    "MIXTURE_OR_TASK_NAME = 'wmt_ende'\n\n"
    'train_script.train.total_steps = 100\n'
  )
  (run_dir / 'run.json').write_text(
    json.dumps({'seed': 0, 'data': {'mixture_or_task': 'wmt_ende'}})
  )
  (run_dir / 'train' / 'metrics.jsonl').write_text(
    '{"step": 50, "loss": 4.0, "timing/seqs_per_second": 8.5}\n'
    '{"step": 100, "loss": 3.0, "timing/seqs_per_second": 9.5}\n{"step": 1'
  )
  tasks = run_dir / 'inference_eval'
  (tasks / 'wmt_ende-metrics.jsonl').write_text(
    '{"step": 50, "bleu": 11.0}\n{"step": 100, "bleu": 21.5}\n'
  )
  (tasks / 'glue_cola-metrics.jsonl').write_text(
    '{"step": 100, "accuracy": 50.0}\n'
  )
  rows = [
    {'input': {'inputs_pretokenized': text}, 'target': 1, 'prediction': said}
    for text, said in (('cola: a', 1), ('cola: b', [0]))
  ]
  (tasks / 'glue_cola-000100.jsonl').write_text(
    ''.join(json.dumps(row) + '\n' for row in rows)
  )
  return run_dir
