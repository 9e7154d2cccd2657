"""Every gin file in gin/ does what it is for, at small sizes, on the sample.

The experiments train two steps each. The files of sizes decide only about the
network and the schedule: those whose configurations are the same to the letter,
once the sizes are, share one run. The last run is evaluated and asked.
"""

import json
import pathlib
import re

import pytest
import seqio

import gin
import t5x.eval
import t5x.infer
import t5x.train
from t5x import checkpoints
from t5x.examples.t5 import network
from tests.t5x import entry_points

_ROOT = pathlib.Path(__file__).parents[1]
_GIN = _ROOT / 'gin'
_EXPERIMENTS = sorted(
  path
  for path in _GIN.glob('dss_*.gin')
  # These take a run of the method.
  if path.name not in ('dss_eval.gin', 'dss_infer.gin')
)
# The sizes include finetune.gin.
_SIZES = sorted(
  path
  for path in (_GIN / 'sizes').rglob('*.gin')
  if path.name != 'finetune.gin'
)

_SMALL = """
from __gin__ import dynamic_registration

import __main__ as train_script
from tests.t5x import entry_points
from t5x import partitioning
from t5x import utils
from t5x.examples.t5 import network

network.T5Config:
  vocab_size = 1152
  emb_dim = 8
  num_heads = 2
  head_dim = 4
  mlp_dim = 16
  num_encoder_layers = 1
  num_decoder_layers = 1

TASK_FEATURE_LENGTHS = {'inputs': 96, 'targets': 48}
LABELS_PER_STEP = 4
EVAL_BATCH_SIZE = 2
TRAIN_STEPS = 2
SAVE_PERIOD = 2
EVAL_PERIOD = 2
STATS_PERIOD = 1
LEARNING_RATE = 1e-3
WARMUP_STEPS = 0
ALPHA = 0.5
VOCABULARY_FILE = None
INITIAL_CHECKPOINT_PATH = None
train_script.train.get_dataset_fn = @entry_points.shared_dataset
# The questions of the sample are evaluated below, once.
train_script.train.train_eval_dataset_cfg = None
train_script.train.infer_eval_dataset_cfg = None
partitioning.PjitPartitioner.devices = @entry_points.one_device()
"""
_runs: dict[str, int] = {}


def _name(path):
  return str(path.relative_to(_GIN))


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
  folder = tmp_path_factory.mktemp('experiments')
  (folder / 'small.gin').write_text(_SMALL)
  seqio.set_tfds_data_dir_override(str(folder / 'tfds'))
  with entry_points.shared_compilation(folder / 'compiled'):
    yield folder
  seqio.set_tfds_data_dir_override(None)


def _train(files, model_dir, **macros) -> int:
  """Trains, unless the same configuration was; returns the last step."""
  with entry_points.main_module(t5x.train):
    entry_points.parse(files, MODEL_DIR='the same', **macros)
    text = re.sub(r'(?m)^#.*\n', '', gin.config_str())
    if text not in _runs:
      with gin.unlock_config():
        gin.bind_parameter('MODEL_DIR/macro.value', str(model_dir))
      step, state = gin.get_configurable(t5x.train.train)()
      assert int(state.step) == step
      _runs[text] = step
    return _runs[text]


@pytest.fixture(scope='module')
def run(workplace):
  """The folder of a run of gin/dss_cqa.gin."""
  folder = workplace / 'run'
  files = [_GIN / 'dss_cqa.gin', workplace / 'small.gin']
  assert _train(files, folder) == 2
  return folder


def _cases(files, slow):
  """Marks files that differ from others in their data or size alone."""
  return [
    pytest.param(file, marks=pytest.mark.slow) if _name(file) in slow else file
    for file in files
  ]


@pytest.mark.parametrize(
  'file', _cases(_EXPERIMENTS, ('dss_asdiv.gin',)), ids=_name
)
def test_an_experiment_trains_two_steps(file, workplace, run):
  macros = {}
  if file.name == 'dss_custom.gin':
    rows = workplace / 'rows.jsonl'
    rows.write_text(
      ''.join(
        json.dumps(
          {'input': f'{i} + 1', 'label': str(i + 1), 'rationale': 'up'}
        )
        + '\n'
        for i in range(40)
      )
    )
    macros['DATA'] = str(rows)
  files = [file, workplace / 'small.gin']
  assert _train(files, workplace / file.stem, **macros) == 2


@pytest.mark.parametrize('size', _cases(_SIZES, ('sizes/base.gin',)), ids=_name)
def test_an_experiment_trains_at_a_size(size, workplace, run):
  files = [_GIN / 'dss_cqa.gin', size, workplace / 'small.gin']
  assert _train(files, workplace / _name(size).replace('/', '_')) == 2


