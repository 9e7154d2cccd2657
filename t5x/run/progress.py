"""Progress of a run on a terminal: a bar, or lines in a log.

On a terminal of 80 columns, a training run is two lines:

    training   ━━━━━━━━━━╸━━━━━━ 1200/2000 0:01:02 eta 0:00:41 12,345 tok/s
    loss 0.4312  label_loss 0.1201  accuracy 0.8823

The bar gives way where columns are few; the numbers stay whole.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from rich import console as rich_console
from rich import progress as rich_progress
from rich import table as rich_table
from rich import text as rich_text

from t5x import neutral
from t5x.cli import above_bar

# Shown below the bar, in this order, where a run reports them.
_SHOWN = ('loss', 'label_loss', 'rationale_loss', 'accuracy', 'learning_rate')
# Columns of what is done, and the most of the bar.
_NAME, _BAR = 10, 40


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
  """Returns the metric values that are single numbers, as plain ones."""
  plain = {k: getattr(v, 'value', v) for k, v in values.items()}
  return {
    k: float(v)
    for k, v in plain.items()
    if isinstance(v, (int, float)) or getattr(v, 'ndim', None) == 0
  }


class _Bar(rich_progress.Progress):
  """Bars with the work done, the time it took, the time left, and a rate.

  Attributes:
    report: a further line below them.
  """

  def __init__(self, console: rich_console.Console):
    self.report = ''
    super().__init__(
      rich_progress.TextColumn(
        f'{{task.description:<{_NAME}}}',
        markup=False,
        table_column=rich_table.Column(
          no_wrap=True, overflow='ellipsis', min_width=_NAME
        ),
      ),
      rich_progress.BarColumn(
        bar_width=None,
        table_column=rich_table.Column(ratio=1, max_width=_BAR),
      ),
      rich_progress.MofNCompleteColumn(),
      rich_progress.TimeElapsedColumn(),
      rich_progress.TextColumn('eta', markup=False),
      rich_progress.TimeRemainingColumn(),
      rich_progress.TextColumn(
        '{task.fields[rate]}',
        markup=False,
        table_column=rich_table.Column(no_wrap=True),
      ),
      console=console,
      transient=True,
      expand=True,
      # As `above_bar` does it, which knows other consoles, too.
      redirect_stdout=False,
      redirect_stderr=False,
    )

  def get_renderables(self) -> Iterator[rich_console.RenderableType]:
    """Yields the bars, and the line below them."""
    yield self.make_tasks_table(self.tasks)
    if self.report:
      yield rich_text.Text(self.report, no_wrap=True, overflow='ellipsis')


def _console(visible: bool) -> rich_console.Console:
  return neutral.console(file=above_bar.stderr(), quiet=not visible)


@contextlib.contextmanager
def _shown(bar: _Bar) -> Iterator[None]:
  """Shows a bar on a terminal, below what is printed meanwhile."""
  if not bar.console.is_terminal:
    yield
    return
  with bar, above_bar.of(bar.console):
    yield


def _rate(count: float) -> str:
  """Returns tokens a second in few columns."""
  return f'{count:,.0f} tok/s' if count < 1e6 else f'{count / 1e6:.1f}M tok/s'


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
    self._console = _console(visible)
    self._bar = _Bar(self._console)
    self._shown = contextlib.ExitStack()
    self._task = self._bar.add_task(
      'compiling', total=total_steps, completed=start_step, rate=''
    )

  def __enter__(self) -> 'Progress':
    self._shown.enter_context(_shown(self._bar))
    return self

  def __exit__(self, *unused_exception) -> None:
    self._shown.close()

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
    self._bar.report = '  '.join(parts)
    self._bar.update(
      self._task, completed=step, rate=_rate(rate) if rate else ''
    )
    if not self._console.is_terminal:
      if rate:
        parts.append(f'{rate:,.0f} tokens/s')
      line = f'step {step}/{self._total}  ' + '  '.join(parts)
      self._console.print(line, soft_wrap=True)

  @contextlib.contextmanager
  def evaluation(self, step: int) -> Iterator[Callable[[int, int], None]]:
    """Shows the rows of an evaluation as a bar of their own.

    Args:
      step: what is evaluated.

    Yields:
      A function to call with further rows that are done, and their total.
    """
    began, counter = time.monotonic(), _Counter(self._bar)
    try:
      yield counter.advance
    finally:
      counter.remove()
    if not self._console.is_terminal and counter.done:
      seconds = time.monotonic() - began
      self._console.print(
        f'step {step}/{self._total}  evaluated {counter.done:,} rows in'
        f' {seconds:.1f} s',
        soft_wrap=True,
      )


class _Counter:
  """Counts the rows of one evaluation, which come in several parts.

  Args:
    bar: where they are shown.

  Attributes:
    done: rows so far.
  """

  def __init__(self, bar: _Bar):
    self.done = 0
    self._bar = bar
    self._task: rich_progress.TaskID | None = None

  def advance(self, more: int, total: int) -> None:
    """Shows further rows; a part that is done makes room for the next one.

    Args:
      more: rows.
      total: of their part; negative if that isn't known.
    """
    self.done += more
    if self._task is None:
      self._task = self._bar.add_task(
        'predicting', total=total if total >= 0 else None, rate=''
      )
    self._bar.update(self._task, advance=more)
    if self._bar.tasks[-1].finished:
      self.remove()

  def remove(self) -> None:
    """Takes the bar away."""
    if self._task is not None:
      self._bar.remove_task(self._task)
      self._task = None


@contextlib.contextmanager
def evaluation() -> Iterator[Callable[[int, int], None]]:
  """Shows the rows of an evaluation as a bar on a terminal, and only there.

  Yields:
    A function to call with further rows that are done, and their total.
  """
  bar = _Bar(_console(jax.process_index() == 0))
  counter = _Counter(bar)
  with _shown(bar):
    yield counter.advance


class _Rows:
  """The rows of an inference, shown.

  Args:
    bar: on a terminal.
    console: elsewhere.
    name: of the task.
    total: rows; negative if that isn't known.
    done: rows of an earlier run.
  """

  def __init__(
    self,
    bar: _Bar,
    console: rich_console.Console,
    name: str,
    total: int,
    done: int,
  ):
    self._bar, self._console = bar, console
    self._name, self._total, self._done = name, total, done
    self._task = bar.add_task(
      name, total=total if total >= 0 else None, completed=done, rate=''
    )

  def advance(self, more: int) -> None:
    """Shows that further rows are done."""
    self._done += more
    self._bar.update(self._task, completed=self._done)

  def report(self) -> None:
    """Says how many rows are done and written, where there is no bar."""
    if not self._console.is_terminal:
      of = f'/{self._total}' if self._total >= 0 else ''
      self._console.print(
        f'{self._name}  {self._done}{of} rows', soft_wrap=True
      )


@contextlib.contextmanager
def rows(name: str, total: int, done: int) -> Iterator[_Rows]:
  """Shows rows as a bar on a terminal; elsewhere as one line for each chunk.

  Args:
    name: of the task.
    total: rows; negative if that isn't known.
    done: rows that an earlier run inferred on.

  Yields:
    What shows the rows: `advance(more)` for each batch that is done, and
    `report()` for each chunk that is written.
  """
  console = _console(jax.process_index() == 0)
  bar = _Bar(console)
  shown = _Rows(bar, console, name, total, done)
  with _shown(bar):
    yield shown
