"""The computation of one training or evaluation step, as pure functions.

`train_with_lr` is: prepare the whole batch, sum gradients over microbatches,
update. M is the number of microbatches, B the rows of the global batch.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from flax import traverse_util
from jax.sharding import PartitionSpec

from t5x import errors, models, partitioning, train_state
from t5x import metrics as metrics_lib
from t5x.trainer import non_finite

Batch = Mapping[str, jax.Array]
MetricsMap = dict[str, clu_metrics.Metric]

_DATA = PartitionSpec('data')


class WeightMetricsComputer:
  """Measures, for each trained parameter, its size, gradient and change.

  Adds `weight_rms/<path>`, `weight_gradient_rms/<path>`,
  `weight_update_rms/<path>` (of the change of the parameter) and
  `weight_gradient_norm` to the metrics.
  """

  def compute_metrics(
    self,
    gradients: Any,
    old_train_state: train_state.TrainState,
    new_train_state: train_state.TrainState,
  ) -> MetricsMap:
    """Returns the metrics of an update.

    Args:
      gradients: the gradient of each parameter.
      old_train_state: the state before the update.
      new_train_state: the state after it.
    """
    changes = jax.tree.map(
      jnp.subtract, new_train_state.params, old_train_state.params
    )
    metrics = {
      **_rms_metrics('weight_rms', new_train_state.params),
      **_rms_metrics('weight_gradient_rms', gradients),
      **_rms_metrics('weight_update_rms', changes),
    }
    metrics['weight_gradient_norm'] = (
      metrics_lib.AveragePerStep.from_model_output(global_norm(gradients))
    )
    return metrics


def _rms_metrics(name: str, tree: Any) -> MetricsMap:
  flat = traverse_util.flatten_dict(flax.core.unfreeze(tree), sep='/')
  return {
    f'{name}/{path}': metrics_lib.AveragePerStep.from_model_output(
      jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32))))
    )
    for path, x in flat.items()
  }


def global_norm(tree: Any) -> jax.Array:
  """Returns the norm of all arrays together, in float32."""
  squares = [
    jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)
  ]
  return jnp.sqrt(sum(squares))


def split_microbatches(
  batch: Batch,
  num_microbatches: int,
  data_partition_spec: PartitionSpec = _DATA,
) -> Batch:
  """Splits [B, ...] into [M, B/M, ...]: row b goes to microbatch b mod M.

  Rows 0 to 5 in 2 microbatches are [[0, 2, 4], [1, 3, 5]]. So the rows that a
  device holds, which follow each other, stay on it.

  Args:
    batch: features [B, ...].
    num_microbatches: M.
    data_partition_spec: how rows are split over the mesh.

  Raises:
    errors.UserError: if M doesn't divide B.
  """

  def split(x):
    rows = x.shape[0]
    if rows % num_microbatches:
      raise errors.UserError(
        f'Batch size {rows} is not divisible by num_microbatches'
        f' {num_microbatches}. Set BATCH_SIZE to a multiple of'
        f' {num_microbatches}, or change Trainer.num_microbatches.'
      )
    x = x.reshape(rows // num_microbatches, num_microbatches, *x.shape[1:])
    return partitioning.with_sharding_constraint(
      jnp.swapaxes(x, 0, 1), PartitionSpec(None, *data_partition_spec)
    )

  return jax.tree.map(split, dict(batch))


def accumulate_grads_microbatched(
  model: models.BaseModel,
  train_state: train_state.TrainState,
  batch: Batch,
  dropout_rng: jax.Array,
  num_microbatches: int | None,
  data_partition_spec: PartitionSpec = _DATA,
) -> tuple[Any, MetricsMap, Any]:
  """Sums gradients of the loss over microbatches.

  Frozen parameters have none.

  Args:
    model: its `loss_fn` is what is differentiated. A state with
      `flax_mutables` is passed on as a fourth argument, and then the function
      returns the loss and (metrics, new mutables).
    train_state: has the parameters.
    batch: features [B, ...], from `model.prepare_batch`.
    dropout_rng: a key; each microbatch gets one of its own.
    num_microbatches: M; None and 1 don't split.
    data_partition_spec: how rows are split over the mesh.

  Returns:
    (gradients, metrics, flax_mutables): metrics are those of the whole batch;
    flax_mutables is None if there are none.

  Raises:
    errors.UserError: if M doesn't divide B.
  """
  _, grads, metrics, mutables = _loss_and_grads(
    model,
    train_state,
    batch,
    dropout_rng,
    num_microbatches,
    data_partition_spec,
  )
  return grads, metrics, mutables


def _loss_and_grads(
  model: models.BaseModel,
  train_state: train_state.TrainState,
  batch: Batch,
  dropout_rng: jax.Array,
  num_microbatches: int | None,
  data_partition_spec: PartitionSpec,
) -> tuple[jax.Array, Any, MetricsMap, Any]:
  """Returns the loss, and what `accumulate_grads_microbatched` returns."""
  mutables = train_state.flax_mutables or None
  state, frozen = train_state.split_frozen()

  def loss_fn(trained, microbatch, rng, mutables):
    params = state.replace_params(trained).join_frozen(frozen).params
    if mutables is None:
      loss, metrics = model.loss_fn(params, microbatch, rng)
      return loss, (metrics, None)
    return model.loss_fn(params, microbatch, rng, mutables)

  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  params = state.params
  if num_microbatches is None or num_microbatches <= 1:
    (loss, (metrics, mutables)), grads = grad_fn(
      params, batch, dropout_rng, mutables
    )
    return loss, grads, metrics, mutables

  def add_microbatch(carry, inputs):
    grads, mutables = carry
    index, microbatch = inputs
    rng = None
    if dropout_rng is not None:
      rng = jax.random.fold_in(dropout_rng, index)
    (loss, (metrics, mutables)), new = grad_fn(
      params, microbatch, rng, mutables
    )
    return (jax.tree.map(jnp.add, grads, new), mutables), (loss, metrics)

  (grads, mutables), (losses, stacked) = jax.lax.scan(
    add_microbatch,
    (jax.tree.map(_zero_sum, params), mutables),
    (
      jnp.arange(num_microbatches),
      split_microbatches(batch, num_microbatches, data_partition_spec),
    ),
  )
  # Each kind of metric merges in its own way, so unstack the microbatches.
  metrics = functools.reduce(
    metrics_lib.merge_metrics,
    [
      jax.tree.map(lambda x, i=i: x[i], stacked)
      for i in range(num_microbatches)
    ],
  )
  # They were one step together.
  metrics = metrics_lib.set_step_metrics_num_steps(metrics, 1)
  return jnp.sum(losses), grads, metrics, mutables


def _zero_sum(param: jax.Array) -> jax.Array:
  """Returns 0, of the shape of a gradient, to add those of microbatches to."""
  dtype = param.dtype
  if jnp.issubdtype(dtype, jnp.floating):
    dtype = jnp.promote_types(dtype, jnp.float32)
  return jnp.zeros(param.shape, dtype)


def apply_grads(
  train_state: train_state.TrainState,
  grad_accum: Any,
  metrics: Mapping[str, clu_metrics.Metric],
  learning_rate: jax.Array,
  weight_metrics_computer: WeightMetricsComputer | None,
  other_state_variables: Mapping[str, Any] | None = None,
  finite: jax.Array | None = None,
) -> tuple[train_state.TrainState, MetricsMap]:
  """Updates the state, and adds metrics of the update.

  Args:
    train_state: the state.
    grad_accum: gradients, before any clipping that the optimizer does.
    metrics: metrics of the batch.
    learning_rate: of this step.
    weight_metrics_computer: if given, adds its metrics.
    other_state_variables: may have new `flax_mutables`.
    finite: if given and False, only the step of the state changes.

  Returns:
    The new state, and the metrics with `learning_rate` (the one that the
    optimizer uses) and `grad_norm` (global, before clipping) added.
  """
  used_rate = train_state.next_learning_rate(jnp.asarray(learning_rate))

  def update(state):
    return state.apply_gradient(
      grad_accum, learning_rate=learning_rate, **(other_state_variables or {})
    )

  if finite is None:
    new_train_state = update(train_state)
  else:
    new_train_state = non_finite.update_if_finite(finite, update, train_state)
  per_step = metrics_lib.AveragePerStep.from_model_output
  metrics = {
    **metrics,
    'learning_rate': per_step(used_rate),
    'grad_norm': per_step(global_norm(grad_accum)),
  }
  if weight_metrics_computer is not None:
    metrics.update(
      weight_metrics_computer.compute_metrics(
        grad_accum, train_state, new_train_state
      )
    )
  return new_train_state, metrics


def train_with_lr(
  train_state: train_state.TrainState,
  batch: Batch,
  learning_rate: jax.Array,
  dropout_rng: jax.Array,
  model: models.BaseModel,
  num_microbatches: int | None,
  weight_metrics_computer: WeightMetricsComputer | None = None,
  data_partition_spec: PartitionSpec = _DATA,
) -> tuple[train_state.TrainState, MetricsMap]:
  """Takes one training step; see the functions that it calls.

  A step whose loss or gradients are not finite changes nothing but the step
  counter, and counts in the metric `skipped_steps`.
  """
  loss, grads, metrics, mutables = _loss_and_grads(
    model,
    train_state,
    model.prepare_batch(batch),
    dropout_rng,
    num_microbatches,
    data_partition_spec,
  )
  others = {} if mutables is None else {'flax_mutables': mutables}
  # Frozen parameters don't pass through the update, which might copy them.
  state, frozen = train_state.split_frozen()
  # The norm is finite only if all gradients are.
  finite = jnp.isfinite(loss) & jnp.isfinite(global_norm(grads))
  skipped = metrics_lib.Sum.from_model_output(1 - finite.astype(jnp.int32))
  state, metrics = apply_grads(
    state,
    grads,
    {**metrics, non_finite.SKIPPED: skipped},
    learning_rate,
    weight_metrics_computer,
    other_state_variables=others,
    finite=finite,
  )
  return state.join_frozen(frozen), metrics


def eval_step(
  model: models.BaseModel, train_state: train_state.TrainState, batch: Batch
) -> MetricsMap:
  """Returns the metrics of a batch without dropout.

  A state with `flax_mutables` is passed on as a third argument of `eval_fn`.
  """
  mutables = train_state.flax_mutables
  others = (mutables,) if mutables else ()
  _, metrics = model.eval_fn(
    train_state.params, model.prepare_batch(batch), *others
  )
  return dict(metrics)
