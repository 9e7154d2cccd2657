"""Curves of each run: loss of labels on train, and accuracy on validation."""

import dataclasses
import pathlib
from collections.abc import Sequence

from dss_jax.study import results
from dss_jax.study.report import cells, figures

_MOST_POINTS = 120
_LOSS = 'loss of labels on train'
_ACCURACY = 'accuracy on validation, %'


@dataclasses.dataclass(frozen=True)
class Curve:
  """A line of one run.

  Attributes:
    run: its name.
    arm: the place of its arm.
    points: step and value, by growing step.
  """

  run: str
  arm: int
  points: tuple[tuple[int, float], ...]


def collect(
  out_dir: pathlib.Path, table: cells.Table, cell: cells.Cell
) -> dict[str, list[Curve]]:
  """Returns the curves of a cell's runs by what they show.

  Args:
    out_dir: the study's folder. Runs whose folder is gone have no curve.
    table: the study's runs.
    cell: which of them.
  """
  found: dict[str, list[Curve]] = {_LOSS: [], _ACCURACY: []}
  for number, arm in enumerate(table.arms):
    for run in table.at(cell, arm):
      folder = out_dir / results.RUNS / run.spec.name
      for what, points in (
        (_LOSS, _losses(folder)),
        (_ACCURACY, _accuracies(folder)),
      ):
        if points:
          found[what].append(Curve(run.spec.name, number, _thinned(points)))
  return {what: curves for what, curves in found.items() if curves}


def _losses(folder: pathlib.Path) -> dict[int, float]:
  path = folder / 'train' / 'metrics.jsonl'
  if not path.exists():
    return {}
  found = {}
  for row in results.read_lines(path):
    value = row.get('label_loss', row.get('loss'))
    if isinstance(value, int | float):
      found[row['step']] = float(value)
  return found


def _accuracies(folder: pathlib.Path) -> dict[int, float]:
  return {
    found.step: found.accuracy['validation']
    for found in results.evaluations(folder)
    if 'validation' in found.accuracy
  }


def _thinned(points: dict[int, float]) -> tuple[tuple[int, float], ...]:
  """Returns points by step, every so many of them if they are many."""
  stride = -(-len(points) // _MOST_POINTS)
  ordered = sorted(points.items())
  # The last one stays.
  return tuple(ordered[::-1][::stride][::-1])


def inline(what: str, curves: Sequence[Curve], salt: str) -> str:
  """Returns curves as an `<svg>` for a page, which has the legend.

  Args:
    what: the values are.
    curves: of runs.
    salt: as in `figures.inline`.
  """
  with figures.style(salt):
    figure = figures.new_figure(1, 1)
    axes = figure.subplots()
    for curve in curves:
      x, y = zip(*curve.points, strict=True)
      axes.plot(
        x,
        y,
        gid=f'run:{curve.run}',
        marker='' if len(x) > 1 else 'o',
        linewidth=1.2,
        alpha=0.85,
        **figures.styled(curve.arm),
      )
    axes.set_xlabel('step')
    axes.set_ylabel(what)
    ends = ', '.join(f'{c.run} {c.points[-1][1]:.3g}' for c in curves)
    return figures.to_page(figure, f'{what} by step; at the end {ends}')
