"""Tasks and mixtures of given lengths, made without files."""

import numpy as np
import seqio
import tensorflow as tf

from dss_jax.pipeline import cached_tasks


class Source(seqio.FunctionDataSource):
  """Rows that are numbered from 0."""

  def __init__(self, count):
    """Takes the number of rows."""
    super().__init__(
      lambda split, shuffle_files, seed=None: tf.data.Dataset.range(count),
      ['train'],
      {'train': count},
    )

  def examples(self, split, indices):
    """Returns rows by their places, which are their numbers."""
    return indices


@seqio.map_over_dataset(num_seeds=1)
def with_drawn_targets(example, seed):
  """Gives each example targets of its own at every time."""
  drawn = tf.random.stateless_uniform([2], seed, 1, 2**30, tf.int32)
  return {**example, 'targets': drawn}


def task(name, lengths, first=1000, more=()):
  """Registers a task anew; example i has `first + i` as all of its tokens.

  Args:
    name: of the task.
    lengths: of inputs and targets of each example.
    first: token of the first example.
    more: preprocessors that follow.
  """
  longest = np.max(lengths)

  @seqio.map_over_dataset
  def tokens(row):
    both = tf.constant(np.asarray(lengths), tf.int64)[row]
    values = tf.fill([longest], tf.cast(row, tf.int32) + first)
    return {'inputs': values[: both[0]], 'targets': values[: both[1]]}

  feature = seqio.Feature(
    seqio.PassThroughVocabulary(2**31), add_eos=False, dtype=tf.int32
  )
  if name in seqio.TaskRegistry.names():
    seqio.TaskRegistry.remove(name)
  return seqio.TaskRegistry.add(
    name,
    Source(len(lengths)),
    {'inputs': feature, 'targets': feature},
    [tokens, *more],
    task_cls=cached_tasks.Task,
  )
