"""A session's mutants: drawn by places, so that no operator outweighs others.

Cosmic-ray has eleven mutants of a `+` and one of a condition. Places are drawn,
and then one mutant of each. Two runs with the same code and seed are the same.

The two stars of `{**a}` and the one of `def f(*, a)` are operators to it, too,
but few others can stand there: what is no Python is not drawn.
"""

import hashlib
import random
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence

from cosmic_ray import ast as trees
from cosmic_ray import mutating, work_item
from cosmic_ray.ast import ast_query

from tests.mutation import operators


def mutants_of(
  path: str, source: str, names: Iterable[str], unread: re.Pattern[str]
) -> list[work_item.WorkItem]:
  """Returns every mutant of a module that can change what it computes."""
  nodes = list(trees.ast_nodes(trees.get_ast(source)))
  found = []
  for name in names:
    one = operators.by_name(name)
    places = (
      (node, *place) for node in nodes for place in one.mutation_positions(node)
    )
    for number, (node, start, end) in enumerate(places):
      if not operators.planted_in(node, unread):
        continue
      spec = work_item.MutationSpec(
        module_path=path,
        operator_name=name,
        occurrence=number,
        start_pos=start,
        end_pos=end,
        definition_name=ast_query.ASTQuery(node).get_definition_name(),
      )
      key = f'{path}:{name}:{number}'.encode()
      job = hashlib.sha256(key).hexdigest()[:16]
      found.append(work_item.WorkItem.single(job, spec))
  return found


def planted(item: work_item.WorkItem, source: str) -> str:
  """Returns the source of a mutant's module with the mutant in it.

  Raises:
    LookupError: the source is another than that which it is a mutant of.
  """
  spec = item.mutations[0]
  found = mutating.mutate_code(
    source, operators.by_name(spec.operator_name), spec.occurrence
  )
  if found is None:
    raise LookupError(
      f'{spec.module_path}: no longer has the mutant {item.job_id}'
    )
  return found


def is_python(source: str) -> bool:
  """Whether a module can be compiled; else any test fails that imports it."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    try:
      compile(source, 'a mutant', 'exec', dont_inherit=True)
    except SyntaxError:
      return False
  return True


def _is_sound(item: work_item.WorkItem, source: str) -> bool:
  """Whether a mutant can be planted, and what comes of it is Python."""
  try:
    return is_python(planted(item, source))
  except AttributeError:
    # Cosmic-ray on `except (OSError, module.Error)`: a name with a dot.
    return False


def drawn(
  mutants: Sequence[work_item.WorkItem],
  sources: Mapping[str, str],
  count: int,
  seed: int,
) -> list[work_item.WorkItem]:
  """Returns mutants at `count` places, in an order of the seed's.

  Args:
    mutants: to draw from.
    sources: of their modules, by path.
    count: of the places, as far as there are so many that have a mutant.
    seed: of the draw.
  """
  places: dict[tuple, list[work_item.WorkItem]] = {}
  for item in mutants:
    spec = item.mutations[0]
    place = (spec.module_path, spec.start_pos, spec.end_pos)
    places.setdefault(place, []).append(item)
  rng = random.Random(seed)
  chosen = rng.sample(sorted(places), min(count, len(places)))
  firsts = [rng.choice(places[place]) for place in chosen]
  # Instead of what is no Python: by numbers of its own, so that the others are
  # drawn as they would be without.
  more = random.Random(f'{seed}, again')
  others = sorted(places.keys() - chosen)
  spare = more.sample(others, len(others))

  def mutant_at(place, first=None):
    rest = [item for item in places[place] if item is not first]
    order = [*([first] if first else []), *more.sample(rest, len(rest))]
    source = sources[place[0].as_posix()]
    return next((x for x in order if _is_sound(x, source)), None)

  found = []
  for place, first in zip(chosen, firsts, strict=True):
    mutant = mutant_at(place, first)
    while mutant is None and spare:
      mutant = mutant_at(spare.pop())
    found.append(mutant)
  return [*filter(None, found)]
