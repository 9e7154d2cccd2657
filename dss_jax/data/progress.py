"""Progress of work on many rows, told on standard error once it takes long."""

import sys
import time
from typing import IO

from dss_jax import neutral

# Seconds before the first line, and between lines.
_PATIENCE = 3.0
# How many rows there are between two looks at the clock.
_ROWS = 1024


class Progress:
  """Teller of how far some work is; silent if it is done soon.

  On a terminal the line is written over; else each is a line of its own.
  """

  def __init__(
    self,
    what: str,
    total: int | None = None,
    stream: IO[str] | None = None,
    seconds: float = _PATIENCE,
    unit: str = 'rows',
  ):
    """Starts the clock.

    Args:
      what: is being done, such as 'Reading rows.jsonl'.
      total: number of rows or bytes, of which `at` tells the position; None if
        it is not known.
      stream: where to; None for standard error.
      seconds: before the first line, and between lines.
      unit: what is counted.
    """
    self._what = what
    self._unit = unit
    self._total = total
    self._stream = stream or sys.stderr
    self._seconds = seconds
    self._next = time.monotonic() + seconds
    self._position = 0
    self._before = 0
    self._told = False
    self.rows = 0

  def at(self, position: int) -> None:
    """Notes a position in the current file, or among the rows."""
    self._position = position

  def next_file(self) -> None:
    """Notes that positions start again, in the next file."""
    self._before += self._position
    self._position = 0

  def row(self) -> None:
    """Notes one more row."""
    self.rows += 1
    if self.rows % _ROWS == 0 and time.monotonic() >= self._next:
      self._tell()

  def part(self, done: int, total: int) -> None:
    """Notes how much of the work is done, where few parts are large.

    Args:
      done: of the total, in any unit.
      total: all of it.
    """
    self.rows += 1
    self._total, self._position = total, done
    if time.monotonic() >= self._next:
      self._tell()

  def done(self) -> None:
    """Tells the end, if anything was told before."""
    if self._told:
      self._write(f'{self._what}: {self.rows:,} {self._unit}, done', end='\n')

  def _tell(self) -> None:
    self._told = True
    self._next = time.monotonic() + self._seconds
    part = ''
    if self._total:
      done = min(1.0, (self._before + self._position) / self._total)
      part = f', {100.0 * done:.0f}%'
    over = self._stream.isatty()
    text = f'{self._what}: {self.rows:,} {self._unit}{part} …'
    self._write(text, end='' if over else '\n')

  def _write(self, text: str, end: str) -> None:
    over = self._stream.isatty()
    # What is written over may be longer.
    shown = neutral.text(text)
    self._stream.write('\r' * over + shown + ' ' * 4 * over + end)
    self._stream.flush()


def silent() -> Progress:
  """Returns one that never tells anything."""
  return Progress('', seconds=float('inf'))
