"""Tests of places, which are kept as two numbers each."""

from dss_jax.data import places as places_lib


def _places():
  found = places_lib.Places()
  for path, word, number in (
    ('b.csv', 'line', 7), ('b.csv', 'line', 2), ('a.parquet', 'row', 1),
    ('b.csv', 'line', 5), ('c.csv', 'line', 3),
  ):  # fmt: skip
    found.add(path, word, number)
  return found


_TEXTS = [
  'b.csv, line 7', 'b.csv, line 2', 'a.parquet, row 1', 'b.csv, line 5',
  'c.csv, line 3',
]  # fmt: skip


def test_places_are_those_that_were_added_in_their_order():
  """Else a row is said to be where another one is."""
  found = _places()
  assert [*found] == [found[i] for i in range(5)] == _TEXTS
  assert len(found) == 5 and found[-1] == _TEXTS[-1]
  assert [*found[1:4:2]] == _TEXTS[1:4:2]
  assert [*found.take([4, 0, 0])] == [_TEXTS[4], _TEXTS[0], _TEXTS[0]]
  assert [*found.take([])] == [] == [*places_lib.Places()]


def test_numbers_of_a_file_are_sorted():
  assert _places().by_file() == {
    'b.csv': ('line', [2, 5, 7]),
    'a.parquet': ('row', [1]),
    'c.csv': ('line', [3]),
  }
