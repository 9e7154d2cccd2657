"""Cache operations of all decoders: expand, reorder, resize, and the loop.

Axes: B batch, N decodes of each input, T decoder length.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.core import frozen_dict
from jax import lax
from jaxtyping import Array, Int

Cache = frozen_dict.FrozenDict[str, Any] | dict[str, Any]

# The cache entry that counts positions, the same for all rows in most models.
_INDICES = ('cache_index',)
# Cache entries that have no batch axis.
_WITHOUT_BATCH = ('cached_bias',)


@flax.struct.dataclass
class DecodingState:
  """What a model computes the next logits from.

  Attributes:
    cur_index: [B * N], the position of `cur_token` in each sequence.
    sequences: [B * N, T], the decoder's inputs so far, the start token first.
    cur_token: [B * N, 1], the tokens to feed.
    cache: the model's cache.
  """

  cur_index: Int[Array, 'BN']
  sequences: Int[Array, 'BN T']
  cur_token: Int[Array, 'BN 1']
  cache: Cache


TokensToLogits = Callable[[DecodingState], tuple[jax.Array, Cache]]

# Entries whose last axis is the position, and the length of it that a loop
# starts with. Most labels fit in it, most rationales don't.
_BY_POSITION = ('cached_key', 'cached_value')
_SHORT = 16


@dataclasses.dataclass(frozen=True)
class ShortCacheModel:
  """A model, as `TokensToLogits`, that takes a cache of any length.

  Its cache has the entries `cached_key` and `cached_value` [..., T], whose
  length need not exceed the number of positions decoded so far.
  """

  tokens_to_logits: TokensToLogits

  def __call__(self, state: DecodingState) -> tuple[jax.Array, Cache]:
    """See `TokensToLogits`."""
    return self.tokens_to_logits(state)


def flat_batch_beam_expand(
  x: jax.Array, beam_size: int, offset: int = 0
) -> jax.Array:
  """Repeats each row `beam_size` times, the copies of a row side by side.

  Example: [[1, 2], [3, 4]] with beam_size 2 -> [[1, 2], [1, 2], [3, 4], [3, 4]]

  Args:
    x: an array whose batch is axis `offset`.
    beam_size: how often each row is repeated.
    offset: the batch axis.
  """
  return jnp.repeat(x, beam_size, axis=offset)


def cache_map(
  fn: Callable[[jax.Array], Any], cache: Cache, apply_to_index: bool = False
) -> Cache:
  """Applies `fn` to the entries of a cache that have a batch axis.

  Entries named `cached_bias` stay as they are, and so does the position counter
  `cache_index` unless `apply_to_index`.

  Args:
    fn: array -> array.
    cache: a nested (frozen) dict of arrays.
    apply_to_index: whether the counter has a batch axis too.

  Returns:
    A cache of the same structure and type.
  """
  kept = _WITHOUT_BATCH if apply_to_index else _WITHOUT_BATCH + _INDICES
  flat = {k: v if k[-1] in kept else fn(v) for k, v in _flat(cache).items()}
  return same_kind(traverse_util.unflatten_dict(flat), cache)


def _flat(cache: Cache) -> dict[tuple[str, ...], Any]:
  return traverse_util.flatten_dict(frozen_dict.unfreeze(cache))


def same_kind(new: Cache, old: Cache) -> Cache:
  """Returns `new` as a FrozenDict if `old` is one, else as a dict."""
  if isinstance(old, frozen_dict.FrozenDict):
    return frozen_dict.freeze(new)
  return frozen_dict.unfreeze(new)


def expand_cache(
  cache: Cache, num_decodes: int, offset: int, counters_have_batch: bool
) -> Cache:
  """Repeats the rows of a cache for `num_decodes` decodes of each."""

  def expand(x):
    # A counter may still be one number for all rows.
    if x.ndim <= offset:
      return x
    return flat_batch_beam_expand(x, num_decodes, offset)

  return cache_map(expand, cache, apply_to_index=counters_have_batch)


def prompt_lengths(
  prompts: Int[Array, 'B T'], initial_index: jax.Array | None
) -> Int[Array, 'B']:
  """Returns how many tokens of each row are given.

  A prompt is a row of decoder inputs: the start token at position 0, then the
  given tokens, then zeros. Example: [[0, 5, 6, 0]] -> [2].

  Args:
    prompts: decoder inputs.
    initial_index: positions up to which the cache is already filled, or None;
      tokens before them count as given.
  """
  positions = jnp.arange(prompts.shape[1])
  lengths = jnp.max(jnp.where(prompts != 0, positions, 0), axis=1)
  if initial_index is not None:
    lengths = jnp.maximum(lengths, initial_index)
  return lengths.astype(jnp.int32)


def start_index(
  batch_size: int, initial_index: jax.Array | None
) -> Int[Array, 'B']:
  """Returns the position of the first token to feed, for each row."""
  if initial_index is None:
    return jnp.zeros((batch_size,), jnp.int32)
  return jnp.broadcast_to(initial_index, (batch_size,)).astype(jnp.int32)


def started_sequences(
  prompts: Int[Array, 'B T'], start: Int[Array, 'B']
) -> Int[Array, 'B T1']:
  """Returns the prompts up to `start`, then zeros, and room for one token."""
  given = jnp.arange(prompts.shape[1]) <= start[:, None]
  return jnp.pad(jnp.where(given, prompts, 0), ((0, 0), (0, 1)))


def decode_loop(
  continues: Callable[[Any], jax.Array],
  step: Callable[[Any], Any],
  state: Any,
  may_be_short: bool,
) -> Any:
  """Runs `lax.while_loop`, with a short cache for as long as it suffices.

  Attention reads the whole cache at every step, written or not.

  Args:
    continues: returns whether a state needs another step.
    step: returns a state with `cur_index` [...] greater by 1 in some rows.
    state: has `cur_index`, of zeros where the cache may be short, and `cache`.
    may_be_short: whether the cache is empty and that of a `ShortCacheModel`.

  Returns:
    The last state, without its cache, which no result needs.
  """
  length = _cache_length(state.cache) if may_be_short else 0
  if length > _SHORT:
    state = state.replace(cache=_resized(state.cache, _SHORT))
    state = lax.while_loop(
      lambda s: continues(s) & (jnp.max(s.cur_index) < _SHORT), step, state
    )

  def rest(state):
    if length > _SHORT:
      state = state.replace(cache=_resized(state.cache, length))
    return lax.while_loop(continues, step, state).replace(cache={})

  if length <= _SHORT:
    return rest(state)
  return lax.cond(continues(state), rest, lambda s: s.replace(cache={}), state)


def _cache_length(cache: Cache) -> int:
  lengths = {
    x.shape[-1] for k, x in _flat(cache).items() if k[-1] in _BY_POSITION
  }
  return lengths.pop() if len(lengths) == 1 else 0


def _resized(cache: Cache, length: int) -> Cache:
  """Returns the cache cut or padded with zeros to `length` positions."""
  flat = _flat(cache)
  for key, x in flat.items():
    if key[-1] in _BY_POSITION:
      more = max(0, length - x.shape[-1])
      pad = [(0, 0)] * (x.ndim - 1) + [(0, more)]
      flat[key] = jnp.pad(x[..., :length], pad)
  return same_kind(traverse_util.unflatten_dict(flat), cache)
