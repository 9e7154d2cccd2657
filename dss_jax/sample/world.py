"""The closed world that the packaged sample asks about.

Objects belong to categories; what a question asks (a `Fact`) is true of every
object of one category and of no object of the others, save those that the
fact lists under `avoid`: where it would be a matter of opinion, that category
is never offered beside it.
"""

import dataclasses

# Families of questions. A fact has one of the first five; `NOT` turns a fact
# around and asks for the one choice that it does not hold for.
TRAIT = 'trait'
PLACE = 'place'
USE = 'use'
WORK = 'work'
MADE = 'made'
NOT = 'not'
FAMILIES = (TRAIT, PLACE, USE, WORK, MADE, NOT)


@dataclasses.dataclass(frozen=True)
class Fact:
  """One thing to ask about, for example what has a beak.

  Attributes:
    family: one of `FAMILIES` other than `NOT`.
    cue: the words of the question that matter, fit for its family: 'has a
      beak' (trait), 'in an orchestra' (place), 'mend a fence' (use), 'a
      tailor sews' (work), 'made of cloth' (made).
    category: name of the category that the fact holds for.
    avoid: names of categories of which some might be said to fit as well.
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
    noun: the name with its article, 'a bird'; 'furniture' has none.
    objects: singular nouns that belong to it.
  """

  name: str
  noun: str
  objects: tuple[str, ...]


CATEGORIES = (
    Category(
        'mammal', 'a mammal', ('cow', 'horse', 'goat', 'sheep', 'donkey', 'pig')
    ),
    Category(
        'bird', 'a bird', ('eagle', 'owl', 'sparrow', 'parrot', 'robin', 'swan')
    ),
    Category(
        'fish', 'a fish', ('salmon', 'trout', 'tuna', 'cod', 'carp', 'herring')
    ),
    Category(
        'insect', 'an insect', ('ant', 'bee', 'wasp', 'beetle', 'moth', 'gnat')
    ),
    Category(
        'fruit',
        'a fruit',
        ('apple', 'pear', 'plum', 'cherry', 'peach', 'apricot'),
    ),
    Category(
        'flower',
        'a flower',
        ('rose', 'tulip', 'daisy', 'lily', 'orchid', 'violet'),
    ),
    Category(
        'tool',
        'a tool',
        ('hammer', 'saw', 'wrench', 'drill', 'chisel', 'screwdriver'),
    ),
    Category(
        'instrument',
        'an instrument',
        ('violin', 'cello', 'flute', 'trumpet', 'harp', 'oboe'),
    ),
    Category(
        'vehicle', 'a vehicle', ('car', 'bus', 'truck', 'van', 'taxi', 'tractor')
    ),
    Category(
        'garment',
        'a garment',
        ('shirt', 'coat', 'scarf', 'sweater', 'jacket', 'skirt'),
    ),
    Category(
        'furniture',
        'furniture',
        ('sofa', 'chair', 'desk', 'wardrobe', 'bed', 'stool'),
    ),
)

