"""Files of records that lost something are named before they are trained on."""

import json
import os
import pathlib

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from t5x import errors
from t5x.data import config, pipeline, tfrecords
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

  kept = [r.numpy() for r in tf.data.TFRecordDataset(str(files[1]))]
  with tf.io.TFRecordWriter(str(files[1])) as writer:
    for record in kept[:-1]:  # Cut at a record's end: it reads well.
      writer.write(record)
  with _refused(rf'{files[1]}: expected {len(kept)} records.*found') as raised:
    tfrecords.check_files([_config()])
  assert raised.value.exit_code == 2

  os.truncate(files[1], files[1].stat().st_size - 5)
  with _refused(rf'{files[1]}: record {len(kept) - 2} reaches beyond'):
    tfrecords.check_files([_config()])

  os.remove(files[1])
  with _refused(f'{files[1]}: missing'):
    tfrecords.check_files([_config()])


def test_a_damaged_record_is_named_where_it_is_read(files):
  records = [r.numpy() for r in tf.data.TFRecordDataset(str(files[0]))]
  content = bytearray(files[0].read_bytes())
  # The third record's data begins behind two whole records and its header.
  content[sum(16 + len(r) for r in records[:2]) + 12 + 3] ^= 1
  files[0].write_bytes(content)
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
  content = json.loads(info.read_text())
  for text in ('{', '[]', json.dumps({**content, 'splits': []})):
    info.write_text(text)
    with _refused('dataset_info.json: does not say'):
      tfrecords._expected_records(str(files[0]))
