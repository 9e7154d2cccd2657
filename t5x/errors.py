"""Errors whose message is for the user."""

import difflib
import itertools
import re
from collections.abc import Iterable

# Of names that are compared with a misspelled one, and how many: a file may
# hold any number of any length.
_MAX_NAME, _MAX_NAMES = 200, 1000

# How libraries say that memory ran out. TensorFlow calls a full disk, or too
# many open files, an exhausted resource as well.
_OUT_OF_MEMORY = re.compile(
  r'out of memory|failed to allocate|cannot allocate memory|std::bad_alloc',
  re.IGNORECASE,
)


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


def memory_error(error: BaseException) -> UserError | None:
  """Returns an error of memory as one for the user; None for other errors.

  Args:
    error: what was raised while something was computed, read or written.
  """
  text = str(error).strip()
  if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(text):
    return None
  reason = text.splitlines()[0] if text else type(error).__name__
  return UserError(
    f'Memory ran out: {reason} A device, or this machine, has less than the'
    ' command needs. Take smaller batches; in training, a larger'
    ' trainer.Trainer.num_microbatches (macro NUM_MICROBATCHES) needs less and'
    ' changes the result by rounding alone. Or end what else needs memory here.'
    ' What is complete stays; the same command goes on.'
  )
