"""Tests of rows of the user's own."""

import dataclasses
import json
import time

import pyarrow
import pytest
from pyarrow import parquet

from dss_jax import errors, sample
from dss_jax.data import own_rows


def row(number, **changes):
  return {
    'input': f'What is {number} and 1?',
    'label': str(number + 1),
    'rationale': [f'{number} comes before it.', 'Count on.'],
    'teacher_label': str(number + 1 + number % 2),
    **changes,
  }


def test_splits_are_disjoint_and_complete_and_repeat(write):
  own = own_rows.OwnData(write([row(n) for n in range(20)]), 0.1, 0.2)
  release = own_rows.read(own)
  sizes = {split: len(rows) for split, rows in release.splits.items()}
  assert sizes == {'train': 14, 'validation': 2, 'test': 4}
  inputs = [r.input for rows in release.splits.values() for r in rows]
  assert sorted(inputs) == sorted(row(n)['input'] for n in range(20))
  assert own_rows.read(own) == release
  other = own_rows.OwnData(own.train, 0.1, 0.2, seed=1)
  assert own_rows.read(other).splits != release.splits


def test_equal_inputs_stay_in_one_split(write):
  path = write([row(n % 5, id=str(n)) for n in range(20)])
  splits = own_rows.read(own_rows.OwnData(path, 0.2, 0.2)).splits
  inputs = [{r.input for r in rows} for rows in splits.values()]
  assert sum(map(len, inputs)) == len(set.union(*inputs)) == 5


def test_a_row_has_all_its_rationales_and_its_place(write):
  path = write([row(n) for n in range(10)])
  release = own_rows.read(own_rows.OwnData(path))
  first = release.splits['train'][0]
  texts = first.rationale.split(own_rows.SEPARATOR)
  assert texts[1] == 'Count on.'
  number = int(texts[0].split()[0])
  assert release.places['train'][0] == f'{path}, line {number + 1}'


def test_csv_and_columns_of_other_names_are_read(tmp_path):
  path = tmp_path / 'rows.csv'
  lines = [f'"{n}, or?",{n},why {n},how {n}' for n in range(10)]
  path.write_text('\n'.join(['q,label,r1,r2', *lines]))
  own = own_rows.OwnData(
    str(path), columns={'input': 'q', 'rationale': ('r1', 'r2')}
  )
  rows = own_rows.read(own).splits['train']
  number = rows[0].label
  assert rows[0].input == f'{number}, or?'
  assert rows[0].rationale == own_rows.SEPARATOR.join(
    (f'why {number}', f'how {number}')
  )


def write_parquet(path, columns):
  parquet.write_table(pyarrow.table(columns), path)
  return str(path)


def test_parquet_is_read_with_lists_and_missing_values(tmp_path):
  path = write_parquet(
    tmp_path / 'rows.parquet',
    {
      'input': [f'What is {n}?' for n in range(9)],
      'label': list(range(9)),
      'rationale': [['a', 'b'], None, [], *[['c']] * 6],
    },
  )
  release = own_rows.read(own_rows.OwnData(path))
  rows = {
    row.input: (row, place)
    for split, found in release.splits.items()
    for row, place in zip(found, release.places[split], strict=True)
  }
  first, place = rows['What is 0?']
  assert (first.label, first.rationale) == ('0', 'a\x1eb')
  assert place == f'{path}, row 1'
  assert rows['What is 1?'][0].rationale == ''
  assert rows['What is 2?'][0].rationale == ''


@pytest.mark.parametrize(
  ('columns', 'message'),
  [
    ({'inputs': ['a'] * 9, 'label': ['b'] * 9},
     r"row 1: expected the column 'input' \(input\), found only inputs, label\."
     r" Did you mean 'inputs'\? Add it, or say with COLUMNS"),
    ({'input': ['a'] * 9, 'label': [{'x': 1}] * 9},
     "row 1: expected 'label' to be a text, found struct<x: int64>. Correct"),
    ({'input': [b'a'] * 9, 'label': ['b'] * 9},
     "row 1: expected 'input' to be a text, found binary"),
    ({'input': ['a', '  ', 'b'], 'label': ['b'] * 3},
     "row 2: expected a text in 'input', found none. Write one or remove"),
    ({'input': [], 'label': []}, 'expected rows, found none. Write at least'),
  ],
)  # fmt: skip
def test_a_parquet_file_with_wrong_columns_is_named(tmp_path, columns, message):
  path = write_parquet(tmp_path / 'rows.parquet', columns)
  with pytest.raises(errors.DataError, match=rf'rows\.parquet.*{message}'):
    own_rows.read(own_rows.OwnData(path))


