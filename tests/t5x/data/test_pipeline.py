"""Batches come seeded, in order, and go on where they stopped."""

import dataclasses
import functools
import types

import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5x import errors
from t5x.data import config as config_lib
from t5x.data import iterator as iterator_lib
from t5x.data import pipeline

_ROWS = {'train': 50, 'validation': 10}
_VOCABULARY = seqio.ByteVocabulary()
_NAME = 'toy_task_of_test_datasets'
# The same, which counts the rows that it makes.
_COUNTED = 'toy_task_that_counts'
_read: list[bytes] = []


def _source(split, shuffle_files, seed=None):
  del shuffle_files, seed
  rows = [f'row {i}' for i in range(_ROWS[split])]
  return tf.data.Dataset.from_tensor_slices({'inputs': rows, 'targets': rows})


def _count(dataset):
  def counted(text):
    _read.append(text)
    return text

  def row(example):
    text = tf.numpy_function(counted, [example['inputs']], tf.string)
    return {**example, 'inputs': tf.ensure_shape(text, [])}

  return dataset.map(row)


@pytest.fixture(scope='module', autouse=True)
def _toy_task():
  feature = seqio.Feature(_VOCABULARY, add_eos=True)
  for name, first in (
    (_NAME, []),
    (_COUNTED, [seqio.CacheDatasetPlaceholder(), _count]),
  ):
    seqio.TaskRegistry.add(
      name,
      source=seqio.FunctionDataSource(
        _source, splits=list(_ROWS), num_input_examples=_ROWS
      ),
      preprocessors=[
        *first,
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos_after_trim,
      ],
      output_features={'inputs': feature, 'targets': feature},
    )
  yield
  seqio.TaskRegistry.remove(_NAME)
  seqio.TaskRegistry.remove(_COUNTED)


def _config(**changes):
  config = config_lib.DatasetConfig(
    mixture_or_task_name=_NAME,
    task_feature_lengths={'inputs': 8, 'targets': 8},
    split='train',
    batch_size=4,
    shuffle=True,
    seed=1,
  )
  return dataclasses.replace(config, **changes)


def _dataset(**changes):
  return pipeline.get_dataset(
    _config(**changes), 0, 1, seqio.EncDecFeatureConverter
  )


def _iterator(**changes):
  return iterator_lib.TrainIterator(_dataset(**changes), shard_batch=dict)


def _take(iterator, count):
  return [next(iterator)['encoder_input_tokens'].copy() for _ in range(count)]


def test_the_same_seed_gives_the_same_batches():
  one, other = _iterator(), _iterator()
  np.testing.assert_array_equal(_take(one, 20), _take(other, 20))
  one.close(), other.close()


def test_another_seed_gives_other_batches():
  one, other = _iterator(), _iterator(seed=2)
  assert not np.array_equal(_take(one, 5), _take(other, 5))
  one.close(), other.close()


@pytest.mark.parametrize('done', [0, 1, 13, 30])
def test_a_restored_iterator_goes_on_with_the_next_batch(done):
  straight = _iterator()
  expected = _take(straight, done + 5)[done:]
  first = _iterator()
  _take(first, done)
  state = first.get_state()
  first.close()
  resumed = _iterator()
  resumed.set_state(state)
  np.testing.assert_array_equal(_take(resumed, 5), expected)
  assert resumed.get_state() == {'batches': done + 5}
  straight.close(), resumed.close()


def test_reading_ahead_does_not_move_the_position():
  iterator = _iterator()
  _take(iterator, 1)
  assert iterator.get_state() == {'batches': 1}
  iterator.close()


def test_hosts_read_disjoint_parts_that_make_up_the_whole():
  parts = [
    pipeline.get_dataset(
      _config(shuffle=False, batch_size=2),
      host,
      2,
      seqio.EncDecFeatureConverter,
      num_epochs=1,
    )
    for host in range(2)
  ]
  seen = [
    _VOCABULARY.decode(row)
    for part in parts
    for batch in part.as_numpy_iterator()
    for row in batch['encoder_input_tokens'].tolist()
  ]
  assert sorted(seen) == sorted(f'row {i}' for i in range(50))


