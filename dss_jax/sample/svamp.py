"""Generator of the packaged SVAMP and ASDiv samples: word problems.

  python -m dss_jax.sample.svamp [--output_dir=FOLDER] [--seed=N]

A row is a short story, a newline and a question; its label is the equation
that answers it, with numbers written as floats. A teacher's completion explains
the steps, states an equation in parentheses, and runs on into problems that it
makes up. About a quarter of the equations are wrong or missing: the teacher
picks the wrong operation, misreads a number, writes units into the equation
(which then has no value), or never reaches an answer.

ASDiv's rows are of the same kind with other people and things in them. They
have no test split, since they only add to SVAMP's train rows.
"""

import dataclasses
import functools
from collections.abc import Mapping

from dss_jax.sample import files
from dss_jax.sample.draws import Draws, distinct, run_on

SEED = 38
ROWS = {'svamp': (('train', 160), ('test', 40)), 'asdiv': (('train', 60),)}
COMPLETIONS_PER_FILE = {'svamp': 100, 'asdiv': 1000}
NAMES = {
  'svamp': ('Anna', 'Ben', 'Clara', 'David', 'Emma', 'Felix'),
  'asdiv': ('Grace', 'Henry', 'Ida', 'Jonas'),
}
THINGS = {
  'svamp': ('apples', 'pears', 'roses', 'hammers', 'shirts', 'plums'),
  'asdiv': ('tulips', 'scarfs', 'carps', 'cars'),
}

# What the teacher does, and how often.
_TEACHER = (('right', 0.74), ('operation', 0.13), ('number', 0.06),
            ('units', 0.03), ('no answer', 0.04))  # fmt: skip
_OTHER = {'+': '-', '-': '+', '*': '+', '/': '-'}
_COMPLETION_WORDS = (50, 90)


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of problem; `{a}`, `{b}`, `{c}`, … are filled in.

  Attributes:
    story: what happened.
    question: what is asked.
    steps: how the teacher explains its way to the equation `{eq}`.
    equation: the numbers `a`, `b`, `c` and signs, in order.
    divides: whether `a` must be a multiple of `b`.
  """

  story: str
  question: str
  steps: str
  equation: tuple[str, ...]
  divides: bool = False


KINDS = (
  Kind(
    '{name} had {a} {things} and found {b} more.',
    'How many {things} does {name} have now?',
    '{name} had {a} {things} and found {b} more. Now there are {eq} {things}.',
    ('a', '+', 'b'),
  ),
  Kind(
    '{name} had {a} {things} and gave {b} of them to {friend}.',
    'How many {things} does {name} have left?',
    '{name} had {a} {things} and gave {b} away. So {eq} {things} are left.',
    ('a', '-', 'b'),
  ),
  Kind(
    '{name} has {b} boxes with {c} {things} in each box.',
    'How many {things} does {name} have in all?',
    'There are {b} boxes with {c} {things} in each. That is {eq} {things}.',
    ('b', '*', 'c'),
  ),
  Kind(
    '{name} puts {a} {things} into {b} boxes, the same number in each.',
    'How many {things} are in each box?',
    '{a} {things} go into {b} boxes. Each box has {eq} {things}.',
    ('a', '/', 'b'),
    divides=True,
  ),
  Kind(
    '{name} has {a} {things}. {friend} has {b} {things}.',
    'How many more {things} does {name} have than {friend}?',
    '{name} has {a} and {friend} has {b} {things}. {name} has {eq} more.',
    ('a', '-', 'b'),
  ),
  # The third number has nothing to do with the answer.
  Kind(
    '{name} has {a} {things} and {c} boxes. {friend} brings {b} more {things}.',
    'How many {things} are there in all?',
    '{name} has {a} {things} and {friend} brings {b}. That is {eq} {things}.',
    ('a', '+', 'b'),
  ),
  Kind(
    '{name} had {a} {things}, found {b} more and gave {c} to {friend}.',
    'How many {things} does {name} have left?',
    'With {b} more there were {a} + {b} {things}. After giving {c} away there'
    ' are {eq}.',
    ('a', '+', 'b', '-', 'c'),
  ),
)


@dataclasses.dataclass(frozen=True)
class Problem:
  """A problem with its words and numbers filled in."""

  kind: Kind
  words: Mapping[str, str]
  numbers: Mapping[str, int]

  @property
  def text(self) -> str:
    """Story and question, as a row's input."""
    text = f'{self.kind.story}\n{self.kind.question}'
    return text.format(**self.words, **self.numbers)


