"""Checks the TFRecord files that a data set is prepared in.

TFDS notes in `dataset_info.json` how many examples each of its files holds.
Before a run reads them, the files are walked through by their record headers,
so that a file that was cut short at a record's end, which reads without an
error, is found as well. When reading fails later, the records are read one by
one to name the first that is damaged.
"""

import contextlib
import json
import os
import re
import struct
from collections.abc import Iterable, Iterator

import seqio
import tensorflow as tf

from t5x import errors
from t5x.data import config

# A record is its length (8 bytes), a checksum of that (4), the data, and a
# checksum of the data (4), all in little-endian order.
_LENGTH = struct.Struct('<Q')
_HEADER_BYTES, _FOOTER_BYTES = 12, 4
_FILE_NAME = re.compile(r'-(\w+)\.tfrecord-(\d+)-of-(\d+)$')
_AGAIN = (
  'Prepare the data set again: remove its folder, or set --tfds_data_dir to'
  ' another place.'
)


def check_files(configs: Iterable[config.DatasetConfig | None]) -> None:
  """Checks that the files of some data sets hold what they should.

  Only local TFRecord files that TFDS prepared are looked at.

  Args:
    configs: what is to be read; None is passed over.

  Raises:
    errors.DamagedError: a file is missing, cut short, or has too few records.
  """
  for path in _paths(configs):
    expected = _expected_records(path)
    found = count_records(path)
    if expected is not None and found != expected:
      raise errors.DamagedError(
        f'{path}: expected {expected} records, as dataset_info.json beside it'
        f' says, found {found}. {_AGAIN}'
      )


@contextlib.contextmanager
def damage_named(
  configs: Iterable[config.DatasetConfig | None],
) -> Iterator[None]:
  """Names file and record where TensorFlow can't read the data.

  Args:
    configs: what is read inside.
  """
  configs = list(configs)
  try:
    yield
  except tf.errors.OpError as error:
    for path in _paths(configs):
      _read_all(path)
    raise error


def count_records(path: str) -> int:
  """Counts the records of a TFRecord file by their headers.

  Raises:
    errors.DamagedError: the file is missing, or ends within a record.
  """
  try:
    size = os.path.getsize(path)
    with open(path, 'rb') as file:
      count, place = 0, 0
      while place < size:
        header = file.read(_HEADER_BYTES)
        if len(header) == _HEADER_BYTES:
          (length,) = _LENGTH.unpack(header[: _LENGTH.size])
          place += _HEADER_BYTES + length + _FOOTER_BYTES
        if len(header) < _HEADER_BYTES or place > size:
          raise errors.DamagedError(
            f'{path}: record {count} reaches beyond the end of the file, which'
            f' has {size} bytes: it was cut short, or is no TFRecord file.'
            f' {_AGAIN}'
          )
        file.seek(place)
        count += 1
  except FileNotFoundError as error:
    raise errors.DamagedError(
      f'{path}: missing, but dataset_info.json beside it lists it. {_AGAIN}'
    ) from error
  return count


def _read_all(path: str) -> None:
  """Reads every record with its checksum; raises where one is damaged."""
  count_records(path)
  count = 0
  try:
    for _ in tf.data.TFRecordDataset(path):
      count += 1
  except tf.errors.DataLossError as error:
    raise errors.DamagedError(
      f'{path}: record {count} is damaged: its bytes are not those that were'
      f' written. {_AGAIN}'
    ) from error


def _paths(configs: Iterable[config.DatasetConfig | None]) -> list[str]:
  """The local TFRecord files of the configs, each once."""
  found: dict[str, None] = {}
  for cfg in configs:
    if cfg is None:
      continue
    for task in seqio.get_subtasks(config.mixture_or_task(cfg)):
      if cfg.split not in task.splits or not isinstance(
        task.source, seqio.TfdsDataSource
      ):
        continue
      for path in task.source.list_shards(cfg.split):
        if _FILE_NAME.search(str(path)) and '://' not in str(path):
          found[str(path)] = None
  return list(found)


def _expected_records(path: str) -> int | None:
  """What `dataset_info.json` says of a file; None if it says nothing."""
  split, number, _ = _FILE_NAME.search(path).groups()
  info = os.path.join(os.path.dirname(path), 'dataset_info.json')
  try:
    with open(info, encoding='utf-8') as file:
      splits = json.load(file)['splits']
    lengths = next(s['shardLengths'] for s in splits if s['name'] == split)
    return int(lengths[int(number)])
  except FileNotFoundError:
    return None
  except (ValueError, KeyError, TypeError, StopIteration, IndexError) as error:
    raise errors.DamagedError(
      f'{info}: does not say how many records {os.path.basename(path)} has'
      f' ({error!r}). {_AGAIN}'
    ) from error
