"""Local and remote paths, atomic writes, and fixes for errors of storage."""

import contextlib
import errno
import os
import re
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
  old one, and removes what was written. An error of storage that names no file,
  such as that of a full disk, gets the name of this one.

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
  except BaseException as error:
    work.unlink(missing_ok=True)
    if isinstance(error, OSError) and error.errno and error.filename is None:
      error.filename = os.fspath(final)
    raise


# Error number to what may be done about it where a folder is written.
_FIXES = {
  errno.ENOSPC: 'The disk is full: free some space',
  errno.EDQUOT: 'Your quota is used up: free some space',
  errno.EFBIG: 'Files may not get as large as this: raise the limit (ulimit)',
  errno.EROFS: (
    'That place is read-only: make it writable, or choose another {name}'
  ),
  errno.EACCES: 'You may not write there: choose another {name}',
  errno.EPERM: 'You may not write there: choose another {name}',
  errno.ENOTDIR: 'A file is in the way: choose another {name}',
  errno.EEXIST: 'A file is in the way: choose another {name}',
}
# These may as well be about a file that is only read.
_ALSO_READING = {errno.EACCES, errno.EPERM, errno.ENOTDIR}
# Texts of TensorStore's and TensorFlow's errors, which have no number.
_PHRASES = {
  'No space left': errno.ENOSPC,
  'Disk quota': errno.EDQUOT,
  'File too large': errno.EFBIG,
  'Read-only file system': errno.EROFS,
  'Permission denied': errno.EACCES,
}
_TENSORFLOWS = re.compile(r'^\{\{[^}]*\}\} *')


def storage_error(
  error: BaseException, folder: str | None = None, name: str = 'folder'
) -> errors.UserError | None:
  """Returns an error of storage as one for the user; None for other errors.

  Args:
    error: what was raised while files were read and written.
    folder: where they were to be written; None if that isn't known.
    name: what the user calls that folder, such as 'MODEL_DIR'.
  """
  if isinstance(error, FileNotFoundError) and _is_working_folder_gone():
    return errors.UserError(
      'The folder that this program was started in is gone: expected one to'
      ' find files from. Go to another folder (cd), and give the same command.'
    )
  text = str(error)
  number = getattr(error, 'errno', None)
  if number not in _FIXES:
    number = next((n for phrase, n in _PHRASES.items() if phrase in text), None)
  if number is None:
    return None
  # TensorFlow says where in its own code it was, and repeats itself below.
  reason = _TENSORFLOWS.sub('', text.partition(' [')[0]).splitlines()[0]
  path = getattr(error, 'filename', None)
  if number in _ALSO_READING and not _is_about(folder, path, text):
    where = os.fspath(path) if path else 'A file that was to be read'
    return errors.UserError(
      f'{where}: cannot be opened ({reason}). Check its path, and that you may'
      ' read it.'
    )
  where = os.fspath(path or folder or 'A file')
  fix = _FIXES[number].format(name=name)
  return errors.UserError(f'{where}: cannot be written ({reason}). {fix}.')


def _is_working_folder_gone() -> bool:
  try:
    os.getcwd()
  except FileNotFoundError:
    return True
  return False


def _is_about(folder: str | None, path: object, text: str) -> bool:
  """Whether an error is about a folder or what is in it."""
  if folder is None:
    return False
  if not isinstance(path, str):
    return folder in text
  inside = os.path.abspath(folder)
  return f'{os.path.abspath(path)}/'.startswith(f'{inside}/')


@contextlib.contextmanager
def naming_path_in_errors(
  folder: str,
  consequence: Callable[[str], str] = lambda _: '',
  name: str = 'MODEL_DIR',
) -> Iterator[None]:
  """Turns errors of storage into a `UserError` with the path and a fix.

  Args:
    folder: where files are written.
    consequence: from `folder` to a further sentence, after a space.
    name: what the user calls the folder.
  """
  try:
    yield
  except errors.UserError:
    raise
  except Exception as error:
    told = storage_error(error, folder, name)
    if told is None:
      raise
    raise errors.UserError(f'{told}{consequence(folder)}') from error
