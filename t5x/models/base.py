"""Base classes of models: what trainers, evaluators and inference call.

A model is a network (a flax module), a loss with metrics, a way to decode, and
the vocabularies. Parameters are passed in: a model holds none.

Axes: B batch, L encoder length, T decoder length, V vocabulary.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from flax import linen as nn
from jaxtyping import Array, Float, Int

from t5x import losses, optimizers
from t5x import metrics as metrics_lib

Batch = Mapping[str, jax.Array]
MetricsMap = metrics_lib.MetricsMap
PyTree = Any
PyTreeDef = jax.tree_util.PyTreeDef
Params = Mapping[str, Any]
Vocabulary = Any  # `seqio.Vocabulary`; this module doesn't import seqio.

# Where `prepare_batch` leaves what it computed from the whole batch.
_FACTOR_KEY = 'loss_normalizing_factor'


class DecodeFnCallable(Protocol):
  """A decoding algorithm, such as those in `t5x.decoding`.

  It is called with `inputs`, `cache`, `tokens_to_logits`, `eos_id`,
  `num_decodes`, `cache_offset` and options of its own, all by name; see
  `decoding.beam_search`.
  """

  def __call__(
    self, *args: Any, **kwargs: Any
  ) -> tuple[jax.Array, jax.Array]: ...


@dataclasses.dataclass(frozen=True)
class DecoderParams:
  """Defaults of `predict_batch_with_aux`.

  Attributes:
    num_decodes: sequences to search or sample for each example.
    return_all_decodes: whether to return all of them, or the best alone.
  """

  num_decodes: int = 1
  return_all_decodes: bool = False


class LazySeqioConverter:
  """A class attribute: a feature converter of SeqIO, imported on first use."""

  def __init__(self, name: str):
    self._name = name

  def __get__(self, instance: Any, owner: Any = None) -> Any:
    import seqio

    return getattr(seqio, self._name)


class BaseModel(abc.ABC):
  """What every model offers.

  A subclass names its `FEATURE_CONVERTER_CLS`, the SeqIO feature converter that
  makes its batches.

  Args:
    optimizer_def: how its parameters are updated.
  """

  FEATURE_CONVERTER_CLS: Callable[..., Any]

  def __init__(self, optimizer_def: optimizers.OptimizerDef):
    self.optimizer_def = optimizer_def

  def prepare_batch(self, batch: Batch) -> Batch:
    """Adds what needs the whole batch, before it is split into microbatches.

    Called once per step, traced, on the global batch. All features, including
    new ones, must have B rows.

    Args:
      batch: features [B, ...].
    """
    return batch

  def padded_features(self, mode: str) -> tuple[str, ...]:
    """Prefixes of the names of features whose padding inference may cut off.

    Such a feature ends with zeros that don't change the results. There are none
    by default; inference then always sees batches of the full length.

    Args:
      mode: 'predict', 'predict_with_aux' or 'score'.
    """
    return ()

  @abc.abstractmethod
  def loss_fn(
    self, params: Params, batch: Batch, dropout_rng: jax.Array | None
  ) -> tuple[jax.Array, MetricsMap]:
    """Returns the loss to minimize and metrics.

    The losses of microbatches are summed.

    Args:
      params: the parameters.
      batch: features [B, ...], from `prepare_batch`.
      dropout_rng: a key for dropout; None for no dropout.
    """

  def eval_fn(
    self,
    params: Params,
    batch: Batch,
    flax_mutables: Mapping[str, Any] | None = None,
  ) -> tuple[jax.Array, MetricsMap]:
    """Returns loss and metrics without dropout.

    Args:
      params: the parameters.
      batch: features [B, ...], from `prepare_batch`.
      flax_mutables: other variables of a model that has any, whose `loss_fn`
        takes them as a fourth argument. What becomes of them is left out.
    """
    if flax_mutables is None:
      return self.loss_fn(params, batch, dropout_rng=None)
    with_mutables: Any = self.loss_fn
    loss, (metrics, _) = with_mutables(params, batch, None, flax_mutables)
    return loss, metrics

  def predict_batch(
    self, params: Params, batch: Batch, rng: jax.Array | None = None
  ) -> jax.Array:
    """Returns predicted tokens [B, T]; see `predict_batch_with_aux`."""
    return self.predict_batch_with_aux(params, batch, rng=rng)[0]

  @abc.abstractmethod
  def predict_batch_with_aux(
    self, params: Params, batch: Batch, rng: jax.Array | None = None
  ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Returns predicted tokens and other results."""

  @abc.abstractmethod
  def score_batch(
    self, params: Params, batch: Batch, return_intermediates: bool = False
  ) -> Any:
    """Returns the log-likelihood of each example's targets, [B]."""

  @abc.abstractmethod
  def get_initial_variables(
    self,
    rng: jax.Array,
    input_shapes: Mapping[str, Sequence[int]],
    input_types: Mapping[str, Any] | None = None,
  ) -> Mapping[str, Any]:
    """Returns newly initialized variables of the module.

    Args:
      rng: a key.
      input_shapes: the shape of each feature.
      input_types: the type of each feature; float32 by default.
    """


