"""The page on runs, made of what their folders hold."""

import dataclasses
import html
import importlib.util
import os
import pathlib
from collections.abc import Sequence

from dss_jax import errors
from dss_jax.report import (
  answered,
  charts,
  mistakes,
  page,
  runs,
  scores,
  settings,
)
from t5x import files

_NEEDED = ('matplotlib', 'jinja2')
_EXTRA = 'report'
# Of a configuration, and of a name.
_MOST_CONFIG, _MOST_NAME = 100_000, 80


@dataclasses.dataclass(frozen=True)
class Fact:
  """A number at the head of a page.

  Attributes:
    name: of what it is.
    value: the number.
    more: how sure it is, or what it is of.
  """

  name: str
  value: str
  more: str = ''


def require() -> None:
  """Raises a DataError unless what draws and writes a page is installed."""
  missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
  if missing:
    raise errors.DataError(
      f'`dss report` needs {" and ".join(missing)}: expected the extra'
      f" `{_EXTRA}` to be installed. Run pip install 'dss-jax[{_EXTRA}]'."
    )


def write(folders: Sequence[str | os.PathLike[str]], out: pathlib.Path) -> None:
  """Writes the page on runs, at once.

  Args:
    folders: of the runs, finished or not.
    out: the page.

  Raises:
    DataError: a folder is none of a run, or a library is not installed.
  """
  require()
  found = [
    dataclasses.replace(run, name=page.visible(run.name, _MOST_NAME))
    for run in runs.read(folders)
  ]
  text = _html(found)
  out.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(out) as work:
    work.write_text(text)


def _html(found: Sequence[runs.Run]) -> str:
  answers = answered.Answers(found)
  accuracies = scores.accuracies(found, answers)
  confusions = scores.confusions(found)
  classes = list(dict.fromkeys(n for c in confusions for n in _classes(c)))
  several = len(found) > 1
  return page.render(
    __package__,
    'report.html',
    'questions.js',
    title=_title([run.name for run in found]),
    gaps=_gaps(found, answers),
    runs=[
      {
        'number': number,
        'name': run.name,
        'about': page.visible(settings.about(run), 300),
        'state': settings.state(run),
        'folder': page.visible(str(run.folder), 300),
      }
      for number, run in enumerate(found)
    ],
    several=several,
    names=[run.name for run in found],
    facts=[] if several else _facts(found[0], accuracies),
    legend=charts.legend(found),
    colors=charts.colors(),
    accuracies=accuracies,
    axis=_axis(accuracies),
    of_teacher=any(s.measure != 'accuracy' for s in accuracies),
    others=scores.others(found),
    common=mistakes.common(found, answers) if several else [],
    confusions=confusions,
    panels=charts.panels(found),
    mistakes=mistakes.collect(found, answers, classes),
    data=[
      (run.name, _visible_rows(settings.data_rows(run.data)))
      for run in found
      if run.data is not None
    ],
    differs=_visible_table(settings.differences(found)),
    macros=_visible_table(settings.macros(found)),
    configs=[
      (run.name, page.visible(run.config, _MOST_CONFIG))
      for run in found
      if run.config
    ],
    ran=[(run.name, _commands(settings.ran(run))) for run in found],
    environments=[
      (run.name, _visible_rows(settings.environment(run))) for run in found
    ],
    next=_commands(settings.comes_next(found)),
  )


def _title(names: Sequence[str]) -> str:
  if len(names) > 3:
    names = [*names[:2], f'{len(names) - 2} more']
  return ' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))


def _gaps(
  found: Sequence[runs.Run], answers: answered.Answers
) -> list[tuple[str, str]]:
  """Returns what is missing, and of which runs: '' for all of them."""
  names: dict[str, list[str]] = {}
  for run in found:
    for text in (*run.gaps, *answers.gaps[run.name]):
      names.setdefault(page.visible(text, 600), []).append(run.name)
  return [
    ('' if len(of) == len(found) else ', '.join(of), text)
    for text, of in names.items()
  ]


def _classes(confusion: scores.Confusion) -> list[str]:
  return [found.name for found in confusion.classes]


def _facts(run: runs.Run, accuracies: Sequence[scores.Score]) -> list[Fact]:
  """Returns the numbers at the head of a single run's page."""
  facts = []
  for score in accuracies[:2]:
    more = '' if score.count is None else f'{score.count:,} examples'
    if score.low is not None and score.high is not None:
      more = f'{score.low:.1f} to {score.high:.1f}' + (more and f', {more}')
    facts.append(
      Fact(f'{score.measure} on {score.name}', f'{score.value:.1f}%', more)
    )
  if run.step:
    total = f'of {run.total_steps:,}' if run.total_steps else ''
    facts.append(Fact('steps', f'{run.step:,}', total))
  if run.seconds:
    facts.append(Fact('time in steps', _duration(run.seconds)))
  if run.parameters:
    facts.append(Fact('parameters', _large(run.parameters)))
  return facts


def _duration(seconds: float) -> str:
  minutes, hours = round(seconds / 60), seconds / 3600
  if hours >= 2:
    return f'{hours:.1f} h'
  return f'{minutes} min' if minutes >= 2 else f'{seconds:.0f} s'


def _large(count: int) -> str:
  for unit, name in ((10**9, 'B'), (10**6, 'M')):
    if count >= unit:
      return f'{count / unit:.3g} {name}'
  return f'{count:,}'


def _axis(accuracies: Sequence[scores.Score]) -> tuple[int, int]:
  """Returns the ends of the bars of intervals, in percent."""
  lows = [s.value if s.low is None else s.low for s in accuracies]
  low = int(min(lows, default=0) // 10 * 10)
  return (max(0, min(low, 90)), 100)


def _commands(found: Sequence[settings.Command]) -> list[settings.Command]:
  return [settings.Command(c.why, page.visible(c.text, 4000)) for c in found]


def _visible_rows(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
  return [(page.visible(a, 200), page.visible(b, 600)) for a, b in rows]


def _visible_table(
  rows: Sequence[tuple[str, Sequence[str]]],
) -> list[tuple[str, list[str]]]:
  return [
    (page.visible(name, 200), [page.visible(value, 400) for value in values])
    for name, values in rows
  ]


def advice(out: pathlib.Path) -> str:
  """Returns how to open a page.

  Args:
    out: the page.
  """
  return (
    f'{out}: open it in a browser, such as by\n'
    f'  python -m webbrowser {html.unescape(out.absolute().as_uri())}'
  )
