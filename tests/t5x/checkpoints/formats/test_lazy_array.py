"""Arrays that are read when asked: types, bounds, files, and what is in flight.

Slices that devices share are tested in `test_legacy_t5x`.
"""

import jax
import numpy as np
import pytest
import tensorstore as ts
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


@pytest.mark.parametrize('stored', [np.float32, np.float64, np.int8])
@pytest.mark.parametrize('wanted', [np.float32, np.float64, np.int8])
def test_values_have_the_type_that_was_asked_for(stored, wanted):
  """Whichever is the wider: else a model has parameters of two types."""
  values = np.arange(6, dtype=stored).reshape(2, 3)
  lazy = _lazy(values).astype(wanted)
  assert (lazy.dtype, lazy.ndim, lazy.size) == (np.dtype(wanted), 2, 6)
  for found in (
    lazy.get(),
    np.asarray(lazy),
    np.asarray(_lazy(values), wanted),
  ):
    assert found.dtype == wanted
    np.testing.assert_array_equal(found, values)
  assert np.asarray(_lazy(values)).dtype == stored
  assert repr(_lazy(values, wanted, 'a')) == f'LazyArray(a, {lazy.dtype}[2, 3])'


def test_values_in_memory_and_lazy_ones_are_wrapped_once():
  lazy = lazy_array.as_lazy('a', [[1, 2], [3, 4]])
  assert lazy_array.as_lazy('b', lazy) is lazy and lazy.name == 'a'
  part = lazy.start_read((slice(1, 2), slice(0, 1))).result()
  np.testing.assert_array_equal(part, [[3]])
  assert lazy_array.as_lazy('c', 5).get() == 5


def test_slices_get_both_bounds_and_nothing_else():
  every = slice(None)
  assert lazy_array.bounded(
    (every, slice(-2, None), slice(1, 9)), (2, 3, 4)
  ) == (*(slice(0, 2), slice(1, 3), slice(1, 4)),)
  for shape in ((2,), (2, 3, 4)):
    with pytest.raises(ValueError, match='argument 2'):
      lazy_array.bounded((every, every), shape)


@pytest.mark.parametrize(
  ('error', 'reason'),
  [
    (ValueError('cut off [source locations=here]'), 'cut off'),
    (OSError(), 'OSError()'),
  ],
)
@pytest.mark.parametrize('late', [False, True])
def test_what_the_storage_says_is_told_with_the_name(error, reason, late):
  def fail(*_):
    raise error

  read = lazy_array.DerivedRead(fail)
  lazy = lazy_array.LazyArray(
    'the leaf', (2,), np.int8, (lambda index: read) if late else fail
  )
  with pytest.raises(DamagedError) as raised:
    lazy.get()
  text = str(raised.value)
  assert text.startswith('the leaf: its values cannot be read')
  assert text.endswith(f'The storage said: {reason}')


def test_other_errors_are_no_damage():
  def fail(index):
    raise KeyError('a mistake of ours')

  with pytest.raises(KeyError):
    lazy_array.LazyArray('x', (2,), np.int8, fail).get()


def test_addresses_are_taken_apart():
  assert lazy_array.kvstore('gs://bucket') == {
    'driver': 'gcs',
    'bucket': 'bucket',
    'path': '',
  }
  for url, base, path in (
    ('http://host:8000/a/b', 'http://host:8000', '/a/b'),
    ('https://host', 'https://host', '/'),
  ):
    assert lazy_array.kvstore(url) == {
      'driver': 'http',
      'base_url': base,
      'path': path,
    }


def test_a_file_is_its_json_object_or_named(tmp_path):
  path = tmp_path / 'a.json'
  assert lazy_array.read_json(str(path), 'a thing') is None
  path.write_text('{"a": [1]}')
  assert lazy_array.read_json(str(path), 'a thing') == {'a': [1]}
  for text, found in (
    ('[1]', r'\(a list\)'),
    ('{"a"', 'found something else'),
    ('[' * 100_000, 'found something else'),
  ):
    path.write_text(text)
    with pytest.raises(
      DamagedError, match=rf'{path}: expected a thing .*{found}'
    ):
      lazy_array.read_json(str(path), 'a thing')
    with pytest.raises(DamagedError, match='Download the folder again'):
      lazy_array.json_file(path, 'a thing', 200_000)


