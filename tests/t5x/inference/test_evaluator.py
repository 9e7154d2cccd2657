"""Tests of what SeqIO's evaluator is given."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5x import data, errors, inference, initialization
from tests.t5x import small_models, toy_task


def test_a_split_that_no_task_has_is_told_before_anything_runs():
  source = seqio.FunctionDataSource(
    lambda split, shuffle_files, seed=None: tf.data.Dataset.range(1),
    splits=['eval'],
  )
  vocabulary = seqio.ByteVocabulary()
  name = 'evaluator_split'
  seqio.TaskRegistry.add(
    name,
    source,
    output_features={'targets': seqio.Feature(vocabulary)},
    metric_fns=[],
  )
  config = data.DatasetConfig(
    mixture_or_task_name=name,
    task_feature_lengths=None,
    split='evla',
    batch_size=1,
    shuffle=False,
    seed=0,
  )
  try:
    # What else it takes is not looked at before.
    with pytest.raises(errors.UserError, match=r"'evla'.*Did you mean 'eval'"):
      inference.InferenceEvaluator(config, None, None, None)
  finally:
    seqio.TaskRegistry.remove(name)


class _Given:
  """Stands in SeqIO's place, and tells what it was given."""

  closed = False
  model_feature_shapes = {'x': (3,)}

  def __init__(self, **options):
    self.options = options
    self.eval_tasks = ['a task'] if options['eval_split'] == 'test' else []

  def evaluate(self, **given):
    return {**given, 'evaluator': self}, None

  def close(self):
    self.closed = True


class _Widths(small_models.EchoModel):
  """Says how long the inputs were that it got."""

  def predict_batch(self, params, batch, rng=None):
    inputs = batch['encoder_input_tokens']
    width = jnp.full(inputs.shape[0], inputs.shape[1])
    return width + 0 * params['table'][0].astype(int)

  def padded_features(self, mode):
    return ('encoder_input',) if mode == 'predict' else ()


_CONFIG = data.DatasetConfig(
  mixture_or_task_name=toy_task.NAME,
  task_feature_lengths=toy_task.LENGTHS,
  split='test',
  batch_size=8,
  shuffle=False,
  seed=7,
  use_cached=True,
  use_memory_cache=False,
)


def _evaluator(log_dir=None, model=None, verify=True, **changes):
  return inference.InferenceEvaluator(
    dataclasses.replace(_CONFIG, **changes),
    _Given,
    model or _Widths(),
    small_models.partitioner(),
    log_dir,
    **({} if verify else {'verify_matching_vocabs_fn': None}),
  )


@pytest.fixture(scope='module')
def state_and_axes():
  initializer = initialization.TrainStateInitializer(
    None,
    _Widths().get_initial_variables,
    small_models.SHAPES,
    small_models.partitioner(),
  )
  state = initializer.from_scratch(jax.random.key(0))
  return state.replace_step(jnp.int32(5)), initializer.train_state_axes


def test_seqios_evaluator_is_made_from_the_config(state_and_axes, tmp_path):
  made = _evaluator(str(tmp_path)).evaluate(*state_and_axes)['evaluator']
  converter = made.options.pop('feature_converter')
  assert isinstance(converter, seqio.EncDecFeatureConverter)
  assert not converter.pack
  assert made.options == {
    'mixture_or_task_name': toy_task.NAME,
    'eval_split': 'test',
    'use_cached': True,
    'seed': 7,
    'sequence_length': toy_task.LENGTHS,
    'log_dir': str(tmp_path / 'inference_eval'),
    'use_memory_cache': False,
  }
  assert (tmp_path / 'inference_eval').is_dir()
  evaluator = _evaluator()
  made = evaluator.evaluate(*state_and_axes)['evaluator']
  assert made.options['log_dir'] is None
  evaluator.close()
  assert made.closed


def test_shapes_are_those_of_a_batch_if_there_is_a_task():
  assert _evaluator().model_feature_shapes == {'x': (8, 3)}
  assert _evaluator(split='validation').model_feature_shapes == {}


def test_what_does_not_fit_is_refused_before_seqio_reads_anything():
  with pytest.raises(errors.UserError, match='multiple of 8'):
    _evaluator(batch_size=4)
  with pytest.raises(errors.UserError, match="names 'target', but"):
    _evaluator(task_feature_lengths={'target': 6})
  _evaluator(task_feature_lengths=None)
  other = _Widths()
  other.output_vocabulary = seqio.ByteVocabulary(extra_ids=7)
  with pytest.raises(errors.UserError, match='The output vocabulary'):
    _evaluator(model=other)
  _evaluator(model=other, verify=False)


def test_seqio_gets_functions_that_count_the_rows_they_do(
  state_and_axes, monkeypatch
):
  features = {
    name: np.ones((11, *shape[1:]), np.int32)
    for name, shape in small_models.SHAPES.items()
  }
  features['encoder_input_tokens'][:, 3:] = 0
  rows = tf.data.Dataset.from_tensor_slices(features).enumerate()
  done = []
  evaluator = _evaluator()
  given = evaluator.evaluate(
    *state_and_axes, on_rows=lambda *counts: done.append(counts)
  )
  # What is padding in all rows is cut, up to a multiple of 8.
  cut = [(i, 8) for i in range(11)]
  assert given['predict_fn'](rows) == cut
  assert done == [(8, 11), (3, 11)]
  assert given['step'] == 5 and given['compute_metrics'] is True
  again = evaluator.evaluate(*state_and_axes)
  assert again['predict_fn'](rows) == cut
  _, aux = again['predict_with_aux_fn'](rows)
  assert aux['scores'] == [9.0] * 11
  scores = [score for _, score in again['score_fn'](rows)]
  batch = {name: jnp.asarray(x) for name, x in features.items()}
  expected = _Widths().score_batch(state_and_axes[0].params, batch)
  np.testing.assert_allclose(scores, expected, rtol=1e-5)
  assert done == [(8, 11), (3, 11)]
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  assert evaluator.evaluate(*state_and_axes)['compute_metrics'] is False
