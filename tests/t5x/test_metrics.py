"""Metrics merge and compute as documented."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clu import metrics as clu_metrics

from t5x import metrics


def test_a_weighted_mean_weighs():
  mean = metrics.WeightedMean.from_model_output(
    jnp.array([1.0, 2.0, 50.0]), jnp.array([1.0, 3.0, 0.0])
  )
  assert float(mean.compute()) == 7 / 4
  mean = mean.merge(metrics.WeightedMean.from_model_output(jnp.array([3.0])))
  assert float(mean.compute()) == 2.0
  assert float(mean.merge(metrics.WeightedMean.empty()).compute()) == 2.0


def test_a_weighted_mean_over_nothing_is_nan():
  assert np.isnan(metrics.WeightedMean(0.0, 0.0).compute())
  assert np.isnan(metrics.WeightedMean.empty().compute())
  # Not infinite, whatever the total.
  assert np.isnan(metrics.WeightedMean(2.0, 0.0).compute())
  assert float(metrics.WeightedMean(2.0, 1.0).compute()) == 2.0


def test_means_over_nothing_have_no_value_and_nan_keeps_one():
  values = metrics.compute_values(
    {
      'nothing': metrics.WeightedMean(np.float32(0), np.float32(0)),
      'none_of_clu': clu_metrics.Average(np.float32(0), np.int32(0)),
      'broken': metrics.WeightedMean(np.float32('nan'), np.float32(2)),
      'broken_per_step': metrics.AveragePerStep(1, np.float32('nan')),
      'infinite': metrics.AveragePerStep(1, np.float32('inf')),
      'fine': clu_metrics.Average(np.float32(3), np.int32(2)),
    }
  )
  assert set(values) == {'broken', 'broken_per_step', 'infinite', 'fine'}
  assert np.isnan(values['broken'].value)
  assert np.isnan(values['broken_per_step'].value)
  assert np.isinf(values['infinite'].value)
  assert float(values['fine'].value) == 1.5


def test_an_average_per_step_divides_by_steps():
  merged = metrics.AveragePerStep.from_model_output(jnp.array(4.0)).merge(
    metrics.AveragePerStep.from_model_output(jnp.array([5.0, 3.0]), steps=2)
  )
  assert float(merged.compute()) == 4.0
  assert float(merged.replace_steps(1).compute()) == 12.0
  assert metrics.AveragePerStep(total=3.0).compute() == 3.0
  with pytest.raises(ValueError, match='expected a number of steps'):
    merged.replace_steps(None).compute()


def test_rates_need_a_duration():
  rate = metrics.TimeRate.from_model_output(numerator=6)
  rate = rate.merge(metrics.TimeRate.from_model_output(numerator=4))
  assert rate.replace_duration(4.0).compute() == 2.5
  steps = metrics.StepsPerTime.from_model_output()
  steps = steps.merge(metrics.StepsPerTime.from_model_output(steps=2))
  assert steps.replace_duration(2.0).compute() == 1.5
  assert metrics.StepsPerTime(duration=4.0).compute() == 0.25
  assert metrics.Time().replace_duration(3.0).compute() == 3.0
  for metric in (rate, steps, metrics.Time()):
    with pytest.raises(ValueError, match='expected a duration in seconds'):
      metric.compute()


def test_a_sum_sums():
  total = metrics.Sum.from_model_output(jnp.arange(3))
  assert int(total.merge(metrics.Sum.from_model_output(5)).compute()) == 8


def test_steps_and_times_are_set_where_they_are_known():
  all_metrics = {
    'mean': metrics.WeightedMean(1.0, 2.0),
    'per_step': metrics.AveragePerStep(1, 8.0),
    'rate': metrics.TimeRate(numerator=6.0),
    'steps': metrics.StepsPerTime(),
  }
  done = metrics.set_step_metrics_num_steps(all_metrics, 4)
  done = metrics.set_time_metrics_duration(done, 2.0)
  values = {k: float(v.value) for k, v in metrics.compute_values(done).items()}
  assert values == {'mean': 0.5, 'per_step': 2.0, 'rate': 3.0, 'steps': 2.0}


def test_only_the_same_metrics_merge():
  a = {'x': metrics.Sum(1)}
  assert metrics.merge_metrics(a, {'x': metrics.Sum(2)})['x'].compute() == 3
  with pytest.raises(ValueError, match=r"only on one side: \['x', 'y'\]"):
    metrics.merge_metrics(a, {'y': metrics.Sum(1)})


def test_on_the_host_sums_do_not_overflow():
  metric = {'tokens': metrics.TimeRate(numerator=jnp.int32(2**31 - 1))}
  host = metrics.to_host(metric)
  merged = metrics.merge_metrics(host, host)
  assert merged['tokens'].numerator == 2 * (2**31 - 1)
  for given, wide in (
    (jnp.int32(3), np.int64),
    (jnp.bfloat16(0.5), np.float64),
    (jnp.float32(0.1), np.float64),
    (np.array(True), np.bool_),
  ):
    found = metrics.to_host(metrics.Sum(given)).total
    assert found.dtype == wide and found == given


def test_shapes_become_zeros():
  shapes = jax.eval_shape(
    lambda x: metrics.WeightedMean.from_model_output(x), jnp.ones(3)
  )
  zeros = metrics.shape_obj_to_defined_obj(shapes)
  assert float(zeros.total) == float(zeros.weight) == 0.0


def test_what_is_infinite_or_none_is_a_value_without_a_warning():
  seconds = {
    'rate': metrics.TimeRate.from_model_output(numerator=6),
    'nothing': metrics.TimeRate.from_model_output(numerator=0),
  }
  found = metrics.compute_values(
    {k: rate.replace_duration(np.float64(0)) for k, rate in seconds.items()}
  )
  assert found['rate'].value == np.inf
  assert np.isnan(found['nothing'].value)