@pytest.mark.parametrize('most', [9, 12])
def test_a_file_of_others_is_read_as_far_as_it_may_be_long(tmp_path, most):
  """Else a file of any length fills the memory, or a good one is refused."""
  path = tmp_path / 'a.json'
  path.write_text('{"a": 1}'.ljust(most))
  assert lazy_array.json_file(path, 'a thing', most) == {'a': 1}
  path.write_text('{"a": 1}'.ljust(most + 1))
  with pytest.raises(
    UserError, match=f'a thing, of at most {most} bytes; found {most + 1}'
  ):
    lazy_array.json_file(path, 'a thing', most)
  with pytest.raises(UserError, match='a thing; it can not be read'):
    lazy_array.json_file(tmp_path, 'a thing', most)


def test_a_missing_chunk_is_an_error_unless_zeros_are_meant(tmp_path):
  store = lazy_array.kvstore(f'{tmp_path}/a/')
  metadata = {'shape': [4], 'chunks': [2], 'dtype': '<f4'}
  written = ts.open(
    {'driver': 'zarr', 'kvstore': store, 'metadata': metadata}, create=True
  ).result()
  written[:2].write(np.ones(2, np.float32)).result()
  with pytest.raises(ValueError, match='missing'):
    lazy_array.open_zarr(store).result().read().result()
  loose = lazy_array.open_zarr(store, strict=False).result()
  np.testing.assert_array_equal(loose.read().result(), [1, 1, 0, 0])
  # What is opened can't be written, and nothing is made by opening.
  with pytest.raises(ValueError):
    loose[:2].write(np.zeros(2, np.float32)).result()
  with pytest.raises(ValueError):
    lazy_array.open_zarr(lazy_array.kvstore(f'{tmp_path}/b/')).result()
  assert not (tmp_path / 'b').exists()


# Arrays of 48 bytes: two are 96, and a third is begun at 144.
@pytest.mark.parametrize(
  ('most', 'order'),
  [
    (47, 'a+ a- b+ b- c+ c- d+ d-'),
    (48, 'a+ b+ a- c+ b- d+ c- d-'),
    (96, 'a+ b+ c+ a- d+ b- c- d-'),
    (143, 'a+ b+ c+ a- d+ b- c- d-'),
    (144, 'a+ b+ c+ d+ a- b- c- d-'),
    (192, 'a+ b+ c+ d+ a- b- c- d-'),
  ],
)
def test_no_more_is_in_flight_than_may_be(most, order):
  """Else a large checkpoint does not fit in a host's memory."""
  mesh = Mesh(
    np.array(jax.devices()[:4]).reshape(2, 2),
    ('x', 'y'),
    axis_types=(AxisType.Auto,) * 2,
  )
  place = NamedSharding(mesh, PartitionSpec('x'))
  values, seen = np.arange(12, dtype=np.float32).reshape(4, 3), []

  def array(name):
    def start_read(index):
      seen.append(f'{name}+')

      def finish():
        seen.append(f'{name}-')
        return values[index]

      return lazy_array.DerivedRead(finish)

    return lazy_array.LazyArray(name, values.shape, values.dtype, start_read)

  found = lazy_array.read_to_devices(
    [array(name) for name in 'abcd'], [place] * 4, most
  )
  for one in found:
    np.testing.assert_array_equal(one, values)
    assert one.sharding == place
  # Each has two slices, that four devices share.
  assert seen == [event for event in order.split() for _ in range(2)]


def test_every_array_has_its_place():
  with pytest.raises(ValueError, match='shorter'):
    lazy_array.read_to_devices([_lazy(np.zeros(2))], [])
