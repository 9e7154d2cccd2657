"""Tests of t5x.checkpoints.formats.legacy_t5x and lazy_array."""

import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import threading

import flax.serialization
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from t5x.checkpoints.formats import lazy_array, legacy_t5x
from t5x.checkpoints.formats import orbax as orbax_lib
from t5x.errors import UserError
from tests import golden_data
from tests.t5x.checkpoints import toy_runs

GOLDEN = pathlib.Path(golden_data.__file__).parent / 'golden'
NAMES = ['t5x_1_1', 't5x_1_0']


def _values(tree):
  flat = traverse_util.flatten_dict(tree, sep='/')
  return {name: leaf.get() for name, leaf in flat.items()}


def _assert_same_bits(left, right):
  assert left.keys() == right.keys()
  for name in left:
    assert left[name].dtype == right[name].dtype, name
    assert left[name].shape == right[name].shape, name
    assert left[name].tobytes() == right[name].tobytes(), name


def _state(dtype=np.float32):
  values = np.random.default_rng(0).normal(size=(16, 8))
  return {
    'target': {'a': {'kernel': values.astype(dtype)}, 'b': values[0]},
    'state': {
      'step': np.int32(7),
      'param_states': {'a': {'v': values * 0, 'm': np.zeros(1)}},
    },
  }


@pytest.mark.parametrize('name', NAMES)
def test_parameters_from_upstream_equal_the_golden_ones_to_the_bit(name):
  tree = legacy_t5x.read(str(GOLDEN / name / 'legacy/checkpoint_0'))
  expected = traverse_util.flatten_dict(golden_data.load(name).params, sep='/')
  _assert_same_bits(_values(tree['target']), expected)
  assert tree['state']['step'].get() == 0


@pytest.mark.parametrize('name', NAMES)
def test_both_layouts_of_upstream_hold_the_same_optimizer_state(name):
  legacy = legacy_t5x.read(str(GOLDEN / name / 'legacy/checkpoint_0'))
  orbax = orbax_lib.read(str(GOLDEN / name / 'orbax/checkpoint_0'))
  _assert_same_bits(_values(legacy['state']), _values(orbax['state']))


@pytest.mark.parametrize('dtype', [np.float32, ml_dtypes.bfloat16])
def test_what_is_written_reads_back_to_the_bit(tmp_path, dtype):
  state = _state(dtype)
  path = str(tmp_path / 'checkpoint_7')
  legacy_t5x.write(path, state, position={'batches': 3})
  flat = traverse_util.flatten_dict(state, sep='/')
  _assert_same_bits(_values(legacy_t5x.read(path)), flat)
  assert legacy_t5x.read_position(path) == {'batches': 3}


def test_what_is_small_is_in_the_index_and_what_is_empty_stays(tmp_path):
  """Else T5X finds no array, or a tree lacks a part that a model has."""
  path = tmp_path / 'new' / 'checkpoint_7'
  two = np.arange(2.0)
  state = {
    'target': {'two': two, 'one': two[:1], 'none': two[:0, None], 'e': {}},
    'state': {'step': np.int32(7), 'param_states': {'two': None}},
    'flax_mutables': {'seen': {'count': np.arange(3)}},
  }
  legacy_t5x.write(str(path), state)
  assert sorted(p.name for p in path.iterdir()) == [
    *('checkpoint', 'checksums.json', 'flax_mutables.seen.count', 'target.two')
  ]
  found = legacy_t5x.read(str(path))
  assert set(found) == {'target', 'state', 'flax_mutables'}
  for name in ('two', 'one', 'none'):
    value = found['target'][name].get()
    assert value.shape == state['target'][name].shape
    np.testing.assert_array_equal(value, state['target'][name])
  assert found['target']['e'] == {}
  assert found['state']['param_states'] == {'two': None}
  np.testing.assert_array_equal(
    found['flax_mutables']['seen']['count'], [0, 1, 2]
  )
  assert legacy_t5x.read_position(str(path)) is None


def test_a_save_takes_these_steps_in_this_order(tmp_path, monkeypatch):
  """Each begins when all hosts have done the one before it."""
  path, seen = tmp_path / 'checkpoint_7', []
  work = tmp_path / 'checkpoint_7.legacy-tmp'
  work.mkdir()
  (work / 'old').write_text('of a save that was cut short')

  def note(name):
    del name
    folder = path if path.exists() else work
    names = ('old', 'target.b/0', 'checkpoint')
    seen.append((folder.name, *(n for n in names if (folder / n).exists())))

  monkeypatch.setattr(legacy_t5x.distributed, 'sync_global_devices', note)
  legacy_t5x.write(str(path), _state())
  assert seen == [
    (work.name,),
    (work.name, 'target.b/0'),
    (path.name, 'target.b/0', 'checkpoint'),
  ]


