"""Tests of files of all forms: what one form says, all of them say."""

import base64
import csv
import gzip
import io
import json
import tracemalloc
import zlib

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from dss_jax import errors
from dss_jax.data import progress, row_files
from dss_jax.data.row_files import opening, parquet_pages, parquet_rows


def read(path, wanted=('input', 'label')):
  """Returns (numbers, rows) of a file."""
  (file,) = row_files.find(str(path))
  columns, told = row_files.Columns(), progress.silent()
  found = list(row_files.rows(file, wanted, columns, told))
  assert told.rows == len(found)
  return [number for number, _ in found], [row for _, row in found]


def to_csv(rows, delimiter=','):
  text = io.StringIO(newline='')
  writer = csv.writer(text, delimiter=delimiter, lineterminator='\r\n')
  writer.writerow(rows[0])
  writer.writerows([row[name] for name in rows[0]] for row in rows)
  return text.getvalue().encode()


def to_parquet(rows):
  data = io.BytesIO()
  parquet.write_table(pyarrow.Table.from_pylist(rows), data)
  return data.getvalue()


FORMS = {
  'a.jsonl': lambda rows: '\n'.join(map(json.dumps, rows)).encode(),
  'b.jsonl': lambda rows: '\r\n\n'.join(
    json.dumps(row, ensure_ascii=False) for row in rows
  ).encode('utf-8-sig'),
  'c.json': lambda rows: json.dumps(rows).encode(),
  'd.json': lambda rows: json.dumps(rows, indent=2).encode(),
  'e.json': lambda rows: '\n'.join(
    json.dumps(row, indent=1, ensure_ascii=False) for row in rows
  ).encode(),
  'f.json.gz': lambda rows: gzip.compress(json.dumps(rows).encode()),
  'g.jsonl.gz': lambda rows: gzip.compress(
    '\n'.join(map(json.dumps, rows)).encode()
  ),
  'h.csv': to_csv,
  'i.tsv': lambda rows: to_csv(rows, '\t'),
  'j.csv.gz': lambda rows: gzip.compress(to_csv(rows)),
  'k.parquet': to_parquet,
}
# Text of any kind, and the pieces that forms put around texts.
TEXTS = st.text(st.characters(exclude_categories=['Cs']), max_size=20) | (
  st.lists(
    st.sampled_from(
      ['"', "'", ',', '\t', '\n', '\r', '\r\n', '\\', '{', ']', '\u2028', ' ',
       '\ufeff', '\x00', '\x1e', '""', 'é', '\U0001f600', 'null', 'x' * 70_000]
    ),
    max_size=6,
  ).map(''.join)
)  # fmt: skip
TABLES = st.lists(
  st.fixed_dictionaries({'input': TEXTS, 'label': TEXTS}), min_size=1,
  max_size=8,
)  # fmt: skip