def test_what_is_no_parquet_is_named(tmp_path):
  path = tmp_path / 'rows.parquet'
  path.write_bytes(b'PAR1 and no more')
  with pytest.raises(errors.DataError, match='expected a Parquet file, found'):
    own_rows.read(own_rows.OwnData(str(path)))


def test_a_csv_row_of_another_width_is_named(tmp_path):
  path = tmp_path / 'rows.csv'
  path.write_text('input,label\na,b\nc\n')
  with pytest.raises(
    errors.DataError, match=r'line 3: expected 2 columns .* found 1\. Quote'
  ):
    own_rows.read(own_rows.OwnData(str(path)))


def test_files_of_their_own_are_the_other_splits(write):
  own = own_rows.OwnData(
    write([row(n) for n in range(4)]),
    write([row(9)], 'valid.jsonl'),
    write([row(8), row(7)], 'test.jsonl'),
  )
  splits = own_rows.read(own).splits
  assert [len(splits[s]) for s in ('train', 'validation', 'test')] == [4, 1, 2]


def test_one_file_is_read_whole_and_in_its_order(write):
  path = write([{'q': f'{n}?', 'label': n} for n in range(5)])
  found = own_rows.read_one(path, {'input': 'q'})
  assert [(r.input, r.label) for r in found] == [
    (f'{n}?', str(n)) for n in range(5)
  ]


def test_options_are_equal_however_they_are_given():
  one = own_rows.OwnData(
    'a', columns={'input': 'q', 'rationale': ['x', 'y']}, classes=['b', 'c']
  )
  assert one.columns == (('input', ('q',)), ('rationale', ('x', 'y')))
  other = own_rows.OwnData('a', columns=one.columns, classes=('b', 'c'))
  assert other == one and hash(other) == hash(one)


def edited(rows, place, text):
  lines = list(map(json.dumps, rows))
  lines[place] = text
  return '\n'.join(lines).encode()


ROWS = [row(n) for n in range(20)]


@pytest.mark.parametrize(
  ('data', 'options', 'message'),
  [
    (edited(ROWS, 16, '{"input": '), {}, r'rows\.jsonl, line 17: .*JSON'),
    (edited(ROWS, 2, '[1]'), {}, 'line 3: expected a JSON object'),
    (edited(ROWS, 3, '{"label": "3"}'), {}, "line 4: .*'input', found none"),
    (edited(ROWS, 3, json.dumps(row(3, label={'a': 1}))), {},
     "line 4: expected 'label' to be a text, found {'a': 1}"),
    (b'', {}, 'expected rows, found none'),
    (b'{"input": "a"}\n{"input": "\xe9"}', {}, 'line 2: expected UTF-8'),
    (edited(ROWS, 0, json.dumps(ROWS[0])), {'columns': {'input': 'inputs'}},
     "expected the column 'inputs'.*Did you mean 'input'?"),
    (edited(ROWS, 0, json.dumps(row(0, label='x'))), {'by_value': True},
     'line 1: .*an equation with a value'),
    (edited(ROWS, 0, json.dumps(row(0, label='yess'))),
     {'classes': ['yes', *map(str, range(30))]},
     "line 1: .*'yess'. Did you mean 'yes'?"),
  ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(tmp_path, data, options, message):
  path = tmp_path / 'rows.jsonl'
  path.write_bytes(data)
  with pytest.raises(errors.DataError, match=message):
    own_rows.read(own_rows.OwnData(str(path), **options))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'validation': 0.5, 'test': 0.5}, 'leaves none to train on'),
    ({'test': 0}, 'TEST is 0: expected the path of a file'),
    ({'columns': {'inptu': 'a'}}, "COLUMNS maps 'inptu'.* mean 'input'?"),
    ({'columns': {'label': ('a', 'b')}}, 'several for rationales only'),
  ],
)
def test_an_option_out_of_range_is_explained(options, message):
  with pytest.raises(errors.DataError, match=message):
    own_rows.OwnData('rows.jsonl', **options)


def test_missing_rationales_are_named_where_they_are_needed(write):
  path = write([{'input': str(n), 'label': 'a'} for n in range(9)])
  own = own_rows.OwnData(path)
  assert len(own_rows.read(own, ('label',)).splits['train']) == 7
  with pytest.raises(errors.DataError, match='rows with a rationale, found no'):
    own_rows.read(own, ('label', 'rationale'))


