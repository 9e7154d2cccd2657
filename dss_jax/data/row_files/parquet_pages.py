"""Sizes of the pages of a Parquet file, as their own headers say them.

What the end of a file says about its columns need not be true, and Arrow takes
the memory that a page's header asks for. So headers are read before any page
is: a page is a header in Thrift's compact encoding, and so many packed bytes.
"""

from collections.abc import Iterator
from typing import BinaryIO

# Bytes that are read of a header at first, and at most.
_FIRST, _MOST = 2**12, 2**24
# Kinds of a field in that encoding.
_TRUTHS, _BYTE, _INTEGERS = (1, 2), 3, (4, 5, 6)
_DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = 7, 8, (9, 10), 11, 12
# Fields of a page's header.
_UNPACKED, _PACKED = 2, 3
# Of structs in structs; a header has three.
_MAX_DEPTH = 8


class _ShortError(Exception):
  """The bytes that were read do not hold the whole header."""


class _Header:
  """Reader of the fields of a header."""

  def __init__(self, data: bytes):
    self._data = data
    self.position = 0

  def _byte(self) -> int:
    if self.position >= len(self._data):
      raise _ShortError
    self.position += 1
    return self._data[self.position - 1]

  def _varint(self) -> int:
    result = 0
    for shift in range(0, 70, 7):
      byte = self._byte()
      result |= (byte & 0x7F) << shift
      if byte < 0x80:
        return result
    raise ValueError('a number without end in the header of a page')

  def integers(self) -> dict[int, int]:
    """Reads a struct; returns its whole numbers by the fields' numbers."""
    return self._struct(0)

  def _struct(self, depth: int) -> dict[int, int]:
    if depth > _MAX_DEPTH:
      raise ValueError('structs in structs in the header of a page')
    found: dict[int, int] = {}
    field = 0
    while head := self._byte():
      kind = head & 0x0F
      step = head >> 4
      field = field + step if step else _signed(self._varint())
      if kind in _INTEGERS:
        found[field] = _signed(self._varint())
      elif kind not in _TRUTHS:
        self._skip(kind, depth + 1)
    return found

  def _skip(self, kind: int, depth: int) -> None:
    if kind in (*_TRUTHS, _BYTE):
      self.position += 1  # In a list, a truth value is a byte.
    elif kind in _INTEGERS:
      self._varint()
    elif kind == _DOUBLE:
      self.position += 8
    elif kind == _BINARY:
      length = self._varint()
      self.position += length
    elif kind == _STRUCT:
      self._struct(depth)
    else:
      # Headers of pages have neither lists nor maps.
      raise ValueError(f'a field of kind {kind} in the header of a page')


def _signed(number: int) -> int:
  return (number >> 1) ^ -(number & 1)


def unpacked_sizes(stream: BinaryIO, begin: int, length: int) -> Iterator[int]:
  """Yields what each page of a column chunk unpacks to, in bytes.

  Args:
    stream: the file.
    begin: where the chunk's first page begins.
    length: of all its pages.

  Raises:
    ValueError: there is no header of a page where one should be.
  """
  position, end = begin, begin + length
  while position < end:
    fields, size = _read(stream, position, end)
    unpacked, packed = fields.get(_UNPACKED, -1), fields.get(_PACKED, -1)
    if min(unpacked, packed) < 0:
      raise ValueError('a page without a size')
    yield unpacked
    position += size + packed


def _read(
  stream: BinaryIO, position: int, end: int
) -> tuple[dict[int, int], int]:
  """Returns the fields of the header at a position, and its length."""
  wanted = _FIRST
  while True:
    stream.seek(position)
    data = stream.read(min(wanted, end - position))
    header = _Header(data)
    try:
      return header.integers(), header.position
    except _ShortError:
      if len(data) < wanted or wanted >= _MOST:
        raise ValueError('a page whose header does not end') from None
      wanted *= 8
