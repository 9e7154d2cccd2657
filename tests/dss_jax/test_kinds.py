"""Several kinds of rationales: their loss and metrics in any layout.

K kinds, packed or not, whole or in microbatches, on one device or on eight: the
reference is the formula in float64, over the network's logits of one example a
row.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dss_jax import errors, models, optimization
from t5x import metrics as t5x_metrics
from t5x import partitioning, train_state, trainer
from t5x.examples.t5 import network
from tests.dss_jax import test_invariance

ALPHA = 0.3
EXAMPLES, PACKED_ROWS = 24, 8
ROW_SHAPE = (32, 24)
KINDS = {
  0: None,
  1: ('thought',),
  2: (('thought', 0.7), ('program', 0.3)),
  3: (('thought', 2), ('program', 1), ('critique', 5, 'why: ')),
}
WEIGHTS = {0: [1], 1: [1], 2: [0.7, 0.3], 3: [2 / 8, 1 / 8, 5 / 8]}
CONFIG = test_invariance.CONFIG


@functools.cache
def make_model(kinds):
  return models.DistillModel(
    module=network.Transformer(CONFIG),
    input_vocabulary=None,
    output_vocabulary=None,
    optimizer_def=optimization.adamw(1e-3),
    alpha=ALPHA,
    rationale_kinds=KINDS[kinds],
  )


@functools.cache
def make_state():
  model = make_model(0)
  shapes = {
    'encoder_input_tokens': (1, ROW_SHAPE[0]),
    'decoder_input_tokens': (1, ROW_SHAPE[1]),
  }
  init = jax.jit(lambda rng: model.get_initial_variables(rng, shapes))
  return train_state.FlaxOptimTrainState.create(
    model.optimizer_def, init(jax.random.key(0))
  )


def pack(examples):
  return test_invariance.pack(examples, ROW_SHAPE)


@functools.cache
def make_batch(kinds, packed):
  """Labels and rationales of all kinds, of quite different lengths."""
  rng = np.random.default_rng(1)
  count = max(kinds, 1) + 1
  tasks = [1 + i % count for i in range(EXAMPLES)]
  examples = [
    (
      rng.integers(2, 32, rng.integers(4, 9), np.int32),
      rng.integers(2, 32, rng.integers(1, 3) * task, np.int32),
      task,
    )
    for task in tasks
  ]
  if packed:
    batch = pack(examples)
    missing = PACKED_ROWS - len(batch['decoder_task_ids'])
    assert missing >= 0
    return {k: np.pad(v, [(0, missing), (0, 0)]) for k, v in batch.items()}
  rows = [pack([example]) for example in examples]
  return {
    name: np.concatenate([row[name] for row in rows])
    for name in rows[0]
    if name.split('_')[1] not in ('segment', 'positions')
  }


def compile_step(kinds, mesh, microbatches):
  """Returns batch -> (gradients, metrics by name) on a (data, model) mesh."""
  model, state = make_model(kinds), make_state()
  data, model_axis = mesh
  partitioner = partitioning.PjitPartitioner(
    num_partitions=model_axis, devices=jax.devices()[: data * model_axis]
  )
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
    return grads, {k: v for k, v in metrics.items() if 'timing' not in k}

  partitioned = partitioner.partition(
    step,
    in_axis_resources=(axes, partitioner.data_partition_spec),
    out_axis_resources=None,
  )
  state = partitioner.move_params_to_devices(state, axes)

  def run(batch):
    grads, metrics = partitioned(state, partitioner.shard_batch(batch))
    metrics = t5x_metrics.set_step_metrics_num_steps(jax.device_get(metrics), 1)
    values = t5x_metrics.compute_values(metrics)
    return jax.device_get(grads), {
      name: float(value.value) for name, value in values.items()
    }

  return run


@functools.cache
def plain(kinds):
  """Gradients and metrics: one example a row, all together, one device."""
  return compile_step(kinds, (1, 1), None)(make_batch(kinds, packed=False))


@functools.cache
def by_formula(kinds):
  """The loss and the means of its tasks, in float64."""
  batch = make_batch(kinds, packed=False)
  logits = jax.jit(make_model(kinds)._compute_logits)(
    make_state().params, {k: jnp.asarray(v) for k, v in batch.items()}, None
  )
  logits = np.asarray(logits, np.float64)
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  targets = batch['decoder_target_tokens']
  losses = -np.take_along_axis(log_probs, targets[..., None], -1)[..., 0]
  tasks = batch['decoder_task_ids']
  label, *rationales = (
    losses[tasks == task].mean() for task in range(1, max(kinds, 1) + 2)
  )
  both = sum(w * r for w, r in zip(WEIGHTS[kinds], rationales, strict=True))
  return ALPHA * label + (1 - ALPHA) * both, label, both, rationales


@pytest.mark.parametrize(
  ('kinds', 'packed', 'microbatches', 'mesh'),
  [
    (2, True, 2, (4, 2)),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in (
        (3, False, 3, (8, 1)),
        (1, False, None, (1, 1)),
        (1, True, 4, (1, 1)),
        (1, True, 2, (4, 2)),
        (1, False, 3, (8, 1)),
        (2, False, None, (1, 1)),
        (2, True, 4, (1, 1)),
        (2, True, None, (8, 1)),
        (2, False, 3, (8, 1)),
        (3, True, 4, (1, 1)),
        (3, True, 2, (4, 2)),
        (3, False, 6, (2, 4)),
      )
    ),
  ],
)
def test_kinds_are_weighed_alike_in_any_layout(
  kinds, packed, microbatches, mesh
):
  loss, label, both, rationales = by_formula(kinds)
  run = compile_step(kinds, mesh, microbatches)
  grads, found = run(make_batch(kinds, packed))
  assert found['loss'] == pytest.approx(loss, rel=1e-5)
  assert found['label_loss'] == pytest.approx(label, rel=1e-5)
  assert found['rationale_loss'] == pytest.approx(both, rel=1e-5)
  names = make_model(kinds).kinds if kinds > 1 else ()
  for kind, expected in zip(names, rationales, strict=kinds > 1):
    mean = found[f'rationale_loss/{kind.name}']
    assert mean == pytest.approx(expected, rel=1e-5)
  expected_grads, expected_metrics = plain(kinds)
  for name, value in expected_metrics.items():
    if 'tokens' in name or 'accuracy' in name:
      assert found[name] == pytest.approx(value, rel=1e-6), name
  for (path, grad), expected in zip(
    jax.tree_util.tree_leaves_with_path(grads),
    jax.tree.leaves(expected_grads),
    strict=True,
  ):
    np.testing.assert_allclose(
      grad,
      expected,
      rtol=1e-5,
      atol=1e-5 * np.abs(expected).max(),
      err_msg=jax.tree_util.keystr(path),
    )


def _weights_of_one(batch):
  """The weights as they were written before there were kinds."""
  used = batch['decoder_loss_weights'].astype(jnp.float32)
  tasks = batch['decoder_task_ids']

  def mean(task):
    mask = jnp.where(tasks == task, used, 0)
    total = jnp.sum(mask)
    return mask / jnp.where(total > 0, total, 1)

  return ALPHA * mean(1) + (1 - ALPHA) * mean(2)


@pytest.mark.parametrize('kinds', [0, 1])
def test_one_kind_has_the_weights_and_metrics_of_before(kinds):
  batch = {k: jnp.asarray(v) for k, v in make_batch(1, True).items()}
  weights = jax.jit(make_model(kinds).token_weights)(batch)
  np.testing.assert_array_equal(weights, jax.jit(_weights_of_one)(batch))
  _, metrics = jax.jit(make_model(kinds).eval_fn)(make_state().params, batch)
  assert not [name for name in metrics if name.startswith('rationale_loss/')]


def test_a_named_kind_is_computed_as_one_without_a_name():
  batch = {k: jnp.asarray(v) for k, v in make_batch(1, True).items()}
  texts = [
    jax.jit(make_model(kinds).eval_fn)
    .lower(make_state().params, batch)
    .as_text()
    for kinds in (0, 1)
  ]
  assert texts[0] == texts[1]


def test_a_kind_without_tokens_leaves_the_others_their_weights():
  model = make_model(2)
  batch = {k: jnp.asarray(v) for k, v in make_batch(2, True).items()}
  tasks = batch['decoder_task_ids']
  batch['decoder_task_ids'] = jnp.where(tasks == 3, 0, tasks)
  weights = np.asarray(model.token_weights(batch))
  assert weights[tasks == 2].sum() == pytest.approx((1 - ALPHA) * 0.7)
  assert weights[tasks == 1].sum() == pytest.approx(ALPHA)
  assert not weights[tasks == 3].any()
  _, metrics = jax.jit(model.eval_fn)(make_state().params, batch)
  metrics = t5x_metrics.set_time_metrics_duration(metrics, 1.0)
  found = t5x_metrics.compute_values(metrics)
  assert 'rationale_loss/program' not in found
  thought = float(found['rationale_loss/thought'].value)
  assert float(found['rationale_loss'].value) == pytest.approx(0.7 * thought)


@pytest.mark.parametrize('method', ['finetune', 'single_task'])
def test_other_methods_take_the_mean_of_all_tokens(method):
  model = models.DistillModel(
    module=network.Transformer(CONFIG),
    input_vocabulary=None,
    output_vocabulary=None,
    optimizer_def=optimization.adamw(1e-3),
    method=method,
    rationale_kinds=KINDS[3],
  )
  batch = {k: jnp.asarray(v) for k, v in make_batch(3, True).items()}
  weights = np.asarray(model.token_weights(batch))
  used = np.asarray(batch['decoder_loss_weights'])
  np.testing.assert_allclose(weights, used / used.sum(), rtol=1e-6)


def test_a_wrong_kind_is_refused_by_the_model():
  with pytest.raises(errors.DataError, match='expected letters, digits and _'):
    models.DistillModel(
      module=None,
      input_vocabulary=None,
      output_vocabulary=None,
      optimizer_def=None,
      rationale_kinds=('chain of thought',),
    )


def test_sums_of_kinds_may_begin_with_zeros():
  one = models.WeightedAverages(
    total=jnp.float32(9),
    count=jnp.float32(3),
    totals=jnp.array([8.0, 1.0]),
    counts=jnp.array([2.0, 1.0]),
    weights=jnp.array([0.75, 0.25]),
  )
  zeros = jax.tree.map(jnp.zeros_like, one)
  for merged in (zeros.merge(one), one.merge(zeros)):
    assert float(merged.compute()) == 0.75 * 4 + 0.25 * 1
    assert (float(merged.total), float(merged.count)) == (9, 3)
