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
  shards = ['b-3.jsonl', 'b-0.jsonl', 'b-2.jsonl', 'b-1.jsonl.gz', 'b-4.jsonl']
  path = folder(*shards, '_SUCCESS', '_b.jsonl', '.c.jsonl', 'x.md')
  (path / 'deeper.jsonl').mkdir()
  assert names(path) == names(f'{path}/b*') == sorted(shards)
  stems = [file.stem for file in row_files.find(str(path))]
  assert stems == [f'b-{n}' for n in range(5)]


def test_a_text_is_read_by_its_name_alone(folder):
  path = folder('rows.jsonl', 'README.txt')
  assert names(path) == ['rows.jsonl']
  assert names(f'{path}/*.txt') == ['README.txt']


def test_a_glob_names_files_in_any_folder(folder):
  path = folder('one/b.csv', 'two/a.csv', 'two/a.json')
  assert names(f'{path}/*/*.csv') == ['b.csv', 'a.csv']
  assert row_files.holds_files(f'{path}/*/*.csv')


def test_a_glob_may_begin_where_one_is_and_passes_over_folders(
  folder, monkeypatch
):
  path = folder('one/b.csv', 'two/b.csv')
  (path / 'two/c.csv').mkdir()
  monkeypatch.chdir(path)
  assert names('*/*.csv') == ['b.csv', 'b.csv']
  assert [file.place for file in row_files.find('t*/*')] == ['two/b.csv']


def test_a_place_without_rows_holds_none(folder):
  path = folder('x.md', 'deeper/a.csv', 'texts/a.txt')
  assert row_files.holds_files(str(path / 'deeper'))
  assert not row_files.holds_files(str(path))
  assert not row_files.holds_files(str(path / 'texts'))
  assert not row_files.holds_files(str(path / 'gone'))
  assert not row_files.holds_files(str(path / 'deeper/a.csv'))
  with pytest.raises(errors.DataError, match='rows, found none there'):
    row_files.find(str(path / 'gone/a.csv'))


@pytest.mark.parametrize(
  ('name', 'known'),
  [
    ('a.jsonl', True), ('A.CSV.GZ', True), ('a.txt', True), ('a.b.tsv', True),
    ('a.parquet', True), ('a.parquet.gz', False), ('.jsonl', False),
    ('.json.gz', False), ('jsonl', False), ('a.gz', False), ('a.', False),
  ],
)  # fmt: skip
def test_a_name_says_whether_a_file_has_rows(name, known):
  assert row_files.has_ending(name) == known


@pytest.mark.parametrize(
  ('name', 'word', 'has_header'),
  [
    ('a.csv', 'line', True), ('a.json', 'line', False),
    ('a.jsonl', 'line', False), ('a.parquet', 'row', True),
    ('a.tsv', 'line', True), ('a.txt', 'line', False),
  ],
)  # fmt: skip
def test_a_form_says_what_is_counted_and_where_columns_are(
  folder, name, word, has_header
):
  (file,) = row_files.find(str(folder(name) / name))
  assert (file.word, file.has_header) == (word, has_header)


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
    (['a.csv', 'a.parquet'], '', 'once, found a.csv and a.parquet'),
    (['a.csv', 'a.csv.gz'], '', 'each shard once, found a.csv and a.csv.gz'),
    (['a.txt'], '', r'found none that ends .* a glob, such as .*/rows/\*.txt'),
    (['a.doc'], '/*.doc', r'a.doc: expected a file that ends in .*found .doc'),
    (['b.a.parquet.gz'], '/*.gz', r'found \.parquet\.gz\. Rename'),
    (['b.a.doc'], '/*.doc', r'found \.doc\. Rename'),
    (['b.a.md'], '/*.md', r'found \.md\. Rename'),
    (['a'], '/a', 'found no ending. Rename'),
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
