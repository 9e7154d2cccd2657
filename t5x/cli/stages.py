"""Stages of a process before its work begins, each by name with its time.

    stages.begin('reading data')
    …
    stages.begin('compiling')  # Ends the one before.
    …
    stages.end()

A stage that is done is a line of standard error, `reading data  1.2 s`. On a
terminal, the one at work is shown, too, with the seconds so far.
"""

import contextlib
import time
from typing import Any

from t5x import neutral

_WIDTH = 20


class Stages:
  """The stages of one process.

  Args:
    options: of rich's console.

  Attributes:
    is_silent: whether nothing is shown, as on all processes but the first.
  """

  def __init__(self, **options: Any):
    self.is_silent = False
    self._options = options
    self._name = ''
    self._began = 0.0
    self._shown = contextlib.ExitStack()

  def begin(self, name: str, alone: bool = False) -> None:
    """Begins a stage and ends the one before; of the same name, goes on.

    Args:
      name: of the stage.
      alone: whether nothing else is printed meanwhile, and no other thread may
        draw, as where a library's output is held back.
    """
    if name == self._name:
      return
    self.end()
    self._name, self._began = name, time.monotonic()
    if self.is_silent or not self._console.is_terminal:
      return
    if alone:
      # The line that ends the stage is longer, and takes its place.
      self._console.print(f'{name} …', end='')
      self._to_begin_of_line()
    else:
      from t5x.cli import above_bar

      console = self._console
      self._shown.enter_context(_at_work(console, name))
      self._shown.enter_context(above_bar.of(console))

  def end(self) -> None:
    """Ends the stage at work, if there is one."""
    if not self._name:
      return
    seconds = time.monotonic() - self._began
    self._shown.close()
    self.say(f'{self._name:<{_WIDTH}} {seconds:.1f} s')
    self._name = ''

  def drop(self) -> None:
    """Ends the stage at work without a line, as before an error's message."""
    self._shown.close()
    if self._name and self._console.is_terminal and not self.is_silent:
      self._console.print(' ' * (len(self._name) + 2), end='')
      self._to_begin_of_line()
    self._name = ''

  @property
  def _console(self) -> Any:
    """A console of standard error as it is now."""
    from t5x.cli import above_bar

    return neutral.console(**({'file': above_bar.stderr()} | self._options))

  def _to_begin_of_line(self) -> None:
    from rich import control

    self._console.control(control.Control.move_to_column(0))

  def say(self, text: str) -> None:
    """Prints a line.

    Args:
      text: of one line.
    """
    if not self.is_silent:
      self._console.print(text, soft_wrap=True)


def _at_work(console: Any, name: str) -> Any:
  from rich import progress

  shown = progress.Progress(
    progress.TextColumn('{task.description}', markup=False),
    progress.TimeElapsedColumn(),
    console=console,
    transient=True,
    redirect_stdout=False,
    redirect_stderr=False,
  )
  shown.add_task(f'{name} …', total=None)
  return shown


_OF_PROCESS: list[Stages] = []


def _of_process() -> Stages:
  if not _OF_PROCESS:
    _OF_PROCESS.append(Stages())
  return _OF_PROCESS[0]


def begin(name: str, alone: bool = False) -> None:
  """Begins a stage of this process; see `Stages.begin`.

  Args:
    name: of the stage.
    alone: whether nothing else is printed meanwhile.
  """
  _of_process().begin(name, alone)


def end() -> None:
  """Ends the stage of this process that is at work."""
  _of_process().end()


def drop() -> None:
  """Ends the stage of this process that is at work, without a line."""
  _of_process().drop()


def say(text: str) -> None:
  """Prints a line about what this process does.

  Args:
    text: of one line.
  """
  _of_process().say(text)


def silence() -> None:
  """Has this process show no stage, since another one does."""
  _of_process().drop()
  _of_process().is_silent = True
