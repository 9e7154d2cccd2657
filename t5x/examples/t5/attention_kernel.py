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
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.linen import partitioning
from jax import ad_checkpoint
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from t5x import errors
from t5x.examples.t5 import attention_tiles as tiles
from t5x.examples.t5 import dense, masks

# Tests compute the kernel's operations with NumPy's semantics on any machine.
INTERPRET = False

# As many queries as a call has at most.
_MOST_QUERIES = 256
_LANES = 128
# Bytes of the chip's own memory; the compiler's default is less than it has.
_MEMORY_LIMIT = 64 * 2**20
# What is left of it for biases and their gradients.
_BIAS_LIMIT = 40 * 2**20

_FORWARD_PRODUCTS = 2
_BACKWARD_PRODUCTS = 5


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
    errors.UserError: no TPU computes it, the mesh doesn't divide the heads, or
      rows are so long that their biases don't fit into the chip's own memory.
  """
  if not INTERPRET:
    _check_platform()
  options = tiles.Options(mask.causal, float32_logits, INTERPRET, most_queries)
  if diagonals is not None and not float32_logits:
    diagonals = diagonals.astype(query.dtype)
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


def _check_memory(tiling: tiles.Tiling) -> None:
  needed = 2 * 4 * math.prod(tiling.biases)
  if needed > _BIAS_LIMIT:
    raise errors.UserError(
      "T5Config.attention_kernel: 'pallas' has the biases of a few heads in the"
      f' memory of a chip: expected rows that need at most {_BIAS_LIMIT:,}'
      f' bytes there, found {tiling.queries} queries and {tiling.keys} keys,'
      f" which need {needed:,}; set attention_kernel = 'xla', or shorten the"
      ' rows.'
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attention(query, key, value, diagonals, query_ids, key_ids, options):
  operands = query, key, value, diagonals, query_ids, key_ids
  return _attention_fwd(*operands, options)[0]


def _attention_fwd(query, key, value, diagonals, query_ids, key_ids, options):
  operands = query, key, value, diagonals, query_ids, key_ids
  rows, heads, ids = _layouts(query)
  attended = _on_mesh(
    functools.partial(_forward, options),
    (rows, rows, rows, heads, ids, ids),
    rows,
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


def _tiling(query, key, options: tiles.Options) -> tiles.Tiling:
  batch, queries, heads, size = query.shape
  keys = key.shape[1]
  filling = [
    n for n in range(1, heads) if heads % n == 0 and n * size % _LANES == 0
  ]
  blocks = pl.cdiv(queries, options.most_queries)
  block = _round_up(pl.cdiv(queries, blocks), tiles.SUBLANES)
  return tiles.Tiling(
    *(batch, queries, keys, heads, size),
    group=min(filling, default=heads),
    blocks=blocks,
    block=block,
    window=_round_up(keys + block - 1, _LANES),
  )


def _round_up(n: int, multiple: int) -> int:
  return pl.cdiv(n, multiple) * multiple


def _of_queries(tiling: tiles.Tiling, x):
  """Maps [B, Q, H, K] to [B, N * P, H * K], with zeros at the end."""
  missing = tiling.blocks * tiling.block - tiling.queries
  x = x.reshape(*x.shape[:2], -1)
  return jnp.pad(x, ((0, 0), (0, missing), (0, 0)))


def _windows(tiling: tiles.Tiling, diagonals):
  """Maps [H, Q + L - 1] to [H, N, 1, W], what each block needs of them.

  Number i of a window is the bias of the block's last query to key i, and of
  its query P - 1 - n to key i - n.
  """
  ends = [tiling.block * (n + 1) for n in range(tiling.blocks)]
  starts = [tiling.queries - end for end in ends]
  before = max(0, -starts[-1])
  after = max(0, starts[0] + tiling.window - diagonals.shape[1])
  padded = jnp.pad(diagonals.astype(jnp.float32), ((0, 0), (before, after)))
  starts = [before + start for start in starts]
  windows = [padded[:, start : start + tiling.window] for start in starts]
  return jnp.stack(windows, axis=1)[:, :, None]


# Arrays by name, and the block of each that a call has.
_Arrays = dict[str, jax.Array]
_Blocks = dict[str, pl.BlockSpec]


def _inputs(tiling: tiles.Tiling, operands) -> tuple[_Arrays, _Blocks]:
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
  tiling: tiles.Tiling,
  options: tiles.Options,
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


def _forward(options: tiles.Options, *operands):
  """Attention of the rows and heads of one device."""
  query, diagonals = operands[0], operands[3]
  tiling = _tiling(query, operands[1], options)
  if diagonals is not None:
    _check_memory(tiling)
  arrays, blocks = _inputs(tiling, operands)
  found = _call(
    tiles.forward,
    tiling,
    options,
    _FORWARD_PRODUCTS,
    (arrays, blocks),
    ({'attended': arrays['query']}, {'attended': blocks['query']}),
    {} if diagonals is None else {'bias': tiling.biases},
  )
  return found['attended'][:, : tiling.queries].reshape(query.shape)


def _backward(options: tiles.Options, *operands_and_results):
  """Gradients of queries, keys, values and diagonals, on one device."""
  *operands, attended, cotangent = operands_and_results
  query, key, _, diagonals, *_ = operands
  tiling = _tiling(query, key, options)
  arrays, blocks = _inputs(tiling, operands)
  results = 'query', 'key', 'value', 'window'
  names: list[str] = [name for name in results if name in arrays]
  outputs = {n: arrays[n] for n in names}, {n: blocks[n] for n in names}
  for name, x in (('attended', attended), ('cotangent', cotangent)):
    arrays[name] = _of_queries(tiling, x)
    blocks[name] = blocks['query']
  of_keys = tiling.keys, tiling.lanes
  memory: dict[str, tuple[int, ...]] = {'key': of_keys, 'value': of_keys}
  if diagonals is not None:
    memory |= {'bias': tiling.biases, 'grad_bias': tiling.biases}
  grads = _call(
    tiles.backward,
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
