"""A run's config.gin is read as data."""

import pathlib

import pytest

from dss_jax import config_filter
from dss_jax.errors import DataError

_RUN = (
  pathlib.Path(__file__).parents[1] / 'golden/config_0_1_0.gin'
).read_text()
_HEAD = """
from __gin__ import dynamic_registration
import __main__ as train_script
from dss_jax import models
from t5x.examples.t5 import network
"""


def _filtered(text, **options):
  return config_filter.model_only(text, 'run/config.gin', **options)


def test_a_runs_model_and_values_are_kept_and_nothing_else():
  lines = _filtered(_RUN).splitlines()
  for line in (
    'import __main__ as train_script',
    'from t5x.examples.t5 import network',
    "DATA_SET = 'cqa'",
    "TASK_FEATURE_LENGTHS = {'inputs': 112, 'targets': 76}",
    'train_script.train.model = %MODEL',
    'MODEL = @models.DistillModel()',
    'models.DistillModel.method = %METHOD',
    'network.T5Config.emb_dim = 64',
    "network.T5Config.mlp_activations = ('gelu', 'linear')",
    'network.T5Config.vocab_size = @utils.round_vocab_size_to_multiple()',
    'models.DistillModel.optimizer_def = None',
  ):
    assert line in lines
  text = '\n'.join(lines)
  for name in ('screen', 'trainer', 'adamw', 'decode_fn', 'mixtures', 'seqio'):
    assert name not in text


def test_what_is_filtered_again_stays_the_same():
  assert sorted(_filtered(_filtered(_RUN)).splitlines()) == sorted(
    _filtered(_RUN).splitlines()
  )


@pytest.mark.parametrize(
  ('lines', 'found'),
  [
    (
      'import subprocess\ntrain_script.train.model = @subprocess.getoutput()',
      'subprocess.getoutput',
    ),
    ('import os\nMODEL = @os.system\ntrain_script.train.model = %MODEL', 'os.'),
    (
      'import evil.sub\ntrain_script.train.model = @evil.sub.Model()',
      'evil.sub.Model',
    ),
    ('import os as models\ntrain_script.train.model = @models.getcwd()', 'os.'),
    # What a module of ours has imported.
    (
      'train_script.train.model = @network.jnp.load()',
      't5x.examples.t5.network.jnp.load',
    ),
    (
      'from t5x import files\n'
      'train_script.train.model = @models.DistillModel()\n'
      'models.DistillModel.module = [{1: (@files.join(),)}]',
      't5x.files.join',
    ),
    (
      'from dss_jax.data import release\n'
      'train_script.train.model = @models.DistillModel()\n'
      'a/b/models.DistillModel.alpha = @release.fetch()',
      'dss_jax.data.release.fetch',
    ),
    ('train_script.train.model = @unknown()', 'unknown'),
  ],
)
def test_names_that_run_other_code_are_refused(lines, found):
  with pytest.raises(DataError, match=r'run/config\.gin:[0-9]+: ') as raised:
    _filtered(_HEAD + lines)
  assert f'found @{found}' in str(raised.value)


def test_foreign_names_outside_the_model_are_left_out():
  text = _filtered(
    _HEAD + 'import evil\n'
    'train_script.train.model = @models.DistillModel()\n'
    'models.DistillModel.decode_fn = @evil.decode\n'
    'models.DistillModel.optimizer_def = @evil.optimizer()\n'
    'train_script.train.actions = [@evil.Action()]\n'
    'A = @evil.macro()\n'
    'evil.macro.x = 3\n'
  )
  assert 'evil' not in text
  assert 'models.DistillModel.optimizer_def = None' in text


def test_a_module_that_the_user_trusts_is_allowed():
  lines = (
    _HEAD + 'import my.code\ntrain_script.train.model = @my.code.Model()\n'
  )
  assert '@my.code.Model()' in _filtered(lines, allow=['my'])
  assert '@my.code.Model()' in _filtered(lines, allow=['my.code'])
  for other in ('my.co', 'm', 'code'):
    with pytest.raises(DataError, match=r'--allow my\.code'):
      _filtered(lines, allow=[other])


@pytest.mark.parametrize(
  'text', ['a = ', 'a = (', '\x00', "include 'other.gin'", 'a = ' + '(' * 5000]
)
def test_what_is_no_configuration_of_a_run_is_a_users_mistake(text):
  with pytest.raises(DataError, match=r'run/config\.gin: expected'):
    _filtered(text)
