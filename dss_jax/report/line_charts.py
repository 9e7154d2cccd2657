"""Line charts of runs: values by step, as pictures for a page."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dss_jax.report import drawing

_MOST_POINTS = 120


@dataclasses.dataclass(frozen=True)
class Curve:
  """A line of one run.

  Attributes:
    run: its name.
    arm: the place in the page's legend, which gives the color.
    points: step and value, by growing step.
    dashed: whether it is the second of two lines with that color.
    band: lower and upper end around each point; none without a point.
  """

  run: str
  arm: int
  points: tuple[tuple[int, float], ...]
  dashed: bool = False
  band: tuple[tuple[float, float], ...] = ()


def thinned(points: dict[int, float]) -> tuple[tuple[int, float], ...]:
  """Returns points by step, every so many of them if they are many.

  Args:
    points: value by step.
  """
  stride = -(-len(points) // _MOST_POINTS)
  ordered = sorted(points.items())
  # The last one stays.
  return tuple(ordered[::-1][::stride][::-1])


def _fit_steps(axes: Any, steps: Sequence[int]) -> None:
  """Begins the axis at 0, unless the run began at a checkpoint's step."""
  first, last = min(steps), max(steps)
  # Around a single evaluation, Matplotlib would show steps that never were.
  if last and (first == last or 2 * first <= last):
    axes.set_xlim(0, 1.03 * last)


def inline(
  what: str, curves: Sequence[Curve], salt: str, label: bool = True
) -> str:
  """Returns curves as an `<svg>` for a page, which has the legend.

  Args:
    what: the values are.
    curves: of runs.
    salt: as in `drawing.style`.
    label: whether the axis says so, too.
  """
  with drawing.style(salt):
    figure = drawing.new_figure(1, 1)
    axes = figure.subplots()
    for curve in curves:
      x, y = zip(*curve.points, strict=True)
      style = drawing.styled(curve.arm)
      if curve.dashed:
        style['linestyle'] = (0, (4, 2))
      if curve.band:
        low, high = zip(*curve.band, strict=True)
        if len(x) > 1:
          axes.fill_between(
            x, low, high, color=style['color'], alpha=0.14, linewidth=0
          )
        else:
          axes.vlines(x, low, high, color=style['color'], linewidth=1.2)
      axes.plot(
        x,
        y,
        gid=f'run:{curve.run}',
        marker='' if len(x) > 1 else 'o',
        linewidth=1.4,
        **style,
      )
    drawing.count_ticks(axes)
    _fit_steps(axes, [step for curve in curves for step, _ in curve.points])
    axes.set_xlabel('step')
    if label:
      axes.set_ylabel(what)
    ends = ', '.join(f'{c.run} {c.points[-1][1]:.3g}' for c in curves)
    return drawing.to_page(figure, f'{what} by step; at the end {ends}')
