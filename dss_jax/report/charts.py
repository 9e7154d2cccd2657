"""Curves of one run or of several: what each panel shows, and says."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dss_jax.report import drawing, line_charts, page, runs, scores

# Of one run, the places in the legend.
_TRAIN, _VALIDATION, _TEST = range(3)
# A caption names the values of so many runs.
_MOST_NAMED = 6
_MOST_OTHERS = 6
_TOKENS = (
  *('timing/tokens_per_second', 'timing/target_tokens_per_second'),
  'timing/seqs_per_second',
)

Points = dict[int, float]


@dataclasses.dataclass(frozen=True)
class Panel:
  """A chart in a page.

  Attributes:
    title: what it shows.
    caption: what one sees there.
    svg: the picture.
  """

  title: str
  caption: str
  svg: Any


def legend(found: Sequence[runs.Run]) -> list[tuple[str, int]]:
  """Returns the names of a page's colors, with their numbers.

  Args:
    found: the runs; of one run, colors tell its splits apart.
  """
  if len(found) > 1:
    return [(run.name, number) for number, run in enumerate(found)]
  splits = {task.split for task in found[0].tasks}
  names = [('train', _TRAIN)] if found[0].train else []
  if found[0].losses or 'validation' in splits:
    names.append(('validation', _VALIDATION))
  if 'test' in splits:
    names.append(('test', _TEST))
  return names


def panels(found: Sequence[runs.Run]) -> list[Panel]:
  """Returns the charts, those without a line left out.

  Args:
    found: the runs.
  """
  drawer = _Drawer(found)
  drawer.loss('Loss of labels', 'label_loss')
  drawer.loss('Loss of rationales', 'rationale_loss')
  names = [kind.name for run in found for kind in run.kinds if kind.name]
  for name in dict.fromkeys(names):
    drawer.loss(f'Loss of rationales ({name})', f'rationale_loss/{name}')
  if drawer.drawn != 1:  # Of labels alone, it is their loss.
    drawer.loss('Loss' if not drawer.drawn else 'Whole loss', 'loss')
  drawer.accuracy()
  drawer.of_training('Learning rate', ('learning_rate',), _peak)
  drawer.of_training('Tokens per second', _TOKENS, _median)
  drawer.of_training('Norm of gradients', ('grad_norm',), _median)
  drawer.others()
  return drawer.panels


class _Drawer:
  """Draws one panel after the other."""

  def __init__(self, found: Sequence[runs.Run]):
    self._runs = found
    self._several = len(found) > 1
    self.panels: list[Panel] = []

  @property
  def drawn(self) -> int:
    return len(self.panels)

  def loss(self, title: str, key: str) -> None:
    """Draws a loss on train and on validation."""
    curves, said = [], []
    for number, run in enumerate(self._runs):
      train = _points(run.train, key)
      curves += self._curve(run.name, number, _TRAIN, train)
      measured: Points = {}
      for rows in run.losses.values():
        points = _points(rows, key)
        curves += self._curve(run.name, number, _VALIDATION, points, True)
        measured |= points
      if train or measured:
        said.append((run.name, _of_loss(train, measured)))
    self._add(title, curves, said)

  def accuracy(self) -> None:
    """Draws accuracies: of one run all splits together, of several apart."""
    names = {
      task.shown: task.measure.capitalize()
      for run in self._runs
      for task in run.label_tasks()
    }
    if self._several:
      for name, measure in names.items():
        self._accuracy(f'{measure} on {name}, %', [name])
    elif names:
      measure = ', '.join(dict.fromkeys(names.values()))
      self._accuracy(f'{measure}, %', list(names))

  def _accuracy(self, title: str, names: Sequence[str]) -> None:
    curves, said = [], []
    for number, run in enumerate(self._runs):
      parts = []
      for task in run.label_tasks():
        if task.shown not in names:
          continue
        points = _points(task.rows, 'accuracy')
        place = _TEST if task.split == 'test' else _VALIDATION
        found = self._curve(run.name, number, place, points)
        curves += [_with_band(curve, task.rows) for curve in found]
        best = max(points, key=points.__getitem__, default=None)
        if best is not None:
          parts.append(
            _of_accuracy('' if self._several else task.shown, points)
          )
      if parts:
        said.append((run.name, '; '.join(parts)))
    self._add(title, curves, said, ' Shaded: the 95% interval.')

  def others(self) -> None:
    """Draws the further metrics of evaluated predictions."""
    found: dict[tuple[str, str], list[tuple[int, runs.Task, Points]]] = {}
    for number, run in enumerate(self._runs):
      for task in run.tasks:
        of = run.kind_of(task) if task.is_rationale else task.shown
        if self._several and task.is_rationale:
          of = f'{of}, {task.shown}'
        for key in task.last:
          points = _points(task.rows, key)
          if scores.is_other(key) and len(points) > 1:
            found.setdefault((of, key), []).append((number, task, points))
    for (of, key), lines in list(found.items())[:_MOST_OTHERS]:
      curves, said = [], []
      for number, task, points in lines:
        place = _TEST if task.split == 'test' else _VALIDATION
        name = self._runs[number].name
        curves += self._curve(name, number, place, points)
        end = _number(points[max(points)])
        said.append(
          (name, end if self._several else f'{task.shown} ends at {end}')
        )
      self._add(f'{scores.name_of(key)} of {of}', curves, said)

  def of_training(
    self,
    title: str,
    keys: Sequence[str],
    say: Callable[[Points], str],
  ) -> None:
    """Draws a metric of the training steps, the first one that there is."""
    curves, said = [], []
    for number, run in enumerate(self._runs):
      points = next(filter(None, (_points(run.train, k) for k in keys)), {})
      if points:
        curves += self._curve(run.name, number, _TRAIN, points)
        said.append((run.name, say(points)))
    self._add(title, curves, said)

  def _curve(
    self,
    name: str,
    number: int,
    place: int,
    points: Points,
    dashed: bool = False,
  ) -> list[line_charts.Curve]:
    if not points:
      return []
    thinned = line_charts.thinned(points)
    if self._several:
      shown = page.visible(name, 60)
      return [line_charts.Curve(shown, number, thinned, dashed)]
    split = ('train', 'validation', 'test')[place]
    return [line_charts.Curve(split, place, thinned)]

  def _add(
    self,
    title: str,
    curves: Sequence[line_charts.Curve],
    said: Sequence[tuple[str, str]],
    more: str = '',
  ) -> None:
    if not curves:
      return
    if self._several:
      texts = [f'{name}: {text}' for name, text in said[:_MOST_NAMED]]
      if len(said) > _MOST_NAMED:
        texts.append('…')
      caption = '. '.join(texts) + '.'
      if any(curve.dashed for curve in curves):
        caption += ' Solid: train; dashed: validation.'
    else:
      caption = '; '.join(text for _, text in said)
      caption = f'{caption[:1].upper()}{caption[1:]}.'
    if any(curve.band for curve in curves):
      caption += more
    svg = line_charts.inline(title, curves, f'panel-{self.drawn}', label=False)
    self.panels.append(Panel(title, caption, page.picture(svg)))


def _points(rows: runs.Rows, key: str) -> Points:
  """Returns the finite values of a metric by step."""
  return {
    step: float(row[key])
    for step, row in rows.items()
    if isinstance(row.get(key), int | float) and math.isfinite(row[key])
  }


def _with_band(
  curve: line_charts.Curve, rows: Mapping[int, Mapping[str, Any]]
) -> line_charts.Curve:
  """Adds the intervals, where they were measured at every point."""
  if any('accuracy_low' not in rows[step] for step, _ in curve.points):
    return curve
  ends = [
    (float(rows[step]['accuracy_low']), float(rows[step]['accuracy_high']))
    for step, _ in curve.points
  ]
  return dataclasses.replace(curve, band=tuple(ends))


def _of_loss(train: Points, measured: Points) -> str:
  parts = []
  if train:
    first, last = train[min(train)], train[max(train)]
    way = 'falls' if last < first else 'goes'
    parts.append(f'on train it {way} from {_number(first)} to {_number(last)}')
  if measured:
    best, end = min(measured, key=measured.__getitem__), max(measured)
    where = 'at the end' if best == end else f'at step {best:,}'
    text = f'on validation it is lowest {where}, {_number(measured[best])}'
    if best != end:
      text += f', and {_number(measured[end])} at the end'
    parts.append(text)
  return '; '.join(parts)


def _of_accuracy(name: str, points: Points) -> str:
  best, end = max(points, key=points.__getitem__), max(points)
  text = f'{name} ends at {points[end]:.1f}'.strip()
  if points[best] > points[end]:
    text += f', after {points[best]:.1f} at step {best:,}'
  return text


def _peak(points: Points) -> str:
  best = max(points, key=points.__getitem__)
  return f'highest at step {best:,}, {_number(points[best])}'


def _median(points: Points) -> str:
  return f'median {_number(statistics.median(points.values()))}'


def _number(value: float) -> str:
  return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def colors() -> list[tuple[str, str]]:
  """Returns the colors of a page's lines, in light and in dark."""
  return list(zip(drawing.COLORS, drawing.DARK_COLORS, strict=True))
