"""Optimizer and schedules: AdamW with clipped gradients, linear decay.

It runs through optax, so the learning rate depends on the optimizer's own step
count, not on the rate that the trainer passes: give both the same schedule.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from dss_jax.errors import DataError
from t5x import optimizers

Schedule = Callable[[Int[Array, ''] | int], Float[Array, '']]


def linear_decay(
  base_learning_rate: float, total_steps: int, warmup_steps: int = 0
) -> Schedule:
  """Learning rate that falls linearly to 0 at the end of the run.

  With base 1.0, 6 total and 2 warm-up steps, the rates of steps 0 to 6 are
  0, 0.5, 1, 0.75, 0.5, 0.25, 0. This is the default of Hugging Face's trainer,
  and so of the published code, which has no warm-up.

  Args:
    base_learning_rate: the highest rate.
    total_steps: steps of the run, warm-up included.
    warmup_steps: steps over which the rate first rises linearly from 0. If
      that is the whole run or more, its first tenth.

  Returns:
    step -> learning rate, for optax and for `t5x.trainer.Trainer`.

  Raises:
    DataError: the numbers of steps don't fit.
  """
  return _decay(base_learning_rate, total_steps, warmup_steps, lambda x: 1 - x)


def cosine_decay(
  base_learning_rate: float, total_steps: int, warmup_steps: int = 0
) -> Schedule:
  """Learning rate that falls to 0 along half a cosine.

  With base 1.0, 6 total and 2 warm-up steps, the rates of steps 0 to 6 are
  0, 0.5, 1, 0.854, 0.5, 0.146, 0. Arguments, result and errors are those of
  `linear_decay`.
  """

  def shape(done: jax.Array) -> jax.Array:
    return (1 + jnp.cos(jnp.pi * done)) / 2

  return _decay(base_learning_rate, total_steps, warmup_steps, shape)


def _decay(
  base_learning_rate: float,
  total_steps: int,
  warmup_steps: int,
  shape: Callable[[jax.Array], jax.Array],
) -> Schedule:
  """Builds a schedule: warm-up, then `shape` of the fraction that is done."""
  if warmup_steps < 0 or total_steps < 1:
    raise DataError(
      'The schedule needs warmup_steps (macro WARMUP_STEPS) from 0 and'
      ' total_steps (macro TRAIN_STEPS) from 1, found'
      f' warmup_steps={warmup_steps}, total_steps={total_steps}.'
    )
  if warmup_steps >= total_steps:
    # A few steps to try something, with the warm-up of a real run.
    warmup_steps = total_steps // 10

  # optax's schedules differ from these in the last bit at 20 to 40% of the
  # steps, and a run that was begun must continue with equal bits.
  def learning_rate(step: Int[Array, ''] | int) -> Float[Array, '']:
    step = jnp.asarray(step, jnp.float32)
    warmup = step / max(warmup_steps, 1)
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    factor = shape(jnp.clip(done, 0, 1))
    return base_learning_rate * jnp.where(step < warmup_steps, warmup, factor)

  return learning_rate


def adamw(
  learning_rate: float | Schedule,
  weight_decay: float = 0.0,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  clip_norm: float | None = 1.0,
  uncorrected_eps: bool = False,
) -> optimizers.OptimizerDef:
  """AdamW on gradients whose global norm is clipped.

  Both are PyTorch's: the decay is decoupled and scaled by the learning rate,
  `eps` is added to the root of the corrected second moment, and a gradient
  longer than `clip_norm` is scaled down to it.

  The AdamW that transformers had of its own, the default of its trainer up to
  version 4.24, which the published code requires, adds `eps` to the root of the
  second moment before that is corrected. With `uncorrected_eps` it is there:

    update = rate * sqrt(1 - b2^t) / (1 - b1^t) * mean / (sqrt(square) + eps)

  which counts as eps / sqrt(1 - b2^t) does in PyTorch's: at the first step as
  3.2e-7, and after some thousand as 1e-8. So the published recipe is
  `adamw(linear_decay(5e-5, total_steps), uncorrected_eps=True)`.

  Args:
    learning_rate: a rate, or step -> rate.
    weight_decay: fraction of a parameter that is removed at learning rate 1.
    b1: decay of the mean of the gradients per step.
    b2: decay of the mean of their squares.
    eps: keeps the division finite.
    clip_norm: largest global norm of the gradient, or None to not clip.
    uncorrected_eps: whether `eps` is added before the second moment is
      corrected. Weight decay stays PyTorch's, before the update.

  Returns:
    A T5X optimizer definition.

  Raises:
    DataError: `clip_norm` is not positive.
  """
  adam = optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)
  if uncorrected_eps:
    adam = optax.chain(
      _scale_by_adam_uncorrected(b1, b2, eps),
      optax.add_decayed_weights(weight_decay),
      optax.scale_by_learning_rate(learning_rate),
    )
  if clip_norm is None:
    return optimizers.OptaxWrapper(adam)
  if clip_norm <= 0:
    raise DataError(
      f'adamw needs a positive clip_norm, found {clip_norm}. None turns'
      ' clipping off.'
    )
  clip = optax.clip_by_global_norm(clip_norm)
  return optimizers.OptaxWrapper(optax.chain(clip, adam))


def _scale_by_adam_uncorrected(
  b1: float, b2: float, eps: float
) -> optax.GradientTransformation:
  """Adam's direction with `eps` beside the uncorrected root, see `adamw`.

  The state is that of `optax.scale_by_adam`, so checkpoints fit both.
  """
  moments = optax.scale_by_adam(b1, b2, eps)

  def update(updates, state, params=None):
    _, state = moments.update(updates, state, params)
    step = state.count.astype(jnp.float32)
    # 1 - b ** step, which in float32 would lose digits at the first steps.
    rest1, rest2 = (-jnp.expm1(step * math.log(b)) for b in (b1, b2))
    factor = jnp.sqrt(rest2) / rest1
    direction = jax.tree.map(
      lambda mean, square: factor * mean / (jnp.sqrt(square) + eps),
      state.mu,
      state.nu,
    )
    return direction, state

  return optax.GradientTransformation(moments.init, update)
