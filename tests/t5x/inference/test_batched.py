"""An inference step is called with what its signature takes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import initialization, utils
from tests.t5x import small_models


@pytest.fixture(scope='module')
def ready():
  """A model, its state with axes, the partitioner, and rows to infer on."""
  model, where = small_models.EchoModel(), small_models.partitioner()
  initializer = initialization.TrainStateInitializer(
    None, model.get_initial_variables, small_models.SHAPES, where
  )
  state = initializer.from_scratch(jax.random.key(0))
  rows = [
    (i, {name: np.full(shape[1:], i, np.int32)
         for name, shape in small_models.SHAPES.items()})
    for i in range(3)
  ]  # fmt: skip
  return model, state, initializer.train_state_axes, where, rows


def _infer(ready, step):
  _, state, axes, where, rows = ready
  infer_fn = utils.get_infer_fn(step, 8, axes, where)
  return infer_fn(rows, state, jax.random.key(5))


def test_a_models_own_scores(ready):
  model, state, *_, rows = ready
  found = _infer(ready, model.score_batch)
  batch = {k: np.stack([r[k] for _, r in rows]) for k in rows[0][1]}
  expected = model.score_batch(state.params, batch)
  assert [index for index, _ in found] == [0, 1, 2]
  np.testing.assert_allclose([s for _, s in found], expected, rtol=1e-5)


def test_a_step_with_a_key_gets_one(ready):
  def step(params, batch, rng=None):
    return jax.random.uniform(rng, (8,)) + 0 * params['table'][0]

  def third(params, batch, key):
    return step(params, batch, key)

  drawn = _infer(ready, step)
  assert len({value for _, value in drawn}) == 3
  assert _infer(ready, third) == drawn


@pytest.mark.parametrize('mode', ['predict_batch', 'predict_batch_with_aux'])
def test_a_models_own_predictions(ready, mode):
  found = _infer(ready, getattr(ready[0], mode))
  values = found if mode == 'predict_batch' else found[0]
  assert len(values) == 3 and len(values[0][1]) == 6


def test_options_of_a_step_are_no_key(ready):
  def step(params, batch, scale=2.0):
    return jnp.full((8,), scale) + 0 * params['table'][0]

  assert _infer(ready, step) == [(0, 2.0), (1, 2.0), (2, 2.0)]
  other = functools.partial(step, scale=3.0)
  assert _infer(ready, other) == [(0, 3.0), (1, 3.0), (2, 3.0)]


def test_rows_are_counted_without_those_that_fill_a_batch(ready):
  model, state, axes, where, rows = ready
  infer_fn = utils.get_infer_fn(model.score_batch, 8, axes, where)
  done: list[int] = []
  many = [(i, rows[0][1]) for i in range(11)]
  infer_fn(many, state, jax.random.key(5), on_rows=done.append)
  assert done == [8, 3]
