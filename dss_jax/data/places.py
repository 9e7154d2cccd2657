"""Places of rows: file and line of each, kept as two numbers."""

import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload


class Places(Sequence[str]):
  """The places of many rows, each a text only when it is asked for.

  >>> places = Places()
  >>> places.add('a.jsonl', 'line', 3)
  >>> list(places)
  ['a.jsonl, line 3']
  """

  def __init__(self) -> None:
    """Starts without any."""
    # (path, what is counted): ('a.csv', 'line').
    self._files: list[tuple[str, str]] = []
    self._file_of = array.array('l')
    self._numbers = array.array('q')

  def add(self, path: str, word: str, number: int) -> None:
    """Adds a place.

    Args:
      path: of the file.
      word: what is counted, 'line' or 'row'.
      number: its number, from 1.
    """
    file = (path, word)
    if not self._files or self._files[-1] != file:
      self._files.append(file)
    self._file_of.append(len(self._files) - 1)
    self._numbers.append(number)

  def take(self, indices: Iterable[int]) -> 'Places':
    """Returns some of the places.

    Args:
      indices: of those to take, in the order in which they are wanted.
    """
    result = Places()
    result._files = self._files
    for index in indices:
      result._file_of.append(self._file_of[index])
      result._numbers.append(self._numbers[index])
    return result

  def by_file(self) -> dict[str, tuple[str, Sequence[int]]]:
    """Returns for each file what is counted in it, and the sorted numbers."""
    found: dict[str, tuple[str, array.array]] = {}
    for file, number in zip(self._file_of, self._numbers, strict=True):
      path, word = self._files[file]
      found.setdefault(path, (word, array.array('q')))[1].append(number)
    return {path: (word, sorted(n)) for path, (word, n) in found.items()}

  def __len__(self) -> int:
    """Returns how many places there are."""
    return len(self._numbers)

  @overload
  def __getitem__(self, index: int) -> str: ...

  @overload
  def __getitem__(self, index: slice) -> 'Places': ...

  def __getitem__(self, index):
    """Returns the text of a place, or the places of a slice."""
    if isinstance(index, slice):
      return self.take(range(*index.indices(len(self))))
    path, word = self._files[self._file_of[index]]
    return f'{path}, {word} {self._numbers[index]}'

  def __iter__(self) -> Iterator[str]:
    """Yields the texts."""
    return (self[i] for i in range(len(self)))
