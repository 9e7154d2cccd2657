"""Every stock gin file of a run does what it is for, in a T5X user's hands.

The user's own gin files are here as they would be for T5X: they include the
stock ones, and bind options of the engine.
"""

import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

import gin
import t5x.eval
import t5x.infer
import t5x.precompile
import t5x.train
from t5x import checkpoints, errors
from tests.t5x import entry_points, toy_task

_ROOT = pathlib.Path(__file__).parents[2]
_RUNS = _ROOT / 't5x' / 'configs' / 'runs'
_FUNCTIONS = {
  'eval': t5x.eval.evaluate,
  'finetune': t5x.train.train,
  'infer': t5x.infer.infer,
  'infer_from_tfexample_file': t5x.infer.infer,
  'precompile': t5x.precompile.precompile,
  'pretrain': t5x.train.train,
}
_TASK = toy_task.NAME


@pytest.fixture(scope='module', autouse=True)
def _subclass_registered():
  """Lets other tests of this process configure the method's own model.

  Gin registers no class that inherits a method which it has registered before,
  as it does below.
  """
  gin.parse_config(
    'from __gin__ import dynamic_registration\n'
    'from dss_jax import models\n'
    'models.DistillModel.optimizer_def = None'
  )
  gin.clear_config()


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


# The five files in the order of a user's work. Each run is one of two steps.

_OWN_PRETRAIN = """
include 't5x/configs/runs/pretrain.gin'
"""
_OWN_FINETUNE = """
from __gin__ import dynamic_registration

import __main__ as train_script
import seqio
from t5x import adafactor
from t5x import models
from t5x import partitioning
from t5x import trainer
from t5x import utils
from t5x.examples.t5 import network

include 't5x/configs/runs/finetune.gin'

DROPOUT_RATE = 0.1
LABEL_SMOOTHING = 0.1
LOSS_NORMALIZING_FACTOR = 'NUM_REAL_TARGET_TOKENS'
TRAIN_STEPS = 4
EVAL_PERIOD = 2
RANDOM_SEED = 1  # Other fresh parameters than pretraining began with.

# Everything but the last layer comes from the checkpoint.
utils.RestoreCheckpointConfig:
  assignment_map = (
      (r'^.*logits_dense.*$', None),
      (r'^(.*)$', r'\\1'),
  )
  fallback_to_scratch = False
utils.SaveCheckpointConfig:
  period = 1
  keep = 2
utils.create_learning_rate_scheduler:
  factors = 'constant * linear_warmup'
  base_learning_rate = 0.01
  warmup_steps = 1
adafactor.Adafactor:
  step_offset = 2
  clipping_threshold = 0.5
trainer.Trainer.num_microbatches = 2
train/utils.DatasetConfig.pack = False
partitioning.PjitPartitioner:
  logical_axis_rules = @partitioning.standard_logical_axis_rules()
partitioning.standard_logical_axis_rules.parameter_partitioning_dims = 2
network.T5Config.float32_attention_logits = True
models.EncoderDecoderModel.predict_batch_with_aux.num_decodes = 2
seqio.Evaluator.logger_cls = [@seqio.JSONLogger]
train_script.train.run_eval_before_training = False
"""
_OWN_EVAL = """
from __gin__ import dynamic_registration

from t5x import models
from t5x import utils
from t5x.examples.t5 import network

include 't5x/configs/runs/eval.gin'

SPLIT = 'validation'
utils.RestoreCheckpointConfig.mode = 'all'
network.T5Config.float32_attention_logits = True
models.EncoderDecoderModel.predict_batch_with_aux.num_decodes = 2
"""
_OWN_INFER = """
from __gin__ import dynamic_registration

from t5x import decoding
from t5x import models

include 't5x/configs/runs/infer.gin'

INFER_MODE = 'predict_with_aux'
SPLIT = 'validation'
models.EncoderDecoderModel.decode_fn = @decoding.beam_search
decoding.beam_search.alpha = 0.8
models.EncoderDecoderModel.predict_batch_with_aux:
  num_decodes = 4
  return_all_decodes = True
"""
_OWN_TFEXAMPLES = """
include 't5x/configs/runs/infer_from_tfexample_file.gin'
FEATURE_LENGTHS = {'inputs': 10, 'targets': 6}
"""
_OWN_PRECOMPILE = """
from __gin__ import dynamic_registration

from t5x import utils

include 't5x/configs/runs/precompile.gin'

# The schedule of the pretraining, whose step it is to compile.
utils.create_learning_rate_scheduler:
  factors = 'constant * rsqrt_decay'
  base_learning_rate = 1.0
  warmup_steps = 10000
"""
_OWN = {
  'pretrain': _OWN_PRETRAIN,
  'finetune': _OWN_FINETUNE,
  'eval': _OWN_EVAL,
  'infer': _OWN_INFER,
  'infer_from_tfexample_file': _OWN_TFEXAMPLES,
  'precompile': _OWN_PRECOMPILE,
}


