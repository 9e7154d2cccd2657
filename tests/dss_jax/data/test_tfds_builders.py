"""Tests of the TFDS data sets."""

import concurrent.futures
import fcntl
import os
import shutil
import types

import numpy as np
import pytest
import seqio
import tensorflow_datasets as tfds

from dss_jax import errors
from dss_jax.data import records, tfds_builders


def prepare(data, data_set='cqa', teacher='palm'):
  config = tfds_builders.find_config(data_set, str(data), teacher)
  return tfds_builders.prepared(data_set, config)


def test_tfds_lists_the_data_sets_and_not_their_base():
  names = tfds.list_builders(with_community_datasets=False)
  found = [name for name in names if 'dss' in name or '_builder' in name]
  sets = ('anli1', 'asdiv', 'cqa', 'custom', 'esnli', 'svamp')
  assert found == [f'dss_{name}' for name in sets]


def test_rows_are_stored_as_they_were_read(write_release, tfds_dir, no_network):
  folder = write_release()
  builder = prepare(folder)
  release = records.read('cqa', str(folder))
  for split, rows in release.splits.items():
    columns = tfds_builders.table(builder, split)
    for name in tfds_builders.COLUMNS:
      stored = [value.decode() for value in columns[name]]
      assert stored == [getattr(row, name) for row in rows]
  assert tfds_builders.reports(builder) == release.reports


def test_a_tfds_program_reads_them_in_the_order_of_the_release(
  write_release, tfds_dir
):
  builder = prepare(write_release())
  rows = list(tfds.as_numpy(builder.as_dataset(split='train')))
  assert [row['index'] for row in rows] == list(range(24))
  assert rows[1]['label'] == b'barn'


def test_the_sample_needs_no_network(tfds_dir, no_network, capfd):
  builder = prepare('sample')
  assert builder.info.splits['train'].num_examples == 1000
  assert tfds_dir / 'dss_cqa/sample_palm/1.1.0' == builder.data_path
  loaded = tfds.builder('dss_cqa/sample_palm', data_dir=str(tfds_dir))
  assert loaded.is_prepared()
  # Its preparation is too short to be worth a user's attention.
  assert 'Preparing' not in ''.join(capfd.readouterr())


def test_preparing_data_is_said_in_two_lines(write_release, tfds_dir, capfd):
  builder = prepare(write_release())
  said = capfd.readouterr()
  assert said.out == ''
  name = builder.builder_config.name
  assert said.err.splitlines() == [
    f'Preparing dss_cqa/{name}, once …',
    f'Prepared train 24, test 6 rows in {builder.data_path}',
  ]


def test_what_a_killed_process_left_half_made_is_removed(
  write_release, tfds_dir
):
  data = write_release()
  config = tfds_builders.find_config('cqa', str(data), 'palm')
  folder = tfds_dir / 'dss_cqa' / config.name
  version = tfds_builders.VERSION
  half = folder / f'incomplete.7DAR2V_{version}'
  kept = folder / f'incomplete.7DAR2V_9{version}'
  for made in (half, kept):
    made.mkdir(parents=True)
    (made / 'dss_cqa-train.tfrecord-00000-of-00001').write_bytes(b'x')
  builder = prepare(data)
  assert builder.is_prepared()
  # The other one is of another version, and none of our business.
  assert sorted(path.name for path in folder.iterdir()) == [version, kept.name]


def test_another_process_that_prepares_the_same_is_waited_for(
  write_release, tfds_dir, capfd
):
  data = write_release()
  config = tfds_builders.find_config('cqa', str(data), 'palm')
  folder = tfds_dir / 'dss_cqa' / config.name
  folder.mkdir(parents=True)
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    lock = os.open(folder, os.O_RDONLY)
    try:
      fcntl.flock(lock, fcntl.LOCK_EX)
      waiting = pool.submit(prepare, data)
      with pytest.raises(concurrent.futures.TimeoutError):
        waiting.result(timeout=0.5)
      assert not (folder / tfds_builders.VERSION).exists()
    finally:
      os.close(lock)
    assert waiting.result(timeout=60).is_prepared()
  assert 'prepares dss_cqa; waiting' in capfd.readouterr().err


