"""The closed world that the packaged sample asks about.

Objects belong to categories; what a question asks (a `Fact`) is true of every
object of one category and of no object of the others, except for the categories
that the fact lists under `avoid`: of those it is a matter of opinion, so they
are never offered beside it.
"""

import dataclasses

# Families of questions. A fact has one of the first five; `NOT` negates a fact
# and asks for the one choice that it does not hold for.
TRAIT = 'trait'
PLACE = 'place'
USE = 'use'
WORK = 'work'
MADE = 'made'
NOT = 'not'
FAMILIES = (TRAIT, PLACE, USE, WORK, MADE, NOT)


@dataclasses.dataclass(frozen=True)
class Fact:
  """A property to ask about, for example having a beak.

  Attributes:
    family: one of `FAMILIES` other than `NOT`.
    cue: the key words of the question, phrased for its family: 'has a
      beak' (trait), 'in an orchestra' (place), 'mend a fence' (use), 'a
      tailor sews' (work), 'made of cloth' (made).
    category: name of the category that the fact holds for.
    avoid: names of categories with objects for which it arguably holds too.
  """

  family: str
  cue: str
  category: str
  avoid: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Category:
  """A category with its objects.

  Attributes:
    name: for example 'bird'.
    noun: the name with its article, 'a bird'.
    objects: singular nouns that belong to it.
  """

  name: str
  noun: str
  objects: tuple[str, ...]


CATEGORIES = tuple(
  Category(noun.partition(' ')[2], noun, tuple(objects.split()))
  for noun, objects in (
    ('a mammal', 'cow horse goat sheep donkey pig'),
    ('a bird', 'eagle owl sparrow parrot robin swan'),
    ('a fish', 'salmon trout tuna cod carp herring'),
    ('an insect', 'ant bee wasp beetle moth gnat'),
    ('a fruit', 'apple pear plum cherry peach apricot'),
    ('a flower', 'rose tulip daisy lily orchid violet'),
    ('a tool', 'hammer saw wrench drill chisel screwdriver'),
    ('an instrument', 'violin cello flute trumpet harp oboe'),
    ('a vehicle', 'car bus truck van taxi tractor'),
    ('a garment', 'shirt coat scarf sweater jacket skirt'),
  )
)

