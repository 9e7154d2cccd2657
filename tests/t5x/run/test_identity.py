"""A run goes on with its own data and model only."""

import dataclasses
import json
import types

import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5x import data, errors
from t5x.checkpoints.formats import legacy_t5x
from t5x.run import identity


def _source(split, shuffle_files, seed=None):
  del split, shuffle_files, seed
  return tf.data.Dataset.from_tensors({'inputs': 'a', 'targets': 'b'})


def _task(rows=16):
  feature = seqio.Feature(seqio.ByteVocabulary())
  return seqio.Task(
    'rows',
    source=seqio.FunctionDataSource(
      _source,
      splits=['train', 'more'],
      num_input_examples={'train': rows, 'more': rows},
    ),
    preprocessors=[],
    output_features={'inputs': feature, 'targets': feature},
  )


_TASK = _task()
_CONFIG = data.DatasetConfig(
  mixture_or_task_name=_TASK,
  task_feature_lengths={'inputs': 10, 'targets': 6},
  split='train',
  batch_size=8,
  shuffle=True,
  seed=3,
)


def _describe(config=_CONFIG, **parameters):
  parameters = parameters or {'w': np.zeros((2, 3), np.float32)}
  state = types.SimpleNamespace(state_dict=lambda: {'target': parameters})
  return identity.describe(config, state, seed=5)


@pytest.fixture
def folder(tmp_path):
  """A run that was saved at step 1, and its `run.json` as `_describe` says."""
  saved = tmp_path / 'checkpoint_1'
  saved.mkdir()
  (saved / legacy_t5x.INDEX_FILE).write_bytes(b'')
  identity.check(str(tmp_path), _describe(), accept=False)
  return tmp_path


def _refusals(folder, described):
  """The differences that the message lists."""
  with pytest.raises(errors.UserError, match='another experiment') as raised:
    identity.check(str(folder), described, accept=False)
  return [
    line.strip()
    for line in str(raised.value).splitlines()
    if line.startswith('  ')
  ]


def test_a_run_of_the_same_data_and_model_goes_on(folder):
  identity.check(str(folder), _describe(), accept=False)


@pytest.mark.parametrize(
  ('name', 'changes', 'there', 'here'),
  [
    (
      'mixture_or_task',
      {'mixture_or_task_name': seqio.Mixture('mixed', [_TASK], 1.0)},
      'rows',
      'mixed',
    ),
    ('split', {'split': 'more'}, 'train', 'more'),
    (
      'examples',
      {'mixture_or_task_name': _task(rows=17)},
      {'rows': 16},
      {'rows': 17},
    ),
    (
      'task_feature_lengths',
      {'task_feature_lengths': {'inputs': 10, 'targets': 7}},
      {'inputs': 10, 'targets': 6},
      {'inputs': 10, 'targets': 7},
    ),
    ('batch_size', {'batch_size': 4}, 8, 4),
    ('shuffle', {'shuffle': False}, True, False),
    ('seed', {'seed': 4}, 3, 4),
    ('pack', {'pack': True}, False, True),
    ('use_cached', {'use_cached': True}, False, True),
    ('data_shards', {'data_shards': 2}, 1, 2),
  ],
)
def test_data_that_differ_in_one_thing_are_refused_for_it(
  folder, name, changes, there, here
):
  config = dataclasses.replace(_CONFIG, **changes)
  assert _refusals(folder, _describe(config)) == [
    f'data/{name}: {there} there, {here} here'
  ]


def test_what_only_the_stored_run_has_is_a_difference(folder):
  stored = _describe()
  stored['data']['mixing'] = 'even'
  (folder / identity.FILE).write_text(json.dumps(stored))
  assert _refusals(folder, _describe()) == [
    'data/mixing: even there, nothing here'
  ]


def test_what_an_older_run_did_not_store_hides_no_difference(folder):
  stored = _describe()
  del stored['data']['content']
  stored['data']['seed'] = 4
  # The one that is absent comes first.
  now = _describe()
  now['data'] = {'content': now['data'].pop('content'), **now['data']}
  (folder / identity.FILE).write_text(json.dumps(stored))
  assert _refusals(folder, now) == ['data/seed: 4 there, 3 here']


def test_a_parameter_more_or_less_is_a_difference(folder):
  one, other = np.zeros((2, 3), np.float32), np.zeros(4, np.float32)
  assert _refusals(folder, _describe(w=one, b=other)) == [
    'model/b: nothing there, float32[4] here'
  ]
  identity.check(str(folder), _describe(w=one, b=other), accept=True)
  assert _refusals(folder, _describe(w=one)) == [
    'model/b: float32[4] there, nothing here'
  ]


@pytest.mark.parametrize('step', [0, 1])
def test_a_run_that_was_never_evaluated_misses_its_first_step(folder, step):
  evaluated = identity.Evaluated(str(folder))
  assert evaluated.is_missing(step)
  evaluated.remember(step)
  assert not identity.Evaluated(str(folder)).is_missing(step)
  assert identity.Evaluated(str(folder)).is_missing(step + 1)


def test_a_new_run_misses_no_evaluation(tmp_path):
  assert not identity.Evaluated(str(tmp_path)).is_missing(1)


def test_a_folder_without_a_checkpoint_has_no_seed_to_go_on_with(tmp_path):
  (tmp_path / identity.FILE).write_text('{"seed": 7}')
  assert identity.stored_seed(str(tmp_path)) is None
