"""A model of one matrix, whose steps compile at once, to test a trainer."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import partitioning as flax_partitioning

from t5x import adafactor, metrics, models, partitioning, train_state


class ToyModel(models.BaseModel):
  """Squared error of `x @ w + noise`, summed over rows.

  `prepare_batch` divides by the rows of the whole batch; the noise is drawn
  from the dropout key.
  """

  def __init__(self, optimizer_def=None, noise=0.0):
    super().__init__(optimizer_def or adafactor.Adafactor())
    self._noise = noise

  def prepare_batch(self, batch):
    rows = batch['x'].shape[0]
    return {**batch, 'weight': jnp.full((rows,), 1.0 / rows)}

  def loss_fn(self, params, batch, dropout_rng):
    guess = batch['x'] @ params['w']
    if self._noise and dropout_rng is not None:
      guess += self._noise * jax.random.normal(dropout_rng, guess.shape)
    errors = jnp.sum(jnp.square(guess - batch['y']), axis=-1)
    loss = jnp.sum(errors * batch['weight'])
    rare = batch['rare']
    return loss, {
      'loss': metrics.AveragePerStep.from_model_output(loss),
      'rows': metrics.Sum.from_model_output(jnp.float32(errors.shape[0])),
      'rare': metrics.WeightedMean.from_model_output(errors, rare),
      'timing/seconds': metrics.Time(),
      'timing/steps_per_second': metrics.StepsPerTime.from_model_output(),
    }

  def predict_batch_with_aux(self, params, batch, rng=None):
    return batch['x'] @ params['w'], {}

  def score_batch(self, params, batch, return_intermediates=False):
    return jnp.sum(batch['x'] @ params['w'], axis=-1)

  def get_initial_variables(self, rng, input_shapes, input_types=None):
    names = flax_partitioning.AxisMetadata(('embed', 'mlp'))
    return {
      'params': {'w': jax.random.normal(rng, (3, 2))},
      'params_axes': {'w_axes': names},
    }


def batch(rows=8, seed=0, rare=0.0):
  rng = np.random.default_rng(seed)
  return {
    'x': rng.normal(size=(rows, 3)).astype(np.float32),
    'y': rng.normal(size=(rows, 2)).astype(np.float32),
    'rare': np.full((rows,), rare, np.float32),
  }


def state(model):
  return train_state.FlaxOptimTrainState.create(
    model.optimizer_def,
    model.get_initial_variables(jax.random.key(0), {}),
  )


def partitioner(data=8):
  return partitioning.PjitPartitioner(
    num_partitions=1, devices=jax.devices()[:data]
  )
