"""Live table of a study: a table on a terminal, lines in a log."""

import pathlib
import time
from collections.abc import Mapping

import rich.box
import rich.console
import rich.live
import rich.table
import rich.text

from dss_jax import neutral
from dss_jax.study import planned, results
from dss_jax.study.running import execution, run_folder

# Failed runs that the table lists; the command names all of them at its end.
_MOST_FAILED = 10
_REFRESH_S = 1.0


def duration(seconds: float) -> str:
  """Writes a time for people: `45 s`, `12 min`, `3 h 05 min`.

  Args:
    seconds: how long.
  """
  if seconds < 60:
    return f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  if minutes < 60:
    return f'{minutes} min'
  return f'{minutes // 60} h {minutes % 60:02d} min'


class _Watched:
  """A run that is under way: where it began, and how fast it is."""

  def __init__(self, folder: run_folder.RunFolder, steps: int):
    self._folder, self._steps = folder, steps
    self.step: int | None = None
    self._first: tuple[float, int] | None = None

  def look(self) -> None:
    """Reads how far the run is."""
    step = self._folder.step()
    if step is not None and step != self.step:
      self._first = self._first or (time.monotonic(), step)
      self.step = step

  @property
  def eta(self) -> float | None:
    """Seconds until the last step; None before two steps were seen."""
    if self._first is None or self.step in (None, self._first[1]):
      return None
    began, first = self._first
    each = (time.monotonic() - began) / (self.step - first)
    return each * (self._steps - self.step)


class Table:
  """What a study does, as it does it.

  Args:
    out: the study's folder.
    runs: of the study, by name.
    size: how many runs go on beside each other; 0 if unknown.
    console: where to write; None for standard output.
  """

  def __init__(
    self,
    out: pathlib.Path,
    runs: Mapping[str, planned.Run],
    size: int,
    console: rich.console.Console | None = None,
  ):
    self._out, self._runs, self._size = out, runs, size
    self.console = console or neutral.console(
      highlight=False, soft_wrap=not neutral.console().is_terminal
    )
    self._live = rich.live.Live(
      console=self.console, auto_refresh=False, transient=True
    )
    self._terminal = self.console.is_terminal
    self._watched: dict[str, _Watched] = {}
    self._told: dict[str, str] = {}
    self._looked = 0.0
    self._counts: tuple[int, ...] = ()
    self._before: set[str] | None = None

  def __enter__(self) -> 'Table':
    if self._terminal:
      self._live.start()
    return self

  def __exit__(self, *unused: object) -> None:
    if self._terminal:
      self._live.stop()

  def say(self, text: str) -> None:
    """Prints a line of its own.

    Args:
      text: which may hold what others wrote.
    """
    self.console.print(
      rich.text.Text(run_folder.printable(text)), soft_wrap=True
    )

  def show(
    self,
    done: Mapping[str, results.RunResult],
    failed: Mapping[str, str],
    jobs: Mapping[str, execution.Job],
  ) -> None:
    """Shows what has changed.

    Args:
      done: finished runs.
      failed: reasons.
      jobs: runs that are under way or wait for a worker.
    """
    if self._before is None:
      self._before = set(done)
      if done:
        self.say(f'{len(done)} of {len(self._runs)} runs are done already')
    counts = (len(done), len(failed), len(jobs))
    now = time.monotonic()
    if counts == self._counts and now - self._looked < _REFRESH_S:
      return
    self._looked, self._counts = now, counts
    self._look(jobs)
    if self._terminal:
      self._live.update(self._table(done, failed, jobs), refresh=True)
    else:
      self._tell(done, failed)

  def _look(self, jobs: Mapping[str, execution.Job]) -> None:
    """Finds out which runs are under way, and how far they are."""
    for name in set(self._watched) - set(jobs):
      del self._watched[name]
    for name, job in jobs.items():
      folder = run_folder.RunFolder(self._out, name)
      starts = folder.starts()
      if starts and starts[-1].token == job.token:
        if name not in self._watched:
          steps = self._runs[name].spec.steps
          self._watched[name] = _Watched(folder, steps)
        self._watched[name].look()

  def _tell(
    self, done: Mapping[str, results.RunResult], failed: Mapping[str, str]
  ) -> None:
    """Prints a line for each run of which there is something new."""
    states = {name: 'started' for name in self._watched}
    states |= {name: f'failed: {reason}' for name, reason in failed.items()}
    states |= {
      name: _score(result)
      for name, result in done.items()
      if name not in (self._before or ())
    }
    for name, state in states.items():
      if self._told.get(name) != state:
        self._told[name] = state
        of = f'[{len(done) + len(failed)}/{len(self._runs)}]'
        self.say(f'{of} {name}: {state}')

  def _table(
    self,
    done: Mapping[str, results.RunResult],
    failed: Mapping[str, str],
    jobs: Mapping[str, execution.Job],
  ) -> rich.table.Table:
    waiting = len(jobs) - len(self._watched)
    title = (
      f'{len(done)} of {len(self._runs)} runs done, {len(self._watched)}'
      f' running, {waiting} waiting, {len(failed)} failed'
    )
    left = self._left(done, jobs)
    if left is not None:
      title += f'; about {duration(left)} left'
    table = rich.table.Table(
      title=title, title_justify='left', box=rich.box.SIMPLE_HEAD
    )
    for column in ('run', 'step', 'left'):
      table.add_column(column, justify='left' if column == 'run' else 'right')
    for name, watched in sorted(self._watched.items()):
      steps = self._runs[name].spec.steps
      eta = watched.eta
      table.add_row(
        name,
        'begins' if watched.step is None else f'{watched.step} of {steps}',
        '' if eta is None else duration(eta),
      )
    for name, reason in list(failed.items())[:_MOST_FAILED]:
      table.add_row(name, rich.text.Text(f'failed: {reason}', style='red'), '')
    return table

  def _left(
    self,
    done: Mapping[str, results.RunResult],
    jobs: Mapping[str, execution.Job],
  ) -> float | None:
    """Returns the seconds that the study still takes, as far as known."""
    if not (done and self._size):
      return None
    each = sum(result.seconds for result in done.values()) / len(done)
    left = 0.0
    for name in jobs:
      watched = self._watched.get(name)
      step = (watched.step if watched else None) or 0
      left += each * (1 - step / self._runs[name].spec.steps)
    return left / min(self._size, max(len(jobs), 1))


def _score(result: results.RunResult) -> str:
  """Returns a finished run's accuracy and time."""
  scores = ', '.join(
    f'{split} {accuracy:.1f}%'
    for split, accuracy in result.last.accuracy.items()
  )
  return f'done, {scores}, {duration(result.seconds)}'
