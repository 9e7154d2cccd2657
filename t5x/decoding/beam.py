"""Beam search.

Axes: B batch, N beams, T decoder length, V vocabulary.
"""

import dataclasses

import flax
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from t5x.decoding import beam_dims
from t5x.decoding import cache as cache_lib

# The score of a place without a sequence, unless a caller names another one.
NEG_INF = -1.0e7


@flax.struct.dataclass
class BeamState:
  """The state of a beam search; arrays are sorted by ascending score.

  Attributes:
    cur_index: [B], the position of the token that is fed next.
    live_logprobs: [B, N], log probability of the unfinished sequences.
    finished_scores: [B, N], log probability divided by length penalty, of the
      best sequences that ended.
    live_seqs: [B, N, T + 1], start token first.
    finished_seqs: [B, N, T + 1].
    finished_flags: [B, N], whether there is a finished sequence at all.
    cache: the model's cache, of batch B * N, in the order of `live_seqs`.
    initial_index: [B], the position that each row started from; None for 0.
  """

  cur_index: Int[Array, 'B']
  live_logprobs: Float[Array, 'B N']
  finished_scores: Float[Array, 'B N']
  live_seqs: Int[Array, 'B N T1']
  finished_seqs: Int[Array, 'B N T1']
  finished_flags: Bool[Array, 'B N']
  cache: cache_lib.Cache
  initial_index: jax.Array | None


def _best(count: int, scores: jax.Array, *arrays: jax.Array):
  """Returns the `count` best entries of axis 1, ascending, of all arrays."""
  _, order = lax.top_k(scores, count)
  order = order[:, ::-1]
  pick = jax.vmap(lambda x, i: x[i])
  return tuple(pick(x, order) for x in (scores, *arrays))


@flax.struct.dataclass
class _Search:
  """The constants of a search, and its step.

  Attributes:
    prompts: [B, T + 2], given decoder inputs; 0 where the model chooses.
    prompt_len: [B], the number of given tokens of a row.
    end: [B], position of a row's last token.
    eos_id: token that ends a sequence.
    alpha: exponent of the length penalty.
    cache_offset: batch axis of the cache's entries.
  """

  prompts: jax.Array
  prompt_len: jax.Array
  end: jax.Array
  eos_id: int = flax.struct.field(pytree_node=False)
  alpha: float = flax.struct.field(pytree_node=False)
  cache_offset: int = flax.struct.field(pytree_node=False)

  def continues(self, state: BeamState) -> jax.Array:
    """Returns whether any row may still find a better sequence."""
    lengths = jnp.stack([state.cur_index + 1, self.end]) - self.prompt_len
    # A live sequence only loses log probability, so its score can't exceed
    # this bound, at whichever length the penalty is weakest.
    penalty = jnp.max(beam_dims.brevity_penalty(self.alpha, lengths), axis=0)
    bound = jnp.max(state.live_logprobs, axis=1) / penalty
    worst = jnp.min(state.finished_scores, axis=1)
    settled = jnp.all(state.finished_flags, axis=1) & (worst > bound)
    return jnp.any((state.cur_index < self.end) & ~settled)

  def step(
    self, state: BeamState, tokens_to_logits: cache_lib.TokensToLogits
  ) -> BeamState:
    """Feeds one token to every beam and keeps the best continuations."""
    rows, beams, width = state.live_seqs.shape
    index = state.cur_index
    cur_token = jnp.take_along_axis(
      state.live_seqs, index[:, None, None], axis=2
    )
    logits, cache = tokens_to_logits(
      cache_lib.DecodingState(
        cur_index=jnp.repeat(index, beams),
        sequences=state.live_seqs.reshape(rows * beams, width)[:, :-1],
        cur_token=cur_token.reshape(rows * beams, 1),
        cache=state.cache,
      )
    )
    logprobs, beam, token, forced = self._candidates(state, logits)
    pick = jax.vmap(lambda x, i: x[i])
    seqs = pick(state.live_seqs, beam)
    is_next = jnp.arange(width) == (index + 1)[:, None]
    seqs = jnp.where(is_next[:, None, :], token[..., None], seqs)
    ended = (token == self.eos_id) & ~forced[:, None]

    live_logprobs, live_seqs, live_beam = _best(
      beams, jnp.where(ended, -jnp.inf, logprobs), seqs, beam
    )
    scores = (
      logprobs
      / beam_dims.brevity_penalty(self.alpha, index + 1 - self.prompt_len)[
        :, None
      ]
    )
    scores = jnp.where(ended, scores, -jnp.inf)
    finished = _best(
      beams,
      jnp.concatenate([state.finished_scores, scores], axis=1),
      jnp.concatenate([state.finished_seqs, seqs], axis=1),
      jnp.concatenate([state.finished_flags, ended], axis=1),
    )
    # Rows that have reached their end stay as they are.
    active = index < self.end

    def update(new, old):
      return jnp.where(
        active.reshape((rows,) + (1,) * (old.ndim - 1)), new, old
      )

    return dataclasses.replace(
      state,
      cur_index=jnp.where(active, index + 1, index),
      live_logprobs=update(live_logprobs, state.live_logprobs),
      live_seqs=update(live_seqs, state.live_seqs),
      finished_scores=update(finished[0], state.finished_scores),
      finished_seqs=update(finished[1], state.finished_seqs),
      finished_flags=update(finished[2], state.finished_flags),
      cache=self._reorder(cache, live_beam, state.cache),
    )

  def _candidates(self, state, logits):
    """Returns the 2 N best continuations, of which at least N don't end.

    Returns:
      Log probabilities, beams and tokens [B, 2 N], and whether the prompt
      gives the token [B].
    """
    rows, beams = state.live_logprobs.shape
    vocab_size = logits.shape[-1]
    logprobs = jax.nn.log_softmax(logits.astype(jnp.float32))
    logprobs = logprobs.reshape(rows, beams, vocab_size)
    given = jnp.take_along_axis(
      self.prompts, (state.cur_index + 1)[:, None], axis=1
    )
    forced = given[:, 0] != 0
    # A given token costs nothing, any other is impossible.
    is_given = jnp.arange(vocab_size) == given
    free = jnp.where(is_given, 0.0, -jnp.inf)[:, None, :]
    logprobs = jnp.where(forced[:, None, None], free, logprobs)
    logprobs += state.live_logprobs[..., None]
    count = min(2 * beams, beams * vocab_size)
    best, flat = lax.top_k(logprobs.reshape(rows, -1), count)
    return best, flat // vocab_size, flat % vocab_size, forced

  def _reorder(self, cache, live_beam, old):
    rows, beams = live_beam.shape
    flat = (live_beam + jnp.arange(rows)[:, None] * beams).reshape(-1)
    return cache_lib.same_kind(
      cache_lib.cache_map(
        # A counter may be one number for all rows.
        lambda x: (
          x
          if x.ndim <= self.cache_offset
          else jnp.take(x, flat, axis=self.cache_offset)
        ),
        cache,
      ),
      old,
    )


