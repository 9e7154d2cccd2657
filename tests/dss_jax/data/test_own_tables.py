"""Tests of tables of own rows: columns that must be there, what is told."""

import io
import itertools
import json

import pytest

from dss_jax import errors
from dss_jax.data import own_rows, own_tables, progress, row_files


@pytest.fixture
def write(tmp_path):
  """Returns a function that writes rows, or a text, and returns the path."""

  def written(rows, name='rows.jsonl'):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    text = rows if isinstance(rows, str) else '\n'.join(map(json.dumps, rows))
    path.write_text(text)
    return str(path)

  return written


def _row(number, **changes):
  return {'input': f'case {number}', 'label': f'{number}', **changes}


def test_columns_that_are_mapped_must_be_there_where_they_are_needed(write):
  """A file of other splits needs input and label alone."""
  train = write([_row(n, why=f'since {n}') for n in range(3)])
  other = write([_row(7)], 'v.jsonl')
  last = write([_row(8)], 't.jsonl')
  columns = {'rationale': 'why', 'rationale.gone': 'nowhere'}
  own = own_rows.OwnData(train, other, last, columns)
  splits = own_rows.read(own, ('label', 'rationale')).splits
  assert [row.rationale for row in splits['train']] == [
    'since 0', 'since 1', 'since 2'
  ]  # fmt: skip
  assert [row.rationale for row in splits['validation']] == ['']
  wrong = own_rows.OwnData(train, other, last, {'rationale': 'wy'})
  with pytest.raises(errors.DataError, match=r"'wy' .*Did you mean 'why'"):
    own_rows.read(wrong)
  wrong = own_rows.OwnData(train, other, last, {'label': 'lable'})
  with pytest.raises(errors.DataError, match=r"'lable' .*Did you mean 'label'"):
    own_rows.read(wrong)


def test_each_shard_with_a_header_has_the_columns(write):
  write('input,answer\na,b\n', 'shards/a.csv')
  write('input\nc\n', 'shards/b.csv')
  location = write('input,answer\nd,e\n', 'shards/c.csv').removesuffix('/c.csv')
  with pytest.raises(
    errors.DataError,
    match=r"b\.csv, line 2: expected the column 'answer' \(label\), found only"
    r' input\.',
  ):
    own_rows.read_one(location, {'label': 'answer'})


def test_a_first_row_without_an_input_is_told_from_a_missing_column(write):
  path = write([{'label': 'a'}, _row(1)])
  with pytest.raises(
    errors.DataError, match=r"line 1: expected a text in 'input', found none\."
  ):
    own_rows.read_one(path)
  path = write([{'label': 'a'}, {'label': 'b', 'question': 'c'}])
  with pytest.raises(
    errors.DataError,
    match=r"line 1: expected the column 'input' \(input\), found only label,"
    r' question\.',
  ):
    own_rows.read_one(path)


def test_a_column_that_no_object_names_is_said_of_the_first_row(write):
  write('', 'shards/a.jsonl')
  second = write([_row(1), _row(2)], 'shards/b.jsonl')
  with pytest.raises(
    errors.DataError, match=r"b\.jsonl, line 1: expected the column 'answer'"
  ):
    own_rows.read_one(second.removesuffix('/b.jsonl'), {'label': 'answer'})


def test_what_has_no_rows_is_named(write):
  first = write('', 'shards/a.jsonl')
  folder = first.removesuffix('/a.jsonl')
  with pytest.raises(
    errors.DataError, match=r'shards/a\.jsonl: expected rows, found none'
  ):
    own_rows.read_one(folder)
  write('\n', 'shards/b.jsonl')
  with pytest.raises(errors.DataError, match='shards: expected rows, found no'):
    own_rows.read_one(folder)


def test_only_one_kind_is_read_of_a_column_of_its_name(write):
  """Else a rationale is drawn twice as often as the others of its row."""
  path = write(
    [_row(n, rationale='so', **{'rationale.b': 'x'}) for n in (1, 2)]
  )
  rows = own_rows.read_one(path, kinds=('rationale', 'b'))
  assert [(row.rationale, row.more) for row in rows] == [('so', ('x',))] * 2
  # A kind that sorts before it, and one that sorts after.
  path = write([_row(1, **{'rationale.a': 'x', 'rationale.z': 'y'})])
  (row,) = own_rows.read_one(path, kinds=('z', 'rationale', 'a'))
  assert (row.rationale, row.more) == ('y', ('', 'x'))


