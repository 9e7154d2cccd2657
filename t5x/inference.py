"""Runs a model's inference over a whole dataset, on every host alike."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tensorflow as tf

from t5x import train_state as train_state_lib

InferStepCallable = Callable[..., Any]
InferFnCallable = Callable[..., Any]

# Rows that only fill up the last batch carry this index.
_FILLER = -1


def get_infer_fn(
  infer_step: InferStepCallable,
  batch_size: int,
  train_state_axes: train_state_lib.TrainState,
  partitioner: Any,
  keep_aux_as_numpy: bool = False,
) -> InferFnCallable:
  """Returns a function that infers over an enumerated, unbatched dataset.

  Args:
    infer_step: `(params, batch, rng) -> outputs`, a tree of arrays [B, …]; for
      a pair (outputs, aux), both are handed back apart.
    batch_size: rows of a global batch.
    train_state_axes: mesh axes of the train state.
    partitioner: compiles the step for its mesh.
    keep_aux_as_numpy: whether aux values stay arrays instead of lists.

  Returns:
    `infer_fn(dataset, train_state, rng=None)`, which gives a list of
    `(index, output)` in the dataset's order or, for a pair, that list and a
    mapping of name to a value for each row. All hosts get all results.
  """

  def indexed_step(params, indices, batch, rng):
    return indices, infer_step(params, batch, rng)

  data = partitioner.data_partition_spec
  partitioned_step = partitioner.partition(
    indexed_step,
    in_axis_resources=(train_state_axes.params, data, data, None),
    out_axis_resources=(None, None),
  )

  def infer_fn(
    dataset: tf.data.Dataset,
    train_state: train_state_lib.TrainState,
    rng: jax.Array | None = None,
  ):
    if rng is None:
      rng = jax.random.key(0)
    indices, outputs = [], []
    for step, (index, batch) in enumerate(
      _host_batches(dataset, batch_size, partitioner)
    ):
      placed = partitioner.shard_batch({'index': index, 'batch': batch})
      result = partitioned_step(
        train_state.params,
        placed['index'],
        placed['batch'],
        jax.random.fold_in(rng, step),
      )
      result = jax.tree.map(np.asarray, result)
      real = result[0] != _FILLER
      indices.append(result[0][real])
      outputs.append(jax.tree.map(lambda x, real=real: x[real], result[1]))
    return _gather(indices, outputs, keep_aux_as_numpy)

  return infer_fn


def _host_batches(dataset: tf.data.Dataset, batch_size: int, partitioner: Any):
  """Yields this host's (indices, batch); each host the same number of times."""
  layout = partitioner.get_data_layout(batch_size)
  total = int(dataset.cardinality())
  if total < 0:
    total = sum(1 for _ in dataset)
  rows = batch_size // layout.num_shards
  index_spec, spec = dataset.element_spec
  filler = tf.data.Dataset.from_tensors(
    (
      tf.constant(_FILLER, index_spec.dtype),
      {k: tf.zeros(v.shape, v.dtype) for k, v in spec.items()},
    )
  ).repeat(math.ceil(total / batch_size) * batch_size - total)
  dataset = dataset.concatenate(filler)
  dataset = dataset.shard(layout.num_shards, layout.shard_id)
  return dataset.batch(rows).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def _gather(
  indices: Sequence[np.ndarray], outputs: Sequence[Any], keep_aux: bool
):
  """Joins the batches' results, in the order of the indices."""
  if not indices:
    return []
  order = np.argsort(np.concatenate(indices), kind='stable')
  joined = jax.tree.map(lambda *x: np.concatenate(x)[order], *outputs)
  ids = np.concatenate(indices)[order].tolist()
  if not isinstance(joined, tuple):
    return list(zip(ids, _rows(joined, len(ids)), strict=True))
  values, aux = joined
  if not keep_aux:
    aux = jax.tree.map(lambda x: x.tolist(), aux)
  return list(zip(ids, _rows(values, len(ids)), strict=True)), aux


def _rows(tree: Any, count: int) -> list[Any]:
  """Splits a tree of arrays [B, …] into B trees of lists."""
  if isinstance(tree, np.ndarray):
    return tree.tolist()
  if isinstance(tree, Mapping):
    columns = {k: _rows(v, count) for k, v in tree.items()}
    return [{k: v[i] for k, v in columns.items()} for i in range(count)]
  columns = [_rows(v, count) for v in tree]
  return [tuple(column[i] for column in columns) for i in range(count)]
