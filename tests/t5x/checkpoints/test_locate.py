"""Tests of t5x.checkpoints.locate and formats.orbax."""

import json
import os
import pathlib
import shutil

import pytest
import tensorstore

from t5x import checkpoints
from t5x.checkpoints import locate
from t5x.errors import UserError
from t5x.examples.t5.config import T5Config
from tests import golden_data

GOLDEN = pathlib.Path(golden_data.__file__).parent / 'golden'


@pytest.mark.parametrize('lost', ['state/_METADATA', 'state/manifest.ocdbt'])
def test_an_incomplete_orbax_checkpoint_is_named(tmp_path, lost):
  path = tmp_path / 'checkpoint_0'
  shutil.copytree(GOLDEN / 't5x_1_0/orbax/checkpoint_0', path)
  (path / lost).unlink()
  assert checkpoints.latest_step(str(tmp_path)) is None
  with pytest.raises(
    UserError, match=rf'{path}: .*incomplete: looked for {lost}'
  ):
    checkpoints.load_t5x_checkpoint(str(path))


def test_an_orbax_checkpoint_without_its_values_is_named(tmp_path):
  path = tmp_path / 'checkpoint_0'
  shutil.copytree(GOLDEN / 't5x_1_0/orbax/checkpoint_0', path)
  shutil.rmtree(path / 'state/ocdbt.process_0')
  with pytest.raises(UserError, match=rf'{path}: leaf .*incomplete or damaged'):
    checkpoints.load_t5x_checkpoint(str(path))


def test_a_checkpoint_whose_description_is_none_is_not_complete(tmp_path):
  state = tmp_path / 'checkpoint_5' / 'state'
  state.mkdir(parents=True)
  (state / '_METADATA').write_text('{')
  with pytest.raises(UserError, match=f'{state}/_METADATA'):
    checkpoints.find_checkpoint(str(state.parent))
  assert checkpoints.all_steps(str(tmp_path)) == []


def test_an_incomplete_legacy_checkpoint_is_named(tmp_path):
  path = tmp_path / 'checkpoint_0'
  shutil.copytree(GOLDEN / 't5x_1_0/legacy/checkpoint_0', path)
  (path / 'checkpoint').unlink()
  with pytest.raises(UserError, match=rf"{path}: .*incomplete: .*'checkpoint'"):
    checkpoints.find_checkpoint(str(path))


def test_a_path_without_a_checkpoint_is_explained(tmp_path):
  golden = str(GOLDEN / 't5x_1_0/orbax')
  with pytest.raises(UserError, match=r'checkpoint_5: no such .*orbax: \[0\]'):
    checkpoints.find_checkpoint(golden, step=5)
  (tmp_path / 'notes.txt').write_text('x')
  with pytest.raises(UserError, match=r'known layout here.*found notes\.txt'):
    checkpoints.find_checkpoint(str(tmp_path))


def test_checkpoints_are_found_by_step_and_by_folder():
  golden = str(GOLDEN / 't5x_1_0/legacy')
  expected = f'{golden}/checkpoint_0'
  for args in ((golden,), (golden, 0), (expected,), (expected, 0)):
    assert checkpoints.find_checkpoint(*args) == expected
  assert checkpoints.all_steps(golden) == [0]
  assert checkpoints.latest_step('/nowhere') is None
  assert checkpoints.get_checkpoint_dir('a', 7) == 'a/checkpoint_7'
  assert checkpoints.get_checkpoint_dir('a', 7, 3) == 'a/checkpoint_007'


@pytest.mark.parametrize('layout', ['legacy', 'orbax'])
def test_a_link_that_leads_out_of_a_checkpoint_is_refused(tmp_path, layout):
  path = tmp_path / 'checkpoint_0'
  shutil.copytree(GOLDEN / 't5x_1_0' / layout / 'checkpoint_0', path)
  secret = tmp_path / 'secret'
  secret.write_text('of this machine')
  within = path / 'within'
  within.symlink_to(next(p for p in path.iterdir() if p.is_file()))
  # A folder of checkpoints, or one of them, may be a link itself.
  (tmp_path / 'other').symlink_to(path)
  for place in (path, tmp_path / 'other'):
    checkpoints.load_t5x_checkpoint(str(place))
  for target in (secret, '/', '../secret', '..'):
    link = path / 'z'
    link.symlink_to(target)
    with pytest.raises(UserError, match=rf'{link}: leads to .*, outside the'):
      checkpoints.load_t5x_checkpoint(str(path))
    link.unlink()
  os.mkfifo(path / 'pipe')
  with pytest.raises(UserError, match=r'pipe: expected a file'):
    checkpoints.load_t5x_checkpoint(str(path))


def _crc32c(content):
  crc = 0xFFFFFFFF
  for byte in content:
    crc ^= byte
    for _ in range(8):
      crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
  return crc ^ 0xFFFFFFFF


