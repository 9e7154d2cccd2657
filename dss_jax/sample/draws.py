"""Random draws of the generators, and what they build from them."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

_T = TypeVar('_T')


class Draws:
  """Random choices that are the same on every platform and Python version.

  Only `random.Random.random` is promised to stay as it is for a seed, so
  everything is drawn from it.
  """

  def __init__(self, seed: int):
    self._random = random.Random(seed).random

  def uniform(self) -> float:
    """Returns a number in [0, 1)."""
    return self._random()

  def below(self, n: int) -> int:
    """Returns an integer in [0, n)."""
    return int(self._random() * n)

  def one(self, items: Sequence[_T]) -> _T:
    """Returns one of the items."""
    return items[self.below(len(items))]

  def shuffled(self, items: Sequence[_T]) -> list[_T]:
    """Returns the items in a random order (Fisher and Yates)."""
    items = list(items)
    for i in range(len(items) - 1, 0, -1):
      j = self.below(i + 1)
      items[i], items[j] = items[j], items[i]
    return items

  def by_share(self, shares: Sequence[tuple[str, float]]) -> str:
    """Returns a name, each as often as its share says.

    Args:
      shares: names with shares that add up to 1.
    """
    left = self.uniform()
    for name, share in shares:
      left -= share
      if left < 0:
        return name
    return shares[0][0]


class _HasText(Protocol):
  @property
  def text(self) -> str: ...


_Item = TypeVar('_Item', bound=_HasText)


def distinct(
  make: Callable[[], _Item], n: int, seen: set[str]
) -> Iterator[_Item]:
  """Yields `n` items whose text was not seen before, and adds their texts."""
  while n:
    item = make()
    if item.text not in seen:
      seen.add(item.text)
      n -= 1
      yield item


def run_on(
  text: str, words: tuple[int, int], draws: Draws, invent: Callable[[], str]
) -> str:
  """Returns a completion as it stops at a length limit, wherever that falls.

  Args:
    text: the answer, which is never cut.
    words: between how many and how many (exclusive) the limit is drawn.
    draws: the source of randomness.
    invent: returns a further question with its answer.
  """
  low, high = words
  limit = max(low + draws.below(high - low), text.count(' ') + 2)
  while text.count(' ') < limit:
    text += f'\n\n{invent()}'
  return ' '.join(text.split(' ')[:limit])
