"""Greedy decoding and sampling.

`temperature_sample` (greedy, top-k, top-p) runs as one `lax.while_loop` and
works with any model through a function from `DecodingState` to logits.

Axes: B batch, N decodes of each input, T decoder length, V vocabulary.
"""

import dataclasses
from collections.abc import Callable

import flax
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from t5x.decoding import cache as cache_lib


@flax.struct.dataclass
class SamplingLoopState:
  """The state of `temperature_sample`, which is passed to its callbacks.

  Attributes:
    step: [], number of steps taken.
    cur_index: [B * N], position of `cur_token`.
    sequences: [B * N, T + 1], start token first; one step writes position
      `cur_index + 1`.
    cache: the model's cache, of batch B * N.
    cur_token: [B * N, 1], the tokens to feed next.
    ended: [B * N, 1], whether a row is complete.
    rng: key of the next step.
    log_prob: [B * N], log probability of the tokens generated so far.
  """

  step: jax.Array
  cur_index: Int[Array, 'BN']
  sequences: Int[Array, 'BN T1']
  cache: cache_lib.Cache
  cur_token: Int[Array, 'BN 1']
  ended: Bool[Array, 'BN 1']
  rng: jax.Array
  log_prob: Float[Array, 'BN']


LogitCallbackFn = Callable[[jax.Array, SamplingLoopState], jax.Array]
StateCallbackFn = Callable[[SamplingLoopState], SamplingLoopState]

# T5X's name for the temperature below which it decodes greedily. Here exactly 0
# is greedy, and any other temperature counts as it is.
MIN_TEMPERATURE = 1e-4


def _take(x: jax.Array, index: jax.Array) -> jax.Array:
  """Returns x[i, index[i]] for each row i."""
  return jnp.take_along_axis(x, index[:, None], axis=-1)[:, 0]


def _argmax(logits: jax.Array) -> jax.Array:
  """Returns the first of the greatest in each row, in two passes.

  On a CPU, `jnp.argmax`, which reduces value and index together, takes several
  times as long.
  """
  last = logits.shape[-1] - 1
  greatest = jnp.max(logits, axis=-1, keepdims=True)
  places = jnp.arange(last + 1, dtype=jnp.int32)
  # Where there is NaN nothing equals the greatest.
  return jnp.min(jnp.where(logits == greatest, places, last), axis=-1)


def _is_traced(x: float | jax.Array) -> bool:
  """Whether a value is not known when a program is made."""
  return isinstance(x, jax.Array)


def _sampler(temperature, topk, topp, rescale_log_probs: bool):
  """Returns (logits [R, V], rng) -> (token [R], log probability [R])."""

  def greedy(logits, _):
    token = _argmax(logits)
    if rescale_log_probs:
      return token, jnp.zeros(token.shape, jnp.float32)
    return token, _take(jax.nn.log_softmax(logits), token)

  def sample(logits, rng):
    scale = jnp.asarray(temperature, jnp.float32).reshape(-1, 1)
    cold = scale == 0
    scaled = logits / jnp.where(cold, 1.0, scale)
    if topk:
      # Everything happens among the k candidates, not in the vocabulary.
      candidates, ids = lax.top_k(scaled, min(topk, scaled.shape[-1]))
    elif _is_traced(topp) or topp:
      candidates, ids = lax.top_k(scaled, scaled.shape[-1])
      probs = jax.nn.softmax(candidates)
      before = jnp.cumsum(probs, axis=-1) - probs
      # 0 leaves nothing out, as without topp.
      inside = before < jnp.where(jnp.asarray(topp) == 0, jnp.inf, topp)
      candidates = jnp.where(inside, candidates, -jnp.inf)
    else:
      candidates, ids = scaled, None
    chosen = jax.random.categorical(rng, candidates).astype(jnp.int32)
    token = chosen if ids is None else _take(ids, chosen)
    if rescale_log_probs:
      log_prob = _take(jax.nn.log_softmax(candidates), chosen)
    else:
      log_prob = _take(jax.nn.log_softmax(logits), token)
    if isinstance(temperature, float | int):
      return token, log_prob
    cold_token, cold_log_prob = greedy(logits, rng)
    cold = cold[:, 0]
    return (
      jnp.where(cold, cold_token, token),
      jnp.where(cold, cold_log_prob, log_prob),
    )

  always_cold = isinstance(temperature, float | int) and temperature == 0
  return greedy if topk == 1 or always_cold else sample


