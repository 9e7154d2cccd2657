"""Two models without a network, whose steps compile at once."""

import jax
import jax.numpy as jnp
import optax

from t5x import (
  checkpoints,
  initialization,
  metrics,
  models,
  optimizers,
  partitioning,
)
from tests import toy_model
from tests.t5x import toy_task

SHAPES = {
  'encoder_input_tokens': (8, 10),
  'decoder_input_tokens': (8, 6),
  'decoder_target_tokens': (8, 6),
  'decoder_loss_weights': (8, 6),
}


class _Small(models.BaseModel):
  """Has one parameter `table`, of the class's `SHAPE`."""

  FEATURE_CONVERTER_CLS = models.LazySeqioConverter('EncDecFeatureConverter')
  SHAPE = ((1,), ('embed',))
  input_vocabulary = output_vocabulary = toy_task.VOCABULARY

  def __init__(self):
    super().__init__(optimizers.wrap_optax_optimizer(optax.adam)(0.3))

  def get_initial_variables(self, rng, input_shapes, input_types=None):
    return toy_model.variables(rng, parameters={'table': self.SHAPE})

  def score_batch(self, params, batch, return_intermediates=False):
    logits = self._logits(params, batch)
    found = jnp.take_along_axis(
      jax.nn.log_softmax(logits), batch['decoder_target_tokens'][..., None], -1
    )[..., 0]
    return jnp.sum(found * batch['decoder_loss_weights'], axis=-1)

  def loss_fn(self, params, batch, dropout_rng):
    loss = -jnp.sum(self.score_batch(params, batch))
    return loss, {'loss': metrics.AveragePerStep.from_model_output(loss)}

  def predict_batch_with_aux(self, params, batch, rng=None):
    logits = self._logits(params, batch)
    return jnp.argmax(logits, -1), {'scores': jnp.max(logits, (1, 2))}


class EchoModel(_Small):
  """Answers the toy task right: the last three bytes backwards, and the end."""

  def _logits(self, params, batch):
    inputs = batch['encoder_input_tokens']
    answer = jnp.stack([inputs[:, 5], inputs[:, 4], inputs[:, 3]], axis=1)
    answer = jnp.pad(answer, ((0, 0), (0, 3))).at[:, 3].set(1)
    return jax.nn.one_hot(answer, 384) * 9 + 0 * params['table'][0]


class TableModel(_Small):
  """Has learnt, or not, one text, which it gives for all inputs."""

  SHAPE = ((6, 384), ('length', 'vocab'))

  def _logits(self, params, batch):
    rows = batch['decoder_target_tokens'].shape[0]
    return jnp.broadcast_to(params['table'], (rows, 6, 384))


def partitioner():
  return partitioning.PjitPartitioner(num_partitions=1)


def save(model, folder, steps):
  """Saves a fresh state of the model as the checkpoint of each step."""
  where = partitioner()
  initializer = initialization.TrainStateInitializer(
    model.optimizer_def, model.get_initial_variables, SHAPES, where
  )
  state = initializer.from_scratch(jax.random.key(0))
  manager = checkpoints.SaveCheckpointConfig().make_manager(
    str(folder), state, where
  )
  for step in steps:
    manager.save(state.replace_step(jnp.int32(step)), force=True)
  manager.close()
  return folder