def _task_in_files(folder, name, files):
  """A task in files of ten rows, which say in which file they are."""
  for i in range(files):
    rows = [f'{name}{i:02} row {row}' for row in range(10)]
    (folder / f'{name}-{i:02}.txt').write_text('\n'.join(rows))
  return seqio.Task(
    f'toy_{name}_in_files',
    source=seqio.TextLineDataSource({'train': f'{folder}/{name}-*.txt'}),
    preprocessors=[
      lambda lines: lines.map(lambda line: {'targets': line}),
      seqio.preprocessors.tokenize,
    ],
    output_features={'targets': seqio.Feature(_VOCABULARY, add_eos=False)},
  )


@pytest.fixture(scope='module')
def in_files(tmp_path_factory):
  """The config of a mixture of two tasks in files, and their folder."""
  folder = tmp_path_factory.mktemp('files')
  tasks = [_task_in_files(folder, 'a', 2), _task_in_files(folder, 'b', 3)]
  mixture = seqio.Mixture('toy_in_files', tasks, default_rate=1)
  config = _config(
    mixture_or_task_name=mixture, task_feature_lengths={'targets': 12}
  )
  return config, folder


def _rows_of_host(config, host, hosts):
  """The rows of 60 batches, as text."""
  dataset = pipeline.get_dataset(config, host, hosts, seqio.LMFeatureConverter)
  return [
    [_VOCABULARY.decode(row) for row in batch['decoder_target_tokens'].tolist()]
    for batch in dataset.take(60).as_numpy_iterator()
  ]


@pytest.fixture(scope='module')
def of_two_hosts(in_files):
  return [_rows_of_host(in_files[0], host, 2) for host in range(2)]


def _files_read(batches):
  return {row[:3] for batch in batches for row in batch}


def test_hosts_with_files_of_their_own_have_the_batches_of_one(
  in_files, of_two_hosts
):
  first, second = of_two_hosts
  one = _rows_of_host(in_files[0], 0, 1)
  assert [a + b for a, b in zip(first, second, strict=True)] == one
  assert not _files_read(first) & _files_read(second)
  assert _files_read(one) == {'a00', 'a01', 'b00', 'b01', 'b02'}


def test_a_host_does_not_read_another_hosts_files(in_files, of_two_hosts):
  config, folder = in_files
  for name in _files_read(of_two_hosts[1]):
    # What is no file any more fails when it is read.
    (folder / f'{name[0]}-{name[1:]}.txt').unlink()
    (folder / f'{name[0]}-{name[1:]}.txt').mkdir()
  assert _rows_of_host(config, 0, 2) == of_two_hosts[0]


def test_each_part_of_a_batch_draws_its_tasks_itself(of_two_hosts):
  drawn = [[row[0] for batch in part for row in batch] for part in of_two_hosts]
  assert set(drawn[0]) == set(drawn[1]) == {'a', 'b'}
  assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
  ('batch_size', 'parts'), [(4, 4), (16, 16), (64, 16), (24, 8), (9, 1)]
)
def test_files_and_batch_say_in_how_many_parts_data_is_read(
  tmp_path, batch_size, parts
):
  task = _task_in_files(tmp_path, 'c', 20)
  config = _config(mixture_or_task_name=task, batch_size=batch_size)
  assert pipeline.data_parts(config) == parts
  assert pipeline.data_parts(dataclasses.replace(config, data_shards=1)) == 1


def test_the_task_in_the_fewest_files_counts(in_files):
  assert (
    pipeline.data_parts(dataclasses.replace(in_files[0], batch_size=8)) == 2
  )
  assert pipeline.data_parts(_config()) == 1  # One file.
  assert pipeline.data_parts(_config(split='none')) == 1
  cached = dataclasses.replace(in_files[0], use_cached=True)
  assert pipeline.data_parts(cached) == 1
  # They are read in parts, but by one order if a task is in fewer files.
  assert pipeline._seed_of_part(in_files[0], 5, 1, 2) != 5
  assert pipeline._seed_of_part(in_files[0], 5, 1, 3) == 5


