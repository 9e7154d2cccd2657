"""A snapshot leads to where it was taken, or is not used at all."""

import dataclasses
import json
import re
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from t5x import checkpoints
from t5x.data import iterator as iterator_lib
from t5x.data import snapshots
from tests.t5x import small_run

_ROWS = 40


class _Input:
  """A shuffled, cached, repeated pipeline that counts the rows it makes."""

  def __init__(self, seed=1, rows=_ROWS, stateful=False, mark=b'', ahead=True):
    self.made = 0
    self._mark = mark
    self._stateful = stateful
    texts = tf.constant([f'row {i}' for i in range(rows)])
    dataset = tf.data.Dataset.range(rows).shuffle(rows, seed=seed)
    dataset = dataset.map(lambda i: texts[i]).cache().repeat()
    dataset = dataset.shuffle(16, seed=seed + 1).enumerate()
    self.dataset = dataset.map(self._row).batch(4)
    if ahead:
      self.dataset = self.dataset.prefetch(2)
    else:
      # Nor does TensorFlow read ahead by itself.
      options = tf.data.Options()
      options.experimental_optimization.inject_prefetch = False
      options.experimental_optimization.map_and_batch_fusion = False
      self.dataset = self.dataset.with_options(options)

  def _row(self, number, text):
    def made(text):
      self.made += 1
      return text + self._mark

    text = tf.numpy_function(made, [text], tf.string, stateful=self._stateful)
    return {'number': number, 'text': tf.ensure_shape(text, [])}


def _iterator(source, part='0-of-1', period=0.0, saves=True):
  iterator = iterator_lib.TrainIterator(
    source.dataset, dict, part, saves, snapshot_period=period
  )
  iterator.make_again = lambda: _Input().dataset
  return iterator


def _take(iterator, count):
  batches = [next(iterator) for _ in range(count)]
  iterator.close()
  return batches


def _same(found, expected):
  assert len(found) == len(expected)
  for mine, other in zip(found, expected, strict=True):
    for name in other:
      np.testing.assert_array_equal(mine[name], other[name])


@pytest.fixture(scope='module')
def straight():
  """The batches of a run that was never stopped."""
  return _take(_iterator(_Input()), 40)


@pytest.fixture(scope='module')
def stopped():
  """Position and snapshot after 30 batches."""
  iterator = _iterator(_Input())
  _take(iterator, 30)
  return iterator.get_state(), iterator.get_snapshot()


def _resumed(state, snapshot, source):
  iterator = _iterator(source)
  iterator.set_state(state)
  if snapshot is not None:
    iterator.set_snapshot(snapshot)
  return iterator


def test_a_run_goes_on_without_reading_again(straight, stopped):
  source = _Input()
  iterator = _resumed(*stopped, source)
  _same([next(iterator)], straight[30:31])
  # One batch; those read ahead while it was taken, and those in the making.
  assert source.made < 60
  _same(_take(iterator, 9), straight[31:])
  assert iterator.get_state() == {'batches': 40}


def test_what_is_read_ahead_comes_first(straight, stopped):
  iterator = _resumed(*stopped, _Input())
  iterator.read_ahead()
  assert iterator.get_state() == stopped[0]
  _same(_take(iterator, 5), straight[30:35])


def test_without_a_snapshot_it_reads_again(straight, stopped):
  source = _Input()
  _same(_take(_resumed(stopped[0], None, source), 10), straight[30:])
  assert source.made >= 160


def test_a_snapshot_from_before_the_position_leads_there(straight, stopped):
  state = {'batches': stopped[0]['batches'] + 5}
  source = _Input()
  _same(_take(_resumed(state, stopped[1], source), 5), straight[35:])
  assert source.made < 100


def test_what_a_run_went_on_from_is_saved_again(straight, stopped):
  """A run that is stopped again before it takes a snapshot of its own."""
  iterator = _iterator(_Input(), period=1000.0)
  iterator.set_state(stopped[0])
  iterator.set_snapshot(stopped[1])
  _same(_take(iterator, 2), straight[30:32])
  assert iterator.get_snapshot() == stopped[1]
  again = _resumed(iterator.get_state(), iterator.get_snapshot(), _Input())
  _same(_take(again, 8), straight[32:])


def test_no_snapshot_is_ahead_of_the_position():
  iterator = _iterator(_Input())
  for position in range(1, 12):
    next(iterator)
    snapshot = iterator.get_snapshot()
    header = json.loads(snapshot.partition(b'\n')[0])
    # Every batch has one here; the reader may be about to add the last.
    assert position - 1 <= header['batches'] <= position
  iterator.close()