def test_rationales_may_be_left_out_and_nothing_else(write):
  columns = {'rationale': 'why', 'teacher_label': 'said'}
  path = write([_row(1, why='so', said='x', id='7')])
  (row,) = own_rows.read_one(path, columns)
  assert (row.rationale, row.teacher_label, row.id) == ('so', 'x', '7')
  (row,) = own_rows.read_one(path, columns, rationales=False)
  assert (row.rationale, row.teacher_label, row.id) == ('', 'x', '7')


@pytest.mark.parametrize(
  ('column', 'value', 'message'),
  [
    ('input', 'a\x1eb', "'input' without the control character 1E, found"),
    ('rationale', ['a', 'b\x1e', 'c'], None),
    ('rationale', ['a', 'b\x1ec'], "'rationale' without the control character"),
    ('id', {'a': 1}, "'id' to be a text, found {'a': 1}"),
    ('teacher_label', ['a'], r"'teacher_label' to be a text, found \['a'\]"),
    ('rationale', [['a']], r"'rationale' to be a text, found \['a'\]"),
    ('input', 'None', "a text in 'input', found none"),
  ],
)
def test_what_is_no_text_is_refused(write, column, value, message):
  path = write([_row(0), _row(1, **{column: value})])
  if message is None:
    assert len(own_rows.read_one(path)) == 2
    return
  with pytest.raises(errors.DataError, match=f'line 2: expected {message}'):
    own_rows.read_one(path)


def test_labels_that_are_equations_have_values(write):
  """A blank label is none, and need not have one."""
  rows = [_row(n, label='2 + 1', teacher_label='3') for n in range(8)]
  rows[3]['label'] = ''
  rows[4]['teacher_label'] = 'three'
  rows[5]['teacher_label'] = ''
  rows[6]['teacher_label'] = '4'
  own = own_rows.OwnData(write(rows), 0.1, 0.1, by_value=True)
  reports = own_rows.read(own).reports.values()
  assert sum(report.outside_labels for report in reports) == 1
  assert sum(report.empty_labels for report in reports) == 1
  # All but those four.
  assert sum(report.teacher_correct for report in reports) == 4
  classed = own_rows.OwnData(own.train, classes=['2 + 1', '3', '4'])
  reports = own_rows.read(classed).reports.values()
  assert sum(report.outside_labels for report in reports) == 1
  assert sum(report.teacher_correct for report in reports) == 0
  free = own_rows.OwnData(own.train)
  reports = own_rows.read(free).reports.values()
  assert sum(report.outside_labels for report in reports) == 0


@pytest.fixture
def said(monkeypatch):
  """Has each row take minutes, and be told of."""
  clock = itertools.count(step=600)
  monkeypatch.setattr(progress.time, 'monotonic', lambda: next(clock))
  monkeypatch.setattr(progress, '_ROWS', 1)
  return io.StringIO()


def test_how_far_it_is_goes_over_all_files(write, said):
  write([_row(1)], 'shards/a.jsonl')
  second = write([_row(2)], 'shards/b.jsonl')
  folder = second.removesuffix('/b.jsonl')
  table = own_tables.read(own_rows.OwnData(folder), folder, said)
  assert [*table.places] == [f'{folder}/{n}.jsonl, line 1' for n in 'ab']
  assert said.getvalue().splitlines() == [
    f'Reading {folder}: 1 rows, 50% …',
    f'Reading {folder}: 2 rows, 100% …',
    f'Reading {folder}: 2 rows, done',
  ]


def test_a_label_none_is_a_text_where_it_may_be(write):
  path = write([_row(1, label='None')])
  own, columns = own_rows.OwnData(path), row_files.Columns()
  options = {'columns': columns, 'progress': progress.silent()}
  ((_, _, record),) = own_tables.records_of(
    own, path, none_is_text=True, **options
  )
  assert record.label == 'None'
  with pytest.raises(errors.DataError, match="'label' to be a label, found 'N"):
    list(own_tables.records_of(own, path, **options))
