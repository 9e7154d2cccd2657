"""Mixtures that lay out the steps of a run: so many label examples in each.

A SeqIO mixture hands out examples, and a converter makes rows of them; whoever
batches the rows does not know how many examples a batch holds. Here the mixture
hands out *windows*: the examples of one step (or of one part of the data in a
step), always equally many, with blank ones where a step has fewer. Each example
carries the two numbers that the converter needs, as the shape of an empty
feature, and the converter makes exactly the rows of one step of each window.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from jaxtyping import Int64

from dss_jax import errors
from dss_jax.pipeline import cached_tasks, kinds, orders, preprocessors

# A feature of shape [examples of a window, rows of a window, 0].
WINDOW = 'window'

_ENDLESS = np.iinfo(np.int64).max
_SEED_BITS = 32


@dataclasses.dataclass(frozen=True)
class Layout:
  """How the steps of a mixture are laid out.

  Attributes:
    mixture: the name of the mixture whose examples these are.
    labels: label examples (or targets, or pairs) of a step.
    examples: how many of them there are.
    per_task: examples of a step, for each of the mixture's `tasks`.
    rows: rows of a step.
    parts: in how many parts the data is read; each lays out its share of a
      step's examples in its share of the rows.
    row_shape: (L, T).
    most: for each task, how many tokens the examples of a window may have on
      average on both sides, so that they fit; None for no limit.
    fill: the fractions of the encoder's and of the decoder's positions that are
      real in an average step.
  """

  mixture: str
  labels: int
  examples: int
  per_task: tuple[float, ...]
  rows: int
  parts: int
  row_shape: tuple[int, int]
  most: tuple[tuple[float, float] | None, ...]
  fill: tuple[float, float]

  @property
  def identity(self) -> dict[str, str]:
    """What tells a run from others: the examples of a step, not their rows."""
    return {
      'mixture_or_task': self.mixture,
      'batch_size': f'{self.labels} label examples',
    }


def window_of(element_spec: Mapping[str, tf.TensorSpec]) -> list[int] | None:
  """Returns the examples and rows of a window, None where there are no windows.

  Args:
    element_spec: of a dataset of examples.
  """
  if WINDOW not in element_spec:
    return None
  return element_spec[WINDOW].shape.as_list()[:2]


class StepMixture(cached_tasks.Mixture):
  """A mixture whose examples come in windows.

  Attributes:
    step: the layout, by which t5x knows rows and parts of a step.
  """

  def __init__(self, *args: Any, step: Layout, **kwargs: Any):
    super().__init__(*args, **kwargs)
    self.step = step

  @preprocessors.as_written
  def get_dataset(
    self,
    sequence_length: Mapping[str, int] | None = None,
    split: str = 'train',
    use_cached: bool = False,
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    num_epochs: int | None = None,
    **unused_kwargs: Any,
  ) -> tf.data.Dataset:
    """Returns the examples of window after window.

    Args:
      sequence_length: to which features are cut.
      split: the split.
      use_cached: must be False.
      shuffle: whether each epoch is another permutation.
      seed: of the permutations and of preprocessors; None draws one.
      shard_info: which part of each step.
      num_epochs: must be None, since steps go on over the ends of epochs.
      **unused_kwargs: further ones of `seqio.Mixture.get_dataset`.

    Raises:
      DataError: a step has no equal parts, or an option is not supported.
    """
    shard = shard_info or seqio.ShardInfo(0, 1)
    self._check(shard.num_shards, use_cached, num_epochs)
    if seed is None:
      seed = int(np.random.SeedSequence().generate_state(1)[0])
    keys = set(self.output_features)
    datasets, patterns = [], []
    for i, task in enumerate(self.tasks):
      order = orders.Order(
        task.source.num_input_examples(split),
        self.step.per_task[i] / shard.num_shards,
        (seed % 2**_SEED_BITS, i) if shuffle else None,
        sizes_of(task, split, sequence_length, keys, self.step.row_shape),
        self.step.most[i],
      )
      indices = _windows(order, shard)
      datasets.append(
        task.in_order(indices, split, sequence_length, seed + shard.index, keys)
      )
      patterns.append(order)
    units = sum(math.ceil(order.a_window) for order in patterns)
    dataset = datasets[0]
    if len(datasets) > 1:
      choices = _choices(patterns, units, shard)
      dataset = tf.data.Dataset.choose_from_datasets(
        [*datasets, _blanks(dataset.element_spec)], choices
      )
    shape = units, self.step.rows // shard.num_shards, 0
    return dataset.map(lambda x: {**x, WINDOW: tf.zeros(shape, tf.int32)})

  def _check(
    self, parts: int, use_cached: bool, num_epochs: int | None
  ) -> None:
    labels, rows = self.step.labels, self.step.rows
    if labels % parts or rows % parts:
      raise errors.DataError(
        f'LABELS_PER_STEP is {labels}, in {rows} rows, and the data is read in'
        f' {parts} parts: expected numbers that can be divided by the parts.'
        ' Set DatasetConfig.data_shards = 1, or other numbers.'
      )
    if use_cached:
      raise errors.DataError(
        'LABELS_PER_STEP and DatasetConfig.use_cached = True: expected one of'
        " them, since SeqIO's offline cache has an order of its own. Set"
        ' LABELS_PER_STEP = None and BATCH_SIZE to a number of rows.'
      )
    if num_epochs is not None:
      raise errors.DataError(
        f'{self.name}: expected num_epochs=None, found {num_epochs}: a step'
        ' goes on over the end of an epoch. For one epoch, read the mixture of'
        ' mixtures.train_mixture.'
      )


def segments_of(
  table: cached_tasks.Table, keys: set[str], row_shape: tuple[int, int]
) -> Int64[np.ndarray, 'examples segments 2']:
  """Returns the tokens that each segment of the examples takes of a row.

  Args:
    table: the examples.
    keys: their features.
    row_shape: (L, T), to which segments are cut.
  """
  sizes = np.stack(
    [
      np.stack([table.lengths(name) for name in sides], -1)
      for sides in kinds.sides_of(sorted(keys))
    ],
    1,
  )
  sizes = np.minimum(sizes, row_shape)
  return np.where(sizes[:, :, 1:] > 0, sizes, 0)


def sizes_of(
  task: cached_tasks.Task,
  split: str,
  lengths: Mapping[str, int] | None,
  keys: set[str],
  row_shape: tuple[int, int],
) -> Int64[np.ndarray, 'examples 2'] | None:
  """Returns the tokens of each example; None for a set that is not kept."""
  if not task.is_kept(split):
    return None
  table = task.table(split, lengths, keys)
  return segments_of(table, keys, row_shape).sum(1)


def _windows(order: orders.Order, shard: seqio.ShardInfo) -> tf.data.Dataset:
  """Returns the places of the examples of a part's windows."""

  def window(step: np.ndarray) -> np.ndarray:
    return order.window(int(step) * shard.num_shards + shard.index)

  def places(step: tf.Tensor) -> tf.Tensor:
    # Not stateful: any window is found without those before it.
    found = tf.numpy_function(window, [step], tf.int64, stateful=False)
    found.set_shape([None])
    return found

  return tf.data.Dataset.range(_ENDLESS).map(places).unbatch()


def _choices(
  patterns: Sequence[orders.Order], units: int, shard: seqio.ShardInfo
) -> tf.data.Dataset:
  """Returns which dataset the next example comes from; blanks are the last."""

  def choose(step: np.ndarray) -> np.ndarray:
    window = int(step) * shard.num_shards + shard.index
    counts = [o.begin(window + 1) - o.begin(window) for o in patterns]
    counts.append(units - sum(counts))
    return np.repeat(np.arange(len(counts)), counts)

  def chosen(step: tf.Tensor) -> tf.Tensor:
    found = tf.numpy_function(choose, [step], tf.int64, stateful=False)
    found.set_shape([units])
    return found

  return tf.data.Dataset.range(_ENDLESS).map(chosen).unbatch()


def _blanks(spec: Mapping[str, tf.TensorSpec]) -> tf.data.Dataset:
  """Returns examples without a token, which take no room."""
  blank = {
    name: tf.zeros([0] * len(s.shape), s.dtype) for name, s in spec.items()
  }
  return tf.data.Dataset.from_tensors(blank).repeat()
