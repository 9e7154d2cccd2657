"""Runs of a tiny T5 with adapters on the toy task."""

import jax.numpy as jnp

from t5x import checkpoints, models, optimizers
from t5x.examples.t5 import network
from tests.t5x import small_run, tiny_model, toy_task


def model(adapters=True):
  """A T5 of the toy task, with adapters beside frozen bfloat16 weights."""
  options = {'vocab_size': 384, 'dropout_rate': 0.1, 'scan_layers': True}
  optimizer = optimizers.adamw(1e-2)
  if adapters:
    options |= {
      'lora_rank': 2, 'lora_dropout_rate': 0.2, 'param_dtype': 'bfloat16'
    }  # fmt: skip
    optimizer = optimizers.PartialOptimizer(optimizer, trained=('lora',))
  return models.EncoderDecoderModel(
    network.Transformer(tiny_model.config(**options)),
    toy_task.VOCABULARY,
    toy_task.VOCABULARY,
    optimizer,
  )


def make_base(folder):
  """Saves random weights; returns the checkpoint."""
  small_run.call(folder, total_steps=1, model=model(False), devices=1)
  return str(folder / 'checkpoint_1')


def call(folder, base, **options):
  """Trains adapters of a checkpoint; returns the last step and state."""
  restore = checkpoints.RestoreCheckpointConfig(
    path=base,
    mode='specific',
    from_scratch=('lora',),
    state_transformation_fns=(_weights_alone,),
  )
  return small_run.call(
    folder, model=model(), restore=restore, base=base, **options
  )


def _weights_alone(state_dict, target_state_dict, *, is_resuming):
  del target_state_dict, is_resuming
  return {'target': state_dict['target'], 'state': {'step': jnp.int32(0)}}
