"""Runs of the toy model that save and restore, for tests of checkpoints."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from t5x import checkpoints, optimizers
from tests import toy_model

LAYOUTS = ['orbax', 'legacy']


class AsProcess:
  """`jax` for one module, which takes itself for another process."""

  def __init__(self, index):
    self._index = index

  def process_index(self):
    return self._index

  def __getattr__(self, name):
    return getattr(jax, name)


def adamw():
  return optimizers.adamw(1e-2, weight_decay=0.1)


@functools.cache
def run(dtype='float32'):
  """An initializer, its partitioner, and a state that was trained 3 steps."""
  initializer, partitioner = toy_model.initializer(
    adamw(), dtype=jnp.dtype(dtype)
  )

  def train(state):
    # So that the optimizer's state is not what it started as.
    grads = jax.tree.map(jnp.cos, state.params)
    for _ in range(3):
      state = state.apply_gradient(grads, learning_rate=jnp.float32(1e-2))
    return state

  axes = initializer.train_state_axes
  train = partitioner.partition(train, (axes,), axes)
  state = train(initializer.from_scratch(jax.random.key(0)))
  return initializer, partitioner, state


def at(state, step):
  return state.replace_step(jnp.int32(step))


def manager(layout, directory, state, partitioner, iterator=None, **kwargs):
  if layout == 'orbax':
    return checkpoints.OrbaxCheckpointManagerInterface(
      str(directory), state, partitioner, iterator, **kwargs
    )
  return checkpoints.Checkpointer(
    state, partitioner, str(directory), iterator, **kwargs
  )


def assert_same_bits(left, right):
  left, right = (
    traverse_util.flatten_dict(s.state_dict(), sep='/') for s in (left, right)
  )
  assert left.keys() == right.keys()
  for name in left:
    assert left[name].dtype == right[name].dtype, name
    assert (
      np.asarray(left[name]).tobytes() == np.asarray(right[name]).tobytes()
    ), name