FACTS = (
  Fact(TRAIT, 'has hooves', 'mammal'),
  Fact(TRAIT, 'feeds milk to its young', 'mammal'),
  Fact(PLACE, 'in a barn', 'mammal', ('bird', 'insect', 'tool', 'vehicle')),
  Fact(PLACE, 'at a cattle market', 'mammal', ('vehicle', 'insect')),
  Fact(MADE, 'covered with hair', 'mammal', ('insect', 'garment')),
  Fact(TRAIT, 'has a beak', 'bird'),
  Fact(TRAIT, 'hatches in a nest', 'bird', ('insect',)),
  Fact(PLACE, 'in an aviary', 'bird', ('insect', 'tool')),
  Fact(WORK, 'an ornithologist studies', 'bird', ('insect',)),
  Fact(MADE, 'covered with feathers', 'bird'),
  Fact(TRAIT, 'breathes through gills', 'fish'),
  Fact(PLACE, 'in an aquarium', 'fish', ('flower',)),
  Fact(PLACE, 'under the water', 'fish', ('flower', 'bird')),
  Fact(WORK, 'an angler hopes to catch', 'fish'),
  Fact(MADE, 'covered with scales', 'fish'),
  Fact(TRAIT, 'has six legs', 'insect'),
  Fact(TRAIT, 'feels its way with antennae', 'insect'),
  Fact(PLACE, 'in a spider web', 'insect'),
  Fact(WORK, 'an entomologist collects', 'insect', ('flower',)),
  Fact(MADE, 'built from three segments', 'insect'),
  Fact(TRAIT, 'ripens on a tree', 'fruit'),
  Fact(PLACE, 'in an orchard', 'fruit', ('bird', 'insect', 'vehicle')),
  Fact(PLACE, 'on top of a dessert', 'fruit', ('flower',)),
  Fact(USE, 'cook a pot of jam', 'fruit', ('flower',)),
  Fact(MADE, 'full of juice', 'fruit'),
  Fact(TRAIT, 'opens its petals', 'flower'),
  Fact(PLACE, 'in a vase', 'flower'),
  Fact(PLACE, 'in a wedding bouquet', 'flower', ('fruit',)),
  Fact(USE, 'say sorry to a friend', 'flower', ('fruit', 'garment')),
  Fact(WORK, 'a florist wraps', 'flower'),
  Fact(TRAIT, 'helps with repairs', 'tool', ('vehicle',)),
  Fact(PLACE, 'in a workshop', 'tool', ('vehicle',)),
  Fact(USE, 'mend a fence', 'tool', ('vehicle',)),
  Fact(WORK, 'a carpenter carries', 'tool', ('garment',)),
  Fact(MADE, 'made of hardened steel', 'tool', ('vehicle',)),
  Fact(TRAIT, 'makes music', 'instrument', ('bird', 'insect')),
  Fact(PLACE, 'in an orchestra', 'instrument'),
  Fact(USE, 'play a melody', 'instrument'),
  Fact(USE, 'accompany a singer', 'instrument'),
  Fact(WORK, 'a musician practises on', 'instrument'),
  Fact(TRAIT, 'needs fuel', 'vehicle', ('tool',)),
  Fact(PLACE, 'in a traffic jam', 'vehicle'),
  Fact(USE, 'travel to another town', 'vehicle', ('mammal',)),
  Fact(WORK, 'a mechanic repairs', 'vehicle', ('tool',)),
  Fact(MADE, 'made of sheet metal and tyres', 'vehicle'),
  Fact(PLACE, 'on a clothes hanger', 'garment'),
  Fact(PLACE, 'in a laundry basket', 'garment'),
  Fact(USE, 'dress for a cold day', 'garment'),
  Fact(WORK, 'a tailor sews', 'garment'),
  Fact(MADE, 'made of cloth', 'garment'),
)

# Wordings of a question; `{cue}` is the fact's, `{name}` one of `NAMES`.
QUESTIONS = {
  TRAIT: (
    'Which of these {cue}?',
    'What {cue}?',
    '{name} is thinking of something that {cue}. What is it?',
  ),
  PLACE: (
    'Which of these would you find {cue}?',
    'What would you expect to see {cue}?',
    '{name} saw something {cue}. What was it?',
  ),
  USE: (
    'Which of these would you use to {cue}?',
    'What does one need to {cue}?',
    '{name} wants to {cue}. What would help?',
  ),
  WORK: (
    'Which of these is something that {cue}?',
    'What is it that {cue}?',
    '{name} drew something that {cue}. What was it?',
  ),
  MADE: (
    'Which of these is {cue}?',
    'What is {cue}?',
    '{name} touched something that is {cue}. What was it?',
  ),
}

# The same negated, for the families that allow it.
NOT_QUESTIONS = {
  PLACE: (
    'Which of these would you not find {cue}?',
    'What would you not expect to see {cue}?',
  ),
  WORK: ('Which of these is not something that {cue}?',),
  MADE: ('Which of these is not {cue}?',),
}

# How a rationale begins: with the category that the fact holds for. It comes
# first, so that a student has to infer it from the question, as for a label.
STATEMENTS = {
  TRAIT: '{noun} {cue}.',
  PLACE: '{noun} is found {cue}.',
  USE: '{noun} is used to {cue}.',
  WORK: '{noun} is something {cue}.',
  MADE: '{noun} is {cue}.',
}

NAMES = ('Anna', 'Ben', 'Clara', 'David', 'Emma', 'Felix', 'Grace', 'Henry')
