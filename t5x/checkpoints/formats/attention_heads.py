"""Kernels of attention with heads on an axis of their own, or joined.

T5X's t5 stores a query as [D, H * K] and an output as [H * K, D], its
scalable_t5 as [D, H, K] and [H, K, D]: the same numbers in the same order.
"""

import re
from typing import Any

from t5x.checkpoints.formats import lazy_array
from t5x.checkpoints.formats.lazy_array import LazyArray

# A kernel, or what an optimizer keeps of it.
_KERNEL = re.compile(r'(?:.*/)?(query|key|value|out)/kernel(?:/.+)?')


def is_kernel(name: str) -> bool:
  """Whether a name is that of a kernel of attention, or of what is kept of it.

  Such are the slots of an optimizer.
  """
  return _KERNEL.fullmatch(name) is not None


def joined(name: str, kernel: Any) -> Any:
  """Returns a kernel of attention of one layer as a matrix, others as given."""
  parts = _KERNEL.fullmatch(name)
  if not parts or kernel.ndim != 3:
    return kernel
  first, middle, last = kernel.shape
  if parts[1] == 'out':
    return fitted(name, kernel, (first * middle, last))
  return fitted(name, kernel, (first, middle * last))


def fitted(name: str, leaf: Any, shape: tuple[int, ...]) -> Any:
  """Joins or splits the heads of a layer's kernel, to a wanted shape.

  Args:
    name: the leaf's, of which the end counts.
    leaf: an array or a `LazyArray`, without an axis of layers.
    shape: the wanted one.

  Returns:
    A `LazyArray`; `leaf` itself if it has the shape, is no kernel of attention,
    or differs in more than its heads.
  """
  if leaf.shape == shape or not _KERNEL.fullmatch(name):
    return leaf
  if (at := _heads_axis(shape, leaf.shape)) is not None:
    return _split(lazy_array.as_lazy(name, leaf), at, shape)
  if (at := _heads_axis(leaf.shape, shape)) is not None:
    return _join(lazy_array.as_lazy(name, leaf), at, shape)
  return leaf


def _heads_axis(split: tuple[int, ...], one: tuple[int, ...]) -> int | None:
  """Returns the axis of `one` that is two in `split`, if that is so."""
  for at in range(min(len(one), len(split) - 1)):
    if (*split[:at], split[at] * split[at + 1], *split[at + 2 :]) == one:
      return at
  return None


def _split(leaf: LazyArray, at: int, shape: tuple[int, ...]) -> LazyArray:
  size = shape[at + 1]

  def start_read(index):
    heads, inner = index[at], index[at + 1]
    both = slice(heads.start * size, heads.stop * size)
    rows = leaf.start_read((*index[:at], both, *index[at + 2 :]))

    def split(x):
      x = x.reshape(*x.shape[:at], -1, size, *x.shape[at + 1 :])
      return x[(slice(None),) * (at + 1) + (inner,)]

    return lazy_array.DerivedRead(split, rows)

  return LazyArray(leaf.name, shape, leaf.dtype, start_read)


def _join(leaf: LazyArray, at: int, shape: tuple[int, ...]) -> LazyArray:
  size = leaf.shape[at + 1]

  def start_read(index):
    start, stop = index[at].start, index[at].stop
    first = start // size
    heads = slice(first, -(-stop // size))
    every = slice(0, size)
    rows = leaf.start_read((*index[:at], heads, every, *index[at + 1 :]))

    def join(x):
      x = x.reshape(*x.shape[:at], -1, *x.shape[at + 2 :])
      wanted = slice(start - first * size, stop - first * size)
      return x[(slice(None),) * at + (wanted,)]

    return lazy_array.DerivedRead(join, rows)

  return LazyArray(leaf.name, shape, leaf.dtype, start_read)
