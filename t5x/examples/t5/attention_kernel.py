"""Attention in one kernel, for TPUs: its weights stay in the chip's own memory.

The kernel computes the same numbers as `attention.dot_product_attention` does,
forward and backward. Position biases come as the numbers of their diagonals and
masks as segments, so that nothing of the size Q * L is in main memory.

A call of the kernel has a block of queries, all keys, and a group of heads that
together fill the lanes of a register. Calls follow each other by group, row and
block: the biases of a group are laid out once, in a call of its first row, and
their gradients are summed over rows and reduced in one of its last row.

Axes: B batch, Q query length, L key length, H heads, K head size; N blocks of P
queries, G heads in a group, W numbers in a window of diagonals.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.linen import partitioning
from jax import ad_checkpoint
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from t5x import errors
from t5x.examples.t5 import dense, masks

# Tests compute the kernel's operations with NumPy's semantics on any machine.
INTERPRET = False

# As many queries as a call has at most.
_MOST_QUERIES = 256
_LANES = 128
_SUBLANES = 8
# As in `attention`.
_MASKED = -1e10
# Of the chip's own memory; the compiler's default is less than it has.
_MEMORY_LIMIT = 64 * 2**20

_FORWARD_PRODUCTS = 2
_BACKWARD_PRODUCTS = 5


class _Options(NamedTuple):
  """What a kernel is made for.

  Attributes:
    causal: whether queries see no key after them.
    float32_logits: see `attention.dot_product_attention`.
    interpret: see `INTERPRET`.
    most_queries: of a block.
  """

  causal: bool
  float32_logits: bool
  interpret: bool
  most_queries: int


def attend(
  query: Float[Array, 'B Q H K'],
  key: Float[Array, 'B L H K'],
  value: Float[Array, 'B L H K'],
  diagonals: Float[Array, 'H _'] | None,
  mask: masks.SegmentMask,
  float32_logits: bool = False,
  most_queries: int = _MOST_QUERIES,
) -> Float[Array, 'B Q H K']:
  """Returns what `attention.dot_product_attention` does, without dropout.

  On a mesh each device computes its rows and heads, as the rules of the
  partitioner split them.

  Args:
    query: queries, of the type to compute in.
    key: keys, of the same type.
    value: values, with dropout's zeros.
    diagonals: [H, Q + L - 1], from `RelativePositionBiases.diagonals`; None for
      no bias.
    mask: which pairs are visible.
    float32_logits: see `attention.dot_product_attention`.
    most_queries: how many queries a call of the kernel has at most.

  Raises:
    errors.UserError: no TPU computes it, or the mesh doesn't divide the heads.
  """
  interpret = INTERPRET
  if not interpret:
    _check_platform()
  options = _Options(mask.causal, float32_logits, interpret, most_queries)
  operands = query, key, value, diagonals, mask.query, mask.key
  return _attention(*operands, options)


def _check_platform() -> None:
  mesh = jax.sharding.get_abstract_mesh()
  device = None if mesh.empty else mesh.abstract_device
  platform = device.platform if device else jax.default_backend()
  if platform != 'tpu':
    raise errors.UserError(
      f"T5Config.attention_kernel: 'pallas' needs a TPU, found {platform!r};"
      " set attention_kernel = 'xla', or leave out gin/engine/pallas.gin."
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attention(query, key, value, diagonals, query_ids, key_ids, options):
  operands = query, key, value, diagonals, query_ids, key_ids
  return _attention_fwd(*operands, options)[0]


def _attention_fwd(query, key, value, diagonals, query_ids, key_ids, options):
  operands = query, key, value, diagonals, query_ids, key_ids
  rows, heads, ids = _layouts(query)
  attended = _on_mesh(
    functools.partial(_forward, options), (rows, rows, rows, heads, ids, ids), rows
  )(*operands)
  # Named here, since what is named outside is another value to a policy than
  # the one that is saved.
  attended = ad_checkpoint.checkpoint_name(attended, dense.PRODUCT)
  return attended, (operands, attended)


def _attention_bwd(options, saved, cotangent):
  operands, attended = saved
  rows, heads, ids = _layouts(cotangent)

  def backward(*arrays):
    *grads, grad_diagonals = _backward(options, *arrays)
    if grad_diagonals is not None and rows[0] is not None:
      grad_diagonals = jax.lax.psum(grad_diagonals, rows[0])
    return *grads, grad_diagonals

  grads = _on_mesh(
    backward,
    (rows, rows, rows, heads, ids, ids, rows, rows),
    (rows, rows, rows, heads),
  )(*operands, attended, cotangent)
  return *grads, None, None


_attention.defvjp(_attention_fwd, _attention_bwd)


# ---- Over the devices of a mesh ---------------------------------------------


def _layouts(query) -> tuple[PartitionSpec, PartitionSpec, PartitionSpec]:
  """Returns how [B, Q, H, K], [H, _] and [B, Q] are split over the mesh.

  Raises:
    errors.UserError: the mesh doesn't divide the heads.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return PartitionSpec(None), PartitionSpec(None), PartitionSpec(None)
  names = 'batch', 'length', 'heads', 'kv'
  spec = partitioning.logical_to_mesh_axes(names) or (None,) * len(names)
  batch, _, heads, _ = (x if isinstance(x, str) else None for x in spec)
  if heads is not None and query.shape[2] % mesh.shape[heads]:
    raise errors.UserError(
      "T5Config.attention_kernel: 'pallas' needs a number of heads that the"
      f' mesh divides, found {query.shape[2]} heads on {mesh.shape[heads]}'
      ' partitions; change num_partitions.'
    )
  return (
    PartitionSpec(batch, None, heads, None),
    PartitionSpec(heads, None),
    PartitionSpec(batch, None),
  )


