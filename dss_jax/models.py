"""The model of distilling step-by-step: T5 with a loss over two tasks.

Axes: B batch, L encoder length, T decoder length, V vocabulary.
"""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from jaxtyping import Array, Float, Int

from dss_jax.errors import DataError, choose
from dss_jax.pipeline.methods import METHODS
from dss_jax.pipeline.packing import LABEL_TASK, RATIONALE_TASK
from t5x import decoding, losses, models
from t5x import metrics as t5x_metrics

Batch = Mapping[str, jax.Array]

TASKS = {'label': LABEL_TASK, 'rationale': RATIONALE_TASK}

# What `prepare_batch` adds to a batch.
TOKEN_WEIGHTS = 'decoder_token_weights'

# Of T5X's metrics, those that divide a summed loss by a number of tokens: this
# loss is a mean already.
_NOT_MEANS = (
  'loss_per_nonpadding_target_token',
  'loss_per_all_target_tokens',
  'z_loss_per_all_target_tokens',
  'cross_ent_loss_per_all_target_tokens',
)


class _LazyConverter:
  """Hands out the feature converter without importing TensorFlow before."""

  def __get__(self, instance: Any, owner: Any = None) -> Any:
    from dss_jax.pipeline import feature_converter

    return feature_converter.DistillFeatureConverter