def test_a_run_that_goes_on_draws_its_parts_as_before(in_files):
  draw = functools.partial(pipeline._seed_of_part, in_files[0])
  found = [draw(seed, part, 2) for seed in (1, 2**31 + 5) for part in (0, 1)]
  assert found == [1835504127, 1189033389, 181218205, 2012068251]
  assert draw(2**32 + 7, 1, 2) == draw(7, 1, 2) != draw(7, 0, 2)
  assert draw(-1, 1, 2) == draw(2**32 - 1, 1, 2)
  assert draw(7, 0, 1) == 7  # One part is the whole.


def test_a_seed_that_nobody_gave_is_any_of_31_bits():
  drawn = {pipeline.shared_seed(None) for _ in range(40)}
  assert len(drawn) > 30
  assert min(drawn) >= 0 and 2**24 < max(drawn) < 2**31
  assert pipeline.shared_seed(None, 7) == 7
  assert pipeline.shared_seed(3, 7) == 3


def _with_steps(rows, **changes):
  step = types.SimpleNamespace(rows=rows, parts=3)
  provider = types.SimpleNamespace(step=step)
  return _config(mixture_or_task_name=provider, **changes)


def test_steps_have_the_rows_of_a_batch_and_parts_of_their_own():
  assert pipeline.data_parts(_with_steps(4)) == 3
  assert config_lib.step_layout(_config()) is None
  for rows in (2, 8):
    with pytest.raises(errors.UserError, match=f'has {rows} rows: expected'):
      pipeline.get_dataset(
        _with_steps(rows, data_shards=1), 0, 1, seqio.EncDecFeatureConverter
      )


def test_a_finite_dataset_ends_with_stop_iteration():
  dataset = pipeline.get_dataset(
    _config(), 0, 1, seqio.EncDecFeatureConverter, num_epochs=1
  )
  iterator = iterator_lib.TrainIterator(dataset, shard_batch=dict)
  assert sum(1 for _ in iterator) == 50 // 4
  with pytest.raises(StopIteration):
    next(iterator)


def test_an_error_of_the_pipeline_is_raised_where_the_batch_is_asked_for():
  def fail(batch):
    raise RuntimeError('no such device')

  iterator = iterator_lib.TrainIterator(_dataset(), shard_batch=fail)
  with pytest.raises(RuntimeError, match='no such device'):
    next(iterator)
  iterator.close()


def test_measuring_the_loss_sees_each_row_once_and_fills_up_with_nothing():
  (dataset,) = pipeline.get_training_eval_datasets(
    _config(split='validation', shuffle=False),
    0,
    1,
    eval_steps=100,
    feature_converter_cls=seqio.EncDecFeatureConverter,
  ).values()
  batches = list(dataset.as_numpy_iterator())
  weights = np.concatenate([b['decoder_loss_weights'] for b in batches])
  assert weights.shape == (12, 8)
  np.testing.assert_array_equal(weights.sum(1), [6] * 10 + [0] * 2)


@pytest.mark.parametrize(('rows', 'batches'), [(3, 4), (5, 2)])
def test_only_a_batch_that_is_not_full_is_filled_up(rows, batches):
  found = pipeline.get_training_eval_datasets(
    _config(split='validation', batch_size=rows),
    0,
    1,
    eval_steps=100,
    feature_converter_cls=seqio.EncDecFeatureConverter,
  )
  shapes = [b['decoder_target_tokens'].shape for b in found[_NAME]]
  assert shapes == [(rows, 8)] * batches


