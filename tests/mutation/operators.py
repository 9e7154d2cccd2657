"""Mutants: cosmic-ray's operators, three of our own, and where none is planted.

Cosmic-ray's change operators, comparisons, numbers and conditions. Ours are the
faults that reviews found by hand: a statement that is gone, an argument that is
not passed on, one reduction for another.
"""

import re
from collections.abc import Iterator, Sequence

import parso
from cosmic_ray import plugins
from cosmic_ray.operators import operator

Position = tuple[tuple[int, int], tuple[int, int]]

_SWAPS = (
  ('max', 'min'),
  ('maximum', 'minimum'),
  ('argmax', 'argmin'),
  ('any', 'all'),
  ('floor', 'ceil'),
  ('ones', 'zeros'),
  ('ones_like', 'zeros_like'),
  ('logical_and', 'logical_or'),
)
SWAPPED = {a: b for pair in _SWAPS for a, b in (pair, pair[::-1])}


def _parts(node) -> list:
  return getattr(node, 'children', [])


class RemoveStatement(operator.Operator):
  """Leaves out a call, a `raise`, or an assignment that changes a value.

  An assignment of a new name is kept: without it, what follows is a NameError.
  """

  def mutation_positions(self, node) -> Iterator[Position]:
    """Yields the place of a statement that can be left out."""
    if node.type == 'simple_stmt' and self._removable(node.children[0]):
      first = node.children[0]
      yield first.start_pos, first.end_pos

  def _removable(self, statement) -> bool:
    if statement.type == 'raise_stmt':
      return True
    if statement.type == 'atom_expr':
      return getattr(statement.children[-1], 'type', '') == 'trailer'
    if statement.type == 'expr_stmt':
      target, sign = statement.children[:2]
      augmented = sign.type == 'operator' and sign.value != '='
      return augmented or target.type == 'atom_expr'
    return False

  def mutate(self, node, index: int):
    """Returns the statement's line with `pass`."""
    del index
    first = node.children[0]
    prefix = first.get_first_leaf().prefix
    node.children[0] = parso.python.tree.Keyword(
      'pass', first.start_pos, prefix
    )
    return node

  @classmethod
  def examples(cls):
    """Returns cases of a call, a check, a sum and a place in a list."""
    return (
      operator.Example('f(x)\n', 'pass\n'),
      operator.Example('if x:\n  raise E\n', 'if x:\n  pass\n'),
      operator.Example('x += 1\n', 'pass\n'),
      operator.Example('x[0] = 1\n', 'pass\n'),
    )


class RemoveArgument(operator.Operator):
  """Leaves out a keyword argument of a call."""

  def mutation_positions(self, node) -> Iterator[Position]:
    """Yields the places of a call's keyword arguments."""
    for argument in self._keywords(node):
      yield argument.start_pos, argument.end_pos

  def _keywords(self, node) -> list:
    if node.type != 'trailer' or node.children[0].value != '(':
      return []
    inner = node.children[1]
    arguments = _parts(inner) if inner.type == 'arglist' else [inner]
    return [
      a
      for a in arguments
      if a.type == 'argument' and a.children[1].type == 'operator'
      if a.children[1].value == '='
    ]

  def mutate(self, node, index: int):
    """Returns the call without its keyword argument of that number."""
    argument = self._keywords(node)[index]
    if node.children[1] is argument:
      del node.children[1]
      return node
    siblings = node.children[1].children
    at = siblings.index(argument)
    if at + 1 < len(siblings):
      del siblings[at : at + 2]
    else:
      del siblings[at - 1 : at + 1]
    return node

  @classmethod
  def examples(cls):
    """Returns cases of one argument, the first and the last."""
    return (
      operator.Example('f(a=1)', 'f()'),
      operator.Example('f(a=1, b=2)', 'f( b=2)'),
      operator.Example('f(a=1, b=2)', 'f(a=1)', occurrence=1),
      operator.Example('f(x, a=1,)', 'f(x,)'),
    )


class SwapReduction(operator.Operator):
  """Calls `min` for `max`, `all` for `any`, and so on."""

  def mutation_positions(self, node) -> Iterator[Position]:
    """Yields the place of a name that is called."""
    if node.type == 'name' and node.value in SWAPPED:
      following = node.get_next_leaf()
      if following is not None and following.value == '(':
        yield node.start_pos, node.end_pos

  def mutate(self, node, index: int):
    """Returns the other name of the pair."""
    del index
    node.value = SWAPPED[node.value]
    return node

  @classmethod
  def examples(cls):
    """Returns a case of a function and of a method."""
    return (
      operator.Example('max(a, b)', 'min(a, b)'),
      operator.Example('x.all()', 'x.any()'),
    )


OWN = {o.__name__: o for o in (RemoveStatement, RemoveArgument, SwapReduction)}


def by_name(name: str) -> operator.Operator:
  """Returns an operator of cosmic-ray (`core/…`) or of our own."""
  return OWN[name]() if name in OWN else plugins.get_operator(name)()


def names(excluded: Sequence[str]) -> list[str]:
  """The operators without arguments, less those that a pattern matches."""
  known = [
    name
    for name in plugins.operator_names()
    if not plugins.get_operator(name).arguments()
  ]
  return [
    name
    for name in [*known, *OWN]
    if not any(re.fullmatch(pattern, name) for pattern in excluded)
  ]


def _is_annotation(node) -> bool:
  """Whether a node is what a parameter, result or variable is said to be."""
  parent = node.parent
  if parent is None:
    return False
  if parent.type in ('tfpdef', 'annassign'):
    at = 2 if parent.type == 'tfpdef' else 1
    return len(parent.children) > at and parent.children[at] is node
  return parent.type == 'funcdef' and parent.annotation is node


def planted_in(node, unread: re.Pattern[str]) -> bool:
  """Whether a mutant of a node can change what a program computes.

  Not in an annotation, the text of a message, or a statement that `unread`
  matches, such as a line of a log. A `raise` can go as a whole.
  """
  inside_raise = False
  while node is not None:
    if node.type == 'fstring' or _is_annotation(node) or inside_raise:
      return False
    if node.type == 'simple_stmt':
      return not unread.match(node.get_code().lstrip())
    inside_raise = node.type == 'raise_stmt'
    node = node.parent
  return True
