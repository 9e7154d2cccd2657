"""Lengths of the examples that a run trains on, and what is cut off them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from dss_jax import command_lines
from dss_jax.data import columns as columns_lib
from dss_jax.data import own_rows
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import (
  kinds,
  packing,
  preprocessors,
  registration,
  row_shapes,
  sources,
)

# Of so many examples of a task, the lengths are counted; all of a small set's.
MOST = 10_000
# Accelerators prefer multiples of this many positions.
_STEP = 8


@dataclasses.dataclass(frozen=True)
class Cut:
  """What a task's examples lose at a run's lengths.

  Attributes:
    task: its name.
    examples: how many were counted.
    of: how many there are.
    inputs: how many lose the end of an input.
    targets: how many lose the end of a target.
    longest: inputs and targets of the lengths at which none would lose any.
  """

  task: str
  examples: int
  of: int
  inputs: int
  targets: int
  longest: tuple[int, int]


@preprocessors.as_written
def tokenized(
  task: seqio.Task,
  columns: Mapping[str, Sequence[Any]],
  lengths: Mapping[str, int] | None = None,
) -> Iterator[Mapping[str, np.ndarray]]:
  """Yields the examples that a task makes of rows.

  Args:
    task: the task.
    columns: of the rows, texts or UTF-8, by the names of a `records.Record`.
    lengths: to which features are cut; None cuts nothing.
  """
  tensors = {
    name: tf.constant(values, tf.string) for name, values in columns.items()
  }
  dataset = tf.data.Dataset.from_tensor_slices(tensors)
  dataset = task.preprocess_precache(dataset)
  dataset = task.preprocess_postcache(dataset, sequence_length=lengths, seed=0)
  return dataset.as_numpy_iterator()


def of_task(
  task: seqio.Task, columns: Mapping[str, Sequence[Any]]
) -> row_shapes.Lengths:
  """Returns the lengths of the examples that a task makes of rows, not cut.

  Args:
    task: the task.
    columns: as in `tokenized`.
  """
  sides = [*zip(*kinds.sides_of(list(task.output_features)), strict=True)]
  counts = [
    [[len(example[name]) for name in side] for side in sides]
    for example in tokenized(task, columns)
  ]
  counted = np.array(counts, np.int64).reshape(len(counts), 2, len(sides[0]))
  return row_shapes.Lengths(counted[:, 0], counted[:, 1])


def longest_rationale(text: str | bytes) -> str | bytes:
  """Returns the longest of a row's rationales: each of them may be drawn."""
  if isinstance(text, bytes):
    return max(text.split(own_rows.SEPARATOR.encode()), key=len)
  return max(text.split(own_rows.SEPARATOR), key=len)


def cut(
  task: seqio.Task,
  columns: Mapping[str, Sequence[Any] | np.ndarray],
  lengths: Mapping[str, int],
) -> Cut:
  """Counts what a task's examples lose.

  Args:
    task: the task.
    columns: of the rows that it is given.
    lengths: of `inputs` and `targets`.
  """
  count = len(columns['input'])
  rows = np.random.default_rng(0).permutation(count)[:MOST]
  chosen = {name: [values[i] for i in rows] for name, values in columns.items()}
  for name in columns_lib.rationales(chosen):
    chosen[name] = [*map(longest_rationale, chosen[name])]
  whole = of_task(task, chosen)
  kept = packing.trim_lengths(*whole, (lengths['inputs'], lengths['targets']))
  # A segment without targets is no example: nothing of it is lost.
  encoder = np.where(whole.decoder > 0, whole.encoder, 0)
  lost = [
    (full > part).any(1)
    for full, part in zip((encoder, whole.decoder), kept, strict=True)
  ]
  sums = (encoder.sum(1).max(initial=0), whole.decoder.sum(1).max(initial=0))
  return Cut(
    task.name,
    len(rows),
    count,
    int(lost[0].sum()),
    int(lost[1].sum()),
    (int(sums[0]), int(sums[1])),
  )


def warning(cuts: Sequence[Cut], lengths: Mapping[str, int]) -> str:
  """Returns what to say about cut examples and what mends it; '' if none is.

  Args:
    cuts: of the tasks to train on.
    lengths: of `inputs` and `targets`.
  """
  if not any(found.inputs or found.targets for found in cuts):
    return ''
  lines = [
    f'Longer than {lengths["inputs"]} input or {lengths["targets"]} target'
    ' tokens, and cut at the end:'
  ]
  for found in cuts:
    of = f'{found.examples:,}'
    if found.examples < found.of:
      of = f'{of} examples tried, of {found.of:,},'
    else:
      of = f'{of} examples'
    parts = [
      f'{count:,} lose the end of {what}'
      for count, what in (
        (found.inputs, 'the input'),
        (found.targets, 'the target'),
      )
      if count
    ]
    if parts:
      lines.append(f'  of {of} of {found.task}, {" and ".join(parts)}')
  needed = {
    side: max(
      lengths[side],
      *(-(-found.longest[i] // _STEP) * _STEP for found in cuts),
    )
    for i, side in enumerate(('inputs', 'targets'))
  }
  option = command_lines.macro('TASK_FEATURE_LENGTHS', needed)
  lines.append(f'To keep all: {option}')
  return '\n'.join(lines)


def run_cuts(
  experiment: experiment_lib.Experiment, lengths: Mapping[str, int] | None
) -> list[Cut]:
  """Returns what the train split of a run loses, by task.

  Args:
    experiment: what it trains on; prepares the data if need be.
    lengths: its task feature lengths; None cuts nothing.
  """
  if lengths is None:
    return []
  cuts = []
  for name, _ in registration.train_tasks(experiment):
    task = seqio.TaskRegistry.get(name)
    assert isinstance(task.source, sources.DssSource)
    columns = task.source.columns('train')
    cuts.append(cut(task, columns, lengths))
  return cuts


def run_warning(
  experiment: experiment_lib.Experiment, lengths: Mapping[str, int] | None
) -> str:
  """Returns the warning about the train split of a run; '' if nothing is cut.

  Args:
    experiment: what it trains on; prepares the data if need be.
    lengths: its task feature lengths; None cuts nothing.
  """
  return warning(run_cuts(experiment, lengths), lengths or {})