def _on_mesh(function: Callable, in_specs: Any, out_specs: Any) -> Callable:
  """Returns a function that each device runs on its part of the arguments."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return function
  return jax.shard_map(
    function,
    mesh=mesh,
    in_specs=in_specs,
    out_specs=out_specs,
    # A kernel does not say what its results vary over.
    check_vma=False,
  )


# ---- On one device ----------------------------------------------------------


class _Tiling(NamedTuple):
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


def _tiling(query, key, options: _Options) -> _Tiling:
  batch, queries, heads, size = query.shape
  keys = key.shape[1]
  filling = [
    n for n in range(1, heads) if heads % n == 0 and n * size % _LANES == 0
  ]
  blocks = pl.cdiv(queries, options.most_queries)
  block = _round_up(pl.cdiv(queries, blocks), _SUBLANES)
  return _Tiling(
    *(batch, queries, keys, heads, size),
    group=min(filling, default=heads),
    blocks=blocks,
    block=block,
    window=_round_up(keys + block - 1, _LANES),
  )


def _round_up(n: int, multiple: int) -> int:
  return pl.cdiv(n, multiple) * multiple


def _of_queries(tiling: _Tiling, x):
  """Maps [B, Q, H, K] to [B, N * P, H * K], with zeros at the end."""
  missing = tiling.blocks * tiling.block - tiling.queries
  x = x.reshape(*x.shape[:2], -1)
  return jnp.pad(x, ((0, 0), (0, missing), (0, 0)))


def _windows(tiling: _Tiling, diagonals):
  """Maps [H, Q + L - 1] to [H, N, 1, W], what each block needs of them.

  Number i of a window is the bias of the block's last query to key i, and of
  its query P - 1 - n to key i - n.
  """
  ends = [tiling.block * (n + 1) for n in range(tiling.blocks)]
  starts = [tiling.queries - end for end in ends]
  before = max(0, -starts[-1])
  after = max(0, starts[0] + tiling.window - diagonals.shape[1])
  padded = jnp.pad(
    diagonals.astype(jnp.float32), ((0, 0), (before, after))
  )
  starts = [before + start for start in starts]
  windows = [padded[:, start : start + tiling.window] for start in starts]
  return jnp.stack(windows, axis=1)[:, :, None]


# Arrays by name, and the block of each that a call has.
_Arrays = dict[str, jax.Array]
_Blocks = dict[str, pl.BlockSpec]


def _inputs(tiling: _Tiling, operands) -> tuple[_Arrays, _Blocks]:
  """Returns what both kernels read."""
  query, key, value, diagonals, query_ids, key_ids = operands
  of_queries = pl.BlockSpec(
    (1, tiling.block, tiling.lanes), lambda h, b, n: (b, n, h)
  )
  of_keys = pl.BlockSpec(
    (1, tiling.keys, tiling.lanes), lambda h, b, n: (b, 0, h)
  )
  missing = tiling.blocks * tiling.block - tiling.queries
  query_ids = jnp.pad(query_ids, ((0, 0), (0, missing)))
  arrays = {
    'query': _of_queries(tiling, query),
    'key': key.reshape(*key.shape[:2], -1),
    'value': value.reshape(*key.shape[:2], -1),
    'query_ids': query_ids.reshape(tiling.batch, tiling.blocks, 1, -1),
    # A key that is padding has the id of no query.
    'key_ids': jnp.where(key_ids > 0, key_ids, -1)[:, None],
  }
  blocks = {
    'query': of_queries,
    'key': of_keys,
    'value': of_keys,
    'query_ids': pl.BlockSpec(
      (1, 1, 1, tiling.block), lambda h, b, n: (b, n, 0, 0)
    ),
    'key_ids': pl.BlockSpec((1, 1, tiling.keys), lambda h, b, n: (b, 0, 0)),
  }
  if diagonals is not None:
    arrays['window'] = _windows(tiling, diagonals)
    blocks['window'] = pl.BlockSpec(
      (tiling.group, tiling.blocks, 1, tiling.window),
      lambda h, b, n: (h, 0, 0, 0),
    )
  return arrays, blocks


def _call(
  kernel: Callable[..., None],
  tiling: _Tiling,
  options: _Options,
  products: int,
  inputs: tuple[_Arrays, _Blocks],
  outputs: tuple[_Arrays, _Blocks],
  memory: dict[str, tuple[int, ...]],
) -> _Arrays:
  """Runs a kernel over all groups, rows and blocks.

  Args:
    kernel: see below; it gets the blocks of inputs, those of outputs, and its
      memory, by name.
    tiling: of the work.
    options: of the kernel.
    products: how many it has of the size of the logits'.
    inputs: what it reads.
    outputs: arrays of the shapes and types that it writes.
    memory: shapes of what it keeps from call to call, in float32.
  """
  pairs = tiling.batch * tiling.heads * tiling.queries * tiling.keys
  moved = [*inputs[0].values(), *outputs[0].values()]
  return pl.pallas_call(
    functools.partial(kernel, tiling, options),
    grid=(tiling.heads // tiling.group, tiling.batch, tiling.blocks),
    in_specs=[inputs[1]],
    out_specs=outputs[1],
    out_shape={
      name: jax.ShapeDtypeStruct(x.shape, x.dtype)
      for name, x in outputs[0].items()
    },
    scratch_shapes=[
      {name: pltpu.VMEM(shape, jnp.float32) for name, shape in memory.items()}
    ],
    interpret=options.interpret,
    compiler_params=pltpu.CompilerParams(
      # A group's rows and blocks follow each other.
      dimension_semantics=('parallel', 'arbitrary', 'arbitrary'),
      vmem_limit_bytes=_MEMORY_LIMIT,
    ),
    cost_estimate=pl.CostEstimate(
      flops=2 * products * pairs * tiling.size,
      transcendentals=pairs,
      bytes_accessed=sum(x.size * x.dtype.itemsize for x in moved),
    ),
  )(inputs[0])


def _forward(options: _Options, *operands):
  """Attention of the rows and heads of one device."""
  query, diagonals = operands[0], operands[3]
  tiling = _tiling(query, operands[1], options)
  arrays, blocks = _inputs(tiling, operands)
  found = _call(
    _forward_kernel,
    tiling,
    options,
    _FORWARD_PRODUCTS,
    (arrays, blocks),
    ({'attended': arrays['query']}, {'attended': blocks['query']}),
    {} if diagonals is None else {'bias': tiling.biases},
  )
  return found['attended'][:, : tiling.queries].reshape(query.shape)


def _backward(options: _Options, *operands_and_results):
  """Gradients of queries, keys, values and diagonals, on one device."""
  *operands, attended, cotangent = operands_and_results
  query, key, _, diagonals, *_ = operands
  tiling = _tiling(query, key, options)
  arrays, blocks = _inputs(tiling, operands)
  names = [n for n in ('query', 'key', 'value', 'window') if n in arrays]
  outputs = {n: arrays[n] for n in names}, {n: blocks[n] for n in names}
  for name, x in (('attended', attended), ('cotangent', cotangent)):
    arrays[name] = _of_queries(tiling, x)
    blocks[name] = blocks['query']
  of_keys = tiling.keys, tiling.lanes
  memory: dict[str, tuple[int, ...]] = {'key': of_keys, 'value': of_keys}
  if diagonals is not None:
    memory |= {'bias': tiling.biases, 'grad_bias': tiling.biases}
  grads = _call(
    _backward_kernel,
    tiling,
    options,
    _BACKWARD_PRODUCTS,
    (arrays, blocks),
    outputs,
    memory,
  )
  grad_diagonals = None
  if diagonals is not None:
    spread = functools.partial(_windows, tiling)
    (grad_diagonals,) = jax.vjp(spread, diagonals)[1](grads['window'])
  return (
    grads['query'][:, : tiling.queries].reshape(query.shape),
    grads['key'].reshape(key.shape),
    grads['value'].reshape(key.shape),
    grad_diagonals,
  )


# ---- Kernels ----------------------------------------------------------------


def _forward_kernel(tiling: _Tiling, options: _Options, read, written, memory):
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


def _backward_kernel(tiling: _Tiling, options: _Options, read, written, memory):
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


def _visible(tiling: _Tiling, options: _Options, read, block):
  """Returns which keys each query of a block may see: [P, L]."""
  # Its ids are a row of lanes, and are needed as a column.
  ids = jnp.broadcast_to(read['query_ids'][0, 0], (_SUBLANES, tiling.block))
  visible = ids.T[:, :1] == read['key_ids'][0]
  if options.causal:
    shape = tiling.block, tiling.keys
    first = block * tiling.block
    queries = first + jax.lax.broadcasted_iota(jnp.int32, shape, 0)
    visible &= jax.lax.broadcasted_iota(jnp.int32, shape, 1) <= queries
  return visible


def _weights(tiling: _Tiling, options: _Options, read, bias, head, visible):
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


def _lay_out_biases(tiling: _Tiling, window, bias, row, block) -> None:
  """Writes the biases [P, L] of each head for a block, in a group's first row.

  Query i of the block has the window from its number P - 1 - i on.
  """

  @pl.when(row == 0)
  def _():
    for head in range(tiling.group):
      # Eight queries, each a register's row; the next eight are the same, eight
      # numbers to the right.
      last = jnp.broadcast_to(
        window[head, block], (_SUBLANES, tiling.window)
      )
      eight = _shifted_rows(tiling, last, lambda i: i - (_SUBLANES - 1))
      for first in range(0, tiling.block, _SUBLANES):
        shift = first + _SUBLANES - tiling.block
        rows = _shifted(tiling, eight, shift)[:, : tiling.keys]
        bias[block, head, first : first + _SUBLANES] = rows


def _sum_diagonals(tiling: _Tiling, grad_bias, grad_window, block) -> None:
  """Writes the sums over a block's diagonals, its window's gradients."""
  beyond = jnp.zeros((_SUBLANES, tiling.window - tiling.keys), jnp.float32)
  for head in range(tiling.group):
    total = jnp.zeros((_SUBLANES, tiling.window), jnp.float32)
    for first in range(0, tiling.block, _SUBLANES):
      rows = grad_bias[block, head, first : first + _SUBLANES]
      rows = jnp.concatenate([rows, beyond], axis=1)
      shift = tiling.block - _SUBLANES - first
      total += _shifted(tiling, rows, shift)
    total = _shifted_rows(tiling, total, lambda i: _SUBLANES - 1 - i)
    grad_window[head, block] = jnp.sum(total, axis=0, keepdims=True)


def _shifted(tiling: _Tiling, x, shift: int):
  """Turns rows of a window by some lanes to the right."""
  return pltpu.roll(x, shift % tiling.window, 1)


def _shifted_rows(tiling: _Tiling, x, shift: Callable[[int], int]):
  """Turns each of eight rows by a number of lanes that depends on it."""
  rows = jax.lax.broadcasted_iota(jnp.int32, x.shape, 0)
  result = jnp.zeros_like(x)
  for i in range(_SUBLANES):
    result = jnp.where(rows == i, _shifted(tiling, x, shift(i)), result)
  return result