def test_one_host_of_those_that_read_a_part_gives_its_snapshots():
  iterator = _iterator(_Input(), saves=False)
  _take(iterator, 5)
  assert iterator.get_snapshot() is None


def test_a_short_run_takes_none():
  iterator = iterator_lib.TrainIterator(_Input().dataset, dict)
  _take(iterator, 5)
  assert iterator.get_snapshot() is None


def _changed(snapshot, **changes):
  known = snapshots.Snapshot.from_bytes(snapshot)
  return dataclasses.replace(known, **changes).to_bytes()


def _flipped(content):
  place = len(content) - 100
  return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
  'damage',
  [
    _flipped,
    lambda content: content[:-1],
    lambda content: b'',
    lambda content: _changed(content, tensorflow='1.0'),
    lambda content: _changed(content, pipeline=1),
    lambda content: _changed(content, next_batch=1),
    lambda content: _changed(content, batches=31),
    lambda content: _changed(content, state_bytes=10),
    lambda content: _changed(content, state=b'nonsense'),
  ],
)
def test_a_snapshot_that_is_of_no_use_is_passed_over(damage, straight, stopped):
  first, again = _Input(), _Input()
  iterator = _resumed(stopped[0], damage(stopped[1]), first)
  iterator.make_again = lambda: again.dataset
  _same(_take(iterator, 2), straight[30:32])
  # All of the 30 batches were read again.
  assert first.made + again.made >= 120
  kept = iterator.get_snapshot()
  assert kept is None or kept != damage(stopped[1])


def test_a_snapshot_of_another_format_is_none():
  content = snapshots.Snapshot(1, 2, 3, '4.0', b'state', 5).to_bytes()
  assert content == (
    b'{"batches": 1, "format": 1, "next_batch": 2, "pipeline": 3, "state_bytes"'
    b': 5, "state_crc": 2744374011, "tensorflow": "4.0"}\nstate'
  )
  assert snapshots.Snapshot.from_bytes(content).to_bytes() == content
  header, _, state = content.partition(b'\n')
  for changes, says in (
    ({'format': 0}, 'another format'),
    ({'format': 2}, 'another format'),
    ({'state_crc': 1}, 'not those that were written'),
    ({'state_crc': 2**32}, 'not those that were written'),
    ({'batches': '1'}, 'batches is no number'),
    ({'next_batch': 2.0}, 'next_batch is no number'),
    ({'pipeline': True}, 'pipeline is no number'),
    ({'state_bytes': None}, 'state_bytes is no number'),
    ({'state_bytes': -1}, '-1 bytes'),
    ({'state_bytes': 2**30 + 1}, '1073741825 bytes'),
  ):
    other = json.dumps({**json.loads(header), **changes}).encode()
    with pytest.raises(snapshots.UnusableError, match=says):
      snapshots.Snapshot.from_bytes(other + b'\n' + state)


def test_a_snapshot_has_room_for_a_gib_and_4_kib_of_a_header():
  def header(tensorflow):
    return snapshots.Snapshot(1, 2, 3, tensorflow, b'', 2**30).to_bytes()

  # Its last place is that of the end of the line.
  room = 4095 - header('').index(b'\n')
  snapshots.Snapshot.from_bytes(header('x' * room))
  with pytest.raises(snapshots.UnusableError):
    snapshots.Snapshot.from_bytes(header('x' * (room + 1)))


def _counting():
  return tf.data.Dataset.range(9).map(lambda i: {'i': i})


def test_a_state_that_takes_too_much_is_not_kept(monkeypatch):
  def kept():
    found = []
    next(snapshots.Pipeline(_counting, found.append, period=0.0))
    return found

  (snapshot,) = kept()
  monkeypatch.setattr(snapshots, '_MAX_BYTES', snapshot.state_bytes)
  assert kept() == [snapshot]
  monkeypatch.setattr(snapshots, '_MAX_BYTES', snapshot.state_bytes - 1)
  assert kept() == []


class _Clock:
  """Goes on by a step each time that it is asked."""

  now, step = 100.0, 0.0

  def monotonic(self):
    self.now += self.step
    return self.now - self.step


