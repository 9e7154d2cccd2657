"""What an encoder-decoder model passes to its network, ours or another's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from t5x import adafactor, decoding, models
from tests.t5x import tiny_model
from tests.t5x.examples.t5 import test_network

_TOKENS = (
  'encoder_input_tokens',
  'decoder_input_tokens',
  'decoder_target_tokens',
)
_PACKING = (
  'encoder_segment_ids',
  'decoder_segment_ids',
  'encoder_positions',
  'decoder_positions',
)


class Noting(nn.Module):
  """A network that adds what it is given to a list, through `note`."""

  note: object

  @nn.compact
  def __call__(self, *tokens, **kwargs):
    self.note((tokens, kwargs, self.has_rng('dropout')))
    return jnp.zeros((*tokens[2].shape, 64))


def noting_model(network, **kwargs):
  return models.EncoderDecoderModel(
    network, tiny_model.VOCAB, tiny_model.VOCAB, adafactor.Adafactor(), **kwargs
  )


def test_a_network_is_given_every_feature_of_a_batch():
  notes = []
  model = noting_model(Noting(notes.append))
  batch = {
    name: np.full((2, 8), number)
    for number, name in enumerate(_TOKENS + _PACKING)
  }
  model._compute_logits({}, batch, jax.random.key(0))
  model._compute_logits({}, batch)
  for (tokens, kwargs, has_key), trains in zip(
    notes, (True, False), strict=True
  ):
    assert [int(x[0, 0]) for x in tokens] == [0, 1, 2]
    assert kwargs.pop('enable_dropout') is trains is has_key
    assert kwargs.pop('decode') is False
    assert {name: int(x[0, 0]) for name, x in kwargs.items()} == {
      name: number for number, name in enumerate(_PACKING, start=3)
    }


def test_a_network_is_initialized_with_every_shape_and_type():
  notes = []
  model = noting_model(Noting(notes.append))
  names = [name for name in _TOKENS + _PACKING if 'target' not in name]
  shapes = {name: (2, 3 + number) for number, name in enumerate(names)}
  model.get_initial_variables(
    jax.random.key(0), shapes, {name: jnp.int16 for name in names[:3]}
  )
  model.get_initial_variables(
    jax.random.key(0), {name: shapes[name] for name in names[:2]}
  )
  (tokens, kwargs, _), (_, unpacked, _) = notes
  assert [x.shape for x in tokens] == [(2, 3), (2, 4), (2, 4)]
  assert kwargs.pop('enable_dropout') is kwargs.pop('decode') is False
  assert {name: x.shape for name, x in kwargs.items()} == {
    name: shapes[name] for name in _PACKING
  }
  # Ones are tokens and segments; zeros would be padding.
  assert all(np.all(x == 1) for x in (*tokens, *kwargs.values()))
  assert [x.dtype for x in tokens] == [jnp.int16] * 3
  assert kwargs['encoder_segment_ids'].dtype == jnp.int16
  assert kwargs['decoder_positions'].dtype == jnp.int32
  assert [unpacked[name] for name in _PACKING] == [None] * 4


class Foreign(nn.Module):
  """A network of another's, with nothing that only ours has."""

  note: object

  def encode(self, tokens, enable_dropout=True):
    self.note({'enable_dropout': enable_dropout})
    return jnp.zeros((*tokens.shape, 4))

  @nn.compact
  def decode(self, encoded, inputs, tokens, targets, **kwargs):
    self.note({'rows': (len(encoded), len(inputs)), **kwargs})
    self.variable('cache', 'seen', jnp.zeros, (len(encoded), 1))
    return jnp.zeros((*tokens.shape, 64))


def one_step(seen):
  """A decode function of one step, which notes what it is given and gets."""

  def decode_fn(tokens_to_logits, cache, inputs, num_decodes, **kwargs):
    tokens = jnp.zeros((len(inputs) * num_decodes, 1), jnp.int32)
    cache = jax.tree.map(
      lambda x: jnp.repeat(x, num_decodes, 0) if x.ndim else x, cache
    )
    state = decoding.DecodingState(tokens[:, 0], tokens, tokens, cache)
    logits, cache = tokens_to_logits(state)
    seen.update(kwargs, logits=logits, cache=cache)
    return inputs[:, None], jnp.zeros((len(inputs), 1))

  return decode_fn


def program_of(model, params, rows, num_decodes):
  batch = tiny_model.batch(rows=rows)
  return jax.make_jaxpr(
    lambda params: model.predict_batch_with_aux(
      params, batch, num_decodes=num_decodes
    )
  )(params)


@pytest.mark.parametrize(('rows', 'num_decodes'), [(2, 3), (1, 1)])
def test_another_network_gets_a_row_of_each_decode_and_the_length(
  rows, num_decodes
):
  notes, seen = [], {}
  model = noting_model(Foreign(notes.append), decode_fn=one_step(seen))
  program_of(model, {}, rows, num_decodes)
  assert seen['cache_offset'] == 0
  assert seen['logits'].shape == (rows * num_decodes, 64)
  assert seen['cache']['seen'].shape == (rows * num_decodes, 1)
  encode, make, decode = notes
  assert encode == {'enable_dropout': False}
  assert make.pop('rows') == (rows, rows)
  assert make == {'decode': True, 'enable_dropout': False}
  assert decode.pop('rows') == (rows * num_decodes,) * 2
  assert decode == make | {'max_decode_length': 8}


def test_a_step_of_ours_projects_nothing_of_the_inputs_again():
  seen = {}
  model = tiny_model.model(decode_fn=one_step(seen))
  params = jax.eval_shape(lambda: tiny_model.initial_variables(model)['params'])
  # One row, so that no other axis than that of positions is left out.
  program = program_of(model, params, 1, 1)
  assert seen['logits'].shape == (1, 64)
  of_inputs = [
    equation
    for equation in test_network.equations(program.jaxpr)
    if equation.primitive.name == 'dot_general'
    if equation.invars[0].aval.shape == (1, 12, 16)
  ]
  # Six of the encoder's layer, and keys and values of cross attention, once.
  assert len(of_inputs) == 8
