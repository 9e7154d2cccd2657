"""The presets of gin/paper parse, train, and are the published recipe.

`tests/golden/recipe` holds what a loop in torch and transformers prints for the
published recipe on small made-up rows (`make.py` there). Here the same files,
rows in the published layout, a model folder of transformers and a vocabulary,
are trained on by the entry point with gin/paper/released.gin.
"""

import json
import pathlib

import pytest
import seqio

import gin
import t5x.train
from dss_jax.pipeline import preprocessors
from tests.t5x import entry_points

_ROOT = pathlib.Path(__file__).parents[1]
_GIN, _GOLDEN = _ROOT / 'gin', _ROOT / 'tests/golden/recipe'
_FACTS = json.loads((_GOLDEN / 'facts.json').read_text())
_NUMBERS = ('label_loss', 'rationale_loss', 'loss', 'grad_norm')

_SMALL = """
from __gin__ import dynamic_registration

import __main__ as train_script
from tests.t5x import entry_points
from t5x import partitioning
from t5x import utils
from t5x.examples.t5 import network

network.T5Config:
  emb_dim = {d_model}
  num_heads = {num_heads}
  head_dim = {d_kv}
  mlp_dim = {d_ff}
  num_encoder_layers = {num_layers}
  num_decoder_layers = {num_decoder_layers}
  vocab_size = {vocab_size}

SAVE_PERIOD = 100
STATS_PERIOD = 1
train_script.train.train_eval_dataset_cfg = None
partitioning.PjitPartitioner.devices = @entry_points.one_device()
"""


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
  folder = tmp_path_factory.mktemp('paper')
  sizes = json.loads((_GOLDEN / 'model/config.json').read_text())
  (folder / 'small.gin').write_text(_SMALL.format(**sizes))
  seqio.set_tfds_data_dir_override(str(folder / 'tfds'))
  with entry_points.shared_compilation(folder / 'compiled'):
    yield folder
  seqio.set_tfds_data_dir_override(None)


def _train(files, **macros):
  with entry_points.main_module(t5x.train):
    entry_points.parse(files, **macros)
    gin.get_configurable(t5x.train.train)()
  lines = pathlib.Path(macros['MODEL_DIR'], 'train/metrics.jsonl').read_text()
  found = [json.loads(line) for line in lines.splitlines()]
  return [line for line in found if 'loss' in line]


_UNSHUFFLED = """
from __gin__ import dynamic_registration

import __main__ as train_script
from t5x import utils

train_script.train.infer_eval_dataset_cfg = None
train/utils.DatasetConfig.shuffle = False
"""


@pytest.mark.parametrize(
  ('data_set', 'labels', 'pack'),
  [
    ('cqa', 'gold', True),
    ('cqa', 'teacher', False),
    ('svamp', 'gold', False),
    ('svamp', 'teacher', True),
  ],
)
def test_three_steps_are_those_of_the_published_recipe(
  data_set, labels, pack, workplace, tmp_path
):
  unshuffled = workplace / 'unshuffled.gin'
  unshuffled.write_text(_UNSHUFFLED)
  expected = _FACTS['steps'][f'{data_set}_{labels}']
  # Both kinds of blanks are there, so that they are compared.
  for name in ('blank_labels', 'blank_rationales'):
    assert sum(step[name] for step in expected)
  found = _train(
    [
      _GIN / f'dss_{data_set}.gin',
      _GIN / 'sizes/base.gin',
      _GIN / 'paper/released.gin',
      workplace / 'small.gin',
      unshuffled,
    ],
    MODEL_DIR=str(tmp_path / 'run'),
    DATA=str(_GOLDEN / 'rows'),
    LABELS=labels,
    VOCABULARY_FILE=str(_GOLDEN / 'spiece.model'),
    INITIAL_CHECKPOINT_PATH=str(_GOLDEN / 'model'),
    TASK_FEATURE_LENGTHS={'inputs': 192, 'targets': 128},
    PACK=pack,
    LABELS_PER_STEP=_FACTS['pairs'],
    # Room for any seven questions, so that none changes its place.
    ROWS_PER_STEP=14,
    LEARNING_RATE=_FACTS['rate'],
    TRAIN_STEPS=len(expected),
    DROPOUT_RATE=0.0,
  )
  for step, numbers in zip(found, expected, strict=True):
    assert step['learning_rate'] == pytest.approx(numbers['learning_rate'])
    for name in _NUMBERS:
      assert step[name] == pytest.approx(numbers[name], rel=1e-5), name


def test_a_blank_has_the_published_tokenizers_token():
  vocabulary = seqio.SentencePieceVocabulary(str(_GOLDEN / 'spiece.model'))
  tokens = [*preprocessors.blank_tokens(vocabulary), vocabulary.eos_id]
  assert tokens == _FACTS['blank'] == [3, 1]


_PRESETS = sorted((_GIN / 'paper').glob('*.gin'))


@pytest.mark.parametrize('preset', _PRESETS, ids=lambda path: path.stem)
def test_a_preset_parses_on_any_experiment_and_size(preset):
  for experiment, size in (('cqa', 'base'), ('anli1', 't5_1_0/base')):
    with entry_points.main_module(t5x.train):
      entry_points.parse(
        [_GIN / f'dss_{experiment}.gin', _GIN / f'sizes/{size}.gin', preset],
        MODEL_DIR='unused',
      )
      macros = {
        name: gin.query_parameter(f'{name}/macro.value')
        for name in ('LABELS_PER_STEP', 'TRAIN_STEPS', 'LEARNING_RATE')
      }
      dtype = gin.query_parameter('t5x.examples.t5.network.T5Config.dtype')
    counts = (32, 4000) if preset.stem == 'xxl' else (64, 10000)
    assert tuple(macros.values()) == (*counts, 5e-5)
    assert dtype == 'float32'


@pytest.mark.parametrize('preset', _PRESETS, ids=lambda path: path.stem)
def test_a_preset_trains_two_steps_and_generates_its_tokens(
  preset, workplace, tmp_path
):
  found = _train(
    [
      _GIN / 'dss_svamp.gin',
      _GIN / 'sizes/base.gin',
      preset,
      workplace / 'small.gin',
    ],
    MODEL_DIR=str(tmp_path / 'run'),
    DATA=str(_GOLDEN / 'rows'),
    VOCABULARY_FILE=str(_GOLDEN / 'spiece.model'),
    INITIAL_CHECKPOINT_PATH=None,
    TASK_FEATURE_LENGTHS={'inputs': 192, 'targets': 128},
    LABELS_PER_STEP=4,
    TRAIN_STEPS=2,
    EVAL_PERIOD=2,
    EVAL_BATCH_SIZE=2,
  )
  assert [step['step'] for step in found] == [1, 2]
  (metrics,) = (tmp_path / 'run/inference_eval').glob(
    '*_label_test*-metrics.jsonl'
  )
  assert 'accuracy_low' in json.loads(metrics.read_text().splitlines()[-1])