def test_metadata_of_orbax_that_leads_outside_is_refused(tmp_path):
  state = tmp_path / 'checkpoint_0' / 'state'
  database = {
    'driver': 'ocdbt',
    'base': {'driver': 'file', 'path': f'{state}/'},
    # Where the files are that the manifest names.
    'btree_node_data_prefix': 'aa/out/',
    'value_data_prefix': 'aa/out/',
    'config': {'max_inline_value_bytes': 0, 'compression': None},
    'path': 'target.w/',
  }
  array = tensorstore.open(
    {'driver': 'zarr', 'kvstore': database},
    create=True,
    dtype='float32',
    shape=[4],
  ).result()
  array[...] = 7.0
  leaf = {
    'key_metadata': [{'key': name, 'key_type': 2} for name in ('target', 'w')],
    'value_metadata': {'value_type': 'jax.Array'},
  }
  tree = {'tree_metadata': {"('target', 'w')": leaf}, 'use_ocdbt': True}
  (state / '_METADATA').write_text(json.dumps(tree))
  read = checkpoints.load_t5x_checkpoint(str(state.parent))
  assert read['target']['w'].tolist() == [7.0] * 4
  # The same files beside the folder, and a manifest that finds them there.
  shutil.move(state / 'aa' / 'out', state.parent / 'out')
  manifest = state / 'manifest.ocdbt'
  content = manifest.read_bytes()[:-4].replace(b'aa/out/', b'../out/')
  manifest.write_bytes(content + _crc32c(content).to_bytes(4, 'little'))
  with pytest.raises(UserError, match=r'leaf target/w: its values cannot be'):
    checkpoints.load_t5x_checkpoint(str(state.parent))


@pytest.mark.parametrize('name', ['..', '../../etc', '/etc/passwd', 'a/b', '.'])
def test_a_leaf_of_orbax_with_a_path_for_its_name_is_refused(tmp_path, name):
  state = tmp_path / 'checkpoint_0' / 'state'
  shutil.copytree(GOLDEN / 't5x_1_0/orbax/checkpoint_0', state.parent)
  tree = json.loads((state / '_METADATA').read_text())
  leaf = next(iter(tree['tree_metadata'].values()))
  leaf['key_metadata'][-1]['key'] = name
  (state / '_METADATA').write_text(json.dumps(tree))
  with pytest.raises(UserError, match=r'_METADATA: not the description of'):
    checkpoints.load_t5x_checkpoint(str(state.parent))


def test_a_checkpoint_of_another_step_is_not_taken_for_that_of_a_step():
  golden = str(GOLDEN / 't5x_1_0/legacy')
  with pytest.raises(UserError, match='checkpoint_5'):
    checkpoints.find_checkpoint(f'{golden}/checkpoint_0', step=5)


@pytest.mark.parametrize(
  ('folder', 'names'),
  [
    ('checkpoint_3', ['state/x']),
    ('checkpoint_3', ['_CHECKPOINT_METADATA', 'x/y']),
    ('checkpoint_3.orbax-checkpoint-tmp', ['x/y']),
  ],
)
def test_each_mark_of_an_incomplete_orbax_checkpoint_counts(
  tmp_path, folder, names
):
  for name in names:
    path = tmp_path / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  with pytest.raises(UserError, match='this Orbax checkpoint is incomplete'):
    checkpoints.open_checkpoint(tmp_path / folder)


def test_the_latest_of_several_is_found(tmp_path):
  for step in (2, 10, 9):
    (tmp_path / f'checkpoint_{step}').mkdir()
    (tmp_path / f'checkpoint_{step}/checkpoint').touch()
  (tmp_path / 'checkpoint_11').mkdir()
  assert checkpoints.all_steps(tmp_path) == [2, 9, 10]
  assert checkpoints.latest_step(tmp_path) == 10
  assert checkpoints.find_checkpoint(tmp_path) == f'{tmp_path}/checkpoint_10'
  with pytest.raises(UserError, match=r'\(steps \[2, 9, 10\]\).*checkpoint_10'):
    checkpoints.open_checkpoint(tmp_path)


def test_what_is_no_checkpoint_has_no_base_and_no_position(tmp_path):
  config = T5Config(**golden_data.load('t5x_1_0').config_kwargs)
  folders = [GOLDEN / f't5x_1_0/{x}/checkpoint_0' for x in ('legacy', 'orbax')]
  for path in (tmp_path, GOLDEN / 'hf_1_0/model', *folders):
    assert checkpoints.base_of(path) is None
    assert locate.read_position(path) is None
  # Only other folders say what they were trained with.
  for path in (tmp_path, *folders):
    checkpoints.check_network(path, config)
  other = config.replace(mlp_activations=('silu', 'linear'))
  checkpoints.check_network(GOLDEN / 'hf_1_1/model', None)
  with pytest.raises(UserError, match="feed_forward_proj is 'gated-gelu'"):
    checkpoints.check_network(GOLDEN / 'hf_1_1/model', other)
