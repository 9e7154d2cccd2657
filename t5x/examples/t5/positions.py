"""T5's relative position biases.

Axes: Q query length, L key length, H heads.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen import partitioning
from jaxtyping import Array, Float, Int

from t5x.examples.t5 import dense


def _bucket_starts(num_buckets: int, max_distance: int) -> list[int]:
  """Returns the smallest distance of each bucket but the first, as integers.

  The first half of the buckets holds one distance each, the second half grows
  by a constant factor up to max_distance, where the last bucket ends.
  """
  exact = num_buckets // 2
  growing = num_buckets - exact
  starts = list(range(1, exact + 1))
  for j in range(1, growing):
    start = starts[-1]
    # start >= exact * (max_distance / exact) ** (j / growing), without roots.
    bound = exact ** (growing - j) * max_distance**j
    while start**growing < bound:
      start += 1
    starts.append(start)
  return starts


def relative_position_bucket(
  distance: Int[Array, '*B'],
  bidirectional: bool = True,
  num_buckets: int = 32,
  max_distance: int = 128,
) -> Int[Array, '*B']:
  """T5's bucket of a relative position (T5 paper, section 2.1).

  Example (num_buckets=8, max_distance=16, bidirectional): half of the buckets
  are for keys before the query, half for those after it:

    distance: [-20, -3, -2, -1, 0, 1, 2, 3, 20]
    bucket:   [  3,  2,  2,  1, 0, 5, 6, 6,  7]

  Args:
    distance: position of the key minus position of the query.
    bidirectional: whether keys after the query have buckets of their own; if
      not, they share the bucket of distance 0.
    num_buckets: how many buckets there are.
    max_distance: from here on all distances share the last bucket.
  """
  base: int | jax.Array = 0
  if bidirectional:
    num_buckets //= 2
    base = jnp.where(distance > 0, num_buckets, 0)
    distance = jnp.abs(distance)
  else:
    distance = jnp.maximum(-distance, 0)
  starts = np.array(_bucket_starts(num_buckets, max_distance))
  return base + jnp.sum(distance[..., None] >= starts, axis=-1)


def _diagonals_to_matrix(x: jax.Array, rows: int, columns: int) -> jax.Array:
  """Maps [H, rows + columns - 1] to [H, rows, columns], constant on diagonals.

  Element [h, i, j] is x[h, j - i + rows - 1]. Repeating the same padded row and
  reading it with a row length smaller by one shifts each row by one: no gather,
  and the gradient is a plain sum.
  """
  size = rows + columns - 1
  x = jnp.pad(x, ((0, 0), (0, 1)))
  x = jnp.broadcast_to(x[:, None, :], (x.shape[0], rows, size + 1))
  x = x.reshape(x.shape[0], -1)[:, : rows * size]
  return x.reshape(-1, rows, size)[:, :, rows - 1 :]


class RelativePositionBiases(nn.Module):
  """T5's relative position biases, one number per bucket and head.

  The table is drawn in float32, and is of `param_dtype`.
  """

  num_buckets: int
  max_distance: int
  num_heads: int
  dtype: dense.DType
  embedding_init: dense.Initializer = dense.default_embedding_init
  param_dtype: dense.DType = jnp.float32

  def setup(self):
    shape = (self.num_heads, self.num_buckets)
    self.rel_embedding = partitioning.param_with_axes(
      'rel_embedding',
      lambda key, dtype: self.embedding_init(key, shape, jnp.float32).astype(
        dtype
      ),
      self.param_dtype,
      axes=('heads', 'relpos_buckets'),
    )

  def __call__(
    self,
    qlen: int,
    klen: int,
    bidirectional: bool = True,
    offset: int | jax.Array = 0,
  ) -> Float[Array, '1 H Q L']:
    """Returns the biases of queries offset..offset+qlen to keys 0..klen.

    Args:
      qlen: number of queries.
      klen: number of keys.
      bidirectional: see `relative_position_bucket`.
      offset: position of the first query; may be traced (a decoding step).
    """
    values = self.diagonals(qlen, klen, bidirectional, offset)
    return _diagonals_to_matrix(values, qlen, klen)[None]

  def diagonals(
    self,
    qlen: int,
    klen: int,
    bidirectional: bool = True,
    offset: int | jax.Array = 0,
  ) -> Float[Array, 'H _']:
    """Returns the numbers that the biases consist of, [H, Q + L - 1].

    The bias of query i to key j is number j - i + Q - 1.

    Args:
      qlen: Q.
      klen: L.
      bidirectional: see `relative_position_bucket`.
      offset: position of the first query; may be traced (a decoding step).
    """
    # There are only qlen + klen - 1 different distances.
    distances = jnp.arange(qlen + klen - 1) - (offset + qlen - 1)
    buckets = relative_position_bucket(
      distances, bidirectional, self.num_buckets, self.max_distance
    )
    chosen = buckets == jnp.arange(self.num_buckets)[:, None]
    # An exact selection; a matrix product would round on some devices.
    table = self.rel_embedding[:, :, None]
    return jnp.sum(jnp.where(chosen, table, 0.0), axis=1).astype(self.dtype)
