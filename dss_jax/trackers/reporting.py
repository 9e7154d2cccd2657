"""Actions of a trainer that report its metrics to experiment trackers."""

import functools
import importlib
import importlib.util
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tensorflow as tf

import gin
from dss_jax import errors
from dss_jax.trackers import delivery
from t5x import trainer

# Tracker to the module of ours and the package that it needs; the extra of this
# package that installs it has the tracker's name.
_TRACKERS = {
  'mlflow': ('dss_jax.trackers.mlflow_runs', 'mlflow'),
  'wandb': ('dss_jax.trackers.wandb_runs', 'wandb'),
}
# Where the runs' ids in trackers are kept, in the run's folder.
FILE = 'trackers.json'
_MODES = {
  'TRAIN': '',
  'TRAIN_EVAL': 'training_eval/',
  'INFER_EVAL': 'inference_eval/',
}
# Each tracker has a thread, and all of them write the one file.
_KEEPING = threading.Lock()
_BINDING = re.compile(r'([A-Z][A-Z0-9_]*) = ?(.*)')
# What T5X's `train` measures at the last step, if it is given data to do so.
_EVALUATES = re.compile(r'\S*\b(train|infer)_eval_dataset_cfg = ?(.*)')


def actions(
  names: Sequence[str] | str,
  model_dir: str,
  total_steps: int,
  at_evaluation: Sequence[trainer.BaseAction] = (),
) -> dict[str, list[trainer.BaseAction]]:
  """Returns what a run calls after training steps and evaluations.

  Args:
    names: of trackers, 'mlflow' and 'wandb'; none reports to none.
    model_dir: the run's folder, whose last part is the name of its runs there.
    total_steps: at which the run is finished.
    at_evaluation: further actions after an evaluation of predictions, called
      first.

  Raises:
    DataError: there is no such tracker, or its package is not installed.
  """
  found: dict[str, list[trainer.BaseAction]] = {
    'INFER_EVAL': list(at_evaluation)
  }
  chosen = _checked(names)
  if not chosen:
    return found
  # The first process reports for all; the others do what it does.
  deliveries = [
    delivery.Delivery(
      name, functools.partial(_begin, name, model_dir, macros())
    )
    for name in chosen
    if jax.process_index() == 0
  ]
  last_mode = _last_mode()
  for mode, prefix in _MODES.items():
    report = _Report(
      deliveries, prefix, total_steps if mode == last_mode else None
    )
    found.setdefault(mode, []).append(report)
  return found


class _Report(trainer.BaseAction):
  """Hands the metrics of one kind to trackers; never stops a run."""

  def __init__(
    self,
    deliveries: Sequence[delivery.Delivery],
    prefix: str,
    last_step: int | None,
  ):
    self._deliveries = deliveries
    self._prefix = prefix
    self._last_step = last_step

  def run(
    self, train_state: Any, metrics_by_task: Mapping[str, Mapping[str, Any]]
  ) -> bool:
    """Reports, and ends the runs there with this one."""
    if self._deliveries:
      step = int(train_state.step)
      metrics = scalars(metrics_by_task, self._prefix)
      is_last = self._last_step is not None and step >= self._last_step
      for each in self._deliveries:
        each.put(step, metrics)
        if is_last:
          each.finish()
          each.close()
    return False


def scalars(
  metrics_by_task: Mapping[str, Mapping[str, Any]], prefix: str
) -> dict[str, float]:
  """Returns the numbers among metrics, by `<prefix><task>/<metric>`.

  Args:
    metrics_by_task: as a trainer's action gets them.
    prefix: what comes before a task.
  """
  found = {}
  for task, metrics in metrics_by_task.items():
    for name, value in metrics.items():
      value = getattr(value, 'value', value)
      if isinstance(value, bool | int | float | np.generic) or (
        hasattr(value, 'shape') and not value.shape
      ):
        found[f'{prefix}{task}/{name}'] = float(value)
  return found


def _last_mode() -> str:
  """Returns what a run does last: training itself, if it evaluates nothing."""
  found = filter(None, map(_EVALUATES.fullmatch, _config_lines()))
  given = {match[1] for match in found if match[2] != 'None'}
  if 'infer' in given:
    return 'INFER_EVAL'
  return 'TRAIN_EVAL' if 'train' in given else 'TRAIN'


def _config_lines() -> list[str]:
  return gin.config_str(max_line_length=1 << 20).splitlines()


def _checked(names: Sequence[str] | str) -> list[str]:
  """Returns trackers that can be used."""
  if isinstance(names, str):
    names = [name.strip() for name in names.split(',') if name.strip()]
  for name in names:
    errors.choose('TRACKERS', name, tuple(_TRACKERS))
    _, package = _TRACKERS[name]
    if importlib.util.find_spec(package) is None:
      raise errors.DataError(
        f'TRACKERS has {name!r}: expected the package {package} to be'
        f" installed. Run pip install 'dss-jax[{name}]'."
      )
  return list(dict.fromkeys(names))


def macros() -> dict[str, str]:
  """Returns the macros of the configuration in force, as gin writes them."""
  matches = filter(None, map(_BINDING.fullmatch, _config_lines()))
  return {found[1]: found[2] for found in matches}


def _begin(
  name: str, model_dir: str, settings: Mapping[str, str]
) -> delivery.Tracked:
  """Opens a run in a tracker: the one that the folder's run has had, if any."""
  module = importlib.import_module(_TRACKERS[name][0])
  begin: delivery.Begin = module.begin
  ids = kept(model_dir)
  tracked, own = begin(
    model_dir=model_dir,
    name=os.path.basename(model_dir.rstrip('/')) or model_dir,
    settings=settings,
    before=ids.get(name) or {},
  )
  with _KEEPING:
    _keep(model_dir, {**kept(model_dir), name: dict(own)})
  return tracked


def kept(model_dir: str) -> dict[str, dict[str, str]]:
  """Returns what a run's folder says of its runs in trackers, by tracker.

  Args:
    model_dir: the run's folder.

  Raises:
    DataError: the file holds something else.
  """
  path = os.path.join(model_dir, FILE)
  if not tf.io.gfile.exists(path):
    return {}
  with tf.io.gfile.GFile(path) as f:
    text = f.read()
  try:
    found = json.loads(text)
    if not all(isinstance(ids, dict) for ids in found.values()):
      raise ValueError('no object of objects')
  except (ValueError, AttributeError) as error:
    raise errors.DataError(
      f'{path}: expected the ids of this run in trackers ({error}). Remove the'
      ' file, and they begin a new run.'
    ) from error
  return found


def _keep(model_dir: str, ids: Mapping[str, Mapping[str, str]]) -> None:
  # Not by the engine's own means: upstream T5X has none.
  path = os.path.join(model_dir, FILE)
  work = f'{path}.{os.getpid()}.tmp'
  with tf.io.gfile.GFile(work, 'w') as f:
    f.write(json.dumps(ids, indent=1))
  tf.io.gfile.rename(work, path, overwrite=True)
