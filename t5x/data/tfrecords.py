"""TFRecord files of data sets: checks before reading, and after it failed.

TFDS writes into `dataset_info.json` how many examples each of its files holds.
Before a run reads the files, their records are counted by the headers, so that
a file that was cut short at a record's end, which reads without an error, is
found as well. When reading fails later, the records are read one by one to name
the first damaged one.
"""

import contextlib
import json
import os
import re
import struct
from collections.abc import Iterable, Iterator

import seqio
import tensorflow as tf

from t5x import errors, files
from t5x.data import config

# A record is its length (8 bytes), a checksum of that (4), the data, and a
# checksum of the data (4), all in little-endian order.
_LENGTH = struct.Struct('<Q')
_HEADER_BYTES, _FOOTER_BYTES = 12, 4
_FILE_NAME = re.compile(r'-(\w+)\.tfrecord-(\d+)-of-(\d+)$')
# How TensorFlow tells that a Python function raised one of our errors.
_MISTAKE = re.compile(
  r'\b(?:UserError|DataError|DamagedError): (.+?)(?:\nTraceback |\n\n|\Z)', re.S
)
_AGAIN = (
  'Prepare the data set again: remove its folder, or set --tfds_data_dir to'
  ' another place.'
)


def check_files(configs: Iterable[config.DatasetConfig | None]) -> None:
  """Checks that the files of some data sets hold what they should.

  Only local TFRecord files that TFDS prepared are looked at.

  Args:
    configs: what is to be read; None is skipped.

  Raises:
    errors.DamagedError: a file is missing, cut short, or has too few records.
  """
  for path in _paths(configs):
    expected = _expected_records(path)
    count = count_records(path)
    if expected is not None and count != expected:
      raise errors.DamagedError(
        f'{path}: expected {expected} records, as dataset_info.json beside it'
        f' says, found {count}. {_AGAIN}'
      )


@contextlib.contextmanager
def naming_damage_in_errors(
  configs: Iterable[config.DatasetConfig | None],
) -> Iterator[None]:
  """Turns what TensorFlow can't read into an error with file and record.

  A user's mistake that a Python function of the pipeline raised, which
  TensorFlow hands on as text, is raised as one again.

  Args:
    configs: what is read inside.
  """
  configs = list(configs)
  try:
    yield
  except tf.errors.OpError as error:
    if mistake := _MISTAKE.search(str(error)):
      raise errors.UserError(mistake.group(1).strip()) from error
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
      count, position = 0, 0
      while position < size:
        header = file.read(_HEADER_BYTES)
        if len(header) == _HEADER_BYTES:
          (length,) = _LENGTH.unpack(header[: _LENGTH.size])
          position += _HEADER_BYTES + length + _FOOTER_BYTES
        if len(header) < _HEADER_BYTES or position > size:
          raise errors.DamagedError(
            f'{path}: record {count} reaches beyond the end of the file, which'
            f' has {size} bytes: it was cut short, or is no TFRecord file.'
            f' {_AGAIN}'
          )
        file.seek(position)
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
  paths = [
    str(path)
    for cfg in configs
    if cfg is not None
    for task in config.tasks_with_split(cfg)
    if isinstance(task.source, seqio.TfdsDataSource)
    for path in task.source.list_shards(cfg.split)
  ]
  local = [p for p in paths if _FILE_NAME.search(p) and not files.is_remote(p)]
  return list(dict.fromkeys(local))


def _expected_records(path: str) -> int | None:
  """Returns the count in `dataset_info.json`; None without that file."""
  name = _FILE_NAME.search(path)
  if name is None:
    return None
  split, number, _ = name.groups()
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
