"""Packing loses nothing, mixes nothing up and fills both sides."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dss_jax.pipeline import packing


def ragged(sequences, segments_per_unit=1):
  lengths = np.array([len(s) for s in sequences], np.int64)
  ends = lengths.cumsum()
  return packing.Ragged(
    np.concatenate([np.array(s, np.int32) for s in sequences]),
    (ends - lengths).reshape(-1, segments_per_unit),
    lengths.reshape(-1, segments_per_unit),
  )


def pack(examples, row_shape, segments_per_unit=1, seed=0, **options):
  inputs, targets, tasks = zip(*examples, strict=True)
  return packing.pack(
    ragged(inputs, segments_per_unit),
    ragged(targets, segments_per_unit),
    np.array(tasks, np.int32).reshape(-1, segments_per_unit),
    row_shape,
    np.random.default_rng(seed),
    **options,
  )


def unpack(batch):
  """Reads segments back: one set of (inputs, targets, task) for each row."""
  rows = []
  for row in range(len(batch['decoder_segment_ids'])):
    get = {name: array[row] for name, array in batch.items()}
    segments = []
    for segment in range(1, get['decoder_segment_ids'].max() + 1):
      inputs = get['encoder_segment_ids'] == segment
      targets = get['decoder_segment_ids'] == segment
      assert np.all(np.diff(np.flatnonzero(inputs)) == 1)
      assert np.all(np.diff(np.flatnonzero(targets)) == 1)
      for side, used in (('encoder', inputs), ('decoder', targets)):
        positions = get[f'{side}_positions'][used]
        np.testing.assert_array_equal(positions, np.arange(used.sum()))
      (task,) = set(get['decoder_task_ids'][targets].tolist())
      tokens = get['decoder_target_tokens'][targets].tolist()
      read = get['decoder_input_tokens'][targets].tolist()
      assert read == [0, *tokens[:-1]]
      segments.append(
        (tuple(get['encoder_input_tokens'][inputs]), tuple(tokens), task)
      )
    assert get['encoder_segment_ids'].max() <= len(segments)
    rows.append(segments)
  return rows


def assert_padding_is_zero(batch):
  for side in ('encoder', 'decoder'):
    padding = batch[f'{side}_segment_ids'] == 0
    for name, array in batch.items():
      if name.startswith(side):
        assert array.dtype == np.int32, name
        assert not array[padding].any(), name


def test_docstring_example():
  examples = [
    ([7, 8, 1], [3, 1], 1),
    ([9, 1], [4, 1], 1),
    ([5, 5, 5, 5, 1], [6, 6, 6, 1], 2),
  ]
  batch = pack(examples, (8, 5))
  order = np.argsort(-batch['decoder_positions'].sum(1))[::-1]
  expected = {
    'encoder_input_tokens': [
      [7, 8, 1, 9, 1, 0, 0, 0],
      [5, 5, 5, 5, 1, 0, 0, 0],
    ],
    'encoder_segment_ids': [
      [1, 1, 1, 2, 2, 0, 0, 0],
      [1, 1, 1, 1, 1, 0, 0, 0],
    ],
    'encoder_positions': [
      [0, 1, 2, 0, 1, 0, 0, 0],
      [0, 1, 2, 3, 4, 0, 0, 0],
    ],
    'decoder_target_tokens': [[3, 1, 4, 1, 0], [6, 6, 6, 1, 0]],
    'decoder_input_tokens': [[0, 3, 0, 4, 0], [0, 6, 6, 6, 0]],
    'decoder_segment_ids': [[1, 1, 2, 2, 0], [1, 1, 1, 1, 0]],
    'decoder_positions': [[0, 1, 0, 1, 0], [0, 1, 2, 3, 0]],
    'decoder_loss_weights': [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]],
    'decoder_task_ids': [[1, 1, 1, 1, 0], [2, 2, 2, 2, 0]],
  }
  assert set(batch) == set(expected)
  for name, rows in expected.items():
    np.testing.assert_array_equal(batch[name][order], rows, err_msg=name)


def test_start_id_begins_every_segment():
  examples = [([7, 1], [3, 1], 1), ([8, 1], [4, 5, 1], 2)]
  batch = pack(examples, (8, 8), bos_id=9)
  np.testing.assert_array_equal(
    batch['decoder_input_tokens'], [[9, 3, 9, 4, 5, 0, 0, 0]]
  )


def test_docstring_trimming_example():
  encoder, decoder = packing.trim_lengths(
    np.array([[7, 8], [3, 9]]), np.array([[2, 9], [2, 9]]), (10, 6)
  )
  np.testing.assert_array_equal(encoder, [[5, 5], [3, 7]])
  np.testing.assert_array_equal(decoder, [[2, 4], [2, 4]])


def test_trimming_a_single_segment_keeps_what_a_row_holds():
  encoder, decoder = packing.trim_lengths(
    np.array([[7], [12]]), np.array([[8], [2]]), (10, 6)
  )
  np.testing.assert_array_equal(encoder, [[7], [10]])
  np.testing.assert_array_equal(decoder, [[6], [2]])


def test_trimming_gives_an_absent_rationale_no_room():
  encoder, decoder = packing.trim_lengths(
    np.array([[9, 9]]), np.array([[2, 0]]), (10, 6)
  )
  np.testing.assert_array_equal(encoder, [[9, 0]])
  np.testing.assert_array_equal(decoder, [[2, 0]])


def test_trimming_is_fair_to_several_kinds():
  encoder, decoder = packing.trim_lengths(
    np.array([[9, 9, 9], [2, 9, 9], [3, 3, 3], [9, 9, 2]]),
    np.array([[2, 9, 9], [2, 1, 9], [2, 1, 1], [2, 9, 0]]),
    (12, 8),
  )
  expected = [[4, 4, 4], [2, 5, 5], [3, 3, 3], [6, 6, 0]]
  np.testing.assert_array_equal(encoder, expected)
  expected = [[2, 3, 3], [2, 1, 5], [2, 1, 1], [2, 6, 0]]
  np.testing.assert_array_equal(decoder, expected)


def test_pairs_are_trimmed_as_they_were_before_there_were_kinds():
  rng = np.random.default_rng(0)
  encoder, decoder = rng.integers(0, 20, (2, 500, 2))
  length, target_length = 13, 11
  before = np.cumsum(decoder, 1) - decoder
  targets = np.minimum(decoder, np.maximum(target_length - before, 0))
  inputs = np.where(targets > 0, encoder, 0)
  allowed = np.maximum(length - inputs[:, ::-1], length // 2)
  found = packing.trim_lengths(encoder, decoder, (length, target_length))
  np.testing.assert_array_equal(found[0], np.minimum(inputs, allowed))
  np.testing.assert_array_equal(found[1], targets)


TOKENS = st.integers(2, 30)
SEGMENT = st.tuples(
  st.lists(TOKENS, min_size=1, max_size=9),
  st.lists(TOKENS, min_size=1, max_size=7),
  st.sampled_from([1, 2]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(SEGMENT, min_size=1, max_size=40), st.integers(0, 5))
def test_single_segments_come_out_as_they_went_in(examples, seed):
  batch = pack(examples, (16, 9), seed=seed)
  assert_padding_is_zero(batch)
  got = sorted(segment for row in unpack(batch) for segment in row)
  expected = sorted((tuple(i), tuple(t), task) for i, t, task in examples)
  assert got == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(SEGMENT, SEGMENT), min_size=1, max_size=20))
def test_pairs_share_a_row(pairs):
  examples = [
    (segment[0], segment[1], task)
    for pair in pairs
    for segment, task in zip(pair, (1, 2), strict=True)
  ]
  batch = pack(examples, (18, 14), segments_per_unit=2)
  assert_padding_is_zero(batch)
  got = []
  for row in unpack(batch):
    assert [task for _, _, task in row] == [1, 2] * (len(row) // 2)
    got += list(zip(row[::2], row[1::2], strict=True))
  expected = [
    tuple((tuple(i), tuple(t), task) for i, t, task in examples[at : at + 2])
    for at in range(0, len(examples), 2)
  ]
  assert sorted(got) == sorted(expected)


@settings(max_examples=100, deadline=None)
@given(
  st.lists(st.tuples(SEGMENT, SEGMENT), min_size=1, max_size=20),
  st.integers(2, 12),
  st.integers(2, 12),
)
def test_trimmed_pairs_keep_the_beginnings(pairs, length, target_length):
  examples = [
    (segment[0], segment[1], task)
    for pair in pairs
    for segment, task in zip(pair, (1, 2), strict=True)
  ]
  batch = pack(examples, (length, target_length), segments_per_unit=2)
  assert_padding_is_zero(batch)
  encoder, decoder = packing.trim_lengths(
    np.array([len(i) for i, _, _ in examples]).reshape(-1, 2),
    np.array([len(t) for _, t, _ in examples]).reshape(-1, 2),
    (length, target_length),
  )
  assert (encoder.sum(1) <= length).all()
  assert (decoder.sum(1) <= target_length).all()
  expected = [
    (tuple(i[:e]), tuple(t[:d]), task)
    for (i, t, task), e, d in zip(
      examples, encoder.ravel(), decoder.ravel(), strict=True
    )
    if d
  ]
  got = [segment for row in unpack(batch) for segment in row]
  assert sorted(got) == sorted(expected)


def test_no_example_with_targets_gives_no_rows():
  batch = pack([([5, 1], [], 1)], (8, 6))
  assert batch['encoder_input_tokens'].shape == (0, 8)
  assert batch['decoder_task_ids'].shape == (0, 6)


def cqa_like(count, seed):
  """Lengths with CommonsenseQA's means and spreads; half are rationales."""
  rng = np.random.default_rng(seed)
  tasks = rng.integers(1, 3, count)
  inputs = np.clip(rng.normal(52, 10, count), 35, 110).astype(int)
  labels = np.clip(rng.poisson(2, count) + 1, 2, 7)
  rationales = np.clip(rng.normal(36, 7, count), 20, 75).astype(int)
  targets = np.where(tasks == 1, labels, rationales)
  return [
    (rng.integers(2, 99, i).tolist(), rng.integers(2, 99, t).tolist(), int(k))
    for i, t, k in zip(inputs, targets, tasks, strict=True)
  ]


