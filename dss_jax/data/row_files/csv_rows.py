"""Rows in CSV or TSV, with the names of the columns in the first line."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from dss_jax import errors
from dss_jax.data.row_files import opening

# What people put between fields in files that are called .csv or .tsv.
_DELIMITERS = {',': 'a comma', '\t': 'a tab', ';': "';'", '|': "'|'"}


class Reader:
  """Reader of one file, which knows its columns before its rows.

  Attributes:
    header: the columns' names, without the blanks around them.
    hint: a sentence for the message about a missing column; it starts with a
      blank, or is ''.
  """

  def __init__(self, stream: io.BufferedReader, place: str, delimiter: str):
    """Reads the first line.

    Args:
      stream: the file.
      place: its path, for messages.
      delimiter: what separates fields.

    Raises:
      DataError: a column is there twice, or the line is malformed.
    """
    # One limit for the whole process, which by default is far less.
    csv.field_size_limit(max(csv.field_size_limit(), opening.MAX_ROW))
    self._place = place
    self._delimiter = delimiter
    # Of the row that was read last: its line, and its characters so far.
    self._line = 1
    self._length = 0
    self._reader = csv.reader(
      self._bounded(_texts(stream, place)), delimiter=delimiter, strict=True
    )
    names = next(self._fields(), [])
    self.header = tuple(name.strip() for name in names)
    self._check_header()
    self.hint = self._hint()

  def _check_header(self) -> None:
    """Raises a DataError if a name is there twice; it may be blank twice."""
    places: dict[str, int] = {}
    for number, name in enumerate(self.header, 1):
      if name and name in places:
        raise errors.DataError(
          f'{self._place}, line {self._line}: expected each column once, found'
          f' {name!r} as columns {places[name]} and {number}. Remove one of'
          ' them, or give it another name.'
        )
      places[name] = number

  def _hint(self) -> str:
    name = self.header[0] if len(self.header) == 1 else ''
    for delimiter, word in _DELIMITERS.items():
      if delimiter in name:
        return (
          f' Its first line has {word} between names, where'
          f' {_DELIMITERS[self._delimiter]} was expected:'
          ' write .csv files with commas and .tsv files with tabs.'
        )
    return ''

  def rows(
    self, wanted: Sequence[str] | None
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line where it begins, row), with the wanted columns only.

    Args:
      wanted: their names; those that are not there are left out. None takes
        all that have a name.

    Raises:
      DataError: a row is malformed; the message names the line.
    """
    if wanted is None:
      wanted = [name for name in self.header if name]
    places = [(n, self.header.index(n)) for n in wanted if n in self.header]
    width = len(self.header)
    for fields in self._fields():
      if len(fields) != width:
        raise errors.DataError(
          f'{self._place}, line {self._line}: expected {width} columns as in'
          f' the first line, found {len(fields)}. Quote fields that hold a'
          f' {self._delimiter!r}.'
        )
      yield self._line, {name: fields[index] for name, index in places}

  def _bounded(self, texts: Iterator[str]) -> Iterator[str]:
    """Yields lines while their row, which may have many, is not too long."""
    for text in texts:
      self._length += len(text)
      if self._length > opening.MAX_ROW:
        raise opening.too_long(self._place, self._line)
      yield text

  def _fields(self) -> Iterator[list[str]]:
    """Yields the fields of the rows that are not blank."""
    while True:
      before = self._reader.line_num
      self._line = before + 1
      self._length = 0
      try:
        fields = next(self._reader, None)
      except csv.Error as error:
        raise self._fault(error) from error
      if fields is None:
        return
      if fields:
        yield fields

  def _fault(self, error: csv.Error) -> errors.DataError:
    """Returns the error of a row that is no CSV."""
    begin, line = self._line, self._reader.line_num
    if 'unexpected end' in str(error):
      return errors.DataError(
        f'{self._place}, line {begin}: expected a closing quotation mark in the'
        ' row that begins here, found none up to the end. Close it.'
      )
    started = f', in the row that begins in line {begin}' * (begin < line)
    return errors.DataError(
      f'{self._place}, line {line}: expected CSV, found: {error}{started}.'
      ' Within a quoted field, write a quotation mark twice.'
    )


def _texts(stream: io.BufferedReader, place: str) -> Iterator[str]:
  """Yields the lines; as for `csv`, a carriage return ends one too."""
  for number, data in opening.lines(stream, place):
    text = opening.decoded(data, place, number)
    if '\r' in text.rstrip('\r\n'):
      yield from io.StringIO(text, newline='')
    else:
      yield text
