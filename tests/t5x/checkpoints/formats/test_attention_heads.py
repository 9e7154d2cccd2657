"""Kernels of attention with their heads joined, split, and read in part."""

import itertools

import numpy as np
import pytest

from t5x.checkpoints.formats import attention_heads, lazy_array


def _recorded(shape):
  """An array of distinct numbers, and what is read of it."""
  values, read = np.arange(np.prod(shape)).reshape(shape), []

  def start_read(index):
    read.append(index)
    return lazy_array.Ready(values[index])

  return lazy_array.LazyArray('x', shape, values.dtype, start_read), read


def _slices(n):
  return [slice(a, b) for a in range(n) for b in range(a + 1, n + 1)]


@pytest.mark.parametrize(
  ('name', 'one', 'split', 'axis'),
  [
    ('query/kernel', (2, 6), (2, 3, 2), 1),
    ('a/out/kernel', (6, 3), (3, 2, 3), 0),
    ('a/value/kernel/m', (2, 6), (2, 2, 3), 1),
    ('key/kernel', (2, 2, 6), (2, 2, 3, 2), 2),
  ],
)
def test_every_part_is_that_part_and_no_other_is_read(name, one, split, axis):
  for here, there in ((one, split), (split, one)):
    leaf, read = _recorded(here)
    fitted = attention_heads.fitted(name, leaf, there)
    whole = np.arange(np.prod(one)).reshape(there)
    assert (fitted.shape, fitted.dtype, fitted.name) == (
      there,
      whole.dtype,
      'x',
    )
    size = split[axis + 1]
    for index in itertools.product(*map(_slices, there)):
      np.testing.assert_array_equal(
        fitted.start_read(index).result(), whole[index]
      )
      if here == one:
        rows = (slice(index[axis].start * size, index[axis].stop * size),)
        rest = (*index[:axis], *index[axis + 2 :])
      else:
        stop = -(-index[axis].stop // size)
        rows = slice(index[axis].start // size, stop), slice(0, size)
        rest = (*index[:axis], *index[axis + 1 :])
      assert read.pop() == (*rest[:axis], *rows, *rest[axis:])


def test_a_kernel_of_one_layer_becomes_a_matrix():
  leaf, _ = _recorded((2, 3, 5))
  for name, shape in (('out', (6, 5)), ('key', (2, 15)), ('value', (2, 15))):
    joined = attention_heads.joined(f'a/{name}/kernel', leaf)
    assert joined.shape == shape
    np.testing.assert_array_equal(joined.get().ravel(), np.arange(30))
  assert attention_heads.joined('a/wi/kernel', leaf) is leaf
  matrix, _ = _recorded((2, 15))
  assert attention_heads.joined('a/key/kernel', matrix) is matrix


def test_what_differs_in_more_than_heads_is_left_as_it_is():
  leaf, _ = _recorded((2, 6))
  for shape in ((2, 6), (3, 2, 3), (2, 6, 1, 1), (6, 2), (2, 3, 3)):
    assert attention_heads.fitted('key/kernel', leaf, shape) is leaf
  for name in ('query/kernel', 'a/out/kernel', 'b/key/kernel/v_row'):
    assert attention_heads.is_kernel(name)
  for name in ('query', 'query/bias', 'my_query/kernel', 'wi/kernel'):
    assert not attention_heads.is_kernel(name)
