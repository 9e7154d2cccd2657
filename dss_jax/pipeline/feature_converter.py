"""Turns task features into the batches that the model of the method reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from dss_jax.errors import DataError
from dss_jax.pipeline import packing
from dss_jax.pipeline.packing import LABEL_TASK, RATIONALE_TASK

_Spec = seqio.FeatureConverter.FeatureSpec

TASK_ID = 'task_id'
RATIONALE_INPUTS = 'rationale_inputs'
RATIONALE_TARGETS = 'rationale_targets'

# Behind the tokens of the shorter examples of a window; 0 may be a token.
_NO_TOKEN = -1


class DistillFeatureConverter(seqio.FeatureConverter):
  """Encoder-decoder features, with the task of every target token.

  To be used wherever T5X takes a `seqio.EncDecFeatureConverter`. What comes
  out differs by `decoder_task_ids` (0 padding, 1 label, 2 rationale), and by
  packing that fills both sides of a row (`packing`).

  Task features read: `inputs` and `targets`; if the task has it `task_id`, a
  scalar (or a vector of one, which a SeqIO evaluator can measure), without
  which an example is a label example; and, for an example whose two tasks must
  meet in the same batch, `rationale_inputs` and `rationale_targets` beside the
  label's `inputs` and `targets`. Without rationale targets (no token at all,
  not even EOS) such an example is its label alone.

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
  smaller; all of its examples come out.

  Attributes:
    WINDOW: examples (or pairs) that are packed together.
  """

  WINDOW = 1024

  TASK_FEATURES = {
    'inputs': _Spec(dtype=tf.int32),
    'targets': _Spec(dtype=tf.int32),
  }
  MODEL_FEATURES = {
    'encoder_input_tokens': _Spec(dtype=tf.int32),
    'decoder_target_tokens': _Spec(dtype=tf.int32),
    'decoder_input_tokens': _Spec(dtype=tf.int32),
    'decoder_loss_weights': _Spec(dtype=tf.int32),
    'decoder_task_ids': _Spec(dtype=tf.int32),
  }
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
      pack: several examples a row, or one.
      use_custom_packing_ops: must stay False; there is one packer.
      apply_length_check: raise when an example is longer than its feature's
        length, instead of trimming it.
      bos_id: what the decoder reads first.
      passthrough_features: further features to hand on, not with `pack`.

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
      # SeqIO looks at one example after the other, which takes longer than to
      # pack them; windows are looked at here.
      apply_length_check=apply_length_check and not pack,
      bos_id=bos_id,
      passthrough_features=passthrough_features,
    )
    self._check_windows = apply_length_check and pack

  def __call__(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """Converts a dataset; SeqIO validates what goes in and what comes out.

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
    for name in (RATIONALE_INPUTS, RATIONALE_TARGETS):
      if name in task_feature_lengths:
        raise DataError(
          f'task_feature_lengths names {name!r}, but both examples of a pair'
          " take the lengths of 'inputs' and 'targets'. Remove it; or, if this"
          ' is an evaluation, evaluate the single tasks instead of the pairs.'
        )
    lengths = {k: v for k, v in task_feature_lengths.items() if k != TASK_ID}
    return super().__call__(ds, lengths)

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """Packs or pads, once SeqIO has validated `ds`."""
    present = [
      name in ds.element_spec for name in (RATIONALE_INPUTS, RATIONALE_TARGETS)
    ]
    if any(present) != all(present):
      raise DataError(
        f'A pair needs both {RATIONALE_INPUTS!r} and {RATIONALE_TARGETS!r}, but'
        f' the dataset has {sorted(ds.element_spec)}.'
      )
    paired = any(present)

    if self.pack:
      return self._pack_windows(ds, task_feature_lengths)

    def select(example):
      return self._select(example, paired)

    def pad(example):
      return self._pad(select(example), paired, task_feature_lengths)

    ds = ds.map(pad, num_parallel_calls=tf.data.AUTOTUNE)
    return ds.unbatch() if paired else ds

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    """Gives every model feature L or T; see the base class."""
    features = [*self.MODEL_FEATURES]
    if self.pack:
      features += self.PACKING_FEATURE_DTYPES
    lengths = {
      name: task_feature_lengths[
        'inputs' if name.startswith('encoder') else 'targets'
      ]
      for name in features
    }
    for name in self._passthrough_features:
      lengths[name] = task_feature_lengths[name]
    return lengths

  def _select(
    self, example: Mapping[str, tf.Tensor], paired: bool
  ) -> dict[str, tf.Tensor]:
    """Keeps what is converted, and names the task of every example."""
    names = ['inputs', 'targets', *self._passthrough_features]
    if paired:
      names += [RATIONALE_INPUTS, RATIONALE_TARGETS]
    selected = {name: example[name] for name in names}
    task_id = LABEL_TASK
    if TASK_ID in example and not paired:
      task_id = tf.reshape(tf.cast(example[TASK_ID], tf.int32), [])
    selected[TASK_ID] = tf.convert_to_tensor(task_id, tf.int32)
    return selected

  def _pack_windows(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """Packs windows of examples into rows."""
    row_shape = task_feature_lengths['inputs'], task_feature_lengths['targets']
    lengths = self.get_model_feature_lengths(task_feature_lengths)
    names = [
      name
      for name in ('inputs', 'targets', RATIONALE_INPUTS, RATIONALE_TARGETS)
      if name in ds.element_spec
    ]
    paired = len(names) == 4

    def pack(window, task_ids, *padded):
      rng = np.random.default_rng(window)
      rows = packing.pack(
        *_segments(task_ids, padded), row_shape, rng, self.bos_id
      )
      return [rows[name] for name in lengths]

    def pack_window(window, batch):
      if self._check_windows:
        _check_lengths(batch, task_feature_lengths)
      task_ids = batch.get(TASK_ID)
      if task_ids is None or paired:
        task_ids = tf.fill(tf.shape(batch['inputs'])[:1], LABEL_TASK)
      # Not stateful: upstream T5X saves the position of a `tf.data` pipeline.
      rows = tf.numpy_function(
        pack,
        [window, tf.cast(task_ids, tf.int32), *(batch[n] for n in names)],
        [tf.int32] * len(lengths),
        stateful=False,
      )
      rows = dict(zip(lengths, rows, strict=True))
      for name, row in rows.items():
        row.set_shape([None, lengths[name]])
      return rows

    wanted = {*names, TASK_ID}
    if not wanted.issuperset(ds.element_spec):
      ds = ds.map(lambda x: {k: v for k, v in x.items() if k in wanted})
    # Ragged batches would be made with a map of each example.
    ds = ds.padded_batch(
      self.WINDOW,
      padding_values={
        name: tf.constant(_NO_TOKEN, spec.dtype)
        for name, spec in ds.element_spec.items()
      },
    )
    # One packer, in the background, in order.
    ds = ds.enumerate().map(
      pack_window, num_parallel_calls=1, deterministic=True
    )
    return ds.prefetch(1).unbatch()

  def _pad(self, example, paired, task_feature_lengths):
    """Makes the row of one example, or the two stacked rows of a pair."""
    length = task_feature_lengths['inputs']
    target_length = task_feature_lengths['targets']
    passed = {
      name: _fit(example[name], task_feature_lengths[name])
      for name in self._passthrough_features
    }
    row = self._row(
      example['inputs'],
      example['targets'],
      example[TASK_ID],
      (length, target_length),
    )
    if not paired:
      return row | passed
    rationale = self._row(
      example[RATIONALE_INPUTS],
      example[RATIONALE_TARGETS],
      tf.constant(RATIONALE_TASK),
      (length, target_length),
    )
    has_rationale = tf.size(example[RATIONALE_TARGETS]) > 0
    count = tf.where(has_rationale, 2, 1)
    first, second = row | passed, rationale | passed
    return {k: tf.stack([first[k], second[k]])[:count] for k in first}

  def _row(self, inputs, targets, task_id, row_shape):
    """Makes the model features of one example."""
    targets = targets[: row_shape[1]]
    used = _fit(tf.ones_like(targets), row_shape[1])
    bos = tf.fill([tf.minimum(tf.size(targets), 1)], self.bos_id)
    targets_read = tf.concat([bos, targets[:-1]], 0)
    targets = _fit(targets, row_shape[1])
    return {
      'encoder_input_tokens': _fit(inputs, row_shape[0]),
      'decoder_target_tokens': targets,
      'decoder_input_tokens': _fit(targets_read, row_shape[1]),
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
  """Checks that no example of a window is longer than its feature may be."""
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
  """Arranges a window's features as the packer takes them.

  Args:
    task_ids: the task of each example, [units].
    padded: tokens of `inputs` and of `targets`, and for pairs of the
      rationale's, [units, length], with `_NO_TOKEN` behind each example's.

  Returns:
    Inputs, targets and the [units, segments a unit] task of each segment.
  """
  sides = []
  for side in (padded[::2], padded[1::2]):
    used = [tokens != _NO_TOKEN for tokens in side]
    values = [tokens[u] for tokens, u in zip(side, used, strict=True)]
    lengths = np.stack([u.sum(1) for u in used])
    # The second feature's values lie behind the first one's.
    ends = lengths.cumsum().reshape(lengths.shape)
    sides.append(
      packing.Ragged(np.concatenate(values), (ends - lengths).T, lengths.T)
    )
  if len(padded) > 2:
    task_ids = np.full(sides[0].lengths.shape, (LABEL_TASK, RATIONALE_TASK))
  return *sides, task_ids.reshape(sides[0].lengths.shape)
