"""TFRecord files of data sets: checks before reading, and after it failed.

TFDS writes into `dataset_info.json` how many examples each of its files holds,
and SeqIO's offline cache says how many all of its files have. Before a run
reads the files, their records are counted by the headers, so that a file that
was cut short at a record's end, which reads without an error, is found as well.
When reading fails later, the records are read one by one to name the first
damaged one.

Each record has a checksum. All of them together tell the rows of a file of any
size from others, while 16 bytes of each record are read.
"""

import contextlib
import functools
import json
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import seqio
import tensorflow as tf

from t5x import errors, files
from t5x.data import config

# A record is its length (8 bytes), a checksum of that (4), the data, and a
# checksum of the data (4), all in little-endian order.
_LENGTH = struct.Struct('<Q')
_HEADER_BYTES, _FOOTER_BYTES = 12, 4
_FILE_NAME = re.compile(r'-(\w+)\.tfrecord-(\d+)-of-(\d+)$')
_TFRECORD = re.compile(r'\.tfrecord(-\d+-of-\d+)?$')
# How TensorFlow tells that a Python function raised one of our errors.
_MISTAKE = re.compile(
  r'\b(?:UserError|DataError|DamagedError): (.+?)(?:\nTraceback |\n\n|\Z)', re.S
)
_AGAIN = (
  'Prepare the data set again: remove its folder, or set --tfds_data_dir to'
  ' another place.'
)
_CACHE_AGAIN = "Write SeqIO's cache again, or set USE_CACHED_TASKS = False."
# Of whatever is counted; more is no count.
_MOST = 2**53


def check_files(configs: Iterable[config.DatasetConfig | None]) -> None:
  """Checks that the files of some data sets hold what they should.

  Only local TFRecord files that TFDS or SeqIO's cache prepared are looked at.

  Args:
    configs: what is to be read; None is skipped.

  Raises:
    errors.DamagedError: a file is missing, cut short, or has too few records.
  """
  checked = set()
  for cfg in filter(None, configs):
    for task in config.tasks_with_split(cfg):
      paths = _local(task, cfg)
      if not paths or paths[0] in checked:
        continue
      checked.add(paths[0])
      if cfg.use_cached:
        _check_cache(task, cfg.split, paths)
      else:
        _check_tfds(paths)


def _check_tfds(paths: Iterable[str]) -> None:
  for path in paths:
    expected = _expected_records(path)
    count = count_records(path)
    if expected is not None and count != expected:
      raise errors.DamagedError(
        f'{path}: expected {expected} records, as dataset_info.json beside it'
        f' says, found {count}. {_AGAIN}'
      )


def _check_cache(task: seqio.Task, split: str, paths: Iterable[str]) -> None:
  place = seqio.utils.get_cached_stats_path(task.cache_dir, split)
  expected = _entry(place, 'examples')
  count = sum(count_records(path) for path in paths)
  if count != expected:
    raise errors.DamagedError(
      f'{task.cache_dir}: expected {expected} records in the files of {split},'
      f' as {os.path.basename(place)} beside them says, found {count}.'
      f' {_CACHE_AGAIN}'
    )


def files_of(task: seqio.Task, cfg: config.DatasetConfig) -> list[str]:
  """Returns the paths of the files that a task reads, as a config says.

  Args:
    task: of the config.
    cfg: its split is the task's, and it says whether SeqIO's cache is read.

  Returns:
    The paths; none if there is no such cache, which SeqIO refuses to read.

  Raises:
    errors.UserError: the cache does not say what it holds.
  """
  # SeqIO reads a task that cannot be cached from its source.
  if not (cfg.use_cached and task.supports_caching):
    return [os.fspath(path) for path in task.source.list_shards(cfg.split)]
  if task.cache_dir is None:
    return []
  info = seqio.utils.get_cached_info_path(task.cache_dir, cfg.split)
  number = _entry(info, 'num_shards')
  prefix = seqio.utils.get_cached_tfrecord_prefix(task.cache_dir, cfg.split)
  return [f'{prefix}-{i:05}-of-{number:05}' for i in range(number)]


def _entry(path: str, name: str) -> int:
  """Returns a number that a file of SeqIO's cache holds."""
  try:
    with tf.io.gfile.GFile(path) as file:
      value: Any = json.load(file)[name]
    if type(value) is not int or not 0 <= value < _MOST:
      raise ValueError(f'{name}: {value!r:.60}')
  except tf.errors.NotFoundError as error:
    raise errors.DamagedError(f'{path}: missing. {_CACHE_AGAIN}') from error
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    raise errors.DamagedError(
      f'{path}: expected an object with the number {name!r}, found another'
      f' ({error!r:.120}). {_CACHE_AGAIN}'
    ) from error
  return value


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
  return _scanned(path)[0]


def digest(path: str) -> int | None:
  """Returns a checksum of all records of a local TFRecord file.

  Args:
    path: of any file.

  Returns:
    The checksum of the records' lengths and checksums; None for a file that is
    called otherwise.

  Raises:
    errors.DamagedError: the file ends within a record.
  """
  return _scanned(path)[1] if _TFRECORD.search(path) else None


def _scanned(path: str) -> tuple[int, int]:
  """Returns the number of a file's records, and their checksum."""
  try:
    state = os.stat(path)
  except FileNotFoundError as error:
    raise errors.DamagedError(
      f'{path}: missing, but what was written beside it lists it. {_AGAIN}'
    ) from error
  return _scan(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _scan(path: str, size: int, changed: int) -> tuple[int, int]:
  del changed  # Only a part of the cache's key.
  count, position, crc = 0, 0, 0
  with open(path, 'rb') as file:
    header = file.read(_HEADER_BYTES)
    while position < size:
      if len(header) == _HEADER_BYTES:
        (length,) = _LENGTH.unpack(header[: _LENGTH.size])
        position += _HEADER_BYTES + length + _FOOTER_BYTES
      if len(header) < _HEADER_BYTES or position > size:
        raise errors.DamagedError(
          f'{path}: record {count} reaches beyond the end of the file, which'
          f' has {size} bytes: it was cut short, or is no TFRecord file.'
          f' {_AGAIN}'
        )
      file.seek(position - _FOOTER_BYTES)
      # A record's checksum, and the next one's header.
      both = file.read(_FOOTER_BYTES + _HEADER_BYTES)
      crc = zlib.crc32(both, crc)
      header = both[_FOOTER_BYTES:]
      count += 1
  return count, crc


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
    path
    for cfg in configs
    if cfg is not None
    for task in config.tasks_with_split(cfg)
    for path in _local(task, cfg)
  ]
  return list(dict.fromkeys(paths))


def _local(task: seqio.Task, cfg: config.DatasetConfig) -> list[str]:
  """The local TFRecord files of a task, if TFDS or SeqIO's cache made them."""
  if cfg.use_cached and task.supports_caching:
    return [p for p in files_of(task, cfg) if not files.is_remote(p)]
  if not isinstance(task.source, seqio.TfdsDataSource):
    return []
  paths = files_of(task, cfg)
  return [p for p in paths if _FILE_NAME.search(p) and not files.is_remote(p)]


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
