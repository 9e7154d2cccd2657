"""scalable_t5: the names of its parameters, and the numbers of the network."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from t5x import adafactor, decoding, models
from t5x.errors import UserError
from t5x.examples.scalable_t5 import layers, network
from t5x.examples.t5 import network as t5_network
from tests import golden_data
from tests.t5x import entry_points, tiny_model

VOCAB = types.SimpleNamespace(eos_id=1, vocab_size=64)
# Sizes that tell all axes apart.
SIZES = {
  'vocab_size': 64,
  'emb_dim': 16,
  'num_heads': 4,
  'head_dim': 5,
  'num_encoder_layers': 2,
  'num_decoder_layers': 3,
  'mlp_dim': 24,
  'mlp_activations': ('gelu', 'linear'),
  'dropout_rate': 0.0,
  'relative_attention_num_buckets': 8,
}
# Name of a parameter: shape and logical axes of T5X's.
KNOWN = {
  'token_embedder/embedding': ((64, 16), ('vocab', 'embed')),
  'encoder/encoder_norm/scale': ((16,), ('embed',)),
  'decoder/decoder_norm/scale': ((16,), ('embed',)),
  'decoder/logits_dense/kernel': ((16, 64), ('embed', 'vocab')),
  'encoder/encoder/pre_attention_layer_norm/scale': (
    (16, 2),
    ('embed', 'layers'),
  ),
  'encoder/encoder/relpos_bias/rel_embedding': (
    (4, 2, 8),
    ('heads', 'layers', 'relpos_buckets'),
  ),
  'encoder/encoder/attention/query/kernel': (
    (16, 2, 4, 5),
    ('embed', 'layers', 'heads', 'kv'),
  ),
  'encoder/encoder/attention/out/kernel': (
    (4, 2, 5, 16),
    ('heads', 'layers', 'kv', 'embed'),
  ),
  'decoder/decoder/relpos_bias/rel_embedding': (
    (4, 3, 8),
    ('heads', 'layers', 'relpos_buckets'),
  ),
  'decoder/decoder/encoder_decoder_attention/key/kernel': (
    (16, 3, 4, 5),
    ('embed', 'layers', 'heads', 'kv'),
  ),
  'decoder/decoder/mlp/wi_0/kernel': (
    (16, 3, 24),
    ('embed', 'layers', 'mlp'),
  ),
  'decoder/decoder/mlp/wo/kernel': (
    (24, 3, 16),
    ('mlp', 'layers', 'embed'),
  ),
}
# Of a layer: its norms, and the matrices of its parts.
IN_A_LAYER = {'encoder': 2 + 4 + 3 + 1, 'decoder': 3 + 8 + 3 + 1}


@pytest.fixture(scope='module', autouse=True)
def _compilation(tmp_path_factory):
  with entry_points.shared_compilation(tmp_path_factory.mktemp('compiled')):
    yield


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


def drawn(**options):
  module = network.Transformer(network.T5Config(**SIZES, **options))
  tokens = jnp.ones((1, 3), jnp.int32)
  return jax.jit(
    lambda: module.init(
      jax.random.key(0), tokens, tokens, tokens, enable_dropout=False
    )
  )()


variables = functools.cache(drawn)


def one_by_one(params, axis):
  """The parameters of a layer each, as t5x.examples.t5 names and shapes them.

  Written out here, apart from the conversion of checkpoints.
  """
  made = {}
  for name, leaf in flat(params).items():
    parts = name.split('/')
    if parts[:2] not in (['encoder', 'encoder'], ['decoder', 'decoder']):
      made[name] = leaf
      continue
    for i, one in enumerate(np.moveaxis(np.asarray(leaf), axis, 0)):
      if parts[-2] in ('query', 'key', 'value'):
        one = one.reshape(one.shape[0], -1)
      if parts[-2] == 'out':
        one = one.reshape(-1, one.shape[-1])
      made['/'.join([parts[0], f'layers_{i}', *parts[2:]])] = one
  return traverse_util.unflatten_dict(made, sep='/')


def plain_module():
  return t5_network.Transformer(
    t5_network.T5Config(**SIZES, relative_bias_per_layer=True)
  )


def test_parameters_have_the_names_shapes_and_axes_of_t5x():
  made = variables()
  shapes = {name: leaf.shape for name, leaf in flat(made['params']).items()}
  assert len(shapes) == 4 + sum(IN_A_LAYER.values())
  assert {name: shapes[name] for name in KNOWN} == {
    name: shape for name, (shape, _) in KNOWN.items()
  }
  axes = {
    name.removesuffix('_axes'): tuple(leaf.names)
    for name, leaf in flat(made['params_axes']).items()
  }
  assert axes.keys() == shapes.keys()
  assert {name: axes[name] for name in KNOWN} == {
    name: names for name, (_, names) in KNOWN.items()
  }


def test_without_a_loop_each_layer_has_its_own_parameters():
  made = jax.eval_shape(lambda: drawn(scan_layers=False))['params']
  shapes = {name: leaf.shape for name, leaf in flat(made).items()}
  assert shapes['encoder/layers_1/relpos_bias/rel_embedding'] == (4, 8)
  assert shapes['decoder/layers_2/self_attention/out/kernel'] == (4, 5, 16)
  assert not any(name.startswith('encoder/encoder/') for name in shapes)


def test_layers_draw_values_of_the_same_scale_as_in_t5():
  stacked = flat(variables()['params'])
  kernel = stacked['encoder/encoder/attention/out/kernel']
  # Its fan in is heads * head size.
  assert np.std(kernel) == pytest.approx(20**-0.5, rel=0.1)
  query = stacked['decoder/decoder/self_attention/query/kernel']
  assert np.std(query) == pytest.approx((16 * 5) ** -0.5, rel=0.1)
  assert np.abs(kernel[:, 0] - kernel[:, 1]).max() > 0.01


@pytest.mark.parametrize(
  'options',
  [{}, pytest.param({'param_scan_axis': 0}, marks=pytest.mark.slow)],
)
def test_loss_and_gradients_are_those_of_layers_one_by_one(options):
  module = network.Transformer(
    network.T5Config(**SIZES, remat_policy='minimal', **options)
  )
  params = variables(**options)['params']
  axis = options.get('param_scan_axis', 1)
  batch = tiny_model.batch(rows=2)

  def grads(module, params):
    model = models.EncoderDecoderModel(
      module, VOCAB, VOCAB, adafactor.Adafactor()
    )
    loss = jax.jit(
      jax.value_and_grad(lambda p: model.loss_fn(p, batch, None)[0])
    )
    value, found = loss(params)
    return float(value), found

  value, found = grads(module, params)
  same, expected = grads(plain_module(), one_by_one(params, axis))
  assert value == pytest.approx(same, rel=1e-5)
  found = flat(one_by_one(found, axis))
  for name, one in flat(expected).items():
    np.testing.assert_allclose(
      found[name], one, rtol=1e-4, atol=1e-5 * np.abs(one).max(), err_msg=name
    )
  table = found['decoder/layers_2/relpos_bias/rel_embedding']
  assert np.abs(table).max() > 0


@pytest.mark.parametrize('search', ['beam', 'greedy'])
def test_decoding_with_a_cache_gives_the_tokens_of_layers_one_by_one(search):
  decode_fn, decodes = decoding.beam_search, 3
  if search == 'greedy':
    decode_fn, decodes = decoding.temperature_sample, 1
  params = variables()['params']
  batch = tiny_model.batch(rows=2)
  tokens, scores = [], []
  for module, tree in (
    (network.Transformer(network.T5Config(**SIZES)), params),
    (plain_module(), one_by_one(params, 1)),
  ):
    model = models.EncoderDecoderModel(
      module, VOCAB, VOCAB, adafactor.Adafactor(), decode_fn=decode_fn
    )
    predict = functools.partial(
      model.predict_batch_with_aux,
      num_decodes=decodes,
      return_all_decodes=True,
    )
    found, aux = jax.jit(predict)(tree, batch)
    tokens.append(found)
    scores.append(aux['scores'])
    if search == 'greedy':
      # Without a cache, each token is the likeliest after those before it.
      row = np.asarray(found[:, 0])
      shifted = np.pad(row, ((0, 0), (1, 0)))[:, :-1]
      logits = jax.jit(
        lambda tree, module=module, row=row, shifted=shifted: module.apply(
          {'params': tree},
          batch['encoder_input_tokens'],
          shifted,
          np.ones_like(row),
          enable_dropout=False,
        )
      )(tree)
      ended = np.cumsum(shifted == VOCAB.eos_id, axis=1) > 0
      likeliest = np.where(ended, row, np.argmax(logits, axis=-1))
      np.testing.assert_array_equal(row, likeliest)
  np.testing.assert_array_equal(*tokens)
  np.testing.assert_allclose(*scores, rtol=1e-5)


def test_its_layers_are_those_of_t5_but_for_the_heads():
  x = jnp.ones((1, 2, 6))
  made = jax.eval_shape(
    lambda: layers.MultiHeadDotProductAttention(num_heads=2, head_dim=3).init(
      jax.random.key(0), x, x, deterministic=True
    )
  )['params']
  assert made['query']['kernel'].shape == (6, 2, 3)
  assert made['out']['kernel'].shape == (2, 3, 6)


def test_one_table_for_a_stack_gives_the_numbers_of_t5():
  golden = golden_data.load('t5x_1_1')
  config = network.T5Config(
    **golden.config_kwargs, relative_bias_per_layer=False, scan_layers=False
  )
  # Heads as in T5X's checkpoint of the t5 network.
  module = network.Transformer(config.replace(scalable_names=False))
  model = models.EncoderDecoderModel(
    module, VOCAB, VOCAB, adafactor.Adafactor()
  )
  scores = jax.jit(model.score_batch)(golden.params, golden.batch)
  np.testing.assert_allclose(scores, golden.decode['score_batch'], rtol=1e-4)


def test_an_axis_that_norms_lack_is_refused():
  with pytest.raises(UserError, match='param_scan_axis: expected one of 0, 1'):
    network.T5Config(**SIZES, param_scan_axis=2)
