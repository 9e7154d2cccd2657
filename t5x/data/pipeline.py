"""Data pipelines: SeqIO tasks and mixtures to batches on a mesh.

`DatasetConfig` says what to read, `get_dataset` and
`get_training_eval_datasets` build the `tf.data` pipelines, and `TrainIterator`
feeds a run with them.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np
import seqio
import tensorflow as tf

from t5x import distributed, errors, partitioning
from t5x.data import config
from t5x.data import iterator as iterator_lib

_UINT31 = 2**31 - 1
# Parts of the data by default, at most: one host alone reads all of them, each
# with its own buffers.
_MAX_PARTS = 16


def get_dataset(
  cfg: config.DatasetConfig,
  shard_id: int,
  num_shards: int,
  feature_converter_cls: Callable[..., seqio.FeatureConverter],
  num_epochs: int | None = None,
  continue_from_last_checkpoint: bool = False,
) -> tf.data.Dataset:
  """Returns one host's rows of the batches of a dataset.

  All hosts together give the same batches as one host alone; see
  `DatasetConfig.data_shards`.

  Args:
    cfg: what to read.
    shard_id: which rows of each batch, 0 to `num_shards` - 1.
    num_shards: how many hosts share a batch.
    feature_converter_cls: the model's feature converter.
    num_epochs: passes over the data; None never ends.
    continue_from_last_checkpoint: not supported: `TrainIterator` keeps the
      position.

  Returns:
    A dataset of batches of `cfg.batch_size // num_shards` rows.

  Raises:
    errors.UserError: if the shards don't divide the batch, or lengths are
      missing.
  """
  if continue_from_last_checkpoint:
    raise errors.UserError(
      'get_dataset(continue_from_last_checkpoint=True) is not supported: the'
      ' data position is saved with every checkpoint and restored with it.'
    )
  config.step_layout(cfg)  # Its rows have to be those of a batch.
  rows = _rows_of_host(cfg, shard_id, num_shards)
  num_parts, seed = data_parts(cfg), shared_seed(cfg.seed)
  rows_of_part = cfg.batch_size // num_parts
  parts = range(rows.start // rows_of_part, (rows.stop - 1) // rows_of_part + 1)
  batches = [
    _examples(
      dataclasses.replace(cfg, seed=_seed_of_part(cfg, seed, part, num_parts)),
      part,
      num_parts,
      feature_converter_cls,
      num_epochs,
    ).batch(rows_of_part, drop_remainder=True)
    for part in parts
  ]
  dataset = batches[0]
  if len(batches) > 1:
    dataset = tf.data.Dataset.zip(tuple(batches)).map(
      lambda *batches: {
        name: tf.concat([batch[name] for batch in batches], axis=0)
        for name in batches[0]
      }
    )
  first = parts[0] * rows_of_part
  dataset = _take_rows(
    dataset,
    slice(rows.start - first, rows.stop - first),
    len(parts) * rows_of_part,
  )
  return dataset.prefetch(tf.data.AUTOTUNE)


def get_dataset_inner(
  cfg: config.DatasetConfig,
  shard_info: seqio.ShardInfo,
  feature_converter_cls: Callable[..., seqio.FeatureConverter],
  seed: int | None = None,
  num_epochs: int | None = None,
) -> tf.data.Dataset:
  """Returns the batches of one shard of a dataset.

  Unlike `get_dataset`, each shard reads its own part of the examples, whatever
  `cfg.data_shards` says, and no two shards the same.

  Args:
    cfg: what to read; its seed does not count.
    shard_info: which shard of how many.
    feature_converter_cls: the model's feature converter.
    seed: of shuffling and mixing; None draws one.
    num_epochs: passes over the data; None never ends.

  Returns:
    A dataset of batches of `cfg.batch_size // shard_info.num_shards` rows.

  Raises:
    errors.UserError: if the shards don't divide the batch, or lengths are
      missing.
  """
  rows = _rows_of_host(cfg, shard_info.index, shard_info.num_shards)
  return _examples(
    dataclasses.replace(cfg, seed=seed),
    shard_info.index,
    shard_info.num_shards,
    feature_converter_cls,
    num_epochs,
  ).batch(rows.stop - rows.start, drop_remainder=True)


def data_parts(cfg: config.DatasetConfig) -> int:
  """Returns in how many parts a dataset is read, for any number of hosts.

  That is `cfg.data_shards`; if it is None, the largest power of two, up to 16,
  that divides the batch and for which each part has files of its own: with a
  batch of 24, `train-00000-of-00010` to `train-00009-of-00010` are read in 8
  parts, a data set in one file as a whole. SeqIO's offline cache is read as a
  whole. A mixture that lays out steps itself knows its number of parts.

  Args:
    cfg: what to read.
  """
  if cfg.data_shards is not None:
    return cfg.data_shards
  step = config.step_layout(cfg)
  if step is not None:
    return step.parts
  tasks = config.tasks_with_split(cfg)
  files = min((_num_files(task, cfg) for task in tasks), default=1)
  most = 1 if cfg.use_cached else min(files, _MAX_PARTS)
  parts = 1
  while 2 * parts <= most and cfg.batch_size % (2 * parts) == 0:
    parts *= 2
  return parts


def _num_files(task: seqio.Task, cfg: config.DatasetConfig) -> int:
  return len(task.source.list_shards(cfg.split))


def _seed_of_part(
  cfg: config.DatasetConfig, seed: int, part: int, num_parts: int
) -> int:
  """Returns a seed for each part: with the same, all would mix tasks in step.

  Where a source can't be cut into the parts by its files, SeqIO cuts it by
  examples after it has shuffled them; all parts then need the same order. So
  do the parts of a step.
  """
  apart = not cfg.use_cached and all(
    task.source.supports_arbitrary_sharding
    or _num_files(task, cfg) >= num_parts
    for task in config.tasks_with_split(cfg)
  )
  if num_parts == 1 or not apart or config.step_layout(cfg) is not None:
    return seed
  drawn = np.random.SeedSequence((seed % 2**32, part)).generate_state(1)
  return int(drawn[0] & _UINT31)


def get_training_eval_datasets(
  cfg: config.DatasetConfig,
  shard_id: int,
  num_shards: int,
  eval_steps: int,
  feature_converter_cls: Callable[..., seqio.FeatureConverter],
  deterministic: bool = False,
  model_dir: str | None = None,
  start_step: int = 0,
) -> Mapping[str, tf.data.Dataset]:
  """Returns the batches on which a run measures its loss, for each task.

  Each dataset is one pass over the split, at most `eval_steps` batches; the
  last batch is filled up with empty rows, which weigh nothing.

  Args:
    cfg: what to read.
    shard_id: which rows of each batch.
    num_shards: how many hosts share a batch.
    eval_steps: batches at most.
    feature_converter_cls: the model's feature converter.
    deterministic: unused, since the order always is.
    model_dir: unused, since nothing is kept on disk.
    start_step: unused, since every evaluation sees the same rows.

  Returns:
    Task name to dataset, for the tasks that have the split.

  Raises:
    errors.UserError: if no task has the split.
  """
  del deterministic, model_dir, start_step
  config.check_split(cfg)
  rows = _rows_of_host(cfg, shard_id, num_shards)
  datasets = {}
  for task in config.tasks_with_split(cfg):
    task_cfg = dataclasses.replace(
      cfg, mixture_or_task_name=task.name, module=None
    )
    # All hosts read all rows, so that all have equally many batches.
    dataset = _examples(task_cfg, 0, 1, feature_converter_cls, num_epochs=1)
    dataset = _pad_last_batch(dataset, cfg.batch_size).take(eval_steps)
    dataset = _take_rows(dataset, rows, cfg.batch_size)
    if cfg.use_memory_cache:
      dataset = dataset.cache()
    datasets[task.name] = dataset
  return datasets


def _examples(
  cfg: config.DatasetConfig,
  shard_id: int,
  num_shards: int,
  feature_converter_cls: Callable[..., seqio.FeatureConverter],
  num_epochs: int | None,
) -> tf.data.Dataset:
  """Returns the rows of one part of the data, not yet batched."""
  config.check_lengths(cfg, feature_converter_cls)
  config.check_split(cfg)
  return seqio.get_dataset(
    config.mixture_or_task(cfg),
    task_feature_lengths=cfg.task_feature_lengths,
    feature_converter=feature_converter_cls(
      pack=cfg.pack, use_custom_packing_ops=cfg.use_custom_packing_ops
    ),
    dataset_split=cfg.split,
    use_cached=cfg.use_cached,
    shuffle=cfg.shuffle,
    num_epochs=num_epochs,
    shard_info=seqio.ShardInfo(index=shard_id, num_shards=num_shards),
    seed=shared_seed(cfg.seed),
    trim_output_features=cfg.trim_output_features,
  )


def shared_seed(seed: int | None, drawn: int | None = None) -> int:
  """Returns `seed`, or, for None, one that all hosts agree on.

  Args:
    seed: the configured one.
    drawn: what the run drew when it began; the first host's counts. None draws.
  """
  if seed is not None:
    return seed
  if drawn is None:
    drawn = int(np.random.SeedSequence().generate_state(1)[0] & _UINT31)
  return distributed.of_first_process(drawn)


def _rows_of_host(
  cfg: config.DatasetConfig, shard_id: int, num_shards: int
) -> slice:
  """Returns a host's rows of each batch: equal parts, in the hosts' order."""
  if cfg.batch_size % num_shards:
    raise errors.UserError(
      f'BATCH_SIZE {cfg.batch_size} is not divisible by the {num_shards} hosts'
      ' that read the data. Choose a multiple.'
    )
  rows = cfg.batch_size // num_shards
  return slice(shard_id * rows, (shard_id + 1) * rows)


def _take_rows(
  dataset: tf.data.Dataset, rows: slice, batch_size: int
) -> tf.data.Dataset:
  if (rows.start, rows.stop) == (0, batch_size):
    return dataset
  return dataset.map(lambda batch: {k: v[rows] for k, v in batch.items()})


def _pad_last_batch(dataset: tf.data.Dataset, rows: int) -> tf.data.Dataset:
  """Returns batches, the last one filled up with rows of zeros."""
  blank = tf.data.Dataset.from_tensors(
    {
      name: tf.zeros(spec.shape, spec.dtype)
      for name, spec in dataset.element_spec.items()
    }
  ).repeat(rows - 1)
  # Between 0 and rows - 1 of the blanks complete the last batch; the rest
  # would be a short batch of blanks alone, which drop_remainder leaves out.
  return dataset.concatenate(blank).batch(rows, drop_remainder=True)


def global_batch_shapes(
  element_spec: Mapping[str, tf.TensorSpec], batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the shapes and types of a batch of all hosts.

  Args:
    element_spec: of one host's batch.
    batch_size: rows of all hosts.
  """
  return {
    name: jax.ShapeDtypeStruct(
      (batch_size, *spec.shape.as_list()[1:]), spec.dtype.as_numpy_dtype
    )
    for name, spec in element_spec.items()
  }


def prepare_train_iter(
  train_iter: tf.data.Dataset | iterator_lib.TrainIterator,
  *,
  partitioner: partitioning.BasePartitioner,
  checkpoint_cfg: object,
  data_layout: partitioning.DataLayout,
) -> iterator_lib.TrainIterator:
  """Returns the iterator that a run trains from.

  Args:
    train_iter: a dataset of one host's batches, or an iterator already made.
    partitioner: puts batches on its mesh (`shard_batch`).
    checkpoint_cfg: unused, since every checkpoint holds the position.
    data_layout: which part of the data the dataset is.

  Returns:
    An iterator with `element_spec`, `get_state` and `set_state`.
  """
  del checkpoint_cfg
  if isinstance(train_iter, iterator_lib.TrainIterator):
    return train_iter
  return iterator_lib.TrainIterator(
    train_iter,
    partitioner.shard_batch,
    part=f'{data_layout.shard_id}-of-{data_layout.num_shards}',
    saves=data_layout.is_first_host_in_replica_set,
  )
