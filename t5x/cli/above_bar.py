"""Standard streams whose lines appear above a bar, for as long as it is there.

Rich moves what is printed by `print` above its own bars, but not what other
consoles of rich print: tables and panels would tear the bar apart.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from rich import ansi
from rich import console as rich_console
from rich import text as rich_text


class _Above:
  """A stream that hands whole lines to the console of a bar.

  Args:
    console: of the bar.
    stream: in whose place this stands.
  """

  def __init__(self, console: rich_console.Console, stream: TextIO):
    self._console = console
    self._decoder = ansi.AnsiDecoder()
    self._begun = ''
    self.stream = stream

  def __getattr__(self, name: str) -> Any:
    return getattr(self.stream, name)

  def write(self, text: str) -> int:
    """Shows the lines that are whole with this text."""
    lines, newline, self._begun = (self._begun + text).rpartition('\n')
    if newline:
      shown = map(self._decoder.decode_line, lines.split('\n'))
      self._console.print(rich_text.Text('\n').join(shown), soft_wrap=True)
    return len(text)

  def flush(self) -> None:
    """Does nothing: a line that is not whole waits for its end."""

  def finish(self) -> None:
    """Writes a line that has no end, once the bar is gone."""
    if self._begun:
      self.stream.write(self._begun)
      self.stream.flush()


def stderr() -> TextIO:
  """Returns standard error itself, for the console of a bar."""
  return getattr(sys.stderr, 'stream', None) or sys.stderr


@contextlib.contextmanager
def of(console: rich_console.Console) -> Iterator[None]:
  """Has what is printed to a terminal appear above a bar.

  What goes to a file stays there.

  Args:
    console: of the bar, with a file of its own.
  """
  taken: dict[str, _Above] = {}
  for name in ('stdout', 'stderr'):
    stream = getattr(sys, name)
    if _is_terminal(stream) and not isinstance(stream, _Above):
      taken[name] = _Above(console, stream)
      setattr(sys, name, cast(TextIO, taken[name]))
  try:
    yield
  finally:
    for name, above in taken.items():
      if getattr(sys, name) is above:
        setattr(sys, name, above.stream)
      above.finish()


def _is_terminal(stream: Any) -> bool:
  return bool(getattr(stream, 'isatty', lambda: False)())
