"""Gradients over microbatches, updates and their metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict

from t5x import errors, metrics, optimizers, train_state
from t5x.trainer import step
from tests.t5x import toy_model


def test_microbatches_take_turns():
  batch = {'x': jnp.arange(6)}
  split = step.split_microbatches(batch, 2)
  np.testing.assert_array_equal(split['x'], [[0, 2, 4], [1, 3, 5]])


def test_microbatches_keep_rows_on_their_device():
  partitioner = toy_model.partitioner(4)
  x = partitioner.shard_batch({'x': np.arange(8)})
  split = partitioner.partition(
    lambda b: step.split_microbatches(b, 2),
    (partitioner.data_partition_spec,),
    jax.sharding.PartitionSpec(None, 'data'),
  )
  compiled = partitioner.compile(split, x)
  assert 'all-' not in compiled.as_text()
  shard = compiled(x)['x'].addressable_shards[1].data
  np.testing.assert_array_equal(shard, [[2], [3]])


def test_a_batch_that_microbatches_do_not_divide_is_refused():
  with pytest.raises(
    errors.UserError,
    match='Batch size 6 is not divisible by num_microbatches 4',
  ):
    step.split_microbatches({'x': np.zeros(6)}, 4)


@pytest.mark.parametrize('microbatches', [None, 1, 2, 4])
def test_gradients_and_metrics_are_those_of_the_whole_batch(microbatches):
  model = toy_model.ToyModel()
  state = toy_model.state(model)
  batch = model.prepare_batch(toy_model.batch(rare=2.0))
  whole = jax.grad(lambda p: model.loss_fn(p, batch, None)[0])(state.params)
  _, expected = model.loss_fn(state.params, batch, None)
  grads, found, mutables = step.accumulate_grads_microbatched(
    model, state, batch, None, microbatches
  )
  np.testing.assert_allclose(grads['w'], whole['w'], rtol=1e-5)
  for name in ('loss', 'rows', 'rare'):
    np.testing.assert_allclose(
      found[name].compute(), expected[name].compute(), rtol=1e-5
    )
  assert int(found['timing/steps_per_second'].steps) == 1
  assert mutables is None


@pytest.mark.parametrize('microbatches', [None, 0, 1, 2, 4])
def test_every_microbatch_draws_its_own_dropout(microbatches):
  seen = []

  class Model(toy_model.ToyModel):
    def loss_fn(self, params, batch, dropout_rng):
      key = jax.random.key_data(dropout_rng)
      jax.debug.callback(lambda k: seen.append(tuple(k.tolist())), key)
      return super().loss_fn(params, batch, dropout_rng)

  model, key = Model(), jax.random.key(0)
  batch = model.prepare_batch(toy_model.batch())
  step.accumulate_grads_microbatched(
    model, toy_model.state(model), batch, key, microbatches
  )
  jax.effects_barrier()
  assert len(seen) == len(set(seen)) == (microbatches or 1)
  # A batch that isn't split draws with the key itself.
  own = tuple(jax.random.key_data(key).tolist())
  assert (own in seen) == (microbatches in (None, 0, 1))


def test_gradients_of_half_precision_are_summed_in_float32():
  model = toy_model.ToyModel()
  state = toy_model.state(model)
  half = {'w': state.params['w'].astype(jnp.bfloat16)}
  grads, _, _ = step.accumulate_grads_microbatched(
    model,
    state.replace_params(half),
    model.prepare_batch(toy_model.batch()),
    None,
    2,
  )
  assert grads['w'].dtype == jnp.float32


def test_other_variables_go_from_microbatch_to_microbatch():
  class Counting(toy_model.ToyModel):
    def loss_fn(self, params, batch, dropout_rng, flax_mutables):
      loss, found = super().loss_fn(params, batch, dropout_rng)
      count = flax_mutables['counts']['n'] + batch['x'].shape[0]
      return loss, (found, FrozenDict({'counts': {'n': count}}))

  model = Counting()
  variables = {
    'params': {'w': jnp.ones((3, 2))},
    'counts': {'n': jnp.int32(0)},
  }
  state = train_state.FlaxOptimTrainState.create(model.optimizer_def, variables)
  for microbatches in (1, 2):
    new, _ = step.train_with_lr(
      state, toy_model.batch(), 0.1, jax.random.key(0), model, microbatches
    )
    assert int(new.flax_mutables['counts']['n']) == 8
  # An evaluation has them, too, and leaves them as they are.
  found = step.eval_step(model, state, toy_model.batch())
  assert np.isfinite(float(found['loss'].compute()))


def test_own_evaluations_get_the_other_variables():
  class Offset(toy_model.ToyModel):
    def eval_fn(self, params, batch, flax_mutables):
      loss, found = self.loss_fn(params, batch, None)
      offset = metrics.Sum.from_model_output(flax_mutables['counts']['n'])
      return loss, {**found, 'offset': offset}

  model = Offset()
  variables = {'params': {'w': jnp.ones((3, 2))}, 'counts': {'n': jnp.int32(7)}}
  state = train_state.FlaxOptimTrainState.create(model.optimizer_def, variables)
  found = step.eval_step(model, state, toy_model.batch())
  assert found['offset'].compute() == 7


def test_the_norm_is_reported_before_clipping_and_the_rate_is_optax_own():
  chain = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(0.5))
  state = toy_model.state(toy_model.ToyModel(optimizers.OptaxWrapper(chain)))
  grads = {'w': jnp.full((3, 2), 2.0)}
  _, found = step.apply_grads(state, grads, {}, 0.1, None)
  assert float(found['grad_norm'].compute()) == pytest.approx(np.sqrt(24))
  assert float(found['learning_rate'].compute()) == pytest.approx(0.1)
  state = toy_model.state(toy_model.ToyModel(optimizers.sgd(0.5)))
  new, found = step.apply_grads(state, grads, {}, 0.1, None)
  assert float(found['learning_rate'].compute()) == 0.5
  np.testing.assert_allclose(
    new.params['w'], state.params['w'] - 1.0, rtol=1e-6
  )


def test_weights_are_measured():
  model = toy_model.ToyModel(optimizers.sgd(0.5))
  state = toy_model.state(model)
  grads = {'w': jnp.full((3, 2), 2.0)}
  new, found = step.apply_grads(
    state, grads, {}, 0.1, step.WeightMetricsComputer()
  )
  values = {k: float(m.compute()) for k, m in found.items()}
  assert values['weight_gradient_rms/w'] == 2.0
  assert values['weight_update_rms/w'] == pytest.approx(1.0)
  rms = float(jnp.sqrt(jnp.mean(new.params['w'] ** 2)))
  assert values['weight_rms/w'] == pytest.approx(rms)
  assert values['weight_gradient_norm'] == values['grad_norm']


def test_evaluation_prepares_the_batch_and_draws_nothing():
  model = toy_model.ToyModel(noise=5.0)
  state = toy_model.state(model)
  found = step.eval_step(model, state, toy_model.batch())
  again = step.eval_step(model, state, toy_model.batch())
  assert float(found['loss'].compute()) == float(again['loss'].compute())
  assert isinstance(found['rare'], metrics.WeightedMean)
