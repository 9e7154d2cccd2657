"""Tests of t5x.beam: what a search finds, and when it stops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import decoding
from t5x.decoding import cache as cache_lib
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
  trace,
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


def test_a_penalty_that_favors_short_sequences_ends_no_search_early():
  rows = {0: {EOS: 0.4, 2: 0.6}, 2: {EOS: 0.385, 3: 0.615}, 3: {EOS: 1.0}}
  sequences, scores = beam_search(
    jnp.zeros((1, 6), jnp.int32),
    {},
    _table(4, rows),
    EOS,
    num_decodes=2,
    alpha=-2.0,
  )
  # [2, 1], with -2.0, is there before [2, 3, 1], with -1.77 at its length.
  assert sequences[0].tolist() == [padded([2, 3, 1], 6), padded([1], 6)]
  expected = [np.log(0.6 * 0.615) * (8 / 6) ** 2, np.log(0.4)]
  np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


def test_rows_settle_each_by_itself():
  # Behind 8 a long one wins late, behind 9 two short ones settle it at once.
  rows = {8: {EOS: 0.4, 2: 0.6}, 2: {EOS: 0.7, 3: 0.3}, 7: {EOS: 1.0}}
  rows |= {i: {i + 1: 1.0} for i in range(3, 7)}
  rows |= {9: {EOS: 0.5, 10: 0.5}, 10: {EOS: 1.0}}
  prompts = jnp.array([[0, token, *[0] * 11] for token in (8, 9, 9)])
  counted, calls = count_steps(_table(11, rows))

  @jax.jit
  def search(inputs):
    return decoding.beam_search(
      inputs, {}, counted, EOS, num_decodes=2, alpha=2.0
    )[0]

  def found(inputs):
    calls.clear()
    sequences = search(inputs)
    jax.effects_barrier()
    return sequences.tolist(), len(calls)

  late, steps = found(prompts[:1])
  assert late[0][1] == padded([8, 2, 3, 4, 5, 6, 7, 1], 13)
  early, fewer = found(prompts[1:])
  assert early[0] == [padded([9, 1], 13), padded([9, 10, 1], 13)]
  assert fewer < steps
  for order in ([0, 1, 2], [1, 0, 2], [1, 2, 0]):
    sequences, all_steps = found(prompts[jnp.array(order)])
    assert sequences == [(late + early)[row] for row in order]
    assert all_steps == steps


def test_a_place_without_a_sequence_is_empty():
  # From 0 it may end, from 3 never.
  probs = np.zeros((4, 4))
  probs[0, [EOS, 2]] = 0.5, 0.5
  probs[2, 2], probs[3, 3], probs[1, 1] = 1.0, 1.0, 1.0
  inputs = jnp.array([[0, 0, 0], [0, 3, 0], [0, 0, 0]])
  for options, score in (({}, decoding.NEG_INF), ({'min_log_prob': -9.0}, -9)):
    sequences, scores = beam_search(
      inputs, {}, TableModel(probs), EOS, num_decodes=2, alpha=0.0, **options
    )
    for row in (0, 2):
      assert sequences[row].tolist() == [[0, 0, 0], [1, 0, 0]]
      np.testing.assert_allclose(scores[row], [score, np.log(0.5)], rtol=1e-6)
    # None of the row ended: what is there is given.
    assert sequences[1, 1].tolist() == [3, 3, 3]
    assert scores[1, 1] == 0


def test_the_results_may_be_longer_or_shorter_than_the_inputs():
  model = HistoryModel()
  inputs = jnp.array([[0, 2, 3, 0], [0, 4, 0, 0]])
  for length in (3, 9):
    padded_inputs = jnp.pad(inputs, ((0, 0), (0, 5)))[:, :length]
    expected = beam_search(padded_inputs, model.cache, model, EOS)
    found = beam_search(inputs, model.cache, model, EOS, max_decode_len=length)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
  found, _ = beam_search(inputs, model.cache, model, EOS, max_decode_step=0)
  assert found[:, -1].tolist() == [[2, 3, 0, 0], [4, 0, 0, 0]]


_DECODERS = pytest.mark.parametrize(
  'decode', [beam_search, functools.partial(temperature_sample, topk=0)]
)


@_DECODERS
def test_a_model_sees_what_was_decoded_so_far(decode):
  model, seen = HistoryModel(), []

  def watched(state):
    assert state.sequences.shape == (6, 5)
    last = jnp.take_along_axis(state.sequences, state.cur_index[:, None], 1)
    jax.debug.callback(
      lambda *x: seen.append(x), last, state.cur_token, state.cur_index
    )
    return model(state)

  decode(
    jnp.zeros((2, 5), jnp.int32), model.cache, watched, eos_id=-1, num_decodes=3
  )
  jax.effects_barrier()
  assert len(seen) == 5
  for last, token, index in seen:
    np.testing.assert_array_equal(last, token)
    assert len(set(index.tolist())) == 1


# What a model is called with is known when a decoder is traced.
_TRACED = pytest.mark.parametrize(
  'decode',
  [
    decoding.beam_search,
    functools.partial(decoding.temperature_sample, topk=0),
  ],
)


@_TRACED
@pytest.mark.parametrize(
  ('short', 'index', 'expected'),
  [(True, None, {16, 20}), (False, None, {20}), (True, [1, 1], {20})],
)
def test_only_an_empty_cache_of_a_model_that_allows_it_begins_short(
  decode, short, index, expected
):
  lengths = set()

  def model(state):
    lengths.add(state.cache['cached_key'].shape[-1])
    return jnp.zeros((4, 3)), state.cache

  trace(
    decode,
    jnp.zeros((2, 20), jnp.int32),
    {'cached_key': jnp.zeros((2, 20))},
    cache_lib.ShortCacheModel(model) if short else model,
    eos_id=-1,
    num_decodes=2,
    initial_index=None if index is None else jnp.array(index),
  )
  assert lengths == expected


@_TRACED
def test_caches_of_two_lengths_stay_as_they_are(decode):
  lengths = set()

  def model(state):
    lengths.update(x.shape[-1] for x in state.cache.values())
    return jnp.zeros((2, 3)), state.cache

  cache = {'cached_key': jnp.zeros((1, 20)), 'cached_value': jnp.zeros((1, 24))}
  trace(
    decode,
    jnp.zeros((1, 20), jnp.int32),
    cache,
    cache_lib.ShortCacheModel(model),
    eos_id=-1,
    num_decodes=2,
  )
  assert lengths == {20, 24}


@_DECODERS
def test_what_a_short_cache_held_is_there_behind_it(decode):
  table = jnp.asarray(np.random.default_rng(0).normal(size=(97, 6)))

  def model(state):
    rows = jnp.arange(4)
    kept = state.cache['cached_key']
    kept = kept.at[rows, state.cur_index].set(state.cur_token[:, 0] + 1)
    places = jnp.arange(1, kept.shape[1] + 1)
    logits = table[jnp.sum(kept * places**2, axis=1) % 97]
    return logits.at[:, 0].set(-jnp.inf), {'cached_key': kept}

  # One row ends early, the other one in the whole cache.
  inputs = jnp.array([[0] * 24, [*range(20), *[0] * 4]]) % 6
  limit = 'max_decode_step' if decode is beam_search else 'max_decode_steps'
  long, short = (
    decode(
      inputs,
      {'cached_key': jnp.zeros((2, 24), jnp.int32)},
      asked,
      eos_id=-1,
      num_decodes=2,
      **{limit: 4},
    )
    for asked in (model, cache_lib.ShortCacheModel(model))
  )
  np.testing.assert_array_equal(short[0], long[0])
  np.testing.assert_array_equal(short[1], long[1])
  assert (np.asarray(long[0])[1, :, 19:23] > 0).all()


@_TRACED
@pytest.mark.parametrize('offset', [0, 1])
def test_a_counter_of_all_rows_stays_one(decode, offset):
  shapes = set()

  def model(state):
    shapes.add(tuple(x.shape for x in state.cache.values()))
    return jnp.zeros((6, 3)), state.cache

  cache = {
    'cached_state': jnp.zeros((7, 2)[1 - offset :]),
    'embedder_index': jnp.zeros(()),
    'of_layers': jnp.zeros((7,) * offset),
  }
  trace(
    decode,
    jnp.zeros((2, 4), jnp.int32),
    cache,
    model,
    eos_id=-1,
    num_decodes=3,
    cache_offset=offset,
  )
  assert shapes == {((7, 6)[1 - offset :], (), (7,) * offset)}


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
