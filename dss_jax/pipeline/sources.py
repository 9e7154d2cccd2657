"""SeqIO sources of the rows that an experiment draws from a split.

The release is small (at most some hundred thousand short rows), so a host reads
a split into memory once, which gives exact splits, exact counts, and any number
of shards.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds
from jaxtyping import Bool, Int64

from dss_jax import errors
from dss_jax.data import columns as columns_lib
from dss_jax.data import equations, own_rows, tfds_builders
from dss_jax.data import splits as splits_lib

SPLITS = {'train': 'train', 'validation': 'validation', 'test': 'test'}


@dataclasses.dataclass(frozen=True)
class Draw:
  """The released rows that an experiment uses, and its changes to them.

  Attributes:
    fraction: of the train rows to use, in (0, 1].
    seed: of drawing that fraction, and of swapping rationales.
    needs: columns that must not be blank; other rows are left out.
    only_correct: whether to blank the rationales of rows whose teacher label is
      not the gold label.
    swap_rationales: whether to give every train row another row's rationale, as
      a control.
  """

  fraction: float = 1.0
  seed: int = 0
  needs: tuple[str, ...] = ()
  only_correct: bool = False
  swap_rationales: bool = False


def draw_rows(
  sizes: Mapping[str, int], split: str, fraction: float, seed: int
) -> tuple[str, Int64[np.ndarray, 'rows']]:
  """Returns the released split, and the indices in it, that make up a split.

  Args:
    sizes: number of rows of each released split.
    split: 'train', 'validation' or 'test'.
    fraction: of the released train rows to use.
    seed: of drawing that fraction.
  """
  released = 'validation' in sizes
  if split == 'test' or (split == 'validation' and released):
    return split, np.arange(sizes[split])
  train, validation = splits_lib.train_validation(
    sizes['train'], fraction=fraction, seed=seed, validation=not released
  )
  return 'train', train if split == 'train' else validation


class DssSource(seqio.TfdsDataSource):
  """Rows of a builder's splits; prepares the TFDS data set on first reading.

  An example is a dict of scalar strings: `id`, `input`, `label`, `rationale`,
  `teacher_label`, and for further kinds of rationales `rationale2`, ….
  Unshuffled, they come in the order of `splits`.
  """

  def __init__(
    self,
    data_set: str,
    config: tfds_builders.Config,
    draw: Draw,
    splits: Mapping[str, str] | None = None,
    others: Mapping[str, tfds_builders.Config] | None = None,
  ):
    """Makes the source without reading any file.

    Args:
      data_set: such as 'cqa'.
      config: the builder's config.
      draw: which rows to use.
      splits: maps the names of the source's splits to 'train', 'validation' or
        'test'. None keeps these names.
      others: maps columns of rationales to the configs whose `rationale` they
        are: the same rows, with another teacher's outputs.
    """
    self._split_map = dict(splits or SPLITS)
    name = f'dss_{data_set}/{config.name}:{tfds_builders.VERSION}'
    super().__init__(name, splits=self._split_map)
    self._data_set = data_set
    self._config = config
    self._others = dict(others or {})
    # Which of the rows are used.
    self.draw = draw

  @property
  def meaning(self) -> tuple[str, ...]:
    """What distinguishes this source's examples from those of another."""
    splits = sorted(self._split_map.items())
    others = [f'{name}: {c.name}' for name, c in sorted(self._others.items())]
    return (
      self._data_set, self._config.name, str(self.draw), str(splits), *others
    )  # fmt: skip

  @property
  def builder(self) -> tfds.core.DatasetBuilder:
    """The TFDS builder, prepared."""
    return tfds_builders.prepared(self._data_set, self._config)

  @property
  def supports_arbitrary_sharding(self) -> bool:
    """True: a shard is every n-th row."""
    return True

  def list_shards(self, split: str) -> Sequence[str]:
    """Returns the files that hold the rows of a split."""
    released = self._released(split)[0]
    others = (
      tfds_builders.prepared(self._data_set, config)
      for config in self._others.values()
    )
    return [
      str(path)
      for builder in (self.builder, *others)
      for path in builder.info.splits[released].filepaths
    ]

  def num_input_examples(self, split: str) -> int:
    """Returns how many examples `get_dataset` yields, over all shards."""
    return len(self.rows(split))

  def num_drawn(self, split: str) -> int:
    """Returns how many rows the split has before blank ones are left out."""
    return len(self._released(split)[1])

  def rows(self, split: str) -> Int64[np.ndarray, 'rows']:
    """Returns the indices of a split's examples in the released split."""
    released, rows = self._released(split)
    columns = self._table(released)
    filled = np.ones(len(rows), bool)
    for name in self.draw.needs:
      filled &= columns[name][rows] != b''
    return rows[filled]

  def columns(self, split: str) -> dict[str, np.ndarray]:
    """Returns the examples of a split, unshuffled, as arrays of bytes."""
    released, _ = self._released(split)
    rows = self.rows(split)
    table = self._table(released)
    result = {name: values[rows] for name, values in table.items()}
    if self.draw.swap_rationales and self._split_map[split] == 'train':
      for name in columns_lib.rationales(result):
        given = np.flatnonzero(result[name] != b'')
        order = splits_lib.swapped(len(given), self.draw.seed)
        result[name][given] = result[name][given[order]]
    return result

  def get_dataset(
    self,
    split: str = 'train',
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    *,
    sequence_length: Mapping[str, int] | None = None,
    use_cached: bool = False,
    num_epochs: int | None = 1,
  ) -> tf.data.Dataset:
    """Returns the examples of a split, or a host's shard of them.

    Args:
      split: one of the source's splits.
      shuffle: whether to shuffle the rows, differently in every epoch.
      seed: of shuffling.
      shard_info: which shard; the same rows for any `shuffle` and `seed`.
      sequence_length: this and the others have no effect, as in every source.
      use_cached: unused.
      num_epochs: unused.

    Raises:
      DataError: the split has no rows without the blanks of `Draw.needs`.
    """
    del sequence_length, use_cached, num_epochs
    columns = self._filled_columns(split)
    if shard_info is not None and shard_info.num_shards > 1:
      part = slice(shard_info.index, None, shard_info.num_shards)
      columns = {name: values[part] for name, values in columns.items()}
    count = len(columns['input'])
    dataset = tf.data.Dataset.range(count)
    if shuffle and count:
      dataset = dataset.shuffle(count, seed=seed)
    return _rows(columns, dataset)

  def examples(self, split: str, indices: tf.data.Dataset) -> tf.data.Dataset:
    """Returns examples of a split by their places among all of its examples.

    Args:
      split: one of the source's splits.
      indices: the places, int64.

    Raises:
      DataError: the split has no rows without the blanks of `Draw.needs`.
    """
    return _rows(self._filled_columns(split), indices)

  def _filled_columns(self, split: str) -> dict[str, np.ndarray]:
    columns = self.columns(split)
    if not len(columns['input']):
      raise errors.DataError(
        f'{self._place(split)}, {split}: expected rows whose'
        f' {" and ".join(self.draw.needs) or "input"} is not blank, found none'
        f' among {self.num_drawn(split)}. Use more rows, or choose what needs'
        ' none: another METHOD or LABELS; to evaluate, EVAL_RATIONALES = False.'
      )
    return columns

  def _place(self, split: str) -> str:
    """Returns where the rows of a split are, for messages."""
    data = self._config.data
    if isinstance(data, own_rows.OwnData):
      return data.paths().get(self._split_map[split], data.train)
    return self.tfds_dataset.name

  def _table(self, released: str) -> dict[str, np.ndarray]:
    """Returns the rows of a released split, with wrong rationales blanked."""
    columns = self._of_teacher(self.builder, released)
    for name, config in self._others.items():
      builder = tfds_builders.prepared(self._data_set, config)
      other = self._of_teacher(builder, released)
      if not np.array_equal(other['input'], columns['input']):
        raise errors.DataError(
          f'{self._config.name} and {config.name} of {self._data_set},'
          f' {released}: expected the same rows, found other inputs. Name'
          ' TEACHERS whose outputs are for these rows.'
        )
      columns = columns | {name: other['rationale']}
    return columns

  def _of_teacher(
    self, builder: tfds.core.DatasetBuilder, released: str
  ) -> dict[str, np.ndarray]:
    columns = tfds_builders.table(builder, released)
    if not self.draw.only_correct:
      return columns
    by_value = tfds_builders.by_value(self._data_set, self._config.data)
    right = _right(builder, released, by_value)
    return columns | {
      name: np.where(right, columns[name], b'')
      for name in columns_lib.rationales(columns)
    }

  def _released(self, split: str) -> tuple[str, np.ndarray]:
    infos = self.builder.info.splits.items()
    sizes = {name: info.num_examples for name, info in infos}
    draw = self.draw
    return draw_rows(sizes, self._split_map[split], draw.fraction, draw.seed)


def _rows(
  columns: Mapping[str, np.ndarray], indices: tf.data.Dataset
) -> tf.data.Dataset:
  tensors = {name: tf.constant(v, tf.string) for name, v in columns.items()}

  def row(index: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: values[index] for name, values in tensors.items()}

  return indices.map(row, num_parallel_calls=tf.data.AUTOTUNE)


@functools.lru_cache(maxsize=8)
def _right(
  builder: tfds.core.DatasetBuilder, released: str, by_value: bool
) -> Bool[np.ndarray, 'rows']:
  """Returns for each row whether the teacher's label is the gold label."""
  columns = tfds_builders.table(builder, released)
  given, gold = columns['teacher_label'], columns['label']
  if not by_value:
    return given == gold
  pairs = zip(given, gold, strict=True)
  same = (equations.same_value(a.decode(), b.decode()) for a, b in pairs)
  return np.fromiter(same, bool)
