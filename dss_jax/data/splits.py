"""Train and validation splits of released rows, drawn at random.

A set without a validation split gives up a tenth of its train rows. They are
drawn as in the published code: NumPy's default generator permutes `n` indices,
the first `ceil(part * n)` are set apart, and the others stay in that order.
"""

import math
import numbers

import numpy as np
from jaxtyping import Int64

from dss_jax import errors

VALIDATION_PART = 0.1
VALIDATION_SEED = 0


def set_apart(
  n: int, part: float, seed: int
) -> tuple[Int64[np.ndarray, 'kept'], Int64[np.ndarray, 'apart']]:
  """Divides `range(n)` at random into rows that stay and rows set apart.

  >>> [part.tolist() for part in set_apart(10, 0.2, seed=0)]
  [[2, 7, 3, 5, 9, 0, 8, 1], [4, 6]]

  Args:
    n: how many rows there are.
    part: the fraction that is set apart, in [0, 1]; its size is rounded up.
    seed: of the permutation.

  Returns:
    The indices that stay and those set apart, both in the permutation's order.
  """
  order = np.random.default_rng(seed).permutation(n).astype(np.int64)
  apart = math.ceil(part * n)
  return order[apart:], order[:apart]


def check_fraction(fraction: float) -> float:
  """Returns `fraction` as a float.

  Raises:
    DataError: it is not a number in (0, 1].
  """
  real = isinstance(fraction, numbers.Real) and not isinstance(fraction, bool)
  if not real or not 0.0 < fraction <= 1.0:
    raise errors.DataError(
      f'FRACTION is {fraction!r}, but the part of the train rows to use is a'
      ' number above 0 and at most 1: for a quarter, give 0.25.'
    )
  return float(fraction)


def train_validation(
  n: int, *, fraction: float = 1.0, seed: int = 0, validation: bool = True
) -> tuple[Int64[np.ndarray, 'train'], Int64[np.ndarray, 'validation']]:
  """Draws the train and validation rows out of the released train rows.

  First `fraction` of the rows is drawn with the run's seed, then a tenth of
  those is set apart for validation with seed 0.

  >>> train, validation = train_validation(10)
  >>> train.tolist(), validation.tolist()
  ([6, 2, 7, 3, 5, 9, 0, 8, 1], [4])
  >>> train, validation = train_validation(10, fraction=0.5, seed=1)
  >>> train.tolist(), validation.tolist()
  ([3, 6, 2, 5], [9])

  Args:
    n: how many train rows were released.
    fraction: of them to use, in (0, 1].
    seed: of that draw; without effect if all rows are used.
    validation: whether to set validation rows apart. False if a validation
      split was released: the second result is then empty.

  Returns:
    Indices into the released train rows, disjoint.

  Raises:
    DataError: `fraction` is out of range, or leaves no train row.
  """
  fraction = check_fraction(fraction)
  rows = np.arange(n, dtype=np.int64)
  if fraction < 1.0:
    rows, _ = set_apart(n, 1.0 - fraction, seed)
  apart = rows[:0]
  if validation:
    keep, draw = set_apart(len(rows), VALIDATION_PART, VALIDATION_SEED)
    rows, apart = rows[keep], rows[draw]
  if not len(rows):
    raise errors.DataError(
      f'FRACTION {fraction} of {n} train rows leaves none to train on'
      f' ({len(apart)} for validation): give a larger FRACTION or more rows.'
    )
  return rows, apart


def swapped(n: int, seed: int) -> Int64[np.ndarray, 'n']:
  """Draws another row for every row, as a control that breaks their pairing.

  The rows form one random cycle, so none keeps its own (unless n is 1).

  >>> swapped(4, seed=0).tolist()
  [1, 3, 0, 2]

  Args:
    n: how many rows there are.
    seed: of the draw.

  Returns:
    For each row, the index of the row that it gets.
  """
  order = np.random.default_rng(seed).permutation(n)
  result = np.empty(n, np.int64)
  result[order] = np.roll(order, -1)
  return result
