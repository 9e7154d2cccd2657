"""An inference step is called with what its signature takes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import inference, initialization, utils
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
  if values is not found:
    assert isinstance(found[1]['scores'], list)


def test_a_mode_is_a_method_of_the_model():
  class Model:
    def predict_batch(self, params, batch, rng=None):
      return 'tokens', params, batch

    def predict_batch_with_aux(self, params, batch, rng=None, **options):
      return 'tokens of', (params, batch, rng, options)

    def score_batch(self, params, batch, **options):
      return params, batch, options

  def called(mode, *more, **options):
    return inference.infer_step(Model(), mode, **options)(1, 2, *more)

  assert called('predict', 3) == ('tokens', 1, 2)
  assert called('predict', 3, num_decodes=4) == 'tokens of'
  assert called('predict_with_aux', 3) == ('tokens of', (1, 2, 3, {}))
  options = {'num_decodes': 4}
  found = called('predict_with_aux', 3, **options)
  assert found == ('tokens of', (1, 2, 3, options))
  assert called('score', return_intermediates=True) == (
    *(1, 2, {'return_intermediates': True}),
  )


def test_options_of_a_step_are_no_key(ready):
  def step(params, batch, scale=2.0, rng=None):
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


def test_each_batch_draws_with_a_key_of_its_own(ready):
  def step(params, batch, rng):
    return jax.random.uniform(rng, (8,)) + 0 * params['table'][0]

  model, state, axes, where, rows = ready
  many = [(i, rows[0][1]) for i in range(19)]
  drawn = [
    value for _, value in _infer((model, state, axes, where, many), step)
  ]
  assert len({*drawn}) == 19
  # Without a key it draws as with key(0).
  infer_fn = utils.get_infer_fn(step, 8, axes, where)
  given = infer_fn(many, state, jax.random.key(0))
  assert infer_fn(many, state) == given
  assert [value for _, value in given] != drawn


@pytest.mark.parametrize('as_arrays', [False, True])
def test_rows_that_shared_batches_by_length_come_back_in_order(
  ready, as_arrays
):
  def step(params, batch):
    ids = jnp.max(batch['ids'], axis=1) + 0 * params['table'][0].astype(int)
    return ids, {'twice': 2 * ids, 'width': 0 * ids + batch['ids'].shape[1]}

  lengths = [3, 40, 1, 17, 40, 2, 9, 40, 5, 33, 8]
  rows = [
    (i, {'ids': np.where(np.arange(40) < length, i + 1, 0)})
    for i, length in enumerate(lengths)
  ]
  infer_fn = utils.get_infer_fn(
    step,
    8,
    ready[2],
    ready[3],
    keep_aux_as_numpy=as_arrays,
    padded_features=('ids',),
  )
  found, aux = infer_fn(rows, ready[1])
  assert found == [(i, i + 1) for i in range(11)]
  assert isinstance(aux['twice'], np.ndarray if as_arrays else list)
  assert list(aux['twice']) == [2 * (i + 1) for i in range(11)]
  # The three shortest are the last batch.
  assert [i for i in range(11) if aux['width'][i] == 8] == [0, 2, 5]
