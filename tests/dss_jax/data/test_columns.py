"""Names of columns, and rows of the user's own with several kinds."""

import pytest

from dss_jax import errors
from dss_jax.data import columns, own_rows


def row(number, **changes):
  return {'input': f'What is {number}?', 'label': str(number), **changes}


def read(path, kinds, mapped=None):
  own = own_rows.OwnData(path, columns=mapped, kinds=kinds)
  release = own_rows.read(own)
  rows = [row for found in release.splits.values() for row in found]
  return sorted(rows, key=lambda row: int(row.label)), release


def test_columns_of_rationales_are_numbered():
  names = ['rationale10', 'input', 'rationale', 'rationale2', 'rationale1']
  assert columns.rationales(names) == ['rationale', 'rationale2', 'rationale10']
  assert columns.kind_in_files('rationale') == 'rationale'
  assert columns.kind_in_files('label') is None
  named = [columns.rationale(number) for number in (1, 2, 10)]
  assert named == ['rationale', 'rationale2', 'rationale10']
  assert [columns.number_of(name) for name in named] == [1, 2, 10]
  for name in ('rationale1', 'rationale02', 'rationale.a', 'label'):
    assert columns.number_of(name) is None
  for kind in ('a', 'rationale', 'z'):
    assert columns.kind_in_files(columns.in_files(kind)) == kind
  assert columns.in_files('a') == 'rationale.a'
  assert columns.in_files('rationale') == 'rationale'
  assert columns.kind_in_files('teacher_label') is None


def test_kinds_come_by_name_from_one_column(write):
  rationales = [
    {'thought': f'{n} is it.', 'program': ['a', f'{n}'], 'other': 'x'}
    for n in range(8)
  ]
  path = write(
    [row(n, rationale=r) for n, r in enumerate(rationales)]
    + [row(8, rationale={'thought': 'None'}), row(9)]
  )
  rows, release = read(path, ('program', 'thought'))
  assert rows[3].rationale == own_rows.SEPARATOR.join(['a', '3'])
  assert rows[3].more == ('3 is it.',)
  assert rows[3].column('rationale2') == '3 is it.'
  assert (rows[8].rationale, rows[8].more) == ('', ('',))
  assert (rows[9].rationale, rows[9].more) == ('', ('',))
  lacking = [r.without_rationale for r in release.reports.values()]
  assert [sum(counts) for counts in zip(*lacking, strict=True)] == [2, 2]


def test_kinds_come_from_columns_of_their_own(tmp_path):
  path = tmp_path / 'rows.csv'
  lines = [f'q{n},{n},why {n},{n} + 0,no' for n in range(10)]
  header = 'input,label,rationale,code,rationale.critique'
  path.write_text('\n'.join([header, *lines]))
  mapped = {'rationale.program': 'code', 'rationale.thought': 'rationale'}
  kinds = ('thought', 'program', 'critique')
  rows, _ = read(str(path), kinds, mapped)
  assert (rows[4].rationale, *rows[4].more) == ('why 4', '4 + 0', 'no')
  # Without a name, the column is a kind of its own; others are not read.
  rows, _ = read(str(path), ('program', 'rationale'), mapped)
  assert (rows[4].rationale, *rows[4].more) == ('4 + 0', 'why 4')
  rows, _ = read(str(path), ('critique',), mapped)
  assert (rows[4].rationale, rows[4].more) == ('no', ())


def test_named_rationales_are_not_learned_by_accident(write):
  path = write([row(n, rationale={'thought': 'a'}) for n in range(10)])
  with pytest.raises(
    errors.DataError,
    match=r"line 1: expected 'rationale' to be a text, found rationales of"
    r" several kinds: thought\. .* RATIONALE_KINDS = \('thought',\)",
  ):
    read(path, ())


def test_a_kind_that_no_row_has_is_an_error_that_names_its_column(write):
  path = write(
    [row(n, rationale={'thought': 'a'}, **{'program': '1'}) for n in range(10)]
  )
  own = own_rows.OwnData(path, kinds=('thought', 'program'))
  needs = ('label', 'rationale', 'rationale2')
  with pytest.raises(
    errors.DataError,
    match=r'expected train rows with a rationale\.program or',
  ):
    own_rows.read(own, needs)
  mapped = {'rationale.program': 'programm'}
  own = own_rows.OwnData(path, columns=mapped, kinds=('thought', 'program'))
  with pytest.raises(errors.DataError, match="Did you mean 'program'"):
    own_rows.read(own, needs)


def test_kinds_tell_prepared_data_apart(write):
  path = write([row(n, rationale={'a': 'x', 'b': 'y'}) for n in range(10)])
  prints = {
    own_rows.fingerprint(own_rows.OwnData(path, kinds=kinds))
    for kinds in ((), ('a',), ('a', 'b'), ('b', 'a'))
  }
  assert len(prints) == 4


def test_columns_of_no_kind_are_refused():
  with pytest.raises(errors.DataError, match=r'or rationale\.KIND for a kind'):
    own_rows.OwnData('rows', columns={'rationale.': 'x'})
