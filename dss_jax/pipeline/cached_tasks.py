"""SeqIO tasks and mixtures that cost little per example while they train.

SeqIO hands every example of every epoch through a handful of `tf.data` maps,
each of which takes longer than packing the example: on CommonsenseQA's short
texts all together take 150 microseconds of a core. So the examples of a small
data set are made once and kept in memory, ready to train on; an epoch only
shuffles and mixes them. The examples and their order are SeqIO's.

Both classes use SeqIO's extension points (`task_cls`, `mixture_cls`).
"""

import functools
import inspect
from collections.abc import Mapping, Set

import numpy as np
import seqio
import tensorflow as tf
from jaxtyping import Int64

from dss_jax.data import columns as columns_lib
from dss_jax.data import own_rows
from dss_jax.pipeline import preprocessors
from dss_jax.pipeline.scoring import answers

# Rows per shard. SeqIO keeps the rows of smaller data sets in memory, which
# fixes their order for all epochs; this must be kept in the same cases.
_SMALL = 10_000


class Table:
  """The finished examples of a split, as arrays.

  Attributes:
    count: number of examples.
  """

  def __init__(self, dataset: tf.data.Dataset):
    """Reads a dataset to its end.

    Args:
      dataset: examples whose features are scalars or vectors.
    """
    spec = dataset.element_spec
    examples = list(dataset.as_numpy_iterator())
    self.count = len(examples)
    self._starts, self._values, self._scalars = {}, {}, {}
    for name in spec:
      column = [example[name] for example in examples]
      if not spec[name].shape.rank:
        self._scalars[name] = np.array(column, spec[name].dtype.as_numpy_dtype)
        continue
      lengths = [0, *map(len, column)]
      self._starts[name] = np.cumsum(lengths, dtype=np.int64)
      empty = np.zeros(0, spec[name].dtype.as_numpy_dtype)
      self._values[name] = np.concatenate([empty, *column])

  def lengths(self, name: str) -> Int64[np.ndarray, 'examples']:
    """Returns the length of a feature in each example."""
    return np.diff(self._starts[name])

  def pick(self, indices: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the examples at these places, int64."""
    starts, values, scalars = (
      {name: tf.constant(array) for name, array in arrays.items()}
      for arrays in (self._starts, self._values, self._scalars)
    )

    def example(index: tf.Tensor) -> dict[str, tf.Tensor]:
      found = {name: array[index] for name, array in scalars.items()}
      for name, first in starts.items():
        found[name] = values[name][first[index] : first[index + 1]]
      return found

    return indices.map(example)


class Task(seqio.Task):
  """A task that keeps the finished examples of a small data set in memory."""

  @preprocessors.as_written
  def get_dataset(
    self,
    sequence_length: Mapping[str, int] | None = None,
    split: str = 'train',
    use_cached: bool = False,
    shuffle: bool = True,
    shuffle_buffer_size: int | None = None,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    num_epochs: int | None = 1,
    trim_output_features: bool = True,
    try_in_mem_cache: bool = True,
    features: Set[str] | None = None,
  ) -> tf.data.Dataset:
    """Returns the examples that SeqIO would return, in the same order.

    All arguments but the last are those of `seqio.Task.get_dataset`.

    Args:
      sequence_length: to which features are cut.
      split: the split.
      use_cached: whether to read SeqIO's offline cache.
      shuffle: whether to shuffle.
      shuffle_buffer_size: None takes the task's own.
      seed: of shuffling and of preprocessors.
      shard_info: the part of the split.
      num_epochs: passes over the split; None never ends.
      trim_output_features: whether longer features are cut.
      try_in_mem_cache: whether to keep anything in memory.
      features: those to keep; None keeps all.

    Raises:
      DataError: the task compares labels that cannot be told apart.
    """
    # SeqIO's offline cache is there without the rows that it was made of.
    if isinstance(self.postprocessor, answers.Answers) and not use_cached:
      column = self.postprocessor.column
      labels = sorted(set(self.source.columns(split)[column].tolist()))
      length = (sequence_length or {}).get('targets')
      self.postprocessor.check([label.decode() for label in labels], length)
    once = num_epochs == 1 or use_cached or not try_in_mem_cache
    if once or not self.is_kept(split, shard_info):
      dataset = super().get_dataset(
        sequence_length, split, use_cached, shuffle, shuffle_buffer_size, seed,
        shard_info, num_epochs, trim_output_features, try_in_mem_cache,
      )  # fmt: skip
      return _only(dataset, features)
    dataset = self.source.get_dataset(
      split=split, shuffle=shuffle, seed=seed, shard_info=shard_info
    )
    dataset = self.preprocess_precache(dataset, seed=seed)
    dataset = self.preprocess_postcache(
      dataset, sequence_length=sequence_length, seed=seed
    )
    dataset = self._validate_preprocessing(dataset)
    if trim_output_features:
      dataset = seqio.trim_dataset(
        dataset, sequence_length, self.output_features
      )
    dataset = _only(dataset, features).cache().repeat(num_epochs)
    if shuffle:
      size = shuffle_buffer_size or self._shuffle_buffer_size
      dataset = dataset.shuffle(size, seed=seed)
    return dataset

  def table(
    self, split: str, lengths: Mapping[str, int] | None, features: Set[str]
  ) -> Table:
    """Returns all examples of a split, made on the first call.

    Args:
      split: the split, of which `is_kept` says that it may be kept.
      lengths: to which features are cut.
      features: those to keep.
    """
    key = split, tuple(sorted((lengths or {}).items())), frozenset(features)
    if key not in self._tables:
      dataset = self.get_dataset(
        lengths, split, shuffle=False, num_epochs=1, features=features
      )
      self._tables[key] = Table(dataset)
    return self._tables[key]

  @functools.cached_property
  def _tables(self) -> dict[object, Table]:
    return {}

  @preprocessors.as_written
  def in_order(
    self,
    indices: tf.data.Dataset,
    split: str,
    lengths: Mapping[str, int] | None,
    seed: int | None,
    features: Set[str],
  ) -> tf.data.Dataset:
    """Returns the examples of a split in a given order.

    Args:
      indices: places among the split's examples, int64; each may come often.
      split: the split.
      lengths: to which features are cut.
      seed: of preprocessors.
      features: those to keep.
    """
    if self.is_kept(split):
      return self.table(split, lengths, features).pick(indices)
    dataset = self.source.examples(split, indices)
    dataset = self.preprocess_precache(dataset, seed=seed)
    dataset = self.preprocess_postcache(
      dataset, sequence_length=lengths, seed=seed
    )
    dataset = self._validate_preprocessing(dataset)
    dataset = seqio.trim_dataset(dataset, lengths, self.output_features)
    return _only(dataset, features)

  def is_kept(
    self, split: str, shard_info: seqio.ShardInfo | None = None
  ) -> bool:
    """Returns whether the examples of a split are made once for all epochs.

    That is so if they are few, and the same in every epoch.

    Args:
      split: the split.
      shard_info: the part of it.
    """
    shards = shard_info.num_shards if shard_info else 1
    if self._shuffle_buffer_size is None or (
      self.source.num_input_examples(split) >= _SMALL * shards
    ):
      return False
    if preprocessors.draw_rationale not in self.preprocessors:
      return True
    columns = self.source.columns(split)
    return not any(
      own_rows.SEPARATOR.encode() in text
      for name in columns_lib.rationales(columns)
      for text in columns[name]
    )


class Mixture(seqio.Mixture):
  """A mixture of such tasks."""

  @preprocessors.as_written
  def get_dataset(self, *args, **kwargs) -> tf.data.Dataset:
    """Returns the examples that SeqIO returns for these arguments."""
    # The next task is drawn by a map; handing the draw to another thread costs
    # several times as much as the draw.
    options = tf.data.Options()
    options.experimental_optimization.map_parallelization = False
    # Handing an example from one map to the next costs as much as most maps do.
    options.experimental_optimization.map_fusion = True
    return super().get_dataset(*args, **kwargs).with_options(options)

  def get_task_dataset(
    self, task: Task, output_feature_keys: Set[str], *args, **kwargs
  ) -> tf.data.Dataset:
    """Returns the examples of one of the tasks; see `Task.get_dataset`.

    Args:
      task: one of the mixture's.
      output_feature_keys: the features to keep.
      *args: of `seqio.Mixture.get_task_dataset`.
      **kwargs: likewise.
    """
    # Drops features before the examples are kept; SeqIO would in a map after.
    signature = inspect.signature(super().get_task_dataset)
    bound = signature.bind(task, output_feature_keys, *args, **kwargs)
    bound.apply_defaults()
    del bound.arguments['task'], bound.arguments['output_feature_keys']
    return task.get_dataset(**bound.arguments, features=output_feature_keys)


def _only(
  dataset: tf.data.Dataset, features: Set[str] | None
) -> tf.data.Dataset:
  """Drops all other features."""
  if features is None or features >= dataset.element_spec.keys():
    return dataset
  return dataset.map(lambda x: {k: v for k, v in x.items() if k in features})