def test_both_sides_are_filled():
  batch = pack(cqa_like(1024, 0), (512, 208))
  encoder = (batch['encoder_segment_ids'] > 0).mean()
  decoder = (batch['decoder_segment_ids'] > 0).mean()
  assert encoder > 0.95, encoder
  assert decoder > 0.85, decoder


def test_rows_are_those_of_earlier_versions():
  """A run that goes on with a newer version has to read the same rows."""
  rng = np.random.default_rng(0)
  # Fractions of 512 and 256 have no rounding that a machine could differ in.
  lengths = rng.integers(2, 200, 600), rng.integers(1, 90, 600)
  shape, found = (512, 256), []
  for begin in range(0, 600, 12):
    few = [side[begin : begin + 12] for side in lengths]
    found.append(packing.assign_rows(*few, shape, last_units=4.0))
  for last_units in (0.5, 4.0):
    found.append(packing.assign_rows(*lengths, shape, last_units))
  rows = np.concatenate(found).astype('<i8')
  assert hashlib.sha256(rows.tobytes()).hexdigest()[:16] == '2f4ede5c5fd2885c'


@pytest.mark.parametrize(
  ('seed', 'count', 'last_units', 'rows'),
  [(0, 35, 3.2, 12), (3, 33, 2.0, 10), (132, 35, 4.0, 13), (261, 23, 1.4, 8),
   (4486, 38, 5.0, 11)],
)  # fmt: skip
def test_other_ways_are_tried_where_the_first_needs_too_many_rows(
  seed, count, last_units, rows
):
  rng = np.random.default_rng(seed)
  assert rng.integers(8, 40) == count
  lengths = rng.integers(2, 40, count), rng.integers(1, 20, count), (64, 32)
  found = packing.assign_to_rows(*lengths, rows)
  assert found.max() + 1 == rows
  # In this order, since a later way gives a run other rows.
  for tried in (2.6, 3.2, 2.0, 4.0, 1.4, 5.0):
    expected = packing.assign_rows(*lengths, last_units=tried)
    if tried == last_units:
      break
    assert expected.max() + 1 > rows
  np.testing.assert_array_equal(found, expected)
  first = packing.assign_rows(*lengths, last_units=2.6)
  np.testing.assert_array_equal(packing.assign_rows(*lengths), first)
  np.testing.assert_array_equal(
    packing.assign_to_rows(*lengths, first.max() + 1), first
  )
  sums = rf'{lengths[0].sum()} input and {lengths[1].sum()} target'
  with pytest.raises(
    packing.TooFewRowsError, match=rf'{sums} tokens need {rows} rows of 64 and'
  ):
    packing.assign_to_rows(*lengths, rows - 1)


