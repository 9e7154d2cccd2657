"""Learning-rate schedules: products of named factors."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from t5x import errors

LearningRateCallable = Callable[[jax.Array], jax.Array]


def create_learning_rate_scheduler(
  factors: str = 'constant * linear_warmup * rsqrt_decay',
  base_learning_rate: float = 0.5,
  warmup_steps: int = 1000,
  decay_factor: float = 0.5,
  steps_per_decay: int = 20000,
  steps_per_cycle: int = 100000,
  step_offset: int = 0,
  min_learning_rate: float = 1e-8,
) -> LearningRateCallable:
  """Returns step → learning rate, the product of the factors (as in T5X).

  With w = `warmup_steps`, d = `decay_factor` and n = step - `step_offset`, not
  below 0, the factors are

  - `constant`: `base_learning_rate`
  - `linear_warmup`: min(1, n / w)
  - `linear_decay`: `base_learning_rate` · min(n / w, 1 + d · (w - n)); it
    holds the constant and the warm-up already
  - `rsqrt_decay`: 1 / √max(n, w)
  - `rsqrt_normalized_decay`: √(w / max(n, w))
  - `decay_every`: d to the power of ⌊n / `steps_per_decay`⌋
  - `cosine_decay`: ½ (1 + cos π p), where p is the elapsed part, from 0 to 1,
    of the current cycle of `steps_per_cycle` steps after the warm-up

  For `create_learning_rate_scheduler('constant * linear_warmup', 1.0, 10)` the
  steps 0, 5, 10, 20 give `min_learning_rate`, 0.5, 1.0, 1.0.

  Args:
    factors: names from the list above, joined by `*`.
    base_learning_rate: of `constant` and `linear_decay`.
    warmup_steps: steps.
    decay_factor: of `decay_every` and `linear_decay`.
    steps_per_decay: steps.
    steps_per_cycle: steps.
    step_offset: steps at the start that count as step 0.
    min_learning_rate: the result is never below.

  Returns:
    A function of the step, usable inside jit.

  Raises:
    errors.UserError: for a factor that is not in the list.
  """
  # A warm-up of 0 steps is over at once.
  w = float(max(warmup_steps, 1))
  rise = (lambda n: n / w) if warmup_steps > 0 else jnp.ones_like
  factor_fns = {
    'constant': lambda n: base_learning_rate,
    'linear_warmup': lambda n: jnp.minimum(1.0, rise(n)),
    'linear_decay': lambda n: (
      base_learning_rate
      * jnp.minimum(rise(n), 1.0 + decay_factor * (warmup_steps - n))
    ),
    'rsqrt_decay': lambda n: 1.0 / jnp.sqrt(jnp.maximum(n, w)),
    'rsqrt_normalized_decay': lambda n: jnp.sqrt(w / jnp.maximum(n, w)),
    'decay_every': lambda n: decay_factor ** (n // steps_per_decay),
    'cosine_decay': lambda n: (
      0.5
      + 0.5
      * jnp.cos(
        jnp.pi * (jnp.maximum(0.0, n - warmup_steps) / steps_per_cycle % 1.0)
      )
    ),
  }
  names = [name.strip() for name in factors.split('*')]
  for name in names:
    if name not in factor_fns:
      raise errors.UserError(
        f'Unknown learning rate factor {name!r} in {factors!r}. Known:'
        f' {", ".join(factor_fns)}.{errors.did_you_mean(name, factor_fns)}'
      )

  def learning_rate(step: jax.Array) -> jax.Array:
    n = jnp.maximum(0.0, jnp.asarray(step, jnp.float32) - step_offset)
    value = jnp.float32(1.0)
    for name in names:
      value = value * factor_fns[name](n)
    return jnp.maximum(value, min_learning_rate)

  return learning_rate
