"""What gin files bind of an experiment, today's and those of version 0.1.0.

`tests/golden/config_0_1_0.gin` is what that version wrote into the folder of a
run: it binds every option to every function, where today's files bind one
`mixtures.Experiment`.
"""

import dataclasses
import pathlib
import re

import pytest

import gin
import t5x.eval
import t5x.infer
import t5x.train
from dss_jax import errors, mixtures, questions, screen
from tests.t5x import entry_points

_ROOT = pathlib.Path(__file__).parents[2]
_GIN = _ROOT / 'gin'
_OLD = _ROOT / 'tests' / 'golden' / 'config_0_1_0.gin'
_TODAY = _GIN / 'dss_cqa.gin'
# What has another default today.
_AS_BEFORE = {'PAIRED': False, 'LABELS_PER_STEP': None, 'BATCH_SIZE': 8}
_MACROS = [
  {},
  {'METHOD': 'finetune', 'LABELS': 'teacher'},
  {'METHOD': 'single_task', 'DATA_SET': 'svamp', 'FRACTION': 0.5},
  {
    'FRACTION': 0.5,
    'RANDOM_SEED': 3,
    'RATIONALE_RATE': 0.25,
    'RATIONALES': 'correct_only',
    'SHUFFLE_RATIONALES': True,
  },
  {'PAIRED': True, 'KEEP_BLANK': True, 'EVAL_RATIONALES': False},
  {'DATA': 'release', 'TEACHER': 'gpt_neox'},
]


def _made(function):
  """What a function of the configuration returns, or a class makes."""
  return gin.get_configurable(function)()


def _evaluated(file, capsys, **macros):
  """The names of both mixtures, and what the screen says first."""
  with entry_points.main_module(t5x.train):
    # Without lengths, the screen reads no data.
    more = {'MODEL_DIR': 'runs/mine', 'TASK_FEATURE_LENGTHS': None}
    entry_points.parse([file], **more, **macros)
    names = _made(mixtures.train_mixture), _made(mixtures.eval_mixture)
    _made(screen.Screen)
  return *names, capsys.readouterr().out


@pytest.mark.parametrize('macros', _MACROS, ids=str)
def test_an_old_configuration_means_what_todays_files_mean(macros, capsys):
  *old, old_screen = _evaluated(_OLD, capsys, **macros)
  *new, screen_now = _evaluated(_TODAY, capsys, **{**_AS_BEFORE, **macros})
  assert old == new
  assert old[0].startswith(macros.get('METHOD', 'dss'))
  steps = [x for x in screen_now.splitlines() if '2,000 steps of 8 rows' in x]
  assert len(steps) == 1
  assert screen_now.replace(steps[0] + '\n', '') == old_screen


def test_an_old_configuration_trains_on_the_same_batches():
  configs = []
  for file, macros in ((_OLD, {}), (_TODAY, _AS_BEFORE)):
    with entry_points.main_module(t5x.train):
      entry_points.parse([file], MODEL_DIR='runs/mine', **macros)
      config = gin.query_parameter('train.train_dataset_cfg')
      configs.append(config.scoped_configurable_fn())
  old, new = configs
  assert old == dataclasses.replace(
    new, task_feature_lengths={'inputs': 112, 'targets': 76}
  )
  assert (old.mixture_or_task_name, old.batch_size, old.pack) == (
    'dss_cqa_sample_gold_palm', 8, True
  )  # fmt: skip


@pytest.mark.parametrize('explain', [False, True])
@pytest.mark.parametrize('file', [_OLD, _TODAY], ids=lambda path: path.stem)
def test_a_run_is_asked_its_own_questions(file, explain):
  with entry_points.main_module(t5x.infer):
    entry_points.parse([file, _GIN / 'dss_infer.gin'], EXPLAIN=explain)
    name = _made(questions.inputs)
  assert name == 'eval_dss_cqa_sample' + '_palm' * explain


