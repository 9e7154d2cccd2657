"""The method on a network that scans and rematerialises its layers."""

import jax
import numpy as np
import pytest

from dss_jax import models, optimization
from t5x import partitioning, train_state, trainer
from t5x.examples.t5 import network
from tests import stacked_trees
from tests.dss_jax import test_invariance
from tests.t5x import entry_points

LAYERS = {'num_encoder_layers': 2, 'num_decoder_layers': 2}
RATE = 1e-2


def model(**config):
  return models.DistillModel(
    module=network.Transformer(
      test_invariance.CONFIG.replace(**LAYERS, **config)
    ),
    input_vocabulary=None,
    output_vocabulary=None,
    optimizer_def=optimization.adamw(RATE),
    alpha=0.3,
    z_loss=1e-2,
  )


def trained(model, params):
  """Losses of two steps on packed rows in microbatches, and what they make."""
  shapes = {'encoder_input_tokens': (1, 4), 'decoder_input_tokens': (1, 4)}
  axes = jax.eval_shape(
    lambda: model.get_initial_variables(jax.random.key(0), shapes)
  )['params_axes']
  state = train_state.FlaxOptimTrainState.create(
    model.optimizer_def, {'params': params, 'params_axes': axes}
  )
  partitioner = partitioning.PjitPartitioner(
    num_partitions=2, devices=jax.devices()[:4]
  )
  batch = test_invariance.make_batch(
    'both tasks in every microbatch', packed=True
  )
  with trainer.Trainer(
    model,
    state,
    partitioner,
    [],
    None,
    partitioner.get_mesh_axes(state),
    jax.random.key(0),
    lambda _: RATE,
    2,
  ) as t:
    values = [t.train(iter([batch]), 1).result() for _ in range(2)]
    losses = [
      {name: float(v[name].value) for name in test_invariance.LOSSES}
      for v in values
    ]
    return losses, jax.tree.map(np.asarray, t.train_state.state_dict())


@pytest.mark.slow
def test_packed_training_is_that_of_the_plain_network(tmp_path):
  plain = model()
  shapes = {'encoder_input_tokens': (1, 4), 'decoder_input_tokens': (1, 4)}
  with entry_points.shared_compilation(tmp_path):
    params = jax.jit(
      lambda: plain.get_initial_variables(jax.random.key(1), shapes)
    )()['params']
    params = jax.tree.map(np.asarray, params)
    losses, state = trained(plain, params)
    found_losses, found = trained(
      model(scan_layers=True, remat_policy='minimal'),
      stacked_trees.stacked(params),
    )
  for here, there in zip(found_losses, losses, strict=True):
    for name, value in there.items():
      np.testing.assert_allclose(here[name], value, rtol=1e-5, err_msg=name)
  # AdamW's first steps are of the size of the rate, whatever the gradient's.
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=RATE / 50),
    stacked_trees.unstacked(found)['target'],
    state['target'],
  )
