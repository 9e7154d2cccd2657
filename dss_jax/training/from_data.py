"""Values of a run that its rows decide: lengths, steps, periods, classes.

Row lengths are those that `dss data inspect` marks as the best, made longer
where they would cut a token and the rows are no outliers. Steps are as many
passes over the rows as the sizes' own steps are on the data sets that they were
chosen for; the periods keep their part of the steps.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from dss_jax.commands import inspection
from dss_jax.data import records
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import row_shapes
from dss_jax.training import run_file

# Passes over the rows that are wanted, and that are done at least: a size's own
# steps are a limit where they come to more than those.
_PASSES, _LEAST_PASSES = 60, 3
# Of a size's own steps, the part that is done with the fewest rows.
_LEAST_STEPS = 0.2
# Labels that count as classes: so few, each with so many rows on average.
_MOST_CLASSES, _ROWS_OF_CLASS = 20, 10
# Accelerators prefer multiples of this many positions.
_POSITIONS = 8
# The macros whose part of the steps stays as it is in the size.
PERIODS = ('EVAL_PERIOD', 'SAVE_PERIOD', 'STATS_PERIOD', 'WARMUP_STEPS')


@dataclasses.dataclass(frozen=True)
class Size:
  """What the gin files say of a run's size.

  Attributes:
    lengths: TASK_FEATURE_LENGTHS.
    labels_per_step: label examples of a step; None where steps count rows.
    steps: TRAIN_STEPS.
    periods: by name, those of `PERIODS`.
    pack: whether several examples share a row.
  """

  lengths: Mapping[str, int]
  labels_per_step: int | None
  steps: int
  periods: Mapping[str, int]
  pack: bool = True


def values(
  experiment: experiment_lib.Experiment, size: Size
) -> list[run_file.Group]:
  """Returns what the rows of an experiment ask for.

  Args:
    experiment: rows of the user's own, and what is trained on them.
    size: what holds without them.

  Raises:
    DataError: a file is missing or malformed.
  """
  release = inspection.read(experiment)
  drawn = inspection.drawn(experiment, release)
  rows = {split: found for split, (found, _) in drawn.items()}
  found = [lengths_of(experiment, rows['train'], size)]
  if size.labels_per_step is not None:
    count = label_rows(experiment, rows['train'])
    found.append(steps_of(count, size))
  classes = classes_of(experiment, rows)
  if classes:
    reason = f'{len(classes)} different labels: each is scored on its own, too.'
    found.append(run_file.Group(reason, {'CLASSES': classes}))
  return found


def lengths_of(
  experiment: experiment_lib.Experiment,
  rows: list[records.Record],
  size: Size,
) -> run_file.Group:
  """Returns the lengths of the rows that are trained on.

  Args:
    experiment: what is trained.
    rows: to train on.
    size: whose lengths are one of the choices.
  """
  units = inspection.units(experiment, rows)
  (cut, *others) = inspection.cuts(experiment, rows, size.lengths)
  longest = [
    _rounded(max(each.longest[side] for each in (cut, *others)))
    for side in (0, 1)
  ]
  most = max(inspection.ROW_LENGTHS)
  if units is None or not size.pack:
    shape = (min(longest[0], most), min(longest[1], most))
    return run_file.Group(
      f'The longest example has {longest[0]} input and {longest[1]} target'
      ' tokens.',
      {'TASK_FEATURE_LENGTHS': _lengths(shape)},
    )
  given = (size.lengths['inputs'], size.lengths['targets'])
  best = row_shapes.recommended(
    [
      row_shapes.fill(units, given),
      *(row_shapes.best(units, each) for each in inspection.ROW_LENGTHS),
    ]
  )
  needed = (
    max(best.row_shape[0], min(longest[0], most)),
    max(best.row_shape[1], min(longest[1], most)),
  )
  if needed != best.row_shape:
    best = row_shapes.fill(units, needed)
  reason = 'No token is cut'
  if longest[0] > best.row_shape[0] or longest[1] > best.row_shape[1]:
    reason = (
      f'The longest example has {longest[0]} input and {longest[1]} target'
      ' tokens, and is cut'
    )
  filled = f'{100 * best.encoder:.0f}% and {100 * best.decoder:.0f}%'
  return run_file.Group(
    f'{reason}; packed rows of this shape are {filled} full.',
    {'TASK_FEATURE_LENGTHS': _lengths(best.row_shape)},
  )


def _rounded(tokens: int) -> int:
  return max(_POSITIONS, -(-tokens // _POSITIONS) * _POSITIONS)


def _lengths(shape: tuple[int, int]) -> dict[str, int]:
  return {'inputs': shape[0], 'targets': shape[1]}


def label_rows(
  experiment: experiment_lib.Experiment, rows: list[records.Record]
) -> int:
  """Returns how many rows have something to learn for the label task.

  Args:
    experiment: what is trained.
    rows: to train on.
  """
  return sum(
    all(getattr(row, column) for column in experiment.label_needs)
    for row in rows
  )


def steps_of(rows: int, size: Size) -> run_file.Group:
  """Returns steps and periods for so many rows.

  Args:
    rows: with something to learn.
    size: what holds without them.
  """
  labels = size.labels_per_step or 1
  epoch = max(rows, 1) / labels
  most = max(size.steps, _LEAST_PASSES * epoch)
  least = _LEAST_STEPS * size.steps
  steps = _two_digits(min(max(_PASSES * epoch, least), most))
  return run_file.Group(
    f'{steps / epoch:.3g} passes over {rows:,} rows, {labels} a step.',
    {'TRAIN_STEPS': steps} | periods_of(steps, size),
  )


def periods_of(steps: int, size: Size) -> dict[str, int]:
  """Returns the periods that keep their part of the steps.

  Args:
    steps: of the run.
    size: whose periods belong to its own steps.
  """
  return {
    name: _part(period, steps, size.steps)
    for name, period in size.periods.items()
  }


def _part(period: int, steps: int, of: int) -> int:
  # 0 means never, or none.
  return max(1, math.floor(period * steps / of)) if period else 0


def _two_digits(value: float) -> int:
  """Returns a whole number near a value, with two digits before its zeros."""
  number = max(1, round(value))
  unit = 10 ** max(0, len(str(number)) - 2)
  return max(1, round(number / unit)) * unit


def classes_of(
  experiment: experiment_lib.Experiment,
  rows: Mapping[str, Sequence[records.Record]],
) -> list[str] | None:
  """Returns the labels of all rows if they are few; None otherwise.

  Args:
    experiment: what is trained.
    rows: by split.
  """
  if experiment.by_value or experiment.classes:
    return None
  found = {
    label
    for split in rows.values()
    for row in split
    for label in (row.label, row.teacher_label)
    if label
  }
  count = len(rows['train'])
  if not 1 < len(found) <= min(_MOST_CLASSES, count // _ROWS_OF_CLASS):
    return None
  numbers = {label.casefold() for label in found}
  return sorted(found) if len(numbers) == len(found) else None