def _segment_metrics(
  segment_ids: Mapping[str, jax.Array],
) -> dict[str, clu_metrics.Metric]:
  """Measures, for each feature, how full rows are and what they hold.

  Args:
    segment_ids: feature name to [B, length]: 0 for padding, else the number of
      the example within its row.
  """
  metrics: dict[str, clu_metrics.Metric] = {}
  all_real: int | jax.Array = 0
  all_positions = 0
  for feature, ids in segment_ids.items():
    real = jnp.sum(ids != 0)
    metrics[f'effective_batch_size/{feature}'] = (
      metrics_lib.AveragePerStep.from_model_output(jnp.max(ids, axis=1))
    )
    metrics[f'non_padding_fraction/{feature}'] = metrics_lib.WeightedMean(
      real, jnp.asarray(ids.size)
    )
    all_real, all_positions = all_real + real, all_positions + ids.size
  metrics['non_padding_fraction/overall'] = metrics_lib.WeightedMean(
    all_real, jnp.asarray(all_positions)
  )
  return metrics


def compute_base_metrics(
  logits: Float[Array, 'B T V'],
  targets: Int[Array, 'B T'],
  mask: Float[Array, 'B T'] | None,
  loss: jax.Array,
  z_loss: jax.Array | None = None,
  segment_ids: Mapping[str, jax.Array] | None = None,
) -> MetricsMap:
  """Returns T5X's metrics of a batch.

  Args:
    logits: unnormalized log probabilities.
    targets: token ids.
    mask: weight of each target, 0 for padding; None weighs all by 1.
    loss: what is minimized, which includes the z-loss.
    z_loss: the z-loss in it.
    segment_ids: feature name to [B, length], see `_segment_metrics`.

  Returns:
    `loss`, `z_loss` and `cross_ent_loss` per step, means over tokens, and
    rates per second, whose time the host fills in.
  """
  if mask is None:
    mask = jnp.ones(targets.shape, jnp.float32)
  devices = jax.device_count()
  rows, tokens = targets.shape[0], targets.size
  real = jnp.sum(mask)
  correct = losses.is_argmax(logits, targets)
  rate = metrics_lib.TimeRate.from_model_output
  mean = metrics_lib.WeightedMean
  metrics: MetricsMap = {
    'accuracy': mean.from_model_output(correct, mask),
    'loss': metrics_lib.AveragePerStep.from_model_output(loss),
    'loss_per_nonpadding_target_token': mean(loss, real),
    'loss_per_all_target_tokens': mean(loss, jnp.asarray(tokens)),
    'nonpadding_fraction': mean(real, jnp.asarray(tokens)),
    'timing/seconds': metrics_lib.Time(),
    'timing/seqs': metrics_lib.Sum.from_model_output(rows),
    'timing/seqs_per_second': rate(numerator=jnp.asarray(rows)),
    'timing/seqs_per_second_per_core': rate(
      numerator=jnp.asarray(rows / devices)
    ),
    'timing/steps_per_second': metrics_lib.StepsPerTime.from_model_output(),
    'timing/target_tokens_per_second': rate(numerator=jnp.asarray(tokens)),
    'timing/target_tokens_per_second_per_core': rate(
      numerator=jnp.asarray(tokens / devices)
    ),
  }
  if z_loss is not None:
    per_step = metrics_lib.AveragePerStep.from_model_output
    metrics['z_loss'] = per_step(z_loss)
    metrics['cross_ent_loss'] = per_step(loss - z_loss)
  if segment_ids:
    metrics.update(_segment_metrics(segment_ids))
  return metrics


