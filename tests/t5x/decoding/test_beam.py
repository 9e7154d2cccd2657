"""Tests of t5x.beam: what a search finds, and when it stops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden_data
from tests.t5x.decoding.decoders import (
  EOS,
  STATES,
  HistoryModel,
  T5Decoder,
  TableModel,
  beam_search,
  count_steps,
  padded,
  temperature_sample,
)

NAMES = ['t5x_1_1', 't5x_1_0']


@pytest.mark.parametrize(
  'name, per_step', [(n, False) for n in NAMES] + [('t5x_1_1', True)]
)
def test_beam_search_equals_t5x(name, per_step):
  model = T5Decoder(name, num_decodes=4, per_step=per_step)
  expected = golden_data.load(name).decode
  sequences, scores = beam_search(model.inputs, model.cache, model, EOS)
  np.testing.assert_array_equal(sequences, expected['beam4_sequences'])
  np.testing.assert_allclose(scores, expected['beam4_scores'], rtol=1e-4)


@pytest.mark.parametrize('alpha', [0.0, 0.6, 2.0])
def test_a_wide_beam_search_finds_the_best_of_all_sequences(alpha):
  model = HistoryModel()
  length, beams = 4, 60
  sequences, scores = beam_search(
    jnp.zeros((2, length), jnp.int32),
    model.cache,
    model,
    EOS,
    num_decodes=beams,
    alpha=alpha,
  )
  for row in range(2):
    ranked = sorted(
      (p / ((5 + len(t)) / 6) ** alpha, t)
      for t, p in model.all_ended(row, length)
    )
    best = ranked[-10:]
    np.testing.assert_allclose(
      scores[row, -10:], [x[0] for x in best], rtol=1e-5
    )
    assert sequences[row, -10:].tolist() == [padded(x[1], length) for x in best]


def test_beam_search_goes_on_from_the_prompt_of_each_row():
  model = HistoryModel()
  prompts = ((2, 3), (4,))
  inputs = jnp.array([[0, 2, 3, 0, 0], [0, 4, 0, 0, 0]])
  sequences, scores = beam_search(
    inputs, model.cache, model, EOS, num_decodes=40, max_decode_step=3
  )
  for row, prompt in enumerate(prompts):
    score, best = max(
      (p / ((5 + len(t)) / 6) ** 0.6, t)
      for t, p in model.all_ended(row, 3, prompt)
    )
    assert sequences[row, -1].tolist() == padded(prompt + best, 5)
    np.testing.assert_allclose(scores[row, -1], score, rtol=1e-5)


def test_beam_search_stops_when_no_live_beam_can_win():
  # From the start: end with 0.6, go on with 0.4; then end almost surely.
  model = TableModel([[1e-9, 0.6, 0.4], [1e-9, 0.5, 0.5], [1e-9, 0.99, 0.01]])
  counted, calls = count_steps(model)
  sequences, _ = beam_search(
    jnp.zeros((2, 50), jnp.int32), {}, counted, EOS, num_decodes=2
  )
  jax.effects_barrier()
  assert sequences[0, :, :3].tolist() == [[2, 1, 0], [1, 0, 0]]
  assert 2 <= len(calls) < 20


def _table(vocab, rows):
  """A model of `rows`: token -> following token -> probability."""
  probs = np.full((vocab, vocab), 1e-9)
  for token, following in rows.items():
    for other, p in following.items():
      probs[token, other] = p
  return TableModel(probs)


# Token 8 is what prompts are of: the model begins behind it as behind 0.
@pytest.mark.parametrize('prompt', [[], [8, 8]])
def test_beam_search_waits_for_a_long_sequence_that_wins_late(prompt):
  begin = {EOS: 0.4, 2: 0.6}
  rows = {0: begin, 8: begin, 2: {EOS: 0.7, 3: 0.3}, 7: {EOS: 1.0}}
  rows |= {i: {i + 1: 1.0} for i in range(3, 7)}
  inputs = jnp.array([[0, *prompt, *[0] * 11]])
  sequences, scores = beam_search(
    inputs, {}, _table(9, rows), EOS, num_decodes=2, alpha=2.0
  )
  # Two short ones, [1] with log 0.4 = -0.916 and [2, 1] with log 0.42 divided
  # by (7/6)^2 = -0.637, are there when the third has log 0.18 = -1.715, which
  # is -0.965 at its length then and -0.429, divided by 2^2, at its end.
  width = inputs.shape[1]
  assert sequences[0].tolist() == [
    padded([*prompt, 2, 1], width),
    padded([*prompt, 2, 3, 4, 5, 6, 7, 1], width),
  ]
  expected = [np.log(0.42) / (7 / 6) ** 2, np.log(0.18) / 4]
  np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


def test_beam_search_waits_for_the_worst_of_its_results():
  rows = {0: {EOS: 0.9, 2: 0.1}, 2: {EOS: 0.1, 3: 0.9}, 3: {EOS: 1.0}}
  sequences, scores = beam_search(
    jnp.zeros((1, 6), jnp.int32), {}, _table(4, rows), EOS, num_decodes=2
  )
  # [2, 1], with 0.1 * 0.1, is there before [2, 3, 1], with 0.1 * 0.9.
  assert sequences[0].tolist() == [padded([2, 3, 1], 6), padded([1], 6)]
  expected = [np.log(0.09) / (8 / 6) ** 0.6, np.log(0.9)]
  np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


def test_an_end_inside_a_prompt_ends_no_beam():
  model = HistoryModel(rows=1)
  prompt = (2, EOS, 3)
  sequences, scores = beam_search(
    jnp.array([[0, *prompt, 0, 0]]), model.cache, model, EOS, num_decodes=40
  )
  score, best = max(
    (p / ((5 + len(t)) / 6) ** 0.6, t) for t, p in model.all_ended(0, 3, prompt)
  )
  assert sequences[0, -1].tolist() == padded(prompt + best, 6)
  np.testing.assert_allclose(scores[0, -1], score, rtol=1e-5)


def test_stacked_layers_are_expanded_and_reordered_along_their_batch_axis():
  model = HistoryModel()
  stacked = {
    'layer': {
      k: v if v.ndim == 0 or k == 'cached_bias' else jnp.stack([v, v])
      for k, v in model.cache['layer'].items()
    }
  }

  def stacked_model(state):
    first = {
      k: v if v.ndim == 0 or k == 'cached_bias' else v[0]
      for k, v in state.cache['layer'].items()
    }
    logits, new = model(state.replace(cache={'layer': first}))
    new = {
      k: v if v.ndim == 0 or k == 'cached_bias' else jnp.stack([v, v])
      for k, v in new['layer'].items()
    }
    return logits, {'layer': new}

  inputs = jnp.zeros((2, 5), jnp.int32)
  plain = beam_search(inputs, model.cache, model, EOS)
  found = beam_search(inputs, stacked, stacked_model, EOS, cache_offset=1)
  np.testing.assert_array_equal(found[0], plain[0])
  np.testing.assert_array_equal(found[1], plain[1])


@pytest.mark.parametrize('search', [False, True])
def test_initial_index_goes_on_from_a_filled_cache(search):
  decode = (
    functools.partial(beam_search, num_decodes=3)
    if search
    else functools.partial(temperature_sample, num_decodes=3)
  )
  model = HistoryModel()
  inputs = jnp.array([[0, 2, 3, 0, 0, 0], [0, 4, 0, 0, 0, 0]])
  stepwise = decode(inputs, model.cache, model, EOS)

  # What the prompts but for their last token leave in the cache.
  state = [(1 * 3 + 0 + 1) % STATES] * 2
  state[0] = (state[0] * 3 + 2 + 1) % STATES
  filled = {
    'layer': {
      **model.cache['layer'],
      'cached_state': jnp.array(state),
      'cache_index': jnp.array([2, 1]),
    }
  }
  seen = []

  def watched(state):
    seen.append(state.cache['layer']['cache_index'].shape)
    return model(state)

  resumed = decode(
    inputs, filled, watched, EOS, initial_index=jnp.array([2, 1])
  )
  np.testing.assert_array_equal(resumed[0], stepwise[0])
  np.testing.assert_allclose(resumed[1], stepwise[1], rtol=1e-6)
  # Counters with a batch axis are expanded to every decode.
  assert set(seen) == {(6,)}
