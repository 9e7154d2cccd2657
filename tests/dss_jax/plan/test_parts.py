"""Parts of the network, by the names of instructions."""

import pytest

from dss_jax.plan import parts


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    (
      'jvp(Transformer)/encoder/layers_3/attention/query/dot_general',
      'encoder self-attention',
    ),
    (
      'transpose(jvp(Transformer))/decoder/while/body/layers/'
      'encoder_decoder_attention/out/dot_general',
      'decoder cross attention',
    ),
    (
      'jvp(Transformer)/decoder/layers_0/mlp/dropout/mul',
      'decoder feed-forward',
    ),
    ('jvp(Transformer)/decoder/logits_dense/dot_general', 'logits and loss'),
    ('transpose(jvp(loss))/exp', 'logits and loss'),
    ('jvp(Transformer)/encoder/token_embedder/take', 'embedding'),
    ('jvp(Transformer)/token_embedder.attend/dot', 'logits and loss'),
    (
      'jvp(Transformer)/encoder/layers_1/pre_mlp_layer_norm/mul',
      'encoder norms and the rest',
    ),
    ('mul', 'optimizer and the rest'),
  ],
)
def test_an_instruction_belongs_to_the_part_that_made_it(name, expected):
  attributes = f', metadata={{op_name="jit(step)/{name}" stack_frame_id=3}}'
  assert parts.name(attributes) == expected


def test_an_instruction_of_the_compiler_has_no_name():
  assert parts.name(', backend_config={}') == 'without a name'


def test_the_account_adds_up_and_leaves_out_what_is_next_to_nothing():
  found = {
    'mlp': {'seconds': 0.006, 'products': 0.005, 'hbm_bytes': 2e9},
    'wait': {'seconds': 0.004, 'products': 0.0, 'hbm_bytes': 0.0},
    'tiny': {'seconds': 1e-9, 'products': 0.0, 'hbm_bytes': 0.0},
  }
  head, *rows = parts.lines(found, 0.01)
  assert [row[0] for row in rows] == ['mlp', 'wait', 'all']
  assert dict(zip(head, rows[0], strict=True)) == {
    'where the time goes': 'mlp',
    'ms': '6.00',
    'share': '60.0%',
    'products ms': '5.00',
    'HBM GB': '2.00',
  }
  assert rows[-1][1] == '10.00'


def test_the_account_has_what_the_compiler_expects_beside_the_peaks():
  found = {'mlp': {'seconds': 0.006}, 'wait': {'seconds': 0.004}}
  expected = {
    'mlp': {'seconds': 0.010, 'estimated': 0.009},
    'new': {'seconds': 0.002, 'estimated': 0.002},
  }
  head, *rows = parts.lines(found, 0.01, expected)
  assert head[-2:] == ('compiler ms', 'stated')
  assert [(row[0], row[1], *row[-2:]) for row in rows] == [
    ('mlp', '6.00', '10.00', '90%'),
    ('wait', '4.00', '', ''),
    ('new', '0.00', '2.00', '100%'),
    ('all', '10.00', '12.00', '92%'),
  ]
