"""Retention policy: which checkpoints of a run are kept."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from t5x.errors import UserError

# Name under which Orbax saves the metric, if `save` was given it.
SAVED_METRIC = 'monitored'


@dataclasses.dataclass(frozen=True)
class Retention:
  """Decides which checkpoints to keep; the newest always stays.

  With a metric, the `keep` best ones stay. A run is evaluated after it is
  saved, so the newest checkpoint has no value yet: it stays until the next one
  is saved, and takes part in the comparison then.

  Attributes:
    directory: the run's folder, which also holds its metrics.
    keep: how many to keep; None keeps all.
    force_keep_period: steps that this divides always stay, and don't count
      towards `keep`.
    metric: `'<folder below the run>/<tag>'` such as `'train/accuracy'` or
      `'training_eval/cqa/loss'`, in TensorBoard event files; None keeps the
      last ones.
    mode: whether the largest ('max') or the smallest ('min') values are best.
    keep_without_metrics: whether checkpoints without a value stay.
  """

  directory: str
  keep: int | None = None
  force_keep_period: int | None = None
  metric: str | None = None
  mode: str = 'max'
  keep_without_metrics: bool = True

  def __post_init__(self):
    if self.mode not in ('max', 'min'):
      raise UserError(
        f"metric_mode: expected 'max' or 'min', found {self.mode!r}."
      )
    for name in ('keep', 'force_keep_period'):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise UserError(f'{name}: expected at least 1, or None, found {value}.')

  def to_keep(
    self, steps: Sequence[int], saved: Mapping[int, float] | None = None
  ) -> set[int]:
    """Returns the steps to keep, of `steps`.

    `Retention(folder, keep=1, force_keep_period=10).to_keep([10, 15, 20, 25])`
    → `{10, 20, 25}`: 10 and 20 by period, 25 as the last one of the rest.

    Args:
      steps: all steps that are saved, ascending.
      saved: metric values that were given when saving.
    """
    steps = sorted(steps)
    if self.keep is None or not steps:
      return set(steps)
    period = self.force_keep_period
    forced = {s for s in steps if period and s % period == 0}
    rest = [s for s in steps if s not in forced]
    if self.metric is None:
      return forced | set(rest[-self.keep :])
    values = {**self.read_metric(), **(saved or {})}
    with_value = [s for s in rest if s in values and np.isfinite(values[s])]
    sign = 1 if self.mode == 'max' else -1
    # Of equal values the later one wins.
    ranked = sorted(with_value, key=lambda s: (sign * values[s], s))
    without = [s for s in rest if s not in values]
    kept = forced | set(ranked[-self.keep :]) | {steps[-1]}
    return kept | set(without) if self.keep_without_metrics else kept

  def read_metric(self) -> dict[int, float]:
    """Returns the metric's values by step, from the run's event files."""
    parts = (self.metric or '').split('/')
    for i in range(len(parts) - 1, 0, -1):
      folder = os.path.join(self.directory, *parts[:i])
      if epath.Path(folder).is_dir():
        return read_scalars(folder, '/'.join(parts[i:]))
    return {}

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> Sequence[bool]:
    """Returns one answer per checkpoint, as an Orbax preservation policy."""
    saved = {
      info.step: info.metrics[SAVED_METRIC]
      for info in checkpoints
      if info.metrics and SAVED_METRIC in info.metrics
    }
    kept = self.to_keep([info.step for info in checkpoints], saved)
    return [info.step in kept for info in checkpoints]


def read_scalars(folder: str, tag: str) -> dict[int, float]:
  """Reads one scalar from a folder of TensorBoard events: step → value."""
  from tensorboard.backend.event_processing import event_accumulator
  from tensorboard.util import tensor_util

  events = event_accumulator.EventAccumulator(
    folder, size_guidance={'scalars': 0, 'tensors': 0}
  )
  events.Reload()
  tags = events.Tags()
  if tag in tags['scalars']:
    return {e.step: float(e.value) for e in events.Scalars(tag)}
  if tag in tags['tensors']:
    return {
      e.step: float(tensor_util.make_ndarray(e.tensor_proto))
      for e in events.Tensors(tag)
    }
  return {}
