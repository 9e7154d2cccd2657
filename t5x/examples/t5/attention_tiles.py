"""The kernels of attention: what one of their calls computes, on a TPU.

`attention_kernel` says what the calls are, and gives them their blocks of the
arrays, by name; memory is what stays from call to call.

Axes: L keys, K head size; N blocks of P queries, G heads in a group, W numbers
in a window of diagonals.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

# Rows of a register.
SUBLANES = 8
# As in `attention`.
_MASKED = -1e10


class Options(NamedTuple):
  """What a kernel is made for.

  Attributes:
    causal: whether queries see no key after them.
    float32_logits: see `attention.dot_product_attention`.
    interpret: see `attention_kernel.INTERPRET`.
    most_queries: of a block.
  """

  causal: bool
  float32_logits: bool
  interpret: bool
  most_queries: int


class Tiling(NamedTuple):
  """How the calls of a kernel share the work.

  Attributes:
    batch: B.
    queries: Q.
    keys: L.
    heads: H.
    size: K.
    group: G.
    blocks: N.
    block: P.
    window: W.
  """

  batch: int
  queries: int
  keys: int
  heads: int
  size: int
  group: int
  blocks: int
  block: int
  window: int

  @property
  def lanes(self) -> int:
    """G * K."""
    return self.group * self.size

  def lanes_of(self, head: int) -> slice:
    """Where a head of a group is."""
    return slice(head * self.size, (head + 1) * self.size)

  @property
  def biases(self) -> tuple[int, ...]:
    """Shape of the biases of a group: [N, G, P, L]."""
    return self.blocks, self.group, self.block, self.keys


def forward(tiling: Tiling, options: Options, read, written, memory):
  """Writes what a block of queries attends to."""
  row, block = pl.program_id(1), pl.program_id(2)
  if memory:
    _lay_out_biases(tiling, read['window'], memory['bias'], row, block)
  visible = _visible(tiling, options, read, block)
  for head in range(tiling.group):
    lanes = tiling.lanes_of(head)
    bias = memory['bias'][block, head] if memory else None
    weights = _weights(tiling, options, read, bias, head, visible)
    value = read['value'][0, :, lanes]
    attended = _product(weights.astype(value.dtype), value)
    written['attended'][0, :, lanes] = attended.astype(value.dtype)


def backward(tiling: Tiling, options: Options, read, written, memory):
  """Writes the gradients of a block of queries, and sums the others."""
  row, block = pl.program_id(1), pl.program_id(2)
  has_bias = 'bias' in memory
  if has_bias:
    _lay_out_biases(tiling, read['window'], memory['bias'], row, block)
  visible = _visible(tiling, options, read, block)
  for head in range(tiling.group):
    lanes = tiling.lanes_of(head)
    query, key, value, attended, cotangent = (
      read[name][0, :, lanes]
      for name in ('query', 'key', 'value', 'attended', 'cotangent')
    )
    bias = memory['bias'][block, head] if has_bias else None
    weights = _weights(tiling, options, read, bias, head, visible)
    mean = jnp.sum(
      cotangent.astype(jnp.float32) * attended.astype(jnp.float32),
      axis=-1,
      keepdims=True,
    )
    change = weights * (_product(cotangent, value, (1, 1)) - mean)
    change = jnp.where(visible, change, 0.0).astype(query.dtype)
    grad_query = _product(change, key).astype(query.dtype)
    written['query'][0, :, lanes] = grad_query
    weights = weights.astype(query.dtype)
    for name, summand in (
      ('key', _product(change, query, (0, 0))),
      ('value', _product(weights, cotangent, (0, 0))),
    ):
      _add(memory[name], (slice(None), lanes), summand, block == 0)
    if has_bias:
      _add(memory['grad_bias'], (block, head), change, row == 0)

  @pl.when(block == tiling.blocks - 1)
  def _():
    for name in ('key', 'value'):
      written[name][0] = memory[name][...].astype(written[name].dtype)

  if has_bias:

    @pl.when(row == tiling.batch - 1)
    def _():
      _sum_diagonals(tiling, memory['grad_bias'], written['window'], block)


def _add(ref, index, summand, is_first) -> None:
  """Adds to a part of a memory, which holds nothing before the first time."""
  summand = summand.astype(ref.dtype)

  @pl.when(is_first)
  def _():
    ref[index] = summand

  @pl.when(jnp.logical_not(is_first))
  def _():
    ref[index] += summand


def _product(x, y, contracted=(1, 0)):
  """A matrix product over an axis of each, summed and returned in float32."""
  left, right = contracted
  return jax.lax.dot_general(
    x, y, (((left,), (right,)), ((), ())), preferred_element_type=jnp.float32
  )


def _visible(tiling: Tiling, options: Options, read, block):
  """Returns which keys each query of a block may see: [P, L]."""
  # Its ids are a row of lanes, and are needed as a column.
  ids = jnp.broadcast_to(read['query_ids'][0, 0], (SUBLANES, tiling.block))
  visible = ids.T[:, :1] == read['key_ids'][0]
  if options.causal:
    shape = tiling.block, tiling.keys
    first = block * tiling.block
    queries = first + jax.lax.broadcasted_iota(jnp.int32, shape, 0)
    visible &= jax.lax.broadcasted_iota(jnp.int32, shape, 1) <= queries
  return visible


def _weights(tiling: Tiling, options: Options, read, bias, head, visible):
  """Returns the weights of a head's keys for a block of queries: [P, L]."""
  lanes = tiling.lanes_of(head)
  query, key = read['query'][0, :, lanes], read['key'][0, :, lanes]

  def rounded(x):
    if options.float32_logits:
      return x
    return x.astype(query.dtype).astype(jnp.float32)

  logits = rounded(_product(query, key, (1, 1)))
  if bias is not None:
    logits = rounded(logits + bias)
  logits = jnp.where(visible, logits, _MASKED)
  shares = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
  return shares * (1.0 / jnp.sum(shares, axis=-1, keepdims=True))


