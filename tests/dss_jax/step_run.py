"""A run of a model without a network that counts what its steps hold."""

import jax.numpy as jnp

from dss_jax import feature_converters, mixtures
from t5x import data, metrics
from tests.t5x import small_models, small_run

LENGTHS = {'inputs': 120, 'targets': 112}


class Counting(small_models.TableModel):
  """Reports the examples of every step, and a number that tells its rows."""

  FEATURE_CONVERTER_CLS = feature_converters.DistillFeatureConverter
  input_vocabulary = output_vocabulary = mixtures.sample_vocabulary()

  def loss_fn(self, params, batch, dropout_rng):
    first = batch['decoder_positions'] == 0
    tasks = batch['decoder_task_ids']
    places = jnp.arange(tasks.size).reshape(tasks.shape) % 1009
    counted = {
      'labels': jnp.sum(first & (tasks == 1)),
      'rationales': jnp.sum(first & (tasks == 2)),
      'rows': jnp.sum(batch['decoder_target_tokens'] * places % 1013),
    }
    loss = jnp.sum(params['table'] ** 2)
    per_step = metrics.AveragePerStep.from_model_output
    return loss, {
      name: per_step(value.astype(jnp.float32))
      for name, value in {'loss': loss, **counted}.items()
    }


def call(folder, labels=16, method='dss', **options):
  """Trains; `labels` are the label examples of a step."""
  step = mixtures.Step(
    mixtures.Experiment('svamp', method=method, paired=True),
    LENGTHS,
    labels,
    num_microbatches=4,
  )
  config = data.DatasetConfig(
    mixture_or_task_name=mixtures.step_mixture(step),
    task_feature_lengths=LENGTHS,
    split='train',
    batch_size=mixtures.rows_per_step(step),
    shuffle=True,
    seed=0,
    pack=True,
  )
  return small_run.call(folder, model=Counting(), train_cfg=config, **options)
