"""Errors whose message is for the user."""

import difflib
import itertools
from collections.abc import Iterable

# Of names that are compared with a misspelled one, and how many: a file may
# hold any number of any length.
_MAX_NAME, _MAX_NAMES = 200, 1000


class UserError(ValueError):
  """A mistake in what the user gave: a path, an option, a file, a shape.

  The message says where, what was expected, what was found and how to fix it.
  Entry points print an exception that has an `exit_code` alone, without a
  traceback, and exit with that code.
  """

  exit_code = 2


class DamagedError(UserError):
  """A file that is not what was written: truncated, overwritten or lost."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """Returns ` Did you mean 'x'?` for the closest known name, or ''.

  Args:
    name: what the user wrote.
    known: the names that exist.

  Returns:
    A sentence that starts with a space, to be appended to a message.
  """
  wanted = name
  if len(wanted) > _MAX_NAME:
    return ''
  near = [k for k in itertools.islice(known, _MAX_NAMES) if len(k) <= _MAX_NAME]
  close = difflib.get_close_matches(wanted, near, n=1, cutoff=0.6)
  return f' Did you mean {close[0]!r}?' if close else ''