class DistillModel(models.EncoderDecoderModel):
  """An encoder-decoder that learns labels and rationales together.

  The loss (section 3.2 of Hsieh et al. 2023, weighted as in their code) is

    alpha * mean over label tokens + (1 - alpha) * mean over rationale tokens

  of the cross entropy, the means over the whole global batch. It is computed as
  one weighted sum over tokens (`token_weights`), whose weights `prepare_batch`
  writes before the batch is split. So it is the same packed or not, in one
  batch or in microbatches, on one device or many. T5X itself has no such hook:
  there, train with `num_microbatches = None`, since each microbatch takes its
  own means.

  Label smoothing and z-loss go through the same weights. Metrics, where there
  is something to measure: `loss` is what is optimised; `label_loss` and
  `rationale_loss` are the two means (label smoothing included) and `z_loss`
  what it adds, so that

    loss = alpha * label_loss + (1 - alpha) * rationale_loss + z_loss;

  `label_accuracy` and `rationale_accuracy` count right tokens, `label_tokens`
  and `rationale_tokens` all tokens of a step; `non_padding_fraction/encoder`
  and `/decoder` say how full the rows are, `timing/tokens_per_second` counts
  real tokens of both sides. The rest are T5X's.

  Attributes:
    FEATURE_CONVERTER_CLS: `dss_jax.feature_converters.DistillFeatureConverter`
      unless the constructor was given another one.
  """

  FEATURE_CONVERTER_CLS = _LazyConverter()

  def __init__(
    self,
    module: Any,
    input_vocabulary: Any,
    output_vocabulary: Any,
    optimizer_def: Any,
    decode_fn: Callable[..., Any] = decoding.beam_search,
    feature_converter_cls: Callable[..., Any] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: Any = None,
    default_decoder_params: Any = None,
    alpha: float = 0.5,
    method: str = 'dss',
  ):
    """Takes what T5X's EncoderDecoderModel takes, and the two of the method.

    Args:
      module: the network.
      input_vocabulary: SeqIO vocabulary of the inputs.
      output_vocabulary: SeqIO vocabulary of the targets.
      optimizer_def: T5X optimizer definition.
      decode_fn: how targets are decoded.
      feature_converter_cls: replaces `DistillFeatureConverter`.
      label_smoothing: probability mass spread over the vocabulary.
      z_loss: coefficient of the squared log-partition function.
      loss_normalizing_factor: must stay None; the weights normalise.
      default_decoder_params: T5X's defaults for decoding.
      alpha: weight of the labels, from 0 to 1; counts for 'dss' alone.
      method: 'dss', or 'finetune' and 'single_task', whose loss is the mean
        over all target tokens, whatever their task.

    Raises:
      DataError: an argument is out of its range.
    """
    if not 0 <= alpha <= 1:
      raise DataError(
        'alpha weighs the label loss, and 1 - alpha the rationale loss:'
        f' expected a number from 0 to 1, found {alpha}.'
      )
    choose('METHOD', method, METHODS)
    if loss_normalizing_factor is not None:
      raise DataError(
        'The loss of DistillModel is a weighted mean already: expected'
        f' loss_normalizing_factor=None, found {loss_normalizing_factor!r}.'
        ' Remove the binding (macro LOSS_NORMALIZING_FACTOR).'
      )
    super().__init__(
      module=module,
      input_vocabulary=input_vocabulary,
      output_vocabulary=output_vocabulary,
      optimizer_def=optimizer_def,
      decode_fn=decode_fn,
      feature_converter_cls=feature_converter_cls,
      label_smoothing=label_smoothing,
      z_loss=z_loss,
      loss_normalizing_factor=None,
      default_decoder_params=default_decoder_params,
    )
    self._smoothing = label_smoothing
    self._z_coefficient = z_loss
    self.alpha = alpha
    self.method = method

  def prepare_batch(self, batch: Batch) -> Batch:
    """Writes the weight of every target token of the whole global batch.

    Args:
      batch: what the feature converter made, all rows of a step.

    Returns:
      The batch with `decoder_token_weights`, float32 [B, T].
    """
    return {**batch, TOKEN_WEIGHTS: self.token_weights(batch)}

  def token_weights(self, batch: Batch) -> Float[Array, 'B T']:
    """Returns how much each target token counts in the loss.

    With alpha 0.4, one row of three label tokens, two rationale tokens and
    padding:

      decoder_task_ids       [  1,   1,   1,   2,   2,   0]
      decoder_token_weights  [.13, .13, .13,  .3,  .3,   0]

    If a task has no token in the batch, the other one keeps its weight.

    Args:
      batch: all rows over which the means go.

    Raises:
      DataError: the method is 'dss' and the batch doesn't tell the tasks.
    """
    masks = self._task_masks(batch)
    if self.method != 'dss':
      return _normalised(masks['label'] + masks['rationale'])
    label = _normalised(masks['label'])
    rationale = _normalised(masks['rationale'])
    return self.alpha * label + (1 - self.alpha) * rationale

  def loss_fn(
    self,
    params: Mapping[str, Any],
    batch: Batch,
    dropout_rng: jax.Array | None,
  ) -> tuple[Float[Array, ''], MutableMapping[str, clu_metrics.Metric]]:
    """Computes the loss of (a part of) a batch, and what is reported of it.

    Args:
      params: of the network.
      batch: what the feature converter made; with `decoder_token_weights` it
        may be a part of the batch that they were computed for.
      dropout_rng: a key for dropout; None for none.

    Returns:
      The loss to minimise and its metrics. Summed over the parts of a batch,
      the losses give the loss of the whole.
    """
    logits = self._logits(params, batch, dropout_rng)
    weights = batch.get(TOKEN_WEIGHTS)
    if weights is None:
      weights = self.token_weights(batch)
    loss, z_loss, _ = losses.compute_weighted_cross_entropy(
      logits,
      targets=batch['decoder_target_tokens'],
      weights=weights,
      label_smoothing=self._smoothing,
      z_loss=self._z_coefficient,
    )
    metrics = self._metrics(logits, batch, loss, z_loss)
    return loss, metrics

  def eval_fn(
    self, params: Mapping[str, Any], batch: Batch
  ) -> tuple[Float[Array, ''], MutableMapping[str, clu_metrics.Metric]]:
    """Returns loss and metrics of a batch, without dropout."""
    return self.loss_fn(params, batch, dropout_rng=None)

  def _logits(
    self,
    params: Mapping[str, Any],
    batch: Batch,
    dropout_rng: jax.Array | None,
  ) -> Float[Array, 'B T V']:
    """Applies the network."""
    logits = self.module.apply(
      {'params': params},
      batch['encoder_input_tokens'],
      batch['decoder_input_tokens'],
      batch['decoder_target_tokens'],
      encoder_segment_ids=batch.get('encoder_segment_ids'),
      decoder_segment_ids=batch.get('decoder_segment_ids'),
      encoder_positions=batch.get('encoder_positions'),
      decoder_positions=batch.get('decoder_positions'),
      enable_dropout=dropout_rng is not None,
      rngs=None if dropout_rng is None else {'dropout': dropout_rng},
    )
    # Nothing is mutable, so nothing but the logits comes back.
    return cast(jax.Array, logits)

  def _task_masks(self, batch: Batch) -> dict[str, Float[Array, 'B T']]:
    """Returns the loss weight of each token, split by task."""
    tasks = batch.get('decoder_task_ids')
    used = batch.get('decoder_loss_weights')
    if used is None:
      used = batch['decoder_target_tokens'] != 0
    used = used.astype(jnp.float32)
    if tasks is None:
      if self.method == 'dss':
        raise DataError(
          "The method 'dss' needs the task of every target token: expected"
          f' decoder_task_ids in the batch, found only {sorted(batch)}. Make it'
          ' with DistillFeatureConverter.'
        )
      tasks = jnp.full_like(batch['decoder_target_tokens'], LABEL_TASK)
    return {
      name: jnp.where(tasks == task, used, 0) for name, task in TASKS.items()
    }

  def _metrics(
    self,
    logits: Float[Array, 'B T V'],
    batch: Batch,
    loss: Float[Array, ''],
    z_loss: Float[Array, ''],
  ) -> MutableMapping[str, clu_metrics.Metric]:
    """Collects what `DistillModel` says is reported."""
    targets = batch['decoder_target_tokens']
    masks = self._task_masks(batch)
    segments = {
      'encoder': _segment_ids(batch, 'encoder', 'input'),
      'decoder': _segment_ids(batch, 'decoder', 'target'),
    }
    metrics = models.compute_base_metrics(
      logits=logits,
      targets=targets,
      mask=masks['label'] + masks['rationale'],
      loss=loss,
      z_loss=z_loss,
      segment_ids=segments,
    )
    for name in _NOT_MEANS:
      metrics.pop(name, None)
    real = sum(jnp.sum(ids != 0) for ids in segments.values())
    metrics['timing/tokens_per_second'] = (
      t5x_metrics.TimeRate.from_model_output(numerator=real)
    )
    correct = losses.is_argmax(logits, targets)
    for task, mask in masks.items():
      # XLA computes the softmax of these and of the loss once.
      cross_entropy, _, count = losses.compute_weighted_cross_entropy(
        logits, targets, mask, label_smoothing=self._smoothing
      )
      metrics[f'{task}_loss'] = _mean(cross_entropy, count)
      metrics[f'{task}_accuracy'] = _mean(jnp.sum(correct * mask), count)
      metrics[f'{task}_tokens'] = t5x_metrics.AveragePerStep.from_model_output(
        count
      )
    return metrics


def _segment_ids(batch: Batch, side: str, text: str) -> Int[Array, 'B L']:
  """Returns which example each token is of, 0 for padding."""
  ids = batch.get(f'{side}_segment_ids')
  if ids is not None:
    return ids
  return (batch[f'{side}_{text}_tokens'] != 0).astype(jnp.int32)


def _normalised(mask: Float[Array, 'B T']) -> Float[Array, 'B T']:
  """Divides by the sum; a mask of zeros stays one."""
  total = jnp.sum(mask)
  return mask / jnp.where(total > 0, total, 1)


def _mean(total: jax.Array, count: jax.Array) -> clu_metrics.Average:
  """A mean that is left out of the report if `count` stays 0."""
  return clu_metrics.Average(total=total, count=count)
