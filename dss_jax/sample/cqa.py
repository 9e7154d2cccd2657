"""Generator of the packaged CQA sample: questions, choices, completions.

  python -m dss_jax.sample.cqa [--output_dir=FOLDER] [--seed=N]

Rows ask about the closed world of `world.py`. A row's right answer follows
from two pieces of knowledge: which category the question asks for and which
category each choice is of. The teacher's rationale spells out both, so a
student that also learns to write rationales sees the categories of five
objects per row, where the label alone tells it about one.

No question of the test split, with its choices in any order, is in the train
split. Its (fact, answer) pairs come from the same pool: if some were held out,
never being the answer to a fact would itself be a signal in the labels, and
students do learn it.

The teacher errs as a large model does. For every row one of these is drawn
(`_TEACHER`): right; a slip, where correct reasoning is followed by a wrong
choice; a mix-up, where one wrong choice is given the category that is asked for
and chosen; a misbelief, where the statement names the category of a wrong
choice, which is then chosen; no answer, where it continues with the next
question. So about a quarter of the teacher's labels are wrong or missing, but
about nine in ten of its rationales contain only true statements. The list of
objects begins with the choice that the reasoning leads to.
"""

import dataclasses
from collections.abc import Iterator

from dss_jax.sample import files, world
from dss_jax.sample.draws import Draws, run_on

SEED = 20
TRAIN_ROWS = 1000
TEST_ROWS = 400
COMPLETIONS_PER_FILE = 1000
CHOICES = 5

# One row in this many negates its fact.
_NOT_EVERY = 10
# What the teacher does, and how often.
_TEACHER = (('right', 0.74), ('slip', 0.14), ('mix-up', 0.05),
            ('misbelief', 0.04), ('no answer', 0.03))  # fmt: skip
_COMPLETION_WORDS = (60, 130)

_CATEGORY = {c.name: c for c in world.CATEGORIES}
_CATEGORY_OF = {o: c for c in world.CATEGORIES for o in c.objects}


@dataclasses.dataclass(frozen=True)
class Target:
  """What a row asks: a fact, the right answer, and whether it is negated."""

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
  """Returns the categories for which the fact is clearly false."""
  excluded = {fact.category, *fact.avoid}
  return [c for c in world.CATEGORIES if c.name not in excluded]


def all_targets() -> dict[bool, list[Target]]:
  """Returns {negated: every target}: each fact with each of its answers."""
  targets: dict[bool, list[Target]] = {False: [], True: []}
  for fact in world.FACTS:
    same = _CATEGORY[fact.category].objects
    targets[False].extend(Target(fact, o) for o in same)
    if fact.family in world.NOT_QUESTIONS:
      others = [o for c in _others(fact) for o in c.objects]
      targets[True].extend(Target(fact, o, negated=True) for o in others)
  return targets


def make_row(target: Target, position: int, draws: Draws) -> Row:
  """Puts a target into words, with its answer as the choice `position`.

  A plain question's choices are of five categories; in a negated question, four
  are of the category that the fact holds for.
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
    seen: questions with their choices that must not be repeated; the rows are
      added to it.
    draws: the source of randomness.
  """
  positions = draws.shuffled([i % CHOICES for i in range(n)])
  queues: dict[bool, list[Target]] = {False: [], True: []}
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
    believed: the category that the teacher assigns to each choice.
    stated: the category that it thinks the question asks for.
    picked: the choice that it arrives at, listed first.

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


def answer(row: Row, draws: Draws) -> str:
  """Returns the teacher's reasoning and answer to one row, right or wrong."""
  behavior = draws.by_share(_TEACHER)
  believed = {c: _CATEGORY_OF[c].name for c in row.choices}
  stated = row.target.fact.category
  chosen = picked = row.target.answer
  if behavior in ('slip', 'mix-up', 'misbelief'):
    chosen = draws.one([c for c in row.choices if c != chosen])
  # In a negated question, a wrong choice already is of the category asked for,
  # so a mistake about categories would not lead to it: the teacher slips.
  if not row.target.negated:
    if behavior == 'mix-up':
      believed[chosen] = stated
      picked = chosen
    elif behavior == 'misbelief':
      stated = believed[chosen]
      picked = chosen
  text = rationale(row, believed, stated, picked)
  if behavior == 'no answer':
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

  def invent():
    other = make_row(draws.one(targets), draws.below(CHOICES), draws)
    lines = [f'({x}) {c}' for x, c in zip('abcde', other.choices, strict=True)]
    question = '\n'.join((f'Q: {other.question}', 'Answer Choices:', *lines))
    return f'{question}\nA: {answer(other, draws)}'

  return run_on(text, _COMPLETION_WORDS, draws, invent)


def record(row: Row) -> dict[str, object]:
  """Returns a row with the published fields."""
  fact = row.target.fact
  name = files.digest('\n'.join((row.question, *row.choices)))
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
  # A separate stream, so that its words have no influence on the questions.
  teacher = Draws(seed + 1)
  targets = all_targets()
  seen: set[tuple[str, frozenset[str]]] = set()
  result: dict[str, str] = {}
  for split, n in (('train', train_rows), ('test', test_rows)):
    rows = list(make_rows(targets, n, seen, draws))
    texts = [completion(r, targets[False], teacher) for r in rows]
    result |= files.split(
      'cqa', split, map(record, rows), texts, COMPLETIONS_PER_FILE
    )
  return result


if __name__ == '__main__':
  files.main(__doc__, SEED, generate)
