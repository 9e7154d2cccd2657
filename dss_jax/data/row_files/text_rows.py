"""Rows of a text: each line is an input, and nothing else is known."""

import io
from collections.abc import Iterator

from dss_jax.data.row_files import opening

# The only column.
COLUMN = 'input'


def read(
  stream: io.BufferedReader, place: str
) -> Iterator[tuple[int, dict[str, str]]]:
  """Yields (line, row) of the lines that are not blank.

  Args:
    stream: the file.
    place: its path, for messages.

  Raises:
    DataError: a line is no UTF-8, or too long.
  """
  for number, data in opening.lines(stream, place):
    line = opening.decoded(data, place, number).strip()
    if line:
      yield number, {COLUMN: line}
