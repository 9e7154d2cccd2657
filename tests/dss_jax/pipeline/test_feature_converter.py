"""The converter hands every token on, packed or not, alone or in pairs."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dss_jax.errors import DataError
from dss_jax.pipeline import feature_converter, row_shapes

LENGTHS = {'inputs': 12, 'targets': 8}
KEYS = ('inputs', 'targets', 'rationale_inputs', 'rationale_targets')


def dataset(examples):
  """A dataset of ragged int32 examples, shaped as a SeqIO task gives them."""
  spec = {
    name: tf.TensorSpec([] if name == 'task_id' else [None], tf.int32)
    for name in examples[0]
  }
  return tf.data.Dataset.from_generator(
    lambda: iter(examples), output_signature=spec
  )


def convert(examples, lengths=LENGTHS, **kwargs):
  converter = feature_converter.DistillFeatureConverter(**kwargs)
  rows = list(converter(dataset(examples), lengths).as_numpy_iterator())
  for row in rows:
    shapes = converter.get_model_feature_lengths(lengths)
    assert {name: array.shape for name, array in row.items()} == {
      name: (length,) for name, length in shapes.items()
    }
  return rows


def segments(row):
  """Reads (inputs, targets, task) of each segment of a row back."""
  if 'decoder_segment_ids' in row:
    encoder_ids = row['encoder_segment_ids']
    decoder_ids = row['decoder_segment_ids']
  else:
    encoder_ids = (row['encoder_input_tokens'] > 0).astype(int)
    decoder_ids = row['decoder_loss_weights']
  found = []
  for segment in range(1, decoder_ids.max(initial=0) + 1):
    mask = decoder_ids == segment
    (task,) = set(row['decoder_task_ids'][mask].tolist())
    targets = row['decoder_target_tokens'][mask].tolist()
    assert row['decoder_input_tokens'][mask].tolist() == [0, *targets[:-1]]
    inputs = row['encoder_input_tokens'][encoder_ids == segment].tolist()
    found.append((tuple(inputs), tuple(targets), task))
  return found


def expected_segments(examples):
  found = []
  for example in examples:
    task = example.get('task_id', 1)
    found.append((tuple(example['inputs']), tuple(example['targets']), task))
    if example.get('rationale_targets'):
      found.append(
        (
          tuple(example['rationale_inputs']),
          tuple(example['rationale_targets']),
          2,
        )
      )
  return found


def test_docstring_pair():
  rows = convert(
    [
      {
        'inputs': [7, 8, 1],
        'targets': [3, 1],
        'rationale_inputs': [9, 8, 1],
        'rationale_targets': [5, 6, 1],
      }
    ],
    {'inputs': 4, 'targets': 3},
    pack=False,
  )
  expected = [
    {
      'encoder_input_tokens': [7, 8, 1, 0],
      'decoder_target_tokens': [3, 1, 0],
      'decoder_input_tokens': [0, 3, 0],
      'decoder_loss_weights': [1, 1, 0],
      'decoder_task_ids': [1, 1, 0],
    },
    {
      'encoder_input_tokens': [9, 8, 1, 0],
      'decoder_target_tokens': [5, 6, 1],
      'decoder_input_tokens': [0, 5, 6],
      'decoder_loss_weights': [1, 1, 1],
      'decoder_task_ids': [2, 2, 2],
    },
  ]
  for row, want in zip(rows, expected, strict=True):
    assert {name: array.tolist() for name, array in row.items()} == want


def tokens(max_size):
  return st.lists(st.integers(1, 30), min_size=1, max_size=max_size)


EXAMPLE = st.fixed_dictionaries(
  {'inputs': tokens(12), 'targets': tokens(8), 'task_id': st.integers(1, 2)}
)
PAIR = st.fixed_dictionaries(
  {
    'inputs': tokens(6),
    'targets': tokens(3),
    'rationale_inputs': tokens(6),
    'rationale_targets': st.lists(st.integers(1, 30), max_size=5),
  }
)


@settings(max_examples=5, deadline=None)
@given(
  st.one_of(
    st.lists(EXAMPLE, min_size=1, max_size=12),
    st.lists(PAIR, min_size=1, max_size=12),
  )
)
def test_examples_come_out_as_they_went_in(examples):
  want = expected_segments(examples)
  packed = convert(examples, pack=True)
  assert sorted(s for row in packed for s in segments(row)) == sorted(want)
  # A row of padding would read back as nothing.
  assert all(segments(row) for row in packed)
  # Without packing the order stays, and a pair's rows are neighbors.
  rows = convert(examples, pack=False)
  assert len(rows) == len(want)
  assert [s for row in rows for s in segments(row)] == want


def test_a_pair_without_a_rationale_is_its_label_alone():
  examples = [
    {
      'inputs': [7, 8, 1],
      'targets': [3, 1],
      'rationale_inputs': [9, 8, 1],
      'rationale_targets': [],
    },
    {
      'inputs': [6, 1],
      'targets': [4, 1],
      'rationale_inputs': [5, 1],
      'rationale_targets': [2],
    },
  ]
  want = [
    ((7, 8, 1), (3, 1), 1),
    ((6, 1), (4, 1), 1),
    ((5, 1), (2,), 2),
  ]
  rows = convert(examples, pack=False)
  assert [segments(row) for row in rows] == [[segment] for segment in want]
  (row,) = convert(examples, pack=True)
  assert segments(row) == want
  (row,) = convert(examples[:1], pack=True)
  assert segments(row) == want[:1]


def test_an_example_without_a_task_id_is_a_label_example():
  examples = [{'inputs': [5, 1], 'targets': [6, 1]}]
  for pack in (False, True):
    (row,) = convert(examples, pack=pack)
    assert row['decoder_task_ids'].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_kinds_of_a_pair_are_told_apart_whatever_task_its_example_names():
  spec = feature_converter.DistillFeatureConverter.FeatureSpec(dtype=tf.int32)
  pair = {
    'inputs': [7, 8, 1], 'targets': [3, 1],
    'rationale_inputs': [9, 8, 1], 'rationale_targets': [5],
    'rationale2_inputs': [6, 8, 1], 'rationale2_targets': [4, 0, 1],
    'task_id': 3,
  }  # fmt: skip
  want = [
    ((7, 8, 1), (3, 1), 1), ((9, 8, 1), (5,), 2), ((6, 8, 1), (4, 0, 1), 3)
  ]  # fmt: skip
  (row,) = convert([pair], {'inputs': 12, 'targets': 8}, pack=True)
  assert segments(row) == want
  rows = convert(
    [pair | {'number': [4]}],
    LENGTHS | {'number': 2},
    pack=False,
    passthrough_features={'number': spec},
  )
  assert [row['number'].tolist() for row in rows] == [[4, 0]] * 3
  tasks = [row['decoder_task_ids'].tolist() for row in rows]
  assert [ids[:4] for ids in tasks] == [
    [1, 1, 0, 0], [2, 0, 0, 0], [3, 3, 3, 0]
  ]  # fmt: skip
  assert rows[2]['encoder_input_tokens'][:4].tolist() == [6, 8, 1, 0]
  assert rows[2]['decoder_input_tokens'][:4].tolist() == [0, 4, 0, 0]


def test_zero_is_a_token_like_others_without_a_loss():
  for pack in (False, True):
    (row,) = convert([{'inputs': [5, 0, 7], 'targets': [6, 0, 9]}], pack=pack)
    assert row['encoder_input_tokens'][:4].tolist() == [5, 0, 7, 0]
    assert row['decoder_input_tokens'][:4].tolist() == [0, 6, 0, 0]
    assert row['decoder_loss_weights'][:4].tolist() == [1, 0, 1, 0]
    assert row['decoder_task_ids'][:4].tolist() == [1, 1, 1, 0]


def test_without_targets_nothing_is_read():
  examples = [{'inputs': [5, 1], 'targets': []}]
  assert convert(examples, pack=True) == []
  (row,) = convert(examples, pack=False, bos_id=7)
  assert not any(row[name].any() for name in row if name.startswith('decoder'))


def test_a_windows_size_and_features_that_are_not_packed():
  """What inspection foretells is packed in windows of the same size."""
  converter = feature_converter.DistillFeatureConverter()
  assert converter.WINDOW == row_shapes.WINDOW == 1024
  ds = dataset(numbered(3)).map(lambda x: {**x, 'id': 'a text'})
  rows = converter(ds, LENGTHS)
  assert {name: s.shape.as_list() for name, s in rows.element_spec.items()} == {
    name: [length]
    for name, length in converter.get_model_feature_lengths(LENGTHS).items()
  }
  (row,) = rows.as_numpy_iterator()
  assert segments(row) == expected_segments(numbered(3))


def test_task_id_may_be_a_vector_of_one():
  ds = tf.data.Dataset.from_tensors(
    {
      'inputs': tf.constant([5, 1]),
      'targets': tf.constant([6, 1]),
      'task_id': tf.constant([2]),
    }
  )
  for pack in (False, True):
    converter = feature_converter.DistillFeatureConverter(pack=pack)
    (row,) = converter(ds, LENGTHS | {'task_id': 1}).as_numpy_iterator()
    assert row['decoder_task_ids'].tolist() == [2, 2, 0, 0, 0, 0, 0, 0]


def numbered(count):
  return [
    {'inputs': [i, i, 1], 'targets': [i, 1], 'task_id': 1 + i % 2}
    for i in range(2, count + 2)
  ]


def test_every_window_of_a_finite_dataset_is_packed(monkeypatch):
  monkeypatch.setattr(feature_converter.DistillFeatureConverter, 'WINDOW', 10)
  examples = numbered(37)
  rows = convert(examples, pack=True)
  found = sorted(s for row in rows for s in segments(row))
  assert found == expected_segments(examples)
  # 4 short examples fill a row, so 3 windows of 10 and one of 7.
  assert len(rows) == 3 * 3 + 2


def test_an_infinite_dataset_never_ends_and_repeats_exactly():
  def rows():
    converter = feature_converter.DistillFeatureConverter(pack=True)
    ds = converter(dataset(numbered(50)).repeat(), LENGTHS)
    return list(ds.take(200).as_numpy_iterator())

  first, second = rows(), rows()
  assert len(first) == 200
  for one, other in zip(first, second, strict=True):
    for name in one:
      np.testing.assert_array_equal(one[name], other[name])


def test_windows_are_shuffled_differently(monkeypatch):
  monkeypatch.setattr(feature_converter.DistillFeatureConverter, 'WINDOW', 50)
  converter = feature_converter.DistillFeatureConverter(pack=True)
  ds = converter(dataset(numbered(50)).repeat(2), LENGTHS)
  rows = [r['encoder_input_tokens'] for r in ds.as_numpy_iterator()]
  first, second = np.split(np.array(rows), 2)
  assert not np.array_equal(first, second)
  assert sorted(map(bytes, first)) == sorted(map(bytes, second))


def test_position_survives_a_tf_checkpoint(tmp_path):
  def iterator():
    converter = feature_converter.DistillFeatureConverter(pack=True)
    return iter(converter(dataset_of_slices().repeat(), LENGTHS))

  def dataset_of_slices():
    ds = tf.data.Dataset.range(2, 60, output_type=tf.int32)
    return ds.map(lambda i: {'inputs': tf.fill([3], i), 'targets': i[None]})

  original = iterator()
  for _ in range(7):
    next(original)
  path = tf.train.Checkpoint(it=original).write(str(tmp_path / 'position'))
  want = [next(original)['encoder_input_tokens'].numpy() for _ in range(30)]
  restored = iterator()
  tf.train.Checkpoint(it=restored).read(path)
  got = [next(restored)['encoder_input_tokens'].numpy() for _ in range(30)]
  np.testing.assert_array_equal(got, want)


def test_start_id_is_the_converters():
  examples = [{'inputs': [5, 1], 'targets': [6, 1]}]
  for pack in (False, True):
    (row,) = convert(examples, pack=pack, bos_id=7)
    assert row['decoder_input_tokens'].tolist() == [7, 6, 0, 0, 0, 0, 0, 0]


def test_features_other_than_the_task_id_are_seqios():
  """Without the task ids, what comes out is what SeqIO's converter gives."""
  examples = numbered(3)
  ours = convert(examples, pack=False)
  theirs = seqio.EncDecFeatureConverter(pack=False)(dataset(examples), LENGTHS)
  for row, want in zip(ours, theirs.as_numpy_iterator(), strict=True):
    real = want['decoder_loss_weights'] > 0
    for name, array in want.items():
      # SeqIO's shift leaves the last target in the padding behind it.
      real_part = real if name == 'decoder_input_tokens' else slice(None)
      np.testing.assert_array_equal(row[name][real_part], array[real_part])


