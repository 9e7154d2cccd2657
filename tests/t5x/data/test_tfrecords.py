"""Files of records that lost something are named before they are trained on."""

import dataclasses
import json
import os
import pathlib
import zlib

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from t5x import errors
from t5x.data import config, content, pipeline, tfrecords
from tests.t5x import small_run, toy_task

_ROWS = 24
_NAME = 'toy_prepared'


class _Info(tfds.core.DatasetInfo):
  def initialize_from_bucket(self):
    """Asks nobody: the data set is nowhere but here."""


class ToyPrepared(tfds.core.GeneratorBasedBuilder):
  """The toy task's rows in two files."""

  VERSION = tfds.core.Version('1.0.0')
  code_path = None

  def _info(self):
    text = tfds.features.Text()
    return _Info(
      builder=self,
      features=tfds.features.FeaturesDict({'inputs': text, 'targets': text}),
    )

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for i in range(_ROWS):
      yield i, {'inputs': f'tr {i:03}', 'targets': f'{i:03}'[::-1]}


@pytest.fixture
def files(tmp_path):
  """Prepares the data set in two files, and registers a task that reads it."""
  builder = ToyPrepared(data_dir=tmp_path)
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(num_shards=2)
  )
  seqio.TaskRegistry.add(
    _NAME,
    source=seqio.TfdsDataSource('toy_prepared:1.0.0', splits=['train']),
    preprocessors=[
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos,
    ],
    output_features=dict.fromkeys(
      ('inputs', 'targets'), seqio.Feature(toy_task.VOCABULARY)
    ),
  )
  seqio.set_tfds_data_dir_override(str(tmp_path))
  folder = pathlib.Path(builder.data_path)
  yield sorted(folder.glob('*.tfrecord*'))
  seqio.set_tfds_data_dir_override(None)
  seqio.TaskRegistry.remove(_NAME)


def _config():
  return config.DatasetConfig(
    mixture_or_task_name=_NAME,
    task_feature_lengths=toy_task.LENGTHS,
    split='train',
    batch_size=8,
    shuffle=False,
    seed=0,
  )


def _refused(says):
  return pytest.raises(errors.DamagedError, match=says)


def test_files_are_checked_against_what_tfds_noted(files):
  assert len(files) == 2
  assert sum(tfrecords.count_records(str(f)) for f in files) == _ROWS
  tfrecords.check_files([_config(), None])

  # A task that reads no such file hides none.
  mixed = seqio.Mixture('toy_mixed', [toy_task.NAME, _NAME], default_rate=1)
  both = dataclasses.replace(_config(), mixture_or_task_name=mixed)
  tfrecords.check_files([both])
  kept = [r.numpy() for r in tf.data.TFRecordDataset(str(files[1]))]
  with tf.io.TFRecordWriter(str(files[1])) as writer:
    for record in kept[:-1]:  # Cut at a record's end: it reads well.
      writer.write(record)
  with _refused(rf'{files[1]}: expected {len(kept)} records.*found') as raised:
    tfrecords.check_files([_config()])
  assert raised.value.exit_code == 2
  with _refused('records, as dataset_info'):
    tfrecords.check_files([both])

  os.truncate(files[1], files[1].stat().st_size - 5)
  with _refused(rf'{files[1]}: record {len(kept) - 2} reaches beyond'):
    tfrecords.check_files([_config()])
  # Also where reading it fails.
  with _refused('reaches beyond'), tfrecords.naming_damage_in_errors([both]):
    raise tf.errors.DataLossError(None, None, 'something')

  os.remove(files[1])
  with _refused(f'{files[1]}: missing'):
    tfrecords.check_files([_config()])


def test_a_damaged_record_is_named_where_it_is_read(files):
  records = [r.numpy() for r in tf.data.TFRecordDataset(str(files[0]))]
  damaged = bytearray(files[0].read_bytes())
  # The third record's data begins behind two whole records and its header.
  damaged[sum(16 + len(r) for r in records[:2]) + 12 + 3] ^= 1
  files[0].write_bytes(damaged)
  tfrecords.check_files([_config()])  # Its length is right.
  with (
    _refused(f'{files[0]}: record 2 is damaged'),
    tfrecords.naming_damage_in_errors([_config()]),
  ):
    converter = seqio.EncDecFeatureConverter
    list(pipeline.get_dataset(_config(), 0, 1, converter, num_epochs=1))


@pytest.mark.parametrize('kind', [errors.UserError, errors.DamagedError])
def test_a_mistake_that_a_function_of_the_pipeline_finds_stays_one(kind):
  message = 'Step 3 does not fit: 4 > 3.\nSet ROWS_PER_STEP [[x]].'

  def check(value):
    raise kind(message)

  def checked(value):
    return tf.numpy_function(check, [value], tf.int64)

  dataset = tf.data.Dataset.range(3).map(checked)
  with (
    pytest.raises(errors.UserError) as raised,
    tfrecords.naming_damage_in_errors([]),
  ):
    list(dataset)
  assert str(raised.value) == message


