"""The axis of the beams: put in, merged with the batch, and gathered from.

Axes: B batch, N beams, M new beams, V candidates.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from t5x.decoding import cache as cache_lib


def brevity_penalty(
  alpha: float, length: int | jax.Array
) -> Float[Array, '...']:
  """Returns ((5 + length) / 6) ** alpha, as in Wu et al. 2016 and T5."""
  return jnp.power((5.0 + length) / 6.0, alpha)


def add_beam_dim(x: jax.Array, beam_size: int, offset: int = 0) -> jax.Array:
  """Repeats an array along a new axis after the batch: [B, …] to [B, N, …].

  Args:
    x: an array whose batch is axis `offset`; one without it is left alone.
    beam_size: N.
    offset: the batch axis.
  """
  if x.ndim <= offset:
    return x
  return jnp.repeat(jnp.expand_dims(x, offset + 1), beam_size, axis=offset + 1)


def flatten_beam_dim(x: jax.Array, offset: int = 0) -> jax.Array:
  """Merges the beams into the batch: [B, N, …] to [B * N, …].

  Args:
    x: an array with axes B and N from `offset` on; one without them is left
      alone.
    offset: the batch axis.
  """
  if x.ndim < offset + 2:
    return x
  batch, beams = x.shape[offset : offset + 2]
  return x.reshape(*x.shape[:offset], batch * beams, *x.shape[offset + 2 :])


def unflatten_beam_dim(
  x: jax.Array, batch_size: int, beam_size: int, offset: int = 0
) -> jax.Array:
  """Undoes `flatten_beam_dim`: [B * N, …] to [B, N, …].

  Args:
    x: an array; one without axis `offset` is left alone.
    batch_size: B.
    beam_size: N.
    offset: the axis of B * N.

  Raises:
    ValueError: the axis has another size.
  """
  if x.ndim <= offset:
    return x
  if x.shape[offset] != batch_size * beam_size:
    raise ValueError(
      f'unflatten_beam_dim: expected {batch_size} x {beam_size} rows in axis'
      f' {offset}, found the shape {x.shape}.'
    )
  shape = (*x.shape[:offset], batch_size, beam_size, *x.shape[offset + 1 :])
  return x.reshape(shape)


def _gather(x: jax.Array, beam_indices: jax.Array, offset: int) -> jax.Array:
  if x.ndim < offset + 2:
    return x
  moved = jnp.moveaxis(x, (offset, offset + 1), (0, 1))
  picked = jax.vmap(lambda row, index: row[index])(moved, beam_indices)
  return jnp.moveaxis(picked, (0, 1), (offset, offset + 1))


def gather_beams(
  nested: Any,
  beam_indices: Int[Array, 'B M'],
  batch_size: int,
  old_beam_size: int,
  new_beam_size: int,
  one_hot: bool = True,
) -> Any:
  """Returns the beams of these indices, for every array of a tree.

  `gather_beams([[10, 11]], [[1, 1, 0]], …)` is `[[11, 11, 10]]`.

  Args:
    nested: a tree of arrays [B, N, …]; those without a beam are left alone.
    beam_indices: for each row, the beams to take.
    batch_size: B.
    old_beam_size: N.
    new_beam_size: M.
    one_hot: unused: the values are picked, never multiplied.

  Returns:
    The tree, with arrays [B, M, …].

  Raises:
    ValueError: the sizes are not those of the indices.
  """
  del old_beam_size, one_hot
  if beam_indices.shape != (batch_size, new_beam_size):
    raise ValueError(
      f'gather_beams: expected indices of the shape {batch_size, new_beam_size}'
      f' (batch, new beams), found {beam_indices.shape}.'
    )
  return jax.tree.map(lambda x: _gather(x, beam_indices, 0), nested)


def cache_gather_beams(
  nested: cache_lib.Cache,
  beam_indices: Int[Array, 'B M'],
  batch_size: int,
  old_beam_size: int,
  new_beam_size: int,
  one_hot: bool = True,
  offset: int = 0,
) -> cache_lib.Cache:
  """Returns the beams of these indices, for the entries of a model's cache.

  Entries without a batch axis (see `cache_map`) stay as they are.

  Args:
    nested: a cache with axes B and N from `offset` on.
    beam_indices: for each row, the beams to take.
    batch_size: B.
    old_beam_size: N.
    new_beam_size: M.
    one_hot: unused, as in `gather_beams`.
    offset: the batch axis.
  """
  del batch_size, old_beam_size, new_beam_size, one_hot
  return cache_lib.cache_map(lambda x: _gather(x, beam_indices, offset), nested)


def gather_topk_beams(
  nested: Any,
  score_or_log_prob: Float[Array, 'B N'],
  batch_size: int,
  new_beam_size: int,
) -> Any:
  """Returns the beams of the highest scores, the best one last.

  Args:
    nested: a tree of arrays [B, N, …].
    score_or_log_prob: the score of each beam.
    batch_size: B.
    new_beam_size: M.
  """
  _, best = lax.top_k(score_or_log_prob, new_beam_size)
  return gather_beams(
    nested,
    best[:, ::-1],
    batch_size,
    score_or_log_prob.shape[1],
    new_beam_size,
  )


def top_k_two_stage(
  x: Float[Array, 'B V'], k: int
) -> tuple[Float[Array, 'B k'], Int[Array, 'B k']]:
  """Returns the k greatest values of each row, in order, and their places.

  The two stages of T5X's function are its way of computing the same.

  Args:
    x: values.
    k: how many.
  """
  return lax.top_k(x, k)
