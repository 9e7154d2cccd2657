"""What a study shows and what not, in sentences; and warnings."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from dss_jax.study import results
from dss_jax.study.report import cells, comparison, statistics

# Of the p that is corrected for all comparisons.
_LEVEL = 0.05
# Of a configuration, what the axes of a study set.
_AXES = ('FRACTION', 'RANDOM_SEED')

_UNTESTED = (
  f'Below {statistics.FEWEST_SEEDS} common seeds there is no interval and no p:'
  ' so few do not say how much a result varies from seed to seed.'
)
_UNDECIDED = (
  'Where the data do not decide, that is no evidence of equality: every'
  ' difference in the interval agrees with them.'
)


@dataclasses.dataclass(frozen=True)
class _Found:
  """A difference to the first arm, where it was found, and its corrected p."""

  place: str
  difference: statistics.Difference
  p: float | None

  def __str__(self) -> str:
    found = self.difference
    more = f'{_seeds(found.seeds)}'
    if self.p is not None:
      more = f'95% interval {comparison.interval(found)}'
    value = comparison.signed(found.value)
    return f'with {self.place} ({value} points, {more})'


def sentences(table: cells.Table, rows: Sequence[comparison.Row]) -> list[str]:
  """Returns a sentence on each arm, and one on how they are meant.

  Args:
    table: the study's runs.
    rows: from `comparison.compare`.
  """
  texts, everything = [], []
  for arm in table.arms:
    found = [
      _Found(table.place(row.cell), row.difference, row.corrected)
      for row in rows
      if row.arm == arm and row.difference
    ]
    everything += found
    name, first = table.name(arm), table.name(table.first)
    if found:
      texts.append(_sentence(name, first, found))
    elif arm != table.first:
      texts.append(f'{name} shares no finished seed with {first} yet.')
  return texts + _meaning(everything)


def _sentence(name: str, first: str, found: Sequence[_Found]) -> str:
  """Returns what is known of an arm against the first one."""
  parts = []
  shown = [one for one in found if one.p is not None and one.p < _LEVEL]
  for verb, sign in (('better', 1), ('worse', -1)):
    mine = [str(one) for one in shown if sign * one.difference.value > 0]
    if mine:
      parts.append(f'{name} is {verb} than {first} {_and(mine)}')
  undecided = [one for one in found if one.p is not None and one.p >= _LEVEL]
  if undecided:
    between = '' if shown else f' between {name} and {first}'
    where = _where(undecided, 'any of the' if not parts else 'the other')
    parts.append(f'the data do not decide{between} {where}')
  untested = [one for one in found if one.p is None]
  if untested:
    where = _where(untested, 'the other' if parts else 'the')
    parts.append(f'{name} is not tested against {first} {where}')
  text = '; '.join(parts) + '.'
  return text if text.startswith(name) else text[0].upper() + text[1:]


def _where(found: Sequence[_Found], which: str) -> str:
  """Returns where differences are: one in full, of several the range."""
  if len(found) == 1:
    return str(found[0])
  values = [one.difference.value for one in found]
  low, high = comparison.signed(min(values)), comparison.signed(max(values))
  return f'in {which} {len(found)} comparisons ({low} to {high} points)'


def _and(texts: Sequence[str]) -> str:
  if len(texts) == 1:
    return texts[0]
  return f'{", ".join(texts[:-1])} and {texts[-1]}'


def _meaning(found: Sequence[_Found]) -> list[str]:
  """Returns how sentences on these differences are meant."""
  if not found:
    return []
  seeds = _range([one.difference.seeds for one in found])
  questions = _range([one.difference.questions for one in found])
  tested = [one.p for one in found if one.p is not None]
  text = (
    f'Differences are paired over the same seeds ({seeds}) and the same test'
    f' questions ({questions}).'
  )
  if tested:
    several = f', corrected for all {len(tested)} comparisons,'
    by = f'p{several if len(tested) > 1 else ""}'
    text += f' Better and worse mean that {by} is below {_LEVEL}.'
  if any(p >= _LEVEL for p in tested):
    text += f' {_UNDECIDED}'
  if len(tested) < len(found):
    text += f' {_UNTESTED}'
  return [text]


def _seeds(count: int) -> str:
  return f'{count} common seed{"" if count == 1 else "s"}'


def _range(values: Sequence[int]) -> str:
  low, high = min(values), max(values)
  return f'{low:,}' if low == high else f'{low:,} to {high:,}'


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
  for what, texts in (
    ('versions', {_text(run.versions) for run in runs}),
    ('commits', {run.short_commit for run in runs}),
    ('devices', {run.device for run in runs}),
  ):
    if len(texts) > 1:
      found.append(f'Runs have different {what}: {"; ".join(sorted(texts))}.')
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
    texts = [_values(runs, _setting(name)) for runs in of_arm]
    if name not in _AXES and len(set(texts)) > 1:
      found.append((name, texts))
  return found


def _setting(name: str) -> Callable[[results.RunResult], str]:
  return lambda run: run.settings.get(name, '—')


def _examples(run: results.RunResult) -> str:
  count = run.spec.label_examples
  return 'counted in rows' if count is None else str(count)


def _values(
  runs: Sequence[results.RunResult], get: Callable[[results.RunResult], object]
) -> str:
  return ', '.join(dict.fromkeys(str(get(run)).strip('\'"') for run in runs))
