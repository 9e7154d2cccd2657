"""Tests of t5x.decoding (and of t5x.decode_cache behind it)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import frozen_dict

from t5x import decoding
from t5x.decoding import cache as cache_lib
from t5x.decoding import sampling
from tests import golden_data
from tests.t5x.decoding.decoders import (
  EOS,
  VOCAB,
  HistoryModel,
  T5Decoder,
  TableModel,
  count_steps,
  padded,
  temperature_sample,
)

NAMES = ['t5x_1_1', 't5x_1_0']
PROBS = np.array([0.05, 0.3, 0.1, 0.4, 0.15])


@pytest.mark.parametrize('name', NAMES)
def test_one_beam_and_greedy_equal_t5x(name):
  model = T5Decoder(name)
  expected = golden_data.load(name).decode

  @jax.jit
  def run():
    args = (model.inputs, model.cache, model, EOS)
    beam, _ = decoding.beam_search(*args, num_decodes=1)
    greedy, log_probs = decoding.temperature_sample(
      *args, rescale_log_probs=False
    )
    # One full pass over what was said.
    inputs = jnp.pad(greedy[:, 0], ((0, 0), (1, 0)))[:, :-1]
    logits = model.module.apply(
      {'params': model.variables['params']},
      model.tokens,
      inputs,
      jnp.ones_like(inputs),
      enable_dropout=False,
    )
    full = jax.nn.log_softmax(logits)
    return beam[:, 0], greedy[:, 0], log_probs[:, 0], full

  beam, greedy, log_probs, full = run()
  np.testing.assert_array_equal(beam, expected['beam1_sequences'])
  np.testing.assert_array_equal(greedy, expected['greedy_sequences'])
  taken = np.take_along_axis(np.asarray(full), greedy[..., None], -1)[..., 0]
  said = np.cumsum(np.cumsum(greedy == EOS, -1), -1) <= 1
  np.testing.assert_allclose(log_probs, np.sum(taken * said, -1), rtol=1e-4)


@pytest.mark.parametrize(
  'decode_fn, name',
  [
    (decoding.temperature_sample, 'greedy_sequences'),
    pytest.param(
      decoding.beam_search, 'beam1_sequences', marks=pytest.mark.slow
    ),
  ],
)
def test_a_cache_that_starts_short_gives_the_same(decode_fn, name, monkeypatch):
  model = T5Decoder('t5x_1_1')
  # One row ends while the cache is short, the others don't.
  monkeypatch.setattr(cache_lib, '_SHORT', 3)
  # The network checks the length of the cache where it is told of one.
  model.max_decode_length = None
  lengths = []

  def spy(state):
    cache = state.cache['decoder']['layers_0']['self_attention']
    lengths.append(cache['cached_key'].shape[-1])
    return model(state)

  sequences, _ = jax.jit(
    lambda: decode_fn(
      model.inputs,
      model.cache,
      cache_lib.ShortCacheModel(spy),
      EOS,
      num_decodes=1,
    )
  )()
  assert set(lengths) == {3, model.inputs.shape[1]}
  expected = golden_data.load('t5x_1_1').decode[name]
  np.testing.assert_array_equal(sequences[:, 0], expected)


def test_the_first_of_the_greatest_is_taken():
  logits = jnp.array([[0.0, 3.0, 3.0], [-1.0, -2.0, -1.0], [2.0, 1.0, jnp.nan]])
  model = TableModel(jnp.exp(logits))
  sequences, _ = temperature_sample(
    jnp.zeros((1, 1), jnp.int32), {}, model, EOS
  )
  assert sequences[0, 0].tolist() == [1]
  found = sampling._argmax(logits)
  assert found[:2].tolist() == [1, 0] and 0 <= found[2] < 3


def test_sampling_stops_when_every_row_has_ended():
  # 2 -> 3 -> 4 -> end.
  probs = np.full((5, 5), 1e-9)
  for token, following in ((2, 3), (3, 4), (4, EOS), (0, 2)):
    probs[token, following] = 1.0
  counted, calls = count_steps(TableModel(probs))
  inputs = jnp.zeros((3, 40), jnp.int32).at[1, 1].set(3)
  sequences, _ = temperature_sample(inputs, {}, counted, EOS)
  jax.effects_barrier()
  assert sequences[0, 0, :5].tolist() == [2, 3, 4, 1, 0]
  assert sequences[1, 0, :5].tolist() == [3, 4, 1, 0, 0]
  assert len(calls) == 4


def test_state_callback_sees_each_step_once():
  steps = []

  def callback(state):
    jax.debug.callback(lambda s: steps.append(int(s)), state.step)
    return state

  model = HistoryModel()
  temperature_sample(
    jnp.zeros((2, 6), jnp.int32),
    model.cache,
    model,
    eos_id=-1,
    max_decode_steps=3,
    state_callback_fn=callback,
  )
  jax.effects_barrier()
  assert sorted(steps) == [0, 1, 2]


def test_logit_callback_changes_what_is_generated():
  model = HistoryModel()

  def only_three(logits, state):
    del state
    return jnp.where(jnp.arange(VOCAB) == 3, logits, -1e9)

  sequences, _ = temperature_sample(
    jnp.zeros((2, 4), jnp.int32),
    model.cache,
    model,
    EOS,
    logit_callback_fn=only_three,
  )
  assert np.all(sequences == 3)


def test_prompts_are_taken_over_and_cost_nothing():
  model = HistoryModel()
  # The prompt's own EOS does not end the row.
  inputs = jnp.array([[0, 2, EOS, 3, 0, 0, 0], [0, 4, 0, 0, 0, 0, 0]])
  sequences, log_probs = temperature_sample(
    inputs,
    model.cache,
    model,
    eos_id=-1,
    max_decode_steps=2,
    rescale_log_probs=False,
  )
  rows = sequences[:, 0].tolist()
  assert rows[0][:3] == [2, EOS, 3]
  assert rows[1][:1] == [4]
  # Two tokens behind each prompt, wherever it ends.
  assert [sum(t != 0 for t in row) for row in rows] == [5, 3]
  for row, given in ((0, 3), (1, 1)):
    expected = model.log_prob(
      row, rows[row][given : given + 2], rows[row][:given]
    )
    np.testing.assert_allclose(log_probs[row, 0], expected, rtol=1e-5)


def test_an_end_inside_a_prompt_ends_no_row():
  model = HistoryModel()
  inputs = jnp.array([[0, 2, EOS, 3, 0, 0, 0, 0], [0, 4, 0, 0, 0, 0, 0, 0]])
  sequences, log_probs = temperature_sample(
    inputs, model.cache, model, EOS, rescale_log_probs=False
  )
  for row, prompt in ((0, (2, EOS, 3)), (1, (4,))):
    said = ()
    while EOS not in said and len(prompt + said) < 8:
      longer = [(*said, token) for token in range(VOCAB)]
      chances = [model.log_prob(row, tokens, prompt) for tokens in longer]
      said = longer[np.argmax(chances)]
    assert sequences[row, 0].tolist() == padded(prompt + said, 8)
    np.testing.assert_allclose(
      log_probs[row, 0], model.log_prob(row, said, prompt), rtol=1e-5
    )


def test_max_decode_steps_may_differ_by_row_and_has_a_hard_limit():
  model = HistoryModel(rows=4)
  sequences, _ = temperature_sample(
    jnp.zeros((4, 8), jnp.int32),
    model.cache,
    model,
    eos_id=-1,
    max_decode_steps=jnp.array([0, 1, 3, 7]),
    max_decode_steps_hard_limit=5,
  )
  assert np.sum(sequences[:, 0] != 0, axis=-1).tolist() == [0, 1, 3, 5]


def sampled_frequencies(probs, draws=4000, **kwargs):
  """Frequencies of the first token over many decodes of one row."""
  model = TableModel([probs] * len(probs))
  sequences, log_probs = temperature_sample(
    jnp.zeros((1, 1), jnp.int32),
    {},
    model,
    eos_id=-1,
    decode_rng=jax.random.key(3),
    num_decodes=draws,
    **kwargs,
  )
  tokens = np.asarray(sequences[0, :, 0])
  return np.bincount(tokens, minlength=len(probs)) / draws, tokens, log_probs


@pytest.mark.parametrize(
  'kwargs, expected',
  [
    (dict(topk=0), PROBS),
    # More than there are.
    (dict(topk=9), PROBS),
    (dict(topk=2), [0, 3 / 7, 0, 4 / 7, 0]),
    # 0.4 + 0.3 is not enough, 0.4 + 0.3 + 0.15 is.
    (dict(topk=0, topp=0.75), [0, 0.3 / 0.85, 0, 0.4 / 0.85, 0.15 / 0.85]),
    (dict(topk=0, topp=0.65), [0, 3 / 7, 0, 4 / 7, 0]),
    (dict(topk=0, temperature=0.5), PROBS**2 / np.sum(PROBS**2)),
    (dict(topk=0, temperature=0.0), [0, 0, 0, 1, 0]),
    (dict(topk=1), [0, 0, 0, 1, 0]),
    (dict(topk=0, topp=1e-6), [0, 0, 0, 1, 0]),
  ],
)
def test_sampling_follows_the_distribution(kwargs, expected):
  found, tokens, log_probs = sampled_frequencies(PROBS, **kwargs)
  expected = np.asarray(expected)
  # Four standard deviations of 4,000 draws.
  assert np.all(np.abs(found - expected) <= 0.032)
  assert np.all(found[expected == 0] == 0)
  np.testing.assert_allclose(np.exp(log_probs[0]), expected[tokens], rtol=1e-4)


def test_tokens_of_two_steps_are_drawn_independently():
  draws = 4000
  sequences, log_probs = temperature_sample(
    jnp.zeros((1, 2), jnp.int32),
    {},
    TableModel([PROBS] * 5),
    eos_id=-1,
    decode_rng=jax.random.key(3),
    num_decodes=draws,
    topk=0,
  )
  first, second = np.asarray(sequences[0]).T
  found = np.zeros((5, 5))
  np.add.at(found, (first, second), 1 / draws)
  # Four standard deviations, of 0.4 * 0.4 at most.
  assert np.all(np.abs(found - np.outer(PROBS, PROBS)) <= 0.0232)
  np.testing.assert_allclose(
    np.exp(log_probs[0]), PROBS[first] * PROBS[second], rtol=1e-4
  )


def test_log_probs_are_the_models_own_without_rescaling():
  _, tokens, log_probs = sampled_frequencies(
    PROBS, draws=50, topk=2, temperature=0.3, rescale_log_probs=False
  )
  np.testing.assert_allclose(np.exp(log_probs[0]), PROBS[tokens], rtol=1e-4)


def test_temperature_may_differ_by_row():
  model = TableModel([PROBS] * 5)
  sequences, _ = temperature_sample(
    jnp.zeros((2, 1), jnp.int32),
    {},
    model,
    eos_id=-1,
    decode_rng=jax.random.key(0),
    num_decodes=200,
    topk=0,
    temperature=jnp.array([0.0, 5.0]),
  )
  assert set(np.ravel(sequences[0]).tolist()) == {3}
  assert set(np.ravel(sequences[1]).tolist()) == set(range(5))


def test_a_temperature_of_all_rows_may_be_an_array():
  sequences, _ = temperature_sample(
    jnp.zeros((2, 1), jnp.int32),
    {},
    TableModel([PROBS] * 5),
    eos_id=-1,
    decode_rng=jax.random.key(0),
    num_decodes=3,
    topk=0,
    temperature=np.float32(0.0),
  )
  np.testing.assert_array_equal(sequences, np.full((2, 3, 1), 3))


@pytest.mark.parametrize(
  ('rescale', 'greedy', 'exponent'), [(True, 1.0, 2.0), (False, 0.4, 1.0)]
)
def test_a_greedy_row_beside_a_sampled_one_has_its_log_probability(
  rescale, greedy, exponent
):
  sequences, log_probs = temperature_sample(
    jnp.zeros((2, 1), jnp.int32),
    {},
    TableModel([PROBS] * 5),
    eos_id=-1,
    decode_rng=jax.random.key(0),
    num_decodes=50,
    topk=0,
    temperature=jnp.array([0.0, 0.5]),
    rescale_log_probs=rescale,
  )
  np.testing.assert_allclose(np.exp(log_probs[0]), greedy, rtol=1e-5)
  # Half the temperature: the squares of the probabilities.
  expected = PROBS**exponent / np.sum(PROBS**exponent)
  tokens = np.asarray(sequences[1, :, 0])
  assert len(set(tokens.tolist())) > 1
  np.testing.assert_allclose(np.exp(log_probs[1]), expected[tokens], rtol=1e-4)


def test_decodes_come_by_ascending_log_probability():
  model = HistoryModel()
  sequences, log_probs = temperature_sample(
    jnp.zeros((2, 5), jnp.int32),
    model.cache,
    model,
    EOS,
    decode_rng=jax.random.key(1),
    num_decodes=8,
    topk=0,
  )
  assert sequences.shape == (2, 8, 5)
  assert np.all(np.diff(log_probs, axis=1) >= 0)
  for row, decode in itertools.product(range(2), range(8)):
    tokens = [t for t in sequences[row, decode].tolist() if t]
    np.testing.assert_allclose(
      log_probs[row, decode], model.log_prob(row, tokens), rtol=1e-4
    )


@pytest.mark.parametrize(
  'kwargs, text',
  [
    (dict(topk=2, topp=0.5), 'set topk=0 to sample by topp'),
    (dict(topp=0.5), 'at most one of topk and topp'),
    (dict(topk=-1), 'expected topk >= 0'),
    (dict(topk=0, topp=1.5), r'topp in \[0, 1\]'),
    (dict(topk=0, topp=-0.5), r'topp in \[0, 1\]'),
    (dict(temperature=-1.0), 'temperature: expected at least 0'),
    (dict(num_decodes=0), 'num_decodes: expected at least 1'),
  ],
)
def test_options_out_of_range_are_refused(kwargs, text):
  model = HistoryModel()
  with pytest.raises(ValueError, match=text):
    temperature_sample(
      jnp.zeros((2, 4), jnp.int32), model.cache, model, EOS, **kwargs
    )


def test_a_frozen_cache_stays_frozen_and_counters_are_left_alone():
  cache = frozen_dict.freeze(HistoryModel().cache)
  doubled = decoding.cache_map(lambda x: x * 2, cache)
  assert isinstance(doubled, frozen_dict.FrozenDict)
  assert doubled['layer']['cached_state'].tolist() == [2, 2]
  grown = {'a': {'cache_index': jnp.ones(3), 'cached_bias': jnp.ones(3)}}
  by_default = decoding.cache_map(lambda x: x * 2, grown)
  with_index = decoding.cache_map(lambda x: x * 2, grown, apply_to_index=True)
  assert by_default['a']['cache_index'].tolist() == [1, 1, 1]
  assert with_index['a']['cache_index'].tolist() == [2, 2, 2]
  assert with_index['a']['cached_bias'].tolist() == [1, 1, 1]
  # This counter has a row for each sequence.
  positions = {'a': {'position_embedder_index': jnp.ones(3)}}
  mapped = decoding.cache_map(lambda x: x * 2, positions)
  assert mapped['a']['position_embedder_index'].tolist() == [2, 2, 2]


@pytest.mark.parametrize('topp', [0.0, 0.3, 0.65, 1.0])
def test_a_traced_topp_samples_what_a_number_does(topp):
  model = HistoryModel()
  prompts = jnp.zeros((2, 4), jnp.int32)

  def sample(topp):
    return temperature_sample(
      prompts,
      model.cache,
      model,
      EOS,
      decode_rng=jax.random.key(3),
      num_decodes=8,
      topk=0,
      topp=topp,
    )

  sequences, log_probs = sample(topp)
  traced, traced_log_probs = jax.jit(sample)(jnp.float32(topp))
  if topp in (0.3, 0.65):
    np.testing.assert_array_equal(traced, sequences)
    np.testing.assert_allclose(traced_log_probs, log_probs, rtol=1e-5)
  # All tokens compete: ties between equal draws aside, the same spread.
  assert np.isfinite(np.asarray(traced_log_probs)).all()
  with pytest.raises(ValueError, match='at most one of topk and topp'):
    temperature_sample(prompts, model.cache, model, EOS, topp=jnp.float32(0.5))


def test_expansion_keeps_the_copies_of_a_row_side_by_side():
  x = jnp.array([[1, 2], [3, 4]])
  assert decoding.flat_batch_beam_expand(x, 2).tolist() == [
    [1, 2],
    [1, 2],
    [3, 4],
    [3, 4],
  ]
  assert decoding.flat_batch_beam_expand(x, 2, offset=1).tolist() == [
    [1, 1, 2, 2],
    [3, 3, 4, 4],
  ]


def test_without_a_key_it_draws_with_that_of_0():
  args = jnp.zeros((4, 8), jnp.int32), {}, TableModel([PROBS] * VOCAB), EOS
  found, same, other = (
    temperature_sample(*args, topk=0, **key)[0].tolist()
    for key in (
      {},
      {'decode_rng': jax.random.key(0)},
      {'decode_rng': jax.random.key(1)},
    )
  )
  assert found == same != other


@pytest.mark.parametrize(
  ('filled', 'expected'), [(None, [2, 0]), ([1, 3], [2, 3]), ([3, 0], [3, 0])]
)
def test_a_prompt_ends_with_its_last_token_or_where_the_cache_is_filled(
  filled, expected
):
  prompts = jnp.array([[0, 5, 6, 0, 0], [0, 0, 0, 0, 0]])
  index = None if filled is None else jnp.array(filled)
  assert cache_lib.prompt_lengths(prompts, index).tolist() == expected
