"""Errors in a user's data or options, and suggestions for misspelled names."""

import difflib
import itertools
from collections.abc import Collection, Iterable

# Of names that are compared with a misspelled one, and how many: a file may
# hold any number of any length.
_MAX_NAME, _MAX_NAMES = 200, 1000


class DataError(ValueError):
  """A mistake in what the user gave: a file, a row, a name, an option.

  The message says where it is, what was expected and found, and how to fix it.
  An entry point prints an exception that has an `exit_code` without a
  traceback, and exits with that code.
  """

  exit_code = 2


def did_you_mean(name: object, known: Iterable[str]) -> str:
  """Returns ` Did you mean 'x'?` for the closest known name, or ''.

  Args:
    name: what the user wrote.
    known: the names that exist.

  Returns:
    A sentence that starts with a space, so that it can be appended as it is.
  """
  wanted = str(name)
  if len(wanted) > _MAX_NAME:
    return ''
  near = [k for k in itertools.islice(known, _MAX_NAMES) if len(k) <= _MAX_NAME]
  close = difflib.get_close_matches(wanted, near, n=1, cutoff=0.6)
  return f' Did you mean {close[0]!r}?' if close else ''


def choose(option: str, value: object, known: Collection[str]) -> None:
  """Checks an option that has one of a few names.

  Args:
    option: what the user calls it.
    value: what the user gave.
    known: the values that it can have.

  Raises:
    DataError: it has another value.
  """
  if value not in known:
    raise DataError(
      f'{option} is {value!r}: expected one of {", ".join(known)}.'
      f'{did_you_mean(value, known)}'
    )
