"""The file that says what a run trains on: `training_data.json` in its folder.

The run itself writes it, so that a report needs neither the data nor the time
to tokenize it again.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax import errors

FILE = 'training_data.json'


@dataclasses.dataclass(frozen=True)
class TaskRows:
  """The rows of a task to train on.

  Attributes:
    task: its name.
    drawn: number of rows of the part that is trained on.
    used: how many of them the task takes.
    needs: what a row must have, such as 'rationale'; others are left out.
    without_rationale: used rows without the teacher's rationale.
    teacher_right: used rows whose teacher's label is the gold label; None where
      the teacher gave no labels.
    cut_inputs: of `counted` examples, those that lose the end of their input.
    cut_targets: likewise of their target.
    counted: examples whose lengths were looked at; 0 where nothing is cut.
    longest: the longest input and target, in tokens.
    without: of several kinds of rationales in one task, how many used rows lack
      each.
  """

  task: str
  drawn: int
  used: int
  needs: Sequence[str] = ()
  without_rationale: int = 0
  teacher_right: int | None = None
  cut_inputs: int = 0
  cut_targets: int = 0
  counted: int = 0
  longest: Sequence[int] = (0, 0)
  without: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TrainingData:
  """What a run trains on.

  Attributes:
    data_set: such as 'cqa'.
    place: 'sample', 'release', or where the rows are.
    rows: number of rows by split.
    tasks: what is trained on.
    lengths: of inputs and targets, to which examples are cut; empty for none.
    step: what a step holds: `labels`, `rows`, positions of `inputs` and
      `targets` in a row, the filled parts `inputs_fill` and `targets_fill`; and
      `epochs` of the run. Empty where steps count rows.
  """

  data_set: str
  place: str
  rows: dict[str, int]
  tasks: Sequence[TaskRows]
  lengths: dict[str, int]
  step: dict[str, float]


def read(folder: pathlib.Path) -> TrainingData | None:
  """Returns what a run trains on; None if it has not said so.

  Args:
    folder: of the run.

  Raises:
    DataError: the file holds something else.
  """
  path = folder / FILE
  if not path.exists():
    return None
  try:
    row: dict[str, Any] = json.loads(path.read_bytes())
    tasks = [TaskRows(**task) for task in row.pop('tasks')]
    return TrainingData(tasks=tasks, **row)
  except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
    raise errors.DataError(
      f'{path}: expected what the run trains on, as it wrote it ({error!r}).'
    ) from error
