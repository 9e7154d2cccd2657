"""Low-rank adapters in the network."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from t5x import errors
from t5x.examples.t5 import dense, lora, network
from tests.t5x import tiny_model

KERNELS = (
  'query', 'key', 'value', 'out', 'wi_0', 'wi_1', 'wo', 'logits_dense'
)  # fmt: skip
LORA = {'lora_rank': 2, 'lora_alpha': 3.0, 'lora_kernels': KERNELS}


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


def nested(tree):
  return traverse_util.unflatten_dict(tree, sep='/')


def config(**options):
  return tiny_model.config(**{**LORA, **options})


@functools.cache
def _params(items):
  model = tiny_model.model(config=dict(items))
  params = flat(tiny_model.initial_variables(model)['params'])
  rng = np.random.default_rng(0)
  # Adapters start with b = 0.
  return {
    name: rng.normal(size=x.shape).astype(np.float32) * 0.3
    if name.endswith('/lora/b')
    else np.asarray(x)
    for name, x in params.items()
  }


def params_of(**options):
  return dict(_params(tuple({**LORA, **options}.items())))


def split(params):
  """Returns the kernels and the like, and the adapters."""
  adapters = {n: x for n, x in params.items() if '/lora/' in n}
  return {n: x for n, x in params.items() if n not in adapters}, adapters


def merged(base, adapters, scale, axis=0):
  """Adds adapters to kernels; `axis` is that of layers in a stack."""
  out = dict(base)
  for name in adapters:
    if name.endswith('/a'):
      a, b = adapters[name], adapters[f'{name[:-1]}b']
      place = f'{name.removesuffix("/lora/a")}/kernel'
      kernel = base[place]
      if a.ndim == 2:
        out[place] = kernel + (scale * (a @ b)).reshape(kernel.shape)
        continue
      a, b, kernel = (jnp.moveaxis(x, axis, 0) for x in (a, b, kernel))
      kernel = kernel + (scale * (a @ b)).reshape(kernel.shape)
      out[place] = jnp.moveaxis(kernel, 0, axis)
  return out


def loss_fn(options):
  model = tiny_model.model(config=options)
  batch = model.prepare_batch(tiny_model.batch(rows=2))
  return lambda params: model.loss_fn(nested(params), batch, None)[0]


def test_the_gradient_of_a_map_is_that_of_the_merged_kernel():
  with jax.enable_x64(True):
    rng = np.random.default_rng(1)
    x, w, a, b = (
      rng.normal(size=s) for s in ((3, 4, 6), (6, 10), (6, 2), (2, 10))
    )
    module = dense.DenseGeneral(
      10,
      dtype=jnp.float64,
      kernel_axes=('embed', 'mlp'),
      lora=lora.Lora(2, 3.0, 0.0, ('wi',)),
      name='wi',
    )

    def adapted(adapter):
      y = module.apply({'params': {'kernel': w, 'lora': adapter}}, x)
      return jnp.sum(jnp.sin(y))

    def reference(adapter):
      kernel = w + 1.5 * adapter['a'] @ adapter['b']
      return jnp.sum(jnp.sin(x @ kernel))

    found, expected = (
      jax.value_and_grad(f)({'a': a, 'b': b}) for f in (adapted, reference)
    )
    assert found[0].dtype == jnp.float64
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12),
      found,
      expected,
    )


@pytest.mark.parametrize(
  'options',
  [
    {'num_encoder_layers': 1, 'num_decoder_layers': 1},
    pytest.param({'scan_layers': True}, marks=pytest.mark.slow),
  ],
)
def test_the_network_s_gradient_follows_from_that_of_merged_kernels(options):
  """dL/da = s dL/dW bᵀ and dL/db = s aᵀ dL/dW, for W + s a b in all maps.

  dL/dW is the gradient of a network without adapters; the products are float64.
  Both networks compute in float32, in another order: their gradients agree to
  hundreds of roundings (2⁻²⁴ each, so 2e-5) of the largest number of a leaf. A
  wrong scale, or a part of the chain left out, is as large as that number.
  """
  params = params_of(**options)
  base, adapters = split(params)
  whole = {n: np.asarray(x) for n, x in merged(base, adapters, 1.5).items()}
  found = jax.jit(jax.grad(loss_fn({**LORA, **options})))(params)
  kernels = jax.jit(jax.grad(loss_fn(options)))(whole)
  places = [n.removesuffix('/lora/a') for n in adapters if n.endswith('/a')]
  assert {place.split('/')[-1] for place in places} == set(KERNELS)
  for place in places:
    a, b = (np.asarray(adapters[f'{place}/lora/{n}'], np.float64) for n in 'ab')
    gradient = np.asarray(kernels[f'{place}/kernel'], np.float64)
    gradient = gradient.reshape(*a.shape[:-1], b.shape[-1])
    expected = {
      'a': 1.5 * gradient @ np.swapaxes(b, -1, -2),
      'b': 1.5 * np.swapaxes(a, -1, -2) @ gradient,
    }
    for part, reference in expected.items():
      size = np.abs(reference).max()
      assert size > 0, place
      np.testing.assert_allclose(
        found[f'{place}/lora/{part}'],
        reference,
        rtol=0,
        atol=2e-5 * size,
        err_msg=f'{place}/lora/{part}',
      )


def check_gradients(axis=0, **options):
  """The gradient of the adapters is the chain rule's of the merged kernels."""
  params = params_of(**options)
  base, adapters = split(params)
  plain = {**options, 'lora_rank': 0}

  def through_kernels(adapters):
    return loss_fn(plain)(merged(base, adapters, 1.5, axis))

  def through_network(adapters):
    return loss_fn({**LORA, **options})({**base, **adapters})

  found, expected = (
    jax.jit(jax.value_and_grad(f))(adapters)
    for f in (through_network, through_kernels)
  )
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
  assert found[1].keys() == adapters.keys()
  assert len(adapters) >= 2 * len(KERNELS)
  for name, gradient in found[1].items():
    reference = expected[1][name]
    assert np.abs(reference).max() > 0, name
    np.testing.assert_allclose(
      gradient, reference, atol=1e-4 * np.abs(reference).max(), err_msg=name
    )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('axis', 'options'),
  [
    (0, {}),
    (0, {'scan_layers': True, 'remat_policy': 'minimal'}),
    (0, {'remat_policy': 'full'}),
    (0, {'scan_layers': True, 'num_encoder_layers': 3}),
    (1, {'scan_layers': True, 'param_scan_axis': 1, 'scalable_names': True,
         'remat_policy': 'full', 'num_decoder_layers': 2}),
  ],
)  # fmt: skip
def test_the_gradient_is_that_of_the_merged_kernels(axis, options):
  check_gradients(axis, **options)