FACTS = (
    Fact(TRAIT, 'has hooves', 'mammal'),
    Fact(TRAIT, 'feeds milk to its young', 'mammal'),
    Fact(PLACE, 'in a barn', 'mammal', ('bird', 'insect', 'tool', 'vehicle')),
    Fact(PLACE, 'at a cattle market', 'mammal', ('vehicle', 'insect')),
    Fact(WORK, 'a farmer milks or shears', 'mammal'),
    Fact(WORK, 'a butcher buys alive', 'mammal', ('bird', 'fish')),
    Fact(MADE, 'covered with hair', 'mammal', ('insect', 'garment')),
    Fact(TRAIT, 'has a beak', 'bird'),
    Fact(TRAIT, 'hatches in a nest', 'bird', ('insect',)),
    Fact(PLACE, 'in an aviary', 'bird', ('insect', 'tool')),
    Fact(PLACE, 'up in the sky', 'bird', ('insect',)),
    Fact(WORK, 'an ornithologist studies', 'bird', ('insect',)),
    Fact(WORK, 'a cat stalks', 'bird', ('insect', 'fish')),
    Fact(MADE, 'covered with feathers', 'bird'),
    Fact(TRAIT, 'breathes through gills', 'fish'),
    Fact(TRAIT, 'steers with its fins', 'fish', ('vehicle',)),
    Fact(PLACE, 'in an aquarium', 'fish', ('flower',)),
    Fact(PLACE, 'under the water', 'fish', ('flower', 'bird')),
    Fact(WORK, 'an angler hopes to catch', 'fish'),
    Fact(WORK, 'a seal eats', 'fish', ('bird',)),
    Fact(MADE, 'covered with scales', 'fish'),
    Fact(TRAIT, 'has six legs', 'insect'),
    Fact(TRAIT, 'feels its way with antennae', 'insect'),
    Fact(PLACE, 'in a spider web', 'insect'),
    Fact(PLACE, 'behind the bark of a log', 'insect', ('bird',)),
    Fact(WORK, 'an entomologist collects', 'insect', ('flower',)),
    Fact(WORK, 'a frog snaps at', 'insect', ('fish',)),
    Fact(MADE, 'built from three segments', 'insect', ('furniture',)),
    Fact(TRAIT, 'ripens on a tree', 'fruit'),
    Fact(TRAIT, 'tastes sweet', 'fruit', ('flower',)),
    Fact(PLACE, 'in an orchard', 'fruit', ('bird', 'insect', 'vehicle')),
    Fact(PLACE, 'on top of a dessert', 'fruit', ('flower',)),
    Fact(USE, 'cook a pot of jam', 'fruit', ('flower',)),
    Fact(USE, 'fill a pie', 'fruit', ('fish', 'bird', 'mammal')),
    Fact(MADE, 'full of juice', 'fruit'),
    Fact(TRAIT, 'opens its petals', 'flower'),
    Fact(TRAIT, 'blooms in spring', 'flower'),
    Fact(PLACE, 'in a vase', 'flower'),
    Fact(PLACE, 'in a wedding bouquet', 'flower', ('fruit',)),
    Fact(USE, 'say sorry to a friend', 'flower', ('fruit', 'garment')),
    Fact(WORK, 'a florist wraps', 'flower'),
    Fact(MADE, 'rich in nectar', 'flower', ('fruit', 'insect')),
    Fact(TRAIT, 'helps with repairs', 'tool', ('vehicle',)),
    Fact(TRAIT, 'hangs above a workbench', 'tool', ('garment',)),
    Fact(PLACE, 'in a workshop', 'tool', ('furniture', 'vehicle')),
    Fact(PLACE, 'at a hardware store', 'tool', ('furniture', 'vehicle')),
    Fact(USE, 'mend a fence', 'tool', ('vehicle',)),
    Fact(USE, 'build a shed', 'tool', ('vehicle',)),
    Fact(WORK, 'a carpenter carries', 'tool', ('furniture', 'garment')),
    Fact(MADE, 'made of hardened steel', 'tool', ('vehicle',)),
    Fact(TRAIT, 'makes music', 'instrument', ('bird', 'insect')),
    Fact(TRAIT, 'has to be tuned', 'instrument', ('vehicle',)),
    Fact(PLACE, 'in an orchestra', 'instrument', ('furniture',)),
    Fact(PLACE, 'at a concert', 'instrument', ('furniture', 'garment')),
    Fact(USE, 'play a melody', 'instrument'),
    Fact(USE, 'accompany a singer', 'instrument'),
    Fact(WORK, 'a musician practises on', 'instrument', ('furniture',)),
    Fact(TRAIT, 'needs fuel', 'vehicle', ('tool',)),
    Fact(TRAIT, 'stops at a red light', 'vehicle'),
    Fact(PLACE, 'in a traffic jam', 'vehicle'),
    Fact(PLACE, 'on a car park', 'vehicle', ('bird', 'insect')),
    Fact(USE, 'travel to another town', 'vehicle', ('mammal',)),
    Fact(WORK, 'a mechanic repairs', 'vehicle', ('tool',)),
    Fact(MADE, 'made of sheet metal and tyres', 'vehicle'),
    Fact(TRAIT, 'has sleeves or seams', 'garment', ('furniture',)),
    Fact(TRAIT, 'goes into the washing machine', 'garment'),
    Fact(PLACE, 'on a clothes hanger', 'garment'),
    Fact(PLACE, 'in a laundry basket', 'garment'),
    Fact(USE, 'dress for a cold day', 'garment'),
    Fact(WORK, 'a tailor sews', 'garment', ('furniture',)),
    Fact(MADE, 'made of cloth', 'garment', ('furniture',)),
    Fact(TRAIT, 'stands in a room', 'furniture', ('flower', 'instrument')),
    Fact(TRAIT, 'is moved in when you rent a flat', 'furniture'),
    Fact(PLACE, 'in a bedroom', 'furniture', ('garment', 'insect', 'flower')),
    Fact(PLACE, 'in a doll house', 'furniture'),
    Fact(USE, 'fill an empty room', 'furniture', ('flower', 'instrument')),
    Fact(WORK, 'a joiner builds', 'furniture', ('instrument',)),
    Fact(MADE, 'made of wooden boards', 'furniture', ('instrument',)),
)

