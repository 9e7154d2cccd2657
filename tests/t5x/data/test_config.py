"""Dataset configurations are refused where they cannot work."""

import dataclasses
import sys
import types

import pytest
import seqio
import tensorflow as tf

from t5x import errors
from t5x.data import config as config_lib

_VOCABULARY = seqio.ByteVocabulary()
_CONVERTER = seqio.EncDecFeatureConverter


def _task(*names):
  return seqio.Task(
    'of_features',
    source=seqio.FunctionDataSource(
      lambda split, shuffle_files, seed=None: tf.data.Dataset.range(1),
      splits=['train'],
    ),
    preprocessors=[],
    output_features={name: seqio.Feature(_VOCABULARY) for name in names},
  )


_TASK = _task('inputs', 'targets')


def _config(**changes):
  config = config_lib.DatasetConfig(
    mixture_or_task_name=_TASK,
    task_feature_lengths={'inputs': 8, 'targets': 8},
    split='train',
    batch_size=4,
    shuffle=True,
    seed=1,
  )
  return dataclasses.replace(config, **changes)


def test_options_of_grain_are_refused():
  for option in ('runtime_preprocessors', 'num_prefetch_threads'):
    with pytest.raises(errors.UserError, match=option):
      _config(**{option: [1]})
  with pytest.raises(errors.UserError, match='num_workers'):
    _config(num_workers=2)


def test_a_config_of_what_has_to_be_said_has_t5xs_defaults():
  config = config_lib.DatasetConfig('task', None, 'train', 1, False, None)
  assert dataclasses.asdict(config) == {
    'mixture_or_task_name': 'task',
    'task_feature_lengths': None,
    'split': 'train',
    'batch_size': 1,
    'shuffle': False,
    'seed': None,
    'use_cached': False,
    'pack': False,
    'use_custom_packing_ops': False,
    'module': None,
    'use_memory_cache': True,
    'trim_output_features': True,
    'runtime_preprocessors': None,
    'num_prefetch_threads': None,
    'num_workers': 0,
    'data_shards': None,
  }


@pytest.mark.parametrize(
  ('changes', 'says'),
  [
    ({'batch_size': 0}, 'positive number of rows, found 0'),
    ({'data_shards': 0}, 'divisor of batch_size 4, found 0'),
    ({'data_shards': -2}, 'divisor of batch_size 4, found -2'),
    ({'data_shards': 3}, 'divisor of batch_size 4, found 3'),
  ],
)
def test_a_batch_that_cannot_be_is_refused(changes, says):
  with pytest.raises(errors.UserError, match=says):
    _config(**changes)


def test_lengths_are_of_what_is_read():
  for lengths in ({'inputs': 8}, {'inputs': 8, 'targets': None}):
    with pytest.raises(errors.UserError, match="has no length for 'targets'"):
      config_lib.check_lengths(
        _config(task_feature_lengths=lengths), _CONVERTER
      )
    config_lib.check_lengths(
      _config(task_feature_lengths=lengths), _CONVERTER, True
    )
  # Only what is read needs one, and only what is known may have one.
  lengths = {'targets': 8}
  config = _config(task_feature_lengths=lengths)
  config_lib.check_lengths(config, seqio.LMFeatureConverter)
  config_lib.check_lengths(_config(), seqio.LMFeatureConverter)
  more = _config(
    task_feature_lengths={**_config().task_feature_lengths, 'x': 1}
  )
  with pytest.raises(errors.UserError, match="names 'x', but"):
    config_lib.check_lengths(more, _CONVERTER)
  reads = types.SimpleNamespace(TASK_FEATURES=['inputs', 'targets', 'x'])
  config_lib.check_lengths(more, reads)


def test_a_task_without_targets_or_inputs():
  only = _config(mixture_or_task_name=_task('targets'))
  assert config_lib.get_vocabulary(only) == (_VOCABULARY, _VOCABULARY)
  with pytest.raises(errors.UserError, match='has no feature `targets`, but'):
    config_lib.get_vocabulary(_config(mixture_or_task_name=_task('inputs')))


def test_a_module_that_is_not_there_is_told_from_one_that_lacks_another(
  tmp_path, monkeypatch
):
  def load(name):
    return config_lib.mixture_or_task(_config(module=name))

  with pytest.raises(errors.UserError, match="'no_such' is not found"):
    load('no_such.module')
  (tmp_path / 'lacks_one.py').write_text('import no_such_one\n')
  (tmp_path / 'raises_one.py').write_text('raise ModuleNotFoundError("x")\n')
  monkeypatch.syspath_prepend(tmp_path)
  for name in ('lacks_one', 'raises_one'):
    with pytest.raises(ModuleNotFoundError):
      load(name)
  (tmp_path / 'is_there_for_a_test.py').touch()
  assert load('is_there_for_a_test').name == _TASK.name
  assert sys.modules.pop('is_there_for_a_test')


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
