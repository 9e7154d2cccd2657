"""One loss and one gradient, whatever the mesh, sharding and microbatches."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from t5x import partitioning, trainer
from t5x.trainer import step
from tests.t5x import tiny_model

ROWS = 16
# (data, model) extents, parameter_partitioning_dims or 'gathered',
# microbatches.
QUICK = [
  ((1, 1), 1, 2),
  ((4, 2), 1, 1),
  ((4, 2), 'gathered', 1),
  ((2, 4), 2, 4),
]
ALL = [
  (mesh, dims, microbatches)
  for mesh in ((1, 1), (8, 1), (4, 2), (2, 4))
  for dims in (1, 2, 'gathered')
  for microbatches in (1, 2, 4)
  if ROWS % (mesh[0] * microbatches) == 0
  and (mesh, dims, microbatches) not in QUICK
]


def make_partitioner(mesh, dims):
  gathers = dims == 'gathered'
  return partitioning.PjitPartitioner(
    num_partitions=mesh[1],
    devices=jax.devices()[: mesh[0] * mesh[1]],
    logical_axis_rules=partitioning.standard_logical_axis_rules(
      activation_partitioning_dims=1 if gathers else dims,
      parameter_partitioning_dims=2 if gathers else dims,
      gather_kernels=gathers,
    ),
  )


@functools.cache
def parts():
  model = tiny_model.model(
    loss_normalizing_factor='NUM_REAL_TARGET_TOKENS', z_loss=1e-3
  )
  state = tiny_model.state(model)
  return model, state, tiny_model.batch(rows=ROWS)


@functools.cache
def loss_and_grads(mesh, dims, microbatches):
  model, state, batch = parts()
  partitioner = make_partitioner(mesh, dims)
  axes = partitioner.get_mesh_axes(state)

  def fn(state, batch):
    grads, metrics, _ = step.accumulate_grads_microbatched(
      model, state, model.prepare_batch(batch), None, microbatches
    )
    return metrics, grads

  metrics, grads = partitioner.partition(
    fn, (axes, PartitionSpec('data')), (None, axes.params)
  )(
    partitioner.move_params_to_devices(state, axes),
    partitioner.shard_batch(batch),
  )
  values = {
    k: float(m.compute()) for k, m in metrics.items() if 'timing' not in k
  }
  return values, jax.tree.map(np.asarray, grads)


def check(mesh, dims, microbatches):
  values, grads = loss_and_grads(mesh, dims, microbatches)
  expected, expected_grads = loss_and_grads((1, 1), 1, 1)
  assert values.keys() == expected.keys()
  for name, value in values.items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)
  # Sums of other orders: relative to the largest gradient of a parameter.
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=1e-5, atol=1e-5 * np.abs(y).max()
    ),
    grads,
    expected_grads,
  )


@pytest.mark.parametrize(('mesh', 'dims', 'microbatches'), QUICK)
def test_loss_and_gradients_are_the_same(mesh, dims, microbatches):
  check(mesh, dims, microbatches)


@pytest.mark.slow
@pytest.mark.parametrize(('mesh', 'dims', 'microbatches'), ALL)
def test_loss_and_gradients_are_the_same_on_all_meshes(
  mesh, dims, microbatches
):
  check(mesh, dims, microbatches)


def train(mesh, dims, microbatches):
  model, state, _ = parts()
  partitioner = make_partitioner(mesh, dims)
  # Steps take the state's memory; keep the shared one.
  state = jax.tree.map(np.array, state)
  with trainer.Trainer(
    model,
    state,
    partitioner,
    [],
    None,
    partitioner.get_mesh_axes(state),
    jax.random.key(0),
    lambda _: 1e-2,
    microbatches,
  ) as t:
    rows = [tiny_model.batch(rows=ROWS, seed=i) for i in range(3)]
    t.train(iter(rows), 3).result()
    return t.train_state


def test_training_on_a_mesh_moves_parameters_the_same_way():
  alone = train((1, 1), 1, 1)
  split = train((4, 2), 2, 2)
  kernel = split.params['encoder']['layers_0']['mlp']['wi_0']['kernel']
  assert kernel.addressable_shards[0].data.shape == (16 // 4, 32 // 2)
  kept = split.param_states['encoder']['layers_0']['mlp']['wi_0']['kernel']
  assert kept.v.sharding == kernel.sharding
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
    split.params,
    alone.params,
  )
