"""What a checkpoint that does not fit a model most likely comes from."""

import re

import pytest

from t5x.checkpoints import matching

_OF_A_LAYER = 'target/encoder/layers_0/relpos_bias/rel_embedding'
_OF_A_STACK = 'target/encoder/relpos_bias/rel_embedding'


@pytest.mark.parametrize(
  ('missing', 'extra', 'cause'),
  [
    (
      _OF_A_STACK,
      _OF_A_LAYER,
      r'for each layer .* the model for each stack\. .*per_layer = True\.$',
    ),
    (
      _OF_A_LAYER,
      _OF_A_STACK,
      r'for each stack .* the model for each layer\. .*per_layer = False\.$',
    ),
  ],
)
def test_tables_of_biases_of_layers_and_of_stacks(missing, extra, cause):
  found = matching._cause_of_names([missing], [extra])
  assert found is not None and re.search(cause, found), found
