"""Tests of rows of the user's own."""

import json
import pathlib

import pyarrow
import pytest
from pyarrow import parquet

from dss_jax import errors
from dss_jax.data import own_rows


def row(number, **changes):
  return {
    'input': f'What is {number} and 1?',
    'label': str(number + 1),
    'rationale': [f'{number} comes before it.', 'Count on.'],
    'teacher_label': str(number + 1 + number % 2),
    **changes,
  }


@pytest.fixture
def write(tmp_path):
  """Returns a function that writes JSON lines and returns their path."""

  def write_rows(rows, name='rows.jsonl'):
    path: pathlib.Path = tmp_path / name
    path.write_text('\n'.join(map(json.dumps, rows)) + '\n')
    return str(path)

  return write_rows


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
    (edited(ROWS, 3, json.dumps(row(3, label={'a': 1}))), {}, "line 4: .*{'a': 1}"),
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
    ({'columns': {'label': ('a', 'b')}}, 'several for rationale only'),
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


def test_names_follow_content_and_options_not_the_place(write):
  one = own_rows.OwnData(write(ROWS))
  moved = own_rows.OwnData(write(ROWS, 'moved.jsonl'))
  assert own_rows.fingerprint(one) == own_rows.fingerprint(moved)
  other = own_rows.OwnData(one.train, test=0.2)
  assert own_rows.fingerprint(one) != own_rows.fingerprint(other)
  assert own_rows.fingerprint(one) != own_rows.fingerprint(
    own_rows.OwnData(write(ROWS[1:], 'fewer.jsonl'))
  )