def test_snapshots_take_a_fortieth_of_the_time_at_most(monkeypatch):
  clock = _Clock()
  monkeypatch.setattr(snapshots, 'time', clock)
  kept = []
  pipeline = snapshots.Pipeline(_counting, kept.append, period=10.0)
  # Begun at 112 and done at 114, one is due 80 seconds later; then after 10.
  for clock.now, clock.step, taken in (
    (109, 0, 0),
    (110, 2, 1),
    (193, 0, 1),
    (194, 0, 2),
    (203, 0, 2),
    (205, 0, 3),
  ):
    next(pipeline)
    assert len(kept) == taken
  assert [snapshot.batches for snapshot in kept] == [1, 3, 5]


def test_a_position_behind_the_end_is_the_end():
  pipeline = snapshots.Pipeline(_counting, print, period=1000.0)
  assert pipeline.go_to(0, None) and pipeline.batches == 0
  assert pipeline.go_to(12, None) and pipeline.batches == 9
  with pytest.raises(StopIteration):
    next(pipeline)


class _Opener:
  """Makes inputs anew, and counts the rows of all of them."""

  def __init__(self, **options):
    self._options = options
    self._inputs = []

  def __call__(self):
    self._inputs.append(_Input(**self._options))
    return self._inputs[-1].dataset

  @property
  def made(self):
    return sum(source.made for source in self._inputs)


def _taken_at(batches, **options):
  """The snapshot of a pipeline after a number of batches."""
  kept = []
  pipeline = snapshots.Pipeline(_Opener(**options), kept.append, period=0.0)
  for _ in range(batches + 1):
    next(pipeline)
  return kept[batches]


def _off(field, number):
  """A snapshot of which one field is off by a number."""
  snapshot = _taken_at(30)
  changes = {field: getattr(snapshot, field) + number}
  return dataclasses.replace(snapshot, **changes)


def test_a_snapshot_that_fits_leads_to_its_position(straight):
  opener = _Opener()
  pipeline = snapshots.Pipeline(opener, print, period=1000.0)
  assert pipeline.go_to(30, _taken_at(30))
  assert pipeline.batches == 30
  _same([next(pipeline)], straight[30:31])
  assert opener.made < 60


@pytest.mark.parametrize(
  ('taken', 'mark', 'why'),
  [
    (lambda: _taken_at(31), b'', '31 batches'),
    (lambda: _taken_at(30, seed=2), b'', 'another pipeline'),
    (lambda: _taken_at(30, rows=39), b'', 'another pipeline'),
    (
      lambda: dataclasses.replace(_taken_at(30), tensorflow='1.0'),
      b'',
      r'TensorFlow 1\.0',
    ),
    (
      lambda: dataclasses.replace(_taken_at(30), tensorflow='9.0'),
      b'',
      r'TensorFlow 9\.0',
    ),
    *(
      (lambda f=f, n=n, say=say: _off(f, n), b'', say)
      for f, n, say in (
        ('pipeline', 2**32, 'another pipeline'),
        ('pipeline', -(2**32), 'another pipeline'),
        ('next_batch', 2**32, 'another batch'),
        ('state_bytes', 1, 'another size'),
        ('state_bytes', -1, 'another size'),
      )
    ),
    # A Python function that gives other rows now has the same fingerprint.
    (lambda: _taken_at(30, ahead=False), b'!', 'another batch'),
  ],
)
def test_a_snapshot_that_does_not_fit_costs_reading_all_batches_again(
  straight, caplog, taken, mark, why
):
  opener = _Opener(mark=mark, ahead=not mark)
  pipeline = snapshots.Pipeline(opener, print, period=1000.0)
  with caplog.at_level('INFO', logger='absl'):
    assert not pipeline.go_to(30, taken())
  assert re.search(f'all of them read again, since .*{why}', caplog.text)
  said = [r.levelname for r in caplog.records if 'going on' in r.message]
  assert said == ['WARNING']
  assert pipeline.batches == 30
  assert opener.made >= 120
  _same(
    [next(pipeline) for _ in range(4)],
    [{**b, 'text': b['text'] + mark} for b in straight[30:34]],
  )


