"""Tests of the bytes of files: what is read is told, and faults are named."""

import gzip
import hashlib

import pytest
from etils import epath

from dss_jax import errors
from dss_jax.data import progress, row_files
from dss_jax.data.row_files import opening


def _file(path):
  (file,) = row_files.find(str(path))
  return file


@pytest.mark.parametrize('name', ['a.jsonl', 'a.jsonl.gz', 'a.parquet'])
def test_the_position_that_is_told_is_in_the_file(tmp_path, name, monkeypatch):
  """Else a user is told that nothing was read, or more than there is."""
  monkeypatch.setattr(opening, '_BLOCK', 64)
  rows = [{'input': f'case {n}'} for n in range(50)]
  path = tmp_path / name
  if name == 'a.parquet':
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist(rows), path)
  else:
    data = '\n'.join(f'{{"input": "case {n}"}}' for n in range(50)).encode()
    path.write_bytes(gzip.compress(data) if name.endswith('.gz') else data)
  told = progress.silent()
  positions = []
  columns = row_files.Columns()
  for _ in row_files.rows(_file(path), ('input',), columns, told):
    positions.append(told._position)
  assert positions == sorted(positions) and positions[0] > 0
  size = path.stat().st_size
  assert told._position == size if name != 'a.parquet' else positions[-1] < size


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
  gone = row_files.File(epath.Path(tmp_path / 'a.csv'), '.csv', False, 'a')
  message = r'a\.csv: expected a file that can be read, found FileNotFoundErr'
  with pytest.raises(errors.DataError, match=message):
    row_files.digest(gone)
  with pytest.raises(errors.DataError, match=message):
    next(row_files.rows(gone, (), row_files.Columns(), progress.silent()))


def test_a_digest_is_of_all_bytes_as_they_are(tmp_path, monkeypatch):
  monkeypatch.setattr(opening, '_BLOCK', 8)
  path = tmp_path / 'a.csv.gz'
  path.write_bytes(gzip.compress(b'input\na\n' * 9))
  expected = hashlib.sha256(path.read_bytes()).hexdigest()
  assert row_files.digest(_file(path)) == expected


def test_what_unpacks_is_counted_beyond_a_free_part_alone(rows_of, monkeypatch):
  """A small file may be as dull as it likes, and a large one 200 times."""
  data = gzip.compress(b'{"a": 1}\n' * 1000)
  assert len(data) < 100
  monkeypatch.setattr(opening, '_FREE', 9000)
  assert len(rows_of('a.jsonl.gz', data)) == 1000
  monkeypatch.setattr(opening, '_FREE', 1)
  monkeypatch.setattr(opening, 'MAX_EXPANSION', 9000 / len(data))
  assert len(rows_of('a.jsonl.gz', data)) == 1000
  monkeypatch.setattr(opening, 'MAX_EXPANSION', 8999 / len(data))
  with pytest.raises(errors.DataError, match=f'in a file of {len(data)}, foun'):
    rows_of('a.jsonl.gz', data)
  # What is not packed is as large as it is.
  assert len(rows_of('a.jsonl', b'{"a": 1}\n' * 1000)) == 1000


def test_a_line_of_a_text_may_be_as_long_as_the_bound(rows_of, monkeypatch):
  monkeypatch.setattr(opening, 'MAX_ROW', 2**20)
  text = b'a' * (2**20 - 1) + b'\n'
  assert [number for number, _ in rows_of('a.txt', text + text)] == [1, 2]
  with pytest.raises(
    errors.DataError, match='line 2: expected a row of at most 1 MiB, found a'
  ):
    rows_of('a.txt', text + b'a' + text)
