"""What a terminal shows of a study's results: a table, and what it decides."""

from collections.abc import Sequence

import rich.box
import rich.console
import rich.table
import rich.text

from dss_jax import neutral
from dss_jax.study.report import cells, comparison, findings, summary

# Of the summary's columns, those that fit into 80 columns beside each other.
_SHOWN = {
  'method': 'trained on',
  'seeds': 'seeds',
  'last step': 'accuracy',
  'difference²': 'difference',
  '95% interval': '95% interval',
  'p, corrected³': 'p',
}


def show(
  table: cells.Table,
  rows: Sequence[comparison.Row],
  planned: int | None = None,
  console: rich.console.Console | None = None,
) -> None:
  """Prints what came out.

  Args:
    table: the study's runs.
    rows: from `comparison.compare`; without them, only how many have finished.
    planned: as in `summary.state`.
    console: where to write; None for standard output.
  """
  console = console or neutral.console()
  console.print(rich.text.Text(summary.state(table, planned)))
  if not rows:
    return
  console.print(_table(table, rows))
  lines = [
    summary.caption(table),
    *findings.notes(table),
    *findings.sentences(table, rows),
  ]
  console.print(rich.text.Text('\n\n'.join(lines)), end='\n\n')


def _table(
  table: cells.Table, rows: Sequence[comparison.Row]
) -> rich.table.Table:
  """Returns the table: the arms of each place, below its name."""
  names = summary.columns(table)
  kept = [(names.index(n), head) for n, head in _SHOWN.items() if n in names]
  shown = rich.table.Table(box=rich.box.SIMPLE_HEAD)
  for number, (_, head) in enumerate(kept):
    shown.add_column(
      head, justify='right' if number else 'left', no_wrap=number > 0
    )
  before = None
  for row in rows:
    place, *_ = texts = summary.cells_of(table, row)
    if place != before:
      shown.add_row(rich.text.Text(place))
    before = place
    name, *values = (texts[number] for number, _ in kept)
    shown.add_row(*map(rich.text.Text, (f'  {name}', *values)))
  return shown
