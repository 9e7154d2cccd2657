"""Memory traffic of a training step that no matrix product hides.

A layer's products take their time whatever else happens. What comes on top are
passes over arrays in main memory, whose number depends on what the backward
pass keeps and on whether the layers are unrolled: a loop copies what it keeps
into stacks.

The numbers are fitted to programs that TPU's compiler made of T5 1.1 base for
v5e:2x2, with rows of 256/96: unrolled layers with 'none' (256 rows), and loops
with 'none' and 'minimal' (128 rows). The other lines follow from what these
policies compute and keep; the last three numbers are fitted to unrolled layers
of small and base for v5e:2x2 and of base and large for v5e:4x4. A loop over
layers whose attention's weights fill most of a chip's fast memory (64 rows a
chip) took a quarter longer than these numbers say; unrolled layers didn't.
docs/plans.md compares other sizes and chips with them.

Axes: L encoder length, T decoder length, D embedding, H heads, F mlp.
"""

from typing import NamedTuple


class Passes(NamedTuple):
  """How often a layer's forward and backward pass walk over arrays.

  Attributes:
    weights: over attention's weights, [H, L, L] a row.
    hidden: over the residual stream, [L, D].
    inner: over what is inside a feed-forward block, [L, F].
  """

  weights: float
  hidden: float
  inner: float


# Whether layers are scanned, and the remat policy.
PASSES = {
  (False, 'none'): Passes(5.2, 3.0, 1.0),
  (False, 'minimal'): Passes(5.4, 3.0, 1.0),
  (False, 'full'): Passes(6.5, 4.0, 2.0),
  (True, 'none'): Passes(7.4, 7.0, 3.0),
  (True, 'minimal'): Passes(5.4, 3.0, 1.0),
  (True, 'full'): Passes(6.5, 4.0, 2.0),
}
# Over the logits in float32, [T, V].
LOGITS = 2.6
# What unrolled layers whose parameters are split over 'data' take besides,
# where the compiler moves parts of kernels while it multiplies, which it does
# on chips that are wired in two directions: passes over the residual stream,
# and the part of the transfers that is waited for.
MOVING = 18.0
OVERLAPPED = 0.2
# The part of the gathers that is waited for, where kernels are gathered first.
GATHERS = 0.1
