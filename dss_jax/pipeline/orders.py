"""Order in which a run sees the examples of a set: epochs, cut into windows.

An epoch is a permutation of the set, drawn from the seed and the epoch's
number alone, so that any place of a run is found without those before it.
Epoch follows epoch; a *window*, the examples that one step takes (of one part
of the data), is the next stretch of that sequence, and goes on in the next
epoch where one ends. So after any window no example came more than once more
often than another.

A step has a fixed number of rows, and the longest windows decide how many. So
a few examples change places within their epoch: where a window is longer than
`most`, one of its examples is exchanged for one of the shortest window's.
"""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

# Exchanges in an epoch, at most, for each of its windows.
_EXCHANGES = 8


class Order:
  """The windows of a set of examples.

  Two windows of 1.5 examples each take 1 and 2 examples, as any two that
  follow each other.

  Attributes:
    count: examples of the set.
    a_window: examples of a window; where that is no whole number, windows
      differ by one.
  """

  def __init__(
    self,
    count: int,
    a_window: float,
    seed: Sequence[int] | None,
    sizes: Int[np.ndarray, 'N sides'] | None = None,
    most: tuple[float, ...] | None = None,
  ):
    """Draws nothing yet.

    Args:
      count: examples of the set.
      a_window: examples of a window.
      seed: of the permutations, numbers from 0; None keeps the order of the
        set.
      sizes: tokens of each example on both sides; None where unknown.
      most: tokens that a window should have at most, on both sides, for each of
        its examples. None exchanges nothing.
    """
    self.count = count
    self.a_window = a_window
    self._seed = seed
    self._sizes = sizes
    self._most = most
    self._epoch = functools.lru_cache(maxsize=4)(self._make_epoch)

  def begin(self, window: int) -> int:
    """Returns how many examples all windows before this one have."""
    return int(window * self.a_window)

  def window(self, window: int) -> Int[np.ndarray, 'examples']:
    """Returns the examples of a window.

    Args:
      window: its number, from 0.
    """
    begin, end = self.begin(window), self.begin(window + 1)
    if begin == end:
      return np.zeros(0, np.int64)
    pieces = []
    for epoch in range(begin // self.count, (end - 1) // self.count + 1):
      first = epoch * self.count
      taken = slice(max(begin - first, 0), end - first)
      pieces.append(self._epoch(epoch)[taken])
    return np.concatenate(pieces)

  def sums(self, windows: int) -> Int[np.ndarray, 'windows sides']:
    """Returns the tokens of the first windows, on both sides."""
    if self._sizes is None:
      raise ValueError('The sizes of these examples are unknown.')
    return np.stack(
      [self._sizes[self.window(window)].sum(0) for window in range(windows)]
    )

  def _make_epoch(self, epoch: int) -> Int[np.ndarray, 'N']:
    if self._seed is None:
      return np.arange(self.count)
    drawn = np.random.SeedSequence([*self._seed, epoch])
    order = np.random.default_rng(drawn).permutation(self.count)
    if self._most is not None and self._sizes is not None:
      allowed = np.array(self._most)
      _exchange(order, self._sizes[order], self._borders(epoch), allowed)
    return order

  def _borders(self, epoch: int) -> Int[np.ndarray, 'pieces+1']:
    """Returns where windows begin in an epoch, and both of its ends."""
    first = epoch * self.count
    window = int(first / self.a_window)
    last = int((first + self.count) / self.a_window) + 1
    begins = {self.begin(w) - first for w in range(window, last + 1)}
    inside = {place for place in begins if 0 < place < self.count}
    return np.array(sorted(inside | {0, self.count}))


def _exchange(
  order: Int[np.ndarray, 'N'],
  sizes: Int[np.ndarray, 'N sides'],
  borders: Int[np.ndarray, 'pieces+1'],
  most: Float[np.ndarray, 'sides'],
) -> None:
  """Exchanges examples between the windows of an epoch, in place.

  Args:
    order: the examples.
    sizes: their tokens, in this order.
    borders: where windows begin, and the end.
    most: tokens that a window should have at most for each of its examples.
  """
  lengths = np.diff(borders)
  allowed = lengths[:, None] * most
  sums = np.add.reduceat(sizes, borders[:-1])
  full = (sums / allowed).max(1)
  for _ in range(_EXCHANGES * len(lengths)):
    long, short = int(full.argmax()), int(full.argmin())
    if full[long] <= 1:
      return
    mine = slice(borders[long], borders[long + 1])
    other = slice(borders[short], borders[short + 1])
    given = sizes[mine][:, None] - sizes[other][None]
    after = np.maximum(
      ((sums[long] - given) / allowed[long]).max(2),
      ((sums[short] + given) / allowed[short]).max(2),
    )
    a, b = np.unravel_index(int(after.argmin()), after.shape)
    if after[a, b] >= full[long]:
      return
    sums[long] -= given[a, b]
    sums[short] += given[a, b]
    places = [mine.start + a, other.start + b]
    for values in (order, sizes):
      values[places] = values[places[::-1]]
    for piece in (long, short):
      full[piece] = (sums[piece] / allowed[piece]).max()
