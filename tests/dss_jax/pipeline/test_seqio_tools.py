"""Tests that SeqIO's own tools work on the tasks.

The caching tool itself needs apache-beam; the quick test writes what it writes.
"""

import json
import os
import sys

import pytest
import seqio
import tensorflow as tf

import tasks  # noqa: F401
from dss_jax import mixtures
from dss_jax.data import own_rows

LENGTHS = {'inputs': 40, 'targets': 30}


def examples(task, use_cached):
  """Returns what a task gives, sorted by row."""
  found = task.get_dataset(
    LENGTHS, 'train', use_cached=use_cached, shuffle=False
  )
  return sorted(
    (
      example['id'],
      example['inputs'].tolist(),
      example['targets'].tolist(),
      int(example['task_id']),
    )
    for example in found.as_numpy_iterator()
  )


@pytest.fixture
def cache_dir(tmp_path):
  """Has SeqIO look for cached tasks in a folder of the test's own."""
  seqio.set_global_cache_dirs([str(tmp_path / 'cache')])
  yield tmp_path / 'cache'
  seqio.set_global_cache_dirs([])


def write_cache(task, folder):
  """Writes a task's train split as `seqio_cache_tasks` does, in one shard."""
  folder.mkdir(parents=True)
  found = task.preprocess_precache(task.source.get_dataset('train', False))
  specs = {
    name: {
      'shape': [None] * spec.shape.rank,
      'dtype': spec.dtype.name,
    }
    for name, spec in found.element_spec.items()
  }
  count = 0
  prefix = seqio.get_cached_tfrecord_prefix(str(folder), 'train')
  with tf.io.TFRecordWriter(f'{prefix}-00000-of-00001') as writer:
    for example in found.as_numpy_iterator():
      writer.write(seqio.dict_to_tfexample(example).SerializeToString())
      count += 1
  info = {'num_shards': 1, 'features': specs, 'seqio_version': '0.0.0'}
  (folder / 'info.train.json').write_text(json.dumps(info))
  (folder / 'stats.train.json').write_text(json.dumps({'examples': count}))
  (folder / 'COMPLETED').touch()


def test_a_cached_task_gives_the_examples_of_the_uncached(tfds_dir, cache_dir):
  task = seqio.get_mixture_or_task('svamp_sample_rationale_palm')
  expected = examples(task, use_cached=False)
  write_cache(task, cache_dir / seqio.get_task_dir_from_name(task.name))
  try:
    assert len(expected) == task.num_input_examples('train')
    assert examples(task, use_cached=True) == expected
  finally:
    task._cache_dir = None  # SeqIO keeps where it found it.


@pytest.mark.parametrize('method', ['dss', 'finetune', 'single_task'])
def test_every_task_can_be_cached_before_anything_is_drawn(method, tmp_path):
  path = tmp_path / 'rows.jsonl'
  row = {'input': 'a', 'label': 'b', 'rationale': ['c', 'd']}
  lines = [json.dumps({**row, 'input': str(n)}) for n in range(9)]
  path.write_text('\n'.join(lines))
  own = own_rows.OwnData(str(path))
  for options in ({'data_set': 'cqa'}, {'data_set': 'custom', 'data': own}):
    name = mixtures.train_mixture(method=method, **options)
    for task in seqio.get_mixture_or_task(name).tasks:
      assert task.supports_caching
      begin = task.preprocessors[: task._cache_step_idx]
      names = [getattr(p, '__name__', '') for p in begin]
      assert 'append_eos' not in names and 'draw_rationale' not in names


@pytest.mark.slow
def test_the_caching_tool_works(tfds_dir, cache_dir, monkeypatch):
  pytest.importorskip('apache_beam')
  from absl import flags
  from seqio.scripts import cache_tasks_main

  name = 'svamp_sample_label_gold'
  flags.FLAGS([
    sys.argv[0],
    f'--tasks={name}',
    f'--output_cache_dir={cache_dir}',
    '--module_import=tasks',
    '--min_shards=2',
  ])  # fmt: skip
  cache_tasks_main.main([])
  task = seqio.get_mixture_or_task(name)
  assert os.path.isdir(task.cache_dir)
  assert examples(task, True) == examples(task, False)
