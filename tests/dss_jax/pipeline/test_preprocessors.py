"""Tests of making inputs and targets of rows."""

import collections
import doctest

import seqio
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from dss_jax import mixtures
from dss_jax.data import own_rows
from dss_jax.pipeline import packing, preprocessors
from tests import small_vocabularies

VOCABULARY = seqio.ByteVocabulary()
FEATURES = {
  name: seqio.Feature(VOCABULARY, add_eos=True)
  for name in (
    'inputs', 'targets', 'rationale_inputs', 'rationale_targets'
  )
}  # fmt: skip
ROWS = [
  {
    'id': 'r0', 'input': 'Where?', 'label': 'pond', 'rationale': 'It swims.',
    'teacher_label': 'lake',
  },
  {
    'id': 'r1', 'input': 'Who?', 'label': 'Ann', 'rationale': '',
    'teacher_label': '',
  },
]  # fmt: skip


def run(*steps):
  columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
  dataset = tf.data.Dataset.from_tensor_slices(columns)
  for step in steps:
    dataset = step(dataset)
  return list(dataset.as_numpy_iterator())


def tokenize(dataset):
  return seqio.preprocessors.tokenize(dataset, output_features=FEATURES)


def with_eos(**lengths):
  return lambda dataset: preprocessors.append_eos(
    dataset, FEATURES, lengths or None
  )


def test_the_examples_in_the_docstrings_hold():
  result = doctest.testmod(preprocessors)
  assert result.attempted and not result.failed


def test_the_label_task_predicts_the_chosen_label():
  first, _ = run(preprocessors.label_task('label'))
  assert (first['inputs'], first['targets']) == (b'predict: Where?', b'pond')
  first, _ = run(preprocessors.label_task('teacher_label', prefix=''))
  assert (first['inputs'], first['targets']) == (b'Where?', b'lake')


def test_the_rationale_task_explains():
  first, _ = run(preprocessors.rationale_task())
  assert first['inputs'] == b'explain: Where?'
  assert first['targets'] == b'It swims.'


def test_the_single_task_has_both_in_one_target():
  first, second = run(preprocessors.single_task('label'))
  assert first['inputs'] == b'Where?'
  assert first['targets'] == b'It swims. So the answer is pond'
  assert second['targets'] == b'So the answer is Ann'


@given(st.text(), st.text())
def test_the_label_comes_out_of_a_single_target_again(rationale, label):
  target = f'{rationale} {preprocessors.ANSWER_PHRASE} {label}'
  expected = label.rpartition(preprocessors.ANSWER_PHRASE)[2].strip()
  assert preprocessors.answer_of(target) == expected


def test_a_generation_without_the_phrase_has_no_label():
  assert preprocessors.answer_of('It swims. pond') == ''


def test_a_pair_without_a_rationale_has_no_token_on_that_side():
  first, second = run(
    preprocessors.paired_task('label'),
    tokenize,
    with_eos(),
    preprocessors.drop_blank_pair,
  )
  assert VOCABULARY.decode(first['rationale_inputs']) == 'explain: Where?'
  assert VOCABULARY.decode(first['rationale_targets']) == 'It swims.'
  assert first['rationale_targets'][-1] == VOCABULARY.eos_id
  assert second['rationale_inputs'].shape == (0,)
  assert second['rationale_targets'].shape == (0,)
  assert VOCABULARY.decode(second['targets']) == 'Ann'


def _rationales_of(step, texts):
  rows = tf.data.Dataset.from_tensor_slices(
    {'rationale': texts, 'label': [f'{i}' for i in range(len(texts))]}
  )
  found = list(step(rows).as_numpy_iterator())
  assert [row['label'] for row in found] == [
    b'%d' % i for i in range(len(texts))
  ]
  return [row['rationale'].decode() for row in found]


def test_each_rationale_of_a_row_is_drawn_as_often():
  several = own_rows.SEPARATOR.join(['one', 'two', 'three'])
  with seqio.utils.map_seed_manager(3):
    found = _rationales_of(preprocessors.draw_rationale, [several] * 300)
  counts = collections.Counter(found)
  assert {*counts} == {'one', 'two', 'three'}
  # 100 each, with four standard deviations.
  assert all(67 <= count <= 133 for count in counts.values())
  assert _rationales_of(preprocessors.draw_rationale, ['', 'a']) == ['', 'a']


def test_the_rationales_of_several_kinds_are_drawn_at_one_place():
  texts = [own_rows.SEPARATOR.join(f'{kind}{i}' for i in range(9)) for kind in
           ('a', 'b')]  # fmt: skip
  rows = tf.data.Dataset.from_tensor_slices(
    {'rationale': [texts[0]] * 20, 'rationale2': [texts[1]] * 20}
  )
  with seqio.utils.map_seed_manager(3):
    drawn = list(preprocessors.draw_rationale(rows).as_numpy_iterator())
  places = [int(row['rationale'].decode()[1:]) for row in drawn]
  assert [row['rationale2'] for row in drawn] == [b'b%d' % i for i in places]
  assert len(set(places)) > 4
  first = list(preprocessors.first_rationale(rows).as_numpy_iterator())
  assert first == [{'rationale': b'a0', 'rationale2': b'b0'}] * 20


