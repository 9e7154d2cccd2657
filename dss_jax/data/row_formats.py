"""Parsers of rows in the published layout: input, gold label, answers.

| set          | input                                | gold label            |
|--------------|--------------------------------------|-----------------------|
| cqa          | question, one choice per line        | one of the choices    |
| svamp        | as given                             | an equation           |
| asdiv        | body and question, a line each       | an equation, if given |
| esnli, anli1 | premise, `</s>`, hypothesis          | one of `NLI_LABELS`   |
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from dss_jax import errors
from dss_jax.data import equations

NLI_LABELS = ('entailment', 'neutral', 'contradiction')
# Between premise and hypothesis, as in the published inputs. It becomes the end
# token, see `preprocessors.tokenize_parts`.
NLI_SEPARATOR = '</s>'


class RowError(Exception):
  """A malformed row; the message lacks file and line."""


@dataclasses.dataclass(frozen=True)
class Fields:
  """Identifier, input and gold label of a row, and its possible answers."""

  id: str | None
  input: str
  label: str
  possible: Callable[[str], bool]


def column(row: dict[str, Any], name: str, kind: type) -> Any:
  """Returns a value of a row; raises a RowError unless it is of a type."""
  if name not in row:
    raise RowError(
      f'expected the column {name!r}, found only'
      f' {", ".join(sorted(row)) or "none"}. Add the column.'
    )
  value = row[name]
  if not isinstance(value, kind) or isinstance(value, bool):
    raise RowError(
      f'expected {name!r} to be a {kind.__name__}, found'
      f' {json.dumps(value)[:60]}. Correct the value.'
    )
  return value


def _cqa(row: dict[str, Any]) -> Fields:
  question = column(row, 'question', str)
  choices = column(row, 'choices', list)
  answer = column(row, 'answer', str)
  are_texts = all(isinstance(choice, str) for choice in choices)
  if not are_texts or not 1 <= len(choices) <= 26:
    raise RowError(
      "expected 'choices' to be 1 to 26 texts, found"
      f' {json.dumps(choices)[:60]}. Correct the value.'
    )
  if answer not in choices:
    raise RowError(
      f"expected 'answer' to be one of the choices {json.dumps(choices)},"
      f' found {answer!r}.{errors.did_you_mean(answer, choices)} Correct the'
      ' answer or the choices.'
    )
  lines = [f'({chr(97 + i)}) {choice}' for i, choice in enumerate(choices)]
  text = '\n'.join((question, 'Answer Choices:', *lines))
  return Fields(_id(row, 'id'), text, answer, choices.__contains__)


def _id(row: dict[str, Any], name: str) -> str | None:
  return str(row[name]) if name in row else None


def _has_value(equation: str) -> bool:
  return equations.evaluate(equation) is not None


def _arithmetic(row: dict[str, Any]) -> Fields:
  label = column(row, 'label', str)
  if not _has_value(label):
    raise RowError(
      "expected 'label' to be an equation with a value, such as"
      f" '( 3.0 + 9.0 )', found {label!r}. Correct the label."
    )
  return Fields(None, column(row, 'input', str), label, _has_value)


def _asdiv(row: dict[str, Any]) -> Fields:
  """Reads a row whose label may be missing, or end with its value: 7+2=9.

  The columns are ASDiv's own, or `input` and `label`.
  """
  if 'input' not in row and 'Body' in row:
    return _asdiv_released(row)
  if not str(row.get('label') or '').strip():
    return Fields(None, column(row, 'input', str), '', _has_value)
  label = column(row, 'label', str)
  return _arithmetic({**row, 'label': label.partition('=')[0].strip()})


def _asdiv_released(row: dict[str, Any]) -> Fields:
  """Reads the columns Body, Question, Formula and Answer.

  The input is made as SVAMP's are. The label is the formula's left side, the
  number of the answer ('9 (apples)') where that has no value, or else blank: as
  for a row without a label, only a teacher's can be learned.
  """
  sides = (column(row, 'Body', str), column(row, 'Question', str))
  formula = str(row.get('Formula') or '').partition('=')[0]
  answer = str(row.get('Answer') or '').partition('(')[0]
  labels = [side.strip() for side in (formula, answer)]
  label = next(filter(_has_value, labels), '')
  text = '\n'.join(side.strip() for side in sides)
  return Fields(None, text, label, _has_value)


def _nli(row: dict[str, Any]) -> Fields:
  label = column(row, 'label', int)
  if not 0 <= label < len(NLI_LABELS):
    raise RowError(
      "expected 'label' to be 0 (entailment), 1 (neutral) or 2"
      f' (contradiction), found {label}. Correct the label.'
    )
  sides = (column(row, 'premise', str), column(row, 'hypothesis', str))
  text = NLI_SEPARATOR.join(sides)
  gold = NLI_LABELS[label]
  return Fields(_id(row, 'uid'), text, gold, NLI_LABELS.__contains__)


READERS: dict[str, Callable[[dict[str, Any]], Fields]] = {
  'anli1': _nli,
  'asdiv': _asdiv,
  'cqa': _cqa,
  'esnli': _nli,
  'svamp': _arithmetic,
}

# What a question lacks of a row to train on, where that is not one of its own
# choices.
_NO_GOLD: dict[str, dict[str, Any]] = {
  'anli1': {'label': 0},
  'esnli': {'label': 0},
  'svamp': {'label': '0'},
}


def question(data_set: str, row: dict[str, Any]) -> str:
  r"""Returns the input of a row of a published data set, without its label.

  >>> question('cqa', {'question': 'Who?', 'choices': ['me', 'you']})
  'Who?\nAnswer Choices:\n(a) me\n(b) you'

  Args:
    data_set: 'cqa', ….
    row: with the columns that make up the input.

  Raises:
    RowError: a column is missing, or of another type.
  """
  gold = _NO_GOLD.get(data_set, {})
  choices = row.get('choices')
  if data_set == 'cqa' and isinstance(choices, list) and choices:
    gold = {'answer': choices[0]}
  elif data_set == 'cqa':
    gold = {'answer': ''}
  return READERS[data_set]({**row, **gold}).input
