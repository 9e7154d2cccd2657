"""The two figures of a study: accuracy against rows, and against model size.

A facet is one pair of axes: the same data and size (or the same rows) for all
of its lines. In a file they stand side by side, in a page each is a picture of
its own, so that a narrow screen shows them below each other.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dss_jax.report import drawing
from dss_jax.study.report import cells, comparison
from t5x import files

if TYPE_CHECKING:
  from matplotlib import axes as axes_lib
  from matplotlib import figure as figure_lib

_PER_LINE = 3


@dataclasses.dataclass(frozen=True)
class Line:
  """An arm's line in a facet.

  Attributes:
    name: of the arm.
    number: its place among the arms, which gives color and marker.
    points: x, mean and standard error (0 for one seed), by growing x.
  """

  name: str
  number: int
  points: tuple[tuple[float, float, float], ...]


@dataclasses.dataclass(frozen=True)
class Facet:
  """One pair of axes.

  Attributes:
    title: what all of it has in common; '' where there is one facet.
    ticks: labels by x.
    lines: of the arms.
    teachers: accuracy by name, in percent.
    x_label: what x is.
    y_range: ends of the vertical axis, the same for facets that are compared.
  """

  title: str
  ticks: dict[float, str]
  lines: tuple[Line, ...]
  teachers: dict[str, float]
  x_label: str
  y_range: tuple[float, float]


def by_fraction(
  table: cells.Table, rows: Sequence[comparison.Row]
) -> list[Facet]:
  """Returns a facet for each size of model, against the part of the rows."""
  groups = dict.fromkeys((c.data_set, c.data, c.size) for c in table.cells)
  facets = []
  for group in groups:
    mine = [c for c in table.cells if (c.data_set, c.data, c.size) == group]
    facets.append(
      Facet(
        y_range=_y_range(table, rows),
        title=_title(table, mine[0], cells_size=True)
        if len(groups) > 1
        else '',
        ticks={c.fraction: table.tick(c) for c in mine},
        lines=_lines(table, rows, {c: c.fraction for c in mine}),
        teachers=table.teachers(),
        x_label='part of the training rows, and their number'
        if any('\n' in table.tick(c) for c in mine)
        else 'part of the training rows',
      )
    )
  return facets


def by_size(table: cells.Table, rows: Sequence[comparison.Row]) -> list[Facet]:
  """Returns a facet for each part of the rows that has several sizes."""
  sizes = table.sizes()
  groups = dict.fromkeys((c.data_set, c.data, c.fraction) for c in table.cells)
  facets = []
  for group in groups:
    mine = [c for c in table.cells if (c.data_set, c.data, c.fraction) == group]
    if len(mine) > 1:
      facets.append(
        Facet(
          y_range=_y_range(table, rows),
          title=_title(table, mine[0], cells_size=False),
          ticks={float(sizes.index(c.size)): c.size for c in mine},
          lines=_lines(
            table, rows, {c: float(sizes.index(c.size)) for c in mine}
          ),
          teachers=table.teachers(),
          x_label='size of the model',
        )
      )
  return facets


def _title(table: cells.Table, cell: cells.Cell, cells_size: bool) -> str:
  several = len({(c.data_set, c.data) for c in table.cells}) > 1
  parts = [cell.data_set] if several else []
  parts.append(cell.size if cells_size else cells.rows_of(cell))
  return ', '.join(parts)


def _y_range(
  table: cells.Table, rows: Sequence[comparison.Row]
) -> tuple[float, float]:
  """Returns ends that leave room around all accuracies."""
  values = [row.last.value for row in rows] + list(table.teachers().values())
  errors = [row.last.error or 0.0 for row in rows]
  low, high = min(values) - max(errors), max(values) + max(errors)
  room = max(0.08 * (high - low), 1.0)
  # Above, there is a text on the teacher's line.
  return low - room, high + 2 * room


def _lines(
  table: cells.Table,
  rows: Sequence[comparison.Row],
  places: dict[cells.Cell, float],
) -> tuple[Line, ...]:
  lines = []
  for number, arm in enumerate(table.arms):
    points = sorted(
      (places[row.cell], row.last.value, row.last.error or 0.0)
      for row in rows
      if row.arm == arm and row.cell in places
    )
    if points:
      lines.append(Line(table.name(arm), number, tuple(points)))
  return tuple(lines)


def write(path: pathlib.Path, facets: Sequence[Facet]) -> None:
  """Draws facets into one PNG and one SVG file, each replaced at once.

  Args:
    path: of both, without an ending.
    facets: at least one.
  """
  with drawing.style(path.name):
    figure = _figure(facets)
    for kind in ('png', 'svg'):
      with files.replacing(f'{path}.{kind}') as work:
        drawing.save(figure, work, kind)


def inline(facet: Facet, salt: str) -> str:
  """Returns a facet as an `<svg>` for a page, which has the legend.

  Args:
    facet: what to draw.
    salt: makes the picture's ids its own; another one for every picture.
  """
  with drawing.style(salt):
    figure = drawing.new_figure(1, 1)
    draw(figure.subplots(), facet)
    return drawing.to_page(figure, _spoken(facet))


def _spoken(facet: Facet) -> str:
  """Returns the numbers of a facet, for people who do not see it."""
  names = {x: tick.partition('\n')[0] for x, tick in facet.ticks.items()}
  parts = [
    f'{line.name} '
    + ', '.join(f'{y:.1f} at {names[x]}' for x, y, _ in line.points)
    for line in facet.lines
  ]
  parts += [f'teacher {name} {y:.1f}' for name, y in facet.teachers.items()]
  return f'Accuracy on test in percent against {facet.x_label}. ' + '; '.join(
    parts
  )


def draw(axes: 'axes_lib.Axes', facet: Facet) -> None:
  """Draws a facet without a legend."""
  for line in facet.lines:
    x, y, error = zip(*line.points, strict=True)
    style = drawing.styled(line.number)
    marker = drawing.MARKERS[line.number % len(drawing.MARKERS)]
    if len(x) > 1:
      low = [a - b for a, b in zip(y, error, strict=True)]
      high = [a + b for a, b in zip(y, error, strict=True)]
      axes.fill_between(
        x, low, high, color=style['color'], alpha=0.16, linewidth=0
      )
      axes.plot(x, y, marker=marker, label=line.name, **style)
    else:
      axes.errorbar(
        x, y, error, marker=marker, label=line.name, capsize=3, **style
      )
  for name, accuracy in facet.teachers.items():
    axes.axhline(
      accuracy, color=drawing.INK, linewidth=1.1, linestyle=(0, (4, 3))
    )
    axes.annotate(
      f'the teacher itself{"" if name == "teacher" else f" ({name})"}:'
      f' {accuracy:.1f}',
      (0.985, accuracy),
      xycoords=('axes fraction', 'data'),
      xytext=(0, 3),
      textcoords='offset points',
      ha='right',
      fontsize=8.5,
    )
  _scale(axes, facet)
  axes.set_title(facet.title, fontsize=10.5)
  axes.set_xlabel(facet.x_label)
  axes.set_ylabel('accuracy on test, %')
  axes.margins(x=0.08)
  axes.set_ylim(facet.y_range)
  # There may be room above 100%, and no accuracy.
  bottom, top = facet.y_range
  bottom, top = max(bottom, 0.0), min(top, 100.0)
  axes.set_yticks([at for at in axes.get_yticks() if bottom <= at <= top])


def _scale(axes: 'axes_lib.Axes', facet: Facet) -> None:
  """Sets the ticks, of fractions that are far apart on a logarithmic axis."""
  places = sorted(facet.ticks)
  if places[0] > 0 and places[-1] / places[0] >= 4:
    axes.set_xscale('log', base=2)
    axes.minorticks_off()
  axes.set_xticks(places, [facet.ticks[x] for x in places])


def _figure(facets: Sequence[Facet]) -> 'figure_lib.Figure':
  columns = min(len(facets), _PER_LINE)
  rows = -(-len(facets) // columns)
  figure = drawing.new_figure(rows, columns)
  panels = list(figure.subplots(rows, columns, squeeze=False).flat)
  for axes, facet in zip(panels, facets, strict=False):
    draw(axes, facet)
  for axes in panels[len(facets) :]:
    axes.remove()
  lines = {
    line.get_label(): line
    for axes in figure.axes
    for line in axes.get_legend_handles_labels()[0]
  }
  figure.legend(
    list(lines.values()),
    list(map(str, lines)),
    loc='outside lower center',
    ncols=min(len(lines), 3),
    frameon=False,
  )
  return figure
