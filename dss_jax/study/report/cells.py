"""Runs of a study, arranged: arms that are compared, and the cells to do it in.

An arm is what may be better or worse: a method with its labels, teacher, kinds
of rationales and α.
A cell is where arms meet: the same data, size of model and part of the rows.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dss_jax.study import results


@dataclasses.dataclass(frozen=True)
class Arm:
  """What is compared; fields are those of `results.Spec`."""

  method: str
  labels: str
  teacher: str | None
  alpha: float | None
  kinds: str = ''


@dataclasses.dataclass(frozen=True)
class Cell:
  """Where it is compared; fields are those of `results.Spec`."""

  data_set: str
  data: str
  size: str
  fraction: float


@dataclasses.dataclass(frozen=True)
class Table:
  """The runs of a study by cell and arm.

  Attributes:
    arms: in the study's order; the others are compared with the first.
    cells: by data and size in the study's order, then by growing fraction.
    runs: those of a cell and an arm, by seed. A study that is not finished
      lacks some.
  """

  arms: tuple[Arm, ...]
  cells: tuple[Cell, ...]
  runs: dict[tuple[Cell, Arm], list[results.RunResult]]

  @property
  def first(self) -> Arm:
    """The arm that others are compared with."""
    return self.arms[0]

  def at(self, cell: Cell, arm: Arm) -> list[results.RunResult]:
    """Returns the runs of an arm in a cell, by seed; empty if it has none."""
    return self.runs.get((cell, arm), [])

  def all_of(self, arm: Arm) -> list[results.RunResult]:
    """Returns all runs of an arm."""
    return [run for cell in self.cells for run in self.at(cell, arm)]

  def name(self, arm: Arm) -> str:
    """Returns what an arm is called: its method, and what tells it apart."""
    same = [other for other in self.arms if other.method == arm.method]
    parts = [arm.method]
    if len({other.labels for other in same}) > 1:
      parts.append(f'{arm.labels} labels')
    if len({other.teacher for other in same}) > 1:
      parts.append(f'by {arm.teacher}')
    if len({other.kinds for other in same}) > 1:
      parts.append(arm.kinds.replace('+', ' + ') or 'one kind')
    if len({other.alpha for other in same}) > 1:
      parts.append(f'α = {arm.alpha:g}')
    return ', '.join(parts)

  def place(self, cell: Cell) -> str:
    """Returns what a cell is called: what is not the same in all of them."""
    parts = []
    if len({(other.data_set, other.data) for other in self.cells}) > 1:
      parts.append(f'{cell.data_set} ({cell.data})')
    if len({other.size for other in self.cells}) > 1:
      parts.append(cell.size)
    parts.append(rows_of(cell))
    return ', '.join(parts)

  def place_with_rows(self, cell: Cell) -> str:
    """Returns `place`, and the number of training rows where it is known."""
    count = self._train_rows(cell)
    return self.place(cell) + ('' if count is None else f' ({count:,})')

  def _train_rows(self, cell: Cell) -> int | None:
    counts = {
      run.spec.train_rows for arm in self.arms for run in self.at(cell, arm)
    }
    return counts.pop() if len(counts) == 1 else None

  def tick(self, cell: Cell) -> str:
    """Returns the name of a fraction for an axis: the rows, where known."""
    count = self._train_rows(cell)
    return f'{cell.fraction:g}' + ('' if count is None else f'\n{count:,}')

  def sizes(self) -> list[str]:
    """Returns the sizes of models, from the fewest parameters on."""
    parameters: dict[str, int] = {}
    for arm in self.arms:
      for run in self.all_of(arm):
        parameters[run.spec.size] = run.parameters
    return sorted(parameters, key=lambda size: parameters[size])

  def teachers(self) -> dict[str, float]:
    """Returns the teachers' own accuracy on test in percent, by name."""
    found: dict[str, float] = {}
    for arm in sorted(self.arms, key=lambda arm: arm.teacher is None):
      for run in self.all_of(arm):
        accuracy = run.spec.teacher_accuracy.get('test')
        # What a method without a teacher knows is of the study's only one.
        if accuracy is not None and (arm.teacher or not found):
          found.setdefault(arm.teacher or 'teacher', accuracy)
    return found


def rows_of(cell: Cell) -> str:
  """Returns what part of the rows is trained on, in words."""
  return 'all rows' if cell.fraction == 1 else f'{cell.fraction:g} of the rows'


def arrange(
  found: Sequence[results.RunResult], methods: Sequence[str] = ()
) -> Table:
  """Arranges the results of a study.

  Args:
    found: the results, in the study's order.
    methods: the study's, in its order; those of the results if there are none.
      The first one that has results is what others are compared with.
  """
  arms: dict[Arm, None] = {}
  cells: dict[Cell, None] = {}
  runs: dict[tuple[Cell, Arm], list[results.RunResult]] = {}
  for run in found:
    arm, cell = (_of(kind, run.spec) for kind in (Arm, Cell))
    arms[arm] = cells[cell] = None
    runs.setdefault((cell, arm), []).append(run)
  for group in runs.values():
    group.sort(key=lambda run: run.spec.seed)
  places = {method: n for n, method in enumerate(methods)}
  groups = {(c.data_set, c.data, c.size): n for n, c in enumerate(cells)}
  return Table(
    tuple(sorted(arms, key=lambda arm: places.get(arm.method, len(places)))),
    tuple(
      sorted(
        cells,
        key=lambda c: (groups[c.data_set, c.data, c.size], c.fraction),
      )
    ),
    runs,
  )


def _of(kind: type, spec: results.Spec) -> Any:
  names = [field.name for field in dataclasses.fields(kind)]
  return kind(**{name: getattr(spec, name) for name in names})
