"""Every stock gin file of a run parses, and does what it is for."""

import json
import pathlib
import re

import pytest

import t5x.eval
import t5x.infer
import t5x.precompile
import t5x.train
from t5x import errors
from tests.t5x import entry_points, toy_task

_ROOT = pathlib.Path(__file__).parents[2]
_RUNS = _ROOT / 't5x' / 'configs' / 'runs'
_FUNCTIONS = {
  'eval': t5x.eval.evaluate,
  'finetune': t5x.train.train,
  'infer': t5x.infer.infer,
  'precompile': t5x.precompile.precompile,
  'pretrain': t5x.train.train,
}
_TASK = toy_task.NAME


def _required(run) -> dict[str, str]:
  """A value for each macro that a run's file asks for."""
  text = (_RUNS / f'{run}.gin').read_text()
  return {
    name: f'some {name}'
    for name in re.findall(r'^(\w+) = %gin.REQUIRED', text, re.MULTILINE)
  }


def test_every_run_file_has_its_entry_point():
  assert sorted(path.stem for path in _RUNS.glob('*.gin')) == sorted(_FUNCTIONS)


@pytest.mark.parametrize('run', _FUNCTIONS)
def test_a_missing_macro_is_named(run):
  macros = _required(run)
  missing = macros.popitem()[0]
  with pytest.raises(errors.UserError, match=missing):
    entry_points.call(
      _FUNCTIONS[run],
      [entry_points.TINY, _RUNS / f'{run}.gin'],
      **macros,
    )


# The five files in the order of a user's work. Each run is one of two steps, or
# of two batches.


def _run(run, folder, **macros):
  return entry_points.call(
    _FUNCTIONS[run],
    [entry_points.TINY, _RUNS / f'{run}.gin', entry_points.toy_file(folder)],
    **macros,
  )


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
  folder = tmp_path_factory.mktemp('stock')
  with entry_points.shared_compilation(folder / 'compiled'):
    yield folder


@pytest.fixture(scope='module')
def pretrained(workplace):
  """The checkpoint of a pretraining of two steps."""
  folder = workplace / 'pretrained'
  step, state = _run(
    'pretrain',
    workplace,
    MODEL_DIR=str(folder),
    TRAIN_STEPS=2,
    EVAL_STEPS=1,
    RANDOM_SEED=0,
  )
  assert step == int(state.step) == 2
  return folder / 'checkpoint_2'


@pytest.fixture(scope='module')
def finetuned(workplace, pretrained):
  """The folder of a finetuning of two steps, from the pretrained checkpoint."""
  folder = workplace / 'finetuned'
  step, state = _run(
    'finetune',
    workplace,
    MODEL_DIR=str(folder),
    INITIAL_CHECKPOINT_PATH=str(pretrained),
    TRAIN_STEPS=4,
    EVAL_STEPS=1,
    RANDOM_SEED=0,
  )
  assert step == int(state.step) == 4
  return folder


def _lines(path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_pretrain_trains_measures_and_saves(pretrained):
  folder = pretrained.parent
  assert pretrained.is_dir()
  assert (folder / 'training_eval' / _TASK).is_dir()
  assert not (folder / 'inference_eval').exists()
  assert _lines(folder / 'train' / 'metrics.jsonl')[-1]['step'] == 2


def test_finetune_goes_on_from_a_checkpoint_and_evaluates(finetuned):
  assert (finetuned / 'checkpoint_4').is_dir()
  (line,) = _lines(finetuned / 'inference_eval' / f'{_TASK}-metrics.jsonl')
  assert line.keys() == {'step', 'exact_match', 'mean_score'}
  assert _lines(finetuned / 'train' / 'metrics.jsonl')[-1]['step'] == 4


def test_eval_finds_what_the_run_found(workplace, finetuned, tmp_path):
  results = _run(
    'eval',
    workplace,
    CHECKPOINT_PATH=str(finetuned / 'checkpoint_4'),
    EVAL_OUTPUT_DIR=str(tmp_path),
  )
  ((_, by_task),) = results.items()
  assert by_task.keys() == {_TASK}
  for name in (f'{_TASK}-metrics.jsonl', f'{_TASK}-000004.jsonl'):
    ours = _lines(tmp_path / 'inference_eval' / name)
    assert ours == _lines(finetuned / 'inference_eval' / name)
  assert len(ours) == toy_task.ROWS['validation']
  assert ours[0].keys() >= {'input', 'target', 'prediction'}


def test_infer_predicts_what_the_run_predicted(workplace, finetuned, tmp_path):
  _run(
    'infer',
    workplace,
    CHECKPOINT_PATH=str(finetuned / 'checkpoint_4'),
    INFER_OUTPUT_DIR=str(tmp_path),
    SPLIT='validation',
  )
  rows = _lines(tmp_path / f'{_TASK}-predict.jsonl-00000-of-00001')
  run = _lines(finetuned / 'inference_eval' / f'{_TASK}-000004.jsonl')
  assert [r['prediction'] for r in rows] == [r['prediction'] for r in run]
  assert [r['inputs']['inputs_pretokenized'] for r in rows] == [
    text for text, _ in toy_task.texts('validation')
  ]


def test_precompile_compiles_the_step_of_the_run(
  workplace, finetuned, tmp_path
):
  def programs():
    return {path.name for path in (workplace / 'compiled').glob('*-cache')}

  before = programs()
  assert before
  costs = _run('precompile', workplace, MODEL_DIR=str(tmp_path), RANDOM_SEED=0)
  assert costs['argument_bytes'] > 0
  assert 'stablehlo' in (tmp_path / 'lowered_hlo.txt').read_text()
  assert programs() == before
