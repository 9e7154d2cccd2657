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

  def _decode_step(
    self, variables: Mapping[str, Any], *args: Any, **kwargs: Any
  ):
    """Applies the decoder to the next positions of its cache.

    Args:
      variables: parameters, and what is cached.
      *args: encoded inputs, their tokens, and the decoder's tokens, twice.
      **kwargs: more arguments of the network's `decode`.

    Returns:
      The logits, and the variables with the new cache.
    """
    return self.module.apply(
      variables,
      *args,
      decode=True,
      enable_dropout=False,
      method=self.module.decode,
      mutable=['cache'],
      **kwargs,
    )

  def _compute_kv_cache(
    self,
    params: base.Params,
    encoded_inputs: jax.Array,
    encoder_input_tokens: Int[Array, 'B L'],
    decoder_input_tokens: Int[Array, 'B T'],
  ) -> Mapping[str, Any]:
    """Returns an empty cache of B rows, as long as the decoder's inputs.

    Subclasses override it, as in T5X.
    """

    def make(params, encoded):
      ids = decoder_input_tokens
      _, made = self._decode_step(
        {'params': params}, encoded, encoder_input_tokens, ids, ids
      )
      return made['cache']

    shapes = jax.eval_shape(make, params, encoded_inputs)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

  def _compute_logits_from_slice(
    self,
    decoding_state: decoding.DecodingState,
    params: base.Params,
    encoded_inputs: jax.Array,
    raw_inputs: Int[Array, 'BN L'],
    max_decode_length: int,
  ) -> tuple[jax.Array, Mapping[str, Any]]:
    """Returns the logits of one step of decoding, and the next cache.

    Subclasses override it, as in T5X. A class that does not is decoded faster,
    without it.

    Args:
      decoding_state: the tokens to feed, of B * N rows, and the cache.
      params: the parameters.
      encoded_inputs: the encoder's outputs, of B * N rows.
      raw_inputs: the encoder's tokens.
      max_decode_length: the length of the cache.
    """
    ids = decoding_state.cur_token
    logits, updated = self._decode_step(
      {'params': params, 'cache': decoding_state.cache},
      encoded_inputs,
      raw_inputs,
      ids,
      ids,
      max_decode_length=max_decode_length,
    )
    return jnp.squeeze(logits, axis=1), updated['cache']

  def _overrides(self, *hooks: str) -> bool:
    """Whether the model has its own of any of these methods."""
    return any(
      getattr(getattr(self, hook), '__func__', None)
      is not getattr(EncoderDecoderModel, hook)
      for hook in hooks
    )

  def _encode(
    self, params: base.Params, inputs: Int[Array, 'B L'], projects: bool
  ) -> tuple[jax.Array, Mapping[str, Any]]:
    """Returns the encoder's outputs, and what cross attention takes of them.

    Args:
      params: the parameters.
      inputs: the encoder's tokens.
      projects: whether the network projects keys and values beforehand.
    """

    def encode(inputs):
      encoded = self.module.apply(
        {'params': params},
        inputs,
        enable_dropout=False,
        method=self.module.encode,
      )
      if not projects:
        return encoded, {}
      _, made = self.module.apply(
        {'params': params},
        encoded,
        method=self.module.cache_encoded,
        mutable=['encoded_cache'],
      )
      return encoded, made

    # Stacked layers have the rows in the second axis of what they made.
    if projects and not getattr(self.module, 'scan_layers', False):
      return decoding.in_groups(encode, inputs)
    return encode(inputs)

  def _start_decoding(
    self,
    params: base.Params,
    inputs: Int[Array, 'B L'],
    decoder_inputs: Int[Array, 'B T'],
    num_decodes: int,
  ) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """Encodes once, and makes an empty cache as long as `decoder_inputs`.

    Our network projects keys and values of cross attention once, for all
    decodes of a row, and takes a cache of any length. Other networks, and
    classes that override a step, get one encoded row per decode, and the
    length.

    Returns:
      (fn, cache): `fn` takes a `decoding.DecodingState` and returns logits
      [B * num_decodes, V] and the next cache; `cache` has B rows.
    """
    own_step = self._overrides(
      '_compute_logits_from_slice', '_compute_kv_cache'
    )
    cache_encoded = getattr(self.module, 'cache_encoded', None)
    projects = cache_encoded is not None and not own_step
    encoded, made = self._encode(params, inputs, projects)
    cache = self._compute_kv_cache(params, encoded, inputs, decoder_inputs)
    if not projects:
      step = functools.partial(
        self._compute_logits_from_slice,
        params=params,
        encoded_inputs=decoding.flat_batch_beam_expand(encoded, num_decodes),
        raw_inputs=decoding.flat_batch_beam_expand(inputs, num_decodes),
        max_decode_length=decoder_inputs.shape[1],
      )
      return step, cache

    variables = {'params': params, **made}

    def tokens_to_logits(state: decoding.DecodingState):
      ids = state.cur_token
      logits, updated = self._decode_step(
        {**variables, 'cache': state.cache}, encoded, inputs, ids, ids
      )
      return jnp.squeeze(logits, axis=1), updated['cache']

    return decoding.ShortCacheModel(tokens_to_logits), cache

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
    sown: dict[str, Any] = {}
    if return_intermediates:
      logits, variables = self._compute_logits(
        params, batch, mutable=['intermediates']
      )
      sown = dict(variables.get('intermediates', {}))
    else:
      # An override need not know what it is not asked for.
      logits = self._compute_logits(params, batch)
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