@pytest.mark.slow
def test_a_full_rank_gives_every_model_of_its_size():
  """Adapters of full rank turn one random model into another one's maps."""
  options = {'lora_rank': 16, 'lora_alpha': 16.0, 'scan_layers': True}
  base, adapters = split(params_of(**options))
  rng = np.random.default_rng(7)
  other = dict(base)
  for name in [n for n in adapters if n.endswith('/a')]:
    place = name.removesuffix('/lora/a')
    kernel = base[f'{place}/kernel']
    wanted = rng.normal(size=kernel.shape).astype(np.float32) * 0.2
    other[f'{place}/kernel'] = wanted
    u, s, v = np.linalg.svd(wanted - kernel, full_matrices=False)
    assert s.shape[-1] == 16
    adapters[name] = u * s[..., None, :]
    adapters[f'{place}/lora/b'] = v
  found = jax.jit(loss_fn({**LORA, **options}))({**base, **adapters})
  plain = jax.jit(loss_fn({'scan_layers': True}))
  np.testing.assert_allclose(found, plain(other), rtol=1e-4)
  assert abs(plain(base) - plain(other)) > 0.1


def config_options(**options):
  return {**LORA, **options}


def test_adapters_are_drawn_beside_the_same_weights_rounded():
  """New ones add 0."""
  plain, drawn = (
    flat(tiny_model.initial_variables(tiny_model.model(config=c))['params'])
    for c in (
      {'scan_layers': True},
      config_options(scan_layers=True, param_dtype='bfloat16'),
    )
  )
  base, adapters = split(drawn)
  assert base.keys() == plain.keys()
  for name, leaf in base.items():
    kind = jnp.float32 if name.endswith('/scale') else jnp.bfloat16
    assert leaf.dtype == kind, name
    np.testing.assert_array_equal(leaf, plain[name].astype(kind), err_msg=name)
  for name, leaf in adapters.items():
    assert leaf.dtype == jnp.float32, name
    size = np.abs(leaf).max()
    assert size == 0 if name.endswith('/b') else 0 < size <= 0.25, name


