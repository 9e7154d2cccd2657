"""Runs in MLflow's own stores and in W&B offline, for real.

Needs both: `pip install 'dss-jax[tracker-test]'`.
"""

import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from dss_jax import trackers
from dss_jax.trackers import delivery, reporting

pytestmark = [
  pytest.mark.slow,
  # Those of the trackers themselves.
  pytest.mark.filterwarnings('ignore'),
]

_ROOT = pathlib.Path(__file__).parents[3]
_BOTH = ('mlflow', 'wandb')
# `python -m t5x.train` on a machine that may be loaded, which is no failure:
# its few steps are over before the trackers are imported.
_PATIENT = """
import runpy
from t5x.cli import quiet_tensorflow
quiet_tensorflow.load()
from dss_jax.trackers import delivery
delivery._PATIENCE_SECONDS = 300.0
runpy.run_module('t5x.train', run_name='__main__', alter_sys=True)
"""


@pytest.fixture(autouse=True)
def where(tmp_path, monkeypatch):
  """Keeps trackers on this machine; skips where one is not installed."""
  for name in (*_BOTH, 'sqlalchemy', 'alembic'):
    pytest.importorskip(
      name, reason=f'{name}: pip install dss-jax[tracker-test]'
    )
  # A loaded machine is no failure.
  monkeypatch.setattr(delivery, '_PATIENCE_SECONDS', 300.0)
  monkeypatch.setenv('WANDB_MODE', 'offline')
  monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
  monkeypatch.setenv('MLFLOW_TRACKING_URI', f'sqlite:///{tmp_path}/runs.db')


def _client():
  import mlflow

  return mlflow.MlflowClient(tracking_uri=os.environ['MLFLOW_TRACKING_URI'])


def _only_run(client):
  experiment = client.get_experiment_by_name('dss-jax')
  (run,) = client.search_runs([experiment.experiment_id])
  return run


def _start(folder, steps, total, monkeypatch, names=_BOTH):
  """Reports as a run's start does that trains some steps."""
  settings = {'METHOD': "'dss'", 'TRAIN_STEPS': str(total)}
  monkeypatch.setattr(reporting, 'macros', lambda: settings)
  monkeypatch.setattr(reporting, '_last_mode', lambda: 'INFER_EVAL')
  actions = trackers.actions(names, str(folder), total)
  for step in steps:
    state = types.SimpleNamespace(step=np.int32(step))
    actions['TRAIN'][0].run(state, {'train': {'loss': 1 / step}})
  actions['INFER_EVAL'][0].run(
    state, {'cqa_test': {'accuracy': 10.0 * step, 'recall_of_<b>': 1.0}}
  )
  return actions


@pytest.mark.parametrize('store', ['sqlite:///{0}/a.db', 'file://{0}/runs'])
def test_a_run_goes_on_in_the_same_runs_of_both(
  tmp_path, store, monkeypatch, capsys
):
  uri = store.format(tmp_path)
  monkeypatch.setenv('MLFLOW_TRACKING_URI', uri)
  folder = tmp_path / 'cqa'
  folder.mkdir()
  found = []
  # The second start does step 4 again, as after a kill.
  for steps, total in (((2, 4), 4), ((4, 6), 6)):
    _start(folder, steps, total, monkeypatch)
    said = capsys.readouterr().err
    found.append(json.loads((folder / reporting.FILE).read_text()))
    run_id = found[-1]['mlflow']['run_id']
    assert f'mlflow: run {run_id} in {uri}\n' in said
    assert 'wandb: send it by: wandb sync ' in said
  assert found[0] == found[1]

  client = _client()
  run = _only_run(client)
  assert run.info.run_id == run_id
  assert (run.info.run_name, run.info.status) == ('cqa', 'FINISHED')
  assert run.data.params == {'METHOD': "'dss'", 'TRAIN_STEPS': '4'}
  assert run.data.tags['changed.TRAIN_STEPS'] == '6'
  assert run.data.tags['model_dir'] == str(folder)
  points = client.get_metric_history(run_id, 'train/loss')
  assert sorted((p.step, p.value) for p in points) == [
    *((2, 0.5), (4, 0.25), (4, 0.25), (6, 1 / 6))
  ]
  assert run.data.metrics['inference_eval/cqa_test/accuracy'] == 60.0
  assert 'inference_eval/cqa_test/recall_of__b_' in run.data.metrics

  files = sorted(folder.glob('wandb/offline-run-*/*.wandb'))
  assert {path.name for path in files} == {
    f'run-{found[0]["wandb"]["id"]}.wandb'
  }
  data = b''.join(path.read_bytes() for path in files)
  for text in (b'train/loss', b'inference_eval/cqa_test/accuracy', b'METHOD'):
    assert text in data, text


