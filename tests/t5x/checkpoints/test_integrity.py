"""Full disks and changed bytes are named, and no good checkpoint is lost."""

import json
import os
import pathlib
import resource
import shutil
import signal
import zlib

import jax
import numpy as np
import pytest

from t5x import checkpoints, errors
from t5x.checkpoints import integrity, locate
from tests.t5x import small_run


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run of six steps with the checkpoints 2, 4 and 6."""
  folder = tmp_path_factory.mktemp('storage') / 'run'
  small_run.call(folder, total_steps=6, devices=1)
  return folder


def _copy(run, tmp_path):
  return pathlib.Path(shutil.copytree(run, tmp_path / 'run'))


def _largest(checkpoint):
  files = [p for p in checkpoint.rglob('*') if p.is_file()]
  return max(files, key=lambda p: p.stat().st_size)


def _flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def _cut(path):
  os.truncate(path, path.stat().st_size // 2)


def _parameters(folder, step):
  return checkpoints.load_t5x_checkpoint(str(folder), step)['target']['table']


def test_every_checkpoint_has_the_checksums_of_its_files(run):
  for step in (2, 4, 6):
    folder = run / f'checkpoint_{step}'
    known = json.loads((folder / 'checksums.json').read_text())
    assert 'state/_METADATA' in known and 'dataset/metadata' in known
    integrity.check(str(folder))


def _written(folder):
  """A folder of files, most of which have checksums."""
  for name in (
    'a',
    'state/b',
    'dataset/c',
    'dataset/part_0',
    '_CHECKPOINT_METADATA',
  ):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode() * 3)
  integrity.write_checksums(str(folder))
  return folder


def test_checksums_are_the_size_and_the_crc_of_each_file(tmp_path):
  found = json.loads((_written(tmp_path) / 'checksums.json').read_text())
  assert found == {
    name: [3 * len(name), zlib.crc32(name.encode() * 3)]
    for name in ('a', 'state/b', 'dataset/c')
  }


def test_a_checkpoint_without_checksums_is_taken_as_it_is(tmp_path):
  (tmp_path / 'a').write_bytes(b'a')
  integrity.check(str(tmp_path))
  assert [p.name for p in tmp_path.iterdir()] == ['a']


def test_files_are_read_to_their_end(tmp_path):
  size = (5 << 20) + 3  # Several pieces, of which the last is not full.
  content = np.random.default_rng(0).bytes(size)
  (tmp_path / 'a').write_bytes(content)
  integrity.write_checksums(str(tmp_path))
  found = json.loads((tmp_path / 'checksums.json').read_text())
  assert found == {'a': [size, zlib.crc32(content)]}
  for place in (0, 3 << 20, size - 1):
    changed = bytearray(content)
    changed[place] ^= 1
    (tmp_path / 'a').write_bytes(changed)
    with pytest.raises(errors.DamagedError, match='CRC-32 differs'):
      integrity.check(str(tmp_path))


def test_what_may_go_or_change_is_no_damage(tmp_path):
  folder = _written(tmp_path)
  os.remove(folder / 'dataset' / 'c')
  (folder / 'dataset' / 'part_0').write_bytes(b'other')
  (folder / '_CHECKPOINT_METADATA').write_bytes(b'other')
  (folder / 'more').write_bytes(b'')
  integrity.check(str(folder))
  (folder / 'state' / 'b').write_bytes(b'longer than it was')
  with pytest.raises(errors.DamagedError, match='expected 21 bytes, found 18'):
    integrity.check(str(folder))
  # After a file that may be missing, too.
  os.remove(folder / 'state' / 'b')
  with pytest.raises(errors.DamagedError, match='b: missing'):
    integrity.check(str(folder))


@pytest.mark.parametrize('crc', [0, 2**32 - 1])
def test_another_crc_is_damage_whichever_is_larger(tmp_path, crc):
  (tmp_path / 'a').write_bytes(b'a')
  (tmp_path / 'checksums.json').write_text(json.dumps({'a': [1, crc]}))
  with pytest.raises(errors.DamagedError, match='CRC-32 differs'):
    integrity.check(str(tmp_path))


@pytest.mark.parametrize(
  'content', ['{', '[]', '{"a": 3}', '{"a": [1]}', '{"a": [1e999, 1]}']
)
def test_what_are_no_checksums_are_named(tmp_path, content):
  (tmp_path / 'checksums.json').write_text(content)
  with pytest.raises(errors.DamagedError, match=r'json: expected file names'):
    integrity.check(str(tmp_path))


def test_all_processes_together_check_every_file(tmp_path, monkeypatch):
  names = [str(i) for i in range(5)]
  for name in names:
    (tmp_path / name).write_bytes(b'a')
  integrity.write_checksums(str(tmp_path))
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  for name in names:
    (tmp_path / name).write_bytes(b'b')
    noticed = 0
    for process in range(2):
      monkeypatch.setattr(jax, 'process_index', lambda p=process: p)
      try:
        integrity.check(str(tmp_path))
      except errors.DamagedError as error:
        assert str(tmp_path / name) in str(error)
        noticed += 1
    assert noticed == 1
    (tmp_path / name).write_bytes(b'a')


@pytest.mark.parametrize('name', ['/etc/passwd', '../a', 'state/../../a'])
def test_checksums_of_files_outside_are_refused(tmp_path, name):
  (tmp_path / 'checksums.json').write_text(json.dumps({name: [1, 1]}))
  with pytest.raises(errors.DamagedError, match='outside the checkpoint'):
    integrity.check(str(tmp_path))


def test_damaged_checkpoints_of_one_step_are_all_kept(tmp_path):
  found = []
  for i in range(3):
    folder = tmp_path / 'checkpoint_5'
    folder.mkdir()
    (folder / 'a').write_text(str(i))
    found.append(pathlib.Path(integrity.set_aside(f'{folder}/')))
    assert not folder.exists()
  assert [p.name for p in found] == [
    'damaged-checkpoint_5',
    'damaged-checkpoint_5-2',
    'damaged-checkpoint_5-3',
  ]
  assert [(p / 'a').read_text() for p in found] == ['0', '1', '2']


@pytest.mark.parametrize(
  ('harm', 'says'),
  [
    (_flip_a_bit, 'its bytes are not those that were written'),
    (_cut, r'expected \d+ bytes, found \d+'),
    (os.remove, 'missing'),
  ],
)
def test_a_damaged_file_is_named(run, tmp_path, harm, says):
  folder = _copy(run, tmp_path) / 'checkpoint_6'
  file = _largest(folder)
  harm(file)
  with pytest.raises(errors.DamagedError, match=says) as raised:
    integrity.check(str(folder))
  assert str(file) in str(raised.value)


def test_a_run_goes_on_from_the_last_good_checkpoint_and_says_so(
  run, tmp_path, caplog
):
  folder = _copy(run, tmp_path)
  _flip_a_bit(_largest(folder / 'checkpoint_6'))
  os.remove(folder / 'checkpoint_4' / 'state' / '_METADATA')
  small_run.call(folder, total_steps=6, devices=1)
  assert 'going on from step 2' in caplog.text
  assert str(folder / 'damaged-checkpoint_6') in caplog.text
  assert str(folder / 'damaged-checkpoint_4') in caplog.text
  assert locate.all_steps(folder) == [2, 4, 6]
  np.testing.assert_array_equal(_parameters(folder, 6), _parameters(run, 6))


def test_a_run_whose_only_checkpoint_is_damaged_stops(tmp_path):
  small_run.call(tmp_path / 'run', total_steps=2, devices=1)
  folder = tmp_path / 'run' / 'checkpoint_2'
  file = _largest(folder)
  _flip_a_bit(file)
  with pytest.raises(errors.UserError, match='no other complete') as raised:
    small_run.call(tmp_path / 'run', total_steps=4, devices=1)
  assert str(file) in str(raised.value) and folder.exists()


def test_another_experiments_folder_is_refused_with_the_difference(
  run, tmp_path
):
  folder = _copy(run, tmp_path)
  with pytest.raises(errors.UserError, match='another experiment') as raised:
    small_run.call(folder, total_steps=8, devices=1, batch_size=4)
  assert 'data/batch_size: 8 there, 4 here' in str(raised.value)
  assert 'accept_other_run' in str(raised.value)
  step, _ = small_run.call(
    folder, total_steps=8, devices=1, batch_size=4, accept_other_run=True
  )
  assert step == 8


class _OtherModel(small_run.NoisyTable):
  SHAPE = ((6, 768), ('length', 'vocab'))


def test_another_models_folder_is_refused_with_the_difference(run):
  with pytest.raises(errors.UserError, match='another experiment') as raised:
    small_run.call(run, total_steps=8, devices=1, model=_OtherModel())
  assert 'model/table: float32[6, 384] there, float32[6, 768] here' in str(
    raised.value
  )


def test_a_run_whose_seed_was_drawn_goes_on_with_it(tmp_path):
  options = {'devices': 1, 'random_seed': None}
  small_run.call(tmp_path / 'whole', total_steps=4, **options)
  seed = json.loads((tmp_path / 'whole' / 'run.json').read_text())['seed']
  small_run.call(tmp_path / 'two', total_steps=2, devices=1, random_seed=seed)
  small_run.call(tmp_path / 'two', total_steps=4, **options)
  np.testing.assert_array_equal(
    _parameters(tmp_path / 'two', 4), _parameters(tmp_path / 'whole', 4)
  )


# What Orbax leaves of a save that failed is collected at some later time.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_full_disk_is_named_and_costs_no_checkpoint(run, tmp_path):
  """Files may not grow beyond a limit, which fails as a full disk does."""
  folder = _copy(run, tmp_path)
  before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
  try:
    with pytest.raises(errors.UserError, match='cannot be') as raised:
      small_run.call(folder, total_steps=10, devices=1, keep=1)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)
  assert str(folder) in str(raised.value)
  assert locate.all_steps(folder)[-1:] == [6]
  step, _ = small_run.call(folder, total_steps=10, devices=1)
  assert step == 10


@pytest.mark.parametrize('place', ['/sys/run', '{file}/run'])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, place):
  (tmp_path / 'file').touch()
  folder = place.format(file=tmp_path / 'file')
  with pytest.raises(errors.UserError, match='another MODEL_DIR') as raised:
    small_run.call(folder, devices=1)
  assert folder in str(raised.value)


def test_legacy_checkpoints_are_checked_too(tmp_path):
  small_run.call(tmp_path, total_steps=2, devices=1, use_orbax=False)
  folder = tmp_path / 'checkpoint_2'
  integrity.check(str(folder))
  _flip_a_bit(folder / 'checkpoint')
  with pytest.raises(errors.DamagedError, match='checkpoint_2/checkpoint'):
    integrity.check(str(folder))


def test_the_checksums_name_no_file_outside(tmp_path):
  (tmp_path / 'checksums.json').write_text('{"../../etc/passwd": [1, 2]}')
  with pytest.raises(errors.DamagedError, match='outside'):
    integrity.check(str(tmp_path))
  assert jax.process_count() == 1


def test_weights_are_told_by_their_checksums_wherever_they_lie(tmp_path):
  folder = tmp_path / 'checkpoint_1'
  (folder / 'state').mkdir(parents=True)
  (folder / 'state' / 'a').write_bytes(b'one')
  integrity.write_checksums(str(folder))
  first = integrity.digest(str(folder))
  # What run.json of earlier runs holds.
  assert first == '786c4cdb38cfea2d'
  copy = shutil.copytree(folder, tmp_path / 'copy' / 'checkpoint_1')
  os.utime(copy / 'state' / 'a', (1, 1))
  assert integrity.digest(str(copy)) == first
  (copy / 'state' / 'a').write_bytes(b'two')  # As many bytes.
  integrity.write_checksums(str(copy))
  assert integrity.digest(str(copy)) != first


def test_weights_without_checksums_are_told_by_their_files(tmp_path):
  folder = tmp_path / 'published'
  (folder / 'more').mkdir(parents=True)
  (folder / 'config.json').write_text('{}')
  weights = folder / 'more' / 'model.safetensors'
  weights.write_bytes(b'one')
  first = integrity.digest(str(folder))
  assert integrity.digest(str(folder)) == first
  os.utime(weights, (1, 1))
  changed = integrity.digest(str(folder))
  weights.write_bytes(b'longer')
  os.utime(weights, (1, 1))
  assert len({first, changed, integrity.digest(str(folder))}) == 3
  # A single file, as T5's own checkpoints are.
  file = folder / 'config.json'
  first = integrity.digest(str(file))
  file.write_text('{"a": 1}')
  assert len(first) == 16 and integrity.digest(str(file)) != first