def _segment_ids(batch: Batch) -> dict[str, jax.Array]:
  """Returns feature name to segment ids; one segment per row if not packed."""
  suffix = '_segment_ids'
  packed = {
    name.removesuffix(suffix): ids
    for name, ids in batch.items()
    if name.endswith(suffix)
  }
  if packed:
    return packed
  return {
    name.removesuffix('_tokens'): (batch[name] != 0).astype(jnp.int32)
    for name in ('encoder_input_tokens', 'decoder_target_tokens')
    if name in batch
  }


class BaseTransformerModel(BaseModel):
  """A network with a cross-entropy loss over tokens.

  Args:
    module: the network.
    input_vocabulary: of the inputs (a `seqio.Vocabulary`).
    output_vocabulary: of the targets.
    optimizer_def: how parameters are updated.
    decode_fn: how tokens are chosen.
    label_smoothing: see `losses.compute_weighted_cross_entropy`.
    z_loss: see there.
    loss_normalizing_factor: see
      `losses.get_loss_normalizing_factor_and_weights`. It is computed over the
      whole global batch, whatever the microbatches.
  """

  def __init__(
    self,
    module: nn.Module,
    input_vocabulary: Vocabulary,
    output_vocabulary: Vocabulary,
    optimizer_def: optimizers.OptimizerDef,
    decode_fn: DecodeFnCallable | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: losses.LossNormalizingFactor = None,
  ):
    super().__init__(optimizer_def)
    self.module = module
    self._input_vocabulary = input_vocabulary
    self._output_vocabulary = output_vocabulary
    self._decode_fn = decode_fn
    self._label_smoothing = label_smoothing
    self._z_loss = z_loss
    self._loss_normalizing_factor = loss_normalizing_factor

  @property
  def input_vocabulary(self) -> Vocabulary:
    return self._input_vocabulary

  @property
  def output_vocabulary(self) -> Vocabulary:
    return self._output_vocabulary

  @property
  def decode_fn(self) -> DecodeFnCallable | None:
    return self._decode_fn

  @abc.abstractmethod
  def _compute_logits(
    self,
    params: Params,
    batch: Batch,
    dropout_rng: jax.Array | None = None,
    mutable: Any = False,
  ) -> Any:
    """Returns logits [B, T, V], and the mutated variables if there are any."""

  def prepare_batch(self, batch: Batch) -> Batch:
    """Adds the normalizing factor and weights of the whole batch.

    Only if they depend on the batch: the factor as `loss_normalizing_factor`
    [B], the same in every row, and the weights as `decoder_loss_weights`.
    """
    if not isinstance(
      self._loss_normalizing_factor, str | losses.SpecialLossNormalizingFactor
    ):
      return batch
    factor, weights = losses.get_loss_normalizing_factor_and_weights(
      self._loss_normalizing_factor, batch
    )
    assert factor is not None and weights is not None  # Both are computed.
    rows = batch['decoder_target_tokens'].shape[0]
    factors = jnp.full((rows,), factor, jnp.float32)
    return {**batch, 'decoder_loss_weights': weights, _FACTOR_KEY: factors}

  def loss_fn(
    self, params: Params, batch: Batch, dropout_rng: jax.Array | None
  ) -> tuple[jax.Array, MetricsMap]:
    """Returns the weighted cross entropy, z-loss included, and metrics."""
    logits = self._compute_logits(params, batch, dropout_rng)
    factor: float | int | jax.Array | None
    weights: jax.Array | None
    if _FACTOR_KEY in batch:
      factor, weights = batch[_FACTOR_KEY][0], batch['decoder_loss_weights']
    else:
      factor, weights = losses.get_loss_normalizing_factor_and_weights(
        self._loss_normalizing_factor, batch
      )
    loss, z_loss, _ = losses.compute_weighted_cross_entropy(
      logits,
      targets=batch['decoder_target_tokens'],
      weights=weights,
      label_smoothing=self._label_smoothing,
      z_loss=self._z_loss,
      loss_normalizing_factor=factor,
    )
    metrics = self._compute_metrics(
      logits=logits,
      targets=batch['decoder_target_tokens'],
      mask=weights,
      loss=loss,
      z_loss=z_loss,
      segment_ids=_segment_ids(batch),
    )
    return loss, metrics

  def _compute_metrics(self, **kwargs: Any) -> MetricsMap:
    return compute_base_metrics(**kwargs)
