"""Cross entropy with z-loss, label smoothing and normalization."""

import enum
import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from t5x import errors


@jax.custom_vjp
def _log_partition(logits: jax.Array) -> jax.Array:
  """Log of the sum of exponentials over the last axis, in float32.

  Its gradient is computed from the logits and this result, so that the
  backward pass needs no saved array of the logits' size besides the logits.
  """
  return jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)


def _log_partition_fwd(logits):
  log_z = _log_partition(logits)
  return log_z, (logits, log_z)


def _log_partition_bwd(saved, cotangent):
  logits, log_z = saved
  probs = jnp.exp(logits.astype(jnp.float32) - log_z[..., None])
  return ((probs * cotangent[..., None]).astype(logits.dtype),)


_log_partition.defvjp(_log_partition_fwd, _log_partition_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _log_partition_and_agreement(logits, targets, on_target, off_target):
  """Log partition, and the logits' mean under smoothed token ids.

  The mean gives the weight `on_target` to the target and `off_target` to each
  other entry. As in `_log_partition`, the backward pass needs nothing of the
  logits' size but the logits: no one-hot array of the targets.
  """
  logits = logits.astype(jnp.float32)
  # A masked sum, not a gather: it fuses with the other passes over the logits
  # and splits over a vocabulary axis that is sharded between devices.
  agreement = (on_target - off_target) * jnp.sum(
    jnp.where(_is_target(logits, targets), logits, 0.0), axis=-1
  )
  if off_target:
    agreement += off_target * jnp.sum(logits, axis=-1)
  return _logsumexp(logits, targets), agreement


def _logsumexp(logits, targets):
  """`jax.nn.logsumexp` over the last axis, from the maxima of `is_argmax`."""
  most = jnp.maximum(*_extremes(logits, targets))
  most = jnp.where(jnp.isfinite(most), most, 0.0)
  return jnp.log(jnp.sum(jnp.exp(logits - most[..., None]), axis=-1)) + most


def _extremes(logits, targets):
  """The greatest logit before each target, and from it on; NaN if one is.

  Neither depends on another result, so that a compiler can compute both in the
  product that makes the logits.
  """
  is_before = jnp.arange(logits.shape[-1]) < targets[..., None]
  before = jnp.max(jnp.where(is_before, logits, -jnp.inf), axis=-1)
  rest = jnp.max(jnp.where(is_before, -jnp.inf, logits), axis=-1)
  return before, rest


def _is_target(logits, targets):
  vocabulary = jnp.arange(logits.shape[-1], dtype=targets.dtype)
  return targets[..., None] == vocabulary


def _log_partition_and_agreement_fwd(logits, targets, on_target, off_target):
  log_z, agreement = _log_partition_and_agreement(
    logits, targets, on_target, off_target
  )
  return (log_z, agreement), (logits, targets, log_z)


def _log_partition_and_agreement_bwd(on_target, off_target, saved, cotangents):
  logits, targets, log_z = saved
  to_log_z, to_agreement = (c[..., None] for c in cotangents)
  probs = jnp.exp(logits.astype(jnp.float32) - log_z[..., None])
  weights = jnp.where(_is_target(logits, targets), on_target, off_target)
  grad = probs * to_log_z + weights * to_agreement
  return grad.astype(logits.dtype), None


_log_partition_and_agreement.defvjp(
  _log_partition_and_agreement_fwd, _log_partition_and_agreement_bwd
)


def _check_prefix(what: str, found: tuple, expected: tuple) -> None:
  if found != expected:
    raise ValueError(
      f'{what}: expected shape {expected}, the shape of the logits'
      f' without the vocabulary axis, found {found}.'
    )


def cross_entropy_with_logits(
  logits: Float[Array, '*B V'], targets: Float[Array, '*B V'], z_loss: float
) -> tuple[Float[Array, '*B'], Float[Array, '*B']]:
  """Cross entropy against a distribution over the vocabulary.

  With `log_z = logsumexp(logits)`, the z-loss is `z_loss * log_z**2`; it keeps
  the logits from drifting (as T5X defines it).

  Args:
    logits: unnormalized log probabilities.
    targets: the probability of each vocabulary entry; use
      `token_cross_entropy` where targets are token ids.
    z_loss: the coefficient of the z-loss; 0 for none.

  Returns:
    (loss, z): the loss of each position in nats, which includes its z-loss,
    and the z-loss alone, both in float32.

  Raises:
    ValueError: if the two shapes differ.
  """
  if logits.shape != targets.shape:
    raise ValueError(
      f'cross_entropy_with_logits: expected targets of the logits shape'
      f' {logits.shape}, found {targets.shape}. Use token_cross_entropy for'
      ' token ids.'
    )
  log_z = _log_partition(logits)
  targets = targets.astype(jnp.float32)
  agreement = jnp.sum(targets * logits.astype(jnp.float32), axis=-1)
  z = z_loss * jnp.square(log_z)
  return log_z * jnp.sum(targets, axis=-1) - agreement + z, z


@jax.named_scope('loss')
def token_cross_entropy(
  logits: Float[Array, '*B V'],
  targets: Int[Array, '*B'],
  *,
  label_smoothing: float = 0.0,
  z_loss: float = 0.0,
) -> tuple[Float[Array, '*B'], Float[Array, '*B']]:
  """Cross entropy of token ids, without a one-hot array of the targets.

  Label smoothing `s` asks for probability `1 - s` on the target and
  `s / (V - 1)` on every other entry. The entropy of that distribution, the
  lowest loss that can be reached, is subtracted, so that 0 is a perfect score
  (as in T5X).

  Args:
    logits: unnormalized log probabilities, [B, T, V] or any leading axes.
    targets: token ids in [0, V), of the leading axes' shape.
    label_smoothing: `s`, in [0, 1).
    z_loss: the coefficient of the z-loss; 0 for none.

  Returns:
    (loss, z): the loss of each position in nats, which includes its z-loss,
    and the z-loss alone, both in float32.

  Raises:
    ValueError: if the shapes do not fit, or label_smoothing is not in [0, 1).
  """
  _check_prefix(
    'token_cross_entropy, targets', targets.shape, logits.shape[:-1]
  )
  if not 0.0 <= label_smoothing < 1.0:
    raise ValueError(
      f'label_smoothing: expected a number in [0, 1), found {label_smoothing}.'
    )
  logits, targets = jnp.asarray(logits), jnp.asarray(targets)
  vocab_size = logits.shape[-1]
  confidence = 1.0 - label_smoothing
  low, entropy = 0.0, 0.0
  if label_smoothing:
    low = label_smoothing / (vocab_size - 1)
    entropy = -confidence * math.log(confidence) - (
      label_smoothing * math.log(low)
    )
  log_z, agreement = _log_partition_and_agreement(
    logits, targets, confidence, low
  )
  z = z_loss * jnp.square(log_z)
  return log_z - agreement - entropy + z, z


@jax.named_scope('loss')
def is_argmax(
  logits: Float[Array, '*B V'], targets: Int[Array, '*B']
) -> Bool[Array, '*B']:
  """Whether each target is what `argmax` over the vocabulary gives.

  Of equal logits the first counts, and none if one is NaN. Unlike an argmax,
  this takes plain reductions, of which the loss has the same. Logits
  [2., 5., 5.] give True for target 1, False for 0 and 2.

  Args:
    logits: any scores, [B, T, V] or any leading axes.
    targets: token ids in [0, V), of the leading axes' shape.
  """
  logits = lax.stop_gradient(logits.astype(jnp.float32))
  score = jnp.sum(jnp.where(_is_target(logits, targets), logits, 0.0), axis=-1)
  before, rest = _extremes(logits, targets)
  # Comparisons with NaN are false.
  return ((targets == 0) | (score > before)) & (score >= rest)


def compute_weighted_cross_entropy(
  logits: Float[Array, '*B V'],
  targets: Int[Array, '*B'],
  weights: Float[Array, '*B'] | None = None,
  label_smoothing: float = 0.0,
  z_loss: float = 0.0,
  loss_normalizing_factor: float | jax.Array | None = None,
) -> tuple[Float[Array, ''], Float[Array, ''], Float[Array, '']]:
  """Weighted sum of `token_cross_entropy` over all positions.

  Args:
    logits: unnormalized log probabilities, [B, T, V] or any leading axes.
    targets: token ids of the leading axes' shape.
    weights: the weight of each position; None weighs all of them by 1.
    label_smoothing: see `token_cross_entropy`.
    z_loss: see `token_cross_entropy`.
    loss_normalizing_factor: both losses are divided by it; None divides by
      nothing.

  Returns:
    (loss, z_loss, weight_sum): the sum of the loss (which includes the
    z-loss), the sum of the z-loss alone, and the sum of the weights, which is
    never normalized; float32 scalars.

  Raises:
    ValueError: if shapes do not fit, or label_smoothing is not in [0, 1).
  """
  loss, z = token_cross_entropy(
    logits, targets, label_smoothing=label_smoothing, z_loss=z_loss
  )
  if weights is None:
    weight_sum = jnp.float32(targets.size)
  else:
    _check_prefix(
      'compute_weighted_cross_entropy, weights', weights.shape, targets.shape
    )
    weights = weights.astype(jnp.float32)
    loss, z = loss * weights, z * weights
    weight_sum = jnp.sum(weights)
  loss, z = jnp.sum(loss), jnp.sum(z)
  if loss_normalizing_factor is not None:
    loss, z = loss / loss_normalizing_factor, z / loss_normalizing_factor
  return loss, z, weight_sum


class SpecialLossNormalizingFactor(enum.Enum):
  """Factors that are computed from each batch.

  NUM_REAL_TARGET_TOKENS: the sum of the loss weights (the loss is a mean over
    the tokens that count).
  NUM_TOTAL_TARGET_TOKENS: the number of target positions, padding included.
  AVERAGE_PER_SEQUENCE: every sequence counts the same: each weight is divided
    by the sum over its sequence (its segment, in a packed row), and the factor
    is the number of sequences.
  """

  NUM_REAL_TARGET_TOKENS = 1
  NUM_TOTAL_TARGET_TOKENS = 2
  AVERAGE_PER_SEQUENCE = 3


# What normalizes a loss: a number, a special factor or its name, or nothing.
LossNormalizingFactor = float | int | str | SpecialLossNormalizingFactor | None


def convert_special_loss_normalizing_factor_to_enum(
  x: str,
) -> SpecialLossNormalizingFactor:
  """Returns the factor of that name, in any case.

  Raises:
    UserError: if no factor has that name.
  """
  names = SpecialLossNormalizingFactor.__members__
  if x.upper() not in names:
    raise errors.UserError(
      f'loss_normalizing_factor: expected a number, None or one of'
      f' {", ".join(names)}, found {x!r}.'
      + errors.did_you_mean(x.upper(), names)
    )
  return names[x.upper()]


def _sequence_weight_sums(
  weights: jax.Array, segment_ids: jax.Array | None
) -> jax.Array:
  """Returns, for each position, the sum of weights over its sequence."""
  if segment_ids is None:
    return jnp.sum(weights, axis=-1, keepdims=True)
  same = segment_ids[:, :, None] == segment_ids[:, None, :]
  return jnp.sum(jnp.where(same, weights[:, None, :], 0.0), axis=-1)


def get_loss_normalizing_factor_and_weights(
  loss_normalizing_factor: LossNormalizingFactor, batch: Mapping[str, jax.Array]
) -> tuple[float | int | jax.Array | None, jax.Array | None]:
  """Returns the factor and the loss weights to use for a batch.

  Example (AVERAGE_PER_SEQUENCE, one packed row):

    decoder_segment_ids:  [[1, 1, 1, 1, 2, 2, 0]]
    decoder_loss_weights: [[1, 1, 1, 1, 1, 1, 0]]
    -> factor 2.0, weights [[1/4, 1/4, 1/4, 1/4, 1/2, 1/2, 0]]

  Args:
    loss_normalizing_factor: a number or None (handed back as it is), a
      `SpecialLossNormalizingFactor` or its name.
    batch: has `decoder_target_tokens` [B, T]; `decoder_loss_weights` [B, T]
      (without it a special factor gives weight 1 to every token but 0) and
      `decoder_segment_ids` [B, T] where rows are packed.

  Returns:
    (factor, weights): weights is None where the batch has none and the factor
    is a number or None.

  Raises:
    UserError: if the factor is a name that does not exist.
  """
  weights = batch.get('decoder_loss_weights')
  factor = loss_normalizing_factor
  if isinstance(factor, str):
    factor = convert_special_loss_normalizing_factor_to_enum(factor)
  if not isinstance(factor, SpecialLossNormalizingFactor):
    return factor, weights
  targets = batch['decoder_target_tokens']
  weights = (targets > 0) if weights is None else weights
  weights = jnp.asarray(weights, jnp.float32)
  if factor is SpecialLossNormalizingFactor.NUM_REAL_TARGET_TOKENS:
    return jnp.sum(weights), weights
  if factor is SpecialLossNormalizingFactor.NUM_TOTAL_TARGET_TOKENS:
    return targets.size, weights
  segments = batch.get('decoder_segment_ids')
  if segments is not None:
    # 0 is padding, and no sequence.
    weights = jnp.where(segments == 0, 0.0, weights)
  totals = _sequence_weight_sums(weights, segments)
  # A sequence whose weights are all 0 has no loss: they stay 0.
  weights = weights / jnp.where(totals == 0, 1, totals)
  return jnp.sum(weights), weights
