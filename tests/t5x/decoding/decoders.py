"""Models to decode with, and decoders as one compiled program each."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from t5x import decoding
from t5x.examples.t5 import network
from tests import golden_data

EOS = 1
# Of `HistoryModel`.
VOCAB = 5
STATES = 11


def beam_search(*args, **kwargs):
  """Beam search as one compiled program."""
  return jax.jit(lambda: decoding.beam_search(*args, **kwargs))()


def temperature_sample(*args, **kwargs):
  """Sampling as one compiled program."""
  return jax.jit(lambda: decoding.temperature_sample(*args, **kwargs))()


def trace(decode, *args, **kwargs):
  """Has a decoder call its model as when it is compiled, and no more."""
  jax.eval_shape(lambda: decode(*args, **kwargs))


class T5Decoder:
  """A golden T5 behind tokens_to_logits, in two ways.

  `per_step` projects the encoder's outputs at every step, with one row of them
  for each decode, as T5X does; else they are projected once for each input.
  """

  def __init__(self, name, num_decodes=1, per_step=False):
    golden = golden_data.load(name)
    self.module = network.Transformer(network.T5Config(**golden.config_kwargs))
    self.variables = {'params': golden.params}
    self.tokens = golden.batch['encoder_input_tokens']
    self.inputs = np.zeros_like(golden.batch['decoder_input_tokens'])
    self.max_decode_length = self.inputs.shape[1]
    self.encoded, self.cache, made = jax.jit(self._prepare)()
    if per_step:
      self.encoded, self.tokens = (
        decoding.flat_batch_beam_expand(x, num_decodes)
        for x in (self.encoded, self.tokens)
      )
    else:
      self.variables = {**self.variables, **made}

  def _prepare(self):
    apply = functools.partial(self.module.apply, self.variables)
    encoded = apply(
      self.tokens, enable_dropout=False, method=self.module.encode
    )
    _, made = apply(
      self.tokens,
      self.inputs,
      self.inputs,
      enable_dropout=False,
      decode=True,
      mutable=['cache'],
    )
    _, projected = apply(
      encoded, method=self.module.cache_encoded, mutable=['encoded_cache']
    )
    return encoded, made['cache'], projected

  def __call__(self, state):
    logits, made = self.module.apply(
      {**self.variables, 'cache': state.cache},
      self.encoded,
      self.tokens,
      state.cur_token,
      state.cur_token,
      enable_dropout=False,
      decode=True,
      max_decode_length=self.max_decode_length,
      mutable=['cache'],
      method=self.module.decode,
    )
    return logits[:, 0], made['cache']


class HistoryModel:
  """Logits that depend on all tokens fed so far, through the cache."""

  def __init__(self, rows=2, seed=0, sharpness=1.5):
    rng = np.random.default_rng(seed)
    self.table = sharpness * rng.normal(size=(rows, STATES, VOCAB))
    self.table = self.table.astype(np.float32)
    # Zero is padding: a model does not generate it.
    self.table[:, :, 0] = -1e9
    self.rows = rows
    # The row's number travels in the cache as well: it must not be mixed up.
    self.cache = {
      'layer': {
        'cached_state': jnp.ones((rows,), jnp.int32),
        'cached_row': jnp.arange(rows),
        'cache_index': jnp.zeros((), jnp.int32),
        'cached_bias': jnp.zeros((1, 3)),
      }
    }

  def __call__(self, state):
    entry = dict(state.cache['layer'])
    now = (entry['cached_state'] * 3 + state.cur_token[:, 0] + 1) % STATES
    entry['cached_state'] = now
    entry['cache_index'] += 1
    return jnp.asarray(self.table)[entry['cached_row'], now], {'layer': entry}

  def log_prob(self, row, tokens, prompt=()):
    """Log probability of tokens behind the start token and a prompt."""
    now, total = 1, 0.0
    fed = (0, *prompt, *tokens)
    for i, token in enumerate(fed[:-1]):
      now = (now * 3 + token + 1) % STATES
      if i >= len(prompt):
        logits = self.table[row, now].astype(np.float64)
        total += logits[fed[i + 1]] - np.log(np.sum(np.exp(logits)))
    return total

  def all_ended(self, row, length, prompt=()):
    """Every sequence of at most `length` tokens that ends, with its log p."""
    middle = [t for t in range(1, VOCAB) if t != EOS]
    for n in range(length):
      for tokens in itertools.product(middle, repeat=n):
        yield (*tokens, EOS), self.log_prob(row, (*tokens, EOS), prompt)


def padded(tokens, length):
  return list(tokens) + [0] * (length - len(tokens))


def count_steps(model):
  """Returns tokens_to_logits that counts its calls at run time, and them."""
  calls = []

  def counted(state):
    jax.debug.callback(lambda _: calls.append(1), state.cur_token)
    return model(state)

  return counted, calls


class TableModel:
  """Logits that depend on the fed token alone."""

  def __init__(self, probs):
    self.logits = jnp.log(jnp.asarray(probs, jnp.float32))
    self.cache = {}

  def __call__(self, state):
    return self.logits[state.cur_token[:, 0]], state.cache
