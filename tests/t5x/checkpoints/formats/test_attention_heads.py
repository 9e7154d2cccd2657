"""Heads of attention joined and split, against NumPy's own reshape."""

import itertools

import numpy as np
import pytest

from t5x.checkpoints.formats import attention_heads, lazy_array


def _recorded(values, read):
  """An array that notes which slices of it are read."""

  def start_read(index):
    read.append(index)
    return lazy_array.Ready(values[index])

  return lazy_array.LazyArray('x', values.shape, values.dtype, start_read)


def _parts(shape):
  """Every slice of an array, by its bounds."""
  bounds = (itertools.combinations(range(n + 1), 2) for n in shape)
  return [
    tuple(slice(*pair) for pair in pairs)
    for pairs in itertools.product(*bounds)
  ]


@pytest.mark.parametrize(
  ('joined', 'split'),
  [
    ((2, 12), (2, 3, 4)),  # a query, [D, H * K]
    ((12, 2), (3, 4, 2)),  # an output, [H * K, D]
    ((6,), (3, 2)),  # a factor of Adafactor
    ((2, 6, 2), (2, 3, 2, 2)),
    ((1, 2, 6), (1, 2, 2, 3)),
  ],
)
def test_every_part_has_the_numbers_of_that_part(joined, split):
  """Else a shard of a restored kernel holds another head."""
  values = np.arange(np.prod(joined)).reshape(joined)
  read = []
  leaf = attention_heads.fitted('query/kernel', _recorded(values, read), split)
  assert leaf.shape == split and read == []
  for part in _parts(split):
    np.testing.assert_array_equal(
      leaf.start_read(part).result(), values.reshape(split)[part]
    )
  read.clear()
  whole = values.reshape(split)
  leaf = attention_heads.fitted('out/kernel', _recorded(whole, read), joined)
  assert leaf.shape == joined and read == []
  at = next(i for i, n in enumerate(joined) if n != split[i])
  size = split[at + 1]
  for part in _parts(joined):
    np.testing.assert_array_equal(leaf.start_read(part).result(), values[part])
    # Of the heads, no more is read than the part touches.
    first, end = part[at].start // size, (part[at].stop - 1) // size + 1
    heads, every = read.pop()[at : at + 2]
    assert (heads, every) == (slice(first, end), slice(0, size))


def test_what_differs_in_more_than_heads_is_left_alone():
  leaf = np.arange(24).reshape(2, 12)
  for shape in ((2, 12), (2, 5), (2, 3, 5), (23,), (2, 3, 2, 2), ()):
    assert attention_heads.fitted('key/kernel', leaf, shape) is leaf
  for name in ('mlp/wi/kernel', 'query/bias', 'query_kernel'):
    assert attention_heads.fitted(name, leaf, (2, 3, 4)) is leaf


def test_a_kernel_of_three_axes_becomes_a_matrix():
  """The last two are the heads', or of an output the first two."""
  values = np.arange(24).reshape(2, 3, 4)
  for name, shape in (
    ('encoder/layers_0/attention/query/kernel', (2, 12)),
    ('attention/key/kernel', (2, 12)),
    ('value/kernel/m', (2, 12)),
    ('attention/out/kernel', (6, 4)),
  ):
    found = attention_heads.joined(name, values)
    np.testing.assert_array_equal(found.get(), values.reshape(shape))
    assert attention_heads.is_kernel(name)
  for name, kernel in (
    ('mlp/wo/kernel', values),
    ('query/kernel', values[0]),
    ('out/kernel', values[None]),
  ):
    assert attention_heads.joined(name, kernel) is kernel
  assert not attention_heads.is_kernel('mlp/wo/kernel')
