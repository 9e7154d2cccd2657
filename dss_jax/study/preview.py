"""Preview of a study: what would run, and how long it would take."""

import statistics
from collections.abc import Sequence

import rich.box
import rich.console
import rich.table
import rich.text

from dss_jax import neutral
from dss_jax.study import live_table, planned, results
from dss_jax.study.running import execution


def show(
  runs: Sequence[planned.Run],
  done: Sequence[results.RunResult],
  workers: int,
  console: rich.console.Console | None = None,
) -> None:
  """Prints the runs of a study, one line for all seeds of one kind.

  Args:
    runs: of the study.
    done: results that are there.
    workers: runs that go on beside each other; 0 if unknown.
    console: where to write; None for standard output.
  """
  console = console or neutral.console(highlight=False)
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
  kinds: dict[str, list[planned.Run]] = {}
  for run in runs:
    kind = run.name.replace(f'_s{run.spec.seed}', '', 1)
    kinds.setdefault(kind, []).append(run)
  table.add_column('runs', min_width=max(map(len, kinds), default=0))
  for name in ('seeds', 'rows', 'steps', 'labels a step', 'epochs'):
    table.add_column(name, justify='right')
  for kind, same in kinds.items():
    table.add_row(*map(rich.text.Text, (kind, *_numbers(same))))
  console.print(table)
  finished = {result.spec.name for result in done}
  missing = [run for run in runs if run.name not in finished]
  console.print(
    f'{len(runs)} runs, {len(runs) - len(missing)} of them done.'
    f' {_time(missing, done, workers)}'
  )
  if missing:
    run = missing[0]
    console.print(f'\nThe first of them, {run.name}:')
    command = execution.shown(run.command.flags(f'OUT/runs/{run.name}'))
    console.print(rich.text.Text(f'  {command}'), soft_wrap=True)


def _numbers(same: Sequence[planned.Run]) -> tuple[str, ...]:
  spec = same[0].spec
  rows = sorted({run.spec.train_rows or 0 for run in same})
  labels = spec.label_examples
  packed = f'(in {same[0].configuration.batch_rows} rows)'
  epochs = [run.epochs for run in same if run.epochs is not None]
  return (
    f'{len(same)}',
    _range([f'{n}' for n in rows]),
    f'{spec.steps}',
    packed if labels is None else f'{labels}',
    _range([f'{n:.1f}' for n in sorted(epochs)]),
  )


def _range(texts: Sequence[str]) -> str:
  different = list(dict.fromkeys(texts))
  if not different:
    return 'unknown'
  first, last = different[0], different[-1]
  return first if first == last else f'{first} to {last}'


def _time(
  missing: Sequence[planned.Run],
  done: Sequence[results.RunResult],
  workers: int,
) -> str:
  """Returns a sentence about the time that is left."""
  if not missing:
    return 'Nothing is left to do.'
  if not done:
    return 'How long they take is known after the first.'
  total = sum(_seconds(run, done) for run in missing)
  beside = f' with {workers} beside each other' if workers > 1 else ''
  return (
    f'The others take about {live_table.duration(total / max(workers, 1))}'
    f'{beside}, by the {len(done)} that are timed.'
  )


def _seconds(run: planned.Run, done: Sequence[results.RunResult]) -> float:
  """Returns how long a run takes, by those that are most like it."""
  for fields in (('size', 'method'), ('size',), ()):
    like = [
      result.seconds * run.spec.steps / result.spec.steps
      for result in done
      if all(getattr(result.spec, f) == getattr(run.spec, f) for f in fields)
    ]
    if like:
      return statistics.mean(like)
  raise AssertionError('there are results')
