"""Counts of what a run trains on, which it keeps in its folder."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from dss_jax import mixtures
from dss_jax.data import equations
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.pipeline import lengths as lengths_lib
from dss_jax.pipeline import registration, sources
from dss_jax.training_data import record

_SPLITS = ('train', 'validation', 'test')


def count(
  experiment: experiment_lib.Experiment,
  cuts: Sequence[lengths_lib.Cut],
  lengths: Mapping[str, int] | None,
  step: mixtures.Step | None,
  total_steps: int,
) -> record.TrainingData:
  """Returns what a run trains on.

  Args:
    experiment: whose rows; they are prepared if need be.
    cuts: what its tasks lose, from `lengths.run_cuts`.
    lengths: to which examples are cut; None for none.
    step: what a step holds; None says nothing about it.
    total_steps: of the run.
  """
  by_task = {found.task: found for found in cuts}
  tasks = []
  rows: dict[str, int] = {}
  of_kinds = registration.rationales_of_tasks(experiment)
  for name, _ in registration.train_tasks(experiment):
    task = seqio.TaskRegistry.get(name)
    assert isinstance(task.source, sources.DssSource)
    if not rows:
      rows = {split: task.source.num_drawn(split) for split in _SPLITS}
    of_task = [k for t, k in of_kinds if t == name]
    found = _task_rows(task, task.source, experiment.by_value, of_task)
    tasks.append(_with_cut(found, by_task.get(name)))
  return record.TrainingData(
    data_set=experiment.data_set,
    place=str(experiment.place),
    rows=rows,
    tasks=tasks,
    lengths=dict(lengths or {}),
    step=_step(step, total_steps),
  )


def _task_rows(
  task: seqio.Task,
  source: sources.DssSource,
  by_value: bool,
  of_kinds: Sequence[kinds_lib.Kind],
) -> record.TaskRows:
  columns = source.columns('train')
  first = of_kinds[0].column if of_kinds else 'rationale'
  blank = {
    kind.title: int(np.sum(columns[kind.column] == b'')) for kind in of_kinds
  }
  said, gold = columns['teacher_label'], columns['label']
  right = said == gold
  if by_value:
    pairs = zip(said, gold, strict=True)
    right |= [equations.same_value(a.decode(), b.decode()) for a, b in pairs]
  return record.TaskRows(
    task=task.name,
    drawn=source.num_drawn('train'),
    used=len(gold),
    needs=source.draw.needs,
    without_rationale=int(np.sum(columns[first] == b'')) * (len(blank) < 2),
    teacher_right=int(np.sum(right & (said != b''))) if any(said) else None,
    without=blank if len(blank) > 1 else {},
  )


def _with_cut(
  found: record.TaskRows, cut: lengths_lib.Cut | None
) -> record.TaskRows:
  if cut is None:
    return found
  return dataclasses.replace(
    found,
    cut_inputs=cut.inputs,
    cut_targets=cut.targets,
    counted=cut.examples,
    longest=cut.longest,
  )


def _step(step: mixtures.Step | None, total_steps: int) -> dict[str, float]:
  if step is None or step.batch_size:
    return {}
  layout = step.layout()
  inputs, targets = layout.row_shape
  return {
    'labels': layout.labels,
    'rows': layout.rows,
    'inputs': inputs,
    'targets': targets,
    'inputs_fill': layout.fill[0],
    'targets_fill': layout.fill[1],
    'epochs': total_steps * layout.labels / layout.examples,
  }


def write(folder: str, found: record.TrainingData) -> None:
  """Writes a run's `training_data.json`, at once.

  Args:
    folder: of the run, local or remote; it exists.
    found: what it trains on.
  """
  # Not by the engine's own means: upstream T5X has none.
  path = os.path.join(folder, record.FILE)
  work = f'{path}.{os.getpid()}.tmp'
  with tf.io.gfile.GFile(work, 'w') as f:
    f.write(json.dumps(dataclasses.asdict(found), indent=1))
  tf.io.gfile.rename(work, path, overwrite=True)