@given(rows=TABLES)
@settings(
  max_examples=15,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.parametrize('name', FORMS)
def test_every_table_of_texts_is_read_back(tmp_path, name, rows):
  path = tmp_path / name
  path.write_bytes(FORMS[name](rows))
  assert read(path)[1] == rows


ROWS = [{'input': f'case {n}', 'label': 'yes'} for n in range(3)]


@pytest.mark.parametrize(
  ('name', 'numbers'),
  [
    ('a.jsonl', [1, 2, 3]), ('b.jsonl', [1, 3, 5]), ('c.json', [1, 1, 1]),
    ('d.json', [2, 6, 10]), ('e.json', [1, 5, 9]), ('f.json.gz', [1, 1, 1]),
    ('h.csv', [2, 3, 4]), ('k.parquet', [1, 2, 3]),
  ],
)  # fmt: skip
def test_a_row_is_numbered_by_the_line_where_it_begins(tmp_path, name, numbers):
  path = tmp_path / name
  path.write_bytes(FORMS[name](ROWS))
  assert read(path) == (numbers, ROWS)


@pytest.mark.parametrize('packed', [False, True])
def test_a_line_of_a_text_is_an_input(tmp_path, packed):
  path = tmp_path / ('a.txt.gz' if packed else 'a.txt')
  text = '\ufeffOne, "two\r\n\n  \n\t{"input": 3}\u2028 \né'.encode()
  path.write_bytes(gzip.compress(text) if packed else text)
  inputs = [{'input': t} for t in ('One, "two', '{"input": 3}', 'é')]
  assert read(path) == ([1, 4, 5], inputs)
  path.write_bytes(gzip.compress(b'\xff') if packed else b'\xff')
  with pytest.raises(errors.DataError, match='line 1: expected UTF-8'):
    read(path)


def test_a_row_after_a_field_of_several_lines_has_its_own_number(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('input,label\n"a\nb\nc",x\n\nd,y\n')
  assert read(path)[0] == [2, 6]


@pytest.mark.parametrize(
  ('name', 'data', 'message'),
  [
    # JSON.
    ('a.jsonl', '{"input": "a"}\n{"input": \n{"input": "b"}\n',
     'line 2: expected JSON'),
    ('a.jsonl', '{"input": \n{"input": "b"}\n{"input": "c"}\n',
     'line 1: expected JSON'),
    ('a.jsonl', '{"input": "a", "label": 1, "label": 2}\n',
     "line 1: expected each column once, found 'label' twice"),
    ('a.json', '[{"input": "a"},\n {"input": "b", "input": "c"}]',
     "line 2: expected each column once, found 'input' twice"),
    ('a.json', '[\n{"input": "a"}\n{"input": "b"}\n]',
     "line 3: expected a comma or ] after a row, found '{'"),
    ('a.json', '[\n{"input": "a"},\n]', 'line 3: expected JSON'),
    ('a.json', '[\n{"input": "a"},\n{"input" "b"}]',
     'line 3: expected JSON, found .* in the row that begins in line 3'),
    ('a.json', '[\n{"input": "a"}\n', 'expected ] at the end of the rows'),
    ('a.json', '[\n{"input": "a"}, {"inp', 'line 2: expected JSON'),
    ('a.json', '[{"input": "a"}] x', "nothing after the closing ], found 'x'"),
    ('a.json', '[1, 2]', 'line 1: expected a JSON object, found 1'),
    ('a.json', '"text"', 'line 1: expected a JSON object'),
    ('a.json', '{\n "input": "\\ud800"\n}', 'line 1: expected JSON with text'),
    ('a.json', '[' * 100_000, 'line 1: expected JSON with text'),
    # CSV.
    ('a.csv', 'input,label\na,b\n"c\nd",e\n"f" g,h\n', 'line 5: expected CSV'),
    ('a.csv', 'input,label\na,b\n"c\nd",e,f\n',
     'line 3: expected 2 columns as in the first line, found 3'),
    ('a.csv', 'input,label\na,b\n"c,d\ne,f\n',
     'line 3: expected a closing quotation mark in the row that begins here'),
    ('a.csv', 'input,label,label\na,b,c\n',
     "line 1: expected each column once, found 'label' as columns 2 and 3"),
    ('a.csv', 'input,label, input \na,b,c\n', "found 'input' as columns 1"),
    # Packed.
    ('a.jsonl.gz', 'no gzip', 'expected a whole gzip file, found'),
    ('a.csv.gz', gzip.compress(b'a\nb\n' * 9, mtime=0)[:-9], 'a whole gzip'),
  ],
)  # fmt: skip
def test_a_fault_is_named_with_its_line(tmp_path, name, data, message):
  path = tmp_path / name
  path.write_bytes(data if isinstance(data, bytes) else data.encode())
  with pytest.raises(errors.DataError, match=message):
    read(path)


def test_a_byte_that_is_no_text_is_named_with_its_line(tmp_path):
  for name, start in (('a.json', b'[\n'), ('a.jsonl', b''), ('a.csv', b'')):
    path = tmp_path / name
    path.write_bytes(start + b'{"input": "a"}\n\xff\n')
    line = 3 if start else 2
    with pytest.raises(errors.DataError, match=f'line {line}: expected UTF-8'):
      read(path)


def test_blanks_around_the_names_of_csv_columns_are_no_part_of_them(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text(' input , label,,\na,b,,\n', encoding='utf-8-sig')
  assert read(path)[1] == [{'input': 'a', 'label': 'b'}]


def test_a_long_field_is_read_and_an_endless_one_refused(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text(f'input,label\n{"x" * 500_000},b\n')
  assert len(read(path)[1][0]['input']) == 500_000


@pytest.mark.parametrize(
  ('name', 'before', 'after'),
  [
    ('a.jsonl', b'{"input": "', b'"}\n'),
    ('a.json', b'[{"input": "', b'"}]\n'),
    ('a.json', b'{\n"input": "', b'"\n}\n'),
    ('a.csv', b'input\n"', b'"\n'),
    ('a.csv', b'input\n"a\n', b'"\n'),
    # Each of its fields, and lines, is short enough.
    ('a.csv', b'input,b\n"' + (b'a' * 2**22 + b'\n') * 3 + b'","', b'"\n'),
  ],
)
def test_fifty_megabytes_in_a_row_are_refused_in_bounded_memory(
  tmp_path, name, before, after
):
  path = tmp_path / name
  with path.open('wb') as file:
    file.write(before)
    for _ in range(10 if before.count(b'\n') > 2 else 50):
      file.write(b'word ' * 209_715)
    file.write(after)
  tracemalloc.start()
  try:
    with pytest.raises(errors.DataError, match='a row of at most 16 MiB'):
      read(path)
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
  finally:
    tracemalloc.stop()


def test_what_unpacks_without_end_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(opening, '_FREE', 2**16)
  path = tmp_path / 'a.jsonl.gz'
  path.write_bytes(gzip.compress(b'{"input": "aaaa"}\n' * 100_000))
  with pytest.raises(errors.DataError, match='bytes of rows in a file of'):
    read(path)
  # A dull file that is not as dull is read whole.
  lines = [f'{{"input": "case {n}"}}\n' for n in range(20_000)]
  path.write_bytes(gzip.compress(''.join(lines).encode()))
  assert len(read(path)[1]) == 20_000


def bomb(path, lists=False):
  """Writes a few kilobytes of Parquet that stand for gigabytes of texts."""
  text = 'word ' * 8000
  index = pyarrow.array([0] * 300_000, pyarrow.int32())
  texts = pyarrow.DictionaryArray.from_arrays(index, pyarrow.array([text]))
  if lists:
    offsets = pyarrow.array(range(300_001), pyarrow.int32())
    texts = pyarrow.ListArray.from_arrays(offsets, texts)
  count = pyarrow.array([1] * 300_000)
  parquet.write_table(pyarrow.table({'input': texts, 'label': count}), path)
  assert path.stat().st_size < 100_000


@pytest.mark.parametrize('lists', [False, True])
def test_parquet_that_stands_for_gigabytes_is_refused(tmp_path, lists):
  path = tmp_path / 'a.parquet'
  bomb(path, lists)
  before = pyarrow.total_allocated_bytes()
  with pytest.raises(errors.DataError, match='without compression'):
    read(path)
  assert pyarrow.total_allocated_bytes() - before < 2**26
  assert pyarrow.default_memory_pool().max_memory() < 2**30


def _pages_and_footer(text):
  """Returns what stands before the end of a file of one row, and the end."""
  packed = io.BytesIO()
  parquet.write_table(
    pyarrow.table({'input': [text]}),
    packed,
    compression='zstd',
    use_dictionary=False,
    write_statistics=False,
  )
  whole = packed.getvalue()
  end = 8 + int.from_bytes(whole[-8:-4], 'little')
  return whole[4:-end], whole[-end:]


def test_parquet_whose_pages_are_not_what_its_end_says_is_refused(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(parquet_rows, '_GROUP', 2**20)
  pages, _ = _pages_and_footer('a' * 2**23)
  # Text that does not pack, and so has pages of that length.
  dull = ''.join(chr(33 + n * n % 8209 % 90) for n in range(2 * len(pages)))
  room, end = _pages_and_footer(dull)
  assert len(pages) <= len(room) < 20_000
  path = tmp_path / 'a.parquet'
  path.write_bytes(b'PAR1' + pages.ljust(len(room), b'\0') + end)
  pool = pyarrow.default_memory_pool()
  before = pool.bytes_allocated()
  with pytest.raises(errors.DataError, match=r'of input in .*found 838861'):
    read(path)
  assert pool.bytes_allocated() == before


# Of which Arrow 26 ends the process where it is asked for the columns' sizes.
_STATISTICS = (
  r'c-n1~!EVz)5Qb+r#<VCBX~kM=$p;@=tB16tNU2(s%ed5SX(EzHG(zIyI#vjB65}|814qOG'
  r'apJ(4N8!<!U8hbeF^Acm-Tl9rS+Bd;KNf~~CS;oi*adj9#{eKy?oNQ%6;_>gYQhwza{>qK'
  r'PO@-khjzDJPTpXw!XFS=L5P$a62TRFbyBYg{D2K5i!`CuQiKYxDE|~R$bR1hY0je$@gx)m'
  r'i0b~ed^Db>i+ms24jpWAxt)dics31_Sa4ysTWZyiMlzn~f-4D^kK-hs#M66`W!R2g_rMWV'
  r'y9s8^UNHr?4C|})jd?9^YqLFDH4TaeR5^zh5lq_ygJ2t&({(92{e4>En${0y{bJr<=KW-w'
  r'eg6;b8Qc!&G8EqWPDOcJ)^85BBdgf&zZtwNE=2y}&y}5_vK|(8gSbS0gaP6R&qsRA_Ypg4'
  r'a*lYd7uF*dQ-4{;Hy;UlN|TFDuo9`D%;Ib4YvrOz&<F=-i+6)BiHc`kRZpo8w5T|Lfu(6k'
  r'I=sBib=cA8d+7I6s!O8ct5q?jsP|U)clDrER1#7oi|FdMv6ig&LAvRuFk8g=VU(taVV2F7'
  r'?&mn0(^qm|oE$Zdj_o=<3H2(bbmLw60saB_vX=Y'
)


def test_wrong_statistics_of_a_column_do_not_end_the_process(tmp_path):
  path = tmp_path / 'a.parquet'
  path.write_bytes(zlib.decompress(base64.b85decode(_STATISTICS)))
  with pytest.raises(errors.DataError, match='a Parquet file, found: '):
    read(path)


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'use_dictionary': False, 'compression': 'none'},
    {'row_group_size': 7, 'write_page_index': True},
    {'version': '1.0', 'data_page_version': '2.0'},
  ],
)
def test_sizes_of_columns_are_those_that_arrow_reads(options):
  data = io.BytesIO()
  columns = {'a': ['x', 'yy'] * 20, 'b': [[1, 2], [3]] * 20, 'c': [0.5] * 40}
  parquet.write_table(pyarrow.table(columns), data, **options)
  metadata = parquet.read_metadata(data)
  expected = []
  for number in range(metadata.num_row_groups):
    group = metadata.row_group(number)
    found = [group.column(i) for i in range(metadata.num_columns)]
    expected.append(
      [
        parquet_pages.Chunk(
          min(c.data_page_offset, c.dictionary_page_offset or 2**62),
          c.total_compressed_size,
          c.total_uncompressed_size,
          c.num_values,
        )
        for c in found
      ]
    )
  assert parquet_pages.chunks(data) == expected


@pytest.mark.parametrize('own', [b'other', b'i\xffput'])
def test_a_chunk_of_parquet_is_known_by_its_place(tmp_path, monkeypatch, own):
  """The name that a chunk has of its own may be another, and no UTF-8."""
  path = tmp_path / 'a.parquet'

  def write(text):
    pages, end = _pages_and_footer(text)
    schema, name, chunks = end.partition(b'\x05input')
    assert chunks.count(name) == 1
    changed = chunks.replace(name, b'\x05' + own)
    path.write_bytes(b'PAR1' + pages + schema + name + changed)

  write('a duck')
  assert read(path)[1] == [{'input': 'a duck'}]
  monkeypatch.setattr(parquet_rows, '_GROUP', 2**20)
  write('a' * 2**23)
  with pytest.raises(errors.DataError, match=r'of input in .*found 8388'):
    read(path)


def test_a_row_of_parquet_is_no_longer_than_another(tmp_path):
  path = tmp_path / 'a.parquet'
  texts = ['a', 'word ' * 2**22]
  parquet.write_table(pyarrow.table({'input': texts}), path)
  with pytest.raises(errors.DataError, match='row 2: expected a row of at mos'):
    read(path)


def test_a_page_that_is_none_is_named(tmp_path):
  path = tmp_path / 'a.parquet'
  pages, end = _pages_and_footer('a')
  for wrong in (b'\0' * len(pages), b'\xff' * len(pages), b'\x1c' * len(pages)):
    path.write_bytes(b'PAR1' + wrong + end)
    with pytest.raises(errors.DataError, match='expected a Parquet file'):
      read(path)


def test_columns_of_parquet_that_nobody_asked_for_do_no_harm(tmp_path):
  path = tmp_path / 'a.parquet'
  stamps = pyarrow.array([1_700_000_000_000_000_001], pyarrow.timestamp('ns'))
  parquet.write_table(
    pyarrow.table(
      {'when': stamps, 'input': ['a'], 'input.b': [b'x'], 'label': [[1.5]]}
    ),
    path,
  )
  assert read(path)[1] == [{'input': 'a', 'label': [1.5]}]
  with pytest.raises(errors.DataError, match=r"'when' to be a text, .*stamp"):
    read(path, ('when',))


def test_a_column_of_parquet_twice_is_refused(tmp_path):
  path = tmp_path / 'a.parquet'
  both = pyarrow.Table.from_arrays(
    [pyarrow.array(['a']), pyarrow.array(['b'])], names=['input', 'input']
  )
  parquet.write_table(both, path)
  with pytest.raises(errors.DataError, match="column once, found 'input' 2"):
    read(path)


def test_values_of_parquet_are_what_was_written(tmp_path):
  path = tmp_path / 'a.parquet'
  columns = {
    'dictionary': pyarrow.array(['a', None, 'a']).dictionary_encode(),
    'short': pyarrow.array([0.1, None, 2.5], pyarrow.float32()),
    'half': pyarrow.array(np.array([0.1, 2.0, 3.0], np.float16)),
    'lists': pyarrow.array([['x', None], None, []]),
    'large': pyarrow.array(['p', 'q', None], pyarrow.large_string()),
    'truth': pyarrow.array([True, None, False]),
    'nothing': pyarrow.nulls(3),
  }
  parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
  assert read(path, tuple(columns))[1] == [
    {'dictionary': 'a', 'short': 0.1, 'half': 0.1,
      'lists': ['x', None], 'large': 'p',
     'truth': True, 'nothing': None},
    {'dictionary': None, 'short': None, 'half': 2.0,
      'lists': None, 'large': 'q',
     'truth': None, 'nothing': None},
    {'dictionary': 'a', 'short': 2.5, 'half': 3.0,
      'lists': [], 'large': None,
     'truth': False, 'nothing': None},
  ]  # fmt: skip


def test_parquet_texts_that_are_no_utf_8_are_refused(tmp_path):
  path = tmp_path / 'a.parquet'
  data = pyarrow.array([b'\xff\xfe'])
  texts = pyarrow.StringArray.from_buffers(1, *data.buffers()[1:])
  parquet.write_table(pyarrow.table({'input': texts}), path)
  with pytest.raises(errors.DataError, match='a Parquet file, found: '):
    read(path)


def test_a_missing_column_is_told_with_the_first_twenty():
  columns = row_files.Columns()
  for number in range(20):
    columns.add([f'c{number}'])
  shown = ', '.join(f'c{n}' for n in range(20))
  assert f'found only {shown}. Add' in str(columns.missing('a', 'input', 'x'))
  columns.add(['more', 'than'])
  message = str(columns.missing('a', 'input', 'mor'))
  assert f"found only {shown}, …. Did you mean 'more'? Add" in message
  # Objects of a file may have a name each.
  columns.add([f'd{number}' for number in range(977)])
  columns.add(['last'])
  columns.add(['beyond'])
  assert len(columns.names) == 1000 and 'last' in columns.names
  columns = row_files.Columns()
  for begin in (0, 999, 1005):
    columns.add([f'd{number}' for number in range(begin, begin + 999)])
  assert len(columns.names) == 1998


def test_work_that_takes_long_says_how_far_it_is():
  stream = io.StringIO()
  report = progress.Progress('Reading a', 4096, stream, seconds=0.0)
  for number in range(2048):
    report.at(number + 1)
    report.row()
  report.done()
  assert stream.getvalue().splitlines() == [
    'Reading a: 1,024 rows, 25% …',
    'Reading a: 2,048 rows, 50% …',
    'Reading a: 2,048 rows, done',
  ]


def test_a_column_that_nobody_wants_is_not_read(tmp_path):
  path = tmp_path / 'a.parquet'
  mark = 'broken here ' * 20
  table = pyarrow.table({'input': ['a', 'b'], 'other': [mark, mark[::-1]]})
  parquet.write_table(
    table, path, use_dictionary=False, compression='none', write_statistics=[]
  )
  content = path.read_bytes()
  assert content.count(mark.encode()) == 1
  # The length before the text.
  at = content.index(mark.encode()) - 4
  path.write_bytes(content[:at] + b'\xff\xff\xff\x7f' + content[at + 4 :])
  assert read(path, ['input'])[1] == [{'input': 'a'}, {'input': 'b'}]
  with pytest.raises(errors.DataError, match='a Parquet file, found: '):
    read(path, ['input', 'other'])
