"""Batches come seeded, in order, and go on where they stopped."""

import dataclasses
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


def _source(split, shuffle_files, seed=None):
  del shuffle_files, seed
  rows = [f'row {i}' for i in range(_ROWS[split])]
  return tf.data.Dataset.from_tensor_slices({'inputs': rows, 'targets': rows})


@pytest.fixture(scope='module', autouse=True)
def _toy_task():
  feature = seqio.Feature(_VOCABULARY, add_eos=True)
  seqio.TaskRegistry.add(
    _NAME,
    source=seqio.FunctionDataSource(
      _source, splits=list(_ROWS), num_input_examples=_ROWS
    ),
    preprocessors=[
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features={'inputs': feature, 'targets': feature},
  )
  yield
  seqio.TaskRegistry.remove(_NAME)


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
    (folder / f'{name[0]}-{name[1:]}.txt').write_text('never read')
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


def test_missing_lengths_are_refused():
  with pytest.raises(errors.UserError, match='TASK_FEATURE_LENGTHS'):
    _dataset(task_feature_lengths=None)


def test_a_batch_that_the_hosts_do_not_divide_is_refused():
  with pytest.raises(errors.UserError, match='4 is not divisible by the 3'):
    pipeline.get_dataset(_config(), 0, 3, seqio.EncDecFeatureConverter)


def test_options_of_grain_are_refused():
  with pytest.raises(errors.UserError, match='num_workers'):
    _config(num_workers=2)


@dataclasses.dataclass
class _Model:
  input_vocabulary: seqio.Vocabulary
  output_vocabulary: seqio.Vocabulary
  module: types.SimpleNamespace | None = None


def test_another_vocabulary_than_the_models_is_refused():
  verify = config_lib.verify_matching_vocabs
  verify(_config(), _Model(_VOCABULARY, _VOCABULARY))
  other = seqio.ByteVocabulary(extra_ids=7)
  with pytest.raises(errors.UserError, match='output vocabulary'):
    verify(_config(), _Model(_VOCABULARY, other))


def test_a_vocabulary_of_more_ids_than_the_network_has_rows_is_refused():
  def model(rows):
    config = types.SimpleNamespace(vocab_size=rows)
    module = types.SimpleNamespace(config=config)
    return _Model(_VOCABULARY, _VOCABULARY, module)

  ids = _VOCABULARY.vocab_size
  for rows in (ids, ids + 28, None):
    config_lib.verify_matching_vocabs(_config(), model(rows))
  with pytest.raises(
    errors.UserError,
    match=rf'has {ids} ids, and the network {ids - 1} rows.*Set'
    rf' network\.T5Config\.vocab_size to {ids} or more',
  ):
    config_lib.verify_matching_vocabs(_config(), model(ids - 1))
