"""Batched inference over a whole dataset, on all hosts together."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
import tensorflow as tf

from t5x import models, partitioning
from t5x import train_state as train_state_lib
from t5x.inference import bucketing

InferStepCallable = Callable[..., Any]
InferFnCallable = Callable[..., Any]
Rows: TypeAlias = tf.data.Dataset | Iterable[tuple[int, bucketing.Features]]

# Shapes of batches that are compiled for. A padded position costs a CPU much;
# compiling costs an accelerator more.
_MOST_LENGTHS = {'cpu': 6}
_MOST_LENGTHS_ELSEWHERE = 2


def infer_step(
  model: models.BaseModel, mode: str, **options: Any
) -> InferStepCallable:
  """Returns a model's inference step, as `get_infer_fn` takes it.

  Args:
    model: what infers.
    mode: 'predict' gives tokens, 'predict_with_aux' tokens and scores, 'score'
      the log-likelihood of the targets.
    **options: of the model's method. `predict_batch` takes none: with options
      `predict_batch_with_aux` predicts, and its scores are left out.
  """
  if mode == 'score':
    return functools.partial(model.score_batch, **options)
  if mode == 'predict' and not options:
    return model.predict_batch

  def with_aux(params, batch, rng):
    return model.predict_batch_with_aux(params, batch, rng=rng, **options)

  if mode == 'predict_with_aux':
    return with_aux
  return lambda params, batch, rng: with_aux(params, batch, rng)[0]


def _takes_key(infer_step: InferStepCallable) -> bool:
  """Whether a step's third argument is a key."""
  third = [
    parameter
    for parameter in inspect.signature(infer_step).parameters.values()
    if parameter.kind
    in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
  ][2:3]
  return any(p.name == 'rng' or p.default is p.empty for p in third)


def get_infer_fn(
  infer_step: InferStepCallable,
  batch_size: int,
  train_state_axes: train_state_lib.TrainState,
  partitioner: partitioning.BasePartitioner,
  keep_aux_as_numpy: bool = False,
  padded_features: Sequence[str] = (),
) -> InferFnCallable:
  """Returns a function that infers over an enumerated, unbatched dataset.

  Args:
    infer_step: `(params, batch, rng) -> outputs` or `(params, batch) ->
      outputs`, such as a model's `predict_batch` and `score_batch`. The outputs
      are a tree of arrays [B, …]; for a pair (outputs, aux), both are returned
      separately. A key is passed to a step whose third argument is called `rng`
      or has no default.
    batch_size: rows of a global batch.
    train_state_axes: mesh axes of the train state.
    partitioner: compiles the step for its mesh.
    keep_aux_as_numpy: whether aux values stay arrays instead of lists.
    padded_features: beginnings of the names of features whose padding may be
      cut off (`BaseModel.padded_features`). Rows of similar length then share
      a batch; see `bucketing`.

  Returns:
    `infer_fn(dataset, train_state, rng=None, on_rows=None)`, for a
    `tf.data.Dataset` of (index, features) or any other iterable of them. It
    gives a list of `(index, output)` in the dataset's order or, for a pair,
    that list and a mapping of name to a value for each row. All hosts get all
    results. `on_rows` is called with the number of rows of each batch that is
    done.
  """
  takes_key = _takes_key(infer_step)

  def indexed_step(params, indices, batch, rng):
    key = (rng,) if takes_key else ()
    return indices, infer_step(params, batch, *key)

  data = partitioner.data_partition_spec
  partitioned_step = partitioner.partition(
    indexed_step,
    in_axis_resources=(train_state_axes.params, data, data, None),
    out_axis_resources=(None, None),
  )

  def infer_fn(
    dataset: Rows,
    train_state: train_state_lib.TrainState,
    rng: jax.Array | None = None,
    on_rows: Callable[[int], None] | None = None,
  ) -> Any:
    if rng is None:
      rng = jax.random.key(0)
    indices, outputs, running = [], [], None

    def collect(result):
      index, output = jax.tree.map(np.asarray, result)
      real = index != bucketing.FILLER
      if on_rows is not None:
        on_rows(int(real.sum()))
      indices.append(index[real])
      outputs.append(jax.tree.map(lambda x: x[real], output))

    for step, (index, batch) in enumerate(
      _host_batches(dataset, batch_size, partitioner, padded_features)
    ):
      placed = partitioner.shard_batch({'index': index, 'batch': batch})
      result = partitioned_step(
        train_state.params,
        placed['index'],
        placed['batch'],
        jax.random.fold_in(rng, step),
      )
      # The devices work on this batch while the one before is fetched.
      if running is not None:
        collect(running)
      running = result
    if running is not None:
      collect(running)
    return _gather(indices, outputs, keep_aux_as_numpy)

  return infer_fn


def _host_batches(
  dataset: Rows,
  batch_size: int,
  partitioner: partitioning.BasePartitioner,
  padded_features: Sequence[str],
) -> Iterator[tuple[np.ndarray, Mapping[str, np.ndarray]]]:
  """Yields this host's (indices, batch); each host the same number of times."""
  layout = partitioner.get_data_layout(batch_size)
  if isinstance(dataset, tf.data.Dataset):
    dataset = dataset.as_numpy_iterator()
  # All hosts read all rows, and so agree on the batches and their shapes.
  for index, batch in bucketing.batches(
    dataset,
    batch_size,
    padded_features,
    _MOST_LENGTHS.get(jax.default_backend(), _MOST_LENGTHS_ELSEWHERE),
  ):
    own = slice(layout.shard_id, None, layout.num_shards)
    yield index[own], {name: x[own] for name, x in batch.items()}


def _gather(
  indices: Sequence[np.ndarray], outputs: Sequence[Any], keep_aux: bool
) -> list[tuple[int, Any]] | tuple[list[tuple[int, Any]], Any]:
  """Joins the batches' results, in the order of the indices."""
  if not indices:
    return []
  order = np.argsort(np.concatenate(indices), kind='stable')
  joined = jax.tree.map(lambda *x: np.concatenate(x)[order], *outputs)
  ids = np.concatenate(indices)[order].tolist()
  values, aux = joined if isinstance(joined, tuple) else (joined, None)
  rows = [
    (index, jax.tree.map(lambda x, row=row: x[row].tolist(), values))
    for row, index in enumerate(ids)
  ]
  if aux is None:
    return rows
  if not keep_aux:
    aux = jax.tree.map(lambda x: x.tolist(), aux)
  return rows, aux
