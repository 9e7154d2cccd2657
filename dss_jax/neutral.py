"""Foreign text made neutral: what others wrote does nothing where it is shown.

Rows, predictions, paths, names in files, and what a server says may hold
terminal escapes, characters that turn the direction of a line, rich's markup, a
spreadsheet's formula, or a million characters. Whatever shows such a text takes
it from here: `console` makes every console of rich, `say` prints a text, `line`
puts one into a message, which `message` shows, `markup` puts one into HTML, and
`cell` into a table file. tests/dss_jax/test_neutral.py finds what does
otherwise.

The engine has what it needs of it in `t5x.neutral`, since the method must run
on upstream T5X as well, which has no such module.
"""

import html
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from rich import console as rich_console
  from rich import segment as rich_segment

# Characters of a text in a message, and of a message.
_MAX_LINE, _MAX_MESSAGE = 300, 20_000
# Counts above this are no counts: it is the largest that JSON agrees on.
MAX_COUNT = 2**53
# Words of some scripts, and pictures, are written with joiners.
_KEPT = frozenset('\n\t\u200c\u200d')
_SURROGATE = re.compile('[\ud800-\udfff]')
# Secrets in an address: a login, and fields of a query.
_LOGIN = re.compile(r'(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/?#@]+@', re.IGNORECASE)
_QUERY = re.compile(
  r'([?&;][\w.-]{0,40}(?:key|token|secret|signature|credential|password|sig)=)'
  r'[^\s&;#"\'<>)\]]+',
  re.IGNORECASE,
)
# What a spreadsheet takes for a formula.
_FORMULA = ('=', '+', '-', '@', '\t', '\r', '\n')


def unicode(value: str) -> str:
  """Returns a text without lone surrogates, which no file can hold.

  Args:
    value: any text.
  """
  return _SURROGATE.sub('\ufffd', value)


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


def line(value: object, most: int = _MAX_LINE) -> str:
  r"""Returns a text as one bounded line, for a message.

  >>> line('Bad\x1b[31m\n gate')
  'Bad [31m gate'

  Args:
    value: what is shown, by its `str`.
    most: characters to show.
  """
  # More than is shown is looked at, since runs of blanks become one.
  begun = str(value)[: 16 * most]
  visible = begun if begun.isprintable() else ''.join(map(_blank, begun))
  joined = ' '.join(visible.split())
  cut = len(joined) > most or len(str(value)) > len(begun)
  return f'{joined[:most]}…' if cut else joined


def _blank(character: str) -> str:
  is_shown = character.isprintable() or character in '\u200c\u200d'
  return character if is_shown else ' '


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


def names(values: Iterable[object], most: int = 8) -> str:
  """Returns foreign names as a bounded list.

  >>> names('abc', 2)
  'a, b, …'

  Args:
    values: the names.
    most: how many to show.
  """
  shown = [line(value, 120) for value in values]
  return ', '.join(shown[:most]) + (', …' if len(shown) > most else '')


def count(number: float) -> str:
  """Returns a count with its thousands, or that it is none.

  >>> count(1234), count(10**400)
  ('1,234', 'over 9,007,199,254,740,992')

  Args:
    number: of what was counted.
  """
  if number > MAX_COUNT:
    return f'over {MAX_COUNT:,}'
  return f'{number:,.0f}'


def markup(value: object) -> str:
  """Returns a text for HTML: neither tags nor attributes, and no escapes.

  >>> markup('<b title="x">')
  '&lt;b title=&quot;x&quot;&gt;'

  Args:
    value: what is shown, by its `str`.
  """
  return html.escape(text(value))


def cell(value: object) -> object:
  """Returns a value for a table file, in which no text is a formula.

  >>> cell('=cmd()'), cell('-2.5'), cell(-2.5)
  ("'=cmd()", '-2.5', -2.5)

  Args:
    value: of a field; a text that begins as a formula does, and is no number,
      gets an apostrophe, which spreadsheets do not show.
  """
  if not isinstance(value, str):
    return value
  shown = text(value)
  if not shown.lstrip(' ').startswith(_FORMULA):
    return shown
  try:
    float(shown)
  except ValueError:
    return f"'{shown}"
  return shown


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