def test_a_server_that_is_down_blocks_nothing_and_is_told(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://127.0.0.1:9')
  monkeypatch.setenv('MLFLOW_HTTP_REQUEST_MAX_RETRIES', '1')
  monkeypatch.setenv('MLFLOW_HTTP_REQUEST_TIMEOUT', '1')
  _start(tmp_path, (2, 4), 4, monkeypatch, 'mlflow')
  said = capsys.readouterr().err
  assert said.count('mlflow: a report could not be delivered') == 1
  assert 'mlflow: 3 of 3 reports were not delivered' in said


def test_nobody_is_asked_to_log_in(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('WANDB_MODE', 'online')
  monkeypatch.delenv('WANDB_API_KEY', raising=False)
  monkeypatch.setenv('NETRC', str(tmp_path / 'none'))
  monkeypatch.setenv('HOME', str(tmp_path))
  _start(tmp_path, (2,), 2, monkeypatch, 'wandb')
  said = capsys.readouterr().err
  assert 'nobody is logged in. Run `wandb login`' in said
  assert not list(tmp_path.glob('wandb*'))


def _train(folder, *more):
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  done = subprocess.run(
    [
      *(sys.executable, '-c', _PATIENT, '--gin_file=gin/dss_cqa.gin'),
      *(f'--gin.MODEL_DIR={str(folder)!r}', '--gin.TRAIN_STEPS=2'),
      *('--gin.EVAL_PERIOD=2', '--gin.STATS_PERIOD=1', '--gin.SAVE_PERIOD=2'),
      *('--gin.WARMUP_STEPS=1', '--gin.EVAL_NUM_EXAMPLES=10'),
      *('--gin.EVAL_RATIONALES=False', f'--gin.TRACKERS={_BOTH!r}', *more),
    ],
    cwd=_ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr


def test_a_run_without_evaluation_is_finished_at_its_last_step(tmp_path):
  _train(
    tmp_path / 'cqa',
    '--gin.train.train_eval_dataset_cfg=None',
    '--gin.train.infer_eval_dataset_cfg=None',
  )
  run = _only_run(_client())
  assert run.info.status == 'FINISHED'
  assert 'train/label_loss' in run.data.metrics
  assert not [name for name in run.data.metrics if 'eval' in name]


def test_the_macro_makes_a_run_report(tmp_path):
  folder = tmp_path / 'cqa'
  _train(folder)
  client = _client()
  run = _only_run(client)
  assert run.info.status == 'FINISHED'
  assert run.data.params['METHOD'] == "'dss'"
  points = client.get_metric_history(run.info.run_id, 'train/label_loss')
  with (folder / 'train' / 'metrics.jsonl').open() as f:
    written = {
      row['step']: row['label_loss']
      for row in map(json.loads, f)
      if 'label_loss' in row
    }
  assert {p.step: p.value for p in points} == pytest.approx(written)
  metrics = set(run.data.metrics)
  assert 'inference_eval/cqa_sample_label_test/accuracy' in metrics
  assert any(name.startswith('training_eval/') for name in metrics)
  assert list(folder.glob('wandb/offline-run-*/*.wandb'))
