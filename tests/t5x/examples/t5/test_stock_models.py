"""Every stock gin file of a model gives one that trains, at small sizes.

What is trained is decided by the configuration alone. So files whose
configurations are the same to the letter, once the sizes are, share one run.
"""

import pathlib
import re

import pytest

import gin
import t5x.train
from t5x import gin_utils
from tests.t5x import entry_points, toy_task

_ROOT = pathlib.Path(__file__).parents[4]
_MODELS = sorted((_ROOT / 't5x' / 'examples' / 't5').glob('*/*.gin'))
_PRETRAIN = _ROOT / 't5x' / 'configs' / 'runs' / 'pretrain.gin'

_SMALL = """
from __gin__ import dynamic_registration

import __main__ as train_script
import seqio
import tests.t5x.toy_task
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

TASK_FEATURE_LENGTHS = {'inputs': 12, 'targets': 8}
USE_CACHED_TASKS = False
BATCH_SIZE = 2
TRAIN_STEPS = 2
RANDOM_SEED = 0
DROPOUT_RATE = 0.0
MODEL_DIR = 'the same'
train_script.train.get_dataset_fn = @entry_points.shared_dataset
train_script.train.train_eval_dataset_cfg = None
utils.CheckpointConfig.save = None
partitioning.PjitPartitioner.devices = @entry_points.one_device()
"""
# The stock files' own is at gs://t5-data.
_LOCAL_PIECES = """
MIXTURE_OR_TASK_NAME = 'toy_pieces'
seqio.SentencePieceVocabulary.sentencepiece_model_file = {path!r}
"""
_BYTES = """
MIXTURE_OR_TASK_NAME = 'toy_backwards'
"""
_runs: dict[str, int] = {}


@pytest.fixture(scope='module', autouse=True)
def _compilation(tmp_path_factory):
  with entry_points.shared_compilation(tmp_path_factory.mktemp('compiled')):
    yield


def _name(path):
  return str(path.relative_to(_ROOT / 't5x' / 'examples' / 't5'))


def _train(files, folder) -> int:
  """Trains, unless the same configuration was; returns the last step."""
  with entry_points.main_module(t5x.train):
    gin_utils.parse_gin_flags([], [str(file) for file in files], [])
    text = re.sub(r'(?m)^#.*\n', '', gin.config_str())
    if text not in _runs:
      with gin.unlock_config():
        gin.bind_parameter('MODEL_DIR/macro.value', str(folder))
      step, state = gin.get_configurable(t5x.train.train)()
      assert int(state.step) == step
      _runs[text] = step
    return _runs[text]


@pytest.mark.parametrize(
  'model',
  [
    # A network of its own, of another size than byt5/base.gin's.
    pytest.param(path, marks=pytest.mark.slow)
    if _name(path) == 'byt5/tiny.gin'
    else path
    for path in _MODELS
  ],
  ids=_name,
)
def test_a_stock_model_trains_two_steps(model, tmp_path):
  pieces = _LOCAL_PIECES.format(path=toy_task.PIECES)
  small = tmp_path / 'small.gin'
  small.write_text(_SMALL + (_BYTES if model.parent.name == 'byt5' else pieces))
  assert _train([model, _PRETRAIN, small], tmp_path / 'run') == 2
