"""Answers as tables: what was read comes out again."""

import csv
import decimal
import json

import pytest
from pyarrow import parquet

from dss_jax import errors
from dss_jax.data import progress, row_files
from dss_jax.student import tables

_ROWS = [
  {'id': 1, 'text': 'a, "b"', 'part': 0.5, 'is': True, 'odd': [1, 'x']},
  {'id': None, 'text': '=1+1', 'part': 2, 'is': None, 'more': 'late'},
  {'id': 2**70, 'text': 'caf\u00e9\nnext', 'part': None, 'is': False},
]


@pytest.fixture
def chunks(tmp_path):
  paths = [tmp_path / 'chunk0', tmp_path / 'chunk1']
  paths[0].write_text(''.join(f'{tables.as_line(r)}\n' for r in _ROWS[:2]))
  paths[1].write_text(tables.as_line(_ROWS[2]) + '\n')
  return [str(path) for path in paths]


def test_json_lines_are_the_rows(chunks, tmp_path):
  tables.write(chunks, str(tmp_path / 'out.jsonl'), '.jsonl')
  lines = (tmp_path / 'out.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == _ROWS


@pytest.mark.parametrize(('ending', 'mark'), [('.csv', ','), ('.tsv', '\t')])
def test_a_csv_has_all_columns_and_no_formula(chunks, tmp_path, ending, mark):
  path = tmp_path / f'out{ending}'
  tables.write(chunks, str(path), ending)
  with path.open(newline='') as file:
    found = list(csv.DictReader(file, delimiter=mark))
  assert list(found[0]) == ['id', 'text', 'part', 'is', 'odd', 'more']
  assert found[0]['text'] == 'a, "b"' and found[0]['odd'] == '[1, "x"]'
  assert found[1]['text'] == "'=1+1" and found[1]['more'] == 'late'
  assert found[2]['text'] == 'caf\u00e9\nnext' and found[2]['part'] == ''
  assert [row['is'] for row in found] == ['true', '', 'false']


def test_a_parquet_column_has_one_type(chunks, tmp_path):
  path = tmp_path / 'out.parquet'
  tables.write(chunks, str(path), '.parquet')
  table = parquet.read_table(path)
  types = {field.name: str(field.type) for field in table.schema}
  assert types == {
    'id': 'string', 'text': 'string', 'part': 'double', 'is': 'bool',
    'odd': 'string', 'more': 'string',
  }  # fmt: skip
  assert table.column('id').to_pylist() == ['1', None, str(2**70)]
  assert table.column('part').to_pylist() == [0.5, 2.0, None]
  assert table.column('odd').to_pylist() == ['[1, "x"]', None, None]


def test_what_json_lacks_becomes_text_or_null():
  row = {'a': float('nan'), 'b': decimal.Decimal('1.5'), 'c': [float('inf')]}
  assert json.loads(tables.as_line(row)) == {
    'a': None,
    'b': '1.5',
    'c': ['inf'],
  }


@pytest.mark.parametrize('path', ['answers', 'a.txt', 'a.csv.gz'])
def test_an_ending_that_cannot_be_written_is_refused(path):
  with pytest.raises(
    errors.DataError, match=r'ends in \.csv, \.jsonl, \.parquet'
  ):
    tables.check_ending(path)


def test_all_columns_are_read_but_those_of_unknown_types(tmp_path):
  import pyarrow

  table = pyarrow.table({
    'ticket': ['a'], 'n': [1], 'when': pyarrow.array([0], pyarrow.date32()),
  })  # fmt: skip
  parquet.write_table(table, tmp_path / 'rows.parquet')
  (tmp_path / 'rows.csv').write_text(',ticket,n\n0,a,1\n')
  found = []
  for name in ('rows.parquet', 'rows.csv'):
    (file,) = row_files.find(str(tmp_path / name))
    rows = row_files.rows(file, None, row_files.Columns(), progress.silent())
    found += [row for _, row in rows]
  assert found == [{'ticket': 'a', 'n': 1}, {'ticket': 'a', 'n': '1'}]
