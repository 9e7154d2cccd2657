"""A study that is planned: its runs, checked to be comparable."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Sequence

from dss_jax import errors
from dss_jax.study import configuration as configuration_lib
from dss_jax.study import experiments, results
from dss_jax.study import grid as grid_lib
from dss_jax.study.running import execution, run_folder

# Methods whose rows hold the same, where steps are counted in rows.
_SAME_ROWS = (('finetune', 'distill'), ('dss', 'shuffled'), ('single_task',))


@dataclasses.dataclass(frozen=True)
class Run:
  """A run of a study.

  Attributes:
    spec: what it is, as results have it.
    command: what it is started with.
    configuration: what that comes to.
  """

  spec: results.Spec
  command: configuration_lib.Command
  configuration: configuration_lib.Configuration

  @property
  def name(self) -> str:
    """The run's name."""
    return self.spec.name

  def job(self, out: pathlib.Path) -> execution.Job:
    """Returns a start of it.

    Args:
      out: the study's folder.
    """
    folder = run_folder.RunFolder(out, self.name).path
    return execution.Job(
      name=self.name,
      out=str(out),
      flags=tuple(self.command.flags(str(folder))),
      folder=os.getcwd(),
    )

  @property
  def epochs(self) -> float | None:
    """How often it reads each of its rows; None if steps are rows."""
    if self.spec.label_examples is None or not self.spec.train_rows:
      return None
    return self.spec.steps * self.spec.label_examples / self.spec.train_rows


def runs(grid: grid_lib.Grid) -> list[Run]:
  """Returns the runs of a grid, with what their configurations come to.

  Args:
    grid: what is asked for.

  Raises:
    DataError: an option is refused, or the runs are not comparable.
  """
  source = experiments.find(grid.experiment, grid.gin_file)
  points = grid.points
  commands = [
    configuration_lib.Command(
      name=point.name,
      gin_files=tuple(_gin_files(grid, source, point)),
      bindings=dict(source.bindings) | grid.bindings(point),
    )
    for point in points
  ]
  found = [
    Run(_spec(source, point, resolved), command, resolved)
    for point, command, resolved in zip(
      points, commands, configuration_lib.resolve(commands), strict=True
    )
  ]
  check_comparable(found)
  return found


def _gin_files(
  grid: grid_lib.Grid, source: experiments.Source, point: grid_lib.Point
) -> list[str]:
  """Returns a run's gin files: experiment, size, and those of the user."""
  size = [] if point.size is None else [f'gin/sizes/{point.size}.gin']
  return [*source.gin_files, *size, *grid.gin_file]


def _spec(
  source: experiments.Source,
  point: grid_lib.Point,
  resolved: configuration_lib.Configuration,
) -> results.Spec:
  return results.Spec(
    name=point.name,
    data_set=resolved.data_set,
    data=resolved.data,
    method=point.method,
    labels=resolved.labels,
    teacher=resolved.teacher,
    alpha=resolved.alpha,
    size=point.size or source.size,
    fraction=resolved.fraction,
    seed=resolved.seed,
    steps=resolved.steps,
    label_examples=resolved.label_examples,
    train_rows=resolved.train_rows,
    teacher_accuracy=resolved.teacher_accuracy,
    by_value=resolved.by_value,
    kinds=resolved.kinds,
  )


def check_comparable(found: Sequence[Run]) -> None:
  """Refuses to compare runs that learn from more than others do.

  At each size, all runs must do the same number of steps, with the same number
  of label examples in each.

  Args:
    found: the runs of a study.

  Raises:
    DataError: two of them differ; the message names both.
  """
  first: dict[str, Run] = {}
  for run in found:
    other = first.setdefault(run.spec.size, run)
    for what, mine, its in (
      ('steps (TRAIN_STEPS)', run.spec.steps, other.spec.steps),
      (
        'label examples a step (LABELS_PER_STEP)',
        run.spec.label_examples,
        other.spec.label_examples,
      ),
      (
        'rows a step (BATCH_SIZE)',
        run.configuration.batch_rows,
        other.configuration.batch_rows,
      ),
    ):
      if mine != its:
        raise errors.DataError(
          f'{other.name} and {run.name} are not comparable: expected as many'
          f' {what} for both, found {its} and {mine}. Give both the same, with'
          ' --steps, --set or a --gin_file.'
        )
    if run.spec.label_examples is None and _rows_differ(run, other):
      raise errors.DataError(
        f'{other.name} and {run.name} are not comparable: both count a step in'
        f' rows (BATCH_SIZE = {run.configuration.batch_rows}), and a row of'
        f' {other.spec.method} holds another number of label examples than one'
        f' of {run.spec.method}. Count in label examples: leave BATCH_SIZE'
        ' out, and give LABELS_PER_STEP.'
      )


def _rows_differ(run: Run, other: Run) -> bool:
  kinds = {
    next(n for n, kind in enumerate(_SAME_ROWS) if r.spec.method in kind)
    for r in (run, other)
  }
  return len(kinds) > 1


def check_folders(out: pathlib.Path, found: Iterable[Run]) -> None:
  """Refuses folders that hold runs of another configuration.

  Args:
    out: the study's folder.
    found: its runs.

  Raises:
    DataError: a folder's run was made with other settings or on other data.
  """
  for run in found:
    run_folder.RunFolder(out, run.name).check(
      run.configuration.text, run.configuration.mixture
    )
