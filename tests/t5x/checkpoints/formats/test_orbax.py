"""The description of an Orbax checkpoint, in all forms that Orbax writes."""

import json

import numpy as np
import pytest
import tensorstore

from t5x.checkpoints.formats import orbax
from t5x.errors import DamagedError, UserError


def _leaf(*keys, kind='jax.Array'):
  return {
    'key_metadata': [{'key': key, 'key_type': 2} for key in keys],
    'value_metadata': {'value_type': kind},
  }


def _described(folder, *leaves, **options):
  tree = {'tree_metadata': {str(i): x for i, x in enumerate(leaves)}, **options}
  (folder / 'state').mkdir(exist_ok=True)
  (folder / 'state/_METADATA').write_text(json.dumps(tree))
  return str(folder)


@pytest.mark.parametrize('zarr3', [False, True])
def test_arrays_in_files_of_their_own_are_read(tmp_path, zarr3):
  values = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
  store = tensorstore.open(
    {
      'driver': 'zarr3' if zarr3 else 'zarr',
      'kvstore': {'driver': 'file', 'path': f'{tmp_path}/state/target.w/'},
    },
    create=True,
    dtype='float32',
    shape=[2, 3],
  ).result()
  store[...] = values
  options = {'use_ocdbt': False, 'use_zarr3': zarr3}
  strict = {**options, 'store_array_data_equal_to_fill_value': True}
  for given in (options, strict):
    path = _described(tmp_path, _leaf('target', 'w'), **given)
    assert orbax.missing_part(path) is None
    read = orbax.read(path)['target']['w']
    np.testing.assert_array_equal(read.get(), values)
  # What is not there is zeros, where Orbax writes no chunk of zeros.
  for file in (tmp_path / 'state/target.w').rglob('*'):
    if file.is_file() and file.name not in ('.zarray', 'zarr.json'):
      file.unlink()
  with pytest.raises(UserError, match='leaf target/w: its values cannot be'):
    orbax.read(path)['target']['w'].get()
  path = _described(tmp_path, _leaf('target', 'w'), **options)
  assert not orbax.read(path)['target']['w'].get().any()


def test_leaves_without_numbers_are_empty_or_none(tmp_path):
  kinds = ('None', 'Dict', 'List', 'Tuple', 'NamedTuple')
  leaves = [_leaf('a', kind, kind=kind) for kind in kinds]
  path = _described(tmp_path, *leaves, _leaf('b', kind='None'))
  empty = {kind: {} for kind in kinds[1:]}
  assert orbax.read(path) == {'a': {'None': None, **empty}, 'b': None}
  path = _described(tmp_path, _leaf('a', kind='string'))
  with pytest.raises(UserError, match='leaf a: expected an array, found a str'):
    orbax.read(path)


@pytest.mark.parametrize(
  'leaves',
  [
    [_leaf()],
    [_leaf('a', 3)],
    [_leaf('a', 'b/c')],
    [_leaf('a', '..', 'b')],
    [_leaf('a'), _leaf('a', 'b')],
    [_leaf('a', 'b'), _leaf('a', 'b', 'c')],
    [{'key_metadata': 3}],
    [{'value_metadata': {}}],
    [3],
  ],
)
def test_what_describes_no_leaves_is_damage(tmp_path, leaves):
  path = _described(tmp_path, *leaves)
  with pytest.raises(DamagedError, match='not the description of leaves that'):
    orbax.read(path)


def test_a_description_that_is_no_dict_is_damage(tmp_path):
  path = _described(tmp_path)
  (tmp_path / 'state/_METADATA').write_text('{"tree_metadata": []}')
  with pytest.raises(DamagedError, match='not the description of leaves that'):
    orbax.read(path)


def test_what_a_checkpoint_lacks_is_named(tmp_path, monkeypatch):
  assert orbax.missing_part(str(tmp_path)) == 'state/_METADATA'
  path = _described(tmp_path)
  # Newer ones are in one database, unless they say that they are not.
  assert orbax.missing_part(path) == 'state/manifest.ocdbt'
  _described(tmp_path, use_ocdbt=False)
  assert orbax.missing_part(path) is None
  with monkeypatch.context() as patch:
    patch.setattr(orbax.files, 'is_remote', lambda _: True)
    assert orbax.missing_part(path) == 'commit_success.txt'
    (tmp_path / 'commit_success.txt').touch()
    assert orbax.missing_part(path) is None
  killed = tmp_path / 'checkpoint_1.orbax-checkpoint-tmp-3'
  killed.mkdir()
  assert 'cut short' in orbax.missing_part(_described(killed, use_ocdbt=False))
