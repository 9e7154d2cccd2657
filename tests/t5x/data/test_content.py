"""Digests tell rows and vocabularies that differ, and no others."""

import dataclasses
import hashlib
import os
import pathlib
import zlib

import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5x import data
from t5x.data import content
from tests.t5x import small_run, toy_task

_PIECES = pathlib.Path(toy_task.PIECES)


@pytest.fixture
def register():
  """Registers tasks of text files, and removes them at the end."""
  names = []

  def add(name, pattern):
    seqio.TaskRegistry.add(
      name,
      source=seqio.TextLineDataSource({'train': str(pattern)}),
      preprocessors=[],
      output_features={'targets': seqio.Feature(toy_task.VOCABULARY)},
    )
    names.append(name)
    return dataclasses.replace(
      small_run.data_config('train'), mixture_or_task_name=name
    )

  yield add
  for name in names:
    seqio.TaskRegistry.remove(name)


def _write(folder, *texts):
  folder.mkdir()
  for i, text in enumerate(texts):
    (folder / f'rows-{i}.txt').write_text(text)
  return folder / 'rows-*.txt'


def test_files_are_told_by_their_names_and_bytes(register, tmp_path):
  first = register('content_a', _write(tmp_path / 'a', '1\n2\n', '3\n'))
  again = register('content_b', _write(tmp_path / 'b', '1\n2\n', '3\n'))
  edited = register('content_c', _write(tmp_path / 'c', '1\n2\n', '4\n'))
  split = register('content_d', _write(tmp_path / 'd', '1\n', '2\n3\n'))
  (one,), (two,), (three,), (four,) = (
    data.content_digests(cfg).values() for cfg in (first, again, edited, split)
  )
  assert one == two
  assert len(one) == 16
  assert len({one, three, four}) == 3
  # Neither when nor where they were written counts.
  os.utime(tmp_path / 'a' / 'rows-0.txt', (1, 1))
  assert list(data.content_digests(first).values()) == [one]


def test_one_changed_byte_of_a_file_of_a_few_blocks_is_found(
  register, tmp_path
):
  cfg = register('content_e', _write(tmp_path / 'e', 'x' * 300_000))
  path = tmp_path / 'e' / 'rows-0.txt'
  found = {tuple(data.content_digests(cfg).values())}
  for place in (0, 65_536, 150_000, 299_999):
    text = bytearray(b'x' * 300_000)
    text[place] = ord('y')
    path.write_bytes(text)
    found.add(tuple(data.content_digests(cfg).values()))
  assert len(found) == 5


def test_large_files_are_sampled_from_their_start_to_their_end(
  register, tmp_path, monkeypatch
):
  monkeypatch.setattr(content, '_BLOCKS_OF_FILE', 4)
  cfg = register('content_f', _write(tmp_path / 'f', 'x' * 1_000_000))
  path = tmp_path / 'f' / 'rows-0.txt'
  before = data.content_digests(cfg)
  for place in (0, 999_999):
    with open(path, 'r+b') as file:
      file.seek(place)
      file.write(b'y')
    after = data.content_digests(cfg)
    assert after != before
    before = after


@pytest.mark.parametrize(('of_task', 'each'), [(100, 4), (9, 3), (1, 2)])
def test_of_many_files_less_of_each_is_read(
  register, tmp_path, monkeypatch, of_task, each
):
  monkeypatch.setattr(content, '_BLOCKS_OF_FILE', 4)
  monkeypatch.setattr(content, '_BLOCKS_OF_TASK', of_task)
  parts, blocks = content._file_parts, []
  monkeypatch.setattr(
    content, '_file_parts', lambda path, n: blocks.append(n) or parts(path, n)
  )
  data.content_digests(register('content_h', _write(tmp_path / 'h', *'abc')))
  assert blocks == [each] * 3


@pytest.mark.parametrize(
  ('size', 'blocks', 'places'),
  [
    (10, 2, [0]),
    (70_000, 2, [0, 65_536]),
    (131_072, 2, [0, 65_536]),
    # Larger, and sampled: the last block ends with the file.
    (1_000_001, 2, [0, 934_465]),
    (1_000_001, 4, [0, 311_488, 622_976, 934_465]),
  ],
)
def test_a_file_is_told_by_its_size_and_its_blocks(
  tmp_path, size, blocks, places
):
  # Up to its number of blocks it is not read as records, whatever its name.
  few = size <= 131_072
  path = tmp_path / ('rows.tfrecord' if few else 'rows.bin')
  written = np.random.default_rng(0).bytes(size)
  path.write_bytes(written)
  read = b''.join(written[place : place + 65_536] for place in places)
  found = list(content._file_parts(str(path), blocks))
  assert found == [str(size).encode(), str(zlib.crc32(read)).encode()]


