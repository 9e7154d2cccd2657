"""Search for the shape of packed rows that suits a data set.

Rows fill well if their two sides have the proportion of the data's inputs to
its targets. It differs a lot between data sets (a rationale of CommonsenseQA is
half as long as its question, one of SVAMP as long), so no shape suits all.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from dss_jax.pipeline import packing

# The fractions of encoder and decoder positions that a good shape fills.
GOOD = (0.95, 0.85)
# As many as the feature converter packs together.
WINDOW = 1024
# Accelerators prefer multiples of this many positions.
_STEP = 8
_LARGEST_TRIES = 24


class Lengths(NamedTuple):
  """Lengths of units in tokens, as in `packing`.

  Attributes:
    encoder: input tokens of each segment, [units, segments a unit].
    decoder: target tokens, same shape.
  """

  encoder: Int[np.ndarray, 'U S']
  decoder: Int[np.ndarray, 'U S']


class Fill(NamedTuple):
  """How full rows of a shape are.

  Attributes:
    row_shape: (L, T).
    encoder: the fraction of the encoder's positions that is not padding.
    decoder: that of the decoder's.
    units_a_row: examples (or pairs) in an average row.
  """

  row_shape: tuple[int, int]
  encoder: float
  decoder: float
  units_a_row: float

  @property
  def is_good(self) -> bool:
    """Whether both sides are as full as `GOOD`."""
    return self.encoder >= GOOD[0] and self.decoder >= GOOD[1]


def fill(lengths: Lengths, row_shape: tuple[int, int]) -> Fill:
  """Packs units in windows, as in training, and returns how full the rows are.

  Four units of 3 input and 2 target tokens fill two rows of (6, 8) like this:
  all 6 encoder positions, and 4 of 8 decoder positions.

  Args:
    lengths: of the units, in the order in which training sees them.
    row_shape: (L, T); longer units are cut as in training.
  """
  encoder, decoder = packing.trim_lengths(*lengths, row_shape)
  used = decoder.sum(1) > 0
  encoder, decoder = encoder[used].sum(1), decoder[used].sum(1)
  rows = 0
  for start in range(0, len(encoder), WINDOW):
    window = slice(start, start + WINDOW)
    assigned = packing.assign_rows(encoder[window], decoder[window], row_shape)
    rows += int(assigned.max()) + 1
  rows = max(rows, 1)
  return Fill(
    row_shape,
    float(encoder.sum() / (rows * row_shape[0])),
    float(decoder.sum() / (rows * row_shape[1])),
    len(encoder) / rows,
  )


def best(lengths: Lengths, length: int) -> Fill:
  """Finds how many targets a row of `length` inputs should hold.

  The result is the smallest number that cuts no unit's targets and reaches
  `GOOD`, or else the one that comes closest.

  Args:
    lengths: of the units.
    length: L.
  """
  encoder = np.minimum(lengths.encoder.sum(1), length)
  decoder = lengths.decoder.sum(1)
  longest = int(decoder.max())
  # The targets that belong to an encoder as full as it should be.
  needed = GOOD[0] * length * decoder.sum() / encoder.sum()
  targets = _STEP * math.ceil(max(longest, needed, 1) / _STEP)
  step = _STEP * max(1, round(targets / 40 / _STEP))
  tried: list[Fill] = []
  for _ in range(_LARGEST_TRIES):
    tried.append(fill(lengths, (length, targets)))
    if tried[-1].is_good or tried[-1].decoder < 0.8 * GOOD[1]:
      break
    targets += step
  return max(tried, key=_worth)


def recommended(fills: Sequence[Fill]) -> Fill:
  """Returns the shortest rows that fill well, or else those that fill best.

  Args:
    fills: of several lengths.
  """
  good = [shape for shape in fills if shape.is_good]
  if good:
    return min(good, key=lambda shape: shape.row_shape)
  return max(fills, key=_worth)


def _worth(shape: Fill) -> float:
  """Returns how close the emptier side comes to `GOOD`."""
  return min(shape.encoder / GOOD[0], shape.decoder / GOOD[1])