def beam_search(
  inputs: Int[Array, 'B T'],
  cache: cache_lib.Cache,
  tokens_to_logits: cache_lib.TokensToLogits,
  eos_id: int,
  num_decodes: int = 4,
  alpha: float = 0.6,
  max_decode_len: int | None = None,
  max_decode_step: int = -1,
  min_log_prob: float = NEG_INF,
  decode_rng: jax.Array | None = None,
  cache_offset: int = 0,
  initial_index: jax.Array | None = None,
) -> tuple[Int[Array, 'B N T'], Float[Array, 'B N']]:
  """Finds the sequences of highest log probability divided by length penalty.

  The penalty of a sequence of n generated tokens (its end included) is
  `((5 + n) / 6) ** alpha`. The search stops when no live sequence of any row
  can beat the row's worst finished one.

  Args:
    inputs: decoder inputs: the start token, then a prompt if there is one, then
      zeros. Given tokens cost nothing and do not count as generated.
    cache: the model's cache of batch B; it is expanded to B * N.
    tokens_to_logits: `DecodingState` -> (logits [B * N, V], new cache).
    eos_id: token that ends a sequence.
    num_decodes: N, the number of beams.
    alpha: strength of the length penalty; 0 for none.
    max_decode_len: T of the results; None for the length of the inputs.
    max_decode_step: most tokens to generate for each row; negative for as many
      as fit.
    min_log_prob: score of a place without a sequence.
    decode_rng: unused, since nothing is random; accepted so that all decoders
      can be called alike.
    cache_offset: batch axis of the cache's entries (1 where layers are
      stacked in axis 0).
    initial_index: [B], position to start from, where the cache already holds
      what comes before; None for 0.

  Returns:
    (sequences, scores), by ascending score in each row. Sequences have no start
    token and are 0 after their end. If no sequence of a row ended, the live
    ones and their log probabilities are returned, else a place without a
    sequence is all 0 with score `min_log_prob`.
  """
  del decode_rng
  # Where each row starts and ends.
  rows = inputs.shape[0]
  length = inputs.shape[1] if max_decode_len is None else max_decode_len
  prompts = jnp.asarray(inputs, jnp.int32)[:, :length]
  prompts = jnp.pad(prompts, ((0, 0), (0, length - prompts.shape[1])))
  start = cache_lib.start_index(rows, initial_index)
  prompt_len = cache_lib.prompt_lengths(prompts, initial_index)
  end = jnp.full((rows,), length, jnp.int32)
  if max_decode_step >= 0:
    end = jnp.minimum(end, prompt_len + max_decode_step)

  # The first state: every beam of a row is its prompt.
  search = _Search(
    prompts=jnp.pad(prompts, ((0, 0), (0, 2))),
    prompt_len=prompt_len,
    end=end,
    eos_id=eos_id,
    alpha=alpha,
    cache_offset=cache_offset,
  )
  seqs = cache_lib.started_sequences(prompts, start)
  seqs = jnp.repeat(seqs[:, None, :], num_decodes, axis=1)
  is_last = jnp.arange(num_decodes) == num_decodes - 1
  nothing = jnp.full((rows, num_decodes), min_log_prob, jnp.float32)
  state = BeamState(
    cur_index=start,
    # Only one of these equal beams has a chance.
    live_logprobs=jnp.where(is_last, 0.0, nothing),
    finished_scores=nothing,
    live_seqs=seqs,
    finished_seqs=jnp.zeros_like(seqs),
    finished_flags=jnp.zeros((rows, num_decodes), jnp.bool_),
    cache=cache_lib.expand_cache(
      cache, num_decodes, cache_offset, initial_index is not None
    ),
    initial_index=initial_index,
  )
  state = cache_lib.decode_loop(
    search.continues,
    lambda s: search.step(s, tokens_to_logits),
    state,
    may_be_short=initial_index is None
    and isinstance(tokens_to_logits, cache_lib.ShortCacheModel),
  )

  # Rows without a finished sequence return their live ones.
  any_finished = jnp.any(state.finished_flags, axis=1)[:, None]
  sequences = jnp.where(
    any_finished[..., None], state.finished_seqs, state.live_seqs
  )
  scores = jnp.where(any_finished, state.finished_scores, state.live_logprobs)
  return sequences[:, :, 1:], scores
