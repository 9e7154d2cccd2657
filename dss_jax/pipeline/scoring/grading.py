"""What a student's answers are compared with, split by split.

Gold labels, wherever a split has some. Rows of the user's own that a teacher
has labeled may have none: then a student that learns the teacher's labels is
compared with these, and the score is called agreement, since a teacher errs.
"""

from dss_jax.data import own_rows
from dss_jax.pipeline import experiment as experiment_lib

EVALUATED = ('validation', 'test')


def columns(experiment: experiment_lib.Experiment) -> dict[str, str]:
  """Returns the column that answers are compared with, by evaluated split.

  Args:
    experiment: whose; rows of the user's own are read if they were not since
      they changed.

  Raises:
    DataError: they cannot be read.
  """
  rows = experiment.rows
  if not isinstance(rows, own_rows.OwnData) or experiment.labels == 'gold':
    return dict.fromkeys(EVALUATED, 'label')
  filled = own_rows.filled(rows)
  return {
    split: next((c for c in experiment.graded if c in filled[split]), 'label')
    for split in EVALUATED
  }


def explained(
  experiment: experiment_lib.Experiment,
) -> dict[str, tuple[str, ...]]:
  """Returns the kinds of rationales to compare with, by evaluated split.

  They are given by their columns.

  Args:
    experiment: as in `columns`.

  Raises:
    DataError: likewise.
  """
  rows = experiment.rows
  if not isinstance(rows, own_rows.OwnData):
    columns = tuple(kind.column for kind in experiment.kinds)
    return dict.fromkeys(EVALUATED, columns)
  filled = own_rows.filled(rows)
  return {split: tuple(filled[split]) for split in EVALUATED}