def test_another_error_of_a_function_of_the_pipeline_is_passed_on():
  def fail(value):
    raise KeyError('nothing that a user did')

  def failing(value):
    return tf.numpy_function(fail, [value], tf.int64)

  with (
    pytest.raises(tf.errors.OpError, match='nothing that a user did'),
    tfrecords.naming_damage_in_errors([]),
  ):
    list(tf.data.Dataset.range(3).map(failing))


def test_a_run_does_not_start_on_such_files(files, tmp_path, monkeypatch):
  os.truncate(files[0], files[0].stat().st_size - 5)
  monkeypatch.setattr(small_run.toy_task, 'NAME', _NAME)
  with _refused('reaches beyond'):
    small_run.call(tmp_path / 'run', devices=1)
  assert not (tmp_path / 'run' / 'train').exists()


def test_a_description_that_says_nothing_is_named(files):
  info = files[0].parent / 'dataset_info.json'
  known = json.loads(info.read_text())
  (split,) = known['splits']
  others = [
    {'name': 'a', 'shardLengths': [7]},
    split,
    {'name': 'z', 'shardLengths': [7]},
  ]
  for splits in (others, others[::-1]):
    info.write_text(json.dumps({**known, 'splits': splits}))
    expected = tfrecords.count_records(str(files[0]))
    assert tfrecords._expected_records(str(files[0])) == expected
  none = {**known, 'splits': [{**split, 'shardLengths': []}]}
  for text in (
    *('{', '[]', '{}', json.dumps({**known, 'splits': []})),
    json.dumps(none),
  ):
    info.write_text(text)
    with _refused('dataset_info.json: does not say'):
      tfrecords._expected_records(str(files[0]))
  info.unlink()
  assert tfrecords._expected_records(str(files[0])) is None


class _Elsewhere(seqio.TfdsDataSource):
  """A data set in files that are remote, or no TFRecords."""

  def list_shards(self, split):
    return [
      'gs://bucket/x-train.tfrecord-00000-of-00001',
      '/none/x-train.array_record-00000-of-00001',
    ]


def test_remote_files_and_those_of_another_kind_are_left_alone():
  task = seqio.Task(
    'elsewhere',
    _Elsewhere('toy_prepared:1.0.0', splits=['train']),
    preprocessors=[],
    output_features={},
  )
  tfrecords.check_files(
    [dataclasses.replace(_config(), mixture_or_task_name=task)]
  )


def test_a_digest_is_of_the_checksums_and_lengths_of_records(tmp_path):
  path = tmp_path / 'rows.tfrecord'
  _write(path, [b'x', b'yyyy', b''])
  written = path.read_bytes()
  assert len(written) == 3 * 16 + 5
  assert tfrecords.count_records(str(path)) == 3
  # Of each: its checksum, and the next one's length with a checksum.
  read = written[13:29] + written[33:49] + written[49:]
  assert tfrecords.digest(str(path)) == zlib.crc32(read)


def _write(path, records):
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      writer.write(record)


def _changed_record(files):
  """Gives a record other letters; number, lengths and checksums are right."""
  records = [r.numpy() for r in tf.data.TFRecordDataset(str(files[0]))]
  _write(files[0], [records[0].replace(b'tr ', b'te '), *records[1:]])


def _other_order(files):
  records = [r.numpy() for r in tf.data.TFRecordDataset(str(files[0]))]
  _write(files[0], reversed(records))


def _moved_between_files(files):
  """Also says so where TFDS keeps the numbers."""
  first, second = (
    [r.numpy() for r in tf.data.TFRecordDataset(str(f))] for f in files
  )
  _write(files[0], first[:-1])
  _write(files[1], [*second, first[-1]])
  info = files[0].parent / 'dataset_info.json'
  known = json.loads(info.read_text())
  numbers = [str(len(first) - 1), str(len(second) + 1)]
  known['splits'][0]['shardLengths'] = numbers
  info.write_text(json.dumps(known))


def _other_numbers(files):
  info = files[0].parent / 'dataset_info.json'
  info.write_text(info.read_text().replace('"12"', '"11"'))


@pytest.mark.parametrize(
  ('change', 'says'),
  [
    (_changed_record, None),
    (_other_order, None),
    (_moved_between_files, None),
    (_other_numbers, 'records, as dataset_info.json beside it says'),
    (lambda files: os.remove(files[1]), '00001-of-00002: missing'),
    (
      lambda files: os.truncate(files[1], files[1].stat().st_size - 5),
      'reaches beyond the end',
    ),
  ],
)
def test_prepared_rows_that_changed_are_told(files, change, says):
  before = content.content_digests(_config())
  change(files)
  if says is None:
    tfrecords.check_files([_config()])
    assert content.content_digests(_config()) != before
  else:
    with _refused(says):
      tfrecords.check_files([_config()])