def test_the_dropout_of_adapters_is_for_training():
  module = dense.DenseGeneral(
    5,
    kernel_axes=('embed', 'mlp'),
    lora=lora.Lora(2, 2.0, 0.5, ('wo',)),
    name='wo',
  )
  x = jnp.ones((2, 3, 64))
  params = module.init(jax.random.key(0), x)['params']
  adapter = {'a': jnp.ones((64, 2)), 'b': jnp.ones((2, 5))}
  variables = {'params': {**params, 'lora': adapter}}
  rngs = {'dropout': jax.random.key(1)}
  still = module.apply(variables, x, rngs=rngs)
  dropped = module.apply(variables, x, deterministic=False, rngs=rngs)
  plain = x @ params['kernel']
  np.testing.assert_allclose(still, plain + 128, rtol=1e-5)
  moved = np.asarray(dropped - plain)
  # One mask for all positions of a row.
  np.testing.assert_allclose(moved, np.broadcast_to(moved[:, :1], moved.shape))
  assert abs(moved - 128).min() > 1 and abs(moved - 128).max() < 64
  assert np.all(moved[0] != moved[1])
  # Between -1 / 8 and 1 / 8, the root of 64 inputs.
  drawn = np.abs(params['lora']['a'])
  assert 0.95 / 8 < drawn.max() <= 1 / 8 and drawn.min() < 0.01


def test_adapters_have_the_axes_of_their_kernel_as_a_matrix():
  for axes, contracted, expected in (
    (('embed', 'mlp'), 1, ('embed', 'mlp')),
    (('embed', 'heads', 'kv'), 1, ('embed', 'joined_kv')),
    (('heads', 'kv', 'embed'), 2, ('joined_kv', 'embed')),
    # Of a kernel that is stored as a matrix, of which two axes are contracted.
    (('joined_kv', 'embed'), 2, ('joined_kv', 'embed')),
  ):
    assert lora.axes_of(axes, contracted) == expected


@pytest.mark.parametrize(
  ('options', 'said'),
  [
    ({'lora_kernels': ('qeury',)}, "lora_kernels: .*'qeury'.*mean 'query'"),
    ({'lora_kernels': ('wi',)}, 'lora_kernels: .*wi_0'),
    ({'lora_kernels': ()}, 'lora_kernels: expected names'),
    ({'lora_rank': -1}, 'lora_rank: expected a rank'),
    ({'lora_alpha': 0.0}, 'lora_alpha: expected a positive'),
    ({'lora_alpha': -1.0}, 'lora_alpha: expected a positive'),
    ({'lora_dropout_rate': 1.0}, 'lora_dropout_rate: expected 0 to below 1'),
    ({'lora_dropout_rate': 1.5}, 'lora_dropout_rate: expected 0 to below 1'),
    ({'lora_dropout_rate': -0.1}, 'lora_dropout_rate: expected 0 to below 1'),
    ({'param_dtype': 'float16'}, "param_dtype: expected 'float32'"),
    (
      {'logits_via_embedding': True},
      "lora_kernels: .*found 'logits_dense'",
    ),
  ],
)
def test_adapters_that_cannot_be_are_refused(options, said):
  with pytest.raises(errors.UserError, match=said):
    config(**options)


def test_the_config_says_what_adapters_are():
  assert tiny_model.config().lora is None
  assert dataclasses.asdict(config(lora_kernels=['wo']).lora) == {
    'rank': 2, 'alpha': 3.0, 'dropout_rate': 0.0, 'kernels': ('wo',)
  }  # fmt: skip
  assert isinstance(config(), network.T5Config)
  # A layer's attributes, by which programs are told apart.
  assert len({config().lora, config().lora}) == 1
  # The least that there can be, and the name of a single activation's kernel.
  assert config(lora_rank=1, lora_alpha=0.5).lora.scale == 0.5
  single = config(mlp_activations=('relu',), lora_kernels=('wi', 'wo'))
  assert single.lora.kernels == ('wi', 'wo')


@pytest.mark.slow
def test_decoding_adapts_what_it_caches():
  params = params_of(scan_layers=True)
  base, adapters = split(params)
  batch = tiny_model.batch(rows=4)
  tokens = [
    tiny_model.model(config=options).predict_batch(nested(tree), batch)
    for options, tree in (
      (config_options(scan_layers=True), params),
      ({'scan_layers': True}, merged(base, adapters, 1.5)),
    )
  ]
  np.testing.assert_array_equal(*tokens)
  assert len(np.unique(tokens[0])) > 3
