"""Writes the packaged CQA sample: questions, choices, teacher completions.

  python -m dss_jax.sample.cqa [--output_dir=FOLDER] [--seed=N]

Rows ask about the closed world of `world.py`. A row's right answer follows
from two pieces of knowledge: which category the question asks for and which
category each choice is of. The teacher's rationale spells out both, so a
student that also learns to write rationales sees the categories of five
objects a row, where the label alone tells it about one.

No question of the test split, with its choices in any order, is in the train
split. Its (fact, answer) pairs come from the same pool: were some of them held
back, then never being the answer to a fact would itself be something to learn
from the labels, and students do learn it.

The teacher is made to be wrong as a large model is. For every row one of
these is drawn (`_TEACHER`): right; a slip, where right reasoning is followed
by a wrong choice; a mix-up, where one wrong choice is given the category that
is asked for and chosen; a misbelief, where the statement names the category
of a wrong choice, which is then chosen; no answer at all, where it goes on to
the next question. So about a quarter of the teacher's labels are wrong or
missing, but about nine in ten of its rationales say only what is true. The
listing begins with the choice that the reasoning leads to.
"""

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

from dss_jax.sample import files, world

SEED = 20
TRAIN_ROWS = 1000
TEST_ROWS = 400
COMPLETIONS_PER_FILE = 1000
CHOICES = 5

# One row in this many turns its fact around.
_NOT_EVERY = 10
# What the teacher does, and how often.
_TEACHER = (
  ('right', 0.74),
  ('slip', 0.14),
  ('mix-up', 0.05),
  ('misbelief', 0.04),
  ('no answer', 0.03),
)
# Completions stop at a length limit, wherever that falls.
_COMPLETION_WORDS = (60, 130)

_T = TypeVar('_T')
_CATEGORY = {c.name: c for c in world.CATEGORIES}
_CATEGORY_OF = {o: c for c in world.CATEGORIES for o in c.objects}


class Draws:
  """Random choices that are the same on every platform and Python version.

  Only `random.Random.random` is promised to stay as it is for a seed, so
  everything is drawn from it.
  """

  def __init__(self, seed: int):
    self._random = random.Random(seed).random

  def uniform(self) -> float:
    """Returns a number of [0, 1)."""
    return self._random()

  def below(self, n: int) -> int:
    """Returns an integer of [0, n)."""
    return int(self._random() * n)

  def one(self, items: Sequence[_T]) -> _T:
    """Returns one of the items."""
    return items[self.below(len(items))]

  def shuffled(self, items: Sequence[_T]) -> list[_T]:
    """Returns the items in a random order (Fisher and Yates)."""
    items = list(items)
    for i in range(len(items) - 1, 0, -1):
      j = self.below(i + 1)
      items[i], items[j] = items[j], items[i]
    return items


@dataclasses.dataclass(frozen=True)
class Target:
  """What a row is to ask: a fact, the right answer, turned around or not."""

  fact: world.Fact
  answer: str
  negated: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
  """A question with its choices in order."""

  target: Target
  question: str
  choices: tuple[str, ...]


def _others(fact: world.Fact) -> list[world.Category]:
  """Returns the categories for which the fact is plainly false."""
  excluded = {fact.category, *fact.avoid}
  return [c for c in world.CATEGORIES if c.name not in excluded]


def all_targets() -> dict[bool, list[Target]]:
  """Returns {negated: every target}: each fact with each of its answers."""
  targets = {False: [], True: []}
  for fact in world.FACTS:
    same = _CATEGORY[fact.category].objects
    targets[False].extend(Target(fact, o) for o in same)
    if fact.family in world.NOT_QUESTIONS:
      others = [o for c in _others(fact) for o in c.objects]
      targets[True].extend(Target(fact, o, negated=True) for o in others)
  return targets


def make_row(target: Target, position: int, draws: Draws) -> Row:
  """Puts a target into words, with its answer as the choice `position`.

  A plain question's choices are of five categories; of a question that was
  turned around, four are of the category that the fact holds for.
  """
  fact = target.fact
  if target.negated:
    wrong = draws.shuffled(_CATEGORY[fact.category].objects)[: CHOICES - 1]
    templates = world.NOT_QUESTIONS[fact.family]
  else:
    categories = draws.shuffled(_others(fact))[: CHOICES - 1]
    wrong = [draws.one(c.objects) for c in categories]
    templates = world.QUESTIONS[fact.family]
  choices = (*wrong[:position], target.answer, *wrong[position:])
  question = draws.one(templates).format(
    cue=fact.cue, name=draws.one(world.NAMES)
  )
  return Row(target, question, choices)


def make_rows(
  targets: dict[bool, list[Target]],
  n: int,
  seen: set[tuple[str, frozenset[str]]],
  draws: Draws,
) -> Iterator[Row]:
  """Yields rows, every target about as often as the others.

  Right answers are spread evenly over the positions of the choices.

  Args:
    targets: what to ask, see `all_targets`.
    n: how many rows.
    seen: questions with their choices that must not come again, which the
      rows are added to.
    draws: the source of randomness.
  """
  positions = draws.shuffled([i % CHOICES for i in range(n)])
  queues = {False: [], True: []}
  for i, position in enumerate(positions):
    negated = i % _NOT_EVERY == _NOT_EVERY - 1
    if not queues[negated]:
      queues[negated] = draws.shuffled(targets[negated])
    target = queues[negated].pop()
    row = make_row(target, position, draws)
    while (row.question, frozenset(row.choices)) in seen:
      row = make_row(target, position, draws)
    seen.add((row.question, frozenset(row.choices)))
    yield row


