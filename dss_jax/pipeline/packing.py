"""Packer of many short examples into few rows, filled on both sides.

A *segment* is one example: input tokens, target tokens and the task that it
belongs to. A *unit* is what must share a row: one segment, or the label segment
of a question with its rationale segments, one of each kind (a pair). A *row* is
one row of the model's batch: L encoder positions and T decoder positions.

Two things are particular to distilling step-by-step. The two sides of a row
have lengths that hardly correlate (after the same question, a label takes three
target tokens, its rationale forty), so a unit is chosen for the room that it
leaves on both. And the loss needs to know the task of every target token.

Pure NumPy: the arrays are the same wherever and however often they are made.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

LABEL_TASK = 1
RATIONALE_TASK = 2

# Once fewer average units than this fit into the rest of a row, its last units
# are chosen in pairs. Of 2.2 to 3.2, 2.6 filled best on the lengths of
# CommonsenseQA; more than 48 candidates took longer and filled no better.
_LAST_UNITS = 2.6
_CANDIDATES = 48
# Tried in this order where units have to fit into a number of rows.
_OTHER_LAST_UNITS = (3.2, 2.0, 4.0, 1.4, 5.0)
# Weight of a unit's size against an even fill of both sides.
_SIZE_BONUS = 0.6
_ROUNDING = 1e-9

_triu_indices = functools.cache(np.triu_indices)


class Ragged(NamedTuple):
  """Token sequences of different lengths, in one flat array.

  Attributes:
    values: all tokens.
    starts: index in `values` of each segment's first token, [units, segments].
    lengths: number of its tokens, same shape.
  """

  values: Int[np.ndarray, 'tokens']
  starts: Int[np.ndarray, 'U S']
  lengths: Int[np.ndarray, 'U S']


class TooFewRowsError(ValueError):
  """Units that do not fit into the rows of a step."""


def pack(
  inputs: Ragged,
  targets: Ragged,
  task_ids: Int[np.ndarray, 'U S'],
  row_shape: tuple[int, int],
  rng: np.random.Generator,
  bos_id: int = 0,
  num_rows: int | None = None,
) -> dict[str, Int[np.ndarray, 'B _']]:
  """Packs units into rows; the same arguments always give the same rows.

  Three units of one segment, in rows of 8 encoder and 5 decoder positions:

    inputs   [7, 8, 1]   [9, 1]   [5, 5, 5, 5, 1]
    targets  [3, 1]      [4, 1]   [6, 6, 6, 1]
    task_ids  1           1        2

  become two rows, their order drawn from `rng`:

    encoder_input_tokens   [7 8 1 9 1 0 0 0]  [5 5 5 5 1 0 0 0]
    encoder_segment_ids    [1 1 1 2 2 0 0 0]  [1 1 1 1 1 0 0 0]
    encoder_positions      [0 1 2 0 1 0 0 0]  [0 1 2 3 4 0 0 0]
    decoder_target_tokens  [3 1 4 1 0]        [6 6 6 1 0]
    decoder_input_tokens   [0 3 0 4 0]        [0 6 6 6 0]
    decoder_segment_ids    [1 1 2 2 0]        [1 1 1 1 0]
    decoder_positions      [0 1 0 1 0]        [0 1 2 3 0]
    decoder_loss_weights   [1 1 1 1 0]        [1 1 1 1 0]
    decoder_task_ids       [1 1 1 1 0]        [2 2 2 2 0]

  Segments too long for a row are trimmed at their end (`trim_lengths`); a
  segment without target tokens adds nothing to the loss and takes no room.
  Inside a row, segments keep their order.

  Args:
    inputs: encoder tokens of every segment.
    targets: decoder target tokens of every segment.
    task_ids: the task of every segment, 1 label, 2 rationale, and from 3 its
      further kinds.
    row_shape: (L, T), positions of a row.
    rng: draws the order of the rows, so that a row's place in the window does
      not correlate with its lengths and tasks.
    bos_id: what the decoder reads before a segment's first target.
    num_rows: how many rows there must be; those left over are padding. None
      makes as many as are needed.

  Returns:
    The nine arrays above, int32, [rows, L] or [rows, T].

  Raises:
    TooFewRowsError: the units don't fit into `num_rows`.
  """
  encoder_lengths, decoder_lengths = trim_lengths(
    inputs.lengths, targets.lengths, row_shape
  )
  used_units = np.flatnonzero(decoder_lengths.sum(1))
  needs = (
    encoder_lengths[used_units].sum(1),
    decoder_lengths[used_units].sum(1),
    row_shape,
  )
  if num_rows is None:
    rows = assign_rows(*needs)
    num_rows = rows.max(initial=-1) + 1
  else:
    rows = assign_to_rows(*needs, num_rows)
  row_of_unit = np.full(len(encoder_lengths), -1)
  row_of_unit[used_units] = rng.permutation(num_rows)[rows]
  lengths = encoder_lengths, decoder_lengths
  return _lay_out(
    inputs, targets, task_ids, lengths, row_of_unit, (num_rows, *row_shape),
    bos_id,
  )  # fmt: skip


def pad(
  inputs: Ragged,
  targets: Ragged,
  task_ids: Int[np.ndarray, 'U 1'],
  row_shape: tuple[int, int],
  num_rows: int,
  bos_id: int = 0,
) -> dict[str, Int[np.ndarray, 'B _']]:
  """Gives each unit of one segment a row of its own, in the units' order.

  A unit without target tokens leaves its row empty. Arguments, result and
  errors are those of `pack`.
  """
  units = len(inputs.lengths)
  if units > num_rows:
    raise TooFewRowsError(f'{units} examples need {units} rows')
  lengths = trim_lengths(inputs.lengths, targets.lengths, row_shape)
  return _lay_out(
    inputs, targets, task_ids, lengths, np.arange(units),
    (num_rows, *row_shape), bos_id,
  )  # fmt: skip


def _lay_out(
  inputs: Ragged,
  targets: Ragged,
  task_ids: Int[np.ndarray, 'U S'],
  unit_lengths: tuple[Int[np.ndarray, 'U S'], Int[np.ndarray, 'U S']],
  row_of_unit: Int[np.ndarray, 'U'],
  shape: tuple[int, int, int],
  bos_id: int,
) -> dict[str, Int[np.ndarray, 'B _']]:
  """Makes the arrays of `pack`; their shape is (rows, L, T)."""
  encoder_lengths, decoder_lengths = unit_lengths
  num_rows = shape[0]

  # The segments in the order in which they stand in the rows.
  row_of_segment = np.repeat(row_of_unit, encoder_lengths.shape[1])
  segments = np.flatnonzero(decoder_lengths.ravel())
  segments = segments[np.argsort(row_of_segment[segments], kind='stable')]
  rows = row_of_segment[segments]
  batch = {}
  for side, tokens_name, source, lengths, length in (
    ('encoder', 'input_tokens', inputs, encoder_lengths, shape[1]),
    ('decoder', 'target_tokens', targets, decoder_lengths, shape[2]),
  ):
    starts, kept = source.starts.ravel()[segments], lengths.ravel()[segments]
    filled = _fill_rows(source.values, starts, kept, rows, (num_rows, length))
    for name, array in zip(
      (tokens_name, 'segment_ids', 'positions'), filled, strict=True
    ):
      batch[f'{side}_{name}'] = array

  # What the loss needs: the decoder's inputs, weights and tasks.
  used = batch['decoder_segment_ids'] > 0
  targets_filled = batch['decoder_target_tokens']
  batch['decoder_input_tokens'] = _shift_right(
    targets_filled, batch['decoder_positions'], used, bos_id
  )
  batch['decoder_loss_weights'] = (targets_filled != 0).astype(np.int32)
  tasks = np.zeros(used.shape, np.int32)
  tasks[used] = np.repeat(
    task_ids.ravel()[segments], decoder_lengths.ravel()[segments]
  )
  batch['decoder_task_ids'] = tasks
  return batch


def trim_lengths(
  encoder_lengths: Int[np.ndarray, 'U S'],
  decoder_lengths: Int[np.ndarray, 'U S'],
  row_shape: tuple[int, int],
) -> tuple[Int[np.ndarray, 'U S'], Int[np.ndarray, 'U S']]:
  """Cuts the lengths of units so that every unit fits into an empty row.

  Tokens are removed from the end of a sequence, as in SeqIO. In a pair, the
  label's targets come first, and the rationale's get the rest of T. If the two
  inputs don't fit side by side, each keeps up to L // 2, and the longer one
  also what the shorter one doesn't use. In rows of (10, 6):

    inputs 7 and 8   ->  5 and 5
    inputs 3 and 9   ->  3 and 7
    targets 2 and 9  ->  2 and 4

  The rationales of several kinds share the rest of T as inputs share L: none is
  cut that is shorter than an even part.

  A segment without targets gives its encoder room back.

  Args:
    encoder_lengths: input tokens of every segment.
    decoder_lengths: target tokens of every segment.
    row_shape: (L, T).

  Returns:
    The lengths to keep, encoder and decoder.

  """
  length, target_length = row_shape
  label = np.minimum(decoder_lengths[:, :1], target_length)
  rationales = _shared(decoder_lengths[:, 1:], target_length - label)
  decoder = np.concatenate([label, rationales], 1)
  encoder = np.where(decoder > 0, encoder_lengths, 0)
  return _shared(encoder, np.full_like(label, length)), decoder


def _shared(
  lengths: Int[np.ndarray, 'U S'], room: Int[np.ndarray, 'U 1']
) -> Int[np.ndarray, 'U S']:
  """Cuts the lengths of segments that share some room.

  All are cut to one length, the greatest that leaves enough room for all; those
  that are shorter stay as they are.
  """
  count = lengths.shape[1]
  if not count:
    return lengths
  ordered = np.sort(lengths, 1)
  shorter = np.cumsum(ordered, 1) - ordered
  # If the shorter ones stay, what is left is divided among the others.
  most = ((room - shorter) // np.arange(count, 0, -1)).max(1, keepdims=True)
  return np.minimum(lengths, most)


def assign_rows(
  encoder_lengths: Int[np.ndarray, 'U'],
  decoder_lengths: Int[np.ndarray, 'U'],
  row_shape: tuple[int, int],
  last_units: float = _LAST_UNITS,
) -> Int[np.ndarray, 'U']:
  """Assigns units to rows, filling one row after the other.

  Two-dimensional bin packing, row by row. A row is first filled with large
  units that keep its two sides evenly full; its last units are the pair that
  fills it best. "Evenly" and "best" are relative to what the remaining units
  would leave free on each side if they filled their rows perfectly: otherwise
  the first rows take all the long targets, and only inputs are left for the
  last ones.

  Args:
    encoder_lengths: encoder positions that each unit takes, at most L.
    decoder_lengths: decoder positions that each unit takes, at most T.
    row_shape: (L, T).
    last_units: how many average units have room in a row when its last units
      are chosen.

  Returns:
    A row number, counted from 0, for each unit.
  """
  length, target_length = row_shape
  row_of_unit = np.zeros(len(encoder_lengths), np.int64)
  encoder = encoder_lengths / length
  decoder = decoder_lengths / target_length
  units = np.argsort(-(encoder + decoder), kind='stable')
  encoder, decoder = encoder[units], decoder[units]
  row = 0
  while units.size:
    chosen = _choose_row(encoder, decoder, last_units)
    row_of_unit[units[chosen]] = row
    left = np.ones(units.size, bool)
    left[chosen] = False
    units, encoder, decoder = units[left], encoder[left], decoder[left]
    row += 1
  return row_of_unit


def assign_to_rows(
  encoder_lengths: Int[np.ndarray, 'U'],
  decoder_lengths: Int[np.ndarray, 'U'],
  row_shape: tuple[int, int],
  num_rows: int,
) -> Int[np.ndarray, 'U']:
  """As `assign_rows`, for a number of rows into which the units have to fit.

  Args:
    encoder_lengths: encoder positions that each unit takes, at most L.
    decoder_lengths: decoder positions that each unit takes, at most T.
    row_shape: (L, T).
    num_rows: how many rows there are.

  Raises:
    TooFewRowsError: no way was found to fit them in.
  """
  fewest = np.inf
  for last_units in (_LAST_UNITS, *_OTHER_LAST_UNITS):
    rows = assign_rows(encoder_lengths, decoder_lengths, row_shape, last_units)
    needed = rows.max(initial=-1) + 1
    if needed <= num_rows:
      return rows
    fewest = min(fewest, needed)
  raise TooFewRowsError(
    f'{len(encoder_lengths)} examples of {encoder_lengths.sum()} input and'
    f' {decoder_lengths.sum()} target tokens need {fewest} rows of'
    f' {row_shape[0]} and {row_shape[1]}'
  )


def _choose_row(
  encoder: Float[np.ndarray, 'U'],
  decoder: Float[np.ndarray, 'U'],
  last_units: float,
) -> list[int]:
  """Chooses the units of one row; sizes are fractions of its capacity."""
  total_encoder, total_decoder = encoder.sum(), decoder.sum()
  demand = max(total_encoder, total_decoder)
  slack = 1 - total_encoder / demand, 1 - total_decoder / demand
  totals = total_encoder, total_decoder
  enough = [last_units * total / len(encoder) for total in totals]
  tilt = encoder - decoder - (slack[1] - slack[0])
  bonus = _SIZE_BONUS * (encoder + decoder)
  taken = np.zeros(len(encoder), bool)
  chosen: list[int] = []
  # Room on each side; slightly more than all of it, since sizes are rounded.
  room = [1 + _ROUNDING, 1 + _ROUNDING]
  while True:
    picks = []
    if room[0] >= enough[0] and room[1] >= enough[1]:
      score = np.abs(tilt - (room[0] - room[1]))
      score -= bonus
      score[chosen] = np.inf
      best = int(score.argmin())
      if encoder[best] <= room[0] and decoder[best] <= room[1]:
        picks = [best]
    if not picks:
      fits = (encoder <= room[0]) & (decoder <= room[1]) & ~taken
      candidates = np.flatnonzero(fits)
      if not candidates.size:
        return chosen
      picks = _best_pair(encoder, decoder, candidates, room, slack)
    for unit in picks:
      taken[unit] = True
      room[0] -= encoder[unit]
      room[1] -= decoder[unit]
    chosen += picks


def _best_pair(
  encoder: Float[np.ndarray, 'U'],
  decoder: Float[np.ndarray, 'U'],
  candidates: Int[np.ndarray, 'C'],
  room: list[float],
  slack: tuple[float, float],
) -> list[int]:
  """Returns the one or two of `candidates` that best use a row's room."""
  if candidates.size > _CANDIDATES:
    # They are sorted by size, so even steps keep every size.
    step = np.linspace(0, candidates.size - 1, _CANDIDATES).astype(np.int64)
    candidates = candidates[step]
  # All (i, j) with i <= j.
  first, second = _triu_indices(candidates.size)
  x, y = encoder[candidates], decoder[candidates]
  # A candidate paired with itself stands for that candidate alone.
  alone = first == second
  x = room[0] - x[first] - np.where(alone, 0, x[second])
  y = room[1] - y[first] - np.where(alone, 0, y[second])
  score = np.abs(x - slack[0]) + np.abs(y - slack[1])
  score[(x < 0) | (y < 0)] = np.inf
  best = int(score.argmin())
  picks = {int(candidates[first[best]]), int(candidates[second[best]])}
  return sorted(picks)


