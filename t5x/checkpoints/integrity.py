"""What a run says when the disk is full, read-only, or has lost bytes.

Every local checkpoint holds `checksums.json`: size and CRC-32 of each of its
files. It is written before the checkpoint gets its name, and checked before the
checkpoint is restored, so that a byte that has changed is found and named
rather than trained on. What lies on `gs://` is checked by the storage itself.
"""

import json
import os
import zlib
from collections.abc import Iterator

import jax

from t5x import errors, files

CHECKSUMS_FILE = 'checksums.json'
# Orbax changes it when it gives the checkpoint its name.
_NOT_CHECKED = (CHECKSUMS_FILE, '_CHECKPOINT_METADATA')
# The data position, which `keep_dataset_checkpoints` removes.
_MAY_GO = 'dataset'
# Snapshots of the input hold a checksum of their own: one that is damaged costs
# the run some time, and not a checkpoint.
_SNAPSHOTS = os.path.join('dataset', 'part_')
_CHUNK = 1 << 20


def write_checksums(folder: str) -> None:
  """Writes `checksums.json` for the files that lie in a folder."""
  found = {}
  for name in _files(folder):
    path = os.path.join(folder, name)
    found[name] = [os.path.getsize(path), _crc32(path)]
  with open(
    os.path.join(folder, CHECKSUMS_FILE), 'w', encoding='utf-8'
  ) as file:
    json.dump(found, file)


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
  mine = sorted(expected)[jax.process_index() :: jax.process_count()]
  for name in mine:
    file, (size, crc) = os.path.join(folder, name), expected[name]
    if not os.path.isfile(file):
      if name.startswith(_MAY_GO):
        continue
      raise errors.DamagedError(f'{file}: missing from the checkpoint. {_COPY}')
    found = os.path.getsize(file)
    if found != size:
      raise errors.DamagedError(
        f'{file}: expected {size} bytes, found {found}. {_COPY}'
      )
    if _crc32(file) != crc:
      raise errors.DamagedError(
        f'{file}: its bytes are not those that were written (their CRC-32'
        f' differs). {_COPY}'
      )


_COPY = 'The checkpoint is damaged; copy it again, or choose another step.'


def _read_checksums(path: str) -> dict[str, tuple[int, int]]:
  try:
    with open(path, encoding='utf-8') as file:
      entries = json.load(file)
    found = {
      str(name): (int(size), int(crc)) for name, (size, crc) in entries.items()
    }
  except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
    raise errors.DamagedError(
      f'{path}: expected file names with their sizes and checksums, found'
      f' something else ({error}). {_COPY}'
    ) from error
  outside = [n for n in found if os.path.isabs(n) or '..' in n.split('/')]
  if outside:
    raise errors.DamagedError(
      f'{path}: names files outside the checkpoint: {outside}. {_COPY}'
    )
  return found


def _files(folder: str) -> Iterator[str]:
  """Yields the names of all files below a folder, relative to it."""
  for place, _, names in os.walk(folder):
    for name in names:
      path = os.path.relpath(os.path.join(place, name), folder)
      if name not in _NOT_CHECKED and not path.startswith(_SNAPSHOTS):
        yield path


def _crc32(path: str) -> int:
  crc = 0
  with open(path, 'rb') as file:
    while chunk := file.read(_CHUNK):
      crc = zlib.crc32(chunk, crc)
  return crc


def set_aside(folder: str) -> str:
  """Renames a damaged local checkpoint, so that it no longer counts.

  Returns:
    Its new path: `runs/a/checkpoint_30` becomes `runs/a/damaged-checkpoint_30`.
  """
  parent, name = os.path.split(folder.rstrip('/'))
  aside = os.path.join(parent, f'damaged-{name}')
  number = 1
  while os.path.exists(aside):
    number += 1
    aside = os.path.join(parent, f'damaged-{name}-{number}')
  os.rename(folder, aside)
  return aside
