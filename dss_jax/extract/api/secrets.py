"""Secrets of an API: what must not be kept or shown, and how it is removed.

The key and a proxy's password are removed from whatever comes back, also parts
of them: a server may cut its message within the key. Messages lose the secrets
of others too, such as those in addresses. Texts are cut after that, never
before, so that no piece of a secret is left at the end.
"""

import json
import os
import re
from collections.abc import Iterable
from urllib import parse

from dss_jax import errors, neutral

# Shorter keys are not secrets, but words for servers that ask for any key.
_MIN_LENGTH = 8
# So many characters of a secret in a row are as good as it.
_MIN_PART = 12
# Of a message, to look for its words in.
_MAX_READ = 64_000
# Secrets by where they stand: behind the scheme of a header, or a name. What
# has no digit is a word.
_FOREIGN = (
  (
    re.compile(r'\b([Bb]earer|Basic|Token)\s+(?=\S{0,80}\d)[\w.~+/=-]{12,}'),
    r'\1 [removed]',
  ),
  (
    re.compile(
      r'(\b[\w-]{0,30}(?:key|token|secret|signature|password|passwd|sig)'
      r'["\']?\s{0,3}[=:]\s{0,3}["\']?)(?=\S{0,80}\d)[^\s&"\',;<>}\])]{8,}',
      re.IGNORECASE,
    ),
    r'\1[removed]',
  ),
)
_NAME = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')


def read_key(variable: str) -> str:
  """Returns the key in an environment variable, '' if there is none.

  Args:
    variable: its name. What is no name may be the key itself, given in its
      place, and is not repeated.

  Raises:
    DataError: there can be no such variable, or its value cannot be sent in a
      header.
  """
  if not _NAME.fullmatch(variable):
    raise _no_name('is none')
  key = os.environ.get(variable, '').strip()
  if not all('!' <= character <= '~' for character in key):
    raise errors.DataError(
      f'The environment variable {variable}: expected a key of visible ASCII'
      ' characters, found others. Set it again.'
    )
  return key


def check_variable(variable: str) -> None:
  """Checks that a variable that the user names is set.

  A key may look as a name does, so that what is not set is not repeated.

  Args:
    variable: its name.

  Raises:
    DataError: it is no name, or there is no such variable.
  """
  if not _NAME.fullmatch(variable):
    raise _no_name('is none')
  if variable not in os.environ:
    raise _no_name('is not set')


def _no_name(why: str) -> errors.DataError:
  return errors.DataError(
    '--api-key-env: expected the name of an environment variable that holds'
    f' the key, such as OPENAI_API_KEY, found a text that {why}; it is not'
    ' shown, since it may be the key itself. Put the key into a variable'
    ' (export NAME=…), and give its name.'
  )


class Secrets:
  """The secrets of one client, removed from what it hands on."""

  def __init__(self, *values: str):
    """Keeps what must not be told.

    Args:
      *values: a key, a password, …; '' and short words are none.
    """
    forms = (form for value in values for form in _forms(value))
    self._values = sorted(set(forms), key=len, reverse=True)

  def clean(self, text: str) -> str:
    """Returns a text without the secrets, and without lone surrogates.

    Args:
      text: as it came, whole.
    """
    text = neutral.unicode(text)
    for value in self._values:
      text = text.replace(value, '[key]')
      if len(value) > _MIN_PART:
        text = _without_parts(text, value)
    return text

  def line(self, text: str, most: int = 300) -> str:
    """Returns a server's words for a message: one neutral, bounded line.

    Args:
      text: as it came, whole.
      most: characters to show.
    """
    text = neutral.without_logins(self.clean(text[:_MAX_READ]))
    for pattern, instead in _FOREIGN:
      text = pattern.sub(instead, text)
    # What was apart by an invisible character is together now.
    return neutral.line(self.clean(neutral.line(text, _MAX_READ)), most)


def _forms(value: str) -> Iterable[str]:
  """Returns a secret as it may be written in an answer."""
  if len(value) < _MIN_LENGTH:
    return ()
  quoted = parse.quote(value, safe='')
  return {value, json.dumps(value)[1:-1], quoted, parse.unquote(value)}


def _without_parts(text: str, value: str) -> str:
  """Returns a text without parts of a secret that are long enough to tell.

  Every part of `_MIN_PART` characters holds one of the pieces that begin at
  multiples of half of it.
  """
  size = _MIN_PART // 2
  starts = range(0, len(value) - size + 1, size)
  for start in starts:
    piece = value[start : start + size]
    at = text.find(piece)
    while at != -1:
      begin, end = _grown(text, at, value, start, size)
      if end - begin >= _MIN_PART:
        text = f'{text[:begin]}[key]{text[end:]}'
        at = text.find(piece, begin)
      else:
        at = text.find(piece, at + 1)
  return text


def _grown(
  text: str, at: int, value: str, start: int, size: int
) -> tuple[int, int]:
  """Returns where in a text the part of a secret around a piece lies.

  Args:
    text: any text.
    at: where in the text the piece begins.
    value: the secret.
    start: where in the secret the piece begins.
    size: of the piece.
  """
  before = 0
  while before < min(at, start) and (
    text[at - before - 1] == value[start - before - 1]
  ):
    before += 1
  after = size
  while (
    at + after < len(text)
    and start + after < len(value)
    and text[at + after] == value[start + after]
  ):
    after += 1
  return at - before, at + after