@pytest.mark.parametrize(('keeps', 'times'), [(True, 1), (False, 2)])
def test_the_loss_of_each_task_of_a_mixture_is_measured(keeps, times):
  mixture = seqio.Mixture('toy_both', [_NAME, _COUNTED], default_rate=1)
  _read.clear()
  found = pipeline.get_training_eval_datasets(
    _config(
      mixture_or_task_name=mixture, split='validation', use_memory_cache=keeps
    ),
    0,
    1,
    eval_steps=100,
    feature_converter_cls=seqio.EncDecFeatureConverter,
  )
  assert list(found) == [_NAME, _COUNTED]
  for dataset in found.values():
    for _ in range(2):
      batches = list(dataset.as_numpy_iterator())
      weights = sum(b['decoder_loss_weights'].sum() for b in batches)
      assert (len(batches), weights) == (3, 10 * 6)
  # With use_memory_cache rows are made once, and else each time.
  assert len(_read) == 10 * times


def test_measuring_the_loss_stops_at_eval_steps():
  (dataset,) = pipeline.get_training_eval_datasets(
    _config(split='validation'), 0, 1, 2, seqio.EncDecFeatureConverter
  ).values()
  assert sum(1 for _ in dataset) == 2


def test_a_misspelt_task_is_refused_with_the_closest_name():
  with pytest.raises(errors.UserError, match=f'Did you mean {_NAME!r}'):
    _dataset(mixture_or_task_name=_NAME.replace('toy', 'tow'))


def test_an_absent_split_is_refused_with_those_there_are():
  with pytest.raises(
    errors.UserError, match=r"has the split 'test'.*validation"
  ):
    _dataset(split='test')
  with pytest.raises(errors.UserError, match="has the split 'test'"):
    pipeline.get_training_eval_datasets(
      _config(split='test'), 0, 1, 2, seqio.EncDecFeatureConverter
    )


def test_missing_lengths_are_refused():
  with pytest.raises(errors.UserError, match='TASK_FEATURE_LENGTHS'):
    _dataset(task_feature_lengths=None)


def test_a_batch_that_the_hosts_do_not_divide_is_refused():
  with pytest.raises(errors.UserError, match='4 is not divisible by the 3'):
    pipeline.get_dataset(_config(), 0, 3, seqio.EncDecFeatureConverter)


def test_options_reach_seqio_and_the_converter():
  made = []

  def converter(**options):
    made.append(options)
    return seqio.EncDecFeatureConverter(pack=False)

  def first(**changes):
    dataset = pipeline.get_dataset(_config(**changes), 0, 1, converter)
    return next(dataset.as_numpy_iterator())['decoder_target_tokens']

  rows = first(shuffle=False, pack=True, use_custom_packing_ops=True)
  assert made == [{'pack': True, 'use_custom_packing_ops': True}]
  assert [*map(_VOCABULARY.decode, rows.tolist())] == [
    f'row {i}' for i in range(4)
  ]
  short = {'inputs': 3, 'targets': 4}
  assert first(task_feature_lengths=short).shape == (4, 4)


def test_shards_of_get_dataset_inner_have_no_row_in_common():
  def rows(index, seed=3, seed_of_config=1):
    dataset = pipeline.get_dataset_inner(
      _config(seed=seed_of_config),
      seqio.ShardInfo(index, 2),
      seqio.EncDecFeatureConverter,
      seed,
      num_epochs=1,
    )
    batches = [
      b['decoder_target_tokens'].tolist() for b in dataset.as_numpy_iterator()
    ]
    assert [len(batch) for batch in batches] == [2] * 12
    return [tuple(row) for batch in batches for row in batch]

  assert not {*rows(0)} & {*rows(1)}
  # Its seed counts, and the config's does not.
  assert rows(0) == rows(0, seed_of_config=2) != rows(0, seed=4)


def test_the_shapes_of_a_batch_of_all_hosts():
  found = pipeline.global_batch_shapes(_dataset().element_spec, 12)
  assert found['decoder_loss_weights'].shape == (12, 8)
  assert found['decoder_loss_weights'].dtype == np.int32
