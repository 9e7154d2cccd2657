"""Every gin file that is shipped parses; the runs train, within two steps."""

import json
import pathlib
import re

import pytest

import gin
import t5x.eval
import t5x.infer
import t5x.precompile
import t5x.train
from t5x import errors, gin_utils
from tests.t5x import entry_points

_ROOT = pathlib.Path(__file__).parents[2]
_RUNS = _ROOT / 't5x' / 'configs' / 'runs'
_MODELS = sorted((_ROOT / 't5x' / 'examples' / 't5').glob('*/*.gin'))
_EXPERIMENTS = sorted((_ROOT / 'gin').glob('dss_*.gin'))
_SIZES = sorted((_ROOT / 'gin' / 'sizes').rglob('*.gin'))
_MAIN = {
  'eval': t5x.eval,
  'finetune': t5x.train,
  'infer': t5x.infer,
  'precompile': t5x.precompile,
  'pretrain': t5x.train,
}
# Evaluates what another file configures; see its header.
_AFTER_A_RUN = 'dss_eval.gin'


def _name(path):
  return str(path.relative_to(_ROOT))


def _parse(module, *files, **macros) -> str:
  bindings = [f'{name} = {value!r}' for name, value in macros.items()]
  with entry_points.main_module(module):
    gin_utils.parse_gin_flags([], [str(file) for file in files], bindings)
    return gin.config_str()


def _required(run) -> dict[str, str]:
  """A value for each macro that a run's file asks for."""
  text = (_RUNS / f'{run}.gin').read_text()
  return {
    name: f'some {name}'
    for name in re.findall(r'^(\w+) = %gin.REQUIRED', text, re.MULTILINE)
  }


def test_every_run_file_has_its_entry_point():
  assert sorted(path.stem for path in _RUNS.glob('*.gin')) == sorted(_MAIN)


@pytest.mark.parametrize('run', _MAIN)
def test_a_run_file_parses_after_a_model(run):
  config = _parse(
    _MAIN[run], entry_points.TINY, _RUNS / f'{run}.gin', **_required(run)
  )
  assert 'model = %MODEL' in config


@pytest.mark.parametrize('run', _MAIN)
def test_a_missing_macro_is_named(run):
  macros = _required(run)
  missing = macros.popitem()[0]
  with pytest.raises(errors.UserError, match=missing):
    _parse(_MAIN[run], entry_points.TINY, _RUNS / f'{run}.gin', **macros)


@pytest.mark.parametrize('model', _MODELS, ids=_name)
def test_a_model_file_gives_a_run_its_model(model):
  config = _parse(
    t5x.train, model, _RUNS / 'finetune.gin', **_required('finetune')
  )
  assert '\nMODEL = @' in config
  for size in ('emb_dim', 'num_heads', 'num_encoder_layers', 'mlp_dim'):
    assert f'{size} = ' in config


@pytest.mark.parametrize(
  'file',
  [e for e in _EXPERIMENTS if e.name != _AFTER_A_RUN],
  ids=_name,
)
def test_an_experiment_parses(file):
  macros = {'DATA': 'rows.jsonl'} if file.name == 'dss_custom.gin' else {}
  assert 'train_script.train:' in _parse(t5x.train, file, **macros)


@pytest.mark.parametrize('size', _SIZES, ids=_name)
def test_a_size_parses_after_an_experiment(size):
  config = _parse(t5x.train, 'gin/dss_cqa.gin', size)
  assert 'TASK_FEATURE_LENGTHS = ' in config


def test_a_run_of_the_method_is_evaluated_with_its_own_configuration(tmp_path):
  kept = tmp_path / 'config.gin'
  kept.write_text(_parse(t5x.train, 'gin/dss_cqa.gin'))
  for run in ('gin/dss_cqa.gin', kept):
    config = _parse(t5x.eval, run, f'gin/{_AFTER_A_RUN}')
    assert 'CHECKPOINT_PATH = %MODEL_DIR' in config
    assert '.evaluate:' in config


def _steps(folder) -> list[int]:
  lines = (folder / 'train' / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['step'] for line in lines]


@pytest.mark.slow
def test_pretrain_trains_and_finetune_goes_on_from_its_checkpoint(tmp_path):
  toy = entry_points.toy_file(tmp_path)
  first, second = tmp_path / 'first', tmp_path / 'second'
  step, _ = entry_points.call(
    t5x.train.train,
    [entry_points.TINY, str(_RUNS / 'pretrain.gin'), toy],
    MODEL_DIR=str(first),
    TRAIN_STEPS=2,
    EVAL_STEPS=1,
    RANDOM_SEED=0,
  )
  assert step == 2
  assert (first / 'training_eval' / 'toy_backwards').is_dir()

  step, state = entry_points.call(
    t5x.train.train,
    [entry_points.TINY, str(_RUNS / 'finetune.gin'), toy],
    MODEL_DIR=str(second),
    INITIAL_CHECKPOINT_PATH=str(first / 'checkpoint_2'),
    TRAIN_STEPS=4,
    EVAL_STEPS=1,
    RANDOM_SEED=0,
  )
  assert step == int(state.step) == 4
  assert (second / 'checkpoint_4').is_dir()
  metrics = second / 'inference_eval' / 'toy_backwards-metrics.jsonl'
  (line,) = metrics.read_text().splitlines()
  assert json.loads(line).keys() == {'step', 'exact_match', 'mean_score'}
  assert _steps(second)[-1] == 4
