"""A T5X user's whole way by the stock files, with T5X's own macros alone.

The user has a module that registers a task (MIXTURE_OR_TASK_MODULE), a gin file
that makes a stock model small, and nothing else.
"""

import json

import pytest

import t5x.eval
import t5x.infer
import t5x.precompile
import t5x.train
from tests.t5x import entry_points, forks, toy_task

_RUNS = 't5x/configs/runs'
_SMALL = """
from __gin__ import dynamic_registration

import seqio
from t5x.examples.{package} import network

include 't5x/examples/{model}.gin'

VOCABULARY = @seqio.ByteVocabulary()
network.T5Config:
  vocab_size = 384
  dtype = 'float32'
  emb_dim = 8
  num_heads = 2
  head_dim = 4
  mlp_dim = 16
  num_encoder_layers = 2
  num_decoder_layers = 2
"""
# One of each family, made small. ByT5 has a small one as it is.
_MODELS = (
  't5/t5_1_0/small',
  't5/t5_1_1/small',
  't5/mt5/small',
  't5/byt5/tiny',
  'scalable_t5/t5_1_1/small',
)
_MODULE = """
import seqio
from tests.t5x import toy_task

seqio.TaskRegistry.add(
  '{name}',
  source=seqio.TaskRegistry.get(toy_task.NAME).source,
  preprocessors=[
    seqio.preprocessors.tokenize, seqio.preprocessors.append_eos_after_trim
  ],
  output_features=seqio.TaskRegistry.get(toy_task.NAME).output_features,
  metric_fns=[toy_task.exact_match],
)
"""
_LENGTHS = {'inputs': 10, 'targets': 6}


def _users_module(folder, name) -> str:
  """Writes a module that registers a task of the same name; returns it."""
  (folder / f'{name}.py').write_text(_MODULE.format(name=name))
  return name


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
  with entry_points.shared_compilation(tmp_path_factory.mktemp('compiled')):
    yield


@pytest.mark.slow
@pytest.mark.parametrize('model', _MODELS)
def test_from_pretraining_to_predictions(
  model, compiled, tmp_path, monkeypatch, capsys
):
  files = [f't5x/examples/{model}.gin']
  if not model.endswith('tiny'):
    mine = tmp_path / 'mine.gin'
    package = model.partition('/')[0]
    mine.write_text(_SMALL.format(model=model, package=package))
    files = [str(mine)]
  monkeypatch.syspath_prepend(tmp_path)
  task = _users_module(tmp_path, f'mine_{model.replace("/", "_")}')
  shared = {'MIXTURE_OR_TASK_NAME': task, 'MIXTURE_OR_TASK_MODULE': task}
  lengths = {'TASK_FEATURE_LENGTHS': _LENGTHS, 'USE_CACHED_TASKS': False}

  def call(function, run, **macros):
    return entry_points.call(
      function, [*files, f'{_RUNS}/{run}.gin'], **shared, **macros
    )

  _, state = call(
    t5x.train.train,
    'pretrain',
    MODEL_DIR=str(tmp_path / 'pretrained'),
    TRAIN_STEPS=1,
    BATCH_SIZE=8,
    DROPOUT_RATE=0.0,
    **lengths,
  )
  assert int(state.step) == 1
  _, state = call(
    t5x.train.train,
    'finetune',
    MODEL_DIR=str(tmp_path / 'finetuned'),
    INITIAL_CHECKPOINT_PATH=str(tmp_path / 'pretrained/checkpoint_1'),
    TRAIN_STEPS=2,
    BATCH_SIZE=8,
    **lengths,
  )
  assert int(state.step) == 2
  last = {'CHECKPOINT_PATH': str(tmp_path / 'finetuned/checkpoint_2')}
  metrics = call(
    t5x.eval.evaluate, 'eval', EVAL_OUTPUT_DIR=str(tmp_path / 'e'), **last
  )
  assert 'exact_match' in metrics[last['CHECKPOINT_PATH']][task]
  rows = (tmp_path / f'e/inference_eval/{task}-000002.jsonl').read_text()
  # The split is T5X's: the test questions.
  assert len(rows.splitlines()) == toy_task.ROWS['test']
  call(
    t5x.infer.infer,
    'infer',
    INFER_OUTPUT_DIR=str(tmp_path / 'i'),
    TASK_FEATURE_LENGTHS=_LENGTHS,
    **last,
  )
  rows = (tmp_path / f'i/{task}-predict.jsonl-00000-of-00001').read_text()
  assert [
    json.loads(row)['inputs']['inputs_pretokenized']
    for row in rows.splitlines()
  ] == [text for text, _ in toy_task.texts('test')]
  capsys.readouterr()
  costs = call(
    t5x.precompile.precompile,
    'precompile',
    MODEL_DIR=str(tmp_path / 'p'),
    BATCH_SIZE=8,
    DROPOUT_RATE=0.0,
    **lengths,
  )
  assert costs['argument_bytes'] > 0
  # T5X's file asks for a TPU.
  assert (
    "backend is 'tpu', which is not here: compiling for 'cpu'"
    in capsys.readouterr().out
  )