def test_passthrough_features_are_handed_on_without_packing():
  examples = [{'inputs': [5, 1], 'targets': [6, 1], 'extra': [3]}]
  spec = feature_converter.DistillFeatureConverter.FeatureSpec(dtype=tf.int32)
  (row,) = convert(
    examples,
    LENGTHS | {'extra': 2},
    pack=False,
    passthrough_features={'extra': spec},
  )
  assert row['extra'].tolist() == [3, 0]
  with pytest.raises(ValueError, match='incompatible with pass-through'):
    feature_converter.DistillFeatureConverter(
      passthrough_features={'extra': spec}
    )


def test_a_scalar_is_handed_on_as_it_is():
  spec = feature_converter.DistillFeatureConverter.FeatureSpec(
    dtype=tf.int32, rank=0
  )
  converter = feature_converter.DistillFeatureConverter(
    pack=False, passthrough_features={'number': spec}
  )
  ds = tf.data.Dataset.from_tensors(
    {'inputs': [5, 1], 'targets': [6, 1], 'number': 9}
  )
  (row,) = converter(ds, LENGTHS | {'number': 1}).as_numpy_iterator()
  assert row['number'] == 9


def test_passthrough_features_are_padded_along_their_first_axis():
  spec = feature_converter.DistillFeatureConverter.FeatureSpec(
    dtype=tf.int32, rank=2
  )
  features = {
    'inputs': ([5, 1], [None]),
    'targets': ([6, 1], [None]),
    'pairs': ([[1, 2], [3, 4], [5, 6]], [None, 2]),
  }
  dataset = tf.data.Dataset.from_generator(
    lambda: [{name: value for name, (value, _) in features.items()}],
    output_signature={
      name: tf.TensorSpec(shape, tf.int32)
      for name, (_, shape) in features.items()
    },
  )
  for length, expected in (
    (3, [[1, 2], [3, 4], [5, 6]]),
    (4, [[1, 2], [3, 4], [5, 6], [0, 0]]),
  ):
    converter = feature_converter.DistillFeatureConverter(
      pack=False, passthrough_features={'pairs': spec}
    )
    rows = converter(dataset, LENGTHS | {'pairs': length})
    assert rows.element_spec['pairs'].shape.as_list() == [length, 2]
    (row,) = rows.as_numpy_iterator()
    assert row['pairs'].tolist() == expected