# ---- Diagonals, inside a kernel ---------------------------------------------

# Eight queries are the rows of a register. Where the window of the block's last
# one starts with its first key, that of query P - 1 - n does n numbers later.


def _lay_out_biases(tiling: Tiling, window, bias, row, block) -> None:
  """Writes the biases of a block, [G, P, L], in a group's first row."""

  @pl.when(row == 0)
  def _():
    for head in range(tiling.group):
      shape = SUBLANES, tiling.window
      eight = _staggered(
        tiling, jnp.broadcast_to(window[head, block], shape), -1
      )

      @pl.loop(0, tiling.block // SUBLANES)
      def _(n, head=head, eight=eight):
        first = pl.multiple_of(n * SUBLANES, SUBLANES)
        rows = _turned(tiling, eight, first + SUBLANES - tiling.block)
        bias[block, head, pl.ds(first, SUBLANES)] = rows[:, : tiling.keys]


def _sum_diagonals(tiling: Tiling, grad_bias, grad_window, block) -> None:
  """Writes the sums over a block's diagonals, its window's gradients."""
  beyond = jnp.zeros((SUBLANES, tiling.window - tiling.keys), jnp.float32)
  for head in range(tiling.group):

    def add(n, total, head=head):
      first = pl.multiple_of(n * SUBLANES, SUBLANES)
      rows = grad_bias[block, head, pl.ds(first, SUBLANES)]
      rows = jnp.concatenate([rows, beyond], axis=1)
      return total + _turned(tiling, rows, tiling.block - SUBLANES - first)

    total = jnp.zeros((SUBLANES, tiling.window), jnp.float32)
    total = jax.lax.fori_loop(0, tiling.block // SUBLANES, add, total)
    total = _staggered(tiling, total, 1)
    grad_window[head, block] = jnp.sum(total, axis=0, keepdims=True)


def _turned(tiling: Tiling, x, lanes):
  """Turns rows of a window to the right, by any number of lanes."""
  return pltpu.roll(x, (lanes + tiling.window) % tiling.window, 1)


def _staggered(tiling: Tiling, x, step: int):
  """Turns row i of eight by (7 - i) * step lanes."""
  left = SUBLANES - 1 - jax.lax.broadcasted_iota(jnp.int32, x.shape, 0)
  for bit in (1, 2, 4):
    x = jnp.where(left & bit > 0, _turned(tiling, x, bit * step), x)
  return x
