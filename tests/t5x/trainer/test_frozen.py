"""Steps that train a part of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec

from t5x import optimizers, partitioning, train_state
from t5x.trainer import step
from tests.t5x import tiny_model, toy_model

LORA = {'lora_rank': 2, 'lora_alpha': 3.0, 'lora_kernels': ('query', 'wo')}


def paths(tree):
  return sorted(traverse_util.flatten_dict(tree, sep='/'))


class TwoMatrices(toy_model.ToyModel):
  """A product of two matrices, of which one may be frozen."""

  def loss_fn(self, params, batch, dropout_rng):
    w = {'w': params['first'] @ params['second']}
    return super().loss_fn(w, batch, dropout_rng)


def two_matrices(optimizer_def):
  model = TwoMatrices(optimizer_def)
  params = {'first': jnp.eye(3) * 0.5, 'second': jnp.ones((3, 2))}
  state = train_state.FlaxOptimTrainState.create(
    model.optimizer_def, {'params': params}
  )
  return model, state


@pytest.mark.parametrize('microbatches', [None, 2])
def test_steps_take_gradients_of_trained_parameters_alone(microbatches):
  def stepped(optimizer_def):
    model, state = two_matrices(optimizer_def)
    grads, _, _ = step.accumulate_grads_microbatched(
      model, state, model.prepare_batch(toy_model.batch()), None, microbatches
    )
    new, metrics = step.train_with_lr(
      state,
      toy_model.batch(),
      0.1,
      jax.random.key(0),
      model,
      microbatches,
      step.WeightMetricsComputer(),
    )
    return state, grads, new, metrics

  _, all_grads, whole, _ = stepped(optimizers.sgd(0.1))
  old, grads, new, metrics = stepped(
    optimizers.PartialOptimizer(optimizers.sgd(0.1), frozen=('first',))
  )
  assert paths(grads) == ['second']
  np.testing.assert_array_equal(grads['second'], all_grads['second'])
  np.testing.assert_array_equal(new.params['second'], whole.params['second'])
  np.testing.assert_array_equal(new.params['first'], old.params['first'])
  assert not np.array_equal(whole.params['first'], old.params['first'])
  norm = float(jnp.linalg.norm(grads['second']))
  assert float(metrics['grad_norm'].compute()) == pytest.approx(norm)
  assert 'weight_update_rms/second' in metrics
  assert 'weight_update_rms/first' not in metrics
  assert int(new.step) == 1


@pytest.mark.slow
@pytest.mark.parametrize('dims', [1, 2])
@pytest.mark.parametrize('mesh', [(8, 1), (4, 2), (2, 4)])
def test_steps_are_the_same_on_every_mesh(mesh, dims):
  """Two steps, in two microbatches, with bfloat16 weights that are frozen."""

  def trained(mesh, dims, microbatches):
    model = tiny_model.model(
      optimizers.PartialOptimizer(optimizers.sgd(0.1), trained=('lora',)),
      config={
        **LORA,
        'scan_layers': True,
        'param_dtype': 'bfloat16',
        'remat_policy': 'minimal',
      },
    )
    partitioner = partitioning.PjitPartitioner(
      num_partitions=mesh[1],
      devices=jax.devices()[: mesh[0] * mesh[1]],
      logical_axis_rules=partitioning.standard_logical_axis_rules(
        parameter_partitioning_dims=dims
      ),
    )
    state = tiny_model.state(model)
    axes = partitioner.get_mesh_axes(state)
    stepped = partitioner.partition(
      lambda state, batch: step.train_with_lr(
        state, batch, 0.1, jax.random.key(0), model, microbatches
      )[0],
      (axes, PartitionSpec('data')),
      axes,
    )
    state = partitioner.move_params_to_devices(state, axes)
    for seed in range(2):
      rows = tiny_model.batch(rows=16, seed=seed)
      state = stepped(state, partitioner.shard_batch(rows))
    return traverse_util.flatten_dict(
      jax.tree.map(np.asarray, state.params), sep='/'
    )

  found, expected = trained(mesh, dims, 2), trained((1, 1), 1, None)
  for name, leaf in expected.items():
    if '/lora/' in name:
      np.testing.assert_allclose(
        found[name], leaf, atol=1e-5 * np.abs(leaf).max(), err_msg=name
      )
    else:
      assert leaf.dtype == found[name].dtype
      np.testing.assert_array_equal(found[name], leaf, err_msg=name)
  assert any(np.abs(x).max() > 0 for n, x in expected.items() if '/lora/b' in n)


@pytest.mark.slow
@pytest.mark.parametrize('options', [{}, {'scan_layers': True}])
def test_frozen_kernels_cost_no_gradients(options):
  """Of three products of a kernel, the one for its gradient is left out."""
  sizes = {**options, 'emb_dim': 64, 'mlp_dim': 128, 'head_dim': 16}
  flops = {}
  for name, optimizer in (
    ('all', optimizers.sgd(0.1)),
    ('adapters', optimizers.PartialOptimizer(
      optimizers.sgd(0.1), trained=('lora',)
    )),
  ):  # fmt: skip
    model = tiny_model.model(
      optimizer,
      config={**LORA, 'lora_rank': 1, 'lora_kernels': ('query',), **sizes},
    )
    batch = tiny_model.batch(rows=8)
    state = tiny_model.state(model)

    def stepped(state, batch, model=model):
      return step.train_with_lr(
        state, batch, 0.1, jax.random.key(0), model, None
      )

    compiled = jax.jit(stepped).lower(state, batch).compile()
    flops[name] = compiled.cost_analysis()['flops']
  assert flops['adapters'] < 0.78 * flops['all']