def test_as_much_is_read_as_the_comment_says():
  block = content._BLOCK_BYTES
  assert content._BLOCKS_OF_TASK * block == 256 << 20
  assert content._BLOCKS_OF_FILE * block == 64 << 20


class _Elsewhere(seqio.FunctionDataSource):
  """Rows whose files are said to be at some paths."""

  def __init__(self, paths, rows=('a',)):
    def read(split, shuffle_files, seed=None):
      order = reversed(rows) if shuffle_files else rows
      return tf.data.Dataset.from_tensor_slices({'x': np.array([*order])})

    super().__init__(read, splits=['train', 'more'])
    self._paths = paths

  def list_shards(self, split):
    return self._paths


def _digest_elsewhere(*args):
  task = seqio.Task(
    'elsewhere', _Elsewhere(*args), preprocessors=[], output_features={}
  )
  cfg = dataclasses.replace(
    small_run.data_config('train'), mixture_or_task_name=task
  )
  (found,) = data.content_digests(cfg).values()
  return found


def _digest_of(*parts):
  whole = b''.join(part + b'\0' for part in parts)
  return hashlib.sha256(whole).hexdigest()[:16]


def test_remote_files_are_told_by_their_names_and_not_read(tmp_path):
  remote = ['gs://bucket/a', 'gs://bucket/b']
  assert _digest_elsewhere(remote) == _digest_of(*map(str.encode, remote))
  # A local one beside them is read all the same.
  local = tmp_path / 'c'
  local.write_bytes(b'1')
  crc = str(zlib.crc32(b'1')).encode()
  expected = _digest_of(b'a', b'c', b'1', crc)
  assert _digest_elsewhere(['gs://bucket/a', str(local)]) == expected
  # What is no file is read by its rows.
  expected = _digest_of(b'|S1 ()', b'a')
  assert _digest_elsewhere([str(local), 'of a function']) == expected


def test_rows_of_no_file_are_told_by_the_first_256():
  def digest(*changed):
    rows = np.arange(600, dtype=np.int32).reshape(300, 2)
    for row, values in changed:
      rows[row] = values
    return _digest_elsewhere(['of a function'], [*rows])

  one = digest()
  assert digest((256, [7, 8])) == one
  # Nor does their order of values, or one alone, go unseen.
  assert len({one, digest((255, [7, 8])), digest((3, [7, 6]))}) == 3
  rows = [np.array([1, 2], np.int32), np.array([3, 4], np.int32)]
  parts = [part for row in rows for part in (b'int32 (2,)', row.tobytes())]
  assert _digest_elsewhere(['none'], rows) == _digest_of(*parts)


def test_every_record_of_a_large_file_counts(register, tmp_path, monkeypatch):
  monkeypatch.setattr(content, '_BLOCKS_OF_FILE', 2)
  path = tmp_path / 'rows.tfrecord-00000-of-00001'
  found = set()
  for changed in (None, 0, 500, 999):
    with tf.io.TFRecordWriter(str(path)) as writer:
      for n in range(1000):
        writer.write(b'y' * 300 if n == changed else b'x' * 300)
    if not found:
      cfg = register('content_g', path)
    os.utime(path, ns=(1, 1 + len(found)))
    found.add(tuple(data.content_digests(cfg).values()))
  assert len(found) == 4


def test_rows_of_a_function_are_told_by_their_texts(monkeypatch):
  cfg = small_run.data_config('train')
  before = data.content_digests(cfg)
  assert before == data.content_digests(cfg)
  assert list(before) == [toy_task.NAME]
  texts = toy_task.texts
  monkeypatch.setattr(
    toy_task, 'texts', lambda split: [(i[::-1], t) for i, t in texts(split)]
  )
  assert data.content_digests(cfg) != before


def test_splits_differ():
  digests = {
    split: data.content_digests(small_run.data_config(split))[toy_task.NAME]
    for split in toy_task.ROWS
  }
  assert len(set(digests.values())) == 3


def _vocabularies(vocabulary, monkeypatch):
  features = {'targets': seqio.Feature(vocabulary)}
  task = seqio.TaskRegistry.get(toy_task.NAME)
  monkeypatch.setattr(type(task), 'output_features', features)
  return data.vocabulary_digests(small_run.data_config('train'))['targets']


def test_vocabularies_are_told_by_their_pieces_not_by_their_path(
  tmp_path, monkeypatch
):
  copy = tmp_path / 'copy.model'
  copy.write_bytes(_PIECES.read_bytes())
  same, copied, extra, bytes_ = (
    _vocabularies(vocabulary, monkeypatch)
    for vocabulary in (
      seqio.SentencePieceVocabulary(str(_PIECES)),
      seqio.SentencePieceVocabulary(str(copy)),
      seqio.SentencePieceVocabulary(str(_PIECES), extra_ids=100),
      seqio.ByteVocabulary(),
    )
  )
  assert same == copied
  assert len({same, extra, bytes_}) == 3
