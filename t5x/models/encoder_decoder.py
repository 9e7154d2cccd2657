"""The encoder-decoder model.

Axes: B batch, L encoder length, T decoder length, V vocabulary.
"""

import functools
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Int

from t5x import decoding, errors, losses, optimizers
from t5x.models import base


def get_input_vocabulary(model: base.BaseTransformerModel) -> base.Vocabulary:
  """Returns the vocabulary of a model's inputs."""
  return model.input_vocabulary


def get_output_vocabulary(model: base.BaseTransformerModel) -> base.Vocabulary:
  """Returns the vocabulary of a model's targets."""
  return model.output_vocabulary


class EncoderDecoderModel(base.BaseTransformerModel):
  """A sequence-to-sequence transformer.

  It takes the arguments of `BaseTransformerModel`, and:

  Args:
    module: a network with the methods of
      `t5x.examples.t5.network.Transformer`.
    feature_converter_cls: the SeqIO converter that makes the batches;
      `seqio.EncDecFeatureConverter` by default.
    default_decoder_params: defaults of `predict_batch_with_aux`.
  """

  _decode_fn: base.DecodeFnCallable
  FEATURE_CONVERTER_CLS = base.LazySeqioConverter('EncDecFeatureConverter')

  def __init__(
    self,
    module: nn.Module,
    input_vocabulary: base.Vocabulary,
    output_vocabulary: base.Vocabulary,
    optimizer_def: optimizers.OptimizerDef,
    decode_fn: base.DecodeFnCallable = decoding.beam_search,
    feature_converter_cls: Callable[..., Any] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: losses.LossNormalizingFactor = None,
    default_decoder_params: base.DecoderParams | None = None,
  ):
    if feature_converter_cls is not None:
      self.FEATURE_CONVERTER_CLS = feature_converter_cls
    self._default_decoder_params = (
      default_decoder_params or base.DecoderParams()
    )
    super().__init__(
      module=module,
      input_vocabulary=input_vocabulary,
      output_vocabulary=output_vocabulary,
      optimizer_def=optimizer_def,
      decode_fn=decode_fn,
      label_smoothing=label_smoothing,
      z_loss=z_loss,
      loss_normalizing_factor=loss_normalizing_factor,
    )

  def padded_features(self, mode: str) -> tuple[str, ...]:
    """See `BaseModel`; predictions are as long as the decoder's features."""
    return ('encoder_', 'decoder_') if mode == 'score' else ('encoder_',)

  def get_initial_variables(
    self,
    rng: jax.Array,
    input_shapes: Mapping[str, Sequence[int]],
    input_types: Mapping[str, Any] | None = None,
  ) -> Mapping[str, Any]:
    """Returns newly initialized variables of the network.

    Args:
      rng: a key.
      input_shapes: shape of `encoder_input_tokens` [B, L] and
        `decoder_input_tokens` [B, T], and of positions and segment ids where
        batches have them.
      input_types: the type of each feature; int32 by default.

    Returns:
      The collections 'params' and 'params_axes'.
    """
    types = input_types or {}

    def ones(name):
      if name not in input_shapes:
        return None
      return jnp.ones(input_shapes[name], types.get(name, jnp.int32))

    return self.module.init(
      {'params': rng},
      ones('encoder_input_tokens'),
      ones('decoder_input_tokens'),
      ones('decoder_input_tokens'),
      encoder_segment_ids=ones('encoder_segment_ids'),
      decoder_segment_ids=ones('decoder_segment_ids'),
      encoder_positions=ones('encoder_positions'),
      decoder_positions=ones('decoder_positions'),
      decode=False,
      enable_dropout=False,
    )

  def _compute_logits(
    self,
    params: base.Params,
    batch: base.Batch,
    dropout_rng: jax.Array | None = None,
    mutable: Any = False,
  ) -> Any:
    """Returns logits [B, T, V], and the mutated variables if there are any."""
    rngs = {} if dropout_rng is None else {'dropout': dropout_rng}
    return self.module.apply(
      {'params': params},
      batch['encoder_input_tokens'],
      batch['decoder_input_tokens'],
      batch['decoder_target_tokens'],
      encoder_segment_ids=batch.get('encoder_segment_ids'),
      decoder_segment_ids=batch.get('decoder_segment_ids'),
      encoder_positions=batch.get('encoder_positions'),
      decoder_positions=batch.get('decoder_positions'),
      decode=False,
      enable_dropout=bool(rngs),
      rngs=rngs,
      mutable=mutable,
    )

  def _start_decoding(
    self,
    params: base.Params,
    inputs: Int[Array, 'B L'],
    decoder_inputs: Int[Array, 'B T'],
    num_decodes: int,
  ) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """Encodes once, and makes an empty cache as long as `decoder_inputs`.

    Returns:
      (fn, cache): `fn` takes a `decoding.DecodingState` and returns logits
      [B * num_decodes, V] and the next cache; `cache` has B rows.
    """
    # Encode.
    variables: dict[str, Any] = {'params': params}
    encoded: Any = self.module.apply(
      variables, inputs, enable_dropout=False, method=self.module.encode
    )

    # Make the cache from its shapes alone.
    decode = functools.partial(
      self.module.apply,
      decode=True,
      enable_dropout=False,
      method=self.module.decode,
      mutable=['cache'],
    )

    def make_cache(variables, encoded):
      ids = decoder_inputs
      _, made = decode(variables, encoded, inputs, ids, ids)
      return made['cache']

    shapes = jax.eval_shape(make_cache, variables, encoded)
    cache = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    # Our network projects keys and values of cross attention once, for all
    # decodes of a row, and takes a cache of any length; other networks get one
    # encoded row per decode, and the length.
    cache_encoded = getattr(self.module, 'cache_encoded', None)
    max_decode_length = None
    if cache_encoded is not None:
      _, made = self.module.apply(
        variables, encoded, method=cache_encoded, mutable=['encoded_cache']
      )
      variables |= made
    else:
      max_decode_length = decoder_inputs.shape[1]
      encoded = decoding.flat_batch_beam_expand(encoded, num_decodes)
      inputs = decoding.flat_batch_beam_expand(inputs, num_decodes)

    def tokens_to_logits(state: decoding.DecodingState):
      logits, updated = decode(
        {**variables, 'cache': state.cache},
        encoded,
        inputs,
        state.cur_token,
        state.cur_token,
        max_decode_length=max_decode_length,
      )
      return jnp.squeeze(logits, axis=1), updated['cache']

    if cache_encoded is not None:
      return decoding.ShortCacheModel(tokens_to_logits), cache
    return tokens_to_logits, cache

  def predict_batch_with_aux(
    self,
    params: base.Params,
    batch: base.Batch,
    rng: jax.Array | None = None,
    decoder_params: MutableMapping[str, Any] | None = None,
    return_all_decodes: bool | None = None,
    num_decodes: int | None = None,
    prompt_with_targets: bool = False,
  ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Decodes with a cache, up to the length of `decoder_input_tokens`.

    Args:
      params: the parameters.
      batch: `encoder_input_tokens` [B, L] and `decoder_input_tokens` [B, T],
        one example per row; without a prompt only the latter's shape matters.
      rng: a key, for decoding that samples.
      decoder_params: more arguments of the decode function, such as `alpha` or
        `temperature`; `eos_id` replaces the vocabulary's.
      return_all_decodes: whether to return all decodes, or the best alone; by
        default what `default_decoder_params` says.
      num_decodes: decodes of each example; same default.
      prompt_with_targets: whether decoding starts with the tokens of
        `decoder_input_tokens`, ends of sequence left out.

    Returns:
      (tokens, aux): tokens [B, T], or [B, num_decodes, T] from the worst to the
      best; `aux['scores']` are log-probabilities as the decode function ranks
      them, [B] or [B, num_decodes].

    Raises:
      errors.UserError: if a key is given twice.
    """
    # Options: arguments first, then the model's defaults.
    defaults = self._default_decoder_params
    if num_decodes is None:
      num_decodes = defaults.num_decodes
    if return_all_decodes is None:
      return_all_decodes = defaults.return_all_decodes
    options = dict(decoder_params or {})
    if rng is not None:
      if options.get('decode_rng') is not None:
        raise errors.UserError(
          'predict_batch_with_aux: found a key in rng and in'
          " decoder_params['decode_rng']. Pass one of them."
        )
      options['decode_rng'] = rng
    eos_id = options.pop('eos_id', None)
    if eos_id is None:
      eos_id = self.output_vocabulary.eos_id

    # Decode from the prompts.
    decoder_inputs = batch['decoder_input_tokens']
    tokens_to_logits, cache = self._start_decoding(
      params, batch['encoder_input_tokens'], decoder_inputs, num_decodes
    )
    prompts = jnp.zeros_like(decoder_inputs)
    if prompt_with_targets:
      # An end of sequence inside the prompt would end decoding there.
      prompts = jnp.where(decoder_inputs == eos_id, 0, decoder_inputs)
    decodes, scores = self._decode_fn(
      inputs=prompts,
      cache=cache,
      tokens_to_logits=tokens_to_logits,
      eos_id=eos_id,
      num_decodes=num_decodes,
      # A network that stacks its layers has the batch in axis 1 of the cache.
      cache_offset=int(getattr(self.module, 'scan_layers', False)),
      **options,
    )
    if return_all_decodes:
      return decodes, {'scores': scores}
    # Decode functions sort from the worst to the best.
    return decodes[:, -1, :], {'scores': scores[:, -1]}

  def score_batch(
    self,
    params: base.Params,
    batch: base.Batch,
    return_intermediates: bool = False,
  ) -> Any:
    """Returns the log-likelihood of each row's targets.

    Args:
      params: the parameters.
      batch: as for training, one example per row; tokens are weighted by
        `decoder_loss_weights` [B, T].
      return_intermediates: whether to return what layers sowed, too.

    Returns:
      Scores [B]; or (scores, intermediates), where intermediates are flax's,
      with `decoder/loss_weights`, `decoder/target_tokens` and
      `decoder/token_scores` [B, T] added.
    """
    targets = batch['decoder_target_tokens']
    weights = batch['decoder_loss_weights']
    mutable = ['intermediates'] if return_intermediates else False
    logits = self._compute_logits(params, batch, mutable=mutable)
    sown: dict[str, Any] = {}
    if return_intermediates:
      logits, variables = logits
      sown = dict(variables.get('intermediates', {}))
    loss, _ = losses.token_cross_entropy(logits, targets)
    token_scores = -loss * weights
    scores = jnp.sum(token_scores, axis=-1)
    if not return_intermediates:
      return scores
    sown['decoder'] = {
      **sown.get('decoder', {}),
      'loss_weights': (weights,),
      'target_tokens': (targets,),
      'token_scores': (token_scores,),
    }
    return scores, sown


class DecoderOnlyModel(base.BaseTransformerModel):
  """Not supported: raises when a gin file's reference to it is used.

  Raises:
    errors.UserError: always.
  """

  def __new__(
    cls,
    module: nn.Module | None = None,
    vocabulary: base.Vocabulary | None = None,
    optimizer_def: optimizers.OptimizerDef | None = None,
    decode_fn: base.DecodeFnCallable = decoding.temperature_sample,
    inputs_bidirectional_attention: bool = False,
    feature_converter_cls: Callable[..., Any] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: losses.LossNormalizingFactor = None,
  ):
    raise errors.UserError(
      'models.DecoderOnlyModel is not supported: this engine trains'
      ' sequence-to-sequence models. Use models.EncoderDecoderModel with the'
      ' network in t5x.examples.t5, or upstream T5X.'
    )