def test_a_number_of_rows_may_be_more_than_are_needed_or_none():
  for examples, rows, filled in (
    ([([5, 1], [], 1)], 0, 0), ([([5, 1], [6], 1)], 1, 1),
    ([([5, 1], [6], 1)], 3, 1), ([([5, 1], [], 1)], 2, 0),
  ):  # fmt: skip
    batch = pack(examples, (8, 6), num_rows=rows)
    assert batch['encoder_input_tokens'].shape == (rows, 8)
    assert batch['decoder_task_ids'].any(1).sum() == filled
  with pytest.raises(packing.TooFewRowsError):
    pack([([5, 1], [6], 1)], (8, 6), num_rows=0)


def test_many_segments_keep_their_order_inside_a_row():
  batch = pack([([i], [i], 1) for i in range(2, 902)], (100, 100))
  for name in ('encoder_input_tokens', 'decoder_target_tokens'):
    assert batch[name].shape == (9, 100)
    assert (np.diff(batch[name]) > 0).all()
  (alone,) = pack([([i], [i], 1) for i in range(2, 902)], (900, 900))[
    'encoder_input_tokens'
  ]
  assert alone.tolist() == list(range(2, 902))


def test_a_token_may_be_zero_and_only_its_loss_is_left_out():
  batch = pack([([5, 0, 7], [6, 0, 9], 2)], (4, 4))
  found = {name: rows[0].tolist() for name, rows in batch.items()}
  assert found['encoder_input_tokens'] == [5, 0, 7, 0]
  assert found['encoder_segment_ids'] == [1, 1, 1, 0]
  assert found['decoder_input_tokens'] == [0, 6, 0, 0]
  assert found['decoder_loss_weights'] == [1, 0, 1, 0]
  assert found['decoder_task_ids'] == [2, 2, 2, 0]