def test_columns_that_some_row_fills_are_known_without_reading_first(write):
  own = own_rows.OwnData(write(ROWS[:2]), validation=write(ROWS[3:], 'v.jsonl'))
  assert 'rationale' in own_rows.filled(own)['validation']
  write([{'input': 'a'}], 'v.jsonl')
  assert 'rationale' not in own_rows.filled(own)['validation']


def test_names_follow_content_and_options_not_the_place(write):
  one = own_rows.OwnData(write(ROWS))
  moved = own_rows.OwnData(write(ROWS, 'moved.jsonl'))
  assert own_rows.fingerprint(one) == own_rows.fingerprint(moved)
  other = own_rows.OwnData(one.train, test=0.2)
  assert own_rows.fingerprint(one) != own_rows.fingerprint(other)
  assert own_rows.fingerprint(one) != own_rows.fingerprint(
    own_rows.OwnData(write(ROWS[1:], 'fewer.jsonl'))
  )


def all_rows(release):
  return sorted(
    (row for rows in release.splits.values() for row in rows),
    key=lambda row: int(row.input.split()[1]),
  )


def missing_values(rows, form):
  """Writes rows with holes as people's tools write them."""
  nan = float('nan')
  if form == 'jsonl':
    return '\n'.join(map(json.dumps, rows))
  if form == 'json':
    return json.dumps(rows)
  if form == 'default=str':
    return '\n'.join(
      json.dumps({k: '<NA>' if v is nan or v != v else v for k, v in r.items()})
      for r in rows
    )
  names = list(rows[0])
  lines = [','.join(str(row[name]) for name in names) for row in rows]
  return '\n'.join([','.join(names), *lines])


@pytest.mark.parametrize('form', ['jsonl', 'json', 'default=str', 'csv'])
def test_what_is_missing_is_no_word(tmp_path, form):
  nan = float('nan')
  rows = [
    {'input': f'case {n}', 'label': nan if n == 1 else n,
     'rationale': nan if n < 6 else f'since {n}', 'id': nan}
    for n in range(12)
  ]  # fmt: skip
  path = tmp_path / f'rows.{form if form in ("csv", "json") else "jsonl"}'
  path.write_text(missing_values(rows, form))
  found = all_rows(own_rows.read(own_rows.OwnData(str(path))))
  assert [row.label for row in found] == ['0', '', *map(str, range(2, 12))]
  assert [row.rationale for row in found[:7]] == [''] * 6 + ['since 6']
  assert {row.id for row in found} == {f'rows-{n}' for n in range(12)}


def test_what_is_missing_in_parquet_is_no_word(tmp_path):
  path = write_parquet(
    tmp_path / 'rows.parquet',
    {
      'input': [f'case {n}' for n in range(12)],
      'label': pyarrow.array([1.0, None, float('nan'), *[2.0] * 9]),
      'rationale': [['nan', 'since'], ['None'], *[None] * 10],
    },
  )
  found = all_rows(own_rows.read(own_rows.OwnData(path)))
  assert [row.label for row in found[:4]] == ['1', '', '', '2']
  assert [row.rationale for row in found[:3]] == ['since', '', '']


def test_a_label_none_must_be_said_to_be_a_class(write):
  path = write([{'input': f'case {n}', 'label': 'None'} for n in range(9)])
  with pytest.raises(errors.DataError, match='list it in CLASSES'):
    own_rows.read(own_rows.OwnData(path))
  own = own_rows.OwnData(path, classes=['None', 'nan'])
  assert {row.label for row in all_rows(own_rows.read(own))} == {'None'}


@pytest.mark.parametrize(
  ('classes', 'labels', 'expected'),
  [
    ([0, 1], [0, 1.0, '1', '1.0'], ['0', '1', '1', '1']),
    (['0', '1'], [0, 1.0, '1', '01'], ['0', '1', '1', '1']),
    ([True, False], [True, 'True', 'FALSE', False],
     ['true', 'true', 'false', 'false']),
    (['True', 'False'], [True, 'true', 'False', False],
     ['True', 'True', 'False', 'False']),
    (['1.50', 'nan'], [1.5, 'nan', '1.5', ''], ['1.50', 'nan', '1.50', '']),
  ],
)  # fmt: skip
def test_labels_and_classes_may_be_numbers_and_truth_values(
  write, classes, labels, expected
):
  rows = [
    {'input': f'case {n}', 'label': label, 'teacher_label': label}
    for n, label in enumerate(labels * 3)
  ]
  own = own_rows.OwnData(write(rows), classes=classes)
  found = all_rows(own_rows.read(own))
  assert [row.label for row in found] == expected * 3
  assert [row.teacher_label for row in found] == expected * 3


