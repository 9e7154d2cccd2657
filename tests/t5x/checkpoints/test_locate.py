"""Tests of t5x.checkpoints.locate and formats.orbax."""

import pathlib
import shutil

import pytest

from t5x import checkpoints
from t5x.errors import UserError
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
