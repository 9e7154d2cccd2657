"""The archive published with the paper's code, downloaded once.

It is kept in the TFDS data dir as `downloads/dss_release.zip`. It may be put
there by hand, or as a folder `downloads/dss_release` in the same layout. The
environment variable DSS_RELEASE_URL names a mirror to fetch it from.
"""

import hashlib
import os
import urllib.request
import uuid
import zipfile
import zlib

from etils import epath

from dss_jax import errors, neutral
from dss_jax.data import records

URL = (
  'https://github.com/google-research/distilling-step-by-step/raw/main/'
  'datasets.zip'
)
PLACES = ('downloads/dss_release', 'downloads/dss_release.zip')
# Rows of the published archive: other counts mean that it is incomplete.
ROWS = {
  'anli1': {'train': 16946, 'validation': 1000, 'test': 1000},
  'cqa': {'train': 9741, 'test': 1221},
  'esnli': {'train': 549367, 'validation': 9842, 'test': 9824},
  'svamp': {'train': 800, 'test': 200},
}
_TIMEOUT_SECONDS = 60
_CHUNK_BYTES = 1 << 20


def place(root: epath.Path) -> epath.Path | None:
  """Returns the path of the release in a TFDS data dir, None without one."""
  paths = (root / name for name in PLACES)
  return next((path for path in paths if path.exists()), None)


def fetch(root: epath.Path) -> epath.Path:
  """Returns the path of the release, fetching it if it is missing.

  The archive gets its name once it is complete: a broken connection or a
  stopped process leaves nothing that could be mistaken for it.

  Args:
    root: the TFDS data dir.

  Raises:
    DataError: it cannot be fetched, or the download is not a complete archive.
      The message says where to put it by hand.
  """
  known = place(root)
  if known is not None:
    return known
  url = os.environ.get('DSS_RELEASE_URL') or URL
  target = root / PLACES[1]
  part = target.with_name(f'incomplete.{uuid.uuid4().hex}.zip')
  shown = neutral.without_logins(url)
  neutral.say(f'Fetching {shown} to {target}, once.', err=True)
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    size, digest = _download(url, part)
    _check_whole(part)
    part.replace(target)
  # The errors of urllib and remote file systems share no other base.
  except Exception as error:
    raise errors.DataError(
      f'DATA is release, but {shown} could not be fetched:'
      f' {type(error).__name__}: {error}. Fetch it by hand and save it as'
      f' {target}, or give its path as DATA.'
    ) from error
  finally:
    if part.exists():
      part.unlink()
  neutral.say(f'Fetched {size} bytes, SHA-256 {digest}.', err=True)
  return target


def _download(url: str, path: epath.Path) -> tuple[int, str]:
  """Downloads a URL into a file; returns its size and SHA-256."""
  size, digest = 0, hashlib.sha256()
  with (
    urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
    path.open('wb') as file,
  ):
    while chunk := response.read(_CHUNK_BYTES):
      file.write(chunk)
      digest.update(chunk)
      size += len(chunk)
    # Reading in chunks does not raise when the connection ends early.
    expected = response.headers.get('Content-Length')
  if expected is not None and size != int(expected):
    raise OSError(f'expected {expected} bytes, found {size}')
  return size, digest.hexdigest()


def _check_whole(path: epath.Path) -> None:
  """Raises an OSError unless a file is a zip with intact members."""
  try:
    with path.open('rb') as file, zipfile.ZipFile(file) as archive:
      bad = archive.testzip()
  except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
    raise OSError(f'expected a zip, found none ({error})') from error
  if bad is not None:
    raise OSError(f'expected a whole zip, found a damaged {bad!r} in it')


def check_published(data_set: str) -> None:
  """Raises a DataError unless the published archive has a data set."""
  if data_set not in ROWS:
    raise errors.DataError(
      f'DATA is release and the data set is {data_set!r}: expected one of'
      f' {", ".join(ROWS)}, which are all that the published archive has. Give'
      ' DATA the path of a folder or zip that holds it in the same layout.'
    )


def check_rows(data_set: str, location: str, read: records.Release) -> None:
  """Checks that a data set has the published number of rows.

  Args:
    data_set: its name.
    location: where it was read from.
    read: what was read.

  Raises:
    DataError: it has another.
  """
  counts = {split: len(rows) for split, rows in read.splits.items()}
  expected = ROWS.get(data_set, counts)
  if counts != expected:
    raise errors.DataError(
      f'{location}: expected the published rows of {data_set} ({expected}),'
      f' found {counts}. Remove it and get the archive again; for rows of'
      ' another kind, give the path as DATA.'
    )
