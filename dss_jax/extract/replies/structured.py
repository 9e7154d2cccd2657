"""Structured replies: a rationale and a label as a JSON object.

A server that knows `response_format` lets a model write nothing but JSON of a
given schema. Such a reply is read as JSON, and only as that: nothing is guessed
from what is no such object, is cut, or stands beside other text.
"""

import dataclasses
import json
from typing import Any

from dss_jax import neutral
from dss_jax.data import completions, records, row_formats
from dss_jax.extract.replies import answers, thoughts

# In this order, since a reason given after the answer is no reason for it.
_FIELDS = ('rationale', 'label')
_NOTHING = completions.Parsed('', '')


@dataclasses.dataclass(frozen=True)
class Format:
  """What the object of a reply holds.

  Attributes:
    classes: all possible labels; () if they are not few.
    data_set: the data set in the published layout; None for rows of the
      user's own.
    by_value: whether labels are equations.
  """

  classes: tuple[str, ...] = ()
  data_set: str | None = None
  by_value: bool = False

  def parameter(self) -> dict[str, Any]:
    """Returns the value of the request's parameter `response_format`."""
    label: dict[str, Any] = {'type': 'string', 'description': self._label}
    if self.classes:
      label['enum'] = list(self.classes)
    rationale = {'type': 'string', 'description': 'Why, in plain sentences.'}
    schema = {
      'type': 'object',
      'properties': dict(zip(_FIELDS, (rationale, label), strict=True)),
      'required': list(_FIELDS),
      'additionalProperties': False,
    }
    named = {'name': 'answer', 'strict': True, 'schema': schema}
    return {'type': 'json_schema', 'json_schema': named}

  @property
  def _label(self) -> str:
    """What the schema says of a label."""
    if self.by_value:
      return 'The answer as an equation of numbers, + - * / and parentheses.'
    if self.data_set == 'cqa':
      return 'The words of the right choice, without its letter.'
    return 'The answer alone.'

  def written(self, rationale: str, label: str) -> str:
    """Returns a reply: JSON on one line.

    Args:
      rationale: of an exemplar.
      label: of it, as the text format has it.
    """
    values = (rationale, self.label(label) or label)
    return json.dumps(
      dict(zip(_FIELDS, values, strict=True)), ensure_ascii=False
    )

  def label(self, text: str) -> str:
    """Returns the label that a text gives, '' if it is none of the classes.

    Args:
      text: of the field, or of an exemplar.
    """
    if self.by_value:
      return answers.equation(text)
    if self.data_set == 'cqa':
      # A model may repeat the letter.
      return answers.option(text) or answers.bare(text, '.')
    label = answers.bare(text, '.')
    if not self.classes:
      return label
    by_name = {name.lower(): name for name in reversed(self.classes)}
    return label if label in self.classes else by_name.get(label.lower(), '')

  def split(self, text: str, opened: bool = False) -> thoughts.Reply:
    """Splits a reply into thoughts and the object's text, or what is left.

    Args:
      text: a reply as it came.
      opened: whether the model's chat template opens thoughts. A reply that is
        an object and nothing else has none.
    """
    if _object(text) is not None:
      return thoughts.Reply('', text.strip())
    found = thoughts.split(text, opened=opened)
    return thoughts.Reply(found.thoughts, answers.unfenced(found.answer))

  def parse(self, reply: str) -> completions.Parsed:
    """Returns rationale and label of a reply, '' for one that is not there.

    Args:
      reply: the answer of `split`.
    """
    values = _object(reply)
    if values is None:
      return _NOTHING
    # A model that was not let out of its JSON may think within it.
    said = [thoughts.split(values[name]).answer for name in _FIELDS]
    rationale, label = said[0], self.label(said[1]) if said[1] else ''
    if thoughts.has_tag(f'{rationale} {label}'):
      return _NOTHING
    return completions.Parsed(rationale, label)


def of(
  data_set: str | None, by_value: bool = False, classes: tuple[str, ...] = ()
) -> Format:
  """Returns the format of a data set's replies.

  Args:
    data_set: one in the published layout, or None for rows of the user's own.
    by_value: whether labels of these are equations.
    classes: all possible labels of these; () if they are not few.
  """
  if data_set in records.NLI_SETS:
    classes = tuple(row_formats.NLI_LABELS)
  return Format(
    classes, data_set, by_value or data_set in records.EQUATION_SETS
  )


def _object(text: str) -> dict[str, str] | None:
  """Returns the fields of a JSON object that has both, None for other texts.

  A number is its digits: a server that does not hold to the schema may write
  one without quotes.
  """
  text = text.strip()
  if not text.startswith('{'):
    return None
  try:
    found = json.loads(
      text,
      object_pairs_hook=_pairs,
      parse_int=str,
      parse_float=str,
      parse_constant=_refuse,
    )
  except (ValueError, RecursionError):
    return None
  values = {name: found.get(name) for name in _FIELDS}
  if not all(isinstance(value, str) for value in values.values()):
    return None
  return {
    name: neutral.unicode(value).strip() for name, value in values.items()
  }


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns an object whose fields stand in it once."""
  found = dict(pairs)
  if len(found) != len(pairs):
    raise ValueError('a field twice')
  return found


def _refuse(name: str) -> None:
  raise ValueError(f'{name} is no JSON')
