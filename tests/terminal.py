"""A terminal of 80 columns, to see what a person sees."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte

COLUMNS, LINES = 80, 30


class Terminal:
  """A pseudo-terminal, whose other end is read into a screen.

  Attributes:
    file: to write to, as `sys.stderr`.
    screens: the different screens that were seen, each a list of lines.
  """

  def __init__(self, columns: int = COLUMNS):
    self._master, self._slave = pty.openpty()
    size = struct.pack('HHHH', LINES, columns, 0, 0)
    fcntl.ioctl(self._slave, termios.TIOCSWINSZ, size)
    self.file = os.fdopen(os.dup(self._slave), 'w', encoding='utf-8')
    self._screen = pyte.HistoryScreen(columns, LINES, history=10_000)
    self._stream = pyte.ByteStream(self._screen)
    self.screens: list[list[str]] = []

  def close(self) -> None:
    """Closes both ends."""
    self.file.close()
    for end in (self._master, self._slave):
      os.close(end)

  def read(self, seconds: float = 0.05) -> list[str]:
    """Reads what is written within some seconds; returns the whole text."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
      if select.select([self._master], [], [], left)[0]:
        self._stream.feed(os.read(self._master, 65536))
        lines = self.lines()
        if not self.screens or self.screens[-1] != lines:
          self.screens.append(lines)
    return self.lines()

  def lines(self) -> list[str]:
    """Returns what has scrolled away and what is on the screen."""
    columns = range(self._screen.columns)
    above = [
      ''.join(row[column].data for column in columns)
      for row in self._screen.history.top
    ]
    found = [line.rstrip() for line in [*above, *self._screen.display]]
    while found and not found[-1]:
      found.pop()
    return found

  def run(
    self,
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    each: Callable[[list[str]], None] = lambda lines: None,
  ) -> int:
    """Runs a command with both of its streams here; returns its exit code.

    Args:
      command: the words of it.
      environment: of the process.
      folder: where it runs.
      each: called with the lines of each screen.
    """
    process = subprocess.Popen(
      command,
      env=environment,
      cwd=folder,
      stdin=subprocess.DEVNULL,
      stdout=self._slave,
      stderr=self._slave,
    )
    while process.poll() is None:
      each(self.read())
    self.read(0.2)
    return process.returncode
