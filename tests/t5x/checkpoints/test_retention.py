"""Tests of t5x.checkpoints.retention."""

import pytest
import tensorflow as tf
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer import event_file_writer

from t5x.checkpoints import retention as retention_lib
from t5x.errors import UserError


def test_what_is_kept_by_rule():
  retention = retention_lib.Retention
  assert retention('x').to_keep([1, 2]) == {1, 2}
  by_period = retention('x', keep=1, force_keep_period=10)
  assert by_period.to_keep([10, 15, 20, 25]) == {10, 20, 25}
  best = retention('x', keep=1, metric='a/b')
  values = {1: 0.5, 2: 0.5, 3: float('nan'), 4: 0.1}
  assert best.to_keep([1, 2, 3, 4], values) == {2, 4}
  assert best.to_keep([0, 1, 2, 3, 4], values) == {0, 2, 4}
  strict = retention('x', 1, None, 'a/b', 'max', keep_without_metrics=False)
  assert strict.to_keep([0, 1, 2, 3, 4], values) == {2, 4}
  with pytest.raises(UserError, match=r"'max' or 'min', found 'maximum'"):
    retention('x', mode='maximum')
  for name in ('keep', 'force_keep_period'):
    with pytest.raises(UserError, match=f'{name}: expected at least 1'):
      retention('x', **{name: 0})
  # Of the last ones, those of the period take no place.
  assert retention('x', 2, 10).to_keep([1, 2, 3, 10]) == {2, 3, 10}
  assert retention('x', 1).to_keep([3, 1, 2]) == {3}
  # A period of every step keeps all.
  assert retention('x', 1, 1).to_keep([1, 2, 3]) == {1, 2, 3}


def test_the_best_of_several_by_a_metric():
  def kept(mode, **options):
    retention = retention_lib.Retention(
      'x', keep=2, metric='a/b', mode=mode, **options
    )
    values = {1: 0.3, 2: 0.1, 3: 0.4, 4: 0.2, 5: 0.25}
    return retention.to_keep([1, 2, 3, 4, 5, 6], values)

  assert kept('max') == {1, 3, 6}
  assert kept('min') == {2, 4, 6}
  # What a period keeps takes no place of the best.
  assert kept('max', force_keep_period=3) == {1, 3, 5, 6}
  assert kept('min', force_keep_period=2) == {1, 2, 4, 5, 6}


def test_a_metric_is_read_from_the_folder_that_its_name_begins_with(tmp_path):
  writer = tf.summary.create_file_writer(str(tmp_path / 'train/cqa'))
  with writer.as_default(step=7):
    tf.summary.scalar('loss/label', 0.5)
    tf.summary.scalar('label', 0.25)
  writer.close()

  def read(metric, folder=tmp_path):
    retention = retention_lib.Retention(str(folder), metric=metric)
    return retention.read_metric()

  assert read('train/cqa/loss/label') == {7: 0.5}
  assert read('train/cqa/label') == {7: 0.25}
  assert read('train/cqa/loss') == read('eval/cqa/label') == {}
  # The folder is below the run's own, and the tag has a name.
  _written(tmp_path, 'train', 'cqa', {1: 2.0})
  _written(tmp_path, '.', 'eval/label', {1: 2.0})
  assert read('train/cqa') == {1: 2.0}
  assert read('eval/label') == read('eval') == {}
  # A value that was given with a checkpoint counts before one of the events.
  retention = retention_lib.Retention(
    str(tmp_path), keep=1, metric='train/cqa/label'
  )
  assert retention.to_keep([6, 7, 8], {6: 0.2, 8: 0.1}) == {7, 8}
  assert retention.to_keep([6, 7, 8], {6: 0.2, 7: 0.1, 8: 0.1}) == {6, 8}


def _written(folder, name, tag, values):
  """Writes a scalar as TensorFlow 1 and most other programs do."""
  writer = event_file_writer.EventFileWriter(str(folder / name))
  for step, value in values.items():
    summary = summary_pb2.Summary()
    summary.value.add(tag=tag, simple_value=value)
    writer.add_event(event_pb2.Event(step=step, summary=summary))
  writer.close()


def test_every_value_is_read_in_both_forms(tmp_path):
  """TensorBoard keeps a sample of them, if it is not told to keep all."""
  values = {step: step / 8 for step in range(12_000)}
  _written(tmp_path, 'old', 'loss', values)
  assert retention_lib.read_scalars(str(tmp_path / 'old'), 'loss') == values
  few = dict(list(values.items())[:20])
  writer = tf.summary.create_file_writer(str(tmp_path / 'new'))
  for step, value in few.items():
    with writer.as_default(step=step):
      tf.summary.scalar('loss', value)
  writer.close()
  assert retention_lib.read_scalars(str(tmp_path / 'new'), 'loss') == few
  assert retention_lib.read_scalars(str(tmp_path / 'new'), 'los') == {}
