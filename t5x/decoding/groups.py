"""Groups of rows, computed in turn where that is faster: on a CPU."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Int

# Rows of a group: enough for matrix products to be as fast as with all rows.
# docs/performance.md has what groups gain, and what of it is explained.
_GROUP = 16


def in_groups(fn: Callable[[jax.Array], Any], tokens: Int[Array, 'B L']) -> Any:
  """Returns `fn(tokens)`, computed for a few rows at a time on a CPU.

  A group uses the memory of the one before it again. Elsewhere, on several
  devices and with few rows, `fn` gets all rows at once.

  Args:
    fn: rows [R, L] to a tree of arrays [R, …], each row by itself.
    tokens: the rows.
  """
  rows, length = tokens.shape
  if rows % _GROUP or rows == _GROUP or jax.device_count() > 1:
    return fn(tokens)

  def in_turn(tokens):
    made = lax.map(fn, tokens.reshape(-1, _GROUP, length))
    return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), made)

  if jax.default_backend() != 'cpu':
    return fn(tokens)
  # A program for another platform may be compiled on a CPU.
  return lax.platform_dependent(tokens, cpu=in_turn, default=fn)
