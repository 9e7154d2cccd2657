"""The comparison that a study makes, in numbers."""

import dataclasses
from collections.abc import Sequence

from dss_jax.study import results
from dss_jax.study.report import answers, cells, statistics


@dataclasses.dataclass(frozen=True)
class Row:
  """An arm in a cell: accuracies on test in percent, and the comparison.

  Attributes:
    cell: where.
    arm: what.
    seeds: those that are finished.
    last: at the last step.
    validated: at the step that is best on validation; None without that split.
    best: at the step that is best on test, so not comparable with the others.
    difference: to the first arm; None for that itself, and without common runs.
    corrected: p by Holm's rule over all comparisons of the study.
    interval: of a single seed at the last step, for its questions alone; None
      for several seeds.
  """

  cell: cells.Cell
  arm: cells.Arm
  seeds: tuple[int, ...]
  last: statistics.Mean
  validated: statistics.Mean | None
  best: statistics.Mean
  difference: statistics.Difference | None = None
  corrected: float | None = None
  interval: Sequence[float] | None = None


def compare(marks: answers.Marks, table: cells.Table) -> list[Row]:
  """Returns a row for each arm that has results in a cell.

  Args:
    marks: which questions each run has right.
    table: its runs.

  Raises:
    DataError: two runs have answered different questions.
  """
  rows = []
  for cell in table.cells:
    for arm in table.arms:
      if table.at(cell, arm):
        rows.append(_row(marks, table, cell, arm))
  tested = [
    (n, row.difference.p)
    for n, row in enumerate(rows)
    if row.difference and row.difference.p is not None
  ]
  corrected = statistics.holm([p for _, p in tested])
  for (n, _), p in zip(tested, corrected, strict=True):
    rows[n] = dataclasses.replace(rows[n], corrected=p)
  return rows


def _row(
  marks: answers.Marks, table: cells.Table, cell: cells.Cell, arm: cells.Arm
) -> Row:
  runs = table.at(cell, arm)
  validated = [r.best_validation for r in runs if r.best_validation]
  return Row(
    cell=cell,
    arm=arm,
    seeds=tuple(run.spec.seed for run in runs),
    last=statistics.mean([r.last.accuracy['test'] for r in runs]),
    validated=statistics.mean([v.accuracy['test'] for v in validated])
    if validated
    else None,
    best=statistics.mean([r.best_test.accuracy['test'] for r in runs]),
    difference=None
    if arm == table.first
    else _difference(marks, table.at(cell, table.first), runs),
    interval=runs[0].last.interval['test'] if len(runs) == 1 else None,
  )


def _difference(
  marks: answers.Marks,
  first: Sequence[results.RunResult],
  other: Sequence[results.RunResult],
) -> statistics.Difference | None:
  """Compares runs of the same seeds; None if there are none."""
  there = [
    {run.spec.seed: run for run in runs if marks.there(run)}
    for runs in (first, other)
  ]
  seeds = [seed for seed in there[0] if seed in there[1]]
  if not seeds:
    return None
  pairs = [runs[seed] for runs in there for seed in seeds]
  right = marks.of(pairs)
  return statistics.difference(right[: len(seeds)], right[len(seeds) :])


def signed(value: float) -> str:
  """Returns a number with its sign and a real minus, as `+1.2` or `−0.4`."""
  return f'{value:+.1f}'.replace('-', '−')


def interval(found: statistics.Difference) -> str:
  """Returns `−0.4 to +1.2`, or '' if there is none."""
  if found.low is None or found.high is None:
    return ''
  return f'{signed(found.low)} to {signed(found.high)}'


def with_error(found: statistics.Mean | None) -> str:
  """Returns `72.0 ± 1.2`, without the error for one seed, '' for None."""
  if found is None:
    return ''
  error = '' if found.error is None else f' ± {found.error:.1f}'
  return f'{found.value:.1f}{error}'


def p_value(p: float | None) -> str:
  """Returns three decimals, `<0.001` below that, '' for None."""
  if p is None:
    return ''
  return '<0.001' if p < 0.001 else f'{p:.3f}'