# The network of each folder of sizes, under T5X's name.
_STOCK = {'sizes': 't5_1_1', 'flan_t5': 't5_1_1', 't5_1_0': 't5_1_0'}
# The last step of each public checkpoint of Flan-T5.
_FLAN = {
  'small': 1198000,
  'base': 1184000,
  'large': 1164000,
  'xl': 1138000,
  'xxl': 1114000,
}


@pytest.mark.parametrize(
  'size', [path for path in _SIZES if path.stem != 'tiny'], ids=_name
)
def test_a_size_is_the_stock_network_and_names_its_checkpoint(size):
  with entry_points.main_module(t5x.train):
    entry_points.parse([_GIN / 'dss_cqa.gin', size], MODEL_DIR='unused')
    found = gin.get_configurable(network.T5Config)()
    checkpoint = gin.query_parameter('INITIAL_CHECKPOINT_PATH/macro.value')
  stock = pathlib.Path(network.__file__).parent / _STOCK[size.parent.name]
  with entry_points.main_module(network):
    entry_points.parse([stock / size.name])
    expected = gin.get_configurable(network.T5Config)()
  assert found == expected.replace(dropout_rate=found.dropout_rate)
  public = 'gs://t5-data/pretrained_models/t5x/'
  if size.parent.name == 'flan_t5':
    name = f'flan_t5_{size.stem}/checkpoint_{_FLAN[size.stem]}'
    assert checkpoint == public + name
  else:
    assert checkpoint.startswith(public + 't5_')


def test_flan_t5_has_every_size():
  files = (_GIN / 'sizes/flan_t5').glob('*.gin')
  assert {path.stem for path in files} == set(_FLAN)


def test_an_experiment_trains_with_all_that_only_our_engine_has(workplace, run):
  engine = set((_GIN / 'engine').glob('*.gin'))
  # They need a GPU and a TPU, and say so.
  engine -= {_GIN / 'engine/cudnn.gin', _GIN / 'engine/pallas.gin'}
  files = [_GIN / 'dss_cqa.gin', workplace / 'small.gin', *sorted(engine)]
  folder = workplace / 'engine'
  assert _train(files, folder) == 2
  state = checkpoints.load_t5x_checkpoint(str(folder))
  # One layer, stacked: gin/engine/scan.gin was heard.
  kernel = state['target']['encoder']['layers']['mlp']['wo']['kernel']
  assert kernel.shape == (1, 16, 8)
  # So was gin/engine/lora.gin.
  query = state['target']['encoder']['layers']['attention']['query']
  assert query['lora']['a'].shape == (1, 8, 8)


def _lines(path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_is_evaluated_with_its_own_configuration(run, tmp_path):
  entry_points.call(
    t5x.eval.evaluate,
    [run / 'config.gin', _GIN / 'dss_eval.gin'],
    EVAL_OUTPUT_DIR=str(tmp_path),
    EVAL_NUM_EXAMPLES=3,
    EVAL_RATIONALES=False,
  )
  folder = tmp_path / 'inference_eval'
  for split in ('validation', 'test'):
    task = f'cqa_sample_label_{split}'
    (metrics,) = _lines(folder / f'{task}-metrics.jsonl')
    assert metrics['step'] == 2 and 0 <= metrics['accuracy'] <= 100
    rows = _lines(folder / f'{task}-000002.jsonl')
    assert len(rows) == 3
    assert rows[0].keys() >= {'input', 'target', 'prediction'}


@pytest.mark.parametrize('explain', [False, True])
def test_a_run_answers_inputs_of_the_users_own(run, tmp_path, explain):
  asked = ['Which of these can fly? (a) pond (b) goose', 'What is blue?']
  file = tmp_path / 'questions.csv'
  file.write_text('q\n' + ''.join(f'{text}\n' for text in asked))
  entry_points.call(
    t5x.infer.infer,
    [run / 'config.gin', _GIN / 'dss_infer.gin'],
    INPUTS=str(file),
    INPUT_COLUMNS={'input': 'q'},
    EXPLAIN=explain,
    INFER_OUTPUT_DIR=str(tmp_path / 'answers'),
  )
  (answers,) = (tmp_path / 'answers').glob('*.jsonl-00000-of-00001')
  prefix = 'explain' if explain else 'predict'
  rows = _lines(answers)
  assert [row['inputs']['inputs_pretokenized'] for row in rows] == [
    f'{prefix}: {text}' for text in asked
  ]
  assert all(isinstance(row['prediction'], str) for row in rows)
