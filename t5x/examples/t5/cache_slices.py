"""Slices of an array from a place that each row has of its own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


def dynamic_vector_slice_in_dim(
  operand: jax.Array,
  start_indices: Int[Array, 'B'],
  slice_size: int,
  axis: int,
) -> jax.Array:
  """Cuts the same array once for each start, along one axis.

  `dynamic_vector_slice_in_dim(arange(5), array([0, 3]), 2, 0)` is
  `[[0, 1], [3, 4]]`. As with `jax.lax.dynamic_slice_in_dim`, a start that is
  too late is moved forward until the slice fits.

  Args:
    operand: the array.
    start_indices: where each slice begins.
    slice_size: the length of a slice.
    axis: the axis that is cut.

  Returns:
    The slices, stacked in a new first axis.
  """
  return jax.vmap(
    lambda start: jax.lax.dynamic_slice_in_dim(
      operand, jnp.asarray(start), slice_size, axis
    )
  )(start_indices)
