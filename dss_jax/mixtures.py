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
    _blank    blank rationales trained on, as in the published code
    _shuffled  rationales swapped between rows, a control
    _v<8 digits>  another vocabulary than the sample's

For example `dss_cqa_sample_gold_palm` mixes the tasks `cqa_sample_label_gold`
and `cqa_sample_rationale_palm`. To evaluate, every split has a task of its own
(`cqa_sample_label_test`, `cqa_sample_rationale_palm_validation`, …) whose only
split is called `eval`, so that one mixture covers them all.
"""

import dataclasses

import seqio

from dss_jax.data import records, tfds_builders
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import names

Experiment = experiment_lib.Experiment
METHODS = experiment_lib.METHODS
LABELS = experiment_lib.LABELS
EVAL_SPLIT = experiment_lib.EVAL_SPLIT
sample_vocabulary = names.sample_vocabulary


def train_mixture(
  data_set: str,
  data: tfds_builders.Data = 'sample',
  method: str = 'dss',
  labels: str = 'gold',
  teacher: str = 'palm',
  fraction: float = 1.0,
  seed: int | None = 0,
  rationale_rate: float = 1.0,
  paired: bool = False,
  shuffle_rationales: bool = False,
  vocabulary: seqio.Vocabulary | None = None,
  which_rationales: str = 'all',
  keep_blank: bool = False,
) -> str:
  """Registers what an experiment trains on and returns its name.

  Args:
    data_set: this and all others are the attributes of `Experiment`.
    data: where the rows are; an `own_data.OwnData` for rows of the user's own.
    method: how to train.
    labels: which labels.
    teacher: whose rationales.
    fraction: the part of the train rows.
    seed: of drawing that part.
    rationale_rate: draws of the rationale task.
    paired: a row's tasks together.
    shuffle_rationales: the control.
    vocabulary: of inputs and targets.
    which_rationales: those of all rows, or of rows that the teacher got right.
    keep_blank: whether to train on blank rationales.

  Returns:
    The name of a SeqIO mixture with the splits train, validation and test.

  Raises:
    DataError: an option has a value that it cannot have, or the files are not
      there.
  """
  experiment = Experiment(
    data_set=data_set,
    data=data,
    method=method,
    labels=labels,
    teacher=teacher,
    fraction=fraction,
    seed=seed,
    rationale_rate=rationale_rate,
    paired=paired,
    shuffle_rationales=shuffle_rationales,
    vocabulary=vocabulary,
    which_rationales=which_rationales,
    keep_blank=keep_blank,
  )
  experiment.check_files()
  experiment.register()
  return experiment.train_name


def eval_mixture(
  data_set: str,
  data: tfds_builders.Data = 'sample',
  method: str = 'dss',
  labels: str = 'gold',
  teacher: str = 'palm',
  fraction: float = 1.0,
  seed: int | None = 0,
  rationale_rate: float = 1.0,
  paired: bool = False,
  shuffle_rationales: bool = False,
  vocabulary: seqio.Vocabulary | None = None,
  rationales: bool = True,
  which_rationales: str = 'all',
  keep_blank: bool = False,
) -> str:
  """Registers what an experiment is evaluated on and returns its name.

  Args:
    data_set: this and the others but the last are those of `train_mixture`.
    data: where the rows are.
    method: how it was trained.
    labels: without effect: evaluation is against gold labels.
    teacher: whose rationales generated ones are compared with.
    fraction: as in training, since validation rows are drawn after it.
    seed: likewise.
    rationale_rate: without effect.
    paired: without effect.
    shuffle_rationales: without effect: rationales are compared with their own.
    vocabulary: of inputs and targets.
    rationales: whether the rationales that 'dss' generates are evaluated too.
    which_rationales: without effect: all are compared with.
    keep_blank: without effect: there is nothing to compare with a blank.

  Returns:
    The name of a SeqIO mixture whose tasks have the one split `eval`.

  Raises:
    DataError: as in `train_mixture`.
  """
  experiment = Experiment(
    data_set=data_set,
    data=data,
    method=method,
    labels=labels,
    teacher=teacher,
    fraction=fraction,
    seed=seed,
    rationale_rate=rationale_rate,
    paired=paired,
    shuffle_rationales=shuffle_rationales,
    vocabulary=vocabulary,
    which_rationales=which_rationales,
    keep_blank=keep_blank,
  )
  experiment.check_files()
  experiment.register(rationales)
  return experiment.eval_name(rationales)


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
  experiment.check_files()
  rows, left_out = {}, {}
  for name, _ in experiment.train_tasks():
    source = seqio.TaskRegistry.get(name).source
    drawn = {split: source.num_drawn(split) for split in source.splits}
    rows.update(drawn)
    left_out[name] = {
      split: count - source.num_input_examples(split)
      for split, count in drawn.items()
    }
  teacher = experiment.teacher if experiment.uses_teacher else None
  builder = tfds_builders.prepared(
    experiment.data_set,
    tfds_builders.find_config(experiment.data_set, experiment.rows, teacher),
  )
  return Description(
    rows, left_out, tfds_builders.reports(builder), experiment.uses_teacher
  )