@pytest.mark.parametrize(
  ('classes', 'message'),
  [
    ('yes', "CLASSES is 'yes': expected a list"),
    ([1, '1.0'], "1 and '1.0': expected each class once"),
    (['a', ''], "CLASSES has ''"),
    ([None], 'CLASSES has None'),
    ([['a']], 'CLASSES has .*expected a text, a number'),
    (
      ['a' * 2**20],
      'CLASSES has a label of 1,048,576 characters, .a{59}: expected at',
    ),
    (range(10**6), 'CLASSES has 1,000,000 labels: expected at most 10,000'),
  ],
)
def test_classes_that_are_none_are_refused(classes, message):
  with pytest.raises(errors.DataError, match=message):
    own_rows.OwnData('rows.jsonl', classes=classes)


def test_rows_of_many_classes_are_read_as_fast_and_a_message_stays_short(write):
  classes = range(10_000)
  path = write([{'input': f'case {n}', 'label': n} for n in range(5000)])
  begin = time.monotonic()
  own_rows.read(own_rows.OwnData(path, classes=classes))
  assert time.monotonic() - begin < 5
  path = write([{'input': 'case 1', 'label': 'x' * 10**6}])
  with pytest.raises(errors.DataError, match=r'one of 0, 1, .*…') as raised:
    own_rows.read(own_rows.OwnData(path, classes=classes))
  assert len(str(raised.value)) < 1000


def test_a_label_of_no_class_is_refused(write):
  path = write([{'input': 'case 1', 'label': True}])
  with pytest.raises(errors.DataError, match="one of 1, 0, found 'true'"):
    own_rows.OwnData(path, classes=[1, 0])
    own_rows.read(own_rows.OwnData(path, classes=[1, 0]))


def test_shards_are_one_table_whose_name_is_their_content(write, tmp_path):
  folder = tmp_path / 'shards'
  folder.mkdir()
  one = write(ROWS[:9], 'shards/part-0.jsonl')
  two = write(ROWS[9:], 'shards/part-1.jsonl')
  (folder / 'part-2.jsonl').touch()
  for location in (folder, f'{folder}/part-*.jsonl'):
    own = own_rows.OwnData(str(location))
    release = own_rows.read(own)
    found = {
      row.input: row.id for rows in release.splits.values() for row in rows
    }
    assert found[ROWS[8]['input']] == 'part-0-8'
    assert found[ROWS[9]['input']] == 'part-1-9'
    assert len(found) == len(ROWS)
    places = {place for where in release.places.values() for place in where}
    assert {f'{one}, line 9', f'{two}, line 1'} < places
  before = own_rows.fingerprint(own), own_rows.state(own)
  write([row(9, label='other'), *ROWS[10:]], 'shards/part-1.jsonl')
  assert own_rows.fingerprint(own) != before[0]
  assert own_rows.state(own) != before[1]


def test_the_columns_of_all_shards_are_looked_at(write, tmp_path):
  (tmp_path / 'shards').mkdir()
  write([{'input': 'a'}], 'shards/a.jsonl')
  write([{'input': 'b', 'answer': 'x'}], 'shards/b.jsonl')
  options = {'columns': {'label': 'answer'}}
  assert len(own_rows.read_one(str(tmp_path / 'shards'), **options)) == 2
  with pytest.raises(errors.DataError, match='found only input, answer'):
    own_rows.read_one(str(tmp_path / 'shards'), {'label': 'answers'})


@pytest.mark.parametrize('name', ['rows.csv', 'rows.tsv'])
def test_another_delimiter_is_hinted_at(tmp_path, name):
  path = tmp_path / name
  path.write_text('input;label\na;b\n')
  with pytest.raises(errors.DataError, match="has ';' between names, where a"):
    own_rows.read(own_rows.OwnData(str(path)))


