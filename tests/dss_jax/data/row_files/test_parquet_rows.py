"""Tests of Parquet: which columns are read, and what they may take."""

import io

import pyarrow
import pytest
from pyarrow import parquet

from dss_jax import errors
from dss_jax.data.row_files import opening, parquet_pages, parquet_rows


def _written(columns, **options):
  data = io.BytesIO()
  parquet.write_table(pyarrow.table(columns), data, **options)
  return data.getvalue()


def test_rows_have_no_columns_where_none_of_the_wanted_is_there(rows_of):
  """Else a file whose columns have other names is said to have no rows."""
  data = _written({'question': ['a', 'b'], 'answer': ['c', 'd']})
  assert rows_of('a.parquet', data) == [(1, {}), (2, {})]
  assert rows_of('a.parquet', data, ()) == [(1, {}), (2, {})]


def test_all_columns_that_can_be_read_are_rows_of_no_known_ones(rows_of):
  data = _written(
    {
      'words': pyarrow.array([['a']], pyarrow.large_list(pyarrow.string())),
      'bytes': [b'a'],
      'when': pyarrow.array([0], pyarrow.timestamp('s')),
      'number': [2],
    }
  )
  assert rows_of('a.parquet', data, None) == [
    (1, {'words': ['a'], 'number': 2})
  ]


def test_missing_texts_are_none_of_those_that_a_dictionary_has(rows_of):
  values = ['a', 'b', None, 'a', None, 'c']
  lists = [['a', None], [], None, ['b', 'a', 'c'], ['c'], [None]]
  data = _written({'input': values, 'label': lists})
  assert rows_of('a.parquet', data) == [
    (number, {'input': text, 'label': items})
    for number, (text, items) in enumerate(zip(values, lists, strict=True), 1)
  ]


@pytest.mark.parametrize('lists', [False, True])
def test_a_row_may_be_as_long_as_the_bound(rows_of, monkeypatch, lists):
  """Of a list, each item takes 8 bytes, too."""
  monkeypatch.setattr(opening, 'MAX_ROW', 100)
  texts = [['a' * 60, 'b' * 24] if lists else 'a' * 100, 'b']
  data = _written({'input': texts[:1] * 3})
  assert len(rows_of('a.parquet', data)) == 3
  texts[1] = ['a' * 85, ''] if lists else 'a' * 101
  data = _written({'input': texts})
  with pytest.raises(errors.DataError, match='row 2: expected a row of at mos'):
    rows_of('a.parquet', data)
  # Of all its columns.
  data = _written(
    {'input': ['a' * 50, 'a' * 50], 'label': ['b' * 50, 'b' * 51]}
  )
  with pytest.raises(errors.DataError, match='row 2: expected a row of at mos'):
    rows_of('a.parquet', data)


def test_rows_that_are_handed_out_are_counted(rows_of, monkeypatch):
  """Each takes 8 bytes beside its texts: a number has no text."""
  data = _written({'input': ['a' * 12] * 1000, 'label': [1] * 1000})
  monkeypatch.setattr(opening, '_FREE', 20_000)
  monkeypatch.setattr(opening, 'MAX_EXPANSION', 0)
  assert len(rows_of('a.parquet', data)) == 1000
  monkeypatch.setattr(opening, '_FREE', 19_999)
  with pytest.raises(errors.DataError, match='at most 19999 bytes of rows in'):
    rows_of('a.parquet', data)


def test_what_a_row_group_unpacks_to_is_that_of_its_wanted_columns(
  rows_of, monkeypatch
):
  monkeypatch.setattr(opening, 'MAX_EXPANSION', 0)
  data = _written(
    {
      'about': ['a' * 100] * 3000,
      'label': [1] * 3000,
      'other': ['a' * 100] * 3000,
    }
  )
  # Of numbers that are all the same a page has some bytes, and memory more.
  monkeypatch.setattr(parquet_rows, '_GROUP', 24_000)
  assert len(rows_of('a.parquet', data)) == 3000
  monkeypatch.setattr(parquet_rows, '_GROUP', 23_999)
  with pytest.raises(
    errors.DataError,
    match='at most 23999 bytes of label in a row group of a file of'
    f' {len(data)} bytes, found 24000',
  ):
    rows_of('a.parquet', data)
  # Of each group, not of all.
  data = _written({'label': [1] * 6000}, row_group_size=2000)
  assert len(rows_of('a.parquet', data)) == 6000
  data = _written({'label': [1] * 3000, 'input': [2] * 3000})
  monkeypatch.setattr(parquet_rows, '_GROUP', 47_999)
  with pytest.raises(
    errors.DataError, match=r'of label, input in a row .* found 48000'
  ):
    rows_of('a.parquet', data)


def test_a_row_group_may_unpack_to_many_times_the_file(rows_of, monkeypatch):
  monkeypatch.setattr(parquet_rows, '_GROUP', 1)
  data = _written({'input': ['a' * 500] * 40}, use_dictionary=False)
  assert len(data) < 4000
  assert len(rows_of('a.parquet', data)) == 40


def test_a_text_that_rows_share_is_in_memory_once(rows_of, monkeypatch):
  """A few kilobytes can stand for gigabytes; a megabyte is no harm."""
  data = _written({'input': ['a' * 100] * 10_000})
  monkeypatch.setattr(opening, 'MAX_EXPANSION', 0)
  rows = rows_of('a.parquet', data)
  assert len(rows) == 10_000 and len({id(row['input']) for _, row in rows}) < 4


@pytest.mark.parametrize(
  ('sizes', 'found'),
  [([600, 400], None), ([600, 600], 1200), ([1000, 1], 1001), ([1001], 1001)],
)
def test_pages_of_a_column_are_bounded_together(
  rows_of, monkeypatch, sizes, found
):
  """What they say themselves counts, where the end of the file says less."""
  monkeypatch.setattr(opening, 'MAX_EXPANSION', 0)
  monkeypatch.setattr(parquet_rows, '_GROUP', 1000)
  monkeypatch.setattr(parquet_pages, 'unpacked_sizes', lambda *_: iter(sizes))
  data = _written({'input': ['a', 'b']})
  if found is None:
    assert len(rows_of('a.parquet', data)) == 2
    return
  with pytest.raises(errors.DataError, match=f'bytes, found {found}'):
    rows_of('a.parquet', data)


@pytest.mark.parametrize('change', [lambda c: c[1:], lambda c: [*c, *c[:1]]])
def test_a_row_group_has_a_chunk_of_each_column(rows_of, monkeypatch, change):
  """Else the sizes of other columns than those that are read are checked."""
  real = parquet_pages.chunks
  monkeypatch.setattr(
    parquet_pages, 'chunks', lambda stream: [*map(change, real(stream))]
  )
  data = _written({'input': ['a'], 'label': ['b']})
  with pytest.raises(
    errors.DataError, match=r'expected 2 columns in each row group, found [13] '
  ):
    rows_of('a.parquet', data)
