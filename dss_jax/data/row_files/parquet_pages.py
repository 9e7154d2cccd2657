"""Sizes of the columns and pages of a Parquet file, as the file says them.

What the end of a file says about its columns need not be true, and Arrow takes
the memory that a page's header asks for. So headers are read before any page
is: a page is a header in Thrift's compact encoding, and so many packed bytes.
The end of a file is in that encoding, too. It is read here, since Arrow ends
the process where statistics of a column are not as they should be.
"""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

# Bytes that are read of a header at first, and at most.
_FIRST, _MOST = 2**12, 2**24
# Kinds of a field in that encoding.
_TRUTHS, _BYTE, _INTEGERS = (1, 2), 3, (4, 5, 6)
_DOUBLE, _BINARY, _LISTS, _STRUCT = 7, 8, (9, 10), 12
# Fields of a page's header.
_UNPACKED, _PACKED = 2, 3
# Of structs and lists in one another; a header has three, a file's end six.
_MAX_DEPTH = 12
# Fields of a file's end: its list of row groups, of each the list of columns,
# what is known of one; and of that.
_COLUMNS_OF_GROUPS: dict[int, Any] = {4: [{1: [{3: {}}]}]}
_VALUES, _COLUMN_UNPACKED, _COLUMN_PACKED, _DATA_PAGE, _DICTIONARY_PAGE = (
  5, 6, 7, 9, 11
)  # fmt: skip
_END = b'PAR1'


class Chunk(NamedTuple):
  """The part of a column that is in a row group.

  Attributes:
    begin: where its first page begins, in bytes.
    packed: bytes of its pages in the file.
    unpacked: bytes that they are said to unpack to.
    values: how many it is said to have.
  """

  begin: int
  packed: int
  unpacked: int
  values: int


class _ShortError(Exception):
  """The bytes that were read do not hold the whole struct."""


class _Compact:
  """Reader of a struct in Thrift's compact encoding."""

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
    raise ValueError('a number without end')

  def struct(self, wanted: Mapping[int, Any], depth: int = 0) -> dict[int, Any]:
    """Reads a struct.

    Args:
      wanted: numbers of fields that are structs, each with what is wanted of
        it, or lists of structs, each with a list of that.
      depth: of the struct among others.

    Returns:
      Its whole numbers, and what is wanted, by the fields' numbers.

    Raises:
      ValueError: it is none, or has a field twice, of which Arrow may take the
        other one.
    """
    if depth > _MAX_DEPTH:
      raise ValueError('structs in structs without end')
    found: dict[int, Any] = {}
    seen: set[int] = set()
    field = 0
    while head := self._byte():
      kind = head & 0x0F
      step = head >> 4
      field = field + step if step else _signed(self._varint())
      if field in seen:
        raise ValueError(f'the field {field} twice')
      seen.add(field)
      if field in wanted:
        found[field] = self._structs(kind, wanted[field], depth + 1)
      elif kind in _INTEGERS:
        found[field] = _signed(self._varint())
      elif kind not in _TRUTHS:
        self._skip(kind, depth + 1)
    return found

  def _structs(self, kind: int, wanted: Any, depth: int) -> Any:
    """Reads a struct, or a list of structs, whichever is wanted."""
    if not isinstance(wanted, list):
      if kind != _STRUCT:
        raise ValueError(f'a field of kind {kind} in place of a struct')
      return self.struct(wanted, depth)
    size, inner = self._list(kind)
    if inner != _STRUCT:
      raise ValueError(f'a list of kind {inner} in place of structs')
    return [self.struct(wanted[0], depth) for _ in range(size)]

  def _list(self, kind: int) -> tuple[int, int]:
    """Reads the beginning of a list: its length, and the kind of its items."""
    if kind not in _LISTS:
      # There are no maps.
      raise ValueError(f'a field of kind {kind}')
    head = self._byte()
    return (self._varint() if head >> 4 == 15 else head >> 4), head & 0x0F

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
      self.struct({}, depth)
    else:
      if depth > _MAX_DEPTH:
        raise ValueError('lists in lists without end')
      size, inner = self._list(kind)
      for _ in range(size):
        self._skip(inner, depth + 1)
        if self.position > len(self._data):
          raise _ShortError


def _signed(number: int) -> int:
  return (number >> 1) ^ -(number & 1)


def chunks(stream: BinaryIO) -> list[list[Chunk]]:
  """Returns the columns' parts of each row group, as a file's end says them.

  Args:
    stream: the file.

  Raises:
    ValueError: the end of the file says nothing, or too much.
  """
  size = stream.seek(-8, 2)
  tail = stream.read(8)
  length = int.from_bytes(tail[:4], 'little')
  if tail[4:] != _END or not 0 < length <= min(size, _MOST):
    raise ValueError(f'an end of {length} bytes')
  stream.seek(size - length)
  try:
    end = _Compact(stream.read(length)).struct(_COLUMNS_OF_GROUPS)
  except _ShortError:
    raise ValueError('an end that does not end') from None
  return [
    [_chunk(column.get(3)) for column in group.get(1, [])]
    for group in end.get(4, [])
  ]


def _chunk(fields: Mapping[int, int] | None) -> Chunk:
  if not isinstance(fields, dict):
    raise ValueError('a column that nothing is known of')
  try:
    begin = fields[_DATA_PAGE]
    if fields.get(_DICTIONARY_PAGE):
      begin = min(begin, fields[_DICTIONARY_PAGE])
    return Chunk(
      begin, fields[_COLUMN_PACKED], fields[_COLUMN_UNPACKED], fields[_VALUES]
    )
  except KeyError as error:
    raise ValueError(f'a column without its field {error}') from None


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
    header = _Compact(data)
    try:
      return header.struct({}), header.position
    except _ShortError:
      if len(data) < wanted or wanted >= _MOST:
        raise ValueError('a page whose header does not end') from None
      wanted *= 8
