"""Tests of rows of the published layout: bounds, and questions without gold."""

import pytest

from dss_jax.data import row_formats


def _cqa(count, answer='0'):
  choices = [f'{n}' for n in range(count)]
  return {'question': 'Which?', 'choices': choices, 'answer': answer}


@pytest.mark.parametrize('count', [1, 2, 26])
def test_choices_are_lettered(count):
  fields = row_formats.READERS['cqa'](_cqa(count))
  letters = 'abcdefghijklmnopqrstuvwxyz'
  lines = [f'({letters[n]}) {n}' for n in range(count)]
  assert fields.input.split('\n') == ['Which?', 'Answer Choices:', *lines]
  assert (fields.id, fields.label) == (None, '0')
  assert fields.possible(f'{count - 1}') and not fields.possible(f'{count}')


@pytest.mark.parametrize('label', [0, 1, 2])
def test_labels_of_inference_are_its_words(label):
  row = {'uid': 7, 'premise': 'a', 'hypothesis': 'b', 'label': label}
  for data_set in ('anli1', 'esnli'):
    fields = row_formats.READERS[data_set](row)
    words = ('entailment', 'neutral', 'contradiction')
    assert (fields.id, fields.label) == ('7', words[label])
    assert fields.possible('neutral') and not fields.possible('maybe')


@pytest.mark.parametrize(
  ('data_set', 'row', 'message'),
  [
    ('cqa', _cqa(0), "'choices' to be 1 to 26 texts, found"),
    ('cqa', _cqa(27), "'choices' to be 1 to 26 texts, found"),
    ('cqa', {**_cqa(2), 'choices': [1, '0']}, "'choices' to be 1 to 26 texts"),
    ('cqa', {**_cqa(2), 'choices': '01'}, "'choices' to be a list, found"),
    ('cqa', _cqa(2, '2'), "'answer' to be one of the choices"),
    ('cqa', _cqa(2, True), "'answer' to be a str, found true"),
    ('anli1', {'label': 3}, "'label' to be 0 .* found 3"),
    ('anli1', {'label': 4}, "'label' to be 0 .* found 4"),
    ('esnli', {'label': -1}, "'label' to be 0 .* found -1"),
    ('esnli', {'label': True}, "'label' to be a int, found true"),
    ('svamp', {'input': 'a', 'label': 'nine'}, "'label' to be an equation"),
    ('svamp', {'input': 'a'}, "the column 'label', found only input"),
    ('asdiv', {}, "the column 'input', found only none"),
    ('asdiv', {'input': 'a', 'label': 2}, "'label' to be a str, found 2"),
  ],
)
def test_a_row_that_is_none_is_refused(data_set, row, message):
  with pytest.raises(row_formats.RowError, match=message):
    row_formats.READERS[data_set](row)


def test_an_asdiv_row_with_an_input_is_read_by_it():
  row = {'input': 'a', 'Body': 'b', 'Question': 'c', 'label': '2+7=9'}
  fields = row_formats.READERS['asdiv'](row)
  assert (fields.input, fields.label) == ('a', '2+7')
  assert fields.possible('9') and not fields.possible('nine')


@pytest.mark.parametrize(
  ('data_set', 'row', 'text'),
  [
    ('cqa', {'question': 'Who?', 'choices': ['me']},
     'Who?\nAnswer Choices:\n(a) me'),
    ('svamp', {'input': 'a', 'choices': ['b']}, 'a'),
    ('asdiv', {'input': 'a', 'choices': ['b']}, 'a'),
    ('asdiv', {'Body': 'a', 'Question': 'b'}, 'a\nb'),
    ('anli1', {'premise': 'a', 'hypothesis': 'b', 'choices': ['c']}, 'a</s>b'),
    ('esnli', {'premise': 'a', 'hypothesis': 'b', 'choices': ['c']}, 'a</s>b'),
  ],
)  # fmt: skip
def test_a_question_needs_no_gold(data_set, row, text):
  assert row_formats.question(data_set, row) == text
  assert row_formats.question(data_set, {**row, 'label': None}) == text


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ({'question': 'a'}, "the column 'choices', found only answer, question"),
    ({'question': 'a', 'choices': []}, "'choices' to be 1 to 26 texts"),
    ({'question': 'a', 'choices': 'bc'}, "'choices' to be a list, found"),
  ],
)
def test_a_question_without_choices_is_refused(row, message):
  with pytest.raises(row_formats.RowError, match=message):
    row_formats.question('cqa', row)