def test_another_host_than_the_first_writes_neither_folder_nor_index(
  tmp_path, monkeypatch
):
  """Else hosts write over each other, or rename what is not whole."""
  path = tmp_path / 'checkpoint_7'
  work = tmp_path / 'checkpoint_7.legacy-tmp'
  work.mkdir()
  (work / 'of the first host').write_text('')
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  legacy_t5x.write(str(path), _state(), position={'batches': 3})
  assert not path.exists()
  assert (work / 'of the first host').exists()
  assert not {'checkpoint', 'dataset.json'} & {p.name for p in work.iterdir()}
  # Of what every host has, the first writes the numbers.
  assert not (work / 'target.b' / '0').exists()


def test_a_number_that_cannot_be_written_ends_the_save(tmp_path, monkeypatch):
  """Else a checkpoint appears without it."""

  class Failed:
    def result(self):
      raise OSError('the disk is full')

  write = legacy_t5x._write_array

  def fail(folder, name, value):
    spec, _ = write(folder, name, value)
    return spec, [Failed()]

  monkeypatch.setattr(legacy_t5x, '_write_array', fail)
  with pytest.raises(OSError, match='disk is full'):
    legacy_t5x.write(str(tmp_path / 'checkpoint_7'), _state())
  assert not (tmp_path / 'checkpoint_7').exists()


def test_a_golden_checkpoint_written_again_has_the_same_files(tmp_path):
  old = GOLDEN / 't5x_1_0/legacy/checkpoint_0'
  tree = legacy_t5x.read(str(old))
  new = tmp_path / 'checkpoint_0'
  legacy_t5x.write(str(new), jax.tree.map(lambda leaf: leaf.get(), tree))
  assert _files(new) - _files(old) == {pathlib.Path('checksums.json')}
  assert not _files(old) - _files(new)
  jax.tree.map(np.testing.assert_array_equal, _index(new), _index(old))


def _files(root):
  return {path.relative_to(root) for path in root.rglob('*')}


def _index(root):
  return flax.serialization.msgpack_restore((root / 'checkpoint').read_bytes())


def test_a_sharded_array_is_cut_into_chunks_as_it_is_into_shards(tmp_path):
  devices = np.array(jax.devices()).reshape(4, 2)
  mesh = Mesh(devices, ('x', 'y'), axis_types=(AxisType.Auto,) * 2)
  values = np.arange(128, dtype=np.float32).reshape(16, 8)
  sharded = jax.device_put(values, NamedSharding(mesh, PartitionSpec('x', 'y')))
  state = {'target': {'a': sharded}, 'state': {'step': np.int32(0)}}
  path = tmp_path / 'checkpoint_0'
  legacy_t5x.write(str(path), state)
  assert json.loads((path / 'target.a/.zarray').read_text())['chunks'] == [4, 4]
  read = legacy_t5x.read(str(path))['target']['a']
  np.testing.assert_array_equal(read.get(), values)


