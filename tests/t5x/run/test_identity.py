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
  written = (folder / identity.FILE).read_text()
  assert written == json.dumps(_describe(), indent=2)


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


@pytest.mark.parametrize(
  ('count', 'more'), [(8, []), (9, ['and 1 more']), (12, ['and 4 more'])]
)
def test_eight_of_many_differences_are_listed(folder, count, more):
  new = {f'x{i:02}': np.zeros(i, np.float32) for i in range(count)}
  here = _describe(w=np.zeros((2, 3), np.float32), **new)
  listed = [
    f'model/x{i:02}: nothing there, float32[{i}] here' for i in range(8)
  ]
  assert _refusals(folder, here) == listed + more


@pytest.mark.parametrize('text', ['{', '[]', '[' * 10**5])
def test_a_file_that_names_no_experiment_is_refused(folder, text):
  (folder / identity.FILE).write_text(text)
  with pytest.raises(errors.UserError, match=r'run\.json: expected the JSON'):
    identity.check(str(folder), _describe(), accept=True)


def test_only_the_first_process_writes(folder, monkeypatch):
  before = {path: path.read_bytes() for path in folder.glob('*.json')}
  monkeypatch.setattr(identity.jax, 'process_index', lambda: 1)
  identity.check(
    str(folder), _describe(dataclasses.replace(_CONFIG, seed=9)), accept=True
  )
  evaluated = identity.Evaluated(str(folder))
  evaluated.remember(1)
  assert not evaluated.is_missing(1)
  assert {path: path.read_bytes() for path in before} == before
  assert not (folder / identity.EVALUATED_FILE).exists()


@pytest.mark.parametrize('step', [0, 1])
def test_a_run_that_was_never_evaluated_misses_its_first_step(folder, step):
  evaluated = identity.Evaluated(str(folder))
  assert evaluated.is_missing(step)
  evaluated.remember(step)
  assert not evaluated.is_missing(step) and evaluated.is_missing(step + 1)
  assert not identity.Evaluated(str(folder)).is_missing(step)
  assert identity.Evaluated(str(folder)).is_missing(step + 1)


def test_a_damaged_note_of_the_evaluation_counts_as_none(folder):
  (folder / identity.EVALUATED_FILE).write_bytes(b'\x00\xff')
  assert identity.Evaluated(str(folder)).is_missing(0)


def test_a_new_run_misses_no_evaluation(tmp_path):
  assert not identity.Evaluated(str(tmp_path)).is_missing(1)


def test_a_folder_without_a_checkpoint_has_no_seed_to_go_on_with(tmp_path):
  (tmp_path / identity.FILE).write_text('{"seed": 7}')
  assert identity.stored_seed(str(tmp_path)) is None


@pytest.mark.parametrize(('seed', 'expected'), [(7, 7), ('7', None)])
def test_a_run_goes_on_with_the_seed_that_it_stored(folder, seed, expected):
  (folder / identity.FILE).write_text(json.dumps({'seed': seed}))
  assert identity.stored_seed(str(folder)) == expected