def test_a_missing_column_is_told_with_those_that_are_there(write):
  path = write([{'input': f'{n}', 'lable': 'a', 'why': 'b'} for n in range(9)])
  with pytest.raises(
    errors.DataError,
    match=r"with a label, .* are input, lable, why\. Did you mean 'lable'",
  ):
    own_rows.read(own_rows.OwnData(path), ('label',))
  with pytest.raises(errors.DataError, match="Did you mean 'input'"):
    own_rows.read(own_rows.OwnData(path, columns={'input': 'inpt'}))


@pytest.mark.parametrize('split', ['validation', 'test'])
def test_a_split_that_evaluation_could_not_use_is_named(write, tmp_path, split):
  train = write(ROWS)
  copied = write(ROWS, 'copied.jsonl')
  blank = write([{'input': 'a'}, {'input': 'b'}], 'blank.jsonl')
  empty = tmp_path / 'empty.jsonl'
  empty.touch()
  for path, message in (
    (train, f'{split.upper()} is .* expected other rows than those of DATA'),
    (copied, f'{split.upper()} is .* expected other rows than those of DATA'),
    (str(empty), 'empty.jsonl: expected rows, found none'),
    (blank, f'blank.jsonl: expected {split} rows with a label, found none'),
  ):
    own = own_rows.OwnData(train, **{split: path})
    with pytest.raises(errors.DataError, match=message):
      own_rows.read(own, ('label',))


def test_a_check_reads_what_changed_and_nothing_else(write, monkeypatch):
  own = own_rows.OwnData(write(ROWS))
  own_rows.check(own, ('label',))
  with monkeypatch.context() as patched:
    patched.setattr(own_rows, 'read', None)
    own_rows.check(own, ('label',))
  write([*ROWS, {'input': ''}])
  with pytest.raises(errors.DataError, match='line 21: expected a text'):
    own_rows.check(own, ('label',))


def test_own_rows_are_told_from_the_published_layout(tmp_path, write):
  assert own_rows.is_own(write(ROWS))
  assert own_rows.is_own(str(tmp_path))
  assert own_rows.is_own(f'{tmp_path}/*.jsonl')
  assert own_rows.is_own('gone.csv.gz')
  assert not own_rows.is_own('gone.zip')
  assert not own_rows.is_own(f'{sample.DATA_DIR}')
  assert not own_rows.is_own(f'{sample.DATA_DIR}/cqa')


def test_test_rows_are_another_file_with_columns_of_its_own(write):
  rows = [row(n, why='b') for n in range(20)]
  gold = write([{'q': 'New?', 'answer': 5}], 'gold.jsonl')
  own = own_rows.OwnData(
    write(rows),
    columns={'rationale': 'why'},
    test=gold,
    test_columns={'input': 'q', 'label': 'answer'},
  )
  splits = own_rows.read(own, ('label', 'rationale')).splits
  assert [(r.input, r.label) for r in splits['test']] == [('New?', '5')]
  # None of the others is set apart for the test.
  assert (len(splits['train']), len(splits['validation'])) == (18, 2)
  assert own_rows.filled(own)['test'] == {'input', 'label', 'id'}
  other = dataclasses.replace(own, test_columns={'input': 'q', 'label': 'q'})
  assert own_rows.fingerprint(other) != own_rows.fingerprint(own)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'test_columns': {'input': 'q'}}, 'TEST_COLUMNS: expected TEST to be a f'),
    ({'test': 'a.csv', 'test_columns': {'inputs': 'q'}},
     "TEST_COLUMNS maps 'inputs'"),
  ],
)  # fmt: skip
def test_mistakes_about_a_test_file_are_explained(options, message):
  with pytest.raises(errors.DataError, match=message):
    own_rows.OwnData('rows.jsonl', **options)


def test_a_test_file_needs_its_own_input_and_label(write):
  own = own_rows.OwnData(
    write(ROWS),
    test=write([{'q': 'New?', 'answer': 5}], 'gold.jsonl'),
    test_columns={'input': 'q', 'label': 'anser'},
  )
  with pytest.raises(errors.DataError, match=r"gold.*'anser'.*mean 'answer'"):
    own_rows.read(own, ('label',))


def test_rows_without_gold_labels_say_where_labels_are(write):
  own = own_rows.OwnData(write([row(n, label='') for n in range(20)]))
  with pytest.raises(
    errors.DataError, match="'teacher_label', the teacher's: L"
  ):
    own_rows.read(own, ('label',))
  needs, graded = ('teacher_label',), ('label', 'teacher_label')
  own_rows.read(own, needs, graded=graded)
  with pytest.raises(errors.DataError, match='expected validation rows with a'):
    own_rows.read(own, needs)
