"""Epochs are permutations, and windows cut them so that none is left out."""

import collections
import hashlib

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


def test_examples_come_in_the_order_of_earlier_versions():
  """A run that goes on with a newer version has to read the same steps."""
  found = []
  for n, (count, a_window, tight) in enumerate((
    (50, 7.3, 1.02), (40, 60.5, 1.0), (60, 5, 1.0), (64, 12.25, 1.05),
    # So tight that exchanges end by their number.
    (600, 150, 0.9),
  )):  # fmt: skip
    sizes = np.random.default_rng(n).integers(1, 60, (count, 2))
    most = tuple(sizes.mean(0) * tight)
    order = orders.Order(count, a_window, (n, 3), sizes, most)
    found += [order.window(window) for window in range(24)]
  windows = np.concatenate(found).astype('<i8')
  digest = hashlib.sha256(windows.tobytes()).hexdigest()
  assert digest[:16] == 'c35eb1ece58afc74'


def test_nothing_is_exchanged_without_lengths_or_a_limit():
  sizes = np.random.default_rng(0).integers(1, 60, (40, 2))
  plain = [orders.Order(40, 6, (1,)).window(i).tolist() for i in range(9)]
  for known, most in ((sizes, None), (None, (1.0, 1.0))):
    order = orders.Order(40, 6, (1,), known, most)
    assert [order.window(i).tolist() for i in range(9)] == plain
  # In the order of the set nothing is exchanged either.
  order = orders.Order(40, 6, None, sizes, (1.0, 1.0))
  assert order.window(1).tolist() == [6, 7, 8, 9, 10, 11]
  with pytest.raises(ValueError, match='sizes of these examples are unknown'):
    orders.Order(40, 6, (1,)).sums(3)
  found = orders.Order(40, 6, None, sizes).sums(2)
  assert found.tolist() == [
    sizes[:6].sum(0).tolist(),
    sizes[6:12].sum(0).tolist(),
  ]
