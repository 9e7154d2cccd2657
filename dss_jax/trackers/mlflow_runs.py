"""A run in MLflow.

`MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` say where, as for every
program that uses MLflow.
"""

import os
import re
import time
from collections.abc import Mapping

import mlflow
from mlflow import entities

_EXPERIMENT = 'dss-jax'
# What MLflow takes at once, and in one text.
_MOST_METRICS, _MOST_PARAMETERS, _MOST_CHARACTERS = 500, 100, 500
# What a name of a metric must not hold.
_ODD = re.compile(r'[^\w\-./ ]')


class MlflowRun:
  """See `delivery.Tracked`."""

  def __init__(self, client: mlflow.MlflowClient, run_id: str, place: str):
    """Takes a run that is open.

    Args:
      client: of its server or store.
      run_id: of the run.
      place: where to look at it.
    """
    self._client = client
    self._run_id = run_id
    self.place = place

  def report(self, step: int, metrics: Mapping[str, float]) -> None:
    """Delivers metrics by name.

    Args:
      step: of the run.
      metrics: values by name.
    """
    now = int(time.time() * 1000)
    found = [
      entities.Metric(_ODD.sub('_', name)[:250], value, now, step)
      for name, value in metrics.items()
    ]
    for start in range(0, len(found), _MOST_METRICS):
      part = found[start : start + _MOST_METRICS]
      self._client.log_batch(self._run_id, metrics=part)

  def close(self, finished: bool) -> None:
    """Ends the run there.

    Args:
      finished: whether it did all that its configuration says.
    """
    status = 'FINISHED' if finished else 'KILLED'
    self._client.set_terminated(self._run_id, status)


def begin(
  model_dir: str,
  name: str,
  settings: Mapping[str, str],
  before: Mapping[str, str],
) -> tuple[MlflowRun, dict[str, str]]:
  """Opens a run; see `delivery.Begin`."""
  client = mlflow.MlflowClient()
  uri = mlflow.get_tracking_uri()
  run_id = before.get('run_id')
  # A run of another server is not known here.
  if run_id and before.get('uri') == uri:
    client.update_run(run_id, status='RUNNING')
  else:
    run_id = client.create_run(
      _experiment(client),
      run_name=name,
      tags={'model_dir': os.path.abspath(model_dir)
            if '://' not in model_dir else model_dir},
    ).info.run_id  # fmt: skip
  _log_settings(client, run_id, settings)
  run = MlflowRun(client, run_id, f'run {run_id} in {uri}')
  return run, {'run_id': run_id, 'uri': uri}


def _experiment(client: mlflow.MlflowClient) -> str:
  name = os.environ.get('MLFLOW_EXPERIMENT_NAME') or _EXPERIMENT
  found = client.get_experiment_by_name(name)
  if found is not None:
    return found.experiment_id
  return client.create_experiment(name)


def _log_settings(
  client: mlflow.MlflowClient, run_id: str, settings: Mapping[str, str]
) -> None:
  """Logs parameters once; what a later start has changed becomes a tag."""
  texts = {k: v[:_MOST_CHARACTERS] for k, v in settings.items()}
  there = client.get_run(run_id).data.params
  new = [entities.Param(k, v) for k, v in texts.items() if k not in there]
  for start in range(0, len(new), _MOST_PARAMETERS):
    client.log_batch(run_id, params=new[start : start + _MOST_PARAMETERS])
  for key, value in texts.items():
    if there.get(key, value) != value:
      client.set_tag(run_id, f'changed.{key}', value)