def test_a_run_goes_on_with_the_rows_that_it_began_with(
  files, tmp_path, monkeypatch
):
  monkeypatch.setattr(small_run.toy_task, 'NAME', _NAME)
  run = tmp_path / 'run'
  small_run.call(run, total_steps=2, devices=1)
  _changed_record(files)
  says = r"data/content: \{'toy_prepared': .* there, .* here"
  with pytest.raises(errors.UserError, match=says):
    small_run.call(run, total_steps=4, devices=1)


@pytest.fixture
def cache(tmp_path):
  """Writes SeqIO's cache of a task, and registers the task."""
  folder = tmp_path / 'toy_cached'
  folder.mkdir()
  (folder / 'COMPLETED').touch()
  paths = [folder / f'train.tfrecord-0000{i}-of-00002' for i in range(2)]
  for n, path in enumerate(paths):
    _write(path, [f'{n} {i}'.encode() for i in range(5)])
  (folder / 'info.train.json').write_text('{"num_shards": 2, "features": {}}')
  (folder / 'stats.train.json').write_text('{"examples": 10}')
  seqio.TaskRegistry.add(
    'toy_cached',
    source=seqio.TextLineDataSource({'train': str(tmp_path / 'none.txt')}),
    preprocessors=[seqio.CacheDatasetPlaceholder()],
    output_features={'targets': seqio.Feature(toy_task.VOCABULARY)},
  )
  before = seqio.utils.get_global_cache_dirs()
  seqio.set_global_cache_dirs([str(tmp_path)])
  yield paths
  seqio.set_global_cache_dirs(before)
  seqio.TaskRegistry.remove('toy_cached')


def test_files_of_seqios_cache_are_checked_and_told_apart(cache):
  cfg = dataclasses.replace(
    _config(), mixture_or_task_name='toy_cached', use_cached=True
  )
  tfrecords.check_files([cfg])
  before = content.content_digests(cfg)
  _write(cache[1], [f'x {i}'.encode() for i in range(5)])
  tfrecords.check_files([cfg])
  assert content.content_digests(cfg) != before
  _write(cache[1], [b'x'] * 6)
  with _refused('expected 10 records in the files of train.*found 11'):
    tfrecords.check_files([cfg])
  _write(cache[1], [b'x'])
  with _refused('expected 10 records in the files of train, as stats.*found 6'):
    tfrecords.check_files([cfg])
  cache[1].unlink()
  with _refused('train.tfrecord-00001-of-00002: missing'):
    tfrecords.check_files([cfg])
  info = cache[0].parent / 'info.train.json'
  info.write_text('{"num_shards": 0}')
  assert tfrecords.files_of(seqio.get_mixture_or_task('toy_cached'), cfg) == []
  for text in (
    *('[', '[]', '{}', '[' * 10**5, '{"num_shards": 1e99}'),
    *('{"num_shards": 1.0}', '{"num_shards": -1}', '{"num_shards": true}'),
  ):
    info.write_text(text)
    with _refused("info.train.json: expected an object with the number 'num"):
      tfrecords.check_files([cfg])
  info.unlink()
  with _refused('info.train.json: missing'):
    tfrecords.check_files([cfg])
  # Without the cache nothing is looked at, nor is there any file of it.
  plain = dataclasses.replace(cfg, use_cached=False)
  tfrecords.check_files([plain])
  task = seqio.get_mixture_or_task('toy_cached')
  (source,) = tfrecords.files_of(task, plain)
  assert source.endswith('none.txt')


def test_a_cache_in_one_file_is_checked(cache):
  cfg = dataclasses.replace(
    _config(), mixture_or_task_name='toy_cached', use_cached=True
  )
  folder = cache[0].parent
  (folder / 'info.train.json').write_text('{"num_shards": 1}')
  _write(folder / 'train.tfrecord-00000-of-00001', [b'x'] * 10)
  tfrecords.check_files([cfg, cfg])
  # The greatest number that counts as one.
  for number, says in (
    (2**53 - 1, f'expected {2**53 - 1} records'),
    (2**53, "expected an object with the number 'examples'"),
  ):
    stats = folder / 'stats.train.json'
    stats.write_text(json.dumps({'examples': number}))
    with _refused(says):
      tfrecords.check_files([cfg])


def test_a_task_that_cannot_be_cached_is_read_from_its_source():
  cfg = small_run.data_config('train')
  task = seqio.get_mixture_or_task(toy_task.NAME)
  cached = dataclasses.replace(cfg, use_cached=True)
  assert tfrecords.files_of(task, cached) == tfrecords.files_of(task, cfg) != []
  tfrecords.check_files([cached])
