"""Tests of CSV: bounds, faults, and lines that end as on an old Mac."""

import pytest

from dss_jax import errors
from dss_jax.data import progress, row_files
from dss_jax.data.row_files import opening


def test_a_row_may_be_as_long_as_the_bound_and_a_file_longer(
  rows_of, monkeypatch
):
  """Else the rows of a large table are counted together, or cut short."""
  monkeypatch.setattr(opening, 'MAX_ROW', 40)
  lines = ['input', *(letter * 39 for letter in 'abc')]
  found = rows_of('a.csv', '\n'.join(lines).encode())
  assert found == [(n, {'input': lines[n - 1]}) for n in (2, 3, 4)]
  # Of one more character, in one line or in two.
  for field in ('a' * 40, '"a\n' + 'a' * 36 + '"'):
    with pytest.raises(errors.DataError, match='line 3: expected a row of at'):
      rows_of('a.csv', f'input\nb\n{field}\n'.encode())


def test_a_fault_says_where_its_row_begins_if_that_is_another_line(rows_of):
  with pytest.raises(
    errors.DataError,
    match=r'line 3: expected CSV, found: .*, in the row that begins in line 2\.'
    ' Within a quoted',
  ):
    rows_of('a.csv', b'input\n"a\nb" c\n')
  with pytest.raises(
    errors.DataError, match=r"""found: ',' expected after '"'\. Within a qu"""
  ):
    rows_of('a.csv', b'input\n"b" c\n')


def test_a_carriage_return_alone_ends_a_line(rows_of):
  """Spreadsheets on old Macs wrote such files; all is one line otherwise."""
  assert rows_of('a.csv', b'input,label\ra,b\rc,d\r') == [
    (2, {'input': 'a', 'label': 'b'}),
    (3, {'input': 'c', 'label': 'd'}),
  ]


def test_all_columns_that_have_a_name_are_rows_of_no_known_ones(rows_of):
  data = b'q,,a\n1,2,3\n'
  assert rows_of('a.csv', data, None) == [(2, {'q': '1', 'a': '3'})]
  assert rows_of('a.csv', data, ('b',)) == [(2, {})]
  assert rows_of('a.csv', b'') == rows_of('a.csv', b'\n\n') == []


def test_a_byte_order_mark_is_one_at_the_start_alone(rows_of):
  data = '\ufeffinput\n\ufeffa\n'.encode()
  assert rows_of('a.csv', data) == [(2, {'input': '\ufeffa'})]


@pytest.mark.parametrize(
  ('name', 'header', 'hint'),
  [
    ('a.csv', 'a;b', " Its first line has ';' between names, where a comma"),
    ('a.csv', 'a\tb', ' Its first line has a tab between names, where a comma'),
    ('a.tsv', 'a,b', ' Its first line has a comma between names, where a tab'),
    ('a.tsv', 'a|b', " Its first line has '|' between names, where a tab"),
    # With a second column, it is a part of a name.
    ('a.csv', 'a;b,c', ''),
    ('a.csv', 'a', ''),
  ],
)
def test_another_mark_between_names_is_hinted_at(tmp_path, name, header, hint):
  path = tmp_path / name
  path.write_text(f'{header}\n')
  (file,) = row_files.find(str(path))
  columns = row_files.Columns()
  assert not [*row_files.rows(file, ('d',), columns, progress.silent())]
  assert columns.hint.startswith(hint) and bool(columns.hint) == bool(hint)
