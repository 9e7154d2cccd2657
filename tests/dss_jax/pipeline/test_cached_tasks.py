"""What is kept in memory comes out as SeqIO itself would hand it out."""

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


def counted(monkeypatch, limit):
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
  task = cached_tasks.Task('counted', source, features, [to_tokens])
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
