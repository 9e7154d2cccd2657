"""Paths, local and remote, and what their storage says."""

import contextlib
import errno
import os
from collections.abc import Iterator

from t5x import errors


def join(path: str, *parts: str) -> str:
  """Joins a path that may be a URL with names below it."""
  return '/'.join([os.fspath(path).rstrip('/'), *parts])


def is_remote(path: str) -> bool:
  """Whether `path` is a URL and not a local file or folder."""
  return '://' in os.fspath(path)


_FIXES = {
  errno.ENOSPC: 'The disk is full: free some space, or keep fewer checkpoints',
  errno.EDQUOT: 'Your quota is used up: free some space',
  errno.EFBIG: 'Files may not get as large as this: raise the limit (ulimit)',
  errno.EROFS: 'That place is read-only: choose another MODEL_DIR',
  errno.EACCES: 'You may not write there: choose another MODEL_DIR',
  errno.EPERM: 'You may not write there: choose another MODEL_DIR',
  errno.ENOTDIR: 'A file is in the way: choose another MODEL_DIR',
  errno.EEXIST: 'A file is in the way: choose another MODEL_DIR',
}


# What TensorStore and TensorFlow say in place of a number.
_PHRASES = {
  'No space left': errno.ENOSPC,
  'Disk quota': errno.EDQUOT,
  'File too large': errno.EFBIG,
  'Read-only file system': errno.EROFS,
  'Permission denied': errno.EACCES,
}


def fix_for(error: BaseException) -> str | None:
  """What to do about an error of the storage; None for any other error."""
  number = getattr(error, 'errno', None)
  if number not in _FIXES:
    text = str(error)
    number = next((n for p, n in _PHRASES.items() if p in text), None)
  return _FIXES.get(number)


@contextlib.contextmanager
def errors_named(folder: str) -> Iterator[None]:
  """Turns what the storage refuses into a user's error with the path.

  Args:
    folder: where things are written, for errors that don't say.
  """
  try:
    yield
  except errors.UserError:
    raise
  except Exception as error:
    fix = fix_for(error)
    if fix is None:
      raise
    where = getattr(error, 'filename', None) or folder
    raise errors.UserError(
      f'{where}: cannot be written ({error}). {fix}.'
    ) from error
