"""Chips and how they are wired: the published figures behind the estimates."""

import dataclasses
import math
import re
from collections.abc import Sequence

from dss_jax.errors import DataError, did_you_mean

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """Published figures of a chip.

  Attributes:
    name: as in a topology.
    hbm_bytes: memory of a chip.
    flops: peak of bfloat16 matrix products, FLOP/s.
    hbm_bandwidth: bytes/s.
    link_bandwidth: bytes/s of one inter-chip link in one direction; 0 if plans
      don't use links.
    rank: dimensions of the torus.
    wraps_at: an extent that is a multiple of this closes to a ring.
    clock: cycles per second, in which TPU's compiler estimates.
  """

  name: str
  hbm_bytes: int
  flops: float
  hbm_bandwidth: float
  link_bandwidth: float = 0.0
  rank: int = 0
  wraps_at: int = 0
  clock: float = 0.0


# Google Cloud's pages on each generation; the links' published rates (400, 800
# and 800 Gbit/s per link and direction) are taken at 90%. The clocks are peaks
# divided by the FLOPs of a cycle. Of a product [4096, 4096] libtpu 0.0.52
# expects 126,900 a cycle on v5e, 252,200 on v5p and 455,700 on v6e; no less,
# and possible with matrix units of 128 x 128 or 256 x 256, are 2**17, 2**18 and
# 2**19. v4 has as many units as v5p, and a published clock.
TPUS = {
  chip.name: chip
  for chip in (
    Chip(
      'v4', 32 * GIB, 275e12, 1228e9, 45e9, rank=3, wraps_at=4, clock=1.05e9
    ),
    Chip(
      'v5e', 16 * GIB, 197e12, 819e9, 45e9, rank=2, wraps_at=16, clock=1.5e9
    ),
    Chip(
      'v5p', 95 * GIB, 459e12, 2765e9, 90e9, rank=3, wraps_at=4, clock=1.75e9
    ),
    Chip(
      'v6e', 32 * GIB, 918e12, 1640e9, 90e9, rank=2, wraps_at=16, clock=1.75e9
    ),
  )
}
GPUS = {
  chip.name: chip
  for chip in (
    Chip('l4', 24 * GIB, 121e12, 300e9),
    Chip('a100-40g', 40 * GIB, 312e12, 1555e9),
    Chip('a100-80g', 80 * GIB, 312e12, 2039e9),
    Chip('h100', 80 * GIB, 989e12, 3350e9),
    Chip('h200', 141 * GIB, 989e12, 4800e9),
  )
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Chips and how many in each direction.

  Attributes:
    name: as the user wrote it, such as 'v5e:4x4'.
    chip: the kind of chip.
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

  def bandwidth(self, spans: Sequence[int]) -> float:
    """Bytes/s that each chip of a group receives when all exchange parts.

    A chip receives from both sides along each direction that the group spans
    and in which the torus closes to a ring, else from one side (the chips at
    the end of a line have no more).

    Args:
      spans: the group's number of chips along each direction.
    """
    links = 0
    for extent, span in zip(self.extents, spans, strict=True):
      if span > 1:
        ring = span == extent and extent % self.chip.wraps_at == 0
        links += 2 if ring else 1
    return max(links, 1) * self.chip.link_bandwidth

  def group_bandwidth(self, places: Sequence[Sequence[int]]) -> float:
    """As `bandwidth`, of chips given by their coordinates."""
    axes = range(len(self.extents))
    return self.bandwidth([len({p[axis] for p in places}) for axis in axes])

  def distance(self, one: Sequence[int], other: Sequence[int]) -> int:
    """Number of links on the shortest path between two chips."""
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
