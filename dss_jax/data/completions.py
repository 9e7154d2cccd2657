"""Parser of a teacher's raw completions into rationales and labels.

A completion of the published release reasons, states an answer in a fixed
phrase, and often continues with further questions of its own. The rules are
those of the published data (Hsieh et al. 2023, section 4.1), one per data set:

| set    | the completion ends at | phrase            | label             |
|--------|------------------------|-------------------|-------------------|
| cqa    | `Q:`                   | So the answer is  | after its `(x)`   |
| svamp  | `Q:`                   | The answer is     | the (equation)    |
| asdiv  | `Q:`                   | The answer is     | the (equation)    |
| anli1  | `Premise:`             | So the answer is  | the rest          |
| esnli  | `Premise`              | Answer:           | the rest          |

GPT-NeoX's completions have two rules of their own: one for ANLI may say `The
answer is` instead, and in one for e-SNLI the first `Answer:` counts, where
another teacher's with several has none.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from dss_jax import errors


@dataclasses.dataclass(frozen=True)
class Parsed:
  """A parsed completion; a part that could not be found is ''.

  Attributes:
    rationale: the reasoning, without the phrase that states the answer.
    label: the teacher's answer: a choice, an equation with its parentheses, or
      an entailment class.
  """

  rationale: str
  label: str


def _without_period(text: str) -> str:
  text = text.strip()
  return text[:-1].rstrip() if text.endswith('.') else text


def _chosen_option(text: str) -> str:
  """Returns the words after the first `(x)`, up to a second one."""
  _, *options = re.split(r'\(.\)', text, maxsplit=2)
  return _without_period(options[0]) if options else ''


def _equation(text: str) -> str:
  """Returns the outermost parentheses of `text` with their content."""
  begin, end = text.find('('), text.rfind(')')
  return text[begin : end + 1] if 0 <= begin < end else ''


@dataclasses.dataclass(frozen=True)
class Rule:
  """The format of one data set's completions.

  Attributes:
    stop: what begins the next, invented question.
    phrase: separates rationale and answer; must occur exactly once.
    label: extracts the label from the text after the phrase.
    open_rationale: whether a completion without the phrase still counts as a
      rationale.
    other_phrase: what may stand in the place of a phrase that does not occur
      exactly once; '' for nothing.
    first: whether of several phrases the first one counts.
    spaced: the columns in which the published code has a space, and not
      nothing, where a completion could not be read.
  """

  stop: str
  phrase: str
  label: Callable[[str], str]
  open_rationale: bool = False
  other_phrase: str = ''
  first: bool = False
  spaced: tuple[str, ...] = ('rationale', 'teacher_label')


_RULES = {
  'anli1': Rule('Premise:', 'So the answer is', _without_period, spaced=()),
  'asdiv': Rule('Q:', 'The answer is', _equation),
  'cqa': Rule('Q:', 'So the answer is', _chosen_option),
  'esnli': Rule(
    'Premise',
    'Answer:',
    str.strip,
    open_rationale=True,
    spaced=('teacher_label',),
  ),
  'svamp': Rule('Q:', 'The answer is', _equation),
}

# What a teacher's own rules differ in.
_OF_TEACHERS: Mapping[tuple[str, str], Mapping[str, Any]] = {
  ('gpt_neox', 'anli1'): {'other_phrase': 'The answer is'},
  ('gpt_neox', 'esnli'): {'first': True},
}

DATA_SETS = tuple(_RULES)


def rule(dataset: str, teacher: str = 'palm') -> Rule:
  """Returns the rule of a data set for the completions of a teacher.

  Args:
    dataset: one of `DATA_SETS`.
    teacher: its name; only 'gpt_neox' has rules of its own.

  Raises:
    DataError: there is no rule for `dataset`.
  """
  if dataset not in _RULES:
    raise errors.DataError(
      f'There is no rule for completions of {dataset!r}: expected one of'
      f' {", ".join(DATA_SETS)}.{errors.did_you_mean(dataset, DATA_SETS)}'
    )
  return dataclasses.replace(
    _RULES[dataset], **_OF_TEACHERS.get((teacher, dataset), {})
  )


def parse(dataset: str, completion: str, teacher: str = 'palm') -> Parsed:
  r"""Splits a teacher's completion into rationale and label.

  >>> parse('cqa', 'Fish swim. So the answer is (b) pond.\n\nQ: And who')
  Parsed(rationale='Fish swim.', label='pond')
  >>> parse('svamp', '2 and 3 make 5. The answer is (2 + 3).')
  Parsed(rationale='2 and 3 make 5.', label='(2 + 3)')
  >>> parse('anli1', 'It is far. So the answer is contradiction.')
  Parsed(rationale='It is far.', label='contradiction')
  >>> parse('esnli', 'A dog is an animal.\nAnswer: entailment\n\nPremise')
  Parsed(rationale='A dog is an animal.', label='entailment')
  >>> parse('anli1', 'It is far. The answer is neutral.', 'gpt_neox')
  Parsed(rationale='It is far.', label='neutral')

  A completion that states no answer, or several, gives blanks, which reports
  count and no student learns from. Takes time linear in the length, and raises
  for no text.

  Args:
    dataset: one of `DATA_SETS`.
    completion: the teacher's text.
    teacher: its name, see `rule`.

  Returns:
    The two parts, '' where one could not be found.

  Raises:
    DataError: there is no rule for `dataset`.
  """
  found = rule(dataset, teacher)
  text = completion.split(found.stop, 1)[0]
  parts = text.split(found.phrase)
  if len(parts) != 2 and found.other_phrase:
    parts = text.split(found.other_phrase)
  if len(parts) == 2 or (len(parts) > 2 and found.first):
    return Parsed(parts[0].strip(), found.label(parts[1]))
  if len(parts) == 1 and found.open_rationale:
    return Parsed(parts[0].strip(), '')
  return Parsed('', '')
