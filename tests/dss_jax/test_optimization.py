"""Schedules hit their worked values, and AdamW is PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dss_jax import optimization
from dss_jax.errors import DataError
from t5x import optimizers, train_state


@pytest.mark.parametrize(
  ('schedule', 'expected'),
  [
    (optimization.linear_decay, [0, 0.5, 1, 0.75, 0.5, 0.25, 0]),
    (optimization.cosine_decay, [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0]),
  ],
)
def test_docstring_schedules(schedule, expected):
  fn = schedule(1.0, 6, warmup_steps=2)
  rates = [float(fn(step)) for step in range(7)]
  np.testing.assert_allclose(rates, expected, atol=1e-6)
  # The same inside a compiled step, and beyond the end.
  compiled = jax.jit(jax.vmap(fn))(jnp.arange(9))
  np.testing.assert_allclose(compiled, [*expected, 0, 0], atol=1e-6)


def test_without_warmup_the_first_step_has_the_full_rate():
  fn = optimization.linear_decay(5e-5, 10_000)
  assert float(fn(0)) == pytest.approx(5e-5)
  assert float(fn(9_999)) == pytest.approx(5e-9, rel=1e-3)
  assert float(optimization.cosine_decay(2.0, 6)(0)) == 2.0
  assert float(optimization.linear_decay(2.0, 1)(0)) == 2.0


@pytest.mark.parametrize(
  ('steps', 'warmup', 'used'),
  [(6, 6, 0), (5, 200, 0), (20, 200, 2), (200, 200, 20), (201, 200, 200)],
)
def test_warmup_never_stops_a_short_run(steps, warmup, used):
  for schedule in (optimization.linear_decay, optimization.cosine_decay):
    fn, expected = schedule(1.0, steps, warmup), schedule(1.0, steps, used)
    for step in range(steps + 1):
      assert float(fn(step)) == float(expected(step))
    assert max(float(fn(step)) for step in range(steps)) == 1


@pytest.mark.parametrize(('steps', 'warmup'), [(6, -1), (0, 0), (-3, 0)])
def test_a_schedule_needs_steps(steps, warmup):
  message = f'WARMUP_STEPS.*warmup_steps={warmup}, total_steps={steps}'
  with pytest.raises(DataError, match=message):
    optimization.linear_decay(1.0, steps, warmup)


def torch_adamw(
  params, grads, rates, *, b1, b2, eps, decay, clip, uncorrected=False
):
  """AdamW after the formulas of PyTorch's documentation, in float64.

  With `uncorrected`, the update is that of transformers' own AdamW, 4.24.
  """
  mean = np.zeros_like(params)
  square = np.zeros_like(params)
  for step, (grad, rate) in enumerate(zip(grads, rates, strict=True), 1):
    norm = np.sqrt((grad**2).sum())
    grad = grad * min(1, clip / (norm + 1e-6))
    params = params - rate * decay * params
    mean = b1 * mean + (1 - b1) * grad
    square = b2 * square + (1 - b2) * grad**2
    if uncorrected:
      step_size = rate * np.sqrt(1 - b2**step) / (1 - b1**step)
      params = params - step_size * mean / (np.sqrt(square) + eps)
      continue
    denominator = np.sqrt(square) / np.sqrt(1 - b2**step) + eps
    params = params - rate / (1 - b1**step) * mean / denominator
  return params


@pytest.mark.parametrize('uncorrected', [False, True])
@pytest.mark.parametrize(('clip', 'decay'), [(1.0, 0.0), (0.3, 0.1)])
def test_adamw_is_pytorchs_or_transformers(clip, decay, uncorrected):
  rng = np.random.default_rng(0)
  params = rng.normal(size=7)
  # Lengths around the clip norm; the last step's are tiny, so that eps counts.
  grads = rng.normal(size=(6, 7)) * np.array([1, 0.1, 2, 0.2, 1, 1e-7])[:, None]
  schedule = optimization.linear_decay(1e-2, 6)
  optimizer_def = optimization.adamw(
    schedule,
    weight_decay=decay,
    b1=0.8,
    b2=0.9,
    eps=1e-4,
    clip_norm=clip,
    uncorrected_eps=uncorrected,
  )
  assert isinstance(optimizer_def, optimizers.OptimizerDef)
  state = train_state.FlaxOptimTrainState.create(
    optimizer_def, {'params': {'w': jnp.asarray(params, jnp.float32)}}
  )
  for grad in grads:
    state = state.apply_gradient(
      {'w': jnp.asarray(grad, jnp.float32)}, learning_rate=schedule(state.step)
    )
  rates = [float(schedule(step)) for step in range(6)]
  made = {
    flag: torch_adamw(
      params,
      grads,
      rates,
      b1=0.8,
      b2=0.9,
      eps=1e-4,
      decay=decay,
      clip=clip,
      uncorrected=flag,
    )
    for flag in (False, True)
  }
  want, other = made[uncorrected], made[not uncorrected]
  np.testing.assert_allclose(state.params['w'], want, rtol=2e-5, atol=1e-6)
  # The two can be told apart here.
  assert np.abs(want - other).max() > 2e-5


def test_the_defaults_are_pytorchs():
  # The first number is clipped; eps counts for the last one.
  grads = np.array([[3.0, 0.1, 4e-8], [0.1, 0.2, 2e-8], [0.2, 0.1, 1e-8]])
  state = train_state.FlaxOptimTrainState.create(
    optimization.adamw(1e-2), {'params': {'w': jnp.ones(3)}}
  )
  for grad in grads:
    state = state.apply_gradient(
      {'w': jnp.asarray(grad, jnp.float32)}, learning_rate=1e-2
    )
  want = torch_adamw(
    np.ones(3), grads, [1e-2] * 3, b1=0.9, b2=0.999, eps=1e-8, decay=0, clip=1
  )
  np.testing.assert_allclose(1 - state.params['w'], 1 - want, rtol=1e-4)


def test_the_optimizer_state_does_not_depend_on_where_eps_is():
  params = {'w': jnp.ones(3)}
  kinds = [
    optimization.adamw(
      optimization.linear_decay(1e-2, 6), uncorrected_eps=flag
    ).init_state(params)
    for flag in (False, True)
  ]
  assert jax.tree.structure(kinds[0]) == jax.tree.structure(kinds[1])


def test_clipping_can_be_turned_off():
  def first_moment(clip_norm):
    optimizer_def = optimization.adamw(1e-2, clip_norm=clip_norm)
    params = {'w': jnp.zeros(4)}
    state = train_state.FlaxOptimTrainState.create(
      optimizer_def, {'params': params}
    )
    state = state.apply_gradient({'w': jnp.full(4, 8.0)}, learning_rate=1e-2)
    (mean,) = (
      leaf
      for path, leaf in jax.tree_util.tree_leaves_with_path(state.param_states)
      if 'mu' in jax.tree_util.keystr(path)
    )
    return float(mean[0])

  assert first_moment(None) == pytest.approx(0.8)
  assert first_moment(1.0) == pytest.approx(0.05)


@pytest.mark.parametrize('norm', [0, -1.0])
def test_a_clip_norm_of_zero_or_less_is_refused(norm):
  with pytest.raises(DataError, match=f'positive clip_norm, found {norm}'):
    optimization.adamw(1e-3, clip_norm=norm)