def test_large_shards_are_cut_into_smaller_chunks():
  assert legacy_t5x._chunks((8, 16), 4) == [8, 16]
  assert legacy_t5x._chunks((32128, 4096), 4) == [4016, 4096]
  # Up to 64 MiB, along the first axis that is even, as long as one is.
  whole = 1 << 24
  assert legacy_t5x._chunks((whole,), 4) == [whole]
  assert legacy_t5x._chunks((whole + 2,), 4) == [whole // 2 + 1]
  assert legacy_t5x._chunks((3, whole), 4) == [3, whole // 4]
  assert legacy_t5x._chunks((3, whole + 1), 4) == [3, whole + 1]
  assert legacy_t5x._chunks((), 4) == []


def test_a_slice_that_devices_share_is_read_once():
  mesh = Mesh(np.array(jax.devices()), ('x',), axis_types=(AxisType.Auto,))
  values, reads = np.arange(32.0, dtype=np.float32).reshape(16, 2), []

  def start_read(index):
    reads.append(index)
    return lazy_array.Ready(values[index])

  lazy = lazy_array.LazyArray('x', values.shape, values.dtype, start_read)
  places = [
    NamedSharding(mesh, PartitionSpec('x')),
    NamedSharding(mesh, PartitionSpec()),
  ]
  arrays = lazy_array.read_to_devices([lazy, lazy], places, max_bytes=1)
  assert len(reads) == 8 + 1
  for array, place in zip(arrays, places, strict=True):
    np.testing.assert_array_equal(array, values)
    assert array.sharding == place


def test_bits_of_bfloat16_in_an_old_version_are_read_as_bfloat16(tmp_path):
  path = tmp_path / 'checkpoint_0'
  values = np.arange(8).astype(ml_dtypes.bfloat16)
  bits = values.view(np.uint16)
  numbers = np.arange(8, dtype=np.float32)
  state = {'target': {'a': bits, 'b': numbers}, 'state': {}}
  legacy_t5x.write(str(path), state)
  # Since version 3, numbers of this type are such numbers.
  read = legacy_t5x.read(str(path))['target']['a']
  assert read.dtype == np.uint16
  np.testing.assert_array_equal(read.get(), bits)
  index = flax.serialization.msgpack_restore((path / 'checkpoint').read_bytes())
  for version in (1, 2):
    (path / 'checkpoint').write_bytes(
      flax.serialization.msgpack_serialize({**index, 'version': version})
    )
    read = legacy_t5x.read(str(path))['target']
    assert read['a'].dtype == jnp.bfloat16
    np.testing.assert_array_equal(read['a'].get(), values)
    assert read['b'].dtype == np.float32
    np.testing.assert_array_equal(read['b'].get(), numbers)


def test_the_type_of_an_index_is_that_of_the_numbers_that_are_read(tmp_path):
  """They are converted, and their bits are not taken for another type's."""
  path = tmp_path / 'checkpoint_0'
  legacy_t5x.write(str(path), {'target': {'a': np.arange(4.0)}, 'state': {}})
  index = _index(path)
  index['optimizer']['target']['a']['dtype'] = 'float32'
  # Old ones name the place beside the store.
  del index['optimizer']['target']['a']['kvstore']['path']
  index['optimizer']['target']['a']['path'] = '/elsewhere/target.a'
  (path / 'checkpoint').write_bytes(flax.serialization.msgpack_serialize(index))
  found = legacy_t5x.read(str(path))['target']['a'].get()
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, [0, 1, 2, 3])


def test_a_checkpoint_is_read_over_http(tmp_path):
  handler = functools.partial(
    _QuietHandler, directory=str(GOLDEN / 't5x_1_1/legacy')
  )
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    url = f'http://127.0.0.1:{server.server_port}/checkpoint_0'
    assert legacy_t5x.is_legacy_checkpoint(url)
    assert not legacy_t5x.is_legacy_checkpoint(f'{url}0')
    scale = legacy_t5x.read(url)['target']['encoder']['encoder_norm']
    expected = golden_data.load('t5x_1_1').params['encoder']['encoder_norm']
    np.testing.assert_array_equal(scale['scale'].get(), expected['scale'])
  finally:
    server.shutdown()
    server.server_close()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *args):
    pass


def test_paths_map_to_key_value_stores():
  assert lazy_array.kvstore('gs://t5-data/a/b') == {
    'driver': 'gcs',
    'bucket': 't5-data',
    'path': 'a/b',
  }
  assert lazy_array.kvstore('/a/b')['driver'] == 'file'
  with pytest.raises(UserError, match=r'cannot read from s3://.*gs://bucket'):
    lazy_array.kvstore('s3://a/b')


def test_without_its_index_it_is_no_checkpoint(tmp_path):
  path = tmp_path / 'checkpoint_7'
  legacy_t5x.write(str(path), _state())
  (path / 'checkpoint').unlink()
  assert not legacy_t5x.is_legacy_checkpoint(str(path))
  with pytest.raises(UserError, match=rf"{path}: no T5X .* file 'checkpoint'"):
    legacy_t5x.read(str(path))


@pytest.mark.parametrize('cut', [0, 5, -1])
def test_an_index_that_stops_short_is_named(tmp_path, cut):
  path = tmp_path / 'checkpoint_7'
  legacy_t5x.write(str(path), _state())
  content = (path / 'checkpoint').read_bytes()
  (path / 'checkpoint').write_bytes(content[:cut])
  with pytest.raises(UserError, match=rf'{path}/checkpoint: expected'):
    legacy_t5x.read(str(path))


