"""The encoder-decoder model: loss, metrics, decoding, scores."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from t5x import adafactor, decoding, errors, models
from t5x.examples.t5 import network
from tests import golden_data
from tests.t5x import tiny_model

VOCAB = types.SimpleNamespace(eos_id=1, vocab_size=384)
NAMES = ('t5x_1_1', 't5x_1_0')


def golden_model(golden, decode_fn=decoding.beam_search, **kwargs):
  module = network.Transformer(network.T5Config(**golden.config_kwargs))
  return models.EncoderDecoderModel(
    module, VOCAB, VOCAB, adafactor.Adafactor(), decode_fn=decode_fn, **kwargs
  )


@functools.cache
def beams(name):
  golden = golden_data.load(name)
  model = golden_model(golden)
  predict = functools.partial(
    model.predict_batch_with_aux, num_decodes=4, return_all_decodes=True
  )
  return jax.jit(predict)(golden.params, golden.batch)


@pytest.mark.parametrize('name', NAMES)
def test_beam_search_agrees_with_t5x(name):
  golden = golden_data.load(name)
  sequences, aux = beams(name)
  np.testing.assert_array_equal(sequences, golden.decode['beam4_sequences'])
  np.testing.assert_allclose(
    aux['scores'], golden.decode['beam4_scores'], rtol=1e-4
  )


@pytest.mark.parametrize('name', NAMES)
def test_greedy_decoding_and_scores_agree_with_t5x(name):
  golden = golden_data.load(name)
  model = golden_model(golden, decoding.temperature_sample)
  sequences = jax.jit(model.predict_batch)(golden.params, golden.batch)
  np.testing.assert_array_equal(sequences, golden.decode['greedy_sequences'])
  scores = jax.jit(model.score_batch)(golden.params, golden.batch)
  np.testing.assert_allclose(scores, golden.decode['score_batch'], rtol=1e-4)


def test_a_network_that_projects_nothing_beforehand_decodes_the_same():
  golden = golden_data.load('t5x_1_1')

  class Plain(network.Transformer):
    cache_encoded = None

  module = Plain(network.T5Config(**golden.config_kwargs))
  model = models.EncoderDecoderModel(
    module, VOCAB, VOCAB, adafactor.Adafactor()
  )
  sequences, _ = jax.jit(
    functools.partial(
      model.predict_batch_with_aux, num_decodes=4, return_all_decodes=True
    )
  )(golden.params, golden.batch)
  np.testing.assert_array_equal(sequences, beams('t5x_1_1')[0])


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('z_loss', [0.0, 1e-4])
def test_losses_agree_with_t5x(name, smoothing, z_loss, monkeypatch):
  golden = golden_data.load(name)
  model = golden_model(golden, label_smoothing=smoothing, z_loss=z_loss)
  # The logits are T5X's: the network has tests of its own.
  monkeypatch.setattr(model, '_compute_logits', lambda *_: golden.logits)
  loss, metrics = model.loss_fn(golden.params, golden.batch, None)
  key = f'label_smoothing={smoothing},z_loss={z_loss}'
  expected, expected_z, weight = golden.facts['loss'][key]
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(metrics['z_loss'].compute(), expected_z, rtol=1e-4)
  np.testing.assert_allclose(
    metrics['cross_ent_loss'].compute(), expected - expected_z, rtol=1e-5
  )
  np.testing.assert_allclose(
    metrics['loss_per_nonpadding_target_token'].compute(),
    expected / weight,
    rtol=1e-5,
  )


def test_base_metrics_of_a_worked_batch():
  targets = jnp.array([[3, 1, 0], [2, 1, 0]])
  logits = jax.nn.one_hot(jnp.array([[3, 0, 0], [2, 1, 0]]), 4)
  mask = (targets > 0).astype(jnp.float32)
  metrics = models.compute_base_metrics(
    logits,
    targets,
    mask,
    loss=jnp.float32(6.0),
    z_loss=jnp.float32(1.0),
    segment_ids={
      'inputs': jnp.array([[1, 1, 2], [1, 0, 0]]),
      'targets': jnp.array([[1, 2, 3], [1, 2, 0]]),
    },
  )
  values = {
    k: float(m.compute()) for k, m in metrics.items() if 'timing' not in k
  }
  assert values == {
    'accuracy': 0.75,
    'loss': 6.0,
    'z_loss': 1.0,
    'cross_ent_loss': 5.0,
    'loss_per_nonpadding_target_token': 1.5,
    'loss_per_all_target_tokens': 1.0,
    'nonpadding_fraction': pytest.approx(2 / 3),
    'effective_batch_size/inputs': 3.0,
    'non_padding_fraction/inputs': pytest.approx(2 / 3),
    'effective_batch_size/targets': 5.0,
    'non_padding_fraction/targets': pytest.approx(5 / 6),
    'non_padding_fraction/overall': 0.75,
  }
  rates = {
    k: float(m.replace_duration(2.0).compute())
    for k, m in metrics.items()
    if 'per_second' in k
  }
  assert rates['timing/seqs_per_second'] == 1.0
  assert rates['timing/seqs_per_second_per_core'] == 1.0 / 8
  assert rates['timing/steps_per_second'] == 0.5
  assert rates['timing/target_tokens_per_second'] == 3.0
  assert rates['timing/target_tokens_per_second_per_core'] == 3.0 / 8
  assert int(metrics['timing/seqs'].compute()) == 2
  # Without weights all of them count, the padding, too.
  metrics = models.compute_base_metrics(logits, targets, None, jnp.float32(6))
  assert float(metrics['accuracy'].compute()) == pytest.approx(5 / 6)
  assert float(metrics['loss_per_nonpadding_target_token'].compute()) == 1.0


def test_packed_rows_count_their_examples():
  batch = tiny_model.batch(rows=2)
  ids = np.array([[1, 1, 2, 2, 3, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0]])
  batch['decoder_segment_ids'] = ids
  model = tiny_model.model()
  model._compute_logits = lambda *_: jnp.zeros((2, 8, 64))
  _, metrics = model.loss_fn({}, batch, None)
  assert float(metrics['effective_batch_size/decoder'].compute()) == 4.0
  assert float(metrics['non_padding_fraction/decoder'].compute()) == 11 / 16
  # A row that is not packed is one example.
  del batch['decoder_segment_ids']
  _, metrics = model.loss_fn({}, batch, None)
  for feature in ('encoder_input', 'decoder_target'):
    tokens = batch[f'{feature}_tokens']
    tokens[0, 0] = 1
    real = float(metrics[f'non_padding_fraction/{feature}'].compute())
    assert real == pytest.approx(np.mean(tokens != 0))
    assert float(metrics[f'effective_batch_size/{feature}'].compute()) == 2.0


@pytest.mark.parametrize(
  'factor', ['NUM_REAL_TARGET_TOKENS', 'AVERAGE_PER_SEQUENCE', 20.0, None]
)
def test_the_whole_batch_normalizes_however_it_is_split(factor):
  model = tiny_model.model(loss_normalizing_factor=factor)
  table = jax.random.normal(jax.random.key(0), (64, 64))
  model._compute_logits = lambda params, batch, rng: table[
    batch['decoder_input_tokens']
  ]
  batch = tiny_model.batch(rows=6)
  whole, _ = model.loss_fn({}, batch, None)
  prepared = model.prepare_batch(batch)
  assert {len(rows) for rows in prepared.values()} == {6}
  halves = [
    model.loss_fn({}, {k: v[i::2] for k, v in prepared.items()}, None)[0]
    for i in range(2)
  ]
  np.testing.assert_allclose(sum(halves), whole, rtol=1e-5)
  np.testing.assert_allclose(
    model.loss_fn({}, prepared, None)[0], whole, rtol=1e-6
  )


def test_initial_variables_take_their_shapes_from_the_batch():
  model = tiny_model.model()
  shapes = {k: v.shape for k, v in tiny_model.batch().items()}
  shapes['decoder_segment_ids'] = shapes['decoder_input_tokens']
  shapes['encoder_segment_ids'] = shapes['encoder_input_tokens']
  variables = jax.eval_shape(
    lambda: model.get_initial_variables(
      jax.random.key(0), shapes, {k: jnp.int32 for k in shapes}
    )
  )
  assert set(variables) == {'params', 'params_axes'}
  flat = traverse_util.flatten_dict(variables['params'], sep='/')
  assert flat['encoder/layers_0/mlp/wi_1/kernel'].shape == (16, 32)


def _recorder(seen):
  """A decode function that notes its arguments."""

  def decode_fn(**kwargs):
    seen.update(kwargs)
    rows, length = kwargs['inputs'].shape
    n = kwargs['num_decodes']
    ranks = jnp.arange(n)[None, :, None]
    return (
      jnp.broadcast_to(ranks, (rows, n, length)),
      jnp.broadcast_to(ranks[..., 0], (rows, n)),
    )

  return decode_fn


def _predict(seen, batch=None, default=None, **kwargs):
  model = tiny_model.model(
    decode_fn=_recorder(seen), default_decoder_params=default
  )
  params = jax.eval_shape(lambda: tiny_model.initial_variables(model)['params'])
  params = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), params)
  return model.predict_batch_with_aux(
    params, batch or tiny_model.batch(rows=2), **kwargs
  )


def test_the_best_decode_is_the_last():
  seen = {}
  tokens, aux = _predict(seen, num_decodes=3)
  assert tokens.shape == (2, 8) and np.all(tokens == 2)
  np.testing.assert_array_equal(aux['scores'], [2, 2])
  assert seen['eos_id'] == 1 and seen['cache_offset'] == 0
  assert not np.any(seen['inputs'])
  assert {x.shape[0] for x in jax.tree.leaves(seen['cache']) if x.ndim} == {2}


def test_defaults_and_options_reach_the_decode_function():
  seen = {}
  tokens, _ = _predict(
    seen,
    default=models.DecoderParams(num_decodes=2, return_all_decodes=True),
    decoder_params={'alpha': 0.3, 'eos_id': 7},
    rng=jax.random.key(0),
  )
  assert tokens.shape == (2, 2, 8)
  assert seen['alpha'] == 0.3 and seen['eos_id'] == 7
  assert 'decode_rng' in seen
  assert models.DecoderParams() == models.DecoderParams(
    num_decodes=1, return_all_decodes=False
  )
  # One object may be the default of several models.
  with pytest.raises(dataclasses.FrozenInstanceError):
    models.DecoderParams().num_decodes = 2


def test_a_prompt_is_the_targets_without_ends():
  seen = {}
  batch = tiny_model.batch(rows=2)
  batch['decoder_input_tokens'] = np.array([[0, 5, 1, 0], [0, 6, 7, 8]])
  _predict(seen, batch, prompt_with_targets=True)
  np.testing.assert_array_equal(seen['inputs'], [[0, 5, 0, 0], [0, 6, 7, 8]])
  _predict(seen, batch, prompt_with_targets=True, decoder_params={'eos_id': 7})
  np.testing.assert_array_equal(seen['inputs'], [[0, 5, 1, 0], [0, 6, 0, 8]])


def test_two_keys_are_refused():
  with pytest.raises(errors.UserError, match='Pass one of them'):
    _predict(
      {},
      rng=jax.random.key(0),
      decoder_params={'decode_rng': jax.random.key(1)},
    )


def test_scores_come_with_intermediates_if_asked():
  golden = golden_data.load('t5x_1_1')
  model = golden_model(golden)
  scores, sown = jax.jit(
    functools.partial(model.score_batch, return_intermediates=True)
  )(golden.params, golden.batch)
  np.testing.assert_allclose(scores, golden.decode['score_batch'], rtol=1e-4)
  np.testing.assert_allclose(
    sown['decoder']['token_scores'][0].sum(-1), scores, rtol=1e-5
  )
  np.testing.assert_array_equal(
    sown['decoder']['target_tokens'][0], golden.batch['decoder_target_tokens']
  )


def test_the_feature_converter_is_seqios_unless_given():
  import seqio

  converter = models.EncoderDecoderModel.FEATURE_CONVERTER_CLS
  assert converter is seqio.EncDecFeatureConverter
  model = tiny_model.model(feature_converter_cls=dict)
  assert model.FEATURE_CONVERTER_CLS is dict

  class Own(models.EncoderDecoderModel):
    FEATURE_CONVERTER_CLS = list

  assert tiny_model.model(cls=Own).FEATURE_CONVERTER_CLS is list


def test_vocabularies_are_handed_out():
  model = models.EncoderDecoderModel(
    nn.Dense(1), 'in', 'out', adafactor.Adafactor()
  )
  assert models.get_input_vocabulary(model) == 'in'
  assert models.get_output_vocabulary(model) == 'out'
  assert model.decode_fn is decoding.beam_search


def test_padding_of_the_decoder_is_only_cut_off_for_scores():
  model = tiny_model.model()
  assert model.padded_features('score') == ('encoder_', 'decoder_')
  # Predictions are as long as the decoder's features.
  for mode in ('predict', 'predict_with_aux'):
    assert model.padded_features(mode) == ('encoder_',)


def test_a_misspelled_normalizing_factor_is_reported():
  model = tiny_model.model(loss_normalizing_factor='NUM_REAL_TARGET_TOKEN')
  with pytest.raises(errors.UserError, match='NUM_REAL_TARGET_TOKENS'):
    model.prepare_batch(tiny_model.batch())


def test_nothing_is_dropped_where_nothing_is_trained():
  batch = tiny_model.batch(2)
  found = []
  for rate in (0.0, 0.5):
    model = tiny_model.model(
      config={'dropout_rate': rate}, decode_fn=decoding.temperature_sample
    )
    params = tiny_model.initial_variables(model)['params']
    found.append(
      (
        jax.jit(model.predict_batch)(params, batch),
        jax.jit(model.score_batch)(params, batch),
      )
    )
  jax.tree.map(np.testing.assert_array_equal, *found)
