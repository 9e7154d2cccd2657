"""Each stock file of a run binds what T5X's file of the same name binds.

`tests/golden/t5x_stock_runs.txt` lists T5X's macros and bindings, a file in
brackets, one a line. Lines that begin with `+` are our own additions: macros
that name a value of T5X's, which stands where T5X has it, and options of ours.
"""

import pathlib

import pytest

from tests import gin_text

_ROOT = pathlib.Path(__file__).parents[2]
_RUNS = _ROOT / 't5x' / 'configs' / 'runs'
_TABLE = _ROOT / 'tests' / 'golden' / 't5x_stock_runs.txt'


def _bindings(text) -> dict[str, str]:
  """Returns what a gin file binds, as it is written there."""
  found: dict[str, str] = {}
  for selector, parameter, value in gin_text.bindings(text):
    name = '.'.join(filter(None, (selector, parameter)))
    assert name not in found, f'{name} is bound twice'
    found[name] = value
  return found


def _table() -> dict[str, tuple[dict[str, str], dict[str, str]]]:
  """Returns the bindings of each file: T5X's, and ours."""
  found: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
  file = ''
  for line in filter(None, _TABLE.read_text().splitlines()):
    if line.startswith('['):
      file = line.strip('[]')
      found[file] = ({}, {})
    else:
      name, _, value = line.removeprefix('+ ').partition(' = ')
      found[file][line.startswith('+ ')][name] = value
  return found


def test_every_run_file_is_in_the_table():
  assert set(_table()) == {path.stem for path in _RUNS.glob('*.gin')}


@pytest.mark.parametrize('file', _table())
def test_a_run_file_binds_what_t5x_binds(file):
  upstream, ours = _table()[file]
  bound = _bindings((_RUNS / f'{file}.gin').read_text())
  assert {name: bound.get(name) for name in ours} == ours
  macros = {f'%{name}': value for name, value in ours.items()}
  resolved = {name: macros.get(v, v) for name, v in bound.items()}
  assert {n: v for n, v in resolved.items() if n not in ours} == upstream


# What differed before, as `t5x_stock_runs.txt` has to have it.
@pytest.mark.parametrize(
  ('file', 'line'),
  [
    ('finetune', 'DROPOUT_RATE = 0.1'),
    ('finetune', 'train_eval/utils.DatasetConfig.pack = True'),
    ('pretrain', 'SHUFFLE_TRAIN_EXAMPLES = True'),
    (
      'pretrain',
      'train/utils.DatasetConfig.shuffle = %SHUFFLE_TRAIN_EXAMPLES',
    ),
    ('pretrain', 'train_script.train.eval_period = 1000'),
    ('pretrain', 'train_script.train.eval_steps = 20'),
    ('pretrain', 'utils.SaveCheckpointConfig.period = 1000'),
    ('pretrain', 'utils.CheckpointConfig.restore ='
     ' @utils.RestoreCheckpointConfig()'),
    ('pretrain', 'utils.RestoreCheckpointConfig.path = []'),
    ('eval', 'TASK_FEATURE_LENGTHS = None'),
    ('eval', "utils.DatasetConfig.split = 'test'"),
    ('eval', 'utils.DatasetConfig.use_cached = False'),
    ('eval', 'utils.DatasetConfig.batch_size = 32'),
    ('infer', "utils.DatasetConfig.split = 'test'"),
    ('infer', 'utils.DatasetConfig.use_cached = False'),
    ('infer', "utils.RestoreCheckpointConfig.dtype = 'bfloat16'"),
    ('infer', 'infer_script.infer.checkpoint_period = 100'),
    ('precompile', "partitioning.PjitPartitioner.backend = 'tpu'"),
    ('precompile', 'train_script.precompile.model = %MODEL'),
  ],
)  # fmt: skip
def test_the_table_has_the_defaults_that_users_count_on(file, line):
  name, _, value = line.partition(' = ')
  assert _table()[file][0][name] == value


@pytest.mark.parametrize(
  # This one makes its own task.
  'file',
  sorted(set(_table()) - {'infer_from_tfexample_file'}),
)
def test_every_dataset_imports_the_users_module(file):
  upstream, _ = _table()[file]
  datasets = {
    name.removesuffix('.split') for name in upstream if name.endswith('.split')
  }
  assert datasets
  for name in datasets:
    assert upstream[f'{name}.module'] == '%MIXTURE_OR_TASK_MODULE'
