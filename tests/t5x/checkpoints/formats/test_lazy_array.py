"""Arrays that are read on demand: bounds, types, order and messages."""

import json
import os

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from t5x.checkpoints.formats import lazy_array
from t5x.errors import DamagedError, UserError


def _lazy(values, dtype=None, name='x'):
  return lazy_array.LazyArray(
    name,
    values.shape,
    dtype or values.dtype,
    lambda index: lazy_array.Ready(values[index]),
  )


def test_places_of_all_kinds_have_their_store():
  store = lazy_array.kvstore
  http = {'driver': 'http', 'base_url': 'http://h:1'}
  assert store('http://h:1/a/b') == {**http, 'path': '/a/b'}
  assert store('http://h:1') == {**http, 'path': '/'}
  assert store('gs://b') == {'driver': 'gcs', 'bucket': 'b', 'path': ''}
  assert store('a') == {'driver': 'file', 'path': os.path.abspath('a')}


def test_bounds_are_explicit_and_one_for_each_axis():
  index = (slice(None), slice(1, -1), slice(0, 9))
  assert lazy_array.bounded(index, (4, 5, 6)) == (
    slice(0, 4),
    slice(1, 4),
    slice(0, 6),
  )
  with pytest.raises(ValueError, match='shorter'):
    lazy_array.bounded(index, (4, 5))


@pytest.mark.parametrize(
  ('stored', 'wanted'),
  [('f4', 'f8'), ('f8', 'f4'), ('i4', 'i8'), ('f4', 'f4')],
)
def test_values_have_the_type_that_was_said(stored, wanted):
  values = np.arange(6, dtype=stored).reshape(2, 3)
  lazy = _lazy(values, wanted)
  assert lazy.get().dtype == np.asarray(lazy).dtype == wanted
  assert np.asarray(lazy, dtype='f2').dtype == np.dtype('f2')
  np.testing.assert_array_equal(np.asarray(lazy, dtype='f2'), values)
  assert (lazy.ndim, lazy.size) == (2, 6)
  assert lazy.astype('f2').get().dtype == np.dtype('f2')
  assert repr(lazy) == f'LazyArray(x, {np.dtype(wanted)}[2, 3])'


@pytest.mark.parametrize('late', [False, True])
@pytest.mark.parametrize(
  ('error', 'said'),
  [
    (ValueError('no room [source: a.cc:3]'), 'no room'),
    (OSError(), r'OSError\(\)'),
  ],
)
def test_what_the_storage_said_is_told_in_short(late, error, said):
  class Fails:
    def result(self):
      raise error

  def start_read(index):
    if not late:
      raise error
    return Fails()

  lazy = lazy_array.LazyArray('c: leaf a', (2,), 'f4', start_read)
  with pytest.raises(DamagedError, match=f'^c: leaf a: .* said: {said}$'):
    lazy.get()


def test_a_file_may_have_as_many_bytes_as_it_may(tmp_path):
  file = tmp_path / 'x.json'
  file.write_text(json.dumps({'a': 1}))
  size = file.stat().st_size
  for limit in (size, size + 1):
    assert lazy_array.json_file(file, 'it', limit) == {'a': 1}
  with pytest.raises(UserError, match=f'at most {size - 1} bytes'):
    lazy_array.json_file(file, 'it', size - 1)
  with pytest.raises(UserError, match='expected it; it can not be read'):
    lazy_array.json_file(tmp_path / 'none', 'it', 9)


@pytest.mark.parametrize(
  ('max_bytes', 'expected'),
  [
    # Two of them and no more are under way.
    (128, ['s0', 's1', 's2', 'f0', 's3', 'f1', 'f2', 'f3']),
    (127, ['s0', 's1', 'f0', 's2', 'f1', 's3', 'f2', 'f3']),
    # One is read however large it is.
    (1, ['s0', 'f0', 's1', 'f1', 's2', 'f2', 's3', 'f3']),
  ],
)
def test_no_more_is_under_way_than_memory_is_given(max_bytes, expected):
  mesh = Mesh(np.array(jax.devices()), ('x',), axis_types=(AxisType.Auto,))
  values, seen = np.arange(16, dtype=np.float32).reshape(8, 2), []

  class Read:
    def __init__(self, name, index):
      self._name, self._index = name, index

    def result(self):
      seen.append(f'f{self._name}')
      return values[self._index] + int(self._name)

  def array(name):
    def start_read(index):
      seen.append(f's{name}')
      return Read(name, index)

    return lazy_array.LazyArray(name, (8, 2), np.float32, start_read)

  place = NamedSharding(mesh, PartitionSpec('x'))
  read = lazy_array.read_to_devices(
    [array(str(i)) for i in range(4)], [place] * 4, max_bytes
  )
  assert list(dict.fromkeys(seen)) == expected and len(seen) == 8 * 8
  for i, one in enumerate(read):
    np.testing.assert_array_equal(one, values + i)
  with pytest.raises(ValueError, match='shorter'):
    lazy_array.read_to_devices([array('0')] * 2, [place])
