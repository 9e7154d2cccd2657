"""Generator of the packaged e-SNLI and ANLI samples: entailment of two texts.

  python -m dss_jax.sample.nli [--output_dir=FOLDER] [--seed=N]

e-SNLI's premises describe what somebody is doing, like the caption of a
picture; ANLI's describe a place in a few sentences. A hypothesis follows from
its premise (label 0, entailment), may be true (1, neutral) or cannot be true
(2, contradiction). The teacher's rationale says why. About a quarter of its
labels are wrong or missing, and it runs on into pairs that it makes up.
"""

import dataclasses
import functools

from dss_jax.sample import files
from dss_jax.sample.draws import Draws, distinct, run_on

SEED = 50
ROWS = (('train', 120), ('valid', 30), ('test', 30))
LABELS = ('entailment', 'neutral', 'contradiction')
COMPLETIONS_PER_FILE = {'esnli': 50, 'anli1': 1000}

_TEACHER = (('right', 0.75), ('wrong', 0.2), ('no answer', 0.05))
_COMPLETION_WORDS = (45, 80)

_WHO = (('man', 'person'), ('woman', 'person'), ('boy', 'child'),
        ('girl', 'child'), ('farmer', 'person'))  # fmt: skip
_WEARS = ('red coat', 'blue scarf', 'green shirt', 'warm jacket')
# An activity, what it implies, and something that contradicts it.
_DOES = (
  ('feeding a horse', 'near an animal', 'asleep in bed'),
  ('watching an eagle', 'looking at a bird', 'under the water'),
  ('playing a violin', 'making music', 'silent and asleep'),
  ('driving a tractor', 'in a vehicle', 'walking on the beach'),
  ('picking apples', 'gathering fruit', 'swimming in a pond'),
  ('repairing a fence', 'working', 'resting on a sofa'),
  ('selling roses', 'at work with flowers', 'alone in an attic'),
)
_WHERE = ('at a farm', 'in a village', 'near a lake', 'beside a road')
_MAYBE = ('is waiting for a friend', 'is very hungry', 'has two brothers',
          'will go home by bus', 'is doing so for the first time')  # fmt: skip

_PLACES = ('Alder', 'Birch', 'Cedar', 'Elm', 'Hazel', 'Maple', 'Willow')
_KINDS = ('museum', 'school', 'theatre', 'market', 'library')
_LANDS = (('Norway', 'Spain'), ('Canada', 'Kenya'), ('Peru', 'Japan'))
_SHOWS = ('violins', 'birds', 'tools', 'coats', 'flowers')
_UNSAID = ('is closed on Monday', 'has a famous owner', 'costs a lot of money',
           'is painted red', 'was built by two brothers')  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Pair:
  """A premise with a hypothesis.

  Attributes:
    premise: what is known.
    hypothesis: what is asked about.
    label: an index into `LABELS`.
    reasons: the justification of each of the labels.
  """

  premise: str
  hypothesis: str
  label: int
  reasons: tuple[str, str, str]

  @property
  def text(self) -> str:
    """Premise and hypothesis, a line each."""
    return f'{self.premise}\n{self.hypothesis}'


def make_caption(draws: Draws) -> Pair:
  """Draws a pair like those of e-SNLI."""
  (who, general), (does, implied, else_) = draws.one(_WHO), draws.one(_DOES)
  where, wears, maybe = map(draws.one, (_WHERE, _WEARS, _MAYBE))
  wrong = draws.one((else_, else_, f'not {does}'))
  label = draws.below(3)
  hypothesis = (
    f'A {general} is {implied}.',
    f'The {who} {maybe}.',
    f'The {who} is {wrong}.',
  )[label]
  return Pair(
    f'A {who} in a {wears} is {does} {where}.',
    hypothesis,
    label,
    (
      f'A {who} is a {general}, and {does} means to be {implied}.',
      f'That a {who} is {does} does not say whether the {who} {maybe}.',
      f'The {who} is {does} and so cannot be {wrong}.',
    ),
  )


def make_article(draws: Draws) -> Pair:
  """Draws a pair like those of ANLI."""
  name = f'{draws.one(_PLACES)} {draws.one(_KINDS)}'
  land, other = draws.shuffled(draws.one(_LANDS))
  year, rooms = 1850 + draws.below(140), 3 + draws.below(20)
  shows, unsaid = draws.one(_SHOWS), draws.one(_UNSAID)
  label, early, many = draws.below(3), draws.below(2), draws.below(10)
  true, false = (
    (f'opened before {year + 1 + many}', f'opened after {year + 1 + many}')
    if early
    else (f'is in {land}', f'is in {other}')
  )
  fact = f'opened in {year}' if early else f'is in {land}'
  claim = (true, unsaid, false)[label]
  return Pair(
    f'The {name} is in {land}. It opened in {year} and has {rooms} rooms.'
    f' People come to see its {shows}.',
    f'The {name} {claim}.',
    label,
    (
      f'The premise says that the {name} {fact}. So it {true}.',
      f'The premise does not say whether the {name} {unsaid}.',
      f'The premise says that the {name} {fact}. So it is false that it'
      f' {false}.',
    ),
  )


_MAKERS = {'anli1': make_article, 'esnli': make_caption}
# The text before the reasoning, before the answer, and after the answer.
_WORDING = {
  'anli1': ('Answer:', ' So the answer is ', '.'),
  'esnli': ('Reasonings:', '\nAnswer: ', ''),
}


def answer(data_set: str, pair: Pair, draws: Draws) -> str:
  """Returns the teacher's reasoning and label, right or wrong."""
  fault, label = draws.by_share(_TEACHER), pair.label
  if fault == 'wrong':
    label = (label + 1 + draws.below(2)) % len(LABELS)
  _, before, after = _WORDING[data_set]
  if fault == 'no answer':
    return pair.reasons[label]
  return f'{pair.reasons[label]}{before}{LABELS[label]}{after}'


def completion(data_set: str, pair: Pair, draws: Draws) -> str:
  """Returns a raw completion: the answer, then invented pairs."""
  text = answer(data_set, pair, draws)

  def invent():
    other = _MAKERS[data_set](draws)
    return (
      f'Premise: {other.premise}\nHypothesis: {other.hypothesis}\n'
      f'{_WORDING[data_set][0]} {answer(data_set, other, draws)}'
    )

  return run_on(text, _COMPLETION_WORDS, draws, invent)


def record(data_set: str, pair: Pair) -> dict[str, object]:
  """Returns a pair with the published fields."""
  shared = {
    'premise': pair.premise,
    'hypothesis': pair.hypothesis,
    'label': pair.label,
  }
  if data_set == 'esnli':
    reason = pair.reasons[pair.label]
    return shared | {f'explanation_{i}': reason for i in (1, 2, 3)}
  return {'uid': files.digest(pair.text)} | shared | {'reason': ''}


def generate(seed: int = SEED) -> dict[str, str]:
  """Returns the samples as {path below the data folder: text of the file}."""
  result: dict[str, str] = {}
  for offset, (data_set, maker) in enumerate(_MAKERS.items()):
    make = functools.partial(maker, Draws(seed + 2 * offset))
    teacher = Draws(seed + 2 * offset + 1)
    seen: set[str] = set()
    for split, n in ROWS:
      pairs = list(distinct(make, n, seen))
      texts = [completion(data_set, p, teacher) for p in pairs]
      rows = [record(data_set, p) for p in pairs]
      size = COMPLETIONS_PER_FILE[data_set]
      result |= files.split(data_set, split, rows, texts, size)
  return result


if __name__ == '__main__':
  files.main(__doc__, SEED, generate)