def test_the_first_rationale_of_a_row_is_taken():
  several = own_rows.SEPARATOR.join(['one', 'two', 'three'])
  found = _rationales_of(preprocessors.first_rationale, [several, '', 'a'])
  assert found == ['one', '', 'a']


SPACE = VOCABULARY.encode(' ')


def test_blanks_are_spelled_as_the_published_code_does():
  _, second = run(
    preprocessors.spell_blanks(['rationale', 'teacher_label']),
    preprocessors.paired_task('teacher_label'),
    tokenize,
    lambda dataset: preprocessors.encode_blanks(dataset, FEATURES),
    with_eos(),
  )
  expected = [*SPACE, VOCABULARY.eos_id]
  assert second['targets'].tolist() == expected
  assert second['rationale_targets'].tolist() == expected


def test_a_blank_without_tokens_gets_that_of_a_space():
  vocabulary = mixtures.sample_vocabulary()
  features = {n: seqio.Feature(vocabulary) for n in ('inputs', 'targets')}
  dataset = tf.data.Dataset.from_tensor_slices(
    {'targets_pretokenized': [' ', 'a', ''], 'targets': [[7], [8], [9]]}
  )
  encoded = preprocessors.encode_blanks(dataset, features)
  found = [row['targets'].tolist() for row in encoded.as_numpy_iterator()]
  assert found == [preprocessors.blank_tokens(vocabulary), [8], [9]]


def test_a_rationale_before_an_answer_that_was_read_stays_empty():
  row = {**ROWS[0], 'rationale': ''}
  columns = {name: [text] for name, text in row.items()}
  dataset = tf.data.Dataset.from_tensor_slices(columns)
  spell = preprocessors.spell_blanks(['rationale', 'teacher_label'])
  (found,) = spell(dataset).as_numpy_iterator()
  assert (found['rationale'], found['teacher_label']) == (b'', b'lake')
  # Nor is a rationale taken away whose answer was not read.
  dataset = dataset.map(
    lambda row: {**row, 'rationale': 'It swims.', 'teacher_label': ''}
  )
  (found,) = spell(dataset).as_numpy_iterator()
  assert (found['rationale'], found['teacher_label']) == (b'It swims.', b' ')


def test_a_space_is_the_piece_of_a_space():
  vocabulary = mixtures.sample_vocabulary()
  assert vocabulary.encode(' ') == []
  (token,) = preprocessors.blank_tokens(vocabulary)
  assert vocabulary.tokenizer.id_to_piece(token) == '▁'
  # One that has tokens for it keeps them.
  kept = small_vocabularies.made(
    normalization_rule_name='identity', remove_extra_whitespaces=False
  )
  tokens = kept.encode(' ')
  assert len(tokens) > 1 and preprocessors.blank_tokens(kept) == tokens


def test_the_end_token_stands_between_two_inputs():
  vocabulary = mixtures.sample_vocabulary()
  features = {
    name: seqio.Feature(vocabulary, add_eos=True, dtype=tf.int32)
    for name in ('inputs', 'targets')
  }
  texts = ['A pond.</s>A cave.', 'pond', '</s>pond</s></s>']
  dataset = tf.data.Dataset.from_tensor_slices(
    {'inputs': texts, 'targets': ['a</s>b'] * 3}
  )
  found = list(
    preprocessors.tokenize_parts(dataset, features).as_numpy_iterator()
  )
  first, second, pond = map(vocabulary.encode, ('A pond.', 'A cave.', 'pond'))
  end = vocabulary.eos_id
  assert [row['inputs'].tolist() for row in found] == [
    [*first, end, *second], pond, [end, *pond, end, end]
  ]  # fmt: skip
  assert found[0]['targets'].tolist() == vocabulary.encode('a</s>b')
  assert found[0]['inputs'].dtype == found[0]['targets'].dtype == 'int32'


def test_a_long_feature_is_trimmed_and_still_ends():
  first, _ = run(
    preprocessors.paired_task('label'),
    tokenize,
    with_eos(inputs=6, targets=4),
  )
  for name, length in (('inputs', 6), ('targets', 4)):
    for key in (name, f'rationale_{name}'):
      assert first[key].shape == (length,)
      assert first[key][-1] == VOCABULARY.eos_id
  assert VOCABULARY.decode(first['rationale_targets']) == 'It '
  first, _ = run(
    preprocessors.paired_task('label'),
    tokenize,
    with_eos(targets=4, rationale_targets=6),
  )
  # A side without a length is not cut, and one with its own takes that.
  assert VOCABULARY.decode(first['inputs']) == 'predict: Where?'
  assert VOCABULARY.decode(first['rationale_inputs']) == 'explain: Where?'
  assert VOCABULARY.decode(first['targets']) == 'pon'
  assert VOCABULARY.decode(first['rationale_targets']) == 'It sw'


def test_the_task_id_is_a_scalar():
  first, _ = run(
    preprocessors.rationale_task(),
    preprocessors.add_task_id(packing.RATIONALE_TASK),
  )
  assert first['task_id'] == 2
  assert first['task_id'].shape == ()
  assert first['task_id'].dtype == 'int32'
