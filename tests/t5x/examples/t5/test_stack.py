"""Layers in a loop, rematerialized: the numbers of the plain network."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec

from t5x import adafactor, decoding, models, partitioning, train_state, trainer
from t5x.errors import UserError
from t5x.examples.t5 import network
from tests import golden_data, stacked_trees
from tests.t5x import entry_points, tiny_model

VOCAB = types.SimpleNamespace(eos_id=1, vocab_size=384)
LAYERS = {'num_encoder_layers': 2, 'num_decoder_layers': 2}
ROWS = 8
# What the backward pass keeps decides about memory, and nothing else.
POLICIES = ('none', 'minimal', 'full')


@pytest.fixture(scope='module', autouse=True)
def _quick_compilation(tmp_path_factory):
  with entry_points.shared_compilation(tmp_path_factory.mktemp('compiled')):
    yield


@functools.cache
def variables():
  """Variables of the unrolled network, drawn once."""
  # Numbers, also if the first to ask is being traced.
  with jax.ensure_compile_time_eval():
    return tiny_model.initial_variables(
      tiny_model.model(config={'dropout_rate': 0.2, **LAYERS})
    )


def made(model):
  """Shapes of a model's variables."""
  return jax.eval_shape(lambda: tiny_model.initial_variables(model))


def model(scan, policy, **config):
  return tiny_model.model(
    adafactor.Adafactor(min_dim_size_to_factor=8),
    config={
      'scan_layers': scan,
      'remat_policy': policy,
      **LAYERS,
      **config,
    },
    z_loss=1e-3,
    loss_normalizing_factor='NUM_REAL_TARGET_TOKENS',
  )


def state(model, scan):
  """A train state with the parameters of `variables`."""
  axes = made(model)['params_axes']
  params = variables()['params']
  params = stacked_trees.stacked(params) if scan else params
  return train_state.FlaxOptimTrainState.create(
    model.optimizer_def,
    {'params': jax.tree.map(jnp.array, params), 'params_axes': axes},
  )


def make_partitioner(mesh, dims):
  return partitioning.PjitPartitioner(
    num_partitions=mesh[1],
    devices=jax.devices()[: mesh[0] * mesh[1]],
    logical_axis_rules=partitioning.standard_logical_axis_rules(
      activation_partitioning_dims=dims, parameter_partitioning_dims=dims
    ),
  )


@functools.cache
def trained(scan, policy, mesh=(1, 1), dims=1, dropout=False):
  """Loss, gradients, and parameters and optimizer after a step."""
  the_model = model(scan, policy, dropout_rate=0.2 if dropout else 0.0)
  start = state(the_model, scan)
  partitioner = make_partitioner(mesh, dims)
  axes = partitioner.get_mesh_axes(start)
  rng = jax.random.key(5) if dropout else None

  def fn(state, batch):
    grads, metrics, _ = trainer.accumulate_grads_microbatched(
      the_model, state, the_model.prepare_batch(batch), rng, None
    )
    loss = metrics['loss'].compute()
    return loss, grads, state.apply_gradient(grads, learning_rate=0.01)

  loss, grads, end = partitioner.partition(
    fn, (axes, PartitionSpec('data')), (None, axes.params, axes)
  )(
    partitioner.move_params_to_devices(start, axes),
    partitioner.shard_batch(tiny_model.batch(rows=ROWS)),
  )
  tree = {'grads': grads, **end.state_dict()}
  tree = stacked_trees.unstacked(jax.tree.map(np.asarray, tree))
  return float(loss), traverse_util.flatten_dict(tree, sep='/')


def check_same(found, expected, rtol=1e-5):
  np.testing.assert_allclose(found[0], expected[0], rtol=rtol)
  assert found[1].keys() == expected[1].keys()
  for name, value in expected[1].items():
    np.testing.assert_allclose(
      found[1][name],
      value,
      rtol=rtol,
      # Sums of other orders: relative to the largest number of an array.
      atol=rtol * np.abs(value).max(),
      err_msg=name,
    )


