"""The model of distilling step-by-step: T5 with a loss over its tasks.

Axes: B batch, L encoder length, T decoder length, V vocabulary.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from flax import linen as nn
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dss_jax.errors import DataError, choose
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.pipeline.methods import METHODS
from dss_jax.pipeline.packing import LABEL_TASK
from t5x import decoding, losses, models, optimizers
from t5x import metrics as t5x_metrics

Batch = Mapping[str, jax.Array]
Vocabulary = Any  # `seqio.Vocabulary`; this module doesn't import seqio.

# What `prepare_batch` adds to a batch.
TOKEN_WEIGHTS = 'decoder_token_weights'

# Those of T5X's metrics that divide a summed loss by a number of tokens: this
# loss is already a mean.
_NOT_MEANS = (
  'loss_per_nonpadding_target_token',
  'loss_per_all_target_tokens',
  'z_loss_per_all_target_tokens',
  'cross_ent_loss_per_all_target_tokens',
)


class _LazyConverter:
  """A class attribute: the feature converter, imported on first use."""

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

  With several kinds of rationales (`kinds`), the second mean is the weighted
  sum of theirs, each over its own tokens:

    (1 - alpha) * sum over kinds of weight * mean over the kind's tokens.

  Label smoothing and z-loss are weighted alike. Metrics, where there is
  something to measure: `loss` is what is optimized; `label_loss` and
  `rationale_loss` are the two means (label smoothing included) and `z_loss` is
  the rest, so that

    loss = alpha * label_loss + (1 - alpha) * rationale_loss + z_loss;

  `label_accuracy` and `rationale_accuracy` are the shares of right tokens,
  `label_tokens` and `rationale_tokens` the numbers of tokens per step;
  `non_padding_fraction/encoder` and `/decoder` are how full the rows are, and
  `timing/tokens_per_second` counts real tokens of both sides. The rest are
  T5X's. With several kinds, `rationale_loss` is the weighted sum of
  `rationale_loss/<kind>`, `rationale_accuracy` and `rationale_tokens` count the
  tokens of all kinds, and each has its own `…/<kind>`.

  It takes the arguments of `models.EncoderDecoderModel`, and:

  Args:
    feature_converter_cls: `feature_converters.DistillFeatureConverter` by
      default.
    loss_normalizing_factor: must stay None; the weights normalize.
    alpha: weight of the labels, from 0 to 1; matters only for 'dss'.
    method: 'dss', or 'finetune' and 'single_task', whose loss is the mean over
      all target tokens, whatever their task.
    rationale_kinds: the kinds of rationales and their weights, RATIONALE_KINDS;
      None for one.
    teachers: TEACHERS, which name the kinds where nothing else does.

  Raises:
    DataError: an argument is out of its range.
  """

  FEATURE_CONVERTER_CLS = _LazyConverter()

  def __init__(
    self,
    module: nn.Module,
    input_vocabulary: Vocabulary,
    output_vocabulary: Vocabulary,
    optimizer_def: optimizers.OptimizerDef,
    decode_fn: models.DecodeFnCallable = decoding.beam_search,
    feature_converter_cls: Callable[..., Any] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: None = None,
    default_decoder_params: models.DecoderParams | None = None,
    alpha: float = 0.5,
    method: str = 'dss',
    rationale_kinds: Any = None,
    teachers: Any = None,
  ):
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
    self.alpha = alpha
    self.method = method
    self.kinds = kinds_lib.given(rationale_kinds, teachers)

  def prepare_batch(self, batch: Batch) -> Batch:
    """Writes the weight of every target token of the whole global batch.

    Args:
      batch: from the feature converter, all rows of a step.

    Returns:
      The batch with `decoder_token_weights`, float32 [B, T].
    """
    return {**batch, TOKEN_WEIGHTS: self.token_weights(batch)}

  def token_weights(self, batch: Batch) -> Float[Array, 'B T']:
    """Returns the weight of each target token in the loss.

    With alpha 0.4, one row of three label tokens, two rationale tokens and
    padding:

      decoder_task_ids       [  1,   1,   1,   2,   2,   0]
      decoder_token_weights  [.13, .13, .13,  .3,  .3,   0]

    If a task has no token in the batch, the others keep their weights.

    Args:
      batch: all rows over which the means are taken.

    Raises:
      DataError: the method is 'dss' and the batch has no task ids.
    """
    label, *rationales = self._task_masks(batch)
    if self.method != 'dss':
      return _normalized(sum(rationales, label))
    label = _normalized(label)
    first, *others = (
      _weighed(kind.weight, _normalized(mask))
      for kind, mask in zip(self.kinds, rationales, strict=True)
    )
    rationale = sum(others, first)
    return self.alpha * label + (1 - self.alpha) * rationale

  def loss_fn(
    self, params: Mapping[str, Any], batch: Batch, dropout_rng: jax.Array | None
  ) -> tuple[Float[Array, ''], MutableMapping[str, clu_metrics.Metric]]:
    """Computes the loss and metrics of a batch, or of a part of one.

    Args:
      params: of the network.
      batch: from the feature converter; with `decoder_token_weights` it may be
        a part of the batch that they were computed for.
      dropout_rng: a key for dropout; None for no dropout.

    Returns:
      The loss to minimize and its metrics. The losses of the parts of a batch
      sum up to the loss of the whole.
    """
    logits = self._compute_logits(params, batch, dropout_rng)
    weights = batch.get(TOKEN_WEIGHTS)
    if weights is None:
      weights = self.token_weights(batch)
    loss, z_loss, _ = losses.compute_weighted_cross_entropy(
      logits,
      targets=batch['decoder_target_tokens'],
      weights=weights,
      label_smoothing=self._label_smoothing,
      z_loss=self._z_loss,
    )
    metrics = self._metrics(logits, batch, loss, z_loss)
    return loss, metrics

  def _task_masks(self, batch: Batch) -> list[Float[Array, 'B T']]:
    """Returns the loss weight of each token: the label's, then by kind."""
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
    ids = [LABEL_TASK, *(kind.task_id for kind in self.kinds)]
    return [jnp.where(tasks == task, used, 0) for task in ids]

  def _metrics(
    self,
    logits: Float[Array, 'B T V'],
    batch: Batch,
    loss: Float[Array, ''],
    z_loss: Float[Array, ''],
  ) -> MutableMapping[str, clu_metrics.Metric]:
    """Returns the metrics that the class lists."""
    targets = batch['decoder_target_tokens']
    masks = self._task_masks(batch)
    segments = {}
    for side, name in (('encoder', 'input'), ('decoder', 'target')):
      ids = batch.get(f'{side}_segment_ids')
      if ids is None:
        ids = (batch[f'{side}_{name}_tokens'] != 0).astype(jnp.int32)
      segments[side] = ids
    metrics = models.compute_base_metrics(
      logits=logits,
      targets=targets,
      mask=sum(masks[1:], masks[0]),
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
    correct = _is_argmax(logits, targets)
    label = self._of_task(logits, targets, correct, masks[0])
    metrics.update(label.metrics('label'))
    rationales = [
      self._of_task(logits, targets, correct, mask) for mask in masks[1:]
    ]
    if len(rationales) == 1:
      metrics.update(rationales[0].metrics('rationale'))
      return metrics
    for kind, sums in zip(self.kinds, rationales, strict=True):
      metrics.update(sums.metrics('rationale', f'/{kind.name}'))
    metrics.update(self._of_all_kinds(rationales))
    return metrics

  def _of_task(
    self,
    logits: Float[Array, 'B T V'],
    targets: Int[Array, 'B T'],
    correct: Bool[Array, 'B T'],
    mask: Float[Array, 'B T'],
  ) -> '_Sums':
    # XLA computes the softmax of these and of the loss once.
    cross_entropy, _, count = losses.compute_weighted_cross_entropy(
      logits, targets, mask, label_smoothing=self._label_smoothing
    )
    return _Sums(cross_entropy, jnp.sum(correct * mask), count)

  def _of_all_kinds(
    self, rationales: Sequence['_Sums']
  ) -> dict[str, clu_metrics.Metric]:
    """Returns what several kinds come to together."""
    totals, right, counts = map(jnp.stack, zip(*rationales, strict=True))
    found = _Sums(jnp.sum(totals), jnp.sum(right), jnp.sum(counts))
    weights = jnp.array([kind.weight for kind in self.kinds], jnp.float32)
    return {
      **found.metrics('rationale'),
      'rationale_loss': WeightedAverages(
        total=found.loss,
        count=found.tokens,
        totals=totals,
        counts=counts,
        weights=weights,
      ),
    }


class _Sums(NamedTuple):
  """What a task's tokens come to.

  Attributes:
    loss: the sum of their cross entropies.
    right: how many of them are predicted.
    tokens: how many there are.
  """

  loss: Float[Array, '']
  right: Float[Array, '']
  tokens: Float[Array, '']

  def metrics(self, name: str, of: str = '') -> dict[str, clu_metrics.Metric]:
    """Returns the metrics of a task.

    Args:
      name: of the task.
      of: which of several.
    """
    per_step = t5x_metrics.AveragePerStep.from_model_output
    # A `clu_metrics.Average` is left out of the report if its count stays 0.
    return {
      f'{name}_loss{of}': clu_metrics.Average(self.loss, self.tokens),
      f'{name}_accuracy{of}': clu_metrics.Average(self.right, self.tokens),
      f'{name}_tokens{of}': per_step(self.tokens),
    }


@struct.dataclass
class WeightedAverages(clu_metrics.Average):
  """A weighted sum of averages; one over nothing adds nothing.

  Attributes:
    totals: the sums of their values, [K].
    counts: how many values there are, [K].
    weights: of the averages, [K].
  """

  totals: jax.Array
  counts: jax.Array
  weights: jax.Array

  def merge(self, other: 'WeightedAverages') -> 'WeightedAverages':
    """Returns the averages of the values of both."""
    return self.replace(
      total=self.total + other.total,
      count=self.count + other.count,
      totals=self.totals + other.totals,
      counts=self.counts + other.counts,
      # Whoever sums up may begin with zeros.
      weights=jnp.maximum(self.weights, other.weights),
    )

  def compute(self) -> Any:
    """Returns the weighted sum."""
    counts = jnp.where(self.counts > 0, self.counts, 1)
    return jnp.sum(self.weights * self.totals / counts)


def _is_argmax(
  logits: Float[Array, 'B T V'], targets: Int[Array, 'B T']
) -> Bool[Array, 'B T']:
  """Whether each target is the first of the greatest logits, none being NaN.

  From maxima that the loss takes as well: an argmax would be a further pass
  over the logits, and so would a comparison with the target's.
  """
  logits = lax.stop_gradient(logits)
  ids = jnp.arange(logits.shape[-1])
  is_target, is_before = ids == targets[..., None], ids < targets[..., None]
  score = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
  before = jnp.max(jnp.where(is_before, logits, -jnp.inf), axis=-1)
  rest = jnp.max(jnp.where(is_before, -jnp.inf, logits), axis=-1)
  # Comparisons with NaN are false.
  return ((targets == 0) | (score > before)) & (score >= rest)


def _normalized(mask: Float[Array, 'B T']) -> Float[Array, 'B T']:
  """Divides by the sum; a mask of zeros stays the same."""
  total = jnp.sum(mask)
  return mask / jnp.where(total > 0, total, 1)


def _weighed(weight: float, means: Float[Array, 'B T']) -> Float[Array, 'B T']:
  """Multiplies by a weight; that of an only kind costs nothing."""
  return means if weight == 1.0 else weight * means
