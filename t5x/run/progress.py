"""Progress of a run on a terminal: a bar, or lines in a log."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from rich import console as rich_console
from rich import progress as rich_progress

from t5x import neutral

# Shown behind the bar, in this order, where a run reports them.
_SHOWN = ('loss', 'label_loss', 'rationale_loss', 'accuracy', 'learning_rate')


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
  """Returns the metric values that are single numbers, as plain ones."""
  plain = {k: getattr(v, 'value', v) for k, v in values.items()}
  return {
    k: float(v)
    for k, v in plain.items()
    if isinstance(v, (int, float)) or getattr(v, 'ndim', None) == 0
  }


def _bar(
  console: rich_console.Console,
  *columns: rich_progress.ProgressColumn,
  **options: Any,
) -> rich_progress.Progress:
  """Returns a bar with the work done, the time it took and the time left."""
  return rich_progress.Progress(
    rich_progress.TextColumn('{task.description:<10}', markup=False),
    rich_progress.BarColumn(),
    rich_progress.MofNCompleteColumn(),
    rich_progress.TimeElapsedColumn(),
    rich_progress.TextColumn('eta', markup=False),
    rich_progress.TimeRemainingColumn(),
    *columns,
    console=console,
    **options,
  )


class Progress:
  """A progress bar on a terminal; elsewhere one line for each report.

  Use as a context manager; outside it, the bar is not shown.

  Args:
    total_steps: the step at which the run is done.
    start_step: the step at which it starts.
    visible: whether to show anything, as on the first process.
  """

  def __init__(self, total_steps: int, start_step: int, visible: bool = True):
    self._total = total_steps
    self._console = neutral.console(stderr=True, quiet=not visible)
    self._bar = _bar(
      self._console,
      rich_progress.TextColumn('{task.fields[report]}', markup=False),
      transient=True,
    )
    self._task = self._bar.add_task(
      'compiling', total=total_steps, completed=start_step, report=''
    )

  def __enter__(self) -> 'Progress':
    if self._console.is_terminal:
      self._bar.start()
    return self

  def __exit__(self, *unused_exception) -> None:
    if self._console.is_terminal:
      self._bar.stop()

  def step(self, step: int) -> None:
    """Shows that `step` steps of the run are done."""
    self._bar.update(self._task, completed=step, description='training')

  def phase(self, name: str) -> None:
    """Shows what the run does besides training, such as 'evaluating'."""
    self._bar.update(self._task, description=name)

  def say(self, text: str) -> None:
    """Prints a line of its own."""
    self._console.print(text, soft_wrap=True)

  def report(self, step: int, values: Mapping[str, float]) -> None:
    """Shows the metrics of the steps up to `step`."""
    parts = [f'{k} {values[k]:.4g}' for k in _SHOWN if k in values]
    rate = values.get('timing/tokens_per_second') or values.get(
      'timing/target_tokens_per_second'
    )
    if rate:
      parts.append(f'{rate:,.0f} tokens/s')
    self._bar.update(self._task, completed=step, report='  '.join(parts))
    if not self._console.is_terminal:
      line = f'step {step}/{self._total}  ' + '  '.join(parts)
      self._console.print(line, soft_wrap=True)


@contextlib.contextmanager
def rows(name: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
  """Shows rows as a bar on a terminal; elsewhere as one line for each chunk.

  Args:
    name: of the task.
    total: rows; negative if that isn't known.
    done: rows that an earlier run inferred on.

  Yields:
    A function to call with the number of further rows that are done.
  """
  console = neutral.console(stderr=True, quiet=jax.process_index() != 0)
  bar = _bar(console)
  task = bar.add_task(name, total=total if total >= 0 else None, completed=done)

  def advance(more: int) -> None:
    bar.update(task, advance=more)
    if not console.is_terminal:
      of = f'/{total}' if total >= 0 else ''
      count = bar.tasks[0].completed
      console.print(f'{name}  {count:.0f}{of} rows', soft_wrap=True)

  with bar if console.is_terminal else contextlib.nullcontext():
    yield advance
