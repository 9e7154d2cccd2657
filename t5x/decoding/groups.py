"""Groups of rows, computed in turn where memory is slow: on a CPU."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Int

# Rows of a group: enough for matrix products to be as fast as with all rows,
# and few enough for what they leave to stay in a processor's cache.
_GROUP = 16


def in_groups(fn: Callable[[jax.Array], Any], tokens: Int[Array, 'B L']) -> Any:
  """Returns `fn(tokens)`, computed for a few rows at a time on a CPU.

  What a few rows leave between two operations stays in a processor's caches,
  and the next rows use its memory again. Elsewhere, on several devices and with
  few rows, `fn` gets all rows at once.

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
