"""Memory traffic of a training step that no matrix product hides.

A layer's products take their time whatever else happens. What comes on top are
passes over arrays in main memory, whose number depends on what the backward
pass keeps and on whether the layers are unrolled: a loop copies what it keeps
into stacks.

The numbers are fitted to programs that TPU's compiler made of T5 1.1 base for
v5e:2x2, with rows of 256/96: unrolled layers with 'none' (256 rows), and loops
with 'none' and 'minimal' (128 rows). The other lines follow from what these
policies compute and keep. A loop over layers whose attention's weights fill
most of a chip's fast memory (64 rows a chip) took a quarter longer than these
numbers say; unrolled layers didn't. T5 1.1 small with unrolled layers agrees;
other sizes and chips have not been compared with these numbers.

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
