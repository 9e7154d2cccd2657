"""SeqIO tasks and mixtures of an experiment, under one naming rule.

    <method>_<set>_<data>_<labels>[_<teacher>]<suffixes>       to train on
    eval_<method>_<set>_<data>[_<teacher>]<suffixes>           to evaluate
    <set>_<data>_<task>[_<labels>][_<teacher>]<suffixes>       a task

`<data>` is `sample`, `release` or `local_<10 digits of the files' content>`. A
part or suffix is there only where it makes a difference: the teacher where its
outputs are used, and of the suffixes only those that are not at their default:

    _f0.25  fraction          _s1       seed of fraction or shuffling
    _r0.5   rationale rate    _paired   both tasks of a row in one example
    _correct  rationales of correctly answered rows only
    _blanks   what the teacher did not give trained on as a blank
    _shuffled  rationales swapped between rows, a control
    _v<8 digits>  another vocabulary than the sample's

For example `dss_cqa_sample_gold_palm` mixes the tasks `cqa_sample_label_gold`
and `cqa_sample_rationale_palm`. To evaluate, every split has a task of its own
(`cqa_sample_label_test`, `cqa_sample_rationale_palm_validation`, …) whose only
split is called `eval`, so that one mixture covers them all.
"""

import dataclasses
from typing import Any

import seqio

from dss_jax.data import records, tfds_builders
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import methods, names, registration

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
  """

  rows: dict[str, int]
  left_out: dict[str, dict[str, int]]
  reports: dict[str, records.Report]
  rationale_reports: bool


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
    rows, left_out, tfds_builders.reports(builder), experiment.uses_teacher
  )