@pytest.mark.parametrize('lost', ['target.a.kernel', 'target.a.kernel/0.0'])
def test_an_array_without_its_files_is_an_error_and_not_zeros(tmp_path, lost):
  path = tmp_path / 'checkpoint_7'
  legacy_t5x.write(str(path), _state())
  place = path / lost
  shutil.rmtree(place) if place.is_dir() else place.unlink()
  kernel = legacy_t5x.read(str(path))['target']['a']['kernel']
  with pytest.raises(UserError, match=r'leaf target/a/kernel: .*incomplete or'):
    kernel.get()


def _a_leaf(**changes):
  spec = {
    'driver': 'zarr',
    'dtype': 'float32',
    'kvstore': {'driver': 'file', 'path': 'target.a/'},
    'metadata': {'shape': [2]},
    **changes,
  }
  return {'version': 3, 'optimizer': {'target': {'a': spec}, 'state': {}}}


_EMPTY = {'target': {}, 'state': {}}


@pytest.mark.parametrize(
  ('index', 'message'),
  [
    ({'version': 9, 'optimizer': _EMPTY}, r'version 1 to 3 .* found 9'),
    ({'version': 4, 'optimizer': _EMPTY}, r'version 1 to 3 .* found 4'),
    ({'version': 0, 'optimizer': _EMPTY}, r'version 1 to 3 .* found 0'),
    ({'optimizer': _EMPTY}, r'version 1 to 3 .* found None'),
    ({'version': np.arange(2), 'optimizer': _EMPTY}, r'found \[0 1\]'),
    ([1, 2], r"entries 'optimizer' → 'target', found list"),
    ({'version': 3, 'model': {}}, r"'target', found \['model', 'version'\]"),
    ({'version': 3, 'optimizer': {'state': {}}}, r"found \['optimizer', 'vers"),
    (
      {'version': 3, 'optimizer': 'target'},
      r"found \['optimizer', 'version'\]",
    ),
    (_a_leaf(metadata={}), r"not the description of an array .*'shape'"),
    (_a_leaf(dtype='no type'), 'not the description of an array'),
    (_a_leaf(kvstore={'path': '..'}), r"an array at '\.\.'"),
    (_a_leaf(kvstore={'path': 'a/./'}), r"an array at 'a/\./'"),
    (_a_leaf(kvstore={'path': '///'}), r"an array at '///'"),
    (_a_leaf(kvstore={}), 'not the description of an array'),
  ],
)
def test_an_index_of_something_else_is_named(tmp_path, index, message):
  path = tmp_path / 'checkpoint_7'
  path.mkdir()
  (path / 'checkpoint').write_bytes(flax.serialization.msgpack_serialize(index))
  with pytest.raises(UserError, match=rf'^{path}/checkpoint: .*{message}'):
    legacy_t5x.read(str(path))


