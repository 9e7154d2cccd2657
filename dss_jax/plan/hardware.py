"""Chips and how they are wired: published figures that estimates rest on."""

import dataclasses
import math
import re
from collections.abc import Sequence

from dss_jax.errors import DataError, did_you_mean

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """What is published of a chip.

  Attributes:
    name: as in a topology.
    hbm_bytes: memory of a chip.
    flops: peak of bfloat16 matrix products, FLOP/s.
    hbm_bandwidth: bytes/s.
    link_bandwidth: bytes/s of one inter-chip link in one direction; 0 where
      plans don't look at them.
    rank: dimensions of the torus.
    wraps_at: extents that are a multiple of this close to a ring.
  """

  name: str
  hbm_bytes: int
  flops: float
  hbm_bandwidth: float
  link_bandwidth: float = 0.0
  rank: int = 0
  wraps_at: int = 0


def _tpu(name, gib, tflops, hbm_gb, link_gb, rank, wraps_at):
  return Chip(
    name,
    gib * GIB,
    tflops * 1e12,
    hbm_gb * 1e9,
    link_gb * 1e9,
    rank,
    wraps_at,
  )


# Google Cloud's pages on each generation; the links' published rates (400, 800
# and 800 Gbit/s a link and direction) are taken at 90%.
TPUS = {
  chip.name: chip
  for chip in (
    _tpu('v4', 32, 275, 1228, 45, 3, 4),
    _tpu('v5e', 16, 197, 819, 45, 2, 16),
    _tpu('v5p', 95, 459, 2765, 90, 3, 4),
    _tpu('v6e', 32, 918, 1640, 90, 2, 16),
  )
}

GPUS = {
  name: Chip(name, gib * GIB, tflops * 1e12, hbm_gb * 1e9)
  for name, gib, tflops, hbm_gb in (
    ('l4', 24, 121, 300),
    ('a100-40g', 40, 312, 1555),
    ('a100-80g', 80, 312, 2039),
    ('h100', 80, 989, 3350),
    ('h200', 141, 989, 4800),
  )
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Chips and how many in each direction.

  Attributes:
    name: as the user wrote it, such as 'v5e:4x4'.
    chip: of which kind.
    extents: of the torus; (1,) for one GPU.
  """

  name: str
  chip: Chip
  extents: tuple[int, ...]

  @property
  def is_tpu(self) -> bool:
    return self.chip.name in TPUS

  @property
  def count(self) -> int:
    """Number of chips."""
    return math.prod(self.extents)

  def group_bandwidth(self, places: Sequence[Sequence[int]]) -> float:
    """Bytes/s that each chip of a group takes in when all exchange parts.

    A chip takes from both sides along each direction in which the group lies
    and the torus closes to a ring, else from one side (the chips at the end of
    a line have no more).

    Args:
      places: coordinates of the group's chips.
    """
    links = 0
    for axis, extent in enumerate(self.extents):
      spanned = len({place[axis] for place in places})
      if spanned > 1:
        ring = spanned == extent and extent % self.chip.wraps_at == 0
        links += 2 if ring else 1
    return max(links, 1) * self.chip.link_bandwidth

  def distance(self, one: Sequence[int], other: Sequence[int]) -> int:
    """Links on the shortest way between two chips."""
    hops = 0
    for axis, extent in enumerate(self.extents):
      straight = abs(one[axis] - other[axis])
      ring = extent % self.chip.wraps_at == 0
      hops += min(straight, extent - straight) if ring else straight
    return hops


def parse(name: str) -> Topology:
  """Reads 'v5e:4x4', 'v5p:2x2x1' or 'gpu:h200'.

  Args:
    name: kind of chip and extents, or 'gpu:' and the kind of one GPU.

  Raises:
    DataError: it is none of these.
  """
  kind, _, rest = name.partition(':')
  if kind == 'gpu':
    if rest not in GPUS:
      raise DataError(
        f'--topology {name}: expected gpu: and one of {", ".join(GPUS)}.'
        + did_you_mean(rest, GPUS)
      )
    return Topology(name, GPUS[rest], (1,))
  if kind not in TPUS:
    raise DataError(
      f'--topology {name}: expected a TPU of {", ".join(TPUS)} with its'
      ' extents, such as v5e:4x4 or v5p:2x2x1, or gpu:h200.'
      + did_you_mean(kind, TPUS)
    )
  chip = TPUS[kind]
  if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*)+', rest) or (
    rest.count('x') + 1 != chip.rank
  ):
    example = {2: '4x4', 3: '2x2x1'}[chip.rank]
    raise DataError(
      f'--topology {name}: {kind} is wired in {chip.rank} directions, so that'
      f' {chip.rank} extents are expected, such as {kind}:{example}.'
    )
  return Topology(name, chip, tuple(int(n) for n in rest.split('x')))
