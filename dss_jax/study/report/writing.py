"""The files of a report, made anew from a study's results."""

import functools
import importlib.util
import itertools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from dss_jax import errors
from dss_jax.report import drawing, line_charts, page
from dss_jax.study import results
from dss_jax.study.report import (
  answers,
  browser,
  cells,
  comparison,
  curves,
  figures,
  findings,
  screen,
  summary,
)
from t5x import files

_NEEDED = ('matplotlib', 'jinja2')


def require() -> None:
  """Raises a DataError unless what draws and writes a report is installed."""
  missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
  if missing:
    raise errors.DataError(
      f'The report of a study needs {" and ".join(missing)}: expected the extra'
      " `study` to be installed. Run pip install 'dss-jax[study]'."
    )


def write(
  out_dir: pathlib.Path,
  methods: Sequence[str] = (),
  planned: int | None = None,
) -> Callable[[], None]:
  """Writes the report on what is finished of a study.

  Args:
    out_dir: the study's folder, with `results.jsonl` and the runs' folders.
      There, each replaced at once when it is complete: `results.csv`,
      `predictions/`, `summary.md`, `accuracy_by_fraction` and, where sizes
      vary, `accuracy_by_size` as PNG and SVG, and `report.html`.
    methods: the study's, in its order; the others are compared with the first.
    planned: number of the study's runs, so that the report can say how many
      are missing.

  Returns:
    A function that shows the results on standard output.

  Raises:
    DataError: a file can't be read, two runs have answered different questions,
      or a library is not installed.
  """
  require()
  found = results.read(out_dir)
  table = cells.arrange(found, methods)
  for run in found:
    answers.prepare(out_dir, run)
  marks = answers.Marks(out_dir)
  rows = comparison.compare(marks, table)
  facets = {
    'accuracy_by_fraction': figures.by_fraction(table, rows),
    'accuracy_by_size': figures.by_size(table, rows),
  }
  facets = {name: some for name, some in facets.items() if some}
  for name, some in facets.items():
    figures.write(out_dir / name, some)
  _replace(out_dir / 'results.csv', summary.csv_text(found))
  pictures = [f'{name}.png' for name in facets]
  text = summary.markdown(table, rows, pictures, planned)
  _replace(out_dir / 'summary.md', text)
  shown = _html(marks, table, rows, facets, planned)
  _replace(out_dir / 'report.html', shown)
  return functools.partial(screen.show, table, rows, planned)


def _replace(path: pathlib.Path, text: str) -> None:
  with files.replacing(path) as work:
    work.write_text(text)


def _html(
  marks: answers.Marks,
  table: cells.Table,
  rows: Sequence[comparison.Row],
  facets: dict[str, list[figures.Facet]],
  planned: int | None,
) -> str:
  """Returns the page."""
  pictures = {
    name: [
      page.picture(figures.inline(facet, f'{name}-{n}'))
      for n, facet in enumerate(some)
    ]
    for name, some in facets.items()
  }
  questions = browser.collect(marks, table)
  return page.render(
    __package__,
    'study.html',
    'questions.js',
    title=summary.title(table),
    state=summary.state(table, planned),
    said=findings.sentences(table, rows) if rows else [],
    notes=findings.notes(table),
    legend=[(table.name(arm), n) for n, arm in enumerate(table.arms)],
    colors=list(zip(drawing.COLORS, drawing.DARK_COLORS, strict=True)),
    pictures=pictures,
    has_teacher=bool(table.teachers()),
    columns=summary.columns(table),
    caption=summary.caption(table),
    rows=[
      (place, [texts[1:] for texts in group])
      for place, group in itertools.groupby(
        (summary.cells_of(table, row) for row in rows),
        key=lambda texts: texts[0],
      )
    ],
    footnotes=summary.footnotes(table),
    differs=[[name, *texts] for name, texts in findings.what_differs(table)]
    if len(table.arms) > 1
    else [],
    curves=_curves(marks.out_dir, table),
    questions=questions,
    versions=_versions(table),
  )


def _curves(
  out_dir: pathlib.Path, table: cells.Table
) -> list[tuple[str, list[Any]]]:
  """Returns pictures of each cell's curves, with the name of the cell."""
  found = []
  for number, cell in enumerate(table.cells):
    drawn = [
      page.picture(line_charts.inline(what, lines, f'curves-{number}-{n}'))
      for n, (what, lines) in enumerate(
        curves.collect(out_dir, table, cell).items()
      )
    ]
    if drawn:
      found.append((table.place_with_rows(cell), drawn))
  return found


def _versions(table: cells.Table) -> list[str]:
  """Returns what the runs were made with and on, each once."""
  runs = [run for arm in table.arms for run in table.all_of(arm)]
  return list(
    dict.fromkeys(
      ', '.join(
        [
          *(f'{name} {version}' for name, version in run.versions.items()),
          f'commit {run.short_commit}',
          run.device,
        ]
      )
      for run in runs
    )
  )
