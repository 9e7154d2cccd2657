"""Rows of like length share batches, and every row comes once."""

import numpy as np
import pytest

from t5x.inference import bucketing


def _rows(lengths, room=20):
  for index, length in enumerate(lengths):
    x = np.zeros(room, np.int32)
    x[:length] = index + 1
    yield index, {'x_tokens': x, 'y_tokens': np.arange(4), 'n': np.int32(index)}


def test_the_documented_example():
  rows = list(_rows([1, 20, 2]))
  (first, long), (second, short) = bucketing.batches(rows, 2, ['x'], 2)
  assert first.tolist() == [1, 2] and second.tolist() == [0, -1]
  np.testing.assert_array_equal(
    long['x_tokens'], np.stack([rows[1][1]['x_tokens'], rows[2][1]['x_tokens']])
  )
  assert short['x_tokens'].tolist() == [[1] + [0] * 7] * 2
  # Nothing else is cut.
  assert long['y_tokens'].shape == short['y_tokens'].shape == (2, 4)
  assert short['n'].tolist() == [0, 0]


@pytest.mark.parametrize('prefixes', [(), ('x_',), ('x_', 'y_')])
@pytest.mark.parametrize('count', [0, 1, 4, 11])
def test_every_row_comes_once_and_unchanged(prefixes, count, monkeypatch):
  monkeypatch.setattr(bucketing, '_WINDOW', 2)
  rng = np.random.default_rng(count)
  rows = list(_rows(rng.integers(0, 21, count)))
  found = {}
  for indices, batch in bucketing.batches(rows, 4, prefixes, 3):
    assert indices.shape == (4,) and {len(x) for x in batch.values()} == {4}
    for i, index in enumerate(indices.tolist()):
      if index == bucketing.FILLER:
        # Another's copy, never a row of padding that isn't in the data.
        assert batch['n'][i] == batch['n'][i - 1]
        continue
      assert index not in found
      found[index] = {k: x[i] for k, x in batch.items()}
  assert sorted(found) == list(range(count))
  for index, features in rows:
    for name, x in features.items():
      mine = found[index][name]
      used = np.shape(x)[0] if np.ndim(x) else None
      if used is not None:
        mine = np.pad(mine, (0, used - len(mine)))
      np.testing.assert_array_equal(mine, x)


def test_a_prefix_is_cut_where_its_longest_vector_ends():
  row = {
    'x_a': np.pad(np.full(3, 7), (0, 17)),
    'x_b': np.pad(np.full(9, 8), (0, 3)),
    'x_one': np.int32(5),
    'x_table': np.ones((2, 3), np.int32),
  }
  ((_, batch),) = bucketing.batches([(0, row)], 1, ['x_', 'absent'])
  assert batch['x_a'].tolist() == [[7] * 3 + [0] * 13]
  assert batch['x_b'].tolist() == [[8] * 9 + [0] * 7]
  assert batch['x_one'].tolist() == [5]
  assert batch['x_table'].shape == (1, 2, 3)


def test_rows_of_padding_come_last_and_keep_some_of_it():
  found = list(bucketing.batches(_rows([0, 1, 0]), 1, ['x'], 3))
  assert [int(indices[0]) for indices, _ in found] == [1, 0, 2]
  assert {batch['x_tokens'].shape for _, batch in found} == {(1, 8)}


def test_all_batches_of_a_window_have_one_shape_by_default():
  found = list(bucketing.batches(_rows([100, 10], room=512), 1, ['x']))
  assert [batch['x_tokens'].shape for _, batch in found] == [(1, 104)] * 2


@pytest.mark.parametrize(
  ('lengths', 'most', 'expected'),
  [
    # 32 positions are more than a quarter of 104, 24 are not.
    ([104, 72], 2, [104, 72]),
    ([104, 80], 2, [104, 104]),
    # Exactly a quarter is not more.
    ([128, 96], 2, [128, 128]),
    ([128, 88], 2, [128, 88]),
    # The pair that costs least is joined first, however many it stands for.
    ([400, 200, 200, 200, 104], 2, [400, 200, 200, 200, 200]),
    ([400, 304, 304, 304, 160], 2, [400, 304, 304, 304, 304]),
    ([400, 304, 304, 160, 56], 3, [400, 304, 304, 160, 160]),
    ([400, 304, 304, 160, 56], 2, [400, 400, 400, 160, 160]),
  ],
)
def test_what_costs_least_is_joined(lengths, most, expected):
  found = bucketing.batches(_rows(lengths, room=512), 1, ['x'], most)
  assert [batch['x_tokens'].shape[1] for _, batch in found] == expected


def test_without_features_to_cut_rows_stay_in_order():
  found = bucketing.batches(_rows([3, 9, 1, 5, 7]), 2)
  assert [i.tolist() for i, _ in found] == [[0, 1], [2, 3], [4, -1]]


@pytest.mark.parametrize(
  'most, expected',
  [
    (1, [104] * 4),
    (2, [104, 64, 64, 64]),
    # 8 positions of two batches are less than a quarter of 104.
    (9, [104, 64, 64, 64]),
  ],
)
def test_shapes_are_few_and_worth_compiling(most, expected):
  rows = _rows([100, 60, 58, 55], room=512)
  found = bucketing.batches(rows, 1, ['x'], most)
  assert [batch['x_tokens'].shape[1] for _, batch in found] == expected
