"""T5Config: its defaults, which gin files of T5X's and others build on."""

import dataclasses

import jax.numpy as jnp

from t5x.examples.scalable_t5 import network as scalable
from t5x.examples.t5 import network

_DEFAULTS = {
  'dtype': jnp.float32,
  'emb_dim': 512,
  'num_heads': 8,
  'num_encoder_layers': 6,
  'num_decoder_layers': 6,
  'head_dim': 64,
  'mlp_dim': 2048,
  'mlp_activations': ('relu',),
  'dropout_rate': 0.1,
  'logits_via_embedding': False,
  'float32_attention_logits': False,
  'layer_norm_epsilon': 1e-6,
  'relative_attention_num_buckets': 32,
  'relative_attention_max_distance': 128,
  'scan_layers': False,
  'attention_kernel': 'xla',
  'remat_policy': 'none',
  'dropout_masks': 'row',
  'param_scan_axis': 0,
  'scalable_names': False,
  'relative_bias_per_layer': False,
  'param_dtype': jnp.float32,
  'lora_rank': 0,
  'lora_alpha': 16.0,
  'lora_dropout_rate': 0.0,
  'lora_kernels': ('query', 'value'),
}
_SCALABLE = {
  'scan_layers': True,
  'param_scan_axis': 1,
  'scalable_names': True,
  'relative_bias_per_layer': True,
}


def test_defaults_are_t5xs_and_of_our_own_options_none():
  for cls, defaults in (
    (network.T5Config, _DEFAULTS),
    (scalable.T5Config, _DEFAULTS | _SCALABLE),
  ):
    found = dataclasses.asdict(cls(vocab_size=8))
    assert found == {'vocab_size': 8} | defaults