def test_rows_are_shuffled_by_the_seed_alone():
  examples = cqa_like(300, 1)
  first, again, other = (
    pack(examples, (512, 192), seed=seed) for seed in (3, 3, 4)
  )
  for name in first:
    np.testing.assert_array_equal(first[name], again[name])
  name = 'encoder_input_tokens'
  assert not np.array_equal(first[name], other[name])
  assert sorted(map(bytes, first[name])) == sorted(map(bytes, other[name]))


def test_place_in_a_window_tells_neither_fill_nor_task():
  fills, tasks, places = [], [], []
  for seed in range(8):
    batch = pack(cqa_like(512, seed), (256, 96), seed=seed)
    fills.append((batch['encoder_segment_ids'] > 0).mean(1))
    tasks.append((batch['decoder_task_ids'] == 2).mean(1))
    places.append(np.linspace(0, 1, len(fills[-1])))
  places = np.concatenate(places)
  # 450 rows: a correlation of 0.2 would be four standard errors.
  for values in (fills, tasks):
    assert abs(np.corrcoef(places, np.concatenate(values))[0, 1]) < 0.2


def test_without_packing_each_unit_has_a_row():
  units = ragged([[5, 6], [7], [8]]), ragged([[1, 2], [], [3]])
  tasks = np.array([[1], [1], [2]], np.int32)
  for rows in (3, 4):
    found = packing.pad(*units, tasks, (3, 2), rows, bos_id=9)
    more = [[0, 0]] * (rows - 3)
    targets = found['decoder_target_tokens']
    assert targets.tolist() == [[1, 2], [0, 0], [3, 0], *more]
    assert found['decoder_input_tokens'].tolist() == [
      [9, 1],
      [0, 0],
      [9, 0],
      *more,
    ]
    assert found['decoder_task_ids'].tolist() == [[1, 1], [0, 0], [2, 0], *more]
    assert found['encoder_input_tokens'][2].tolist() == [8, 0, 0]
  found = packing.pad(*units, tasks, (3, 2), 3)
  assert found['decoder_input_tokens'].tolist() == [[0, 1], [0, 0], [0, 0]]
  with pytest.raises(packing.TooFewRowsError, match='3 examples need 3 rows'):
    packing.pad(*units, tasks, (3, 2), 2)
