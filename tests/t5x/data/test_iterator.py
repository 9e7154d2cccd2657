"""An iterator reads ahead in one thread, and goes where it is told."""

import json
import threading
import types

import pytest
import tensorflow as tf

from t5x.data import iterator as iterator_lib
from t5x.data import pipeline, snapshots


def _dataset():
  return tf.data.Dataset.range(40).map(lambda i: {'i': i})


def _iterator(**options):
  iterator = iterator_lib.TrainIterator(_dataset(), dict, **options)
  iterator.make_again = _dataset
  return iterator


def _take(iterator, count):
  return [int(next(iterator)['i']) for _ in range(count)]


def _position(iterator):
  """Where the snapshot that would be saved was taken."""
  header, _, _ = iterator.get_snapshot().partition(b'\n')
  return json.loads(header)['batches']


def test_an_iterator_that_reads_goes_to_another_position():
  iterator = _iterator(snapshot_period=0.0)
  assert _take(iterator, 20) == [*range(20)]
  # As many snapshots are kept as may be needed, and no more.
  assert len(iterator._snapshots) <= 5
  iterator.set_state({'batches': 15})
  assert _take(iterator, 1) == [15]
  assert _position(iterator) in (15, 16)
  assert _take(iterator, 3) == [16, 17, 18]
  iterator.close()


def test_an_iterator_that_cannot_begin_again_says_so():
  iterator = iterator_lib.TrainIterator(_dataset(), dict)
  _take(iterator, 2)
  iterator.set_state({'batches': 1})
  with pytest.raises(RuntimeError, match='set make_again'):
    next(iterator)
  iterator.close()


def test_one_thread_reads_until_the_iterator_is_closed():
  before = set(threading.enumerate())
  iterator = _iterator()
  _take(iterator, 5)
  (reader,) = set(threading.enumerate()) - before
  assert reader.name.startswith('read-ahead')
  iterator.close()
  assert set(threading.enumerate()) <= before


def test_the_iterator_of_a_run_is_named_by_its_part_and_saves_if_it_is_first():
  snapshot = snapshots.Snapshot(0, 0, 0, '1.0', b'', 0).to_bytes()
  for first in (True, False):
    layout = types.SimpleNamespace(
      shard_id=1, num_shards=2, is_first_host_in_replica_set=first
    )
    options = {
      'partitioner': types.SimpleNamespace(shard_batch=dict),
      'checkpoint_cfg': None,
      'data_layout': layout,
    }
    made = pipeline.prepare_train_iter(_dataset(), **options)
    assert made.part == '1-of-2'
    made.set_snapshot(snapshot)
    assert made.get_snapshot() == (snapshot if first else None)
    assert pipeline.prepare_train_iter(made, **options) is made


def test_a_replay_that_is_called_off_ends_at_once():
  endless = tf.data.Dataset.range(1).repeat().map(lambda i: {'i': i})
  iterator = iterator_lib.TrainIterator(endless, dict)
  iterator.set_state({'batches': 10**12})
  before = set(threading.enumerate())
  reader = iterator_lib._ReadAhead(iterator._open, dict)
  reader.close()
  assert set(threading.enumerate()) <= before
