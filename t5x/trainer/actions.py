"""Actions of a run on its metrics: stop early, stop on a NaN."""

import abc
import collections
import enum
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging
from clu import values as clu_values

from t5x import errors, train_state

MetricsByTask = Mapping[str, Mapping[str, clu_values.Value]]


class ActionMode(enum.Enum):
  """After which part of a run an action is called."""

  TRAIN = 1
  TRAIN_EVAL = 2
  INFER_EVAL = 3


class PreemptionError(Exception):
  """Raised by `train` when the run was told to stop and has saved.

  Programs that call `train` may catch it, and end in order.
  """


class BaseAction(abc.ABC):
  """Something to do after a part of a run."""

  @abc.abstractmethod
  def run(
    self, train_state: train_state.TrainState, metrics_by_task: MetricsByTask
  ) -> bool:
    """Returns whether the run has to stop.

    Args:
      train_state: the state after the part.
      metrics_by_task: task to metric name to value.
    """


ActionMapType = Mapping[ActionMode, 'list[BaseAction]']


def _metric(
  action: BaseAction, metrics_by_task: MetricsByTask, task: str, name: str
) -> float | None:
  """Returns the value of a metric; warns if there is none."""
  value: Any = metrics_by_task.get(task, {}).get(name)
  if value is not None:
    return float(np.asarray(getattr(value, 'value', value)))
  logging.warning(
    '%s: no metric %s of task %s; found %s.',
    type(action).__name__,
    name,
    task,
    {task: sorted(metrics) for task, metrics in metrics_by_task.items()},
  )
  return None


class EarlyStoppingAction(BaseAction):
  """Stops a run whose metric does not improve any more.

  It stops when, of the last `patience` values, none improves upon the one
  before it among them: with a patience of 3 at the third equal loss. A patience
  of 1 compares two values, as 2 does. An improvement is a change in the right
  direction by more than `atol + rtol * |value before|`.

  Args:
    metric: (task, metric name).
    mode: 'min' if less is better, 'max' if more is.
    patience: how many values are looked at.
    atol: absolute tolerance.
    rtol: relative tolerance.

  Raises:
    errors.UserError: if the mode is neither.
  """

  def __init__(
    self,
    metric: tuple[str, str],
    mode: str,
    patience: int = 3,
    atol: float = 0.0,
    rtol: float = 0.0,
  ):
    if mode not in ('min', 'max'):
      raise errors.UserError(
        f"EarlyStoppingAction.mode: expected 'min' or 'max', found {mode!r}."
        + errors.did_you_mean(str(mode), ('min', 'max'))
      )
    self._task, self._metric = metric
    self._sign = 1.0 if mode == 'max' else -1.0
    self._patience = patience
    self._atol = atol
    self._rtol = rtol
    self._scores: collections.deque[float] = collections.deque(
      maxlen=max(patience, 2)
    )

  def run(
    self, train_state: train_state.TrainState, metrics_by_task: MetricsByTask
  ) -> bool:
    """Returns whether none of the last `patience` values is better."""
    value = _metric(self, metrics_by_task, self._task, self._metric)
    if value is None:
      return False
    self._scores.append(self._sign * value)
    if len(self._scores) < max(self._patience, 2) or any(
      score - before > self._atol + self._rtol * abs(before)
      for before, score in itertools.pairwise(self._scores)
    ):
      return False
    logging.info(
      'Stopping early at step %d: %s/%s has not improved over %d values.',
      int(train_state.step),
      self._task,
      self._metric,
      self._patience,
    )
    return True


class TerminateOnNanAction(BaseAction):
  """Stops a run whose loss is NaN or infinite.

  Args:
    task: 'train', or a task of the evaluation.
    metric: name of the metric to look at.
  """

  def __init__(self, task: str, metric: str = 'loss'):
    self._task = task
    self._metric = metric

  def run(
    self, train_state: train_state.TrainState, metrics_by_task: MetricsByTask
  ) -> bool:
    """Returns whether the metric is not finite."""
    value = _metric(self, metrics_by_task, self._task, self._metric)
    if value is None or np.isfinite(value):
      return False
    logging.error(
      'Stopping at step %d: %s/%s is %s.',
      int(train_state.step),
      self._task,
      self._metric,
      value,
    )
    return True
