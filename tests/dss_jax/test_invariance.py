"""The loss is the same however a batch is packed, split and spread.

Loss, gradients and metrics of the same examples: one a row or packed, whole or
in microbatches, on one device or on meshes of eight. Also where a task has no
token in a microbatch, or in the batch at all.
"""

import functools

import jax
import numpy as np
import pytest

from dss_jax import models, optimization
from dss_jax.pipeline import packing
from t5x import metrics as t5x_metrics
from t5x import partitioning, train_state, trainer
from t5x.examples.t5 import network

EXAMPLES = 16
PACKED_ROWS = 8
ROW_SHAPE = (24, 20)
CONFIG = network.T5Config(
  vocab_size=32,
  emb_dim=16,
  num_heads=4,
  num_encoder_layers=1,
  num_decoder_layers=1,
  head_dim=4,
  mlp_dim=16,
  mlp_activations=('gelu', 'linear'),
  dropout_rate=0.0,
)
# For each case, the tasks of the examples, in the order of the rows. Row b goes
# to microbatch b mod M, so alternating tasks leave each microbatch with one.
CASES = {
  'both tasks in every microbatch': [1, 2, 2, 1, 2, 1, 1, 2] * 2,
  'one task in each microbatch': [1, 2] * 8,
  'one task in the batch': [2] * 16,
}
LOSSES = ('loss', 'z_loss', 'label_loss', 'rationale_loss', 'label_tokens')


@functools.cache
def make_model():
  return models.DistillModel(
    module=network.Transformer(CONFIG),
    input_vocabulary=None,
    output_vocabulary=None,
    optimizer_def=optimization.adamw(1e-3),
    alpha=0.3,
    label_smoothing=0.1,
    z_loss=1e-2,
  )


@functools.cache
def make_state():
  model = make_model()
  shapes = {
    'encoder_input_tokens': (1, ROW_SHAPE[0]),
    'decoder_input_tokens': (1, ROW_SHAPE[1]),
  }
  init = jax.jit(lambda rng: model.get_initial_variables(rng, shapes))
  return train_state.FlaxOptimTrainState.create(
    model.optimizer_def, init(jax.random.key(0))
  )


def pack(examples, row_shape=ROW_SHAPE):
  """Packs (inputs, targets, task) examples into rows."""
  inputs, targets, tasks = zip(*examples, strict=True)

  def ragged(sequences):
    lengths = np.array([[len(s)] for s in sequences])
    starts = np.cumsum(lengths)[:, None] - lengths
    return packing.Ragged(np.concatenate(sequences), starts, lengths)

  return packing.pack(
    ragged(inputs),
    ragged(targets),
    np.array(tasks, np.int32)[:, None],
    row_shape,
    np.random.default_rng(0),
  )


def concatenate(batches):
  return {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}


@functools.cache
def make_batch(case, packed):
  rng = np.random.default_rng(1)
  examples = [
    tuple(rng.integers(2, 32, n, np.int32) for n in lengths) + (task,)
    for task, lengths in zip(
      CASES[case], rng.integers((5, 1), (9, 8), (EXAMPLES, 2)), strict=True
    )
  ]
  if not packed:
    rows = concatenate([pack([example]) for example in examples])
    return {k: v for k, v in rows.items() if k.split('_')[1] not in _PACKING}
  if case == 'one task in each microbatch':
    sides = [pack([e for e in examples if e[2] == task]) for task in (1, 2)]
    # The rows alternate between the tasks, as the examples do.
    each = PACKED_ROWS // 2
    sides = [_filled(side, each) for side in sides]
    return {
      k: np.stack([side[k] for side in sides], 1).reshape(PACKED_ROWS, -1)
      for k in sides[0]
    }
  return _filled(pack(examples), PACKED_ROWS)


_PACKING = ('segment', 'positions')


def _filled(batch, rows):
  """Adds empty rows."""
  missing = rows - len(batch['decoder_task_ids'])
  assert missing >= 0
  return {k: np.pad(v, [(0, missing), (0, 0)]) for k, v in batch.items()}


def compile_step(mesh, microbatches):
  """Returns batch -> (gradients, losses by name) on a (data, model) mesh."""
  model, state = make_model(), make_state()
  data, model_axis = mesh
  partitioner = partitioning.PjitPartitioner(
    num_partitions=model_axis, devices=jax.devices()[: data * model_axis]
  )
  assert partitioner.mesh.shape == {'data': data, 'model': model_axis}
  axes = partitioner.get_mesh_axes(state)

  def step(state, batch):
    grads, metrics, _ = trainer.accumulate_grads_microbatched(
      model,
      state,
      model.prepare_batch(batch),
      None,
      microbatches,
      partitioner.data_partition_spec,
    )
    return grads, {name: metrics[name] for name in LOSSES}

  partitioned = partitioner.partition(
    step,
    in_axis_resources=(axes, partitioner.data_partition_spec),
    out_axis_resources=None,
  )
  state = partitioner.move_params_to_devices(state, axes)

  def run(batch):
    grads, metrics = partitioned(state, partitioner.shard_batch(batch))
    values = t5x_metrics.compute_values(jax.device_get(metrics))
    losses = {name: float(value.value) for name, value in values.items()}
    return jax.device_get(grads), losses

  return run


@functools.cache
def reference(case):
  """One example a row, the whole batch, one device."""
  return compile_reference()(make_batch(case, packed=False))


@functools.cache
def compile_reference():
  return compile_step((1, 1), None)


@pytest.mark.parametrize(
  ('packed', 'microbatches', 'mesh'),
  [
    (True, None, (1, 1)),
    (True, 4, (1, 1)),
    (True, 1, (8, 1)),
    (True, 2, (4, 2)),
    (False, 2, (8, 1)),
    (False, 4, (2, 4)),
  ],
)
def test_loss_and_gradients_are_those_of_the_plain_batch(
  packed, microbatches, mesh
):
  run = compile_step(mesh, microbatches)
  for case in CASES:
    grads, losses = run(make_batch(case, packed))
    expected_grads, expected_losses = reference(case)
    assert losses == pytest.approx(expected_losses, rel=1e-5), case
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
      expected = expected_grads
      for key in path:
        expected = expected[key.key]
      # Of each array's largest entry: small entries are sums that cancel.
      np.testing.assert_allclose(
        grad,
        expected,
        rtol=1e-5,
        atol=1e-5 * np.abs(expected).max(),
        err_msg=f'{case}: {jax.tree_util.keystr(path)}',
      )


def test_the_cases_are_what_they_say():
  def tasks_of_microbatches(case, packed):
    rows = make_batch(case, packed)['decoder_task_ids']
    return [{*np.unique(rows[i::m])} - {0} for m in (2, 4) for i in range(m)]

  both, split, one = CASES
  assert all(t == {1, 2} for t in tasks_of_microbatches(both, False))
  for packed in (False, True):
    # A microbatch may be rows of padding.
    assert {1} in tasks_of_microbatches(split, packed)
    assert {2} in tasks_of_microbatches(split, packed)
    assert {1, 2} not in tasks_of_microbatches(split, packed)
    assert all(t <= {2} for t in tasks_of_microbatches(one, packed))


def test_an_absent_task_is_left_out_of_the_report():
  _, losses = reference('one task in the batch')
  assert set(losses) == set(LOSSES) - {'label_loss'}
  _, losses = reference('one task in each microbatch')
  assert set(losses) == set(LOSSES)