def test_what_another_process_has_just_prepared_is_taken(
  write_release, tfds_dir, capfd
):
  config = tfds_builders.find_config('cqa', str(write_release()), 'palm')

  def make():
    return tfds_builders.BUILDERS['cqa'](config=config, data_dir=str(tfds_dir))

  builder = make()
  made = tfds_builders._prepare(make, make(), overwrite=False)
  capfd.readouterr()
  found = tfds_builders._prepare(make, builder, overwrite=False)
  assert found not in (builder, made) and found.is_prepared()
  assert capfd.readouterr().err == ''


def test_who_prepares_is_alone_until_it_is_done(write_release, tfds_dir):
  config = tfds_builders.find_config('cqa', str(write_release()), 'palm')
  builder = tfds_builders.BUILDERS['cqa'](config=config, data_dir=str(tfds_dir))
  exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
  with tfds_builders._alone(builder):
    other = os.open(tfds_dir / 'dss_cqa' / config.name, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
      fcntl.flock(other, exclusive)
  fcntl.flock(other, exclusive)
  os.close(other)


@pytest.mark.parametrize('part', ['os', 'fcntl'])
def test_where_folders_have_no_locks_nobody_waits_and_nothing_is_removed(
  write_release, tfds_dir, monkeypatch, part
):
  config = tfds_builders.find_config('cqa', str(write_release()), 'palm')
  version = tfds_builders.VERSION
  half = tfds_dir / 'dss_cqa' / config.name / f'incomplete.7DAR2V_{version}'
  half.mkdir(parents=True)

  def fail(*args):
    raise OSError('no locks here')

  real = getattr(tfds_builders, part)
  parts = {**vars(real), 'open': fail, 'flock': fail}
  monkeypatch.setattr(tfds_builders, part, types.SimpleNamespace(**parts))
  builder = tfds_builders.prepared('cqa', config)
  assert len(tfds_builders.table(builder, 'test')['id']) == 6
  assert half.exists()


@pytest.mark.parametrize(
  ('other_is_first', 'error'),
  [
    (False, OSError('no room')),
    (True, OSError('no room')),
    # Files that are wrong are so whoever was first.
    (True, errors.DataError('no room')),
  ],
)
def test_a_failed_preparation_counts_if_another_run_was_first(
  write_release, tfds_dir, monkeypatch, other_is_first, error
):
  config = tfds_builders.find_config('cqa', str(write_release()), 'palm')

  def make():
    return tfds_builders.BUILDERS['cqa'](config=config, data_dir=str(tfds_dir))

  builder = make()

  def fail(**options):
    if other_is_first:
      make().download_and_prepare(**options)
    raise error

  monkeypatch.setattr(builder, 'download_and_prepare', fail)
  if not other_is_first or isinstance(error, errors.DataError):
    with pytest.raises(type(error), match='no room'):
      tfds_builders._prepare(make, builder, overwrite=False)
  else:
    found = tfds_builders._prepare(make, builder, overwrite=False)
    assert len(tfds_builders.table(found, 'train')['id']) == 24


def test_files_are_parsed_once(write_release, tfds_dir, monkeypatch):
  folder = write_release()
  first = prepare(folder)
  assert prepare(folder) is first
  columns = tfds_builders.table(first, 'train')
  assert tfds_builders.table(first, 'train') is columns
  tfds_builders._PREPARED.clear()
  monkeypatch.setattr(
    records, 'read', lambda *args: pytest.fail('The files were read again.')
  )
  again = prepare(folder)
  assert again is not first
  assert again.info.splits['train'].num_examples == 24
  assert tfds_builders.reports(again) == tfds_builders.reports(first)


@pytest.mark.parametrize(
  ('path', 'teacher'), [('', 'palm'), ('', 'mine'), ('shelf', 'mine')]
)
def test_prepared_data_outlives_its_files(
  write_release, tfds_dir, monkeypatch, path, teacher
):
  """In a folder of any name: `shelf` sorts after `sample`, a path before it."""
  folder = write_release(name=path or 'release')
  if teacher == 'mine':
    (folder / 'cqa/llm').rename(folder / 'cqa/mine')
  monkeypatch.chdir(folder.parent)
  config = tfds_builders.find_config('cqa', path or str(folder), teacher)
  tfds_builders.prepared('cqa', config)
  tfds_builders._PREPARED.clear()
  shutil.rmtree(folder)
  builder = tfds_builders.prepared('cqa', config)
  assert len(tfds_builders.table(builder, 'test')['id']) == 6


def test_a_config_is_named_after_the_content_that_it_reads(
  write_release, tfds_dir
):
  folder = write_release()
  digits = records.fingerprint('cqa', str(folder))
  config = tfds_builders.find_config('cqa', str(folder), 'palm')
  assert config.name == f'local_{digits}_palm'
  moved = folder.rename(folder.with_name('moved'))
  assert (
    tfds_builders.find_config('cqa', str(moved), 'palm').name == config.name
  )
  (moved / 'cqa/llm/test_CoT_0.json').write_text('["a"]')
  assert (
    tfds_builders.find_config('cqa', str(moved), 'palm').name != config.name
  )
  # The rows alone are the same still.
  gold = tfds_builders.find_config('cqa', str(moved), None)
  assert (
    gold.name == f'local_{records.fingerprint("cqa", str(moved), None)}_gold'
  )


def test_files_that_change_after_naming_are_refused(write_release, tfds_dir):
  folder = write_release(part=100)
  config = tfds_builders.find_config('cqa', str(folder), 'palm')
  path = folder / 'cqa/llm/test_CoT_0.json'
  path.write_text(path.read_text().replace('heavy', 'light'))
  with pytest.raises(errors.DataError, match='found other content'):
    tfds_builders.prepared('cqa', config)
  assert not (tfds_dir / 'dss_cqa' / config.name / '1.1.0').exists()


def test_bad_files_leave_nothing_half_written(write_release, tfds_dir):
  folder = write_release()
  path = folder / 'cqa/cqa_test.json'
  path.write_text(path.read_text()[:-20])
  config = tfds_builders.find_config('cqa', str(folder), 'palm')
  with pytest.raises(errors.DataError, match=r'cqa_test\.json, line 6'):
    tfds_builders.prepared('cqa', config)
  left = [path for path in tfds_dir.rglob('*') if 'tfrecord' in path.name]
  assert not left
  assert not (tfds_dir / 'dss_cqa' / config.name / '1.1.0').exists()


def test_preparing_at_the_same_time_gives_whole_data(write_release, tfds_dir):
  config = tfds_builders.find_config('cqa', str(write_release()), 'palm')

  def make():
    return tfds_builders.BUILDERS['cqa'](config=config, data_dir=str(tfds_dir))

  def prepare_anew(_):
    return tfds_builders._prepare(make, make(), overwrite=False)

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    made = list(pool.map(prepare_anew, range(4)))
  for builder in made:
    assert len(tfds_builders.table(builder, 'train')['id']) == 24
  assert not list(tfds_dir.rglob('*incomplete*'))


def test_the_sample_is_prepared_again_when_it_changed(
  write_release, tfds_dir, monkeypatch
):
  folders = [write_release(train=n, name=f'version{n}') for n in (10, 12)]
  # To either and back: the names of both come in one order.
  for rows in (10, 12, 10):
    folder = folders[rows > 10]
    tfds_builders._PREPARED.clear()
    monkeypatch.setattr(
      tfds_builders, 'sample_location', lambda folder=folder: str(folder)
    )
    builder = prepare('sample')
    assert len(tfds_builders.table(builder, 'train')['id']) == rows
  tfds_builders._PREPARED.clear()
  # But not where it is the same.
  monkeypatch.setattr(records, 'read', None)
  assert prepare('sample') is not builder
  tfds_builders._PREPARED.clear()


def test_arithmetic_is_prepared_too(write_release, tfds_dir):
  builder = prepare(write_release('svamp'), 'svamp')
  columns = tfds_builders.table(builder, 'train')
  assert columns['teacher_label'][1] == b'(1 + 2)'
  assert builder.name == 'dss_svamp'


def test_without_a_teacher_none_is_needed(write_release, tfds_dir):
  folder = write_release()
  shutil.rmtree(folder / 'cqa/llm')
  columns = tfds_builders.table(prepare(folder, teacher=None), 'train')
  np.testing.assert_array_equal(columns['rationale'], b'')
  with pytest.raises(errors.DataError, match="teacher 'palm' there"):
    prepare(folder)


def test_the_data_dir_is_the_one_that_seqio_was_given(tfds_dir):
  assert tfds_builders.data_dir() == str(tfds_dir)
  seqio.set_tfds_data_dir_override(None)
  assert tfds_builders.data_dir() is None
