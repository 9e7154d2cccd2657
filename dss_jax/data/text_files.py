"""Readers of text and JSON whose errors name the file and line."""

import json
from typing import Any

from dss_jax import errors


def decode(data: bytes, place: str, first_line: int = 1) -> str:
  """Returns UTF-8 as text, without a byte order mark.

  Args:
    data: a whole file, or a line of it.
    place: the file's name, for messages.
    first_line: the number of the first line of `data`.

  Raises:
    DataError: it is not UTF-8; the message names the line.
  """
  try:
    return data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    line = data.count(b'\n', 0, error.start) + first_line
    raise errors.DataError(
      f'{place}, line {line}: expected UTF-8, found the byte'
      f' {data[error.start]:#04x}. Save the file as UTF-8.'
    ) from error


def parse_json(text: str, place: str, first_line: int | None = None) -> Any:
  """Returns the value of JSON text, all of whose strings are valid Unicode.

  Args:
    text: a whole file, or one line of it.
    place: the file's name, for messages.
    first_line: the number of the line that `text` is; None for a whole file.

  Raises:
    DataError: it is not JSON, or holds half of a surrogate pair.
  """
  try:
    value = json.loads(text)
    # A lone surrogate (`\ud800`) is valid JSON, but cannot be encoded.
    json.dumps(value, ensure_ascii=False).encode('utf-8')
  except json.JSONDecodeError as error:
    number = error.lineno + (first_line or 1) - 1
    raise errors.DataError(
      f'{place}, line {number}: expected JSON, found {error.msg.lower()} at'
      f' column {error.colno}. Correct the line.'
    ) from error
  except (ValueError, RecursionError) as error:
    where = f'{place}, line {first_line}' if first_line else place
    raise errors.DataError(
      f'{where}: expected JSON with text in it, found {error!s:.80}.'
      ' Correct the value.'
    ) from error
  return value


def json_object(line: str | bytes, place: str, number: int) -> dict[str, Any]:
  """Returns the JSON object of one line.

  Args:
    line: as text or in UTF-8.
    place: the file's name, for messages.
    number: of the line, from 1.

  Raises:
    DataError: it is not a JSON object.
  """
  if isinstance(line, bytes):
    line = decode(line, place, number)
  row = parse_json(line.rstrip(), place, number)
  if not isinstance(row, dict):
    raise errors.DataError(
      f'{place}, line {number}: expected a JSON object, found'
      f' {json.dumps(row)[:60]}. Write one object per line.'
    )
  return row
