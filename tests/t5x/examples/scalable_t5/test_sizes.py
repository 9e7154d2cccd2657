"""Each stock size has the parameters that its published dimensions give.

They are those of T5 1.1 (see `tests/t5x/examples/t5/test_sizes.py`), but each
layer has 32 H relative position biases. The dimensions of umT5 are those of
mT5, with a larger vocabulary.
"""

import pathlib

import jax
import jax.numpy as jnp
import pytest

import gin
from t5x.examples.scalable_t5 import network
from tests.t5x import entry_points

_FILES = sorted(pathlib.Path(network.__file__).parent.glob('*/*.gin'))
# D, H, layers of a stack, F; 64 is K everywhere.
_SIZES = {
  'small': (512, 6, 8, 1024),
  'base': (768, 12, 12, 2048),
  'large': (1024, 16, 24, 2816),
  'xl': (2048, 32, 24, 5120),
  'xxl': (4096, 64, 24, 10240),
}
_VOCABULARIES = {'t5_1_1': 32128, 'umt5': 256384}


def _name(path):
  return f'{path.parent.name}/{path.stem}'


def test_the_files_are_t5xs():
  assert [_name(path) for path in _FILES] == [
    *(f't5_1_1/{size}' for size in sorted(_SIZES)),
    *(f'umt5/pretrain_{size}' for size in ('base', 'small', 'xl', 'xxl')),
  ]


@pytest.mark.parametrize('path', _FILES, ids=_name)
def test_a_stock_size_has_its_number_of_parameters(path):
  with entry_points.main_module(network):
    entry_points.parse([path], DROPOUT_RATE=0.0)
    module = gin.get_configurable(network.Transformer)()
  assert type(module.config) is network.T5Config
  d, heads, layers, f = _SIZES[path.stem.removeprefix('pretrain_')]
  attention, mlp = 4 * d * heads * 64, 3 * d * f
  exact = (
    2 * _VOCABULARIES[path.parent.name] * d
    + layers * (attention + mlp + 2 * d + 32 * heads)
    + layers * (2 * attention + mlp + 3 * d + 32 * heads)
    + 2 * d
  )
  tokens = jnp.ones((1, 2), jnp.int32)
  params = jax.eval_shape(
    lambda key: module.init(key, tokens, tokens, tokens, enable_dropout=False),
    jax.random.key(0),
  )['params']
  assert sum(x.size for x in jax.tree.leaves(params)) == exact
  assert set(params['decoder']['decoder']) == {
    'encoder_decoder_attention',
    'mlp',
    'pre_cross_attention_layer_norm',
    'pre_mlp_layer_norm',
    'pre_self_attention_layer_norm',
    'relpos_bias',
    'self_attention',
  }