def _check_options(num_decodes, temperature, topk, topp):
  if num_decodes < 1:
    raise ValueError(f'num_decodes: expected at least 1, found {num_decodes}.')
  if isinstance(temperature, float | int) and temperature < 0:
    raise ValueError(f'temperature: expected at least 0, found {temperature}.')
  # What a traced value is, nobody knows yet.
  if topk < 0 or not (_is_traced(topp) or 0.0 <= topp <= 1.0):
    raise ValueError(
      f'temperature_sample: expected topk >= 0 and topp in [0, 1], found'
      f' topk={topk}, topp={topp}.'
    )
  if topk and (_is_traced(topp) or topp):
    raise ValueError(
      f'temperature_sample: expected at most one of topk and topp, found'
      f' topk={topk}, topp={topp}; set topk=0 to sample by topp.'
    )


def temperature_sample(
  inputs: Int[Array, 'B T'],
  cache: cache_lib.Cache,
  tokens_to_logits: cache_lib.TokensToLogits,
  eos_id: int,
  decode_rng: jax.Array | None = None,
  num_decodes: int = 1,
  temperature: float | jax.Array = 1.0,
  topk: int = 1,
  topp: float | jax.Array = 0.0,
  cache_offset: int = 0,
  initial_index: jax.Array | None = None,
  max_decode_steps: int | jax.Array | None = None,
  max_decode_steps_hard_limit: int | None = None,
  rescale_log_probs: bool = True,
  state_callback_fn: StateCallbackFn | None = None,
  logit_callback_fn: LogitCallbackFn | None = None,
) -> tuple[Int[Array, 'B N T'], Float[Array, 'B N']]:
  """Generates token by token, greedily or by sampling.

  Greedy with `topk=1` (the default) or `temperature=0`. `topk=k` samples among
  the k most likely tokens, `topp=p` (with `topk=0`) among the fewest most
  likely ones whose probabilities sum up to at least p, `topk=0` alone among
  all. The loop stops as soon as every row has ended.

  Args:
    inputs: decoder inputs: the start token, then a prompt if there is one, then
      zeros. A row starts with its given tokens: [[0, 5, 6, 0, 0]] gives
      sequences that begin with 5, 6.
    cache: the model's cache of batch B; it is expanded to B * N.
    tokens_to_logits: `DecodingState` -> (logits [B * N, V], new cache).
    eos_id: token that ends a sequence when the model generates it.
    decode_rng: key of the sampling; None for a fixed one.
    num_decodes: N, the number of sequences for each row.
    temperature: divides the logits; a number, or [B] with one for each row.
    topk: see above.
    topp: see above; the probabilities are those after the temperature. May be
      an array [], which a compiled program takes as an argument; then topk has
      to be 0, and 0 samples among all.
    cache_offset: batch axis of the cache's entries (1 where layers are
      stacked in axis 0).
    initial_index: [B], position to start from, where the cache already holds
      what comes before; None for 0.
    max_decode_steps: most tokens to generate after the prompt; a number or [B];
      None for as many as fit in T.
    max_decode_steps_hard_limit: bound on max_decode_steps, and on the tokens
      generated without it.
    rescale_log_probs: log probabilities are those of the distribution that was
      sampled from (after temperature, top-k or top-p: 0 where greedy); False
      gives those of the model.
    state_callback_fn: applied to the state before each step.
    logit_callback_fn: applied to the logits of each step.

  Returns:
    (sequences, log_probs), by ascending log probability in each row. Sequences
    have no start token and are 0 after their end; log_probs are sums over the
    generated tokens.

  Raises:
    ValueError: if an option is out of range, or topk and topp are both given.
  """
  _check_options(num_decodes, temperature, topk, topp)
  rows, length = inputs.shape
  prompts = jnp.asarray(inputs, jnp.int32)
  # The position of each row's last token.
  end = jnp.full((rows,), length, jnp.int32)
  prompt_len = cache_lib.prompt_lengths(prompts, initial_index)
  for limit in (max_decode_steps, max_decode_steps_hard_limit):
    if limit is not None:
      end = jnp.minimum(end, prompt_len + jnp.asarray(limit, jnp.int32))
  # From here on each row is N rows, one for each decode.
  if not isinstance(temperature, float | int) and jnp.ndim(temperature):
    temperature = jnp.repeat(temperature, num_decodes, axis=0)
  start = cache_lib.start_index(rows, initial_index)
  prompts, end, start = (
    cache_lib.flat_batch_beam_expand(x, num_decodes)
    for x in (prompts, end, start)
  )
  step_fn = _make_step(
    tokens_to_logits,
    _sampler(temperature, topk, topp, rescale_log_probs),
    jnp.pad(prompts, ((0, 0), (0, 1))),
    end,
    eos_id,
    logit_callback_fn,
  )

  def body(state):
    return step_fn(state_callback_fn(state) if state_callback_fn else state)

  state = SamplingLoopState(
    step=jnp.zeros((), jnp.int32),
    cur_index=start,
    sequences=cache_lib.started_sequences(prompts, start),
    cache=cache_lib.expand_cache(
      cache, num_decodes, cache_offset, initial_index is not None
    ),
    cur_token=jnp.take_along_axis(prompts, start[:, None], axis=1),
    ended=(start >= end)[:, None],
    rng=jax.random.key(0) if decode_rng is None else decode_rng,
    log_prob=jnp.zeros((rows * num_decodes,), jnp.float32),
  )
  state = cache_lib.decode_loop(
    lambda s: ~jnp.all(s.ended),
    body,
    state,
    may_be_short=initial_index is None
    and isinstance(tokens_to_logits, cache_lib.ShortCacheModel),
  )

  # Sort the decodes of each row.
  log_probs = state.log_prob.reshape(rows, num_decodes)
  sequences = state.sequences.reshape(rows, num_decodes, -1)[:, :, 1:]
  order = jnp.argsort(log_probs, axis=1, stable=True)
  return (
    jnp.take_along_axis(sequences, order[..., None], axis=1),
    jnp.take_along_axis(log_probs, order, axis=1),
  )


