"""A model of three parameters, for tests of states and checkpoints."""

import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.linen import partitioning as flax_partitioning

from t5x import initialization, partitioning

# Name → shape and logical axes.
PARAMETERS = {
  'token_embedder/embedding': ((16, 8), ('vocab', 'embed')),
  'mlp/wi/kernel': ((8, 32), ('embed', 'mlp')),
  'norm/scale': ((8,), ('embed',)),
}


def variables(rng, dtype=jnp.float32, parameters=None):
  """What `module.init` would return: random parameters and their axes."""
  params, axes = {}, {}
  for i, (name, (shape, names)) in enumerate(
    (parameters or PARAMETERS).items()
  ):
    key = jax.random.fold_in(rng, i)
    params[name] = jax.random.normal(key, shape).astype(dtype)
    axes[f'{name}_axes'] = flax_partitioning.AxisMetadata(names)
  return {
    'params': traverse_util.unflatten_dict(params, sep='/'),
    'params_axes': traverse_util.unflatten_dict(axes, sep='/'),
  }


def initializer(
  optimizer_def, num_partitions=1, dtype=jnp.float32, parameters=None
):
  """Returns a `TrainStateInitializer` of the model, and its partitioner."""
  partitioner = partitioning.PjitPartitioner(num_partitions=num_partitions)

  def init_fn(rng, input_shapes, input_types=None):
    del input_shapes, input_types
    return variables(rng, dtype, parameters)

  return (
    initialization.TrainStateInitializer(
      optimizer_def, init_fn, {'inputs': (8, 4)}, partitioner
    ),
    partitioner,
  )


class Position:
  """A position in data: what a dataset iterator keeps."""

  def __init__(self, batches=0):
    self.batches = batches

  def get_state(self):
    return {'batches': self.batches}

  def set_state(self, state):
    self.batches = state['batches']
