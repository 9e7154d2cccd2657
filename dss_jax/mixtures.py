"""SeqIO tasks and mixtures of an experiment, under one naming rule.

    <method>_<set>_<data>_<labels>[_<teacher>]<suffixes>       to train on
    eval_<method>_<set>_<data>[_<teacher>]<suffixes>           to evaluate
    <set>_<data>_<task>[_<labels>][_<teacher>]<suffixes>       a task

`<data>` is `sample`, `release` or `local_<10 digits of the files' content>`. A
part or suffix is there only where it makes a difference: the teacher where its
outputs are used, and of the suffixes only those that are not at their default:

    _f0.25  fraction          _s1       seed of fraction or shuffling
    _r0.5   rationale rate    _paired   all tasks of a row in one example
    _correct  rationales of correctly answered rows only
    _blanks   what the teacher did not give trained on as a blank
    _shuffled  rationales swapped between rows, a control
    _v<8 digits>  another vocabulary than the sample's

Where there are several teachers or kinds of rationales, or they have names,
these stand behind the teacher: `palm.and.mine`, `teacher.thought.and.program`,
and `p` with six digits for a prefix of one's own. The task of the second kind
is `…_rationale2_…`.

What a run reads where a step counts label examples ends in their number and in
8 digits of how they are laid out: `…_n64_1f0c9a2e` (`step_mixture`).

For example `dss_cqa_sample_gold_palm` mixes the tasks `cqa_sample_label_gold`
and `cqa_sample_rationale_palm`. To evaluate, every split has a task of its own
(`cqa_sample_label_test`, `cqa_sample_rationale_palm_validation`, …) whose only
split is called `eval`, so that one mixture covers them all.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import seqio

from dss_jax import errors
from dss_jax.data import records, tfds_builders
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import methods, names, registration, step_rows, steps

Experiment = experiment_lib.Experiment
METHODS = methods.METHODS
LABELS = experiment_lib.LABELS
EVAL_SPLIT = registration.EVAL_SPLIT
sample_vocabulary = experiment_lib.sample_vocabulary
train_name = names.train_name
eval_name = names.eval_name
register = registration.register


def train_mixture(experiment: Experiment | None = None, **options: Any) -> str:
  """Registers what an experiment trains on and returns its name.

  Args:
    experiment: which one.
    **options: those of an `Experiment`, in place of one.

  Returns:
    The name of a SeqIO mixture with the splits train, validation and test.

  Raises:
    DataError: an option has a value that it cannot have, there are options
      beside an experiment, or the files are not there.
  """
  experiment = experiment_lib.given(
    'mixtures.train_mixture', experiment, options
  )
  registration.check_files(experiment)
  registration.register(experiment)
  return names.train_name(experiment)


class Partitioner(Protocol):
  """The part of a partitioner that the rows of a step have to suit."""

  @property
  def data_mesh_size(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Step:
  """What a training step holds: so many label examples, or so many rows.

  Attributes:
    experiment: what is trained on.
    task_feature_lengths: {'inputs': L, 'targets': T}, those of a row.
    labels_per_step: label examples of every step, with the rationale examples
      that belong to them; targets for 'single_task'. None counts rows.
    batch_size: rows of a step, of which packing decides what they hold. None
      counts label examples.
    pack: whether several examples share a row.
    rows_per_step: in how many rows the examples of a step are laid out. None
      chooses as few as the data allows.
    seed: of the run; the first steps that it gives are tried.
    num_microbatches: of the trainer, which divide the rows.
    partitioner: whose mesh divides the rows; None for one device.
    data_parts: in how many parts the data is read, at most one for each label
      example. None chooses.
  """

  experiment: Experiment
  task_feature_lengths: Mapping[str, int]
  labels_per_step: int | None = None
  batch_size: int | None = None
  pack: bool = True
  rows_per_step: int | None = None
  seed: int | None = 0
  num_microbatches: int | None = None
  partitioner: Partitioner | None = None
  data_parts: int | None = None

  def __post_init__(self) -> None:
    """Checks the options.

    Raises:
      DataError: an option has a value that it cannot have.
    """
    given = (
      ('LABELS_PER_STEP', self.labels_per_step),
      ('BATCH_SIZE', self.batch_size),
    )
    set_ones = [f'{name} = {value}' for name, value in given if value]
    if len(set_ones) != 1:
      raise errors.DataError(
        'LABELS_PER_STEP (label examples of a step) and BATCH_SIZE (packed rows'
        ' of a step): expected one of them, found'
        f' {" and ".join(set_ones) or "neither"}. Set the other one to None,'
        ' such as --gin.LABELS_PER_STEP=None --gin.BATCH_SIZE=32.'
      )
    for name, value in (
      *given,
      ('ROWS_PER_STEP', self.rows_per_step),
      ('mixtures.Step.data_parts', self.data_parts),
    ):
      whole = isinstance(value, int) and not isinstance(value, bool)
      if value is not None and not (whole and value > 0):
        raise errors.DataError(
          f'{name} is {value!r}: expected a positive whole number, or None.'
        )
    if not isinstance(self.pack, bool):
      raise errors.DataError(f'PACK is {self.pack!r}: expected True or False.')
    if self.batch_size and self.rows_per_step:
      raise errors.DataError(
        f'BATCH_SIZE is {self.batch_size} and ROWS_PER_STEP is'
        f' {self.rows_per_step}: expected ROWS_PER_STEP = None, since'
        ' BATCH_SIZE says how many rows a step has.'
      )

  def layout(self) -> steps.Layout:
    """Lays the steps out, and registers the mixture that does.

    Raises:
      DataError: the data is missing, the options don't fit it, or a step counts
        rows (BATCH_SIZE), which need no layout.
    """
    if self.labels_per_step is None:
      raise errors.DataError(
        f'BATCH_SIZE is {self.batch_size}: expected LABELS_PER_STEP, since what'
        ' that many rows hold is not laid out.'
      )
    experiment = self.experiment
    registration.check_files(experiment)
    partitioner = self.partitioner
    shards = 1 if partitioner is None else partitioner.data_mesh_size
    parts = self.data_parts
    if parts is not None and self.labels_per_step % parts:
      raise errors.DataError(
        f'LABELS_PER_STEP is {self.labels_per_step}, and the data is read in'
        f' {parts} parts (mixtures.Step.data_parts): expected a multiple.'
      )
    lengths = self.task_feature_lengths
    (label_task, _), *_ = registration.train_tasks(experiment)
    return registration.register_steps(
      experiment,
      step_rows.Request(
        labels=self.labels_per_step,
        label_task=label_task,
        lengths=(lengths['inputs'], lengths['targets']),
        pack=self.pack,
        multiple=shards * (self.num_microbatches or 1),
        rows=self.rows_per_step,
        seed=self.seed or 0,
        parts=parts,
      ),
    )


def step_mixture(step: Step) -> str:
  """Registers what a run is trained on, step by step; returns its name.

  Args:
    step: what a step holds. Where it counts rows, the name is that of
      `train_mixture`.

  Raises:
    DataError: the data is missing, or the options don't fit it.
  """
  if step.labels_per_step is None:
    return train_mixture(step.experiment)
  return names.step_name(step.layout())


def rows_per_step(step: Step) -> int:
  """Returns the rows of a step, for `DatasetConfig.batch_size`.

  Args:
    step: what a step holds.

  Raises:
    DataError: as in `step_mixture`.
  """
  return step.batch_size or step.layout().rows


def eval_mixture(
  experiment: Experiment | None = None,
  *,
  rationales: bool = True,
  **options: Any,
) -> str:
  """Registers what an experiment is evaluated on and returns its name.

  Evaluation is against gold labels and all rationales of the teacher, whatever
  the experiment trains on.

  Args:
    experiment: which one.
    rationales: whether the rationales that 'dss' generates are evaluated too.
    **options: those of an `Experiment`, in place of one.

  Returns:
    The name of a SeqIO mixture whose tasks have the one split `eval`.

  Raises:
    DataError: as in `train_mixture`.
  """
  experiment = experiment_lib.given(
    'mixtures.eval_mixture', experiment, options, ['rationales']
  )
  registration.check_files(experiment)
  registration.register(experiment, rationales)
  return names.eval_name(experiment, rationales)


def eval_lengths(
  experiment: Experiment, generated_tokens: int | None = None
) -> dict[str, int] | None:
  """Returns the lengths of what `eval_mixture` evaluates.

  Inputs are as long as the longest one. No target is cut: metrics compare with
  its text.

  Args:
    experiment: what is evaluated. The target of 'single_task' has a rationale,
      so that the longest one always counts.
    generated_tokens: how many tokens may be generated, the end token included;
      None for the longest target.

  Raises:
    DataError: the number is not positive.
  """
  if generated_tokens is None:
    return None
  whole = isinstance(generated_tokens, int)
  if not whole or isinstance(generated_tokens, bool) or generated_tokens < 1:
    raise errors.DataError(
      f'GENERATED_TOKENS is {generated_tokens!r}: expected a positive whole'
      ' number, or None for as many as the longest answer has.'
    )
  if experiment.method == 'single_task':
    return None
  return {'targets': generated_tokens}


@dataclasses.dataclass(frozen=True)
class Description:
  """What an experiment's data holds.

  Attributes:
    rows: number of rows by split, as drawn.
    left_out: for each task to train on, how many of these rows it leaves out by
      split, since their rationale or teacher label is blank.
    reports: what was found in the released files, by released split; with the
      teacher's accuracy where its outputs are used.
    rationale_reports: whether `reports` covers a teacher's outputs.
    without: for each kind of rationales of several, how many of the rows lack
      it by split; they are left out of its task.
  """

  rows: dict[str, int]
  left_out: dict[str, dict[str, int]]
  reports: dict[str, records.Report]
  rationale_reports: bool
  without: dict[str, dict[str, int]]


def describe(experiment: Experiment) -> Description:
  """Counts the rows of an experiment, preparing the data if need be.

  Args:
    experiment: whose rows.

  Returns:
    Counts by split.

  Raises:
    DataError: the files are missing or malformed.
  """
  registration.check_files(experiment)
  rows, left_out = {}, {}
  for name, _ in registration.train_tasks(experiment):
    source = seqio.TaskRegistry.get(name).source
    drawn = {split: source.num_drawn(split) for split in source.splits}
    rows.update(drawn)
    left_out[name] = {
      split: count - source.num_input_examples(split)
      for split, count in drawn.items()
    }
  config = tfds_builders.find_config(
    experiment.data_set, experiment.rows, experiment.used_teacher
  )
  builder = tfds_builders.prepared(experiment.data_set, config)
  return Description(
    rows,
    left_out,
    tfds_builders.reports(builder),
    experiment.uses_teacher,
    without_kinds(experiment),
  )


def without_kinds(
  experiment: experiment_lib.Experiment,
) -> dict[str, dict[str, int]]:
  """Counts the rows that lack a kind of rationales, where there are several.

  Args:
    experiment: whose rows; they are prepared if need be.

  Returns:
    Numbers by kind and split.
  """
  found: dict[str, dict[str, int]] = {}
  if len(experiment.kinds) == 1:
    return found
  for name, kind in registration.rationales_of_tasks(experiment):
    source = seqio.TaskRegistry.get(name).source
    found[kind.name] = {
      split: source.num_drawn(split)
      - int(np.sum(source.columns(split)[kind.column] != b''))
      for split in source.splits
    }
  return found
