"""Tests of JSON that comes in blocks: lines, marks, and what is cut."""

import json

import pytest

from dss_jax import errors
from dss_jax.data.row_files import json_rows, opening

ROWS = [{'input': f'case {n}, which is long', 'label': n} for n in range(6)]
BOM = b'\xef\xbb\xbf'


@pytest.fixture(params=[1, 7, 30, 2**16])
def block(request, monkeypatch):
  """Has text come in blocks of so many bytes."""
  monkeypatch.setattr(json_rows, '_BLOCK', request.param)


@pytest.mark.parametrize('before', [b'', BOM, b'\n\r\n\n \t\n'])
@pytest.mark.usefixtures('block')
def test_rows_have_their_lines_however_they_come(rows_of, before):
  """Else a user looks for a fault in another line than where it is."""
  first = before.count(b'\n') + 1
  array = before + json.dumps(ROWS, indent=1).encode()
  expected = [(first + 1 + 4 * n, row) for n, row in enumerate(ROWS)]
  assert rows_of('a.json', array + b'\n') == expected
  objects = '\n'.join(json.dumps(row, indent=1) for row in ROWS)
  expected = [(first + 4 * n, row) for n, row in enumerate(ROWS)]
  assert rows_of('b.json', before + objects.encode()) == expected
  lines = '\n'.join(map(json.dumps, ROWS))
  expected = [(first + n, row) for n, row in enumerate(ROWS)]
  assert rows_of('c.jsonl', before + lines.encode()) == expected


def test_blanks_at_the_start_may_be_longer_than_a_block(rows_of, monkeypatch):
  monkeypatch.setattr(opening, '_BLOCK', 16)
  assert rows_of('a.json', b' \n' * 50 + b'[{"a": 1}]') == [(51, {'a': 1})]
  assert rows_of('a.json', b' \n' * 50) == []


def test_files_that_were_joined_have_marks_within(rows_of):
  line = b'\xef\xbb\xbf{"a": 1}\n'
  assert rows_of('a.jsonl', line * 3) == [(n, {'a': 1}) for n in (1, 2, 3)]
  assert len(rows_of('a.jsonl', line[3:] + line)) == 2


@pytest.mark.parametrize(
  'text',
  [
    '{"input":\n"a"\n}',
    '{"input": "a",\n"more":\n{"b": 1}\n}',
    '{"input": "a", "more":\n{"b":\n1}}',
    '{"input": "a", "more":\n{"b": 1}}',
    '{"input": "a", "more": {\n}}',
  ],
)
def test_an_object_over_several_lines_is_one_row(rows_of, text):
  assert rows_of('a.json', text.encode()) == [(1, json.loads(text))]


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize(
  ('data', 'line'),
  [
    (b'[{"a": 1},\n\n{"a": "\xff"}]', 3),
    # A text that ends within a character.
    (b'[{"a": 1}]\n\xc3', 2),
    (b'\n[{"a": 1}]\n\xc3', 3),
    (b'{\n\xff\n}', 2),
    (b'\xff\xff\xff[{"a": 1}]', 1),
    (b'{\n"a": 1\n}\n\xff', 4),
    (b'\n\n{\n"a": 1\n}\n\xff', 6),
    (b'{\n"a": 1,\n"b": 1}\n{\n\xff', 5),
  ],
)
def test_what_is_no_utf_8_is_named_with_its_line(rows_of, data, line):
  with pytest.raises(errors.DataError, match=f'line {line}: expected UTF-8'):
    rows_of('a.json', data)


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize(
  ('end', 'message'),
  [
    (b' x]', "line 25: expected a comma or ] after a row, found 'x'"),
    (b',\n{"a":\n1 "b"}]', 'line 27: expected JSON, .* row that begins in line '
     '26'),
    (b',\n\n{"a":\n1 "b"}]', 'line 28: expected JSON, .* that begins in line'
     ' 27'),
    (b',\n{"a":\n"b', 'line 27: expected JSON, found unterminated string .* row'
     ' that begins in line 26'),
    (b'', 'line 25: expected ] at the end of the rows, found none'),
    (b'\n]\n\n{', "line 28: expected nothing after the closing ], found '{'"),
    (b',\n\n"a"]', 'line 27: expected a JSON object, found "a"'),
    (b',\n{"a": 1,\n"a": 2}]', "line 26: .* once, found 'a' twice"),
    (b',\n\n{"a": "\\ud800"}]', 'line 27: expected JSON with text in it'),
  ],
)  # fmt: skip
def test_a_fault_after_many_blocks_has_its_line(rows_of, end, message):
  array = json.dumps(ROWS, indent=0).encode().removesuffix(b'\n]')
  assert array.count(b'\n') == 24
  with pytest.raises(errors.DataError, match=message):
    rows_of('a.json', array + end)


def test_rows_of_an_array_are_bounded_each_and_not_together(
  rows_of, monkeypatch
):
  monkeypatch.setattr(json_rows, '_BLOCK', 64)
  monkeypatch.setattr(opening, 'MAX_ROW', 100)
  rows = [{'a': 'b' * (40 + n)} for n in range(40)]
  for data in (
    json.dumps(rows),
    '\n'.join(json.dumps(r, indent=1) for r in rows),
  ):
    assert [row for _, row in rows_of('a.json', data.encode())] == rows
  rows.append({'a': 'b' * 300})
  with pytest.raises(errors.DataError, match='line 42: expected a row of at'):
    rows_of('a.json', json.dumps(rows, indent=0).replace('{\n', '{')
            .replace('\n}', '}').encode())  # fmt: skip


@pytest.mark.parametrize(
  ('name', 'data', 'message'),
  [
    ('a.json', '[{"a": 1' + '0' * 5000 + '}]', 'line 1: expected JSON with te'),
    ('a.jsonl', '{"a": 1}\n{"a": 1' + '0' * 5000 + '}', 'line 2: expected JS'),
    ('a.jsonl', '{"a": ' + '[' * 100_000, 'line 1: expected JSON with text in'),
  ],
)  # fmt: skip
def test_numbers_and_lists_without_end_are_named(rows_of, name, data, message):
  with pytest.raises(errors.DataError, match=message):
    rows_of(name, data.encode())


def test_a_line_may_be_as_long_as_the_bound(rows_of, monkeypatch):
  monkeypatch.setattr(opening, 'MAX_ROW', 40)
  line = json.dumps({'a': 'b' * 30})
  assert len(line) == 40 - 1
  assert len(rows_of('a.jsonl', f'{line}\n{line}\n'.encode())) == 2
  with pytest.raises(errors.DataError, match='line 2: expected a row of at mo'):
    rows_of('a.jsonl', f'{line}\n{line} \n'.encode())
