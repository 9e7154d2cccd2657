"""A tiny T5, its batches and its states, for tests of training."""

import types

import jax
import numpy as np

from t5x import adafactor, models, partitioning, train_state
from t5x.examples.t5 import network

VOCAB = types.SimpleNamespace(eos_id=1, vocab_size=64)
LENGTHS = {'encoder': 12, 'decoder': 8}


def config(**overrides):
  return network.T5Config(
    **{
      'vocab_size': 64,
      'emb_dim': 16,
      'num_heads': 4,
      'head_dim': 4,
      'num_encoder_layers': 1,
      'num_decoder_layers': 1,
      'mlp_dim': 32,
      'mlp_activations': ('gelu', 'linear'),
      'dropout_rate': 0.0,
      **overrides,
    }
  )


def model(optimizer_def=None, cls=models.EncoderDecoderModel, **kwargs):
  network_options = kwargs.pop('config', {})
  return cls(
    network.Transformer(config(**network_options)),
    VOCAB,
    VOCAB,
    optimizer_def or adafactor.Adafactor(),
    **kwargs,
  )


def batch(rows=8, seed=0):
  """Rows of different lengths, padded with 0."""
  rng = np.random.default_rng(seed)

  def tokens(length):
    x = rng.integers(2, 64, (rows, length), dtype=np.int32)
    ends = rng.integers(length // 2, length + 1, (rows, 1))
    return np.where(np.arange(length) < ends, x, 0).astype(np.int32)

  targets = tokens(LENGTHS['decoder'])
  shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  return {
    'encoder_input_tokens': tokens(LENGTHS['encoder']),
    'decoder_target_tokens': targets,
    'decoder_input_tokens': shifted * (targets != 0),
    'decoder_loss_weights': (targets != 0).astype(np.float32),
  }


def one_device():
  return partitioning.PjitPartitioner(
    num_partitions=1, devices=jax.devices()[:1]
  )


def initial_variables(model):
  shapes = {k: v.shape for k, v in batch().items()}
  return jax.jit(model.get_initial_variables, static_argnums=())(
    jax.random.key(0), _static(shapes)
  )


class _static(dict):
  """Shapes that jit takes for a constant."""


jax.tree_util.register_pytree_node(
  _static, lambda x: ((), tuple(sorted(x.items()))), lambda aux, _: dict(aux)
)


def state(model):
  """A train state on one device."""
  return train_state.FlaxOptimTrainState.create(
    model.optimizer_def, initial_variables(model)
  )