@pytest.mark.parametrize('file', [_OLD, _TODAY], ids=lambda path: path.stem)
def test_a_run_is_evaluated_on_its_own_mixture(file):
  with entry_points.main_module(t5x.eval):
    entry_points.parse([file, _GIN / 'dss_eval.gin'])
    config = gin.query_parameter('evaluate.dataset_cfg')
    name = config.scoped_configurable_fn().mixture_or_task_name
  assert name == 'eval_dss_cqa_sample_palm'


@pytest.mark.parametrize(
  ('function', 'binding', 'message'),
  [
    (mixtures.train_mixture, "mixtures.train_mixture.method = 'finetune'",
     r'mixtures\.train_mixture\.method: .* no option beside an experiment.*'
     r' Bind mixtures\.Experiment\.method \(macro METHOD\) instead'),
    (mixtures.eval_mixture, 'mixtures.eval_mixture.seed = 3',
     r'eval_mixture\.seed: .*Experiment\.seed \(macro RANDOM_SEED\)'),
    (screen.Screen, "screen.Screen.labels = 'teacher'",
     r'screen\.Screen\.labels: .*Experiment\.labels \(macro LABELS\)'),
    (mixtures.train_mixture, "mixtures.train_mixture.metod = 'finetune'",
     r'train_mixture\.metod: expected one of experiment, data_set, data, .*'
     r" Did you mean 'method'\?"),
    (mixtures.eval_mixture, 'mixtures.eval_mixture.rationale = False',
     r"expected one of experiment, rationales, .* Did you mean 'rationales'"),
    (screen.Screen, 'screen.Screen.total_step = 9',
     r"Screen\.total_step: .* Did you mean 'total_steps'"),
    (mixtures.train_mixture, 'EXPERIMENT = None',
     r'mixtures\.train_mixture: expected an experiment, found none'),
    (screen.Screen, "EXPERIMENT = 'cqa'",
     r"screen\.Screen: expected a mixtures\.Experiment, found 'cqa'"),
    (mixtures.train_mixture, "mixtures.Experiment.method = 'finetun'",
     r"METHOD is 'finetun': .* Did you mean 'finetune'"),
  ],
)  # fmt: skip
def test_a_binding_that_is_no_more_says_which_one_is(
  function, binding, message, tmp_path
):
  if function is screen.Screen:
    binding += '\nmixtures.eval_mixture.experiment = @mixtures.Experiment()'
  file = tmp_path / 'mine.gin'
  file.write_text(
    'from __gin__ import dynamic_registration\n'
    'from dss_jax import mixtures\n'
    'from dss_jax import screen\n'
    f'{binding}\n'
  )
  with entry_points.main_module(t5x.train):
    entry_points.parse([_TODAY, file])
    with pytest.raises(errors.DataError, match=message):
      _made(function)


def test_messages_name_the_macros_of_the_gin_file():
  bound = dict(
    re.findall(
      r'^  (\w+) = %(\w+)$',
      (_GIN / 'dss.gin').read_text().split('mixtures.Experiment:\n')[1]
      .split('\n\n')[0],
      re.MULTILINE,
    )
  )  # fmt: skip
  fields = [field.name for field in dataclasses.fields(mixtures.Experiment)]
  assert sorted(bound) == sorted(fields)
  for name in fields:
    with pytest.raises(errors.DataError, match=f'macro {bound[name]}'):
      mixtures.train_mixture(mixtures.Experiment('cqa'), **{name: 'any'})


def test_an_experiment_is_given_whole_or_by_its_options():
  experiment = mixtures.Experiment('cqa', 'release', teacher='gpt_neox')
  options = {'data_set': 'cqa', 'data': 'release', 'teacher': 'gpt_neox'}
  for function in (mixtures.train_mixture, mixtures.eval_mixture):
    assert function(experiment) == function(**options)
    with pytest.raises(errors.DataError, match='expected an experiment'):
      function()
    with pytest.raises(errors.DataError, match="found 'cqa'"):
      function('cqa')
