"""Chooses what to compile, and finds the best.

Arithmetic first: every sensible candidate is counted (memory and a rough
time), what can't fit is dropped, and the rest compiled, the most promising
first, until no further one promises to be clearly better.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dss_jax.errors import DataError
from dss_jax.plan import counting, hardware

REMATS = ('none', 'minimal', 'full')
# Counted memory is this far from the compiler's, either way.
_SLACK = 1.15
# A candidate is worth compiling if it promises to save this part of the time.
_GAIN = 0.03


@dataclasses.dataclass(frozen=True)
class Found:
  """A candidate and what came out.

  Attributes:
    candidate: how the step is laid out.
    result: from the worker; None if it was only counted.
    counted: kind of memory to bytes on a chip, by arithmetic.
    problem: why it can't be compiled, if so.
  """

  candidate: counting.Candidate
  result: Mapping[str, Any] | None
  counted: Mapping[str, float]
  problem: str | None = None

  @property
  def fits(self) -> bool:
    return bool(self.result and self.result['fits'])


def candidates(
  model: counting.Model, topology: hardware.Topology, rows: int
) -> list[counting.Candidate]:
  """All sensible ways to lay a training step out.

  The chips along whole directions of the torus share a replica (JAX splits no
  direction), as far as their number divides the heads, the mlp and the
  vocabulary and leaves each chip whole rows. Batches are halved
  into microbatches as long as a chip has a row in each. Parameters are split
  over 'data' only where there is such an axis.

  Args:
    model: what is trained.
    topology: the chips.
    rows: B.
  """
  result = []
  for partitions in _partitions(model, topology, rows):
    data = topology.count // partitions
    each = rows // data
    microbatches = [2**i for i in range(each.bit_length()) if each % 2**i == 0]
    for dims in (1, 2) if data > 1 else (1,):
      for remat in REMATS:
        result += [
          counting.Candidate(partitions, dims, remat, count, rows)
          for count in microbatches
        ]
  return result


def decode_candidates(
  model: counting.Model, topology: hardware.Topology, rows: int
) -> list[counting.Candidate]:
  """All sensible ways to lay decoding out."""
  return [
    counting.Candidate(partitions, dims, 'none', 1, rows)
    for partitions in _partitions(model, topology, rows)
    for dims in ((1, 2) if topology.count > partitions else (1,))
  ]


def _partitions(
  model: counting.Model, topology: hardware.Topology, rows: int
) -> list[int]:
  chips = topology.count
  along = {1}
  for extent in topology.extents:
    along |= {extent * each for each in along}
  found = [
    p
    for p in sorted(along)
    if rows % (chips // p) == 0
    and not any(n % p for n in (model.heads, model.mlp, model.vocab))
  ]
  if not found:
    raise DataError(
      f'A batch of {rows} rows cannot be split over the {chips} chips of'
      f' {topology.name}: each chip needs whole rows, and at most'
      f' {model.heads} chips, the number of heads, share one. Give --batch_size'
      f' a multiple of {chips}.'
    )
  return found


def counted_bytes(
  model: counting.Model, candidate: counting.Candidate, chips: int, decode: bool
) -> Mapping[str, float]:
  """Memory of a chip by kind, by arithmetic."""
  kinds = dict(counting.memory(model, candidate, chips))
  if decode:
    data = chips // candidate.partitions
    for kind in ('optimizer', 'gradients'):
      kinds[kind] = 0.0
    # Keys and values of both attentions of the decoder.
    kinds['activations'] = (
      candidate.rows
      / data
      * 2
      * 2
      * model.decoder_layers
      * model.joined
      / candidate.partitions
      * (model.inputs + model.targets)
    )
  return kinds


def search(
  model: counting.Model,
  topology: hardware.Topology,
  choices: Sequence[counting.Candidate],
  compile_step: Callable[[counting.Candidate], Mapping[str, Any]],
  limit: int,
  decode: bool = False,
) -> list[Found]:
  """Compiles the promising candidates.

  Args:
    model: what is planned.
    topology: the chips.
    choices: candidates to choose from.
    compile_step: returns the worker's result; may raise DataError for a
      candidate that can't be compiled.
    limit: how many compilations at most; 0 for every candidate that arithmetic
      lets through.
    decode: whether it is decoding, and not a training step.

  Returns:
    What was compiled, the best first: what fits by time, then what doesn't by
    memory.
  """
  hbm = topology.chip.hbm_bytes
  counted = {
    c: counted_bytes(model, c, topology.count, decode) for c in choices
  }
  rough = _rough(model, topology, decode)
  promising = sorted(
    (c for c in choices if sum(counted[c].values()) <= hbm * _SLACK),
    key=rough,
  )
  if not promising:
    # Let the compiler say by how much the smallest one is too large.
    promising = [min(choices, key=lambda c: sum(counted[c].values()))]
  found: list[Found] = []
  for candidate in promising:
    if limit and (len(found) >= limit or _is_hopeless(rough, candidate, found)):
      break
    if _needs_more_than_failed(candidate, counted, found):
      continue
    try:
      result, problem = compile_step(candidate), None
    except DataError as error:
      result, problem = None, str(error)
    found.append(Found(candidate, result, counted[candidate], problem))
  return sorted(found, key=_rank)


def _rank(found: Found) -> tuple:
  if found.fits:
    return 0, found.result['seconds']
  needed = found.result['needed'] if found.result else float('inf')
  return 1, needed


def _rough(
  model: counting.Model, topology: hardware.Topology, decode: bool
) -> Callable[[counting.Candidate], float]:
  """The rough time of a candidate."""
  count = counting.decode_seconds if decode else counting.seconds
  return lambda candidate: count(model, candidate, topology)


def _is_hopeless(rough, candidate, found) -> bool:
  """Whether a candidate promises no gain over the best that fits."""
  fitting = [f for f in found if f.fits]
  if not fitting:
    return False
  best = min(fitting, key=_rank)
  # Arithmetic is off by much the same factor for all.
  factor = best.result['seconds'] / rough(best.candidate)
  promised = factor * rough(candidate)
  return promised > best.result['seconds'] * (1 - _GAIN)


def _needs_more_than_failed(candidate, counted, found) -> bool:
  """Whether one that needs less, as counted, was too large already."""
  size = sum(counted[candidate].values())
  return any(
    f.result is not None
    and not f.fits
    and size >= sum(counted[f.candidate].values())
    for f in found
  )


def count_only(
  model: counting.Model,
  topology: hardware.Topology,
  choices: Sequence[counting.Candidate],
  decode: bool = False,
) -> list[Found]:
  """Counts candidates where nothing can be compiled.

  Returns:
    Those that fit, by a rough time, at most eight; else the smallest.
  """
  founds = [
    Found(c, None, counted_bytes(model, c, topology.count, decode))
    for c in choices
  ]
  fitting = [
    f for f in founds if sum(f.counted.values()) <= topology.chip.hbm_bytes
  ]
  if not fitting:
    return [min(founds, key=lambda f: sum(f.counted.values()))]
  rough = _rough(model, topology, decode)
  return sorted(fitting, key=lambda f: rough(f.candidate))[:8]