def test_a_checksum_counts_names_types_shapes_and_values():
  numbers = np.array([1, 2], np.int32)
  texts = np.array([b'a', b'b'], object)
  batches = [
    {'x': numbers},
    {'y': numbers},
    {'x': numbers.view(np.uint32)},
    {'x': numbers[None]},
    {'x': numbers[:, None]},
    {'x': numbers[::-1]},
    {'x': numbers, 'y': numbers},
    {'x': texts},
    {'x': texts[None]},
    {'x': texts[::-1]},
  ]
  assert len({snapshots.checksum(batch) for batch in batches}) == len(batches)
  assert snapshots.checksum({'x': numbers, 'y': texts}) == snapshots.checksum(
    {'y': texts.copy(), 'x': numbers.copy()}
  )
  written = b'xint32(2,)' + numbers.tobytes()
  assert snapshots.checksum({'x': numbers}) == zlib.crc32(written)
  assert snapshots.checksum({'x': texts}) == zlib.crc32(
    b"xobject(2,)[b'a', b'b']"
  )


def test_other_data_or_another_seed_has_another_fingerprint():
  one = snapshots.fingerprint(_Input().dataset)
  assert snapshots.fingerprint(_Input().dataset) == one
  assert snapshots.fingerprint(_Input(seed=2).dataset) != one
  assert snapshots.fingerprint(_Input(rows=39).dataset) != one
  found = {
    snapshots.fingerprint(tf.data.Dataset.from_tensors(np.array([n], kind)))
    for kind in (np.uint32, np.float32)
    for n in (0, 1)
  }
  assert len(found) == 4


def test_another_function_of_the_rows_has_another_fingerprint():
  def mapped(function):
    return tf.data.Dataset.range(9).map(function)

  def nested(function):
    return tf.data.Dataset.range(3).flat_map(
      lambda n: tf.data.Dataset.range(n).map(function)
    )

  for make in (mapped, nested):
    found = {
      snapshots.fingerprint(make(function))
      for function in (lambda i: i + 1, lambda i: i + 2, lambda i: i * 2)
    }
    assert len(found) == 3
    assert snapshots.fingerprint(make(lambda i: i + 1)) in found


def test_a_pipeline_with_a_state_in_python_is_read_again(straight, caplog):
  source = _Input(stateful=True)
  iterator = _iterator(source)
  with caplog.at_level('INFO', logger='absl'):
    _same(_take(iterator, 30), straight[:30])
  # It is tried once.
  assert caplog.text.count('no snapshots of this pipeline') == 1
  assert iterator.get_snapshot() is None
  resumed = _resumed(iterator.get_state(), None, _Input(stateful=True))
  _same(_take(resumed, 10), straight[30:])


def test_an_iterator_goes_back_in_one_process(straight):
  for period in (0.0, 1000.0):  # To a snapshot, and to the start.
    iterator = _iterator(_Input(), period=period)
    _same(_take(iterator, 20), straight[:20])
    iterator.set_state({'batches': 15})
    _same(_take(iterator, 25), straight[15:])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_without_a_crash(content):
  with pytest.raises(snapshots.UnusableError):
    snapshots.Snapshot.from_bytes(content)


@given(
  st.dictionaries(
    st.sampled_from(
      [f.name for f in dataclasses.fields(snapshots.Snapshot)]
      + ['format', 'state_crc']
    ),
    st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers()),
  )
)
def test_any_header_is_refused_without_a_crash(header):
  content = json.dumps({'format': 1, 'state_crc': 0, **header}).encode()
  with pytest.raises(snapshots.UnusableError):
    snapshots.Snapshot.from_bytes(content + b'\nx')


def _parameters(folder, step):
  state = checkpoints.load_t5x_checkpoint(str(folder), step)
  return state['target']['table']


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run of eight steps, never stopped."""
  folder = tmp_path_factory.mktemp('straight')
  small_run.call(folder, total_steps=8, period=100, devices=1)
  return folder


@pytest.mark.parametrize('damaged', [False, True])
def test_a_checkpoint_holds_a_snapshot_that_may_be_damaged(
  tmp_path, finished, monkeypatch, caplog, damaged
):
  monkeypatch.setattr(snapshots, 'PERIOD_SECONDS', 0.0)
  small_run.call(tmp_path, total_steps=5, period=100, devices=1)
  snapshot = tmp_path / 'checkpoint_5' / 'dataset' / 'part_0-of-1'
  if damaged:
    snapshot.write_bytes(_flipped(snapshot.read_bytes()))
  with caplog.at_level('INFO', logger='absl'):
    small_run.call(tmp_path, total_steps=8, period=100, devices=1)
  again = 'all of them read again' if damaged else ', [01] of them read again'
  assert re.search(f'Input: going on after 5 batches.*{again}', caplog.text)
  assert ('its bytes are not those that were written' in caplog.text) == damaged
  np.testing.assert_array_equal(
    _parameters(tmp_path, 8), _parameters(finished, 8)
  )
