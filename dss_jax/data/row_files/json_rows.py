"""Rows in JSON: one object per line, objects over several lines, or an array.

The first character that is not blank says whether the file is an array; else
the first line says whether an object is a line. Files are read block by block,
so that an array may be as large as the other forms.
"""

import codecs
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

from dss_jax import errors
from dss_jax.data import text_files
from dss_jax.data.row_files import opening

_BLANKS = ' \t\r\n'
_BLOCK = 2**16
# Where JSON that was cut off is wrong: at most so far before its end.
_CUT = 16

_Rows = Iterator[tuple[int, dict[str, Any]]]


def read(stream: io.BufferedReader, place: str) -> _Rows:
  """Yields (line, object) of all rows.

  Args:
    stream: the file.
    place: its path, for messages.

  Raises:
    DataError: a row is malformed; the message names its line.
  """
  number, opener = _first_character(stream)
  if opener == b'[':
    yield from _Values(_texts(stream, place, number), place, number).array()
    return
  lines = opening.lines(stream, place, number)
  first = next(lines, None)
  if first is None:
    return
  number, data = first
  text = opening.decoded(data, place, number)
  if opener == b'{' and not _is_json(text):
    follower = next(lines, (number, b''))
    after = opening.decoded(follower[1], place, follower[0])
    # With a whole object after it, the first line is a faulty row; without
    # one, a row has several lines.
    if not (after.lstrip().startswith('{') and _is_json(after)):
      blocks = itertools.chain([text, after], _texts(stream, place, number + 2))
      yield from _Values(blocks, place, number).objects()
      return
    lines = itertools.chain([follower], lines)
  yield number, text_files.json_object(text, place, number)
  for number, data in lines:
    text = opening.decoded(data, place, number)
    # Files with such marks may have been joined.
    text = text.removeprefix(opening.BYTE_ORDER_MARK)
    if text.strip():
      yield number, text_files.json_object(text, place, number)


def _first_character(stream: io.BufferedReader) -> tuple[int, bytes]:
  """Skips blanks and a byte order mark; returns the line and what is next.

  The rest of the line is still to be read.
  """
  if stream.peek(3)[:3] == codecs.BOM_UTF8:
    stream.read(3)
  number = 1
  while block := stream.peek(1):
    rest = block.lstrip(b' \t\r\n')
    blanks = len(block) - len(rest)
    number += block.count(b'\n', 0, blanks)
    stream.read(blanks)
    if rest:
      return number, rest[:1]
  return number, b''


def _is_json(text: str) -> bool:
  try:
    json.loads(text)
  except (ValueError, RecursionError):
    return False
  return True


def _texts(stream: io.BufferedReader, place: str, line: int) -> Iterator[str]:
  """Yields the rest of a file as text, in blocks.

  Args:
    stream: the file.
    place: its path.
    line: the number of the line that is next.
  """
  decoder = codecs.getincrementaldecoder('utf-8')()
  while True:
    data = stream.read(_BLOCK)
    try:
      text = decoder.decode(data, final=not data)
    except UnicodeDecodeError as error:
      # It raises again, with the line.
      text_files.decode(error.object, place, line)
      raise
    if not data:
      return
    line += text.count('\n')
    yield text


class _Values:
  """The values of JSON text that comes in blocks."""

  def __init__(self, blocks: Iterator[str], place: str, line: int):
    self._blocks = blocks
    self._place = place
    # The number of the line at the start of the text.
    self._line = line
    self._text = ''
    self._position = 0

  def array(self) -> _Rows:
    """Yields the objects of an array, the only value of the text."""
    self._next()
    self._position += 1
    if self._next() != ']':
      while True:
        yield self._object()
        mark = self._next()
        if mark not in ('', ',', ']'):
          raise self._error(f'a comma or ] after a row, found {mark!r}')
        if mark == ']':
          break
        if not mark:
          raise self._error('] at the end of the rows, found none')
        self._position += 1
    self._position += 1
    if mark := self._next():
      raise self._error(f'nothing after the closing ], found {mark!r}')

  def objects(self) -> _Rows:
    """Yields objects that are separated by blanks alone."""
    while self._next():
      yield self._object()

  def _error(self, text: str) -> errors.DataError:
    return errors.DataError(
      f'{self._place}, line {self._at()}: expected {text}. Correct the line.'
    )

  def _at(self) -> int:
    """Returns the number of the line of the position."""
    return self._line + self._text.count('\n', 0, self._position)

  def _more(self) -> bool:
    """Doubles the text that is there; returns False at its end."""
    self._line = self._at()
    parts = [self._text[self._position :]]
    self._position = 0
    wanted = max(_BLOCK, len(parts[0]))
    while wanted > 0:
      block = next(self._blocks, None)
      if block is None:
        break
      parts.append(block)
      wanted -= len(block)
    grown = len(parts) > 1
    self._text = ''.join(parts)
    return grown

  def _next(self) -> str:
    """Skips blanks; returns the next character, '' at the end."""
    while True:
      while self._position < len(self._text):
        character = self._text[self._position]
        if character not in _BLANKS:
          return character
        self._position += 1
      if not self._more():
        return ''

  def _object(self) -> tuple[int, dict[str, Any]]:
    """Takes the object at the position; returns it and its line."""
    while True:
      self._next()
      line = self._at()
      try:
        value, end = text_files.DECODER.raw_decode(self._text, self._position)
      except json.JSONDecodeError as error:
        at = self._line + error.lineno - 1
        cut = error.pos >= len(self._text) - _CUT
        if cut or error.msg.startswith('Unterminated string'):
          if len(self._text) - self._position > opening.MAX_ROW:
            raise opening.too_long(self._place, line) from error
          if self._more():
            continue
        raise errors.DataError(
          f'{self._place}, line {at}: expected JSON, found'
          f' {error.msg.lower()} at column {error.colno}, in the row that'
          f' begins in line {line}. Correct the line.'
        ) from error
      except (ValueError, RecursionError) as error:
        raise errors.DataError(
          f'{self._place}, line {line}: expected JSON with text in it, found'
          f' {error!s:.80}. Correct the value.'
        ) from error
      # A number may go on in the next block; an object may not.
      text_files.check_text(self._text[self._position : end], value,
                            f'{self._place}, line {line}')  # fmt: skip
      self._position = end
      return line, text_files.check_object(value, self._place, line)
