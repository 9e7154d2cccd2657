"""Files of one data set, in a folder or a zip in the published layout.

The layout has one folder per data set, and beside them one with the outputs of
GPT-NeoX:

  cqa/cqa_train.json                    the rows
  cqa/llm/train_CoT_0.json, …           what PaLM wrote
  cqa/<teacher>/train_CoT_0.json, …     what another teacher wrote
  gpt-neox/cqa/train.json               what GPT-NeoX wrote

A zip is read in place: nothing is ever unpacked, so no name in it can reach
outside of it.
"""

import contextlib
import os
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator

from etils import epath

from dss_jax import errors
from dss_jax.data import text_files

# Members that claim to unpack to more are refused: the largest published file
# has a quarter of it. Python never unpacks more than a member claims.
MAX_MEMBER_BYTES = 2**30
# Text compresses about tenfold, zip bombs a thousandfold.
MAX_EXPANSION = 200
_SMALL_BYTES = 2**24
# The other methods unpack in blocks of unbounded size.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# What zipfile raises for corrupt bytes: offsets before the file's start, names
# that cannot be decoded, future versions, encryption, …
_BROKEN = (
  zipfile.BadZipFile,
  zlib.error,
  struct.error,
  EOFError,
  OSError,
  RuntimeError,
  ValueError,
)

# Where a folder or zip may keep a data set; '{}' is its name.
_FOLDERS = ('{}/', '', 'datasets/{}/')
_FILE_SPLITS = ('train', 'test', 'valid')


class Files:
  """The files of one data set, named relative to its folder.

  Names use `/`; `../gpt-neox/cqa/train.json` is beside the data set's folder.
  """

  def __init__(self, location: epath.Path, folder: str):
    self._location = location
    # Of the data set within the location: '' or ending in '/'.
    self._folder = folder

  def _path(self, name: str) -> epath.Path:
    return self._location / self._inner(name)

  def place(self, name: str) -> str:
    """Returns the path of a file, for error messages."""
    return str(self._path(name))

  def exists(self, name: str) -> bool:
    """Returns whether there is such a file."""
    return self._path(name).is_file()

  def list(self, folder: str) -> list[str]:
    """Returns the names of the files in a folder, [] where it is missing."""
    path = self._path(folder)
    return sorted(p.name for p in path.iterdir()) if path.is_dir() else []

  def state(self, name: str) -> tuple[int, int]:
    """Returns size and time of a file, which are cheap and change with it."""
    path = self._path(name)
    try:
      stat = os.stat(path)
    except OSError:  # Not on a local disk.
      remote = path.stat()
      return remote.length, int(remote.mtime)
    return stat.st_size, stat.st_mtime_ns

  def read(self, name: str) -> bytes:
    """Returns the content of a file.

    Raises:
      DataError: it cannot be read.
    """
    try:
      return self._path(name).read_bytes()
    except OSError as error:
      raise errors.DataError(
        f'{self.place(name)}: expected a file that can be read, found:'
        f' {error}. Check its permissions.'
      ) from error

  def text(self, name: str) -> str:
    """Returns the text of a file.

    Raises:
      DataError: it cannot be read, is empty, or not UTF-8.
    """
    data = self.read(name)
    if not data.strip():
      raise errors.DataError(
        f'{self.place(name)}: expected rows, found an empty file. Get the file'
        ' again.'
      )
    return text_files.decode(data, self.place(name))

  def _inner(self, name: str) -> str:
    """Returns a name relative to the location."""
    inner = self._folder + name
    return posixpath.normpath(inner) if name.startswith('../') else inner


class _ZipFiles(Files):
  """Files of one data set in an open zip."""

  def __init__(
    self, location: epath.Path, folder: str, archive: zipfile.ZipFile
  ):
    super().__init__(location, folder)
    self._archive = archive
    self._names = set(archive.namelist())

  def exists(self, name: str) -> bool:
    return self._inner(name) in self._names

  def state(self, name: str) -> tuple[int, int]:
    info = self._archive.getinfo(self._inner(name))
    return info.file_size, info.CRC

  def list(self, folder: str) -> list[str]:
    prefix = self._inner(folder).rstrip('/') + '/'
    rests = (n[len(prefix) :] for n in self._names if n.startswith(prefix))
    return sorted(rest for rest in rests if rest and '/' not in rest)

  def read(self, name: str) -> bytes:
    info = self._archive.getinfo(self._inner(name))
    self._check_bounds(name, info)
    try:
      return self._archive.read(info)
    except _BROKEN as error:
      raise errors.DataError(
        f'{self.place(name)}: expected a whole, unencrypted member, found:'
        f' {error}. Get the archive again, or unpack it and give the folder.'
      ) from error

  def _check_bounds(self, name: str, info: zipfile.ZipInfo) -> None:
    """Raises a DataError if reading a member could exhaust the memory."""
    size, limit = info.file_size, MAX_MEMBER_BYTES
    if size > _SMALL_BYTES:
      limit = min(limit, MAX_EXPANSION * info.compress_size)
    if size > limit:
      raise errors.DataError(
        f'{self.place(name)}: expected a member of at most {limit} bytes,'
        f' {info.compress_size} packed, found {size}. If you trust it, unpack'
        ' the archive and give its folder instead.'
      )
    if info.compress_type not in _METHODS:
      raise errors.DataError(
        f'{self.place(name)}: expected a stored or deflated member, found'
        f' method {info.compress_type}. Pack it with `zip`, or give its folder.'
      )


@contextlib.contextmanager
def open_files(location: str, name: str) -> Iterator[Files]:
  """Opens a data set's files in a folder or zip in the published layout.

  Args:
    location: a folder or `.zip`, local or remote. It may be the data set's
      folder, or hold it, possibly under `datasets/`.
    name: of the data set, such as `cqa`.

  Yields:
    Its files.

  Raises:
    DataError: there is no such path, it is no folder or zip, or it does not
      hold the data set.
  """
  path = epath.Path(location).expanduser()
  archive = None
  with contextlib.ExitStack() as stack:
    if not path.is_dir():
      if not path.exists():
        near = Files(path.parent, '').list('')
        raise errors.DataError(
          f"DATA {location!r}: expected 'sample', 'release', or the path of a"
          ' folder or .zip in the published layout, found nothing there.'
          f'{errors.did_you_mean(path.name, [*near, "sample", "release"])}'
        )
      try:
        file = stack.enter_context(path.open('rb'))
        archive = stack.enter_context(zipfile.ZipFile(file))
      except _BROKEN as error:
        raise errors.DataError(
          f'{path}: expected a folder or a .zip, found a file that is neither'
          f' ({error}). Give DATA the folder or the .zip of the release.'
        ) from error
    for folder in (pattern.format(name) for pattern in _FOLDERS):
      files = (
        _ZipFiles(path, folder, archive) if archive else Files(path, folder)
      )
      if any(files.exists(f'{name}_{s}.json') for s in _FILE_SPLITS):
        yield files
        return
    found = archive.namelist() if archive else Files(path, '').list('')
    shown = ', '.join(found[:8]) + (', …' if len(found) > 8 else '')
    raise errors.DataError(
      f'{path}: expected the data set {name!r} in the published layout'
      f' ({name}/{name}_train.json and {name}/{name}_test.json), found'
      f' {shown or "nothing"}. Give DATA the folder or the .zip that holds'
      f' {name}/.'
    )