def _fill_rows(
  values: Int[np.ndarray, 'tokens'],
  starts: Int[np.ndarray, 'segments'],
  lengths: Int[np.ndarray, 'segments'],
  rows: Int[np.ndarray, 'segments'],
  shape: tuple[int, int],
) -> Int[np.ndarray, '3 rows length']:
  """Copies segments, sorted by row, one after the other into their rows.

  Returns:
    Tokens, segment ids (counted from 1 in each row) and positions in the
    segment, each [rows, length] int32.
  """
  first_of_row = np.searchsorted(rows, rows)
  segment_ids = np.arange(len(rows)) - first_of_row + 1
  ends = np.cumsum(lengths)
  begins = ends - lengths
  places = rows * shape[1] + begins - begins[first_of_row]

  positions = np.arange(lengths.sum()) - np.repeat(begins, lengths)
  destination = np.repeat(places, lengths) + positions
  filled = np.zeros((3, shape[0] * shape[1]), np.int32)
  filled[0, destination] = values[np.repeat(starts, lengths) + positions]
  filled[1, destination] = np.repeat(segment_ids, lengths)
  filled[2, destination] = positions
  return filled.reshape(3, *shape)


def _shift_right(
  targets: Int[np.ndarray, 'B T'],
  positions: Int[np.ndarray, 'B T'],
  used: Bool[np.ndarray, 'B T'],
  bos_id: int,
) -> Int[np.ndarray, 'B T']:
  """Gives each decoder position the target before it in its own segment."""
  shifted = np.zeros_like(targets)
  shifted[:, 1:] = targets[:, :-1]
  shifted = np.where(positions == 0, bos_id, shifted)
  return np.where(used, shifted, 0).astype(np.int32)
