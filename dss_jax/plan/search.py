"""Search for the best candidate.

Arithmetic first: every sensible candidate is counted (memory and a rough
time), what can't fit is dropped, and the rest is compiled, the most promising
first, until no further one promises to be clearly better.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from dss_jax.errors import DataError
from dss_jax.plan import counting

REMATS = ('none', 'minimal', 'full')
# Counted memory is within this factor of the compiler's, either way.
_SLACK = 1.15
# A candidate is worth compiling if it promises to save this part of the time.
_GAIN = 0.03
# In a search without a limit, one that promises to take up to this much more
# is compiled too: arithmetic, scaled by the best one's compiled time, has not
# been seen to say more than that of a faster one (docs/plans.md).
_DOUBT = 0.2


class Compiled(TypedDict, total=False):
  """The worker's result for a step, on one chip; sizes in bytes.

  One that is too large for the compiler has no figures of its program.
  """

  fits: bool
  needed: int
  limit: int
  parameters: int
  optimizer: int
  temporaries: int
  seconds: float
  flops: float
  hbm_bytes: float
  collective_bytes: Mapping[str, float]
  parts: Mapping[str, Mapping[str, float]]
  unknown_loops: int


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A candidate with its result.

  Attributes:
    candidate: how the step is laid out.
    result: from the worker; None if it was only counted.
    counted: kind of memory to bytes on a chip, by arithmetic.
    problem: why it can't be compiled, if so.
  """

  candidate: counting.Candidate
  result: Compiled | None
  counted: Mapping[str, float]
  problem: str | None = None

  @property
  def fits(self) -> bool:
    return bool(self.result and self.result['fits'])

  @property
  def size(self) -> float:
    """Bytes on a chip, by arithmetic."""
    return sum(self.counted.values())

  @property
  def rank(self) -> tuple[int, float]:
    """Sorts what fits by an example's time, then what doesn't by memory."""
    if self.result is None:
      return 1, float('inf')
    if self.fits:
      return 0, self.result['seconds'] / self.candidate.examples
    return 1, self.result['needed']


