"""Runs in MLflow's own stores and in W&B offline, for real.

Needs both: `pip install 'dss-jax[tracker-test]'`.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from dss_jax.trackers import reporting

pytestmark = pytest.mark.slow

_ROOT = pathlib.Path(__file__).parents[3]
_STEPS = (
  '--gin.EVAL_PERIOD=4',
  '--gin.STATS_PERIOD=2',
  '--gin.SAVE_PERIOD=4',
  '--gin.WARMUP_STEPS=1',
  '--gin.EVAL_NUM_EXAMPLES=10',
  '--gin.EVAL_RATIONALES=False',
)


@pytest.fixture(autouse=True)
def packages():
  """Skips where a tracker is not installed."""
  for name in ('mlflow', 'wandb', 'sqlalchemy', 'alembic'):
    pytest.importorskip(
      name, reason=f'{name}: pip install dss-jax[tracker-test]'
    )


def _train(folder, steps, *more, **environment):
  """Trains on the sample as a user does; returns what it printed."""
  found = subprocess.run(
    [
      *(sys.executable, '-m', 't5x.train', '--gin_file=gin/dss_cqa.gin'),
      *(f'--gin.MODEL_DIR={str(folder)!r}', f'--gin.TRAIN_STEPS={steps}'),
      *(*_STEPS, *more),
    ],
    cwd=_ROOT,
    env={**os.environ, 'WANDB_MODE': 'offline', **environment},
    capture_output=True,
    text=True,
    timeout=500,
    check=False,
  )
  return found.returncode, found.stdout + found.stderr


def _client(uri):
  import mlflow

  return mlflow.MlflowClient(tracking_uri=uri)


@pytest.mark.parametrize('store', ['sqlite:///{0}/runs.db', 'file://{0}/runs'])
def test_a_run_goes_on_in_the_same_runs_of_both(tmp_path, store, monkeypatch):
  uri = store.format(tmp_path)
  folder = tmp_path / 'cqa'
  where = {'MLFLOW_TRACKING_URI': uri, 'MLFLOW_ALLOW_FILE_STORE': 'true'}
  trackers = "--gin.TRACKERS=('mlflow', 'wandb')"
  for steps in (4, 8):
    code, said = _train(folder, steps, trackers, **where)
    assert code == 0, said
    ids = json.loads((folder / reporting.FILE).read_text())
    assert f'mlflow: run {ids["mlflow"]["run_id"]} in {uri}' in said
    assert 'send it by: wandb sync' in said
    first = ids if steps == 4 else first
  assert ids == first

  monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
  client = _client(uri)
  (experiment,) = [
    e for e in client.search_experiments() if e.name != 'Default'
  ]
  (run,) = client.search_runs([experiment.experiment_id])
  assert run.info.run_id == ids['mlflow']['run_id']
  assert (run.info.run_name, run.info.status) == ('cqa', 'FINISHED')
  assert run.data.params['METHOD'] == "'dss'"
  assert run.data.params['TRAIN_STEPS'] == '4'
  assert run.data.tags['changed.TRAIN_STEPS'] == '8'
  history = client.get_metric_history(run.info.run_id, 'train/label_loss')
  assert sorted({point.step for point in history}) == [2, 4, 6, 8]
  written = {
    row['step']: row['label_loss']
    for row in map(json.loads, (folder / 'train/metrics.jsonl').open())
    if 'label_loss' in row
  }
  for point in history:
    assert point.value == pytest.approx(written[point.step])
  task = 'inference_eval/cqa_sample_label_test/accuracy'
  history = client.get_metric_history(run.info.run_id, task)
  assert sorted({point.step for point in history}) == [4, 8]
  assert any(k.startswith('training_eval/') for k in run.data.metrics)

  found = sorted(folder.glob('wandb/offline-run-*/*.wandb'))
  assert {path.name for path in found} == {f'run-{ids["wandb"]["id"]}.wandb'}
  data = b''.join(path.read_bytes() for path in found)
  for text in (b'train/label_loss', task.encode(), b'METHOD'):
    assert text in data, text


def test_a_server_that_is_down_neither_ends_nor_blocks_a_run(tmp_path):
  code, said = _train(
    tmp_path / 'run',
    4,
    '--gin.TRACKERS=mlflow',
    MLFLOW_TRACKING_URI='http://127.0.0.1:9',
    MLFLOW_HTTP_REQUEST_MAX_RETRIES='1',
  )
  assert code == 0, said
  assert said.count('mlflow: a report could not be delivered') <= 1
  assert 'reports were not delivered' in said
  assert (tmp_path / 'run' / 'checkpoint_4').exists()


def test_nobody_is_asked_to_log_in(tmp_path):
  code, said = _train(
    tmp_path / 'run',
    2,
    '--gin.TRACKERS=wandb',
    WANDB_MODE='online',
    WANDB_API_KEY='',
    HOME=str(tmp_path),
    NETRC=str(tmp_path / 'none'),
  )
  assert code == 0, said
  assert 'nobody is logged in. Run `wandb login`' in said


def test_a_wrong_name_ends_at_the_start(tmp_path):
  code, said = _train(tmp_path / 'run', 2, '--gin.TRACKERS=mflow')
  assert code == 2
  assert "TRACKERS is 'mflow': expected one of mlflow, wandb." in said
  assert not (tmp_path / 'run').exists()
