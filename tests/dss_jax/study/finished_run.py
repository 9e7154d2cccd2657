"""Folders of finished runs, as `t5x.train` leaves them, made without training.

`write` makes one run, `write_study` a study of some methods, of which a method
knows each question or not by a seeded rule. `result` is that of a run that has
no folder.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dss_jax.pipeline import methods
from dss_jax.report import run_files
from dss_jax.study import results

CHOICES = ('pond', 'desert', 'attic', 'orchard', 'harbor')
_PREFIX = {'dss': methods.LABEL_PREFIX}
_CONFIG = """from __gin__ import dynamic_registration
import __main__ as train_script
from dss_jax import mixtures

# Macros:
# ==============================================================================
{macros}

# Parameters for optimization.adamw:
# ==============================================================================
optimization.adamw.clip_norm = 1.0
"""
_INFO = """\
token_embedder/embedding  (1152, 64)  73,728  ('vocab', 'embed')  (None,)

Parameters: {parameters:,}
Optimizer state: 690,178
Mesh: {{'data': 1, 'model': 1}}
"""


def question(number: int) -> str:
  """The question of a place in the test split."""
  return f'Where does animal {number} live?\nAnswer Choices:\n(a) pond'


def spec(method: str = 'dss', seed: int = 0, **changes: Any) -> results.Spec:
  """What a run is, by default of the packaged sample."""
  fraction = changes.get('fraction', 1.0)
  weighted = method in ('dss', 'shuffled')
  rationales = method != 'finetune'
  return results.Spec(
    **{
      'name': f'{method}_f{fraction:g}_s{seed}',
      'data_set': 'cqa',
      'data': 'sample',
      'method': method,
      'labels': 'teacher' if method == 'distill' else 'gold',
      'teacher': 'palm' if rationales else None,
      'alpha': 0.2 if weighted else None,
      'size': 'tiny',
      'fraction': fraction,
      'seed': seed,
      'steps': 60,
      'label_examples': 16,
      'train_rows': int(900 * fraction),
      'teacher_accuracy': {'test': 90.0},
      **changes,
    }
  )


def result(of: results.Spec, **changes: Any) -> results.RunResult:
  """What a run of one evaluation comes to, half of four questions right.

  Args:
    of: what was run.
    **changes: of its other fields.
  """
  end = run_files.Evaluation(60, {'test': 50.0}, {'test': [40.0, 60.0]})
  return results.RunResult(
    **{
      'spec': of,
      'settings': {'ALPHA': repr(of.alpha), 'FRACTION': '1.0', 'SAME': '3'},
      'parameters': 345_088,
      'versions': {'jax': '0.10.2'},
      'commit': None,
      'device': 'a CPU',
      'seconds': 1.0,
      'rows': {'test': 4},
      'last': end,
      'best_validation': None,
      'best_test': end,
      'predictions': f'predictions/{of.name}.jsonl',
      **changes,
    }
  )


def write(
  folder: pathlib.Path,
  of: results.Spec,
  right: Sequence[bool],
  *,
  predictions: Mapping[int, str] | None = None,
  rationales: Mapping[int, str] | None = None,
  earlier: Sequence[Sequence[bool]] = ((), ()),
  parameters: int = 345_088,
  ids: Sequence[str] | None = None,
) -> pathlib.Path:
  """Writes the folder of a run.

  Args:
    folder: where folders of runs are.
    of: what was run.
    right: whether each test question is answered right at the last step.
    predictions: wrong ones, by question.
    rationales: the model's, by question.
    earlier: likewise at the evaluations before the last one.
    parameters: of the model.
    ids: of the questions.

  Returns:
    The folder.
  """
  run_dir = folder / of.name
  method = {'distill': 'finetune', 'shuffled': 'dss'}.get(of.method, of.method)
  (run_dir / 'inference_eval').mkdir(parents=True)
  (run_dir / 'train').mkdir()
  macros = {
    'ALPHA': of.alpha,
    'FRACTION': of.fraction,
    'METHOD': method,
    'MODEL_DIR': str(run_dir),
    'PACKED_ROW': {'inputs': 512, 'targets': 192},
    'RANDOM_SEED': of.seed,
    'SHUFFLE_RATIONALES': of.method == 'shuffled',
  }
  lines = '\n'.join(f'{name} = {value!r}' for name, value in macros.items())
  (run_dir / 'config.gin').write_text(_CONFIG.format(macros=lines))
  (run_dir / 'model-info.txt').write_text(_INFO.format(parameters=parameters))
  _write_losses(run_dir, of.steps)
  period = of.steps // (len(earlier) + 1)
  kind = {'dss': 'label', 'single_task': 'single_palm'}.get(method, 'finetune')
  evaluated = [*earlier, right]
  for number, all_marks in enumerate(evaluated, 1):
    step = of.steps if number == len(evaluated) else number * period
    for split, most in (('validation', 100), ('test', len(all_marks))):
      task = f'{of.data_set}_sample_{kind}_{split}'
      marks = all_marks[:most]
      rows = [
        _row(method, n, ok, predictions or {}, rationales or {}, ids)
        for n, ok in enumerate(marks)
      ]
      hits = [row['prediction'] == row['target'] for row in rows]
      _log(run_dir, task, step, rows, accuracy(hits))
      if method == 'dss':
        task = f'{of.data_set}_sample_rationale_palm_{split}'
        rows = [
          _rationale_row(n, rationales or {}, ids) for n in range(len(marks))
        ]
        _log(run_dir, task, step, rows, {'bleu': 7.0, 'rouge_l': 39.0})
  return run_dir


def accuracy(right: Sequence[bool]) -> dict[str, float]:
  """What the metric of labels writes; the interval is made up."""
  part = 100.0 * sum(right) / max(len(right), 1)
  return {
    'accuracy': part,
    'accuracy_low': max(part - 5, 0.0),
    'accuracy_high': min(part + 5, 100.0),
  }


def _log(
  run_dir: pathlib.Path,
  task: str,
  step: int,
  rows: Sequence[Mapping[str, Any]],
  metrics: Mapping[str, float],
) -> None:
  """Appends metrics and writes predictions, as `seqio.JSONLogger` does."""
  folder = run_dir / 'inference_eval'
  with (folder / f'{task}-metrics.jsonl').open('a') as f:
    f.write(json.dumps({'step': step, **metrics}) + '\n')
  with (folder / f'{task}-{step:06}.jsonl').open('w') as f:
    f.writelines(json.dumps(row) + '\n' for row in rows)


def _row(method, number, right, predictions, rationales, ids):
  gold = CHOICES[number % len(CHOICES)]
  wrong = CHOICES[(number + 1) % len(CHOICES)]
  answer = gold if right else predictions.get(number, wrong)
  output, target = answer, gold
  if method == 'single_task':
    said = rationales.get(number, f'Animal {number} swims.')
    output = f'{said} {methods.ANSWER_PHRASE} {answer}'
    target = f'Animal {number} likes it. {methods.ANSWER_PHRASE} {gold}'
  return {
    'input': {
      'id': ids[number] if ids else f'id{number}',
      'inputs_pretokenized': _PREFIX.get(method, '') + question(number),
      'inputs': [1, 2, 1],
      'targets_pretokenized': target,
      'targets': [5, 1],
      'task_id': 1,
    },
    'target': gold,
    'output': output,
    'prediction': answer,
  }


def _rationale_row(number, rationales, ids):
  said = rationales.get(number, f'Animal {number} swims.')
  teachers = f'Animal {number} likes it.'
  return {
    'input': {
      'id': ids[number] if ids else f'id{number}',
      'inputs_pretokenized': methods.RATIONALE_PREFIX + question(number),
      'inputs': [1, 2, 1],
      'targets_pretokenized': teachers,
      'targets': 'ndarray(shape=(36,), dtype=int32); summary: 2, 4 ... 1',
      'task_id': 2,
    },
    'target': teachers,
    'output': said,
    'prediction': said,
  }


def _write_losses(run_dir: pathlib.Path, steps: int) -> None:
  with (run_dir / 'train' / 'metrics.jsonl').open('w') as f:
    f.write('{"step": 0, "timing/compilation_seconds": 4.8}\n')
    for step in range(20, steps + 1, 20):
      loss = 6.0 / (1 + step / 20)
      f.write(json.dumps({'step': step, 'label_loss': loss, 'loss': loss}))
      f.write('\n')


def write_study(
  out: pathlib.Path,
  skill: Mapping[str, float],
  *,
  seeds: int = 3,
  fractions: Sequence[float] = (1.0,),
  sizes: Sequence[str] = ('tiny',),
  questions: int = 60,
  evaluations: int = 3,
  **more: Any,
) -> list[results.RunResult]:
  """Writes a study's folders and its `results.jsonl`.

  Args:
    out: the study's folder.
    skill: chance of each method to be right with all rows.
    seeds: of each.
    fractions: of the rows.
    sizes: of the model.
    questions: in the test split.
    evaluations: of each run, up to three.
    **more: for `write`.

  Returns:
    The results, in the study's order.
  """
  found = []
  hard = np.random.default_rng(7).uniform(-0.3, 0.3, questions)
  for place, size in enumerate(sizes):
    for fraction in fractions:
      for method, chance in skill.items():
        for seed in range(seeds):
          name = f'{method}_f{fraction:g}_s{seed}'
          of = spec(
            method,
            seed,
            size=size,
            fraction=fraction,
            name=f'{name}_{size}' if len(sizes) > 1 else name,
          )
          rng = np.random.default_rng([len(found), 3])
          chances = chance * (0.5 + 0.5 * fraction) + 0.04 * place + hard
          marks = [
            [bool(x) for x in rng.random(questions) < chances * part]
            for part in (0.4, 0.8, 1)[-evaluations:]
          ]
          run_dir = write(
            out / results.RUNS,
            of,
            marks[-1],
            earlier=marks[:-1],
            parameters=345_088 * 4**place,
            **more,
          )
          found.append(
            results.record(of, run_dir, seconds=31.5, device='2 CPU cores')
          )
  results.write(out, found)
  return found
