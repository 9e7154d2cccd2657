"""Texts become the tokens that a student was trained on."""

import hypothesis
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from dss_jax import errors, mixtures
from dss_jax.pipeline import preprocessors, registration
from dss_jax.student import inputs, usage

_ODD = ['a</s>b', '</s>', 'x </s> y</s>', '<pad> \u00e9', '\ufb01ne', 'a\u0301']


@hypothesis.settings(max_examples=4, deadline=None)
@hypothesis.given(
  st.lists(
    st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=30)
    | st.sampled_from(_ODD),
    min_size=1,
    max_size=40,
  ),
  st.sampled_from(['cqa', 'esnli']),
)
def test_tokens_are_those_of_training(texts, data_set):
  vocabulary = mixtures.sample_vocabulary()
  how = usage.Usage('dss', data_set, inputs=12)
  found, cut = inputs.Tokenizer(how, vocabulary).inputs([*texts, *_ODD])
  assert found == _of_training([*texts, *_ODD], data_set, vocabulary, 12)
  whole = _of_training([*texts, *_ODD], data_set, vocabulary, None)
  assert cut == sum(len(row) > 12 for row in whole)


def _of_training(texts, data_set, vocabulary, length):
  features = registration.text_features(vocabulary, 'inputs')
  rows = tf.data.Dataset.from_tensor_slices(
    {'inputs': [f'predict: {text}'.encode() for text in texts]}
  )
  rows = registration.tokenizer(data_set)(rows, features)
  lengths = length and {'inputs': length}
  rows = preprocessors.append_eos(rows, features, lengths)
  return [row['inputs'].tolist() for row in rows.as_numpy_iterator()]


def test_a_published_row_needs_no_label():
  row = {'question': 'Who?', 'choices': ['me', 'you']}
  text = inputs.text_of(row, usage.Usage('dss', 'cqa'), 'here')
  assert text == 'Who?\nAnswer Choices:\n(a) me\n(b) you'
  pair = {'premise': 'A.', 'hypothesis': 'B.'}
  how = usage.Usage('dss', 'esnli')
  assert inputs.text_of(pair, how, 'here') == 'A.</s>B.'
  sum_ = {'Body': 'Ann has 2.', 'Question': 'And Bo?'}
  how = usage.Usage('dss', 'asdiv')
  assert inputs.text_of(sum_, how, 'here') == 'Ann has 2.\nAnd Bo?'


@pytest.mark.parametrize(
  ('data_set', 'row', 'message'),
  [
    ('esnli', {'premise': 'A.'}, "here: expected the column 'hypothesis'"),
    ('cqa', {'question': 'Who?', 'choices': 3}, "expected 'choices' to be a"),
    ('cqa', {'question': 'Who?', 'choices': []}, '1 to 26 texts'),
    ('svamp', {'text': 'How many?'}, "expected the column 'input'"),
    ('custom', {'a': 'How many?'}, "expected the column 'input', which"),
  ],
)
def test_a_row_without_its_columns_is_refused(data_set, row, message):
  with pytest.raises(errors.DataError, match=message):
    inputs.text_of(row, usage.Usage('dss', data_set), 'here')
