"""Checksums of local checkpoints.

Every local checkpoint holds `checksums.json`: size and CRC-32 of each of its
files. It is written before the checkpoint gets its name, and checked before the
checkpoint is restored, so that a changed byte is found and named rather than
trained on; Orbax itself finds few of them. `gs://` verifies its own bytes.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator

import jax
from etils import epath

from t5x import errors, files

CHECKSUMS_FILE = 'checksums.json'
# Orbax changes the second when it gives the checkpoint its name.
_NOT_CHECKED = (CHECKSUMS_FILE, '_CHECKPOINT_METADATA')
# The data position, which `keep_dataset_checkpoints` removes.
_REMOVABLE = 'dataset'
# Snapshots of the input hold their own checksums: a damaged one costs the run
# some time, but not a checkpoint.
_SNAPSHOTS = os.path.join('dataset', 'part_')
_CHUNK_BYTES = 1 << 20
_COPY = 'The checkpoint is damaged; copy it again, or choose another step.'


def write_checksums(folder: str) -> None:
  """Writes `checksums.json` for the files in a folder."""
  sums = {}
  for name in _files(folder):
    path = os.path.join(folder, name)
    sums[name] = [os.path.getsize(path), _crc32(path)]
  path = os.path.join(folder, CHECKSUMS_FILE)
  with open(path, 'w', encoding='utf-8') as file:
    json.dump(sums, file)


def check(folder: str) -> None:
  """Compares a checkpoint's files with its checksums, if it has any.

  With several processes, each reads a share of the files.

  Args:
    folder: the checkpoint.

  Raises:
    errors.DamagedError: a file is missing, or is not what was written.
  """
  path = os.path.join(os.fspath(folder), CHECKSUMS_FILE)
  if files.is_remote(path) or not os.path.exists(path):
    return
  expected = _read_checksums(path)
  share = sorted(expected)[jax.process_index() :: jax.process_count()]
  for name in share:
    file, (size, crc) = os.path.join(folder, name), expected[name]
    if not os.path.isfile(file):
      if name.startswith(_REMOVABLE):
        continue
      raise errors.DamagedError(f'{file}: missing from the checkpoint. {_COPY}')
    actual = os.path.getsize(file)
    if actual != size:
      raise errors.DamagedError(
        f'{file}: expected {size} bytes, found {actual}. {_COPY}'
      )
    if _crc32(file) != crc:
      raise errors.DamagedError(
        f'{file}: its bytes are not those that were written (their CRC-32'
        f' differs). {_COPY}'
      )


def check_inside(path: str) -> None:
  """Raises unless all files of a local checkpoint are files in its folder.

  A checkpoint that was downloaded may hold links to other files of this
  machine, or pipes that never end. (Names with `..` in Orbax's metadata are
  refused where it is read.)

  Args:
    path: a checkpoint's folder; the folder itself may be a link.

  Raises:
    errors.DamagedError: names the first that is not.
  """
  if files.is_remote(path):
    return
  root = os.path.realpath(path)
  for parent, folders, names in os.walk(root):
    for name in (*folders, *names):
      file = os.path.join(parent, name)
      # That of what a link leads to.
      place = os.path.realpath(file)
      if not place.startswith(f'{root}/'):
        raise errors.DamagedError(
          f'{file}: leads to {place}, outside the checkpoint. If you trust it,'
          ' copy what is there in its place.'
        )
      if not (os.path.isfile(place) or os.path.isdir(place)):
        raise errors.DamagedError(
          f'{file}: expected a file, found something else. {_COPY}'
        )


def digest(path: str) -> str:
  """Returns what tells a checkpoint's weights from others of the same name.

  That is a digest of its checksums. A checkpoint without them is told by the
  names, sizes and times of its files; of a remote one only those directly in
  its folder, since each file is a request.

  Args:
    path: a checkpoint: a folder, or a file.
  """
  checksums = os.path.join(path, CHECKSUMS_FILE)
  described = hashlib.sha256()
  if not files.is_remote(path) and os.path.isfile(checksums):
    described.update(json.dumps(_read_checksums(checksums)).encode())
  else:
    for name, size, changed in sorted(_stats(path)):
      described.update(f'{name} {size} {changed}\n'.encode())
  return described.hexdigest()[:16]


def _stats(path: str) -> Iterator[tuple[str, int, float]]:
  """Yields name, bytes and time of each file of a checkpoint."""
  if files.is_remote(path) or os.path.isfile(path):
    root = epath.Path(path)
    for file in root.iterdir() if root.is_dir() else [root]:
      stat = file.stat()
      yield file.name, stat.length, stat.mtime
    return
  for parent, _, names in os.walk(path):
    for name in names:
      file = os.path.join(parent, name)
      status = os.stat(file)
      yield os.path.relpath(file, path), status.st_size, status.st_mtime


def _read_checksums(path: str) -> dict[str, tuple[int, int]]:
  try:
    with open(path, encoding='utf-8') as file:
      entries = json.load(file)
    sums = {
      str(name): (int(size), int(crc)) for name, (size, crc) in entries.items()
    }
  except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
    raise errors.DamagedError(
      f'{path}: expected file names with their sizes and checksums, found'
      f' something else ({error}). {_COPY}'
    ) from error
  outside = [n for n in sums if os.path.isabs(n) or '..' in n.split('/')]
  if outside:
    raise errors.DamagedError(
      f'{path}: names files outside the checkpoint: {outside}. {_COPY}'
    )
  return sums


def _files(folder: str) -> Iterator[str]:
  """Yields the names of all files below a folder, relative to it."""
  for parent, _, names in os.walk(folder):
    for name in names:
      path = os.path.relpath(os.path.join(parent, name), folder)
      if name not in _NOT_CHECKED and not path.startswith(_SNAPSHOTS):
        yield path


def _crc32(path: str) -> int:
  crc = 0
  with open(path, 'rb') as file:
    while chunk := file.read(_CHUNK_BYTES):
      crc = zlib.crc32(chunk, crc)
  return crc


def set_aside(folder: str) -> str:
  """Renames a damaged local checkpoint, so that it no longer counts.

  Returns:
    Its new path: `runs/a/checkpoint_30` becomes `runs/a/damaged-checkpoint_30`.
  """
  parent, name = os.path.split(folder.rstrip('/'))
  aside = free = os.path.join(parent, f'damaged-{name}')
  number = 1
  while os.path.exists(free):
    number += 1
    free = f'{aside}-{number}'
  os.rename(folder, free)
  return free
