"""Tests of which files are at a place, and in which order."""

import pytest

from dss_jax import errors
from dss_jax.data import row_files


@pytest.fixture
def folder(tmp_path):
  """Returns a function that makes files and returns their folder."""

  def made(*names):
    for name in names:
      path = tmp_path / 'rows' / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text('{"input": "a"}\n')
    return tmp_path / 'rows'

  return made


def names(location):
  return [file.path.name for file in row_files.find(str(location))]


def test_a_folder_holds_its_shards_in_the_order_of_their_names(folder):
  path = folder('b-2.jsonl', 'b-1.jsonl.gz', '_SUCCESS', '.c.jsonl', 'x.md')
  (path / 'deeper.jsonl').mkdir()
  assert names(path) == ['b-1.jsonl.gz', 'b-2.jsonl']
  assert [file.stem for file in row_files.find(str(path))] == ['b-1', 'b-2']


def test_a_text_is_read_by_its_name_alone(folder):
  path = folder('rows.jsonl', 'README.txt')
  assert names(path) == ['rows.jsonl']
  assert names(f'{path}/*.txt') == ['README.txt']


def test_a_glob_names_files_in_any_folder(folder):
  path = folder('one/b.csv', 'two/a.csv', 'two/a.json')
  assert names(f'{path}/*/*.csv') == ['b.csv', 'a.csv']
  assert row_files.holds_files(f'{path}/*/*.csv')


def test_a_file_with_brackets_in_its_name_is_that_file(folder):
  path = folder('rows[1].jsonl')
  assert names(path / 'rows[1].jsonl') == ['rows[1].jsonl']


@pytest.mark.parametrize(
  ('files', 'glob', 'message'),
  [
    (['train.jsonl', 'test.jsonl'], '',
     'files of one split, found test.jsonl, train.jsonl. Name one file'),
    (['my-train-0.csv', 'my-val-0.csv'], '/*.csv', 'files of one split'),
    (['a.csv', 'b.jsonl'], '', 'of one form, found a.csv, b.jsonl'),
    (['a.csv', 'a.csv.gz'], '', 'each shard once, found a.csv and a.csv.gz'),
    (['a.txt'], '', r'found none that ends .* a glob, such as .*/rows/\*.txt'),
    (['a.doc'], '/*.doc', r'a.doc: expected a file that ends in .*found .doc'),
    (['a.parquet.gz'], '/a.parquet.gz', 'found .parquet.gz'),
    (['a.csv'], '/*.jsonl', 'expected files with rows, found none'),
    (['rows.jsonl'], '/row.jsonl', "Did you mean 'rows.jsonl'"),
  ],
)  # fmt: skip
def test_files_that_are_no_table_are_refused(folder, files, glob, message):
  path = folder(*files)
  with pytest.raises(errors.DataError, match=message):
    row_files.find(f'{path}{glob}')


def test_a_split_in_the_name_of_all_shards_is_no_fault(folder):
  path = folder('train-00000-of-00002.csv', 'train-00001-of-00002.csv')
  assert len(names(path)) == 2
