"""Bytes of files with rows, packed or not, in bounded memory.

A file of some kilobytes can unpack to many gigabytes. No row may be larger than
`MAX_ROW` bytes, and a packed file gives no more than `MAX_EXPANSION` times its
size, beyond an allowance: text packs tenfold, or thirtyfold if it is dull.
"""

import contextlib
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from dss_jax import errors
from dss_jax.data import progress as progress_lib
from dss_jax.data import text_files
from dss_jax.data.row_files import finding

MAX_ROW = 2**24
MAX_EXPANSION = 200
_FREE = 2**26
_BLOCK = 2**20
BYTE_ORDER_MARK = '\ufeff'


class Meter:
  """Counter of what was read of a file and what that unpacked to."""

  def __init__(self, file: finding.File, progress: progress_lib.Progress):
    """Makes the counter of one file.

    Args:
      file: the file.
      progress: told how much of the file was read.
    """
    self._file = file
    self._progress = progress
    self.size = int(file.path.stat().length)
    self._unpacked = 0

  def read(self, position: int) -> None:
    """Notes that the file was read up to a position."""
    self._progress.at(position)

  def unpacked(self, count: int) -> None:
    """Notes that so many more bytes were unpacked.

    Raises:
      DataError: they are out of all proportion to the file.
    """
    self._unpacked += count
    limit = max(_FREE, MAX_EXPANSION * self.size)
    if self._unpacked > limit:
      raise errors.DataError(
        f'{self._file.place}: expected at most {limit} bytes of rows in a file'
        f' of {self.size}, found more. If you trust it, write it without'
        ' compression.'
      )


class _Raw(io.RawIOBase):
  """The unpacked bytes of a file, counted; faults are DataErrors."""

  def __init__(self, file: finding.File, packed: BinaryIO, meter: Meter):
    self._file = file
    self._packed = packed
    self._meter = meter
    self._source: BinaryIO = packed
    if file.packed:
      self._source = gzip.GzipFile(fileobj=packed)  # type: ignore[assignment]

  def readable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    try:
      data = self._source.read(len(buffer))
    except (EOFError, OSError, zlib.error) as error:
      form = 'a whole gzip file' if self._file.packed else 'readable bytes'
      raise errors.DataError(
        f'{self._file.place}: expected {form}, found: {error!s:.120}. Write or'
        ' copy the file again.'
      ) from error
    if self._file.packed:
      self._meter.unpacked(len(data))
    self._meter.read(self._packed.tell())
    buffer[: len(data)] = data
    return len(data)


@contextlib.contextmanager
def opened(file: finding.File) -> Iterator[BinaryIO]:
  """Opens the bytes of a file as they are on disk.

  Args:
    file: the file.

  Raises:
    DataError: it cannot be read.
  """
  try:
    stream = file.path.open('rb')
  except OSError as error:
    raise errors.DataError(
      f'{file.place}: expected a file that can be read, found'
      f' {type(error).__name__}. Check its permissions.'
    ) from error
  with stream:
    yield stream


@contextlib.contextmanager
def unpacked(
  file: finding.File, progress: progress_lib.Progress
) -> Iterator[io.BufferedReader]:
  """Opens the bytes of a file, unpacked where it is packed.

  Args:
    file: the file, not Parquet.
    progress: told how much of the file was read.

  Raises:
    DataError: it cannot be read, or, while it is read, is not what it should be
      or unpacks to too much.
  """
  with opened(file) as stream:
    raw = _Raw(file, stream, Meter(file, progress))
    yield io.BufferedReader(raw, _BLOCK)


def lines(
  stream: io.BufferedReader, place: str, first: int = 1
) -> Iterator[tuple[int, bytes]]:
  r"""Yields (number, bytes) of the lines, which end with \n and nothing else.

  Args:
    stream: from `unpacked`.
    place: of the file, for messages.
    first: the number of the first line.

  Raises:
    DataError: a line is longer than `MAX_ROW`.
  """
  number = first
  while line := stream.readline(MAX_ROW + 1):
    if len(line) > MAX_ROW:
      raise too_long(place, number)
    yield number, line
    number += 1


def too_long(place: str, number: int, word: str = 'line') -> errors.DataError:
  """Returns the error of a row that is too long.

  Args:
    place: of the file.
    number: of the line where the row begins, or of the row.
    word: which of them it is.
  """
  return errors.DataError(
    f'{place}, {word} {number}: expected a row of at most {MAX_ROW >> 20} MiB,'
    ' found a longer one. A student reads some hundred words: cut the text, or'
    ' close a quotation mark or bracket that was left open.'
  )


def decoded(data: bytes, place: str, number: int) -> str:
  """Returns a line as text, without the byte order mark of a file's first.

  Args:
    data: the line.
    place: of the file, for messages.
    number: of the line, from 1.

  Raises:
    DataError: it is not UTF-8.
  """
  try:
    text = data.decode()
  except UnicodeDecodeError:
    return text_files.decode(data, place, number)  # Its message has the fix.
  return text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text


def digest(file: finding.File) -> str:
  """Returns the SHA-256 of the bytes of a file, in hexadecimal digits.

  Args:
    file: the file.

  Raises:
    DataError: it cannot be read.
  """
  with opened(file) as stream:
    result = hashlib.sha256()
    while block := stream.read(_BLOCK):
      result.update(block)
  return result.hexdigest()