def test_seqio_evaluator_takes_it():
  vocabulary = seqio.PassThroughVocabulary(64)
  feature = seqio.Feature(vocabulary, add_eos=False)
  seen = []
  seqio.TaskRegistry.remove('converter_test_task')
  seqio.TaskRegistry.add(
    'converter_test_task',
    source=seqio.FunctionDataSource(
      lambda split, shuffle_files, seed=None: dataset_for_evaluation(),
      splits=['test'],
    ),
    output_features={
      'inputs': feature,
      'targets': feature,
      'task_id': seqio.Feature(vocabulary, add_eos=False),
    },
    metric_fns=[lambda targets, predictions: {'count': len(targets)}],
  )
  evaluator = seqio.Evaluator(
    'converter_test_task',
    feature_converter.DistillFeatureConverter(pack=False),
    eval_split='test',
  )
  assert evaluator.model_feature_shapes['encoder_input_tokens'] == (4,)
  assert evaluator.model_feature_shapes['decoder_task_ids'] == (3,)
  metrics, _ = evaluator.evaluate(
    compute_metrics=True,
    predict_fn=lambda ds, *_: seen.extend(ds) or [(i, [1]) for i in range(4)],
    step=0,
  )
  assert len(seen) == 4
  assert metrics.result()['converter_test_task'] == {'count': 4}