QUICK = [(True, 'minimal', (4, 2), 2)]
ALL = [
  (scan, policy, mesh, dims)
  for scan in (False, True)
  for policy in POLICIES
  for mesh in ((1, 1), (8, 1), (4, 2), (2, 4))
  for dims in (1, 2)
  if (scan, policy, mesh, dims) not in QUICK
]


@pytest.mark.parametrize(('scan', 'policy', 'mesh', 'dims'), QUICK)
def test_loss_gradients_and_adafactor_are_those_of_the_plain_network(
  scan, policy, mesh, dims
):
  check_same(trained(scan, policy, mesh, dims), trained(False, 'none'))


@pytest.mark.slow
@pytest.mark.parametrize(('scan', 'policy', 'mesh', 'dims'), ALL)
def test_loss_gradients_and_adafactor_are_the_same_on_all_meshes(
  scan, policy, mesh, dims
):
  check_same(trained(scan, policy, mesh, dims), trained(False, 'none'))


def test_adafactor_factors_each_layer_of_a_stack():
  the_state = jax.eval_shape(lambda: state(model(True, 'none'), True))
  kept = the_state.param_states['encoder']['layers']['mlp']['wo']['kernel']
  assert kept.v_row.shape == (2, 16)
  assert kept.v_col.shape == (2, 32)
  axes = the_state.as_logical_axes().param_states
  axes = axes['encoder']['layers']['mlp']['wo']['kernel']
  assert axes.v_row == PartitionSpec('layers', 'embed')


@pytest.mark.slow
@pytest.mark.parametrize('scan', [False, True])
def test_dropout_is_the_same_when_it_is_computed_again(scan):
  plain = trained(scan, 'none', dropout=True)
  check_same(trained(scan, 'full', dropout=True), plain)
  assert plain[0] != pytest.approx(trained(True, 'none')[0], rel=1e-3)


def test_layers_of_a_loop_draw_their_own_parameters_and_dropout():
  module = network.Transformer(
    tiny_model.config(scan_layers=True, dropout_rate=0.5, **LAYERS)
  )
  tokens = jnp.ones((1, 3), jnp.int32)
  made = jax.jit(
    lambda: module.init(
      jax.random.key(0), tokens, tokens, tokens, enable_dropout=False
    )
  )()
  kernels = made['params']['decoder']['layers']['mlp']['wo']['kernel']
  assert kernels.shape == (2, 32, 16)
  assert np.abs(kernels[0] - kernels[1]).max() > 0.01
  names = made['params_axes']['decoder']['layers']['mlp']['wo']['kernel_axes']
  assert tuple(names.names) == ('layers', 'mlp', 'embed')
  # The same layer twice: only dropout tells the second from the first.
  doubled = jax.tree.map(
    lambda x: jnp.stack([x[0]] * len(x)), made['params']['encoder']['layers']
  )
  params = {
    **made['params'],
    'encoder': made['params']['encoder'] | {'layers': doubled},
  }
  masks = jax.jit(
    lambda: module.apply(
      {'params': params},
      tokens,
      method=module.encode,
      rngs={'dropout': jax.random.key(1)},
      capture_intermediates=lambda m, _: m.name == 'dropout',
      mutable=['intermediates'],
    )
  )()[1]['intermediates']['encoder']['layers']['dropout']['__call__']
  dropped = np.stack(masks) == 0
  assert dropped.shape[1] == 2
  assert not np.array_equal(dropped[:, 0], dropped[:, 1])


def golden_model(name, decode_fn=decoding.beam_search, **config):
  golden = golden_data.load(name)
  module = network.Transformer(
    network.T5Config(**golden.config_kwargs, scan_layers=True, **config)
  )
  assert module.scan_layers
  return models.EncoderDecoderModel(
    module, VOCAB, VOCAB, adafactor.Adafactor(), decode_fn=decode_fn
  ), stacked_trees.stacked(golden.params)


