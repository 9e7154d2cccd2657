"""The comparison that a study makes, in numbers and in sentences."""

import dataclasses
from collections.abc import Mapping, Sequence

from dss_jax.study import results
from dss_jax.study.report import answers, cells, statistics

_LEVEL = 0.05
# Of a configuration, what the axes of a study set.
_AXES = ('FRACTION', 'RANDOM_SEED')


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
  """

  cell: cells.Cell
  arm: cells.Arm
  seeds: tuple[int, ...]
  last: statistics.Mean
  validated: statistics.Mean | None
  best: statistics.Mean
  difference: statistics.Difference | None = None
  corrected: float | None = None


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


def sentences(table: cells.Table, rows: Sequence[Row]) -> list[str]:
  """Returns what the data show and what not, a sentence for each arm.

  Args:
    table: the study's runs.
    rows: from `compare`.
  """
  return [
    _sentence(table, arm, [row for row in rows if row.arm == arm])
    for arm in table.arms
    if arm != table.first
  ]


def _sentence(table: cells.Table, arm: cells.Arm, rows: Sequence[Row]) -> str:
  shown: dict[str, list[str]] = {
    'is better than': [],
    'is worse than': [],
    'cannot be told from': [],
    'is not tested against': [],
  }
  for row in rows:
    found = row.difference
    if found is None:
      continue
    text = f'{table.place(row.cell)}: {_points(found.value)}'
    if row.corrected is None:
      shown['is not tested against'].append(
        f'{text} with {_seeds(found.seeds)}'
      )
      continue
    text += f', 95% interval {interval(found)}'
    if row.corrected >= _LEVEL:
      shown['cannot be told from'].append(text)
    elif found.value > 0:
      shown['is better than'].append(text)
    else:
      shown['is worse than'].append(text)
  first = table.name(table.first)
  parts = [
    f'{verb} {first} with {"; with ".join(places)}'
    for verb, places in shown.items()
    if places
  ]
  if not parts:
    return f'{table.name(arm)} shares no finished seed with {first} yet.'
  end = ''
  if shown['cannot be told from']:
    end += (
      ' That a difference is not shown does not show that there is none: any'
      ' value in the interval agrees with the data.'
    )
  if shown['is not tested against']:
    end += f' {UNTESTED}'
  return f'{table.name(arm)} {", and ".join(parts)}.{end}'


UNTESTED = (
  f'Below {statistics.FEWEST_SEEDS} common seeds there is no interval and no p,'
  ' since so few do not say how much a result varies from seed to seed.'
)


def _seeds(count: int) -> str:
  return f'{count} common seed{"" if count == 1 else "s"}'


def _points(value: float) -> str:
  return f'{signed(value)} points'


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


def notes(table: cells.Table) -> list[str]:
  """Returns what a reader should know before trusting the comparison.

  Args:
    table: the study's runs.
  """
  found = []
  for cell in table.cells:
    for what, values in _unequal(table, cell):
      found.append(
        f'Not a fair comparison with {table.place(cell)}: {what} differ,'
        f' {values}.'
      )
    seeds = {
      table.name(arm): sorted({run.spec.seed for run in table.at(cell, arm)})
      for arm in table.arms
      if table.at(cell, arm)
    }
    if len(set(map(tuple, seeds.values()))) > 1:
      each = '; '.join(
        f'{k}: {", ".join(map(str, v))}' for k, v in seeds.items()
      )
      found.append(
        f'With {table.place(cell)}, methods have different seeds ({each}):'
        ' differences are of common ones only.'
      )
  runs = [run for arm in table.arms for run in table.all_of(arm)]
  for what, values in (
    ('versions', {_text(run.versions) for run in runs}),
    ('commits', {str(run.commit) for run in runs}),
    ('devices', {run.device for run in runs}),
  ):
    if len(values) > 1:
      found.append(f'Runs have different {what}: {"; ".join(sorted(values))}.')
  return found


def _text(values: Mapping[str, str]) -> str:
  return ', '.join(f'{name} {version}' for name, version in values.items())


def _unequal(table: cells.Table, cell: cells.Cell) -> list[tuple[str, str]]:
  """Returns what must be the same for all arms of a cell and is not."""
  found = []
  for what, name in (
    ('label examples a step', 'label_examples'),
    ('steps', 'steps'),
  ):
    values = {
      table.name(arm): getattr(table.at(cell, arm)[0].spec, name)
      for arm in table.arms
      if table.at(cell, arm)
    }
    if len(set(values.values())) > 1:
      each = ', '.join(
        f'{arm} {"in rows" if v is None else v}' for arm, v in values.items()
      )
      found.append((what, each))
  return found


def what_differs(table: cells.Table) -> list[tuple[str, list[str]]]:
  """Returns the settings that are not those of every arm, with their values.

  Args:
    table: the study's runs.

  Returns:
    Names, each with a text for each arm. Label examples a step and steps come
    first, whether they differ or not.
  """
  of_arm = [table.all_of(arm) for arm in table.arms]
  found = [
    ('label examples a step', [_values(runs, _examples) for runs in of_arm]),
    ('steps', [_values(runs, lambda run: run.spec.steps) for runs in of_arm]),
  ]
  names = sorted({n for runs in of_arm for run in runs for n in run.settings})
  for name in names:
    texts = [
      _values(runs, lambda run, name=name: run.settings.get(name, '—'))
      for runs in of_arm
    ]
    if name not in _AXES and len(set(texts)) > 1:
      found.append((name, texts))
  return found


def _examples(run: results.RunResult) -> str:
  count = run.spec.label_examples
  return 'counted in rows' if count is None else str(count)


def _values(runs: Sequence[results.RunResult], get) -> str:
  return ', '.join(dict.fromkeys(str(get(run)).strip('\'"') for run in runs))
