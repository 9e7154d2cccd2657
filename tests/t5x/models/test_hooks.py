"""What subclasses of T5X's models override is called."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import decoding, inference, models
from tests import golden_data
from tests.t5x import tiny_model
from tests.t5x.models.test_encoder_decoder import golden_model

_NAME = 't5x_1_1'


class OwnSlice(models.EncoderDecoderModel):
  """Does what the original does."""

  def _compute_logits_from_slice(
    self,
    decoding_state,
    params,
    encoded_inputs,
    raw_inputs,
    max_decode_length,
  ):
    return super()._compute_logits_from_slice(
      decoding_state, params, encoded_inputs, raw_inputs, max_decode_length
    )


class OwnCache(models.EncoderDecoderModel):
  """Does what the original does."""

  def _compute_kv_cache(
    self, params, encoded_inputs, encoder_input_tokens, decoder_input_tokens
  ):
    return super()._compute_kv_cache(
      params, encoded_inputs, encoder_input_tokens, decoder_input_tokens
    )


@functools.cache
def _predict(cls, decode_fn, num_decodes):
  golden = golden_data.load(_NAME)
  model = golden_model(golden, decode_fn)
  model.__class__ = cls
  predict = functools.partial(
    model.predict_batch_with_aux,
    num_decodes=num_decodes,
    return_all_decodes=True,
  )
  sequences, aux = jax.jit(predict)(golden.params, golden.batch)
  return sequences, aux['scores']


@pytest.mark.parametrize(
  ('decode_fn', 'num_decodes'),
  [(decoding.beam_search, 4), (decoding.temperature_sample, 1)],
)
@pytest.mark.parametrize('cls', [OwnSlice, OwnCache])
def test_an_override_that_does_the_same_gives_the_same(
  cls, decode_fn, num_decodes
):
  sequences, scores = _predict(cls, decode_fn, num_decodes)
  plain = _predict(models.EncoderDecoderModel, decode_fn, num_decodes)
  np.testing.assert_array_equal(sequences, plain[0])
  np.testing.assert_allclose(scores, plain[1], rtol=1e-5)


class OnlySeven(models.EncoderDecoderModel):
  def _compute_logits_from_slice(self, *args, **kwargs):
    logits, cache = super()._compute_logits_from_slice(*args, **kwargs)
    return jnp.full_like(logits, -1e9).at[:, 7].set(0.0), cache


def test_an_overridden_step_decides():
  model = tiny_model.model(cls=OnlySeven, decode_fn=decoding.temperature_sample)
  params = tiny_model.initial_variables(model)['params']
  tokens = jax.jit(model.predict_batch)(params, tiny_model.batch(2))
  assert np.asarray(tokens).tolist() == [[7] * 8] * 2


def test_an_override_of_one_model_alone_counts():
  """As a function that is set on the instance, which notebooks do."""
  model = tiny_model.model(decode_fn=decoding.temperature_sample)
  params = tiny_model.initial_variables(model)['params']
  original = model._compute_logits_from_slice

  def only_nine(*args, **kwargs):
    logits, cache = original(*args, **kwargs)
    return jnp.full_like(logits, -1e9).at[:, 9].set(0.0), cache

  model._compute_logits_from_slice = only_nine
  tokens = jax.jit(model.predict_batch)(params, tiny_model.batch(2))
  assert np.asarray(tokens).tolist() == [[9] * 8] * 2


def test_an_overridden_cache_is_the_one_that_is_decoded_from():
  kinds = []

  class Watched(models.EncoderDecoderModel):
    def _compute_kv_cache(self, *args):
      cache = super()._compute_kv_cache(*args)
      return {**cache, 'mine': jnp.zeros((2, 1))}

    def _compute_logits_from_slice(self, decoding_state, *args, **kwargs):
      mine = decoding_state.cache['mine']
      kinds.append(mine.shape)
      rest = {k: v for k, v in decoding_state.cache.items() if k != 'mine'}
      logits, cache = super()._compute_logits_from_slice(
        decoding_state.replace(cache=rest), *args, **kwargs
      )
      # The second token is 5, the others 4: the cache counts them.
      token = jnp.where(mine == 1, 5, 4)
      logits = jnp.where(jnp.arange(logits.shape[-1]) == token, 0.0, -1e9)
      return logits, {**cache, 'mine': mine + 1}

  model = tiny_model.model(cls=Watched, decode_fn=decoding.temperature_sample)
  params = tiny_model.initial_variables(model)['params']
  predict = functools.partial(model.predict_batch_with_aux, num_decodes=3)
  tokens, _ = jax.jit(predict)(params, tiny_model.batch(2))
  assert np.asarray(tokens)[:, :3].tolist() == [[4, 5, 4]] * 2
  assert kinds[0] == (6, 1)


def test_own_logits_are_those_of_loss_evaluation_and_scores():
  class Flat(models.EncoderDecoderModel):
    # As many projects have it: without `mutable`.
    def _compute_logits(self, params, batch, dropout_rng=None):
      return jnp.zeros((*batch['decoder_target_tokens'].shape, 64))

  model = tiny_model.model(cls=Flat)
  batch = tiny_model.batch(2)
  nats = np.log(64) * np.sum(batch['decoder_loss_weights'], axis=1)
  loss, _ = model.loss_fn({}, batch, None)
  same, _ = model.eval_fn({}, batch)
  np.testing.assert_allclose([loss, same], np.sum(nats), rtol=1e-5)
  np.testing.assert_allclose(model.score_batch({}, batch), -nats, rtol=1e-5)


def test_own_predictions_are_those_of_every_program():
  class Counts(models.EncoderDecoderModel):
    def predict_batch_with_aux(self, params, batch, rng=None):
      return jnp.full((2, 3), 8), {'scores': jnp.zeros(2)}

  model = tiny_model.model(cls=Counts)
  for mode in ('predict', 'predict_with_aux'):
    step = inference.infer_step(model, mode)
    tokens = step({}, tiny_model.batch(2), jax.random.key(0))
    tokens = tokens if mode == 'predict' else tokens[0]
    assert np.asarray(tokens).tolist() == [[8] * 3] * 2


def test_what_a_model_has_to_have_is_asked_for():
  needed = {
    'loss_fn', 'predict_batch_with_aux', 'score_batch', 'get_initial_variables'
  }  # fmt: skip
  assert models.BaseModel.__abstractmethods__ == needed
  assert models.BaseTransformerModel.__abstractmethods__ == (
    needed - {'loss_fn'} | {'_compute_logits'}
  )


def test_a_model_with_other_variables_is_evaluated_with_them():
  class Stateful(models.EncoderDecoderModel):
    def loss_fn(self, params, batch, dropout_rng, flax_mutables=None):
      assert dropout_rng is None
      loss = params['x'] + batch['y'] + flax_mutables['z']
      return loss, ({'found': loss}, 'new variables')

  found = tiny_model.model(cls=Stateful).eval_fn(
    {'x': 1}, {'y': 20}, flax_mutables={'z': 300}
  )
  assert found == (321, {'found': 321})


def test_the_key_of_predictions_reaches_what_samples():
  class Draws(models.EncoderDecoderModel):
    def predict_batch_with_aux(self, params, batch, rng=None):
      return jax.random.key_data(rng), {}

  key = jax.random.key(7)
  found = tiny_model.model(cls=Draws).predict_batch({}, {}, key)
  np.testing.assert_array_equal(found, jax.random.key_data(key))