def test_scanned_beam_search_agrees_with_t5x():
  golden = golden_data.load('t5x_1_1')
  model, params = golden_model('t5x_1_1', remat_policy='minimal')
  sequences, aux = jax.jit(
    functools.partial(
      model.predict_batch_with_aux, num_decodes=4, return_all_decodes=True
    )
  )(params, golden.batch)
  np.testing.assert_array_equal(sequences, golden.decode['beam4_sequences'])
  np.testing.assert_allclose(
    aux['scores'], golden.decode['beam4_scores'], rtol=1e-4
  )


@pytest.mark.slow
def test_scanned_greedy_decoding_and_scores_agree_with_t5x():
  golden = golden_data.load('t5x_1_0')
  model, params = golden_model('t5x_1_0', decoding.temperature_sample)
  sequences = jax.jit(model.predict_batch)(params, golden.batch)
  np.testing.assert_array_equal(sequences, golden.decode['greedy_sequences'])
  scores = jax.jit(model.score_batch)(params, golden.batch)
  np.testing.assert_allclose(scores, golden.decode['score_batch'], rtol=1e-4)


def residual_bytes(scan, policy):
  """What the forward pass leaves for the backward pass, parameters aside."""
  the_model = model(scan, policy)
  batch = tiny_model.batch(rows=64)
  params = state(the_model, scan).params

  def kept(params):
    return jax.vjp(lambda p: the_model.loss_fn(p, batch, None)[0], params)[1]

  left = jax.tree.leaves(jax.eval_shape(kept, params))
  return sum(x.size * x.dtype.itemsize for x in left)


@pytest.mark.parametrize('scan', [False, True])
def test_policies_keep_less_and_less(scan):
  none, minimal, full = (residual_bytes(scan, p) for p in POLICIES)
  assert full < minimal < none
  assert full < 0.5 * none


def matrix_products(policy):
  """How many there are in a step's forward and backward pass."""
  the_model = model(True, policy)
  params = state(the_model, True).params
  batch = tiny_model.batch()
  program = jax.make_jaxpr(
    jax.grad(lambda p: the_model.loss_fn(p, batch, None)[0])
  )
  return str(program(params)).count('dot_general[')


@pytest.mark.parametrize('scan', [False, True])
def test_only_a_loop_lets_the_compiler_merge_the_two_computations(scan):
  # It would, elsewhere, and so keep all that is to be computed again.
  the_model = model(scan, 'full', num_decoder_layers=1)
  module, tokens = the_model.module, jnp.ones((1, 3), jnp.int32)
  program = jax.make_jaxpr(
    lambda params: module.apply(
      {'params': params}, tokens, enable_dropout=False, method=module.encode
    )
  )
  text = str(program(made(the_model)['params']))
  assert f'prevent_cse={not scan}' in text
  assert f'prevent_cse={scan}' not in text


def test_policies_that_keep_less_compute_more_again():
  none, minimal, full = map(matrix_products, POLICIES)
  assert none < minimal < full


def test_the_program_of_a_loop_does_not_grow_with_the_layers():
  def program(layers, scan):
    options = {
      'num_encoder_layers': layers,
      'num_decoder_layers': layers,
    }
    the_model = tiny_model.model(config={**options, 'scan_layers': scan})
    params = made(the_model)['params']
    batch = tiny_model.batch()
    program = jax.make_jaxpr(lambda p: the_model.loss_fn(p, batch, None)[0])
    return len(str(program(params)).splitlines())

  assert program(4, True) == program(2, True)
  assert program(4, False) > 1.5 * program(2, False)


def test_an_unknown_policy_is_refused():
  with pytest.raises(UserError, match=r"'minimla'\. Did you mean 'minimal'"):
    tiny_model.config(remat_policy='minimla')
