"""Epochs are permutations, and windows cut them so that none is left out."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dss_jax.pipeline import orders


@settings(deadline=None)
@given(
  count=st.integers(1, 40),
  a_window=st.one_of(st.integers(1, 50), st.floats(0.1, 9)),
  seed=st.integers(0, 5),
  limited=st.booleans(),
)
def test_no_example_comes_twice_more_often_than_another(
  count, a_window, seed, limited
):
  sizes = np.random.default_rng(seed).integers(1, 30, (count, 2))
  most = tuple(sizes.mean(0)) if limited else None
  order = orders.Order(count, a_window, (seed,), sizes, most)
  seen = collections.Counter({example: 0 for example in range(count)})
  for window in range(12):
    examples = order.window(window)
    assert len(examples) in (int(a_window), int(a_window) + 1)
    seen.update(examples.tolist())
    assert sum(seen.values()) == order.begin(window + 1)
    assert max(seen.values()) - min(seen.values()) <= 1, window


def test_a_window_is_found_without_those_before_it():
  made = [orders.Order(10, 4, (7, 1)) for _ in range(2)]
  windows = [made[0].window(i).tolist() for i in range(8)]
  assert (
    windows == [made[1].window(i).tolist() for i in reversed(range(8))][::-1]
  )
  flat = np.concatenate(windows)
  epochs = flat[:30].reshape(3, 10)
  assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3
  other = np.concatenate([orders.Order(10, 4, (8, 1)).window(0)])
  assert other.tolist() != windows[0]


def test_without_a_seed_the_order_is_the_sets():
  order = orders.Order(5, 3, None)
  windows = [order.window(i).tolist() for i in range(4)]
  assert windows == [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1]]


def test_two_and_a_half_examples_are_two_and_three():
  order = orders.Order(100, 2.5, (0,))
  assert [len(order.window(i)) for i in range(4)] == [2, 3, 2, 3]


@pytest.mark.parametrize('a_window', [8, 30])
def test_long_windows_give_length_to_short_ones(a_window):
  rng = np.random.default_rng(0)
  sizes = np.stack([rng.integers(1, 60, 300), rng.integers(1, 20, 300)], 1)
  free = orders.Order(300, a_window, (0,), sizes)
  most = tuple(sizes.mean(0) * 1.1)
  limited = orders.Order(300, a_window, (0,), sizes, most)
  allowed = a_window * np.array(most)
  # Whole windows of an epoch; those across an end have two parts.
  windows = 300 // a_window
  assert (free.sums(windows) > allowed).any()
  assert (limited.sums(windows) <= allowed).all()
  moved = sum(
    set(free.window(w).tolist()) != set(limited.window(w).tolist())
    for w in range(windows)
  )
  assert 0 < moved < windows