def candidates(
  workload: counting.Workload,
  rows: int,
  lengths: Sequence[int] | None = None,
  row_examples: float = 1.0,
) -> list[counting.Candidate]:
  """Returns all sensible ways to lay a step out.

  The chips along whole directions of the torus share a replica (JAX splits no
  direction), as far as their number divides the heads, the mlp and the
  vocabulary and leaves each chip whole rows. In training, batches are halved
  into microbatches as long as a chip has a row in each, and layers are unrolled
  or in a loop. Parameters are split over 'data' only where there is such an
  axis; in training, kernels are then gathered before their products or not.

  Args:
    workload: what is planned.
    rows: B.
    lengths: of a row, if not the run's.
    row_examples: how many examples a row holds on average.

  Raises:
    DataError: the batch can't be split over the chips.
  """
  model, topology = workload.model, workload.topology
  along = {1}
  for extent in topology.extents:
    along |= {extent * each for each in along}
  possible = [
    p
    for p in sorted(along)
    if rows % (topology.count // p) == 0
    and not any(n % p for n in (model.heads, model.mlp, model.vocab))
  ]
  if not possible:
    raise DataError(
      f'A batch of {rows} rows cannot be split over the {topology.count} chips'
      f' of {topology.name}: each chip needs whole rows, and at most'
      f' {model.heads} chips, the number of heads, share one. Give --batch_size'
      f' a multiple of {topology.count}.'
    )
  result = []
  for partitions in possible:
    data = topology.count // partitions
    each = rows // data
    # Decoding loops over layers: a step of it compiles once for all of them.
    remats: Sequence[str] = ('none',) if workload.decode else REMATS
    scans = (True,) if workload.decode else (False, True)
    halvings = 1 if workload.decode else each.bit_length()
    microbatches = [2**i for i in range(halvings) if each % 2**i == 0]
    # How many axes parameters are split over, and whether they are gathered.
    layouts = [(1, False)]
    if data > 1:
      layouts += [(2, False)] if workload.decode else [(2, False), (2, True)]
    result += [
      counting.Candidate(
        *(partitions, dims, remat, count, rows, scan, lengths, row_examples),
        gather,
      )
      for (dims, gather), remat, count, scan in itertools.product(
        layouts, remats, microbatches, scans
      )
    ]
  return result


def search(
  workload: counting.Workload,
  choices: Sequence[counting.Candidate],
  compile_step: Callable[[counting.Candidate], Compiled],
  limit: int,
) -> list[Outcome]:
  """Compiles the promising candidates.

  Args:
    workload: what is planned.
    choices: candidates to choose from.
    compile_step: returns the worker's result; may raise DataError for a
      candidate that can't be compiled.
    limit: how many compilations at most; 0 for every candidate that might be
      the best, as far as arithmetic is to be trusted.

  Returns:
    What was compiled, the best first.
  """
  counted = [Outcome(c, None, workload.memory(c)) for c in choices]
  most = workload.topology.chip.hbm_bytes * _SLACK
  promising = sorted(
    (o for o in counted if o.size <= most),
    key=lambda o: _counted_time(workload, o),
  )
  if not promising:
    # Let the compiler say by how much the smallest one is too large.
    promising = [min(counted, key=lambda o: o.size)]
  outcomes: list[Outcome] = []
  for each in promising:
    most_time = 1 - _GAIN if limit else 1 + _DOUBT
    if limit and len(outcomes) >= limit:
      break
    if _is_hopeless(workload, each, outcomes, most_time):
      break
    # One that needs less, as counted, may have been too large already.
    if any(o.result and not o.fits and each.size >= o.size for o in outcomes):
      continue
    try:
      result = compile_step(each.candidate)
      outcomes.append(dataclasses.replace(each, result=result))
    except DataError as error:
      outcomes.append(dataclasses.replace(each, problem=str(error)))
  return sorted(outcomes, key=lambda o: o.rank)


def _is_hopeless(
  workload: counting.Workload,
  each: Outcome,
  outcomes: Sequence[Outcome],
  most_time: float,
) -> bool:
  """Whether a candidate promises more than a part of the best one's time."""
  best = min(outcomes, key=lambda o: o.rank, default=None)
  if best is None or not best.fits:
    return False
  seconds = best.rank[1]
  # Arithmetic is off by about the same factor for all.
  factor = seconds / _counted_time(workload, best)
  return factor * _counted_time(workload, each) > seconds * most_time


def _counted_time(workload: counting.Workload, outcome: Outcome) -> float:
  """Seconds of an example, by arithmetic."""
  candidate = outcome.candidate
  return workload.seconds(candidate) / candidate.examples


def count_only(
  workload: counting.Workload, choices: Sequence[counting.Candidate]
) -> list[Outcome]:
  """Counts candidates where nothing can be compiled.

  Returns:
    Those that fit, by a rough time, at most eight; else the smallest.
  """
  counted = [Outcome(c, None, workload.memory(c)) for c in choices]
  most = workload.topology.chip.hbm_bytes
  fitting: dict[counting.Candidate, Outcome] = {}
  for each in counted:
    if each.size <= most:
      # More microbatches than it takes to fit gain nothing.
      whole = dataclasses.replace(each.candidate, microbatches=1)
      known = fitting.setdefault(whole, each)
      if each.candidate.microbatches < known.candidate.microbatches:
        fitting[whole] = each
  if not fitting:
    return [min(counted, key=lambda o: o.size)]
  return sorted(fitting.values(), key=lambda o: _counted_time(workload, o))[:8]


def shaped_candidates(
  workload: counting.Workload,
  rows: int,
  shapes: Sequence[tuple[int, int, float]],
) -> list[counting.Candidate]:
  """Returns the candidates of several lengths of rows.

  A step holds as many examples in rows of each shape, as far as each chip gets
  whole rows.

  Args:
    workload: what is planned.
    rows: B, of the first shape.
    shapes: L, T and the examples of an average row; the first is the run's own.
  """
  chips = workload.topology.count
  _, _, row_examples = shapes[0]
  found = candidates(workload, rows, None, row_examples)
  for *lengths, others in shapes[1:]:
    needed = rows * row_examples / others
    whole = max(1, round(needed / chips)) * chips
    found += candidates(workload, whole, tuple(lengths), others)
  return found
