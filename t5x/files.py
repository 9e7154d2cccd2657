"""Local and remote paths, atomic writes, and fixes for errors of storage."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from etils import epath

from t5x import errors


def join(path: str, *parts: str) -> str:
  """Joins a path that may be a URL with names below it."""
  return '/'.join([os.fspath(path).rstrip('/'), *parts])


def is_remote(path: str) -> bool:
  """Whether `path` is a URL, not a local file or folder."""
  return '://' in os.fspath(path)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[epath.Path]:
  """Replaces a file at once, when its new content is complete.

      with files.replacing(folder / 'config.gin') as work:
        work.write_text(config)

  A kill at any time leaves the old file or the new one. An exception leaves the
  old one, and removes what was written.

  Args:
    path: the file, local or remote, in a folder that exists.

  Yields:
    Where to write it: a name beside `path` that only this process uses.
  """
  final = epath.Path(path)
  work = final.with_name(f'{final.name}.{os.getpid()}.tmp')
  try:
    yield work
    work.replace(final)
  except BaseException:
    work.unlink(missing_ok=True)
    raise


_FORBIDDEN = 'You may not write there: choose another MODEL_DIR'
_IN_THE_WAY = 'A file is in the way: choose another MODEL_DIR'
_FIXES = {
  errno.ENOSPC: 'The disk is full: free some space, or keep fewer checkpoints',
  errno.EDQUOT: 'Your quota is used up: free some space',
  errno.EFBIG: 'Files may not get as large as this: raise the limit (ulimit)',
  errno.EROFS: 'That folder is read-only: choose another MODEL_DIR',
  errno.EACCES: _FORBIDDEN,
  errno.EPERM: _FORBIDDEN,
  errno.ENOTDIR: _IN_THE_WAY,
  errno.EEXIST: _IN_THE_WAY,
}
# Texts of TensorStore's and TensorFlow's errors, which have no number.
_PHRASES = {
  'No space left': errno.ENOSPC,
  'Disk quota': errno.EDQUOT,
  'File too large': errno.EFBIG,
  'Read-only file system': errno.EROFS,
  'Permission denied': errno.EACCES,
}


def fix_for(error: BaseException) -> str | None:
  """Returns what to do about an error of storage; None for other errors."""
  number = getattr(error, 'errno', None)
  if number in _FIXES:
    return _FIXES[number]
  text = str(error)
  return next((_FIXES[n] for p, n in _PHRASES.items() if p in text), None)


@contextlib.contextmanager
def naming_path_in_errors(
  folder: str, consequence: Callable[[str], str] = lambda _: ''
) -> Iterator[None]:
  """Turns errors of storage into a `UserError` with the path and a fix.

  Args:
    folder: where files are written, for errors that don't name one.
    consequence: from `folder` to a further sentence, after a space.
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
    reason = str(error).partition(' [')[0]
    raise errors.UserError(
      f'{where}: cannot be written ({reason}). {fix}.{consequence(folder)}'
    ) from error