# How a question may be put. `{cue}` is the fact's; `{name}` somebody's name.
QUESTIONS = {
    TRAIT: (
        'Which of these {cue}?',
        'What {cue}?',
        'Which one of the following {cue}?',
        '{name} wants to see something that {cue}. What should it be?',
        '{name} is thinking of something that {cue}. What is it?',
        'If it {cue}, what could it be?',
    ),
    PLACE: (
        'Which of these would you find {cue}?',
        'What would you expect to see {cue}?',
        'What do people often come across {cue}?',
        '{name} saw something {cue}. What was it?',
        '{name} is looking for something {cue}. What could it be?',
        'Which one of the following belongs {cue}?',
    ),
    USE: (
        'What would you use to {cue}?',
        'Which of these helps you to {cue}?',
        'What does one need to {cue}?',
        '{name} wants to {cue}. What should it be?',
        '{name} is about to {cue}. What is needed?',
    ),
    WORK: (
        'Which of these is something that {cue}?',
        'What is it that {cue}?',
        'Which one of the following is a thing that {cue}?',
        '{name} drew something that {cue}. What was it?',
        '{name} is thinking of something that {cue}. What is it?',
    ),
    MADE: (
        'Which of these is {cue}?',
        'What is {cue}?',
        'Which one of the following is {cue}?',
        '{name} touched something that is {cue}. What was it?',
        'If it is {cue}, what could it be?',
    ),
}

# The same turned around, for the families that allow it.
NOT_QUESTIONS = {
    PLACE: (
        'Which of these would you not find {cue}?',
        'What would you not expect to see {cue}?',
        'Which one of the following does not belong {cue}?',
    ),
    WORK: (
        'Which of these is not something that {cue}?',
        'Which one of the following is not a thing that {cue}?',
    ),
    MADE: (
        'Which of these is not {cue}?',
        'Which one of the following is not {cue}?',
    ),
}

# How a rationale begins: what the fact says of a category.
STATEMENTS = {
    TRAIT: 'What {cue} is {noun}.',
    PLACE: 'What you find {cue} is {noun}.',
    USE: 'What you use to {cue} is {noun}.',
    WORK: 'What {cue} is {noun}.',
    MADE: 'What is {cue} is {noun}.',
}

NAMES = ('Anna', 'Ben', 'Clara', 'David', 'Emma', 'Felix', 'Grace', 'Henry')
