"""What is kept in memory comes out as SeqIO itself would hand it out."""

import inspect
import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

from dss_jax import mixtures
from dss_jax.data import own_rows as own_rows_lib
from dss_jax.pipeline import cached_tasks

LENGTHS = {'inputs': 24, 'targets': 16}


def own_rows(folder, most):
  """Rows with up to `most` rationales, of which each epoch draws one."""
  rows = [
    {'input': f'Q{n}?', 'label': f'a{n}',
     'rationale': [f'{n} since {i}' for i in range(n % most + 1)]}
    for n in range(20)
  ]  # fmt: skip
  path = folder / 'rows.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)), encoding='utf-8')
  return own_rows_lib.OwnData(str(path))


def as_seqio_has_it(mixture):
  """The same mixture in SeqIO's own classes."""
  tasks = [
    seqio.Task(task.name, task.source, task.output_features, task.preprocessors)
    for task in mixture.tasks
  ]
  rated = [
    (task, mixture.get_rate(mine))
    for task, mine in zip(tasks, mixture.tasks, strict=True)
  ]
  return seqio.Mixture(mixture.name, rated)


def read(mixture, count, **options):
  dataset = mixture.get_dataset(LENGTHS, 'train', num_epochs=None, **options)
  return list(dataset.take(count).as_numpy_iterator())


@pytest.mark.parametrize(
  ('kind', 'options'),
  [
    ('dss', {'seed': 0}),
    ('paired', {'seed': 3, 'shard_info': seqio.ShardInfo(1, 3)}),
    ('own', {'shuffle': False}),
    ('own_drawn', {'seed': 0}),
  ],
)
def test_epochs_are_seqios(write_release, tfds_dir, tmp_path, kind, options):
  if kind.startswith('own'):
    rows = own_rows(tmp_path, 3 if kind == 'own_drawn' else 1)
    name = mixtures.train_mixture(
      data_set='custom', data=rows, teacher='teacher', rationale_rate=0.5
    )
  else:
    name = mixtures.train_mixture(
      data_set='cqa',
      data=str(write_release(train=20, part=100)),
      paired=kind == 'paired',
    )
  mixture = seqio.get_mixture_or_task(name)
  found = read(mixture, 100, **options)
  expected = read(as_seqio_has_it(mixture), 100, **options)
  assert len(found) == 100
  assert set(found[0]) == set(mixture.output_features)
  tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
  # The label task draws nothing.
  kept_tasks = [task.is_kept('train') for task in mixture.tasks]
  assert kept_tasks == [True, kind != 'own_drawn'][: len(kept_tasks)]


def counted(monkeypatch, limit, **options):
  """A task that counts how often it makes its examples."""
  monkeypatch.setattr(cached_tasks, '_SMALL', limit)
  made, rewritten = [], set()

  def make(row):
    made.append(int(row))
    return np.full(2, row, np.int32)

  @seqio.map_over_dataset
  def to_tokens(row):
    context = tf.__internal__.autograph.control_status_ctx()
    rewritten.add(context.status.name)
    tokens = tf.ensure_shape(tf.numpy_function(make, [row], tf.int32), [2])
    return {'inputs': tokens, 'targets': tokens, 'text': 'left out'}

  def rows(split, shuffle_files, seed=None):
    return tf.data.Dataset.range(3)

  source = seqio.FunctionDataSource(rows, ['train'], {'train': 3})
  feature = seqio.Feature(seqio.PassThroughVocabulary(9), add_eos=False)
  features = {'inputs': feature, 'targets': feature}
  task = cached_tasks.Task('counted', source, features, [to_tokens], **options)
  return task, made, rewritten


def test_only_small_data_sets_are_made_once(monkeypatch):
  for limit, times in ((4, 1), (3, 2)):
    task, made, rewritten = counted(monkeypatch, limit)
    dataset = task.get_dataset(
      num_epochs=2, shuffle=False, features={'inputs', 'targets'}
    )
    examples = list(dataset.as_numpy_iterator())
    assert [set(x) for x in examples] == [{'inputs', 'targets'}] * 6
    assert [x['inputs'].tolist() for x in examples] == [
      [n, n] for n in (0, 1, 2, 0, 1, 2)
    ]
    assert sorted(made) == sorted([0, 1, 2] * times)
    # AutoGraph has nothing to do here, and takes seconds.
    assert rewritten == {'DISABLED'}


