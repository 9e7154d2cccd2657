"""Feature converter: from task features to the batches of `DistillModel`."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from dss_jax.errors import DataError
from dss_jax.pipeline import kinds, packing, preprocessors, steps
from dss_jax.pipeline.packing import LABEL_TASK

_Spec = seqio.FeatureConverter.FeatureSpec
_Example = dict[str, tf.Tensor]

TASK_ID = 'task_id'
# Padding of the shorter examples of a window; 0 may be a token.
_NO_TOKEN = -1


class DistillFeatureConverter(seqio.FeatureConverter):
  """Encoder-decoder features, with the task of every target token.

  Replaces `seqio.EncDecFeatureConverter`. Its batches also have
  `decoder_task_ids` (0 padding, 1 label, 2 rationale, and from 3 its further
  kinds), and its packing fills both sides of a row (`packing`).

  Task features read: `inputs` and `targets`; if the task has it, `task_id`, a
  scalar (or a vector of one, which a SeqIO evaluator can measure), without
  which an example is a label example; and, for an example whose two tasks must
  be in the same batch, `rationale_inputs` and `rationale_targets` besides the
  label's `inputs` and `targets`; for further kinds of rationales also
  `rationale2_inputs` and `rationale2_targets`, …. Of a kind without targets (no
  token at all, not even EOS) nothing of such an example is used.

  One pair, not packed, task feature lengths {'inputs': 4, 'targets': 3}:

    inputs  [7, 8, 1]     rationale_inputs  [9, 8, 1]
    targets [3, 1]        rationale_targets [5, 6, 1]

  becomes two rows:

    encoder_input_tokens   [7 8 1 0]   [9 8 1 0]
    decoder_target_tokens  [3 1 0]     [5 6 1]
    decoder_input_tokens   [0 3 0]     [0 5 6]
    decoder_loss_weights   [1 1 0]     [1 1 1]
    decoder_task_ids       [1 1 0]     [2 2 2]

  Packed, both share a row, as `packing.pack` shows. Examples are packed
  in windows of `WINDOW`; a window's number seeds the order of its rows, so the
  rows are the same in every run. The last window of a finite dataset may be
  smaller; none of its examples is dropped.

  Attributes:
    WINDOW: examples (or pairs) that are packed together.
  """

  WINDOW = 1024

  TASK_FEATURES = dict.fromkeys(('inputs', 'targets'), _Spec(dtype=tf.int32))
  MODEL_FEATURES = dict.fromkeys(
    (
      'encoder_input_tokens',
      'decoder_target_tokens',
      'decoder_input_tokens',
      'decoder_loss_weights',
      'decoder_task_ids',
    ),
    _Spec(dtype=tf.int32),
  )
  PACKING_FEATURE_DTYPES = {
    'encoder_segment_ids': tf.int32,
    'decoder_segment_ids': tf.int32,
    'encoder_positions': tf.int32,
    'decoder_positions': tf.int32,
  }

  def __init__(
    self,
    pack: bool = True,
    use_custom_packing_ops: bool = False,
    apply_length_check: bool = True,
    bos_id: int = 0,
    passthrough_features: Mapping[str, Any] | None = None,
  ):
    """Takes the arguments of every SeqIO converter.

    Args:
      pack: whether a row has several examples, or one.
      use_custom_packing_ops: must be False; there is one packer.
      apply_length_check: whether an example that is longer than its feature's
        length is an error, instead of being trimmed.
      bos_id: what the decoder reads first.
      passthrough_features: further features to keep; not with `pack`.

    Raises:
      DataError: `use_custom_packing_ops` is set.
      ValueError: `passthrough_features` together with `pack`.
    """
    if use_custom_packing_ops:
      raise DataError(
        'DistillFeatureConverter has a packer of its own: expected'
        ' use_custom_packing_ops=False, found True. Leave it at its default.'
      )
    super().__init__(
      pack=pack,
      use_custom_packing_ops=use_custom_packing_ops,
      # SeqIO checks each example, which takes longer than packing them;
      # `_check_lengths` checks whole windows.
      apply_length_check=apply_length_check and not pack,
      bos_id=bos_id,
      passthrough_features=passthrough_features,
    )
    self._check_windows = apply_length_check and pack

  @preprocessors.as_written
  def __call__(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """Converts a dataset; SeqIO validates its input and output.

    Args:
      ds: examples of a task or mixture, not batched.
      task_feature_lengths: {'inputs': L, 'targets': T}. A length for `task_id`
        is dropped: SeqIO's evaluator passes one for every output feature.

    Returns:
      Rows with the features of `get_model_feature_lengths`, all int32.

    Raises:
      DataError: a pair is incomplete, or lengths are given for its rationale.
      ValueError: what SeqIO finds wrong with features, types or lengths.
    """
    for name in itertools.chain(
      *kinds.sides_of(list(task_feature_lengths))[1:]
    ):
      if name in task_feature_lengths:
        raise DataError(
          f'task_feature_lengths names {name!r}, but all examples of a pair'
          " take the lengths of 'inputs' and 'targets'. Remove it; or, if this"
          ' is an evaluation, evaluate the single tasks instead of the pairs.'
        )
    lengths = {k: v for k, v in task_feature_lengths.items() if k != TASK_ID}
    return super().__call__(ds, lengths)

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """Packs or pads `ds`, which SeqIO has validated."""
    sides = kinds.sides_of(list(ds.element_spec))
    for inputs, targets in sides[1:]:
      if not {inputs, targets} <= ds.element_spec.keys():
        raise DataError(
          f'A pair needs both {inputs!r} and {targets!r}, but the dataset has'
          f' {sorted(ds.element_spec)}.'
        )
    if steps.window_of(ds.element_spec) or self.pack:
      return self._convert_windows(ds, task_feature_lengths)

    def pad(example):
      return self._pad(example, sides[1:], task_feature_lengths)

    ds = ds.map(pad, num_parallel_calls=tf.data.AUTOTUNE)
    return ds.unbatch() if sides[1:] else ds

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    """Returns L or T for every model feature; see the base class."""
    features = [*self.MODEL_FEATURES]
    if self.pack:
      features += self.PACKING_FEATURE_DTYPES
    sides = {'encoder': 'inputs', 'decoder': 'targets'}
    return {
      name: task_feature_lengths[sides[name.partition('_')[0]]]
      for name in features
    } | {
      name: task_feature_lengths[name] for name in self._passthrough_features
    }

  def _convert_windows(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    lengths = self.get_model_feature_lengths(task_feature_lengths)
    sides = kinds.sides_of(list(ds.element_spec))
    names = [name for pair in sides for name in pair]
    units, num_rows = steps.window_of(ds.element_spec) or (self.WINDOW, None)
    if num_rows is not None and self._passthrough_features:
      raise DataError(
        'DistillFeatureConverter: expected no passthrough_features where a step'
        ' has LABELS_PER_STEP examples, found'
        f' {sorted(self._passthrough_features)}.'
      )
    lay_out = self._lays_out(task_feature_lengths, num_rows)

    def rows_of(
      window: np.ndarray, task_ids: np.ndarray, *padded: np.ndarray
    ) -> list[np.ndarray]:
      rows = lay_out(int(window), *_segments(task_ids, padded))
      return [rows[name] for name in lengths]

    def convert(window: tf.Tensor, batch: _Example) -> _Example:
      if self._check_windows:
        _check_lengths(batch, task_feature_lengths)
      task_ids = batch.get(TASK_ID)
      if task_ids is None:
        task_ids = tf.fill(tf.shape(batch['inputs'])[:1], LABEL_TASK)
      # Not stateful: upstream T5X saves the position of a `tf.data` pipeline.
      rows = tf.numpy_function(
        rows_of,
        [window, tf.cast(task_ids, tf.int32), *(batch[n] for n in names)],
        [tf.int32] * len(lengths),
        stateful=False,
      )
      rows = dict(zip(lengths, rows, strict=True))
      for name, row in rows.items():
        row.set_shape([num_rows, lengths[name]])
      return rows

    wanted = {*names, TASK_ID}
    if not wanted.issuperset(ds.element_spec):
      ds = ds.map(lambda x: {k: v for k, v in x.items() if k in wanted})
    padding = {
      name: tf.constant(_NO_TOKEN, spec.dtype)
      for name, spec in ds.element_spec.items()
    }
    # Ragged batches would need a map over the examples.
    ds = ds.padded_batch(units, padding_values=padding)
    # One packer, in the background, in order.
    ds = ds.enumerate().map(convert, num_parallel_calls=1, deterministic=True)
    return ds.prefetch(1).unbatch()

  def _lays_out(
    self, task_feature_lengths: Mapping[str, int], num_rows: int | None
  ) -> Callable[..., Mapping[str, np.ndarray]]:
    """Returns the function from a window and its segments to rows.

    Args:
      task_feature_lengths: {'inputs': L, 'targets': T}.
      num_rows: of a step, in which the examples of a pair need not share a row;
        None for rows that are batched later.
    """
    row_shape = task_feature_lengths['inputs'], task_feature_lengths['targets']

    def stream(window, *segments):
      rng = np.random.default_rng(window)
      return packing.pack(*segments, row_shape, rng, self.bos_id)

    def step(window, inputs, targets, task_ids):
      segments = _singly(inputs), _singly(targets), task_ids.reshape(-1, 1)
      try:
        if not self.pack:
          return packing.pad(*segments, row_shape, num_rows, self.bos_id)
        rng = np.random.default_rng(window)
        return packing.pack(*segments, row_shape, rng, self.bos_id, num_rows)
      except packing.TooFewRowsError as error:
        raise DataError(
          f'The examples of step {window + 1} do not fit into its {num_rows}'
          f' rows: {error}. Set ROWS_PER_STEP to more rows and start the same'
          ' command again: it goes on from the last checkpoint.'
        ) from error

    return stream if num_rows is None else step

  def _pad(
    self,
    example: _Example,
    pairs: Sequence[tuple[str, str]],
    lengths: Mapping[str, int],
  ) -> _Example:
    """Returns the row of one example, or the stacked rows of a pair.

    Args:
      example: with its features.
      pairs: those that are inputs and targets of rationales, by kind.
      lengths: {'inputs': L, 'targets': T}.
    """
    passed = {
      name: _fit(example[name], lengths[name])
      for name in self._passthrough_features
    }
    task_id = tf.constant(LABEL_TASK)
    if TASK_ID in example and not pairs:
      task_id = tf.reshape(tf.cast(example[TASK_ID], tf.int32), [])
    row = self._row(example['inputs'], example['targets'], task_id, lengths)
    rows, used = [row | passed], [True]
    for number, (inputs, targets) in enumerate(pairs, 1):
      task_id = kinds.Kind(number=number).task_id
      rows.append(
        self._row(example[inputs], example[targets], task_id, lengths) | passed
      )
      used.append(tf.size(example[targets]) > 0)
    if not pairs:
      return rows[0]
    return {
      name: tf.boolean_mask(tf.stack([row[name] for row in rows]), used)
      for name in rows[0]
    }

  def _row(
    self,
    inputs: tf.Tensor,
    targets: tf.Tensor,
    task_id: tf.Tensor | int,
    lengths: Mapping[str, int],
  ) -> _Example:
    """Returns the model features of one example."""
    length = lengths['targets']
    targets = targets[:length]
    used = _fit(tf.ones_like(targets), length)
    bos = tf.fill([tf.minimum(tf.size(targets), 1)], self.bos_id)
    targets_read = tf.concat([bos, targets[:-1]], 0)
    targets = _fit(targets, length)
    return {
      'encoder_input_tokens': _fit(inputs, lengths['inputs']),
      'decoder_target_tokens': targets,
      'decoder_input_tokens': _fit(targets_read, length),
      'decoder_loss_weights': tf.cast(targets != 0, tf.int32),
      'decoder_task_ids': used * task_id,
    }


def _fit(tokens: tf.Tensor, length: int) -> tf.Tensor:
  """Trims or pads the first axis of `tokens`, unless it is a scalar."""
  if tokens.shape.rank == 0:
    return tokens
  tokens = tokens[:length]
  padding = [(0, length - tf.shape(tokens)[0])]
  padding += [(0, 0)] * (tokens.shape.rank - 1)
  padded = tf.pad(tokens, padding)
  padded.set_shape([length, *tokens.shape[1:]])
  return padded


def _check_lengths(
  batch: Mapping[str, tf.Tensor], limits: Mapping[str, int]
) -> None:
  """Checks that no example of a window exceeds the length of its feature."""
  for name, limit in limits.items():
    tf.debugging.assert_less_equal(
      tf.shape(batch[name])[1],
      limit,
      f"Feature '{name}' has an example longer than its length of {limit}:"
      ' trim it (trim_output_features), or give it a greater length.',
    )


def _segments(
  task_ids: np.ndarray, padded: Sequence[np.ndarray]
) -> tuple[packing.Ragged, packing.Ragged, np.ndarray]:
  """Arranges a window's features for the packer.

  Args:
    task_ids: the task of each example, [units].
    padded: tokens of `inputs` and of `targets`, and for pairs of each kind's
      rationale, [units, length], with `_NO_TOKEN` after each example's.

  Returns:
    Inputs, targets and the [units, segments a unit] task of each segment.
  """
  inputs, targets = _ragged(padded[::2]), _ragged(padded[1::2])
  if len(padded) > 2:
    count = inputs.lengths.shape[1]
    ids = np.arange(LABEL_TASK, LABEL_TASK + count, dtype=np.int32)
    task_ids = np.full(inputs.lengths.shape, ids)
  return inputs, targets, task_ids.reshape(inputs.lengths.shape)


def _singly(pairs: packing.Ragged) -> packing.Ragged:
  """Makes a unit of each segment."""
  starts, lengths = (x.reshape(-1, 1) for x in (pairs.starts, pairs.lengths))
  return packing.Ragged(pairs.values, starts, lengths)


def _ragged(padded: Sequence[np.ndarray]) -> packing.Ragged:
  used = [tokens != _NO_TOKEN for tokens in padded]
  values = [tokens[u] for tokens, u in zip(padded, used, strict=True)]
  lengths = np.stack([u.sum(1) for u in used])
  # The second feature's values follow the first one's.
  ends = lengths.cumsum().reshape(lengths.shape)
  return packing.Ragged(np.concatenate(values), (ends - lengths).T, lengths.T)
