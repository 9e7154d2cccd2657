"""Digests of what a dataset config reads: the rows, and their vocabularies.

Two processes, or a run and the one that it resumes, read the same only if these
are equal. Names and counts alone don't tell rows that were edited.
"""

import hashlib
import itertools
import os
import zlib
from collections.abc import Iterator

import numpy as np
import seqio
import tensorflow as tf

from t5x import files
from t5x.data import config, tfrecords

# All files of a task together are read up to 256 MiB, each up to 64 MiB: larger
# ones at their start, their end and evenly between, unless their records have
# checksums.
_BLOCK_BYTES = 1 << 16
_BLOCKS_OF_TASK = 4096
_BLOCKS_OF_FILE = 1024
# Of rows that come from no file, such as those of a Python function.
_EXAMPLES = 256
_DIGITS = 16


def content_digests(cfg: config.DatasetConfig) -> dict[str, str]:
  """Returns a digest of each task's rows.

  Local files are compared by name, size and bytes; large ones by the checksums
  of their records, or, without any, by a sample of their bytes; remote ones by
  name alone, since all read the same. Rows that come from no file are compared
  by the first 256, whatever their number.

  Args:
    cfg: what is read.
  """
  digests = {}
  for task in config.tasks_with_split(cfg):
    digest = hashlib.sha256()
    for part in _parts(task, cfg):
      digest.update(part)
      digest.update(b'\0')
    digests[task.name] = digest.hexdigest()[:_DIGITS]
  return digests


def vocabulary_digests(cfg: config.DatasetConfig) -> dict[str, str]:
  """Returns a digest of each feature's vocabulary.

  Args:
    cfg: what is read.
  """
  features = config.mixture_or_task(cfg).output_features
  return {
    name: _vocabulary_digest(feature.vocabulary)
    for name, feature in sorted(features.items())
  }


def _vocabulary_digest(vocabulary: seqio.Vocabulary) -> str:
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    # The pieces, wherever their file lies.
    described = vocabulary.sp_model
  else:
    described = type(vocabulary).__name__.encode()
  extra = f'{vocabulary.extra_ids} {vocabulary.vocab_size}'.encode()
  return hashlib.sha256(described + b'\0' + extra).hexdigest()[:_DIGITS]


def _parts(task: seqio.Task, cfg: config.DatasetConfig) -> Iterator[bytes]:
  """Yields what tells the rows of a task's split from others."""
  paths = tfrecords.files_of(task, cfg)
  if all(files.is_remote(path) for path in paths):
    yield from (path.encode() for path in paths)
  elif all(files.is_remote(p) or os.path.isfile(p) for p in paths):
    blocks = max(2, min(_BLOCKS_OF_FILE, _BLOCKS_OF_TASK // len(paths)))
    for path in paths:
      yield os.path.basename(path).encode()
      if not files.is_remote(path):
        yield from _file_parts(path, blocks)
  else:
    rows = task.source.get_dataset(split=cfg.split, shuffle=False)
    for example in itertools.islice(rows.as_numpy_iterator(), _EXAMPLES):
      yield from _example_parts(example)


def _file_parts(path: str, blocks: int) -> Iterator[bytes]:
  """Yields a file's size and a checksum of up to so many blocks."""
  size = os.path.getsize(path)
  yield str(size).encode()
  records = None
  if size > blocks * _BLOCK_BYTES:
    records = tfrecords.digest(path)
  if records is not None:
    yield str(records).encode()
    return
  if size <= blocks * _BLOCK_BYTES:
    places = list(range(0, size, _BLOCK_BYTES))
  else:
    last = size - _BLOCK_BYTES
    places = [last * i // (blocks - 1) for i in range(blocks)]
  crc = 0
  with open(path, 'rb') as file:
    for place in places:
      file.seek(place)
      crc = zlib.crc32(file.read(_BLOCK_BYTES), crc)
  yield str(crc).encode()


def _example_parts(example: object) -> Iterator[bytes]:
  for leaf in tf.nest.flatten(example):
    array = np.asarray(leaf)
    yield f'{array.dtype} {array.shape}'.encode()
    if array.dtype == object:
      yield from (bytes(value) for value in array.ravel())
    else:
      yield array.tobytes()