def _make_step(
  tokens_to_logits, sampler, prompts, end, eos_id, logit_callback_fn
):
  """Returns the function that takes one step of `temperature_sample`."""

  def step(state: SamplingLoopState) -> SamplingLoopState:
    logits, cache = tokens_to_logits(
      cache_lib.DecodingState(
        cur_index=state.cur_index,
        sequences=state.sequences[:, :-1],
        cur_token=state.cur_token,
        cache=state.cache,
      )
    )
    if logit_callback_fn is not None:
      logits = logit_callback_fn(logits, state)
    # Greedy decoding leaves the unused key to the compiler.
    next_rng, rng = jax.random.split(state.rng)
    token, log_prob = sampler(logits.astype(jnp.float32), rng)

    position = state.cur_index + 1
    # Rows that ended long ago may be past their last position.
    inside = jnp.minimum(position, prompts.shape[1] - 1)
    given = _take(prompts, inside)
    forced = given != 0
    was_ended = state.ended[:, 0]
    token = jnp.where(was_ended, 0, jnp.where(forced, given, token))
    log_prob = jnp.where(was_ended | forced, 0.0, log_prob)
    ended = was_ended | ((token == eos_id) & ~forced) | (position >= end)
    # Where a row has ended, its sequence already has a 0 at `inside`.
    written = jnp.where(was_ended, _take(state.sequences, inside), token)
    sequences = state.sequences.at[jnp.arange(token.size), inside].set(written)
    return dataclasses.replace(
      state,
      step=state.step + 1,
      cur_index=position,
      sequences=sequences,
      cache=cache_lib.same_kind(cache, state.cache),
      cur_token=token[:, None],
      ended=ended[:, None],
      rng=next_rng,
      log_prob=state.log_prob + log_prob,
    )

  return step
