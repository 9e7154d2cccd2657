"""A study's summary as Markdown, and its results as a table of values."""

import csv
import io
from collections.abc import Sequence

from dss_jax import neutral
from dss_jax.study import results
from dss_jax.study.report import cells, comparison, findings

_COLUMNS = (
  'trained on',
  'method',
  'seeds',
  'last step',
  'best on validation',
  'best on test¹',
  'difference²',
  '95% interval',
  'p',
  'p, corrected³',
)
_WITHOUT_DIFFERENCE = _COLUMNS.index('difference²')
_FOOTNOTES = (
  '¹ The step is chosen by the very questions that it is measured with, so this'
  ' is not comparable with the other columns, nor with results elsewhere that'
  ' are not chosen like that.',
  '² In percentage points, at the last step, over the seeds that both have and'
  ' the same questions. Interval and p are from a bootstrap over seeds and'
  ' questions.',
  '³ By Holm’s rule, for all comparisons of this table together.',
)


def columns(table: cells.Table) -> tuple[str, ...]:
  """Returns the heads of the table; one arm alone has no difference."""
  return _COLUMNS if len(table.arms) > 1 else _COLUMNS[:_WITHOUT_DIFFERENCE]


def footnotes(table: cells.Table) -> tuple[str, ...]:
  """Returns what the small numbers of `columns` stand for."""
  return _FOOTNOTES if len(table.arms) > 1 else _FOOTNOTES[:1]


def caption(table: cells.Table) -> str:
  """Returns what the numbers of the table are."""
  text = (
    'Accuracy of labels on test in percent: mean ± standard error over seeds;'
    ' of a single seed, the 95% interval for its questions alone.'
  )
  if len(table.arms) > 1:
    text += f' Differences are to {table.name(table.first)}.'
  return text


def cells_of(table: cells.Table, row: comparison.Row) -> list[str]:
  """Returns a row's texts, in the order of `columns`."""
  found = row.difference
  last = comparison.with_error(row.last)
  if row.interval:
    last += ' ({:.1f} to {:.1f})'.format(*row.interval)
  texts = [
    table.place_with_rows(row.cell),
    table.name(row.arm),
    str(len(row.seeds)),
    last,
    comparison.with_error(row.validated),
    comparison.with_error(row.best),
    comparison.signed(found.value) if found else '',
    comparison.interval(found) if found else '',
    comparison.p_value(found.p) if found else '',
    comparison.p_value(row.corrected),
  ]
  return texts[: len(columns(table))]


def title(table: cells.Table) -> str:
  """Returns what a study is about."""
  sets = dict.fromkeys(f'{c.data_set} ({c.data})' for c in table.cells)
  return ', '.join(sets) or 'no finished run yet'


def state(table: cells.Table, planned: int | None) -> str:
  """Returns how far a study is.

  Args:
    table: its finished runs.
    planned: number of all its runs; None if nobody has said.
  """
  done = sum(map(len, table.runs.values()))
  if planned is not None and done < planned:
    return f'{done} of {planned} runs are finished.'
  return f'{done} run{"" if done == 1 else "s"} finished.'


def markdown(
  table: cells.Table,
  rows: Sequence[comparison.Row],
  pictures: Sequence[str],
  planned: int | None = None,
) -> str:
  """Returns the summary.

  Args:
    table: the study's runs.
    rows: from `comparison.compare`.
    pictures: names of image files beside it.
    planned: as in `state`.
  """
  parts = [
    f'# Study: {_escaped(title(table))}',
    state(table, planned),
  ]
  if not rows:
    return '\n\n'.join(parts) + '\n'
  said = findings.sentences(table, rows)
  parts += [_escaped(text) for text in said]
  parts += [f'**{_escaped(note)}**' for note in findings.notes(table)]
  parts += [
    _escaped(caption(table)),
    _markdown_table(columns(table), [cells_of(table, row) for row in rows]),
    '\n'.join(f'{note}\\' for note in footnotes(table)).removesuffix('\\'),
  ]
  parts += [f'![{name.partition(".")[0]}]({name})' for name in pictures]
  if len(table.arms) > 1:
    parts += [
      '## What differs between the methods',
      _markdown_table(
        ('', *(table.name(arm) for arm in table.arms)),
        [[name, *texts] for name, texts in findings.what_differs(table)],
      ),
    ]
  return '\n\n'.join(parts) + '\n'


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  lines = [head, ['--'] * len(head), *rows]
  return '\n'.join(
    '| ' + ' | '.join(map(_escaped, line)) + ' |' for line in lines
  )


def _escaped(text: str) -> str:
  """Returns text without what Markdown or a table would read as its own."""
  for mark in '\\`*_[]<>|':
    text = text.replace(mark, f'\\{mark}')
  return ' '.join(text.split())


def csv_text(found: Sequence[results.RunResult]) -> str:
  """Returns a line for each run, with a head line.

  Args:
    found: the results, in their order.
  """
  lines = [_flat(run) for run in found]
  names = list(dict.fromkeys(name for line in lines for name in line))
  buffer = io.StringIO()
  writer = csv.DictWriter(buffer, names, lineterminator='\n')
  # A spreadsheet reads some texts as formulas.
  writer.writerow({name: neutral.cell(name) for name in names})
  for line in lines:
    writer.writerow({k: neutral.cell(value) for k, value in line.items()})
  return buffer.getvalue()


def _flat(run: results.RunResult) -> dict[str, object]:
  """Returns a run's values by the name of their column."""
  spec = run.spec
  row: dict[str, object] = {
    'name': spec.name,
    'data_set': spec.data_set,
    'data': spec.data,
    'method': spec.method,
    'labels': spec.labels,
    'teacher': spec.teacher,
    'alpha': spec.alpha,
    'size': spec.size,
    'fraction': spec.fraction,
    'seed': spec.seed,
    'train_rows': spec.train_rows,
    'label_examples': spec.label_examples,
    'steps': spec.steps,
  }
  if spec.kinds:
    row['kinds'] = spec.kinds
  for split, accuracy in run.last.accuracy.items():
    row[f'{split}_accuracy'] = accuracy
    row[f'{split}_questions'] = run.rows.get(split)
    row[f'{split}_low'], row[f'{split}_high'] = run.last.interval[split]
  best = run.best_validation
  row |= {
    'best_validation_step': best and best.step,
    'test_accuracy_at_best_validation': best and best.accuracy['test'],
    'best_test_step': run.best_test.step,
    'best_test_accuracy_not_comparable': run.best_test.accuracy['test'],
  }
  row |= {
    f'teacher_{split}_accuracy': accuracy
    for split, accuracy in spec.teacher_accuracy.items()
  }
  row |= {'parameters': run.parameters, 'seconds': run.seconds}
  row |= {'device': run.device, 'commit': run.commit}
  row |= {f'version_{name}': text for name, text in run.versions.items()}
  return row | dict(run.settings)