def dataset_for_evaluation():
  ds = tf.data.Dataset.range(2, 6, output_type=tf.int32)
  return ds.map(
    lambda i: {
      'inputs': tf.fill([i % 3 + 2], i),
      'targets': tf.fill([3], i),
      'task_id': tf.constant([1]),
    }
  )


def test_half_a_pair_is_refused():
  examples = [{'inputs': [5, 1], 'targets': [6, 1], 'rationale_inputs': [7]}]
  with pytest.raises(DataError, match="needs both 'rationale_inputs' and"):
    convert(examples)


def test_lengths_for_a_rationale_are_refused():
  examples = [{name: [5, 1] for name in KEYS}]
  with pytest.raises(DataError, match="names 'rationale_inputs', but all"):
    convert(examples, LENGTHS | {'rationale_inputs': 9})


def test_custom_packing_ops_are_refused():
  with pytest.raises(DataError, match='expected use_custom_packing_ops=False'):
    feature_converter.DistillFeatureConverter(use_custom_packing_ops=True)


def test_too_long_an_example_is_refused_or_trimmed():
  examples = [{'inputs': list(range(2, 20)), 'targets': [6, 1]}]
  for pack in (False, True):
    with pytest.raises(tf.errors.InvalidArgumentError, match='length of 12'):
      convert(examples, pack=pack)
    (row,) = convert(examples, pack=pack, apply_length_check=False)
    assert row['encoder_input_tokens'].tolist() == list(range(2, 14))
