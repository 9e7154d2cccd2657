"""Texts and rows to the tokens that a student was trained on.

As in training, step by step: the text of a value (`row_files.text`), the
columns that make up an input (`row_formats.question`), the prefix, the
vocabulary, the cut, and the end token.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dss_jax import errors
from dss_jax.data import row_files, row_formats
from dss_jax.student import usage as usage_lib

if TYPE_CHECKING:
  import seqio

# What a column of inputs is called where nothing else is said.
_USUAL = 'input'


def checked(texts: Any, what: str = 'texts') -> list[Any]:
  """Returns a list of texts or rows.

  Args:
    texts: what a caller gave: a list, a column of a table, ….
    what: the name of the argument.

  Raises:
    DataError: it is one text or one row.
  """
  if isinstance(texts, str | bytes | Mapping) or not isinstance(
    texts, Iterable
  ):
    raise errors.DataError(
      f'{what}: expected a list of them, found {texts!r:.60}. For one, give'
      f' [{texts!r:.20}].'
    )
  return list(texts)


def text_of(value: Any, usage: usage_lib.Usage, place: str) -> str:
  """Returns the text of an input, as training would read it.

  Args:
    value: a text, or a row: a mapping with the column of the input, or with
      those that make it up in the published files.
    usage: of the student.
    place: where it is, for messages.

  Raises:
    DataError: there is no text.
  """
  if isinstance(value, Mapping):
    value = _of_row(value, usage, place)
  try:
    text = row_files.text(value)
  except row_files.ValueProblem as problem:
    raise errors.DataError(
      f'{place}: expected a text, found {problem}. Correct it.'
    ) from None
  if not text:
    raise errors.DataError(
      f'{place}: expected a text, found none. Write one, or leave it out.'
    )
  try:
    text.encode()
  except UnicodeEncodeError:
    raise errors.DataError(
      f'{place}: expected text, found half of a surrogate pair in'
      f' {text!r:.60}. Correct it.'
    ) from None
  return text


def _of_row(row: Mapping[str, Any], usage: usage_lib.Usage, place: str) -> Any:
  for name in (usage.column, _USUAL):
    if name in row:
      return row[name]
  if usage.data_set in row_formats.READERS:
    try:
      return row_formats.question(usage.data_set, dict(row))
    except row_formats.RowError as error:
      raise errors.DataError(f'{place}: {error}') from None
  raise errors.DataError(
    f'{place}: expected the column {usage.column!r}, which the student was'
    f' trained on, found only {", ".join(map(str, row)) or "none"}. Rename the'
    ' one with the texts, or give the texts alone.'
  )


class Tokenizer:
  """Tokens of inputs and of answers, with the end token."""

  def __init__(self, usage: usage_lib.Usage, vocabulary: 'seqio.Vocabulary'):
    """Takes what decides about tokens."""
    self._usage = usage
    self._vocabulary = vocabulary

  def inputs(
    self, texts: Sequence[str], prefix: str | None = None
  ) -> tuple[list[list[int]], int]:
    """Returns the tokens of inputs, and how many were cut.

    Args:
      texts: from `text_of`.
      prefix: before each of them; None for the one that asks for a label.
    """
    prefix = self._usage.prefix if prefix is None else prefix
    most = self._usage.inputs - 1
    found, cut = [], 0
    for text in texts:
      tokens = self._encoded(prefix + text)
      cut += len(tokens) > most
      found.append([*tokens[:most], self._vocabulary.eos_id])
    return found, cut

  def target(self, text: str) -> list[int]:
    """Returns the tokens of an answer, cut as in training."""
    tokens = list(self._vocabulary.encode(text))
    return [*tokens[: self._usage.targets - 1], self._vocabulary.eos_id]

  def _encoded(self, text: str) -> list[int]:
    if not self._usage.in_parts:
      return list(self._vocabulary.encode(text))
    tokens: list[int] = []
    for number, part in enumerate(text.split(row_formats.NLI_SEPARATOR)):
      if number:
        tokens.append(self._vocabulary.eos_id)
      tokens += self._vocabulary.encode(part)
    return tokens
