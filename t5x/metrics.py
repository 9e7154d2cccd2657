"""Training metrics on `clu.metrics`: sums on devices, values on hosts.

A step returns metrics as small pytrees of sums; metrics of several steps are
merged, given the number of steps and the time they took, and computed.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any, Union

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from clu import values as clu_values
from flax import struct

MetricsMap = MutableMapping[str, clu_metrics.Metric]
Scalar = Union[int, float, np.number, np.ndarray, jax.Array]  # noqa: UP007


@struct.dataclass
class WeightedMean(clu_metrics.Metric):
  """A mean whose denominator may be 0: then nothing is reported.

  `compute` gives NaN where the weight is 0, and `compute_values` leaves such a
  metric out, so that a reported NaN comes from the total.

  Attributes:
    total: weighted sum of the values.
    weight: sum of the weights.
  """

  total: Scalar
  weight: Scalar

  @classmethod
  def from_model_output(
    cls, values: jax.Array, weights: jax.Array | None = None, **_: Any
  ) -> 'WeightedMean':
    """Sums up values of any shape, weighted by 1 without weights."""
    values = jnp.asarray(values, jnp.float32)
    if weights is None:
      weights = jnp.ones_like(values)
    return cls(total=jnp.sum(values * weights), weight=jnp.sum(weights))

  @classmethod
  def empty(cls) -> 'WeightedMean':
    return cls(total=jnp.float32(0), weight=jnp.float32(0))

  def merge(self, other: 'WeightedMean') -> 'WeightedMean':
    return type(self)(
      total=self.total + other.total, weight=self.weight + other.weight
    )

  def compute(self) -> Scalar:
    total = jnp.asarray(self.total, jnp.float32)
    weight = jnp.asarray(self.weight, jnp.float32)
    empty = weight == 0
    return jnp.where(empty, jnp.nan, total / jnp.where(empty, 1, weight))


@struct.dataclass
class Sum(clu_metrics.Metric):
  """A sum over all steps."""

  total: Scalar

  @classmethod
  def from_model_output(cls, values: Scalar, **_: Any) -> 'Sum':
    return cls(total=jnp.sum(jnp.asarray(values)))

  def merge(self, other: 'Sum') -> 'Sum':
    return type(self)(total=self.total + other.total)

  def compute(self) -> Scalar:
    return self.total


@struct.dataclass
class Step(clu_metrics.Metric):
  """Base of metrics that know over how many steps they were summed."""

  steps: int = 1

  def replace_steps(self, steps: int) -> 'Step':
    return self.replace(steps=steps)

  def compute(self) -> Scalar:
    return self.steps


@struct.dataclass
class AveragePerStep(Step):
  """A sum divided by the number of steps.

  Microbatches of a step add up and don't count as steps.
  """

  # The default follows from that of `steps`; a metric always has a total.
  total: Scalar = None  # type: ignore[assignment]

  @classmethod
  def from_model_output(
    cls, values: Scalar, steps: int = 1, **_: Any
  ) -> 'AveragePerStep':
    return cls(steps=steps, total=jnp.sum(jnp.asarray(values)))

  def merge(self, other: 'AveragePerStep') -> 'AveragePerStep':
    return type(self)(
      steps=self.steps + other.steps, total=self.total + other.total
    )

  def compute(self) -> Scalar:
    if self.steps is None:
      raise ValueError(
        'AveragePerStep: expected a number of steps, found None. Call'
        ' replace_steps before compute.'
      )
    return self.total / self.steps


def _require_duration(metric: Any) -> Scalar:
  if metric.duration is None:
    raise ValueError(
      f'{type(metric).__name__}: expected a duration in seconds, found None.'
      ' Call replace_duration before compute.'
    )
  return metric.duration


@struct.dataclass
class Time(clu_metrics.Metric):
  """Seconds that the steps took, set on the host."""

  duration: Scalar | None = None

  def merge(self, other: 'Time') -> 'Time':
    del other  # The host measures all steps together.
    return self

  def compute(self) -> Scalar:
    return _require_duration(self)

  def replace_duration(self, duration: Scalar) -> 'Time':
    """Returns the metric with the time, in seconds, that all steps took."""
    return self.replace(duration=duration)


@struct.dataclass
class TimeRate(Time):
  """A sum divided by the seconds that the steps took."""

  # The default follows from that of `duration`; a rate always has a numerator.
  numerator: Scalar = None  # type: ignore[assignment]

  @classmethod
  def from_model_output(cls, numerator: Scalar, **_: Any) -> 'TimeRate':
    return cls(numerator=numerator)

  def merge(self, other: 'TimeRate') -> 'TimeRate':
    return self.replace(numerator=self.numerator + other.numerator)

  def compute(self) -> Scalar:
    return self.numerator / _require_duration(self)


@struct.dataclass
class StepsPerTime(Step, Time):
  """Steps per second."""

  duration: Scalar | None = None
  steps: int = 1

  @classmethod
  def from_model_output(cls, steps: int = 1, **_: Any) -> 'StepsPerTime':
    return cls(steps=steps)

  def merge(self, other: 'StepsPerTime') -> 'StepsPerTime':
    return self.replace(steps=self.steps + other.steps)

  def compute(self) -> Scalar:
    return self.steps / _require_duration(self)


Metrics = Mapping[str, clu_metrics.Metric]


def shape_obj_to_defined_obj(obj: clu_metrics.Metric) -> clu_metrics.Metric:
  """Returns a metric of zeros for one of shapes, as from `jax.eval_shape`."""
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), obj)


def to_host(metrics: Any) -> Any:
  """Reads metrics from the devices, waiting for them.

  Numbers become 64 bits wide, so that sums over many steps stay exact.
  """

  def widen(x):
    x = np.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.floating):
      return x.astype(np.float64)
    if jnp.issubdtype(x.dtype, jnp.integer):
      return x.astype(np.int64)
    return x

  return jax.tree.map(widen, jax.device_get(metrics))


def merge_metrics(a: Metrics, b: Metrics) -> dict[str, clu_metrics.Metric]:
  """Merges two sets of the same metrics.

  Raises:
    ValueError: if their names differ.
  """
  if a.keys() != b.keys():
    raise ValueError(
      'merge_metrics: expected the same names, found only on one side:'
      f' {sorted(a.keys() ^ b.keys())}. A model has to return the same metrics'
      ' for every batch.'
    )
  return {name: a[name].merge(b[name]) for name in a}


def set_step_metrics_num_steps(
  metrics: Metrics, num_steps: int
) -> dict[str, clu_metrics.Metric]:
  """Sets the number of steps of all metrics that know one."""
  return {
    name: m.replace_steps(num_steps) if isinstance(m, Step) else m
    for name, m in metrics.items()
  }


def set_time_metrics_duration(
  metrics: Metrics, duration: Scalar
) -> dict[str, clu_metrics.Metric]:
  """Sets the seconds of all metrics that know them."""
  return {
    name: m.replace_duration(duration) if isinstance(m, Time) else m
    for name, m in metrics.items()
  }


def _has_nothing(metric: clu_metrics.Metric) -> bool:
  """Whether the metric is a mean over nothing."""
  if isinstance(metric, WeightedMean):
    return float(metric.weight) == 0
  if isinstance(metric, clu_metrics.Average):
    return float(metric.count) == 0
  return False


def compute_values(metrics: Metrics) -> MutableMapping[str, clu_values.Value]:
  """Computes metrics on the host.

  Args:
    metrics: with their numbers of steps and durations set.

  Returns:
    A value for each metric, except for means over nothing, which have none. NaN
    and infinity are values.
  """
  with np.errstate(divide='ignore', invalid='ignore'):
    return {
      name: metric.compute_value()
      for name, metric in metrics.items()
      if not _has_nothing(metric)
    }