def _statement(fact: world.Fact, category: str) -> str:
  """Returns the sentence that the fact holds for a category."""
  text = world.STATEMENTS[fact.family].format(
    cue=fact.cue, noun=_CATEGORY[category].noun
  )
  return text[0].upper() + text[1:]


def rationale(
  row: Row, believed: dict[str, str], stated: str, picked: str
) -> str:
  """Returns the teacher's reasoning.

  Args:
    row: the row it reasons about.
    believed: the category that the teacher takes each choice to be of.
    stated: the category that it thinks the question asks for.
    picked: the choice that it comes to, listed first.

  Returns:
    For example 'A bird has a beak. The owl is a bird, the saw a tool, ...'.
  """
  fact = row.target.fact
  statement = _statement(fact, stated)
  order = [picked, *(c for c in row.choices if c != picked)]
  first, *others = (f'the {c}' for c in order)
  nouns = [_CATEGORY[believed[c]].noun for c in order]
  parts = [f'{c} {noun}' for c, noun in zip(others, nouns[1:], strict=True)]
  return (
    f'{statement} {first.capitalize()} is {nouns[0]},'
    f' {", ".join(parts[:-1])} and {parts[-1]}.'
  )


def _behaviour(draws: Draws) -> str:
  """Draws what the teacher does with a row."""
  left = draws.uniform()
  for name, share in _TEACHER:
    left -= share
    if left < 0:
      return name
  return _TEACHER[0][0]


def answer(row: Row, draws: Draws) -> str:
  """Returns the teacher's reasoning and answer to one row, right or wrong."""
  behaviour = _behaviour(draws)
  believed = {c: _CATEGORY_OF[c].name for c in row.choices}
  stated = row.target.fact.category
  chosen = picked = row.target.answer
  if behaviour in ('slip', 'mix-up', 'misbelief'):
    chosen = draws.one([c for c in row.choices if c != chosen])
  # Turned around, a wrong choice is of the category asked for already, so a
  # mistake about categories would not lead to it: the teacher slips instead.
  if not row.target.negated:
    if behaviour == 'mix-up':
      believed[chosen] = stated
      picked = chosen
    elif behaviour == 'misbelief':
      stated = believed[chosen]
      picked = chosen
  text = rationale(row, believed, stated, picked)
  if behaviour == 'no answer':
    return text
  letter = 'abcde'[row.choices.index(chosen)]
  return f'{text} So the answer is ({letter}) {chosen}.'


def completion(row: Row, targets: list[Target], draws: Draws) -> str:
  """Returns a raw completion: the answer, then invented further questions.

  Args:
    row: the row that the teacher was asked.
    targets: what it may invent further questions from.
    draws: the source of randomness.
  """
  text = answer(row, draws)
  # A few completions end where they should.
  if draws.uniform() < 0.04:
    return text
  low, high = _COMPLETION_WORDS
  limit = low + draws.below(high - low)
  while text.count(' ') < limit:
    invented = make_row(draws.one(targets), draws.below(CHOICES), draws)
    lines = [
      f'({x}) {c}' for x, c in zip('abcde', invented.choices, strict=True)
    ]
    text += '\n\n' + '\n'.join(
      (
        f'Q: {invented.question}',
        'Answer Choices:',
        *lines,
        f'A: {answer(invented, draws)}',
      )
    )
  # The first question's own answer is never cut: the limit lies beyond it.
  return ' '.join(text.split(' ')[:limit])


def record(row: Row) -> dict[str, object]:
  """Returns a row with the published fields."""
  fact = row.target.fact
  name = hashlib.md5(
    '\n'.join((row.question, *row.choices)).encode('utf-8'),
    usedforsecurity=False,
  ).hexdigest()
  holds = 'is not' if row.target.negated else 'is'
  statement = _statement(fact, fact.category)
  return {
    'id': name,
    'question': row.question,
    'choices': list(row.choices),
    'answer': row.target.answer,
    'abstractive_explanation': (
      f'{row.target.answer} {holds} {_CATEGORY[fact.category].noun}; '
      f'{statement[0].lower()}{statement[1:-1]}'
    ),
    'extractive_explanation': fact.cue,
  }


def generate(
  seed: int = SEED, train_rows: int = TRAIN_ROWS, test_rows: int = TEST_ROWS
) -> dict[str, str]:
  """Returns the sample as {path below the data folder: text of the file}."""
  draws = Draws(seed)
  # Of its own, so that its words have no influence on the questions.
  teacher = Draws(seed + 1)
  targets = all_targets()
  seen = set()
  result = {}
  for split, n in (('train', train_rows), ('test', test_rows)):
    rows = list(make_rows(targets, n, seen, draws))
    texts = [completion(r, targets[False], teacher) for r in rows]
    result |= files.split(
      'cqa', split, map(record, rows), texts, COMPLETIONS_PER_FILE
    )
  return result


def main() -> None:
  """Entry point of `python -m dss_jax.sample.cqa`."""
  files.main(__doc__, SEED, generate)


if __name__ == '__main__':
  main()
