"""Foreign text made neutral: what others wrote does nothing where it is shown.

Rows, paths, names in files, and a library's message may hold terminal escapes,
characters that turn the direction of a line, rich's markup, or a million
characters. Whatever shows such a text takes it from here: `console` makes every
console of rich, `say` prints a text, and `message` is an error's. The method
has more of them in `dss_jax.neutral`; the two stay equal by a test.
"""

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from rich import console as rich_console
  from rich import segment as rich_segment

# Characters of a message.
_MAX_MESSAGE = 20_000
# Words of some scripts, and pictures, are written with joiners.
_KEPT = frozenset('\n\t\u200c\u200d')
# Secrets in an address: a login, and fields of a query.
_LOGIN = re.compile(r'(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/?#@]+@', re.IGNORECASE)
_QUERY = re.compile(
  r'([?&;][\w.-]{0,40}(?:key|token|secret|signature|credential|password|sig)=)'
  r'[^\s&;#"\'<>)\]]+',
  re.IGNORECASE,
)


def text(value: object, most: int | None = None) -> str:
  r"""Returns a text that does nothing to a terminal; lines stay lines.

  Control characters, changes of direction, and what is no character become
  U+FFFD; blanks of all kinds become blanks.

  >>> text('a\x1b[2Jb\r\nc')
  'a\ufffd[2Jb\nc'

  Args:
    value: what is shown, by its `str`.
    most: characters to show; None for all.
  """
  shown = str(value)
  if most is not None and len(shown) > most:
    shown = f'{shown[:most]}…'
  if shown.isprintable():
    return shown
  return ''.join(map(_neutral, shown.replace('\r\n', '\n')))


def _neutral(character: str) -> str:
  if character.isprintable() or character in _KEPT:
    return character
  return ' ' if character.isspace() and character > ' ' else '\ufffd'


def without_logins(value: str) -> str:
  """Returns a text whose addresses have no login and no secret in a query.

  >>> without_logins('http://me:pw@host/a?key=1&b=2')
  'http://[removed]@host/a?key=[removed]&b=2'

  Args:
    value: any text.
  """
  return _QUERY.sub(r'\1[removed]', _LOGIN.sub(r'\1[removed]@', value))


def message(error: object) -> str:
  """Returns the message of an error as a program's last words show it.

  Args:
    error: an exception, or its message.
  """
  return text(without_logins(str(error)), _MAX_MESSAGE)


def say(value: object, err: bool = False) -> None:
  """Prints a text that holds foreign words, and flushes.

  Args:
    value: what is shown, by its `str`.
    err: whether it goes to standard error.
  """
  print(text(value), file=sys.stderr if err else sys.stdout, flush=True)


def console(**options: Any) -> 'rich_console.Console':
  """Returns a console that takes no markup, and lets no escape through.

  Texts in tables, titles and panels are shown as they are, except that they do
  nothing: what rich itself styles and moves is untouched.

  Args:
    **options: of rich's Console.
  """
  from rich import console as rich_console
  from rich import segment as rich_segment

  class Neutral(rich_console.Console):
    """Console whose texts are neutral, whoever wrote them."""

    def render(
      self, *arguments: Any, **more: Any
    ) -> 'Iterable[rich_segment.Segment]':
      """Yields what is printed."""
      for part in super().render(*arguments, **more):
        if part.control or part.text.isprintable():
          yield part
        else:
          yield rich_segment.Segment(text(part.text), part.style)

  fixed = {'markup': False, 'emoji': False, 'highlight': False}
  return Neutral(**(options | fixed))
