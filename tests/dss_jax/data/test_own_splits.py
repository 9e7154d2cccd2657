"""Tests of splits of own rows: which rows, what each needs, and its name."""

import numpy as np
import pytest

from dss_jax import errors, sample
from dss_jax.data import own_rows


def _row(number, **changes):
  return {
    'input': f'case {number}', 'label': f'{number}', 'rationale': 'so',
    **changes,
  }  # fmt: skip


def test_rows_set_apart_are_the_first_of_the_permutation(write):
  """Else the same seed gives other splits than it did, and scores differ."""
  rows = [_row(n % 19) for n in range(20)]
  own = own_rows.OwnData(write(rows), 0.11, 0.21, seed=5)
  splits = own_rows.read(own).splits
  order = np.random.default_rng(5).permutation(19).tolist()
  for split, chosen in (
    ('validation', order[:3]), ('test', order[3:7]), ('train', order[7:])
  ):  # fmt: skip
    expected = [n % 19 for n in range(20) if n % 19 in chosen]
    assert [int(row.label) for row in splits[split]] == expected
    assert [row.index for row in splits[split]] == [*range(len(expected))]
  twice = [row for row in splits['train'] if row.label == '0'] or [
    row for split in splits.values() for row in split if row.label == '0'
  ]
  assert [row.id for row in twice] == ['rows-0', 'rows-19']


def test_rows_that_are_all_set_apart_are_too_few(write):
  path = write([_row(1), _row(2)])
  with pytest.raises(
    errors.DataError, match='expected more rows, found 2 different inputs'
  ):
    own_rows.read(own_rows.OwnData(path, 0.5, 0.4))


def test_a_folder_is_told_from_the_published_layout_by_what_it_holds(
  write, tmp_path
):
  (tmp_path / 'a.json').mkdir()
  assert own_rows.is_own(str(tmp_path / 'a.json'))
  (tmp_path / 'b.json').mkdir()
  (tmp_path / 'b.json/cqa').symlink_to(f'{sample.DATA_DIR}/cqa')
  assert not own_rows.is_own(str(tmp_path / 'b.json'))


def test_other_rows_may_have_as_many_bytes(write):
  """Only the same rows are no test of what was learned from them."""
  own = own_rows.OwnData(
    write([_row(1), _row(2)]),
    write([_row(3), _row(4)], 'v.jsonl'),
    write([_row(0), _row(0)], 't.jsonl'),
  )
  splits = own_rows.read(own).splits
  assert [len(rows) for rows in splits.values()] == [2, 2, 2]
  # In another order of digests, too.
  swapped = own_rows.OwnData(own.validation, own.train, own.test)
  assert len(own_rows.read(swapped).splits['train']) == 2


@pytest.mark.parametrize('split', ['validation', 'test'])
def test_only_rows_to_train_on_need_rationales(write, split):
  train = write([_row(n) for n in range(9)])
  plain = write([{'input': 'x', 'label': '1'}], 'plain.jsonl')
  blank = write([{'input': 'x'}], 'blank.jsonl')
  needs = ('label', 'rationale')
  own = own_rows.OwnData(train, **{split: plain})
  assert len(own_rows.read(own, needs).splits[split]) == 1
  own = own_rows.OwnData(train, **{split: blank})
  # Nothing is checked where nothing is needed.
  assert len(own_rows.read(own).splits[split]) == 1
  with pytest.raises(
    errors.DataError,
    match=rf'expected {split} rows with a label, found none among 1; the'
    rf' columns are input\. .* or give {split.upper()} rows that have one\.',
  ):
    own_rows.read(own, needs)
  with pytest.raises(
    errors.DataError, match=f'expected {split} rows with a te'
  ):
    own_rows.read(own, needs, graded=('teacher_label', 'label'))
  taught = write([{'input': 'x', 'teacher_label': '1'}], 'taught.jsonl')
  own = own_rows.OwnData(train, **{split: taught})
  own_rows.check(own, needs, graded=('label', 'teacher_label'))
  with pytest.raises(
    errors.DataError, match=f'expected {split} rows with a la'
  ):
    own_rows.check(own, needs)


def test_what_train_rows_lack_is_named_with_the_way_out(write):
  path = write([{'input': f'{n}', 'teacher_label': '1'} for n in range(9)])
  own = own_rows.OwnData(path)
  with pytest.raises(
    errors.DataError, match=r"rows with a label, .* or train on 'teacher_label'"
  ):
    own_rows.read(own, ('label', 'rationale'))
  with pytest.raises(
    errors.DataError,
    match=r'rows with a rationale, .* or choose a METHOD and LABELS that need',
  ):
    own_rows.read(own, ('rationale', 'label'))
  own = own_rows.OwnData(write([{'input': f'{n}'} for n in range(9)]))
  with pytest.raises(
    errors.DataError, match=r'rows with a label, .* or choose a METHOD and LABE'
  ):
    own_rows.read(own, ('label',))


def test_a_kind_that_is_there_but_blank_is_said_by_its_column(write):
  path = write([_row(n, **{'rationale.b': ''}) for n in range(9)])
  own = own_rows.OwnData(path, kinds=('rationale', 'b'))
  with pytest.raises(
    errors.DataError, match=r'rows with a rationale\.b, found none among 7; the'
  ):
    own_rows.read(own, ('label', 'rationale', 'rationale2'))


def test_a_label_is_no_kind_of_rationales(write):
  path = write([{'input': f'{n}'} for n in range(9)])
  own = own_rows.OwnData(path, kinds=('rationale', 'b'))
  with pytest.raises(
    errors.DataError, match='rows with a label, found none am'
  ):
    own_rows.read(own, ('label', 'rationale2'))


def test_a_column_is_filled_where_one_row_has_it(write, monkeypatch):
  rows = [_row(n, rationale={'a': 'x', 'c': 'z'}) for n in range(9)]
  rows[4]['rationale']['b'] = 'y'
  gold = write([{'input': 'x', 'label': '1'}], 'gold.jsonl')
  own = own_rows.OwnData(write(rows), gold, gold, kinds=('a', 'b', 'c'))
  basic = {'input', 'label', 'id'}
  expected = {
    'train': {*basic, 'rationale', 'rationale2', 'rationale3'},
    'validation': basic,
    'test': basic,
  }
  assert own_rows.filled(own) == expected
  monkeypatch.setattr(own_rows, 'read', None)
  assert own_rows.filled(own) == expected


def test_names_of_prepared_data_stay_as_they_are(write):
  """Else what was prepared and trained before is not found again."""
  path = write([_row(n) for n in range(3)])
  own = own_rows.OwnData(path)
  gold = write([_row(7)], 'gold.jsonl')
  options = {'columns': {'rationale': 'why'}, 'classes': ['1'], 'seed': 2}
  found = [
    own_rows.fingerprint(each)
    for each in (
      own,
      own_rows.OwnData(path, 0.2, gold, by_value=True, **options),
      own_rows.OwnData(path, 0.2, gold, test_columns={'input': 'q'}),
      own_rows.OwnData(path, kinds=('a', 'b')),
    )
  ]
  assert found == ['4389dabe69', 'f57dacfda0', 'feacb8b47e', 'ff023eb7af']