def _run(run, folder, **macros):
  own = folder / f'my_{run}.gin'
  own.write_text(_OWN[run])
  return entry_points.call(
    _FUNCTIONS[run],
    [entry_points.TINY, own, entry_points.toy_file(folder)],
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
  assert sorted(p.name for p in finetuned.glob('checkpoint_*')) == [
    'checkpoint_3',
    'checkpoint_4',
  ]
  (line,) = _lines(finetuned / 'inference_eval' / f'{_TASK}-metrics.jsonl')
  assert line.keys() == {'step', 'exact_match', 'mean_score'}
  assert _lines(finetuned / 'train' / 'metrics.jsonl')[-1]['step'] == 4


def test_finetune_takes_what_the_assignment_map_says(pretrained, finetuned):
  def decoder(path):
    return checkpoints.load_t5x_checkpoint(str(path))['target']['decoder']

  def likeness(*names):
    values = []
    for path in (pretrained, finetuned / 'checkpoint_3'):
      value = decoder(path)
      for name in names:
        value = value[name]
      values.append(np.ravel(value))
    return np.corrcoef(*values)[0, 1]

  assert likeness('layers_0', 'mlp', 'wo', 'kernel') > 0.98
  assert abs(likeness('logits_dense', 'kernel')) < 0.2


def test_eval_of_all_checkpoints_finds_what_the_run_found(
  workplace, finetuned, tmp_path
):
  results = _run(
    'eval',
    workplace,
    CHECKPOINT_PATH=str(finetuned),
    EVAL_OUTPUT_DIR=str(tmp_path),
  )
  assert [path.rpartition('_')[2] for path in results] == ['3', '4']
  lines = _lines(tmp_path / 'inference_eval' / f'{_TASK}-metrics.jsonl')
  run = _lines(finetuned / 'inference_eval' / f'{_TASK}-metrics.jsonl')
  assert [line['step'] for line in lines] == [3, 4]
  assert lines[1] == pytest.approx(run[0], rel=1e-5)
  name = f'{_TASK}-000004.jsonl'
  rows = _lines(tmp_path / 'inference_eval' / name)
  texts = toy_task.texts('validation')
  assert [row['input']['inputs_pretokenized'] for row in rows] == [
    inputs for inputs, _ in texts
  ]
  assert [row['target'] for row in rows] == [targets for _, targets in texts]
  assert [row['prediction'] for row in rows] == [
    row['prediction'] for row in _lines(finetuned / 'inference_eval' / name)
  ]


def test_infer_writes_all_beams_and_their_scores(
  workplace, finetuned, tmp_path
):
  _run(
    'infer',
    workplace,
    CHECKPOINT_PATH=str(finetuned / 'checkpoint_4'),
    INFER_OUTPUT_DIR=str(tmp_path),
  )
  rows = _lines(tmp_path / f'{_TASK}-predict_with_aux.jsonl-00000-of-00001')
  assert [row['inputs']['inputs_pretokenized'] for row in rows] == [
    text for text, _ in toy_task.texts('validation')
  ]
  for row in rows:
    assert len(row['prediction']) == len(row['aux']['scores']) == 4
    assert row['aux']['scores'] == sorted(row['aux']['scores'])


def test_texts_of_tfexamples_are_answered(workplace, pretrained, tmp_path):
  file = tmp_path / 'part-0.tfrecord'
  asked = ['one', 'two', 'three']
  with tf.io.TFRecordWriter(str(file)) as writer:
    for text in asked:
      value = tf.train.Feature(
        bytes_list=tf.train.BytesList(value=[text.encode()])
      )
      features = tf.train.Features(feature={'question': value})
      example = tf.train.Example(features=features)
      writer.write(example.SerializeToString())
  options = {
    'TF_EXAMPLE_FILE_PATHS': [str(tmp_path / 'part-*.tfrecord')],
    'TF_EXAMPLE_FILE_TYPE': 'tfrecord',
    'INPUTS_KEY': 'question',
    'CHECKPOINT_PATH': str(pretrained),
    'INFER_OUTPUT_DIR': str(tmp_path / 'i'),
  }
  _run('infer_from_tfexample_file', workplace, **options)
  (answers,) = (tmp_path / 'i').glob('infer_*-predict.jsonl-00000-of-00001')
  assert [
    row['inputs']['inputs_pretokenized'] for row in _lines(answers)
  ] == asked
  for option, value, message in (
    ('TF_EXAMPLE_FILE_TYPE', 'recordio', "expected 'tfrecord'"),
    ('TF_EXAMPLE_FILE_PATHS', ['no-such-*'], "'no-such-\\*' matches no file"),
  ):
    with pytest.raises(errors.UserError, match=message):
      _run('infer_from_tfexample_file', workplace, **options | {option: value})


def test_precompile_compiles_the_step_of_the_run(
  workplace, pretrained, tmp_path
):
  def programs():
    return {path.name for path in (workplace / 'compiled').glob('*-cache')}

  before = programs()
  assert before
  costs = _run('precompile', workplace, MODEL_DIR=str(tmp_path), RANDOM_SEED=0)
  assert costs['argument_bytes'] > 0
  assert 'stablehlo' in (tmp_path / 'lowered_hlo.txt').read_text()
  assert programs() == before


_EXAMPLES = sorted(
  path.relative_to(_ROOT)
  for path in (_ROOT / 't5x/examples/t5/t5_1_1/examples').glob('*.gin')
)


@pytest.mark.parametrize('file', _EXAMPLES, ids=lambda path: path.stem)
def test_an_example_asks_for_a_folder_alone(file):
  with entry_points.main_module(t5x.train):
    entry_points.parse([file], MODEL_DIR='there')
    module = gin.query_parameter('MIXTURE_OR_TASK_MODULE/macro.value')
    layers = gin.query_parameter(
      't5x.examples.t5.network.T5Config.num_encoder_layers'
    )
    for name in ('train', 'train_eval'):
      cfg = gin.get_configurable(f'{name}/utils.DatasetConfig')()
      assert cfg.module == module == 't5.data.mixtures'
  assert layers == 12


def test_the_local_tiny_model_is_the_tiny_one():
  def text(file):
    with entry_points.main_module(t5x.train):
      entry_points.parse([file])
      return re.sub(r'(?m)^#.*\n', '', gin.config_str())

  assert text('t5x/examples/t5/local_tiny.gin') == text(entry_points.TINY)
