"""A session's mutants: drawn by places, so that no operator outweighs others.

Cosmic-ray has eleven mutants of a `+` and one of a condition. Places are drawn,
and then one mutant of each. Two runs with the same code and seed are the same.
"""

import hashlib
import random
import re
from collections.abc import Iterable, Sequence

from cosmic_ray import ast as trees
from cosmic_ray import work_item
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


def drawn(
  mutants: Sequence[work_item.WorkItem], count: int, seed: int
) -> list[work_item.WorkItem]:
  """Returns mutants at `count` places, in an order of the seed's."""
  places: dict[tuple, list[work_item.WorkItem]] = {}
  for item in mutants:
    spec = item.mutations[0]
    place = (spec.module_path, spec.start_pos, spec.end_pos)
    places.setdefault(place, []).append(item)
  rng = random.Random(seed)
  chosen = rng.sample(sorted(places), min(count, len(places)))
  return [rng.choice(places[place]) for place in chosen]
