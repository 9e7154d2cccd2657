"""Memory traffic of a training step that no matrix product hides.

A layer's products take their time whatever else happens. What comes on top are
passes over arrays in main memory, whose number depends on what the backward
pass keeps and on whether the layers are unrolled: a loop copies what it keeps
into stacks.

The numbers are fitted to programs that TPU's compiler made of T5 1.1 base for
v5e:2x2, with rows of 256/96 and 512/192: unrolled layers with 'none', and loops
with 'minimal'. Loops with 'none', when they kept twice as much, had the traffic
of the unrolled ones, and wrote and read once what they kept; so for loops, what
is kept beyond 'minimal' counts twice. The other lines follow from what these
policies compute and keep. For other sizes and chips the sum is off by up to a
quarter, by about the same for all candidates.

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
  (False, 'none'): Passes(5.4, 3.0, 1.0),
  (False, 'minimal'): Passes(5.4, 3.0, 1.0),
  (False, 'full'): Passes(6.5, 4.0, 2.0),
  (True, 'none'): Passes(7.4, 7.0, 3.0),
  (True, 'minimal'): Passes(5.4, 3.0, 1.0),
  (True, 'full'): Passes(6.5, 4.0, 2.0),
}
# Over the logits in float32, [T, V].
LOGITS = 4.5
