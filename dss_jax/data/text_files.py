"""Readers of text, JSON and YAML whose errors name the file and line."""

import json
from typing import Any

from etils import epath

from dss_jax import errors, neutral

# Bytes of a YAML file. Its reader takes some seconds for them.
MAX_YAML = 2**18
# Characters of a number in YAML, which may otherwise have a million digits.
_MAX_DIGITS = 40


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


class _Twice(dict):
  """A JSON object in which a name stands twice."""

  name: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  result = dict(pairs)
  if len(result) < len(pairs):
    seen: set[str] = set()
    twice = _Twice(result)
    for name, _ in pairs:
      if name in seen:
        twice.name = name
      seen.add(name)
    return twice
  return result


# Remembers which objects have a name twice: JSON leaves open which counts.
DECODER = json.JSONDecoder(object_pairs_hook=_object)


def check_text(text: str, value: Any, where: str) -> None:
  r"""Raises a DataError if JSON text holds half of a surrogate pair.

  Args:
    text: the JSON text.
    value: what it is read as.
    where: file and line, for the message.
  """
  # Such a half is valid JSON, but cannot be encoded. Only an escape brings it.
  if '\\ud' not in text and '\\uD' not in text:
    return
  try:
    json.dumps(value, ensure_ascii=False).encode('utf-8')
  except (ValueError, RecursionError) as error:
    raise errors.DataError(
      f'{where}: expected JSON with text in it, found {error!s:.80}.'
      ' Correct the value.'
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
  where = f'{place}, line {first_line}' if first_line else place
  try:
    value = DECODER.decode(text)
  except json.JSONDecodeError as error:
    number = error.lineno + (first_line or 1) - 1
    raise errors.DataError(
      f'{place}, line {number}: expected JSON, found {error.msg.lower()} at'
      f' column {error.colno}. Correct the line.'
    ) from error
  except (ValueError, RecursionError) as error:
    raise errors.DataError(
      f'{where}: expected JSON with text in it, found {error!s:.80}.'
      ' Correct the value.'
    ) from error
  check_text(text, value, where)
  return value


def json_object(line: str | bytes, place: str, number: int) -> dict[str, Any]:
  """Returns the JSON object of one line.

  Args:
    line: as text or in UTF-8.
    place: the file's name, for messages.
    number: of the line, from 1.

  Raises:
    DataError: it is not a JSON object, or has a name twice.
  """
  if isinstance(line, bytes):
    line = decode(line, place, number)
  row = parse_json(line.rstrip(), place, number)
  return check_object(row, place, number)


def check_object(row: Any, place: str, number: int) -> dict[str, Any]:
  """Returns a value of `DECODER` that is the object of a row.

  Args:
    row: the value.
    place: the file's name, for messages.
    number: of the line where it begins.

  Raises:
    DataError: it is not a JSON object, or has a name twice.
  """
  if not isinstance(row, dict):
    raise errors.DataError(
      f'{place}, line {number}: expected a JSON object, found'
      f' {json.dumps(row)[:60]}. Write one object per line.'
    )
  if isinstance(row, _Twice):
    raise errors.DataError(
      f'{place}, line {number}: expected each column once, found {row.name!r}'
      ' twice. Remove one of them, or give it another name.'
    )
  return row


def read_yaml(path: str, what: str, as_texts: bool = False) -> Any:
  """Returns the value of a YAML file, in memory in proportion to the file.

  Args:
    path: of the file, local or remote.
    what: the file is, such as 'a study file'.
    as_texts: whether every scalar is a text: yes is no truth value then.

  Raises:
    DataError: it cannot be read, is too long, no YAML, or has an alias, a few
      of which stand for a text of any size.
  """
  import yaml

  try:
    with epath.Path(path).expanduser().open('rb') as file:
      content = file.read(MAX_YAML + 1)
  except OSError as error:
    raise errors.DataError(
      f'{path}: expected {what}, which can be read; {error}. Correct the path.'
    ) from error
  if len(content) > MAX_YAML:
    raise errors.DataError(
      f'{path}: expected {what} of at most {MAX_YAML >> 10} KiB, found a longer'
      ' one. Correct the path, or shorten the file.'
    )
  text = decode(content, path)
  try:
    return yaml.load(text, Loader=_loader(path, what, as_texts))
  except (yaml.YAMLError, RecursionError, ValueError) as error:
    reason = neutral.line(error)
    raise errors.DataError(
      f'{path}: expected YAML or JSON, found: {reason}. Correct the file.'
    ) from error


def _loader(path: str, what: str, as_texts: bool) -> type:
  """Returns the class that makes values of a file's YAML."""
  import yaml

  base: Any = yaml.BaseLoader if as_texts else yaml.SafeLoader

  class Loader(base):
    """A loader that takes neither aliases nor numbers without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
      if self.check_event(yaml.AliasEvent):
        event = self.peek_event()
        raise errors.DataError(
          f'{path}, line {event.start_mark.line + 1}: expected no aliases in'
          f' {what}, found *{neutral.line(event.anchor, 40)}. Write the text'
          ' out.'
        )
      return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
      kind = node.tag.rpartition(':')[2]
      if kind in ('int', 'float') and len(node.value) > _MAX_DIGITS:
        raise yaml.constructor.ConstructorError(
          None, None, 'a number of too many digits', node.start_mark
        )
      return super().construct_scalar(node)

  return Loader
