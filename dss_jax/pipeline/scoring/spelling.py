"""Texts as a vocabulary spells them, and what it cannot spell.

A tokenizer may change a text before a student reads it: it joins blanks,
normalizes Unicode, and knows only some characters. A student writes what the
vocabulary makes of its tokens, never anything else.
"""

import unicodedata
from collections.abc import Iterable, Sequence

import seqio

from dss_jax import errors

_SHOWN = 3
_BLANK = ' '


def spelled(vocabulary: seqio.Vocabulary, text: str) -> str:
  """Returns what a student writes that writes a text without a mistake.

  Args:
    vocabulary: of its tokens.
    text: any.

  Returns:
    The text, as encoded and decoded again, without blanks around it.
  """
  return decoded(vocabulary, vocabulary.encode(text))


def decoded(vocabulary: seqio.Vocabulary, tokens: Iterable[int]) -> str:
  """Returns the text of tokens, up to the end token, as predictions have it."""
  return vocabulary.decode([int(token) for token in tokens]).strip()


def check_labels(
  vocabulary: seqio.Vocabulary,
  labels: Iterable[str],
  classes: Sequence[str] | None = None,
  length: int | None = None,
) -> None:
  """Raises unless different labels stay different in a student's spelling.

  Else a prediction would count as right whichever of them is meant. Labels that
  differ in blanks or in how Unicode composes a letter alone are the same.

  Args:
    vocabulary: of labels and predictions.
    labels: the gold labels.
    classes: the possible ones, if they are few.
    length: tokens that targets are cut to; None cuts nothing.

  Raises:
    DataError: two labels become one, or one becomes nothing; or a class is cut.
  """
  for name in classes or ():
    count = len(vocabulary.encode(name)) + 1
    if length is not None and count > length:
      raise errors.DataError(
        f'CLASSES: {name!r} has {count} tokens with the end token, and targets'
        f' are cut to {length}: expected a class to fit. Set targets in'
        f' TASK_FEATURE_LENGTHS to {count} or more.'
      )
  found = confused(vocabulary, [*(classes or ()), *labels], length)
  if not found:
    return
  shown = '; '.join(
    f'{one!r} and {other!r} are both {form!r}' if form else f'{one!r} is empty'
    for one, other, form in found[:_SHOWN]
  )
  more = f'; and {len(found) - _SHOWN} more' if len(found) > _SHOWN else ''
  raise errors.DataError(
    'Labels: expected different ones to be different in what a student can'
    f' write with this vocabulary, found that {shown}{more}. They cannot be'
    ' scored. Change them in the data, or use a vocabulary that knows their'
    ' characters (`dss data inspect` shows those that it lacks)'
    + (f', or cut targets to more than {length} tokens.' if length else '.')
  )


def confused(
  vocabulary: seqio.Vocabulary,
  labels: Iterable[str],
  length: int | None = None,
) -> list[tuple[str, str, str]]:
  """Finds labels that a student's spelling does not tell apart.

  Args:
    vocabulary: of the labels.
    labels: them.
    length: tokens that labels are cut to, with the end token.

  Returns:
    A label, another one, and the spelling of both; for a label whose spelling
    is empty, '' as both.
  """
  first: dict[str, str] = {}
  found = []
  known = dict.fromkeys(text.strip() for text in labels)
  for label in known:
    if not label:
      continue
    tokens = list(vocabulary.encode(label))
    if length is not None:
      tokens = tokens[: max(length - 1, 0)]
    form = decoded(vocabulary, tokens)
    other = first.setdefault(form, label) if form else ''
    if other == label and form in known:
      # Predictions are compared with labels as they are given, too.
      other = form
    if not form or _canonical(other) != _canonical(label):
      found.append((label, other, form))
  return found


def _canonical(text: str) -> str:
  return _BLANK.join(unicodedata.normalize('NFC', text).split())


class Alphabet:
  """The characters that a vocabulary knows; each is looked up once."""

  def __init__(self, vocabulary: seqio.Vocabulary):
    """Takes a vocabulary, whose file is read when it is first asked."""
    self._vocabulary = vocabulary
    # Characters that need no look at the text around them.
    self._known = {_BLANK}
    self._dropped: set[str] = set()
    # The others, with what normalization makes of them.
    self._unknown: dict[str, set[str]] = {}

  def unknown(self, text: str) -> set[str]:
    """Returns a text's characters that all look the same to a student.

    Args:
      text: any.
    """
    suspects = self._new_to(text) - self._dropped
    if not suspects:
      return suspects
    # Next to others a character may compose a known one.
    found = self._without_piece(text)
    return {one for one in suspects if self._unknown[one] & found}

  def dropped(self, text: str) -> set[str]:
    """Returns a text's characters that are read as a blank, or not at all.

    Args:
      text: any.
    """
    return self._new_to(text) & self._dropped

  def _new_to(self, text: str) -> set[str]:
    """Returns the characters that are not known for certain."""
    characters = set(text) - self._known
    for character in characters - self._dropped - self._unknown.keys():
      self._look_up(character)
    return characters - self._known

  def _look_up(self, character: str) -> None:
    if unknown := self._without_piece(character):
      self._unknown[character] = unknown
      return
    tokens = self._vocabulary.encode(character)
    if self._vocabulary.decode(tokens).strip(_BLANK):
      self._known.add(character)
    else:
      self._dropped.add(character)

  def _without_piece(self, text: str) -> set[str]:
    """Returns the characters of a normalized text that become unknown."""
    tokens = list(self._vocabulary.encode(text))
    unknown = self._vocabulary.unk_id
    if unknown is None or unknown not in tokens:
      return set()
    if not isinstance(self._vocabulary, seqio.SentencePieceVocabulary):
      return set(text)
    pieces = self._vocabulary.tokenizer.encode(text, out_type=str)
    pairs = zip(tokens, pieces, strict=True)
    return set(''.join(piece for token, piece in pairs if token == unknown))
