"""Each stock size has the published number of parameters.

The exact numbers are those of the released checkpoints of the same name on
Hugging Face (each parameter once), which follow from the published dimensions:

  embedding (and logits, where they have their own) V D,
  each layer 4 D H K for each attention, (2 or 3) D F and D for each norm,
  a norm D and 32 H relative position biases for each stack.

The rounded ones are those of the papers: T5 (Raffel et al. 2020, section 3.7),
mT5 (Xue et al. 2021, section 3.3), ByT5 (Xue et al. 2022, table 1); T5 1.1 has
only been published as code and checkpoints.
"""

import pathlib

import jax
import jax.numpy as jnp
import pytest

import gin
from t5x.examples.t5 import network
from tests.t5x import entry_points

_SIZES = pathlib.Path(network.__file__).parent
_NUMBERS = {
  't5_1_1/tiny': (518_240, None),
  'byt5/tiny': (10_336, None),
  't5_1_1/small': (76_961_152, None),
  't5_1_1/base': (247_577_856, None),
  't5_1_1/large': (783_150_080, None),
  't5_1_1/xl': (2_849_757_184, None),
  't5_1_1/xxl': (11_135_332_352, None),
  't5_1_0/small': (60_506_624, 60e6),
  't5_1_0/base': (222_903_552, 220e6),
  't5_1_0/large': (737_668_096, 770e6),
  't5_1_0/3B': (2_851_598_336, 2.8e9),
  't5_1_0/11B': (11_307_321_344, 11e9),
  'mt5/small': (300_176_768, 300e6),
  'mt5/base': (582_401_280, 580e6),
  'mt5/large': (1_229_581_312, 1.2e9),
  'mt5/xl': (3_742_619_648, 3.7e9),
  'mt5/xxl': (12_921_057_280, 13e9),
  'byt5/small': (299_637_760, 300e6),
  'byt5/base': (581_653_248, 582e6),
  'byt5/large': (1_228_183_552, 1.23e9),
  'byt5/xl': (3_737_801_728, 3.74e9),
  'byt5/xxl': (12_906_899_328, 12.9e9),
}


def config_of(size) -> network.T5Config:
  with entry_points.main_module(network):
    entry_points.parse([_SIZES / f'{size}.gin'], DROPOUT_RATE=0.0)
    return gin.get_configurable(network.T5Config)()


def dimensions_count(c: network.T5Config) -> int:
  """The formula above."""
  attention = 4 * c.emb_dim * c.num_heads * c.head_dim
  mlp = (len(c.mlp_activations) + 1) * c.emb_dim * c.mlp_dim
  tables = 1 if c.logits_via_embedding else 2
  return (
    tables * c.vocab_size * c.emb_dim
    + c.num_encoder_layers * (attention + mlp + 2 * c.emb_dim)
    + c.num_decoder_layers * (2 * attention + mlp + 3 * c.emb_dim)
    + 2 * (c.emb_dim + 32 * c.num_heads)
  )


@pytest.mark.parametrize('size', _NUMBERS)
def test_a_stock_size_has_the_published_number_of_parameters(size):
  exact, rounded = _NUMBERS[size]
  config = config_of(size)
  assert dimensions_count(config) == exact
  assert rounded is None or exact == pytest.approx(rounded, rel=0.05)
  if not size.startswith('t5'):
    return  # The same network as T5 1.1.
  # Traces one layer of each stack, and gives all of them their shapes.
  module = network.Transformer(config.replace(scan_layers=True))
  tokens = jnp.ones((1, 2), jnp.int32)
  params = jax.eval_shape(
    lambda key: module.init(key, tokens, tokens, tokens, enable_dropout=False),
    jax.random.key(0),
  )['params']
  assert sum(x.size for x in jax.tree.leaves(params)) == exact


def test_every_stock_size_is_counted():
  files = {f'{p.parent.name}/{p.stem}' for p in _SIZES.glob('*/*.gin')}
  assert files == set(_NUMBERS)
