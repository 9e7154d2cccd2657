"""Bucketing: batches of rows of similar length, so that inference pads little.

Batches are made from a window of rows, the longest first. A window has only a
few different lengths, since each is one more program to compile.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

Features = Mapping[str, np.ndarray]

# Rows that only fill up the last batch carry this index.
FILLER = -1

# Batches that are sorted together.
_WINDOW = 128
# Lengths are rounded up to multiples of it.
_MULTIPLE = 8
# A further length has to save this fraction of a batch of the longest rows.
_MIN_SAVING = 0.25


@dataclasses.dataclass
class _Row:
  """A row without its padding.

  Attributes:
    index: its number in the data set.
    features: its arrays; those with a prefix up to the prefix's length.
    lengths: for each prefix, how many positions are used.
    room: for each prefix, how many positions there are.
  """

  index: int
  features: Features
  lengths: tuple[int, ...]
  room: tuple[int, ...]


def batches(
  rows: Iterable[tuple[int, Features]],
  batch_size: int,
  prefixes: Sequence[str] = (),
  most_lengths: int = 1,
) -> Iterator[tuple[np.ndarray, Features]]:
  """Yields batches in which padding that all rows share is cut off.

  Rows are padded at their ends with zeros. With batch_size=2, the prefix 'x'
  and most_lengths=2, the rows x = [7, 0, …], [5, 6, …, 5] and [7, 8, 0, …] of
  20 positions, the second without a zero, give

    indices [1, 2], x of 20 positions
    indices [0, -1], x of 8 positions, the first row twice

  Args:
    rows: pairs of an index and features, vectors or scalars.
    batch_size: rows of a batch.
    prefixes: of the names of features that are cut, all of a prefix at the same
      position. Without any, rows stay in order.
    most_lengths: how many different shapes a window may have.

  Yields:
    (indices [B], features [B, …]). Copies of a row, whose index is `FILLER`,
    fill up the last batch.
  """
  window = batch_size * (_WINDOW if prefixes else 1)
  cut = (_cut(int(index), features, prefixes) for index, features in rows)
  while some := list(itertools.islice(cut, window)):
    # Stable: rows of one length stay in order.
    some.sort(key=lambda row: -sum(row.lengths))
    groups = [some[i : i + batch_size] for i in range(0, len(some), batch_size)]
    shapes = _shapes([_longest(group) for group in groups], most_lengths)
    for group, lengths in zip(groups, shapes, strict=True):
      yield _stack(group, batch_size, prefixes, lengths)


def _cut(index: int, features: Features, prefixes: Sequence[str]) -> _Row:
  lengths, room = [], []
  features = dict(features)
  for prefix in prefixes:
    names = [k for k, x in features.items() if _has(k, x, prefix)]
    used = max((_used(features[name]) for name in names), default=0)
    lengths.append(used)
    room.append(max((features[name].size for name in names), default=0))
    # A copy, so that the padding isn't kept in memory.
    features |= {name: features[name][:used].copy() for name in names}
  return _Row(index, features, tuple(lengths), tuple(room))


def _has(name: str, array: np.ndarray, prefix: str) -> bool:
  return name.startswith(prefix) and np.ndim(array) == 1


def _used(array: np.ndarray) -> int:
  (used,) = np.nonzero(array)
  return int(used[-1]) + 1 if used.size else 0


def _longest(group: Sequence[_Row]) -> tuple[int, ...]:
  """Lengths for a batch: the longest row's, rounded up where there is room."""
  return tuple(
    min(-(-max(1, *lengths) // _MULTIPLE) * _MULTIPLE, room)
    for lengths, room in zip(
      zip(*(row.lengths for row in group), strict=True),
      group[0].room,
      strict=True,
    )
  )


def _shapes(
  wanted: Sequence[tuple[int, ...]], most: int
) -> list[tuple[int, ...]]:
  """Lengths for each batch, at least the wanted ones, of few kinds.

  Example, most=2: (104,) (64,) (64,) (56,) -> (104,) (64,) (64,) (64,)
  """
  groups = [(lengths, 1) for lengths in wanted]
  bound = _MIN_SAVING * max((sum(x) for x in wanted), default=0)
  while len(groups) > 1:
    joined = [_join(a, b) for a, b in itertools.pairwise(groups)]
    added = [
      _positions(joined[i]) - _positions(groups[i]) - _positions(groups[i + 1])
      for i in range(len(joined))
    ]
    best = int(np.argmin(added))
    if len(groups) <= most and added[best] > bound:
      break
    groups[best : best + 2] = [joined[best]]
  return [lengths for lengths, count in groups for _ in range(count)]


def _join(a, b):
  return tuple(map(max, a[0], b[0])), a[1] + b[1]


def _positions(group) -> int:
  lengths, count = group
  return sum(lengths) * count


def _stack(
  group: Sequence[_Row],
  batch_size: int,
  prefixes: Sequence[str],
  lengths: Sequence[int],
) -> tuple[np.ndarray, Features]:
  # A row of padding alone might be decoded for as long as there is room.
  filled = [*group, *[group[-1]] * (batch_size - len(group))]
  indices = np.full(batch_size, FILLER, np.int32)
  indices[: len(group)] = [row.index for row in group]

  def stacked(name):
    arrays = [np.asarray(row.features[name]) for row in filled]
    for prefix, length in zip(prefixes, lengths, strict=True):
      if _has(name, arrays[0], prefix):
        out = np.zeros((batch_size, length), arrays[0].dtype)
        for row, array in zip(out, arrays, strict=True):
          row[: array.size] = array
        return out
    return np.stack(arrays)

  return indices, {name: stacked(name) for name in group[0].features}