def test_a_save_that_is_cut_short_leaves_no_checkpoint(tmp_path, monkeypatch):
  path = tmp_path / 'checkpoint_7'

  def stop(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(os, 'replace', stop)
    with pytest.raises(KeyboardInterrupt):
      legacy_t5x.write(str(path), _state())
  assert not path.exists()
  removed = legacy_t5x.remove_leftovers(str(tmp_path))
  assert removed == ['checkpoint_7.legacy-tmp']
  assert list(tmp_path.iterdir()) == []
  # Other folders stay, and none is no mistake.
  (tmp_path / 'checkpoint_8').mkdir()
  assert legacy_t5x.remove_leftovers(str(tmp_path)) == []
  assert (tmp_path / 'checkpoint_8').exists()
  assert legacy_t5x.remove_leftovers(str(tmp_path / 'nowhere')) == []


def test_a_checkpoint_that_exists_is_not_written_over(tmp_path):
  path = str(tmp_path / 'checkpoint_7')
  legacy_t5x.write(path, _state())
  with pytest.raises(UserError, match=rf'{re.escape(path)}: .* exists already'):
    legacy_t5x.write(path, _state())


def _changed(path, **changes):
  """Changes entries of the index of a checkpoint."""
  file = path / 'checkpoint'
  file.write_bytes(
    flax.serialization.msgpack_serialize({**_index(path), **changes})
  )
  return legacy_t5x.read(str(path))


def test_versions_are_known_ones_and_say_what_16_bits_are(tmp_path):
  path = tmp_path / 'checkpoint_0'
  bits = np.arange(8, dtype=np.uint16)
  state = {'target': {'a': bits, 'b': bits.astype(np.float32)}}
  legacy_t5x.write(str(path), state)
  for version, dtype in ((1, jnp.bfloat16), (2, jnp.bfloat16), (3, np.uint16)):
    read = _changed(path, version=version)['target']
    assert read['a'].dtype == dtype and read['b'].dtype == np.float32
    np.testing.assert_array_equal(read['a'].get().view(np.uint16), bits)
    np.testing.assert_array_equal(read['b'].get(), state['target']['b'])
  for version in (0, 4, None, 'x', np.array([3, 3])):
    with pytest.raises(UserError, match='expected version 1 to 3'):
      _changed(path, version=version)


def test_only_the_last_name_of_an_arrays_place_counts(tmp_path):
  path = tmp_path / 'checkpoint_0'
  legacy_t5x.write(str(path), {'target': {'a': np.arange(8)}})
  spec = _index(path)['optimizer']['target']['a']
  for store, more in (
    ({'path': '/was/there/target.a/'}, {}),
    ({}, {'path': '../target.a'}),
    ({'path': 'target.a'}, {'path': 'other'}),
  ):
    changed = {**spec, 'kvstore': {'driver': 'file', **store}, **more}
    read = _changed(path, optimizer={'target': {'a': changed}})['target']
    assert read['a'].get().tolist() == list(range(8))
  for place in ('/', './', '..', 'a/..'):
    changed = {**spec, 'kvstore': {'driver': 'file', 'path': place}}
    with pytest.raises(UserError, match='not the description of an array'):
      _changed(path, optimizer={'target': {'a': changed}})


def test_leaves_of_any_size_and_none_are_kept(tmp_path):
  path = tmp_path / 'new' / 'run' / 'checkpoint_0'
  target = {
    'none': None,
    'empty': {},
    'no': np.zeros((0, 3)),
    'one': np.ones((1, 1)),
    'two': np.arange(2),
    'last': np.arange(3),
  }
  mutables = {'batch': {'mean': np.arange(4)}}
  state = {'target': target, 'state': {}, 'flax_mutables': mutables}
  legacy_t5x.write(str(path), state)
  stored = _index(path)['optimizer']['target']
  assert (stored['none'], stored['empty']) == (None, {})
  # At most one number is in the index itself.
  assert {n for n, x in stored.items() if isinstance(x, dict)} == {
    'empty',
    'two',
    'last',
  }
  read = legacy_t5x.read(str(path))
  found = read['target']
  assert (found.pop('none'), found.pop('empty')) == (None, {})
  _assert_same_bits(_values(found), {name: target[name] for name in found})
  mean = read['flax_mutables']['batch']['mean'].get()
  assert mean.tolist() == [0, 1, 2, 3]
  assert legacy_t5x.read_position(str(path)) is None


def test_processes_wait_for_the_folder_the_arrays_and_the_name(
  tmp_path, monkeypatch
):
  """Else one writes where no folder is, or names what another still writes."""
  path = tmp_path / 'checkpoint_7'
  left = tmp_path / 'checkpoint_7.legacy-tmp'
  left.mkdir()
  (left / 'stale').touch()
  seen = []

  def barrier(_):
    (folder,) = tmp_path.iterdir()
    names = {p.name for p in folder.iterdir()}
    done = 'target.a.kernel' in names, 'checkpoint' in names
    seen.append((folder.name, *done))

  monkeypatch.setattr(legacy_t5x.distributed, 'sync_global_devices', barrier)
  legacy_t5x.write(str(path), _state())
  assert seen == [
    (left.name, False, False),
    (left.name, True, False),
    (path.name, True, True),
  ]
  assert not (path / 'stale').exists()


def test_another_process_leaves_to_process_0_what_is_one_for_all(
  tmp_path, monkeypatch
):
  path = tmp_path / 'checkpoint_7'
  legacy_t5x.write(str(tmp_path / 'by_0'), _state())
  # What process 0 has begun.
  work = tmp_path / 'checkpoint_7.legacy-tmp'
  (work / 'target.a.kernel').mkdir(parents=True)
  array = 'target.a.kernel/.zarray'
  shutil.copy(tmp_path / 'by_0' / array, work / array)
  monkeypatch.setattr(legacy_t5x, 'jax', toy_runs.AsProcess(1))
  legacy_t5x.write(str(path), _state(), position={'batches': 3})
  assert not path.exists() and (work / array).exists()
  names = {p.name for p in work.rglob('*') if p.is_file()}
  assert names == {'.zarray'}


def test_leftovers_are_looked_for_in_local_folders(tmp_path):
  (tmp_path / 'notes').mkdir()
  for folder in (str(tmp_path), str(tmp_path / 'none'), 'gs://nobody/none'):
    assert legacy_t5x.remove_leftovers(folder) == []
  assert (tmp_path / 'notes').exists()