def test_what_is_kept_is_what_seqio_keeps(monkeypatch):
  own, theirs = (
    inspect.signature(cls.get_dataset).parameters
    for cls in (cached_tasks.Task, seqio.Task)
  )
  assert {name: own[name].default for name in theirs} == {
    name: parameter.default for name, parameter in theirs.items()
  }
  # SeqIO keeps the rows of smaller sets, which fixes their order.
  providers = seqio.dataset_providers
  assert cached_tasks._SMALL == providers._MAX_EXAMPLES_TO_MEM_CACHE
  two = seqio.ShardInfo(0, 2)
  for limit, whole, half in ((4, True, True), (3, False, True),
                             (2, False, True), (1, False, False)):  # fmt: skip
    task, _, _ = counted(monkeypatch, limit)
    assert (task.is_kept('train'), task.is_kept('train', two)) == (whole, half)
  task, _, _ = counted(monkeypatch, 4, shuffle_buffer_size=None)
  assert not task.is_kept('train')
  options = {'num_epochs': 2, 'shuffle': False, 'features': {'inputs'}}
  task, made, _ = counted(monkeypatch, 4)
  unkept = task.get_dataset(try_in_mem_cache=False, **options)
  assert [[*x] for x in unkept.as_numpy_iterator()] == [['inputs']] * 6
  assert sorted(made) == [0, 0, 1, 1, 2, 2]
  made.clear()
  # What is asked for of SeqIO's offline cache is left to SeqIO.
  list(task.get_dataset(use_cached=True, **options).as_numpy_iterator())
  assert sorted(made) == [0, 0, 1, 1, 2, 2]


def test_examples_are_cut_and_shuffled_as_they_are_asked_for(monkeypatch):
  task, made, _ = counted(monkeypatch, 4, shuffle_buffer_size=50)
  lengths = {'inputs': 1, 'targets': 9}
  for trim, length in ((True, 1), (False, 2)):
    whole = task.get_dataset(
      lengths, num_epochs=2, shuffle=False, trim_output_features=trim
    )
    assert {len(x['inputs']) for x in whole.as_numpy_iterator()} == {length}
  made.clear()

  def order(**options):
    read = task.get_dataset(num_epochs=20, **options)
    return [int(x['targets'][0]) for x in read.as_numpy_iterator()]

  assert order(seed=1) == order(seed=1) != order(seed=2)
  # Epochs are mixed by as much as the buffer holds.
  by_epoch = np.reshape(order(seed=1, shuffle_buffer_size=1), (20, 3))
  assert (np.sort(by_epoch) == [0, 1, 2]).all()
  assert (np.sort(np.reshape(order(seed=1), (20, 3))) != [0, 1, 2]).any()
  table = task.table('train', lengths, {'inputs'})
  assert (table.count, table.lengths('inputs').tolist()) == (3, [1, 1, 1])
  with pytest.raises(KeyError):
    table.lengths('targets')
  assert task.table('train', lengths, {'inputs'}) is table
  assert task.table('train', None, {'inputs'}) is not table


def test_a_table_gives_back_the_examples_that_it_was_made_of():
  examples = [
    {'inputs': [4, 5, 6], 'targets': [], 'id': 7},
    {'inputs': [8], 'targets': [9, 1], 'id': 2},
    {'inputs': [], 'targets': [3], 'id': 5},
  ]
  spec = {
    'inputs': tf.TensorSpec([None], tf.int32),
    'targets': tf.TensorSpec([None], tf.int64),
    'id': tf.TensorSpec([], tf.int32),
  }
  table = cached_tasks.Table(
    tf.data.Dataset.from_generator(lambda: examples, output_signature=spec)
  )
  assert table.count == 3
  assert table.lengths('targets').tolist() == [0, 2, 1]
  places = [2, 0, 1, 1]
  picked = table.pick(
    tf.data.Dataset.from_tensor_slices(np.array(places, np.int64))
  )
  assert picked.element_spec == spec
  found = [
    {name: value.tolist() for name, value in example.items()}
    for example in picked.as_numpy_iterator()
  ]
  assert found == [examples[i] for i in places]