@pytest.fixture(scope='module')
def processes():
  with forks.Forks() as server:
    yield server


@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
@pytest.mark.parametrize('by', ['file', 'flag'])
def test_the_users_module_is_imported(mode, by, processes, tmp_path):
  task = _users_module(tmp_path, f'mine_{mode}_{by}')
  run = 'pretrain' if mode == 'train' else mode
  files = [entry_points.TINY, f'{_RUNS}/{run}.gin']
  values = {
    'MIXTURE_OR_TASK_NAME': task,
    'MIXTURE_OR_TASK_MODULE': task,
    'TASK_FEATURE_LENGTHS': {'inputs': 10, 'target': 6},
  }
  values |= {
    'train': {'MODEL_DIR': str(tmp_path / 'm'), 'TRAIN_STEPS': 1},
    'eval': {'EVAL_OUTPUT_DIR': str(tmp_path / 'e'), 'CHECKPOINT_PATH': 'c'},
    'infer': {'INFER_OUTPUT_DIR': str(tmp_path / 'i'), 'CHECKPOINT_PATH': 'c'},
  }[mode]
  mine = tmp_path / 'mine.gin'
  mine.write_text(
    'from __gin__ import dynamic_registration\nimport seqio\n'
    'VOCABULARY = @seqio.ByteVocabulary()\n'
    + '\n'.join(f'{k} = {v!r}' for k, v in values.items() if by == 'file')
  )
  flags = [f'--gin.{k}={v!r}' for k, v in values.items() if by == 'flag']
  code, text = processes.run(
    mode,
    *(f'--gin_file={file}' for file in (*files, mine)),
    *flags,
    PYTHONPATH=str(tmp_path),
  )
  # The task is there: what is wrong is said of its features.
  assert code == 2, text[-3000:]
  message = "names 'target', but the features are ['inputs', 'targets']"
  assert message in ' '.join(text.split()), text[-3000:]


def test_a_module_that_is_not_there(processes, tmp_path):
  code, text = processes.run(
    'train',
    f'--gin_file={entry_points.TINY}',
    f'--gin_file={_RUNS}/pretrain.gin',
    f'--gin.MODEL_DIR={str(tmp_path / "m")!r}',
    "--gin.MIXTURE_OR_TASK_NAME='x'",
    "--gin.MIXTURE_OR_TASK_MODULE='no.such'",
    '--gin.TASK_FEATURE_LENGTHS={}',
    '--gin.TRAIN_STEPS=1',
  )
  assert code == 2 and 'Traceback' not in text
  assert "no module 'no.such' (macro MIXTURE_OR_TASK_MODULE)" in ' '.join(
    text.split()
  )
