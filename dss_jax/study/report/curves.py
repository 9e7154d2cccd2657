"""Curves of each run: loss of labels on train, and accuracy on validation."""

import pathlib

from dss_jax.report import line_charts, run_files
from dss_jax.study import results
from dss_jax.study.report import cells

_LOSS = 'loss of labels on train'
_ACCURACY = 'accuracy on validation, %'


def collect(
  out_dir: pathlib.Path, table: cells.Table, cell: cells.Cell
) -> dict[str, list[line_charts.Curve]]:
  """Returns the curves of a cell's runs by what they show.

  Args:
    out_dir: the study's folder. Runs whose folder is gone have no curve.
    table: the study's runs.
    cell: which of them.
  """
  found: dict[str, list[line_charts.Curve]] = {_LOSS: [], _ACCURACY: []}
  for number, arm in enumerate(table.arms):
    for run in table.at(cell, arm):
      folder = out_dir / results.RUNS / run.spec.name
      for what, points in (
        (_LOSS, _losses(folder)),
        (_ACCURACY, _accuracies(folder)),
      ):
        if points:
          found[what].append(
            line_charts.Curve(
              run.spec.name, number, line_charts.thinned(points)
            )
          )
  return {what: lines for what, lines in found.items() if lines}


def _losses(folder: pathlib.Path) -> dict[int, float]:
  path = folder / 'train' / 'metrics.jsonl'
  if not path.exists():
    return {}
  found = {}
  for row in run_files.read_lines(path):
    value = row.get('label_loss', row.get('loss'))
    if isinstance(value, int | float):
      found[row['step']] = float(value)
  return found


def _accuracies(folder: pathlib.Path) -> dict[int, float]:
  return {
    found.step: found.accuracy['validation']
    for found in run_files.evaluations(folder)
    if 'validation' in found.accuracy
  }
