"""Headers of pages, byte by byte; whole files are in test_reading."""

import io

import pytest

from dss_jax.data.row_files import parquet_pages

# A field's byte: how much greater its number is than the last one's, its kind.
_SIZES = b'\x25\xc8\x01\x15\x06'  # 100 bytes that are packed into 3.


def _sizes(*headers):
  pages = b''.join(header + b'\0' + b'abc' for header in headers)
  stream = io.BytesIO(b'before' + pages + b'after')
  return [*parquet_pages.unpacked_sizes(stream, 6, len(pages))]


def test_pages_follow_each_other():
  assert _sizes(_SIZES, _SIZES.replace(b'\xc8\x01', b'\x04')) == [100, 2]
  assert _sizes(_SIZES.replace(b'\xc8\x01', b'\xfe\x7f')) == [8191]


def test_the_last_page_may_say_that_it_goes_on():
  # 63 bytes, of which three are its column's: Arrow finds that itself.
  assert _sizes(_SIZES.replace(b'\x06', b'\x7e')) == [100]


def test_a_page_may_be_empty_but_ends_within_its_column():
  stream = io.BytesIO(b'\x25\x00\x15\x00\x00' * 2)
  assert [*parquet_pages.unpacked_sizes(stream, 0, 10)] == [0, 0]
  with pytest.raises(ValueError, match='whose header does not end'):
    list(parquet_pages.unpacked_sizes(stream, 0, 9))


@pytest.mark.parametrize(
  'field',
  [
    pytest.param(b'\x11', id='a truth'),
    pytest.param(b'\x12', id='the other'),
    pytest.param(b'\x13\x25', id='a byte'),
    pytest.param(b'\x14\x02', id='a short number'),
    pytest.param(b'\x15\x80\x80\x01', id='a number'),
    pytest.param(b'\x16\x02', id='a long number'),
    pytest.param(b'\x17' + b'\x25' * 8, id='a fraction'),
    pytest.param(b'\x18\x02\x25\x25', id='bytes'),
    pytest.param(b'\x1c\x25\x06\x1c\x00\x00', id='structs in a struct'),
    pytest.param(b'\x19\x28\x01a\x02bc', id='a list of bytes'),
    pytest.param(b'\x19\xf1\x11' + b'\x01' * 17, id='a long list of truths'),
    pytest.param(b'\x19\x2c\x15\x02\x00\x00', id='a list of structs'),
    pytest.param(b'\x19\x3c\x00\x00\x00', id='three structs'),
    pytest.param(b'\x19\x78' + b'\x00' * 7, id='seven empty texts'),
    pytest.param(b'\x1a\x23\x01\x02', id='a set of bytes'),
    pytest.param(b'\x19' * 12 + b'\x13\x01', id='twelve lists'),
  ],
)
def test_other_fields_are_skipped(field):
  assert _sizes(field + b'\x15' + _SIZES[1:]) == [100]


@pytest.mark.parametrize(
  ('header', 'message'),
  [
    *(
      (bytes([0x10 + kind]), f'a field of kind {kind}') for kind in (0, 11, 13)
    ),
    (b'\x19\x1b', 'a field of kind 11'),
    (b'\x19\xfc\x80\x80\x01', 'whose header does not end'),
    (b'\x19' * 13 + b'\x13\x01', 'lists in lists'),
    # It has a billion fractions, and no more bytes.
    (b'\x19\xf7\x80\x80\x80\x80\x04', 'whose header does not end'),
    (b'\x18\x7f', 'whose header does not end'),
    (b'\x15\x02', 'without a size'),
    (b'\x25\xc8\x01', 'without a size'),
    (b'\x35\x06', 'without a size'),
    (b'\x25\x01\x15\x06', 'without a size'),
    (b'\x25\x03\x15\x06', 'without a size'),
    (b'\x25\x06\x15\x01', 'without a size'),
    (b'\x15' + b'\x80' * 10, 'a number without end'),
    (b'\x1c' * 13, 'structs in structs'),
    (b'\x1c' * 12, 'whose header does not end'),
  ],
)
def test_a_header_that_is_none_is_refused(header, message):
  with pytest.raises(ValueError, match=message):
    _sizes(header)


@pytest.mark.parametrize(
  ('end', 'message'),
  [
    (b'\x45\x02\x00', 'a field of kind 5'),
    (b'\x4c\x00\x00', 'a field of kind 12'),
    (b'\x41\x00', 'a field of kind 1'),
    (b'\x49\x05\x00', 'a list of kind 5'),
    (b'\x49\x1d\x00', 'a list of kind 13'),
    (b'\x49\x1c\x19\x1c\x3d\x00', 'a field of kind 13 in place of a struct'),
    # A list of groups, and the same number once more.
    (b'\x49\x0c\x05\x08\x02\x00', 'the field 4 twice'),
    # A group with a column of which nothing is known, and one with a number.
    (b'\x49\x1c\x19\x1c\x00\x00\x00', 'that nothing is known of'),
    (b'\x49\x1c\x19\x1c\x35\x02\x00\x00\x00', 'in place of a struct'),
    (b'\x49\x1c\x19\x1c\x3c\x55\x02\x00\x00\x00\x00', 'without its field'),
    # Structs in a column, which is one in a group itself.
    (b'\x49\x1c\x19\x1c\x4c' + b'\x1c' * 9 + b'\0' * 13, 'nothing is known'),
    (b'\x49\x1c\x19\x1c\x4c' + b'\x1c' * 10 + b'\0' * 14, 'structs in str'),
    (b'\x49\x1c', 'an end that does not end'),
    (b'', 'an end of 0 bytes'),
  ],
)
def test_an_end_of_a_file_that_is_none_is_refused(end, message):
  whole = b'PAR1' + end + len(end).to_bytes(4, 'little') + b'PAR1'
  with pytest.raises(ValueError, match=message):
    parquet_pages.chunks(io.BytesIO(whole))


def test_an_end_of_a_file_is_no_longer_than_the_file():
  end = b'\x00\x01\x00\x00\x00PAR1'
  assert parquet_pages.chunks(io.BytesIO(end)) == []
  for old, new, size in (
    (b'\x01', b'\x02', 2),
    (b'\x00PAR', b'\x01PAR', 2**24 + 1),
    (b'PAR1', b'PAR0', 1),
    (b'PAR1', b'PAR2', 1),
  ):
    with pytest.raises(ValueError, match=f'an end of {size} bytes'):
      parquet_pages.chunks(io.BytesIO(end.replace(old, new)))


def test_a_header_may_be_longer_than_what_is_read_at_first():
  size = 2 * parquet_pages._FIRST
  long = b'\x18' + bytes([size & 0x7F | 0x80, size >> 7]) + b'x' * size
  assert _sizes(long + b'\x15' + _SIZES[1:]) == [100]