def make_problem(data_set: str, draws: Draws) -> Problem:
  """Draws a problem with the names and things of a data set."""
  kind = draws.one(KINDS)
  name, friend = draws.shuffled(NAMES[data_set])[:2]
  b, c = 2 + draws.below(8), 2 + draws.below(8)
  a = b * (2 + draws.below(8)) if kind.divides else b + c + draws.below(30)
  things = draws.one(THINGS[data_set])
  words = {'name': name, 'friend': friend, 'things': things}
  return Problem(kind, words, {'a': a, 'b': b, 'c': c})


def equation(parts: list[str]) -> str:
  """Returns an equation with one pair of parentheses per operation.

  >>> equation(['8', '+', '2', '-', '3'])
  '( ( 8 + 2 ) - 3 )'

  Args:
    parts: numbers with signs between them.
  """
  text = parts[0]
  for sign, number in zip(parts[1::2], parts[2::2], strict=True):
    text = f'( {text} {sign} {number} )'
  return text


def label(problem: Problem) -> str:
  """Returns the gold equation, such as '( 8.0 + 2.0 )'."""
  numbers = {name: f'{value:.1f}' for name, value in problem.numbers.items()}
  return equation([numbers.get(p, p) for p in problem.kind.equation])


def answer(problem: Problem, draws: Draws) -> str:
  """Returns the teacher's steps and equation, right or wrong."""
  fault = draws.by_share(_TEACHER)
  numbers = dict(problem.numbers)
  if fault == 'number':
    numbers['b'] += 1 + draws.below(3)
  parts = [str(numbers.get(p, p)) for p in problem.kind.equation]
  if fault == 'operation':
    parts[-2] = _OTHER[parts[-2]]
  equation_text = equation(parts).replace('( ', '(').replace(' )', ')')
  steps = problem.kind.steps.format(
    **problem.words, **numbers, eq=equation_text[1:-1]
  )
  if fault == 'no answer':
    return steps
  if fault == 'units':
    equation_text = (
      f'({parts[0]} {problem.words["things"]} {" ".join(parts[1:])})'
    )
  return f'{steps} The answer is {equation_text}.'


def completion(data_set: str, problem: Problem, draws: Draws) -> str:
  """Returns a raw completion: the answer, then invented problems."""
  text = answer(problem, draws)

  def invent():
    other = make_problem(data_set, draws)
    question = other.text.replace('\n', ' ')
    return f'Q: {question}\nA: {answer(other, draws)}'

  return run_on(text, _COMPLETION_WORDS, draws, invent)


def generate(seed: int = SEED) -> dict[str, str]:
  """Returns the samples as {path below the data folder: text of the file}."""
  draws, teacher = Draws(seed), Draws(seed + 1)
  seen: set[str] = set()
  result: dict[str, str] = {}
  for data_set, splits in ROWS.items():
    make = functools.partial(make_problem, data_set, draws)
    for split, n in splits:
      problems = list(distinct(make, n, seen))
      texts = [completion(data_set, p, teacher) for p in problems]
      rows = [{'input': p.text, 'label': label(p)} for p in problems]
      size = COMPLETIONS_PER_FILE[data_set]
      result |= files.split(data_set, split, rows, texts, size)
  return result


if __name__ == '__main__':
  files.main(__doc__, SEED, generate)
