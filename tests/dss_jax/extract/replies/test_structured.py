"""Tests of replies in JSON: read as JSON, whole, and never with a thought."""

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from dss_jax import errors
from dss_jax.data import equations
from dss_jax.extract import prompt_files, prompts
from dss_jax.extract.replies import structured, thoughts
from tests.dss_jax.extract.replies import test_thoughts

_OWN = structured.of(None)
_GOOD = '{"rationale": "Herrings are fish.", "label": "yes"}'


def _read(text, replies=_OWN, opened=False):
  found = replies.parse(replies.split(text, opened).answer)
  return found.rationale, found.label


@pytest.mark.parametrize(
  'text',
  [
    _GOOD,
    f'\n {_GOOD}\n',
    f'```json\n{_GOOD}\n```',
    f'<think>Hm, {{"label": "no"}}?</think>\n{_GOOD}',
    f'Hm.</think>{_GOOD}',
    f'{_GOOD}<|im_end|>',
    f'<|channel|>analysis<|message|>no?<|channel|>final<|message|>{_GOOD}',
    '{"label": "yes", "rationale": "Herrings are fish."}',
    '{"rationale": "Herrings are fish.", "label": "**yes**", "more": [1]}',
    '{"rationale": "<think>Hm?</think> Herrings are fish.", "label": "yes."}',
  ],
)
def test_an_object_is_read(text):
  assert _read(text) == ('Herrings are fish.', 'yes')


@pytest.mark.parametrize(
  'text',
  [
    '',
    'Herrings are fish. So the answer is yes.',
    _GOOD[:-1],
    _GOOD[: len(_GOOD) // 2],
    f'{_GOOD} {_GOOD}',
    f'Here it is: {_GOOD}',
    f'{_GOOD}\n\nQ: And whales?',
    f'[{_GOOD}]',
    json.dumps(_GOOD),
    '{"rationale": "a", "label": "yes", "label": "no"}',
    '{"rationale": "a"}',
    '{"reason": "a", "answer": "yes"}',
    '{"rationale": "a", "label": null}',
    '{"rationale": "a", "label": true}',
    '{"rationale": "a", "label": ["yes"]}',
    '{"rationale": {"text": "a"}, "label": "yes"}',
    '{"rationale": "a", "label": NaN}',
    '{"rationale": "a", "label": "yes", "more": NaN}',
    "{'rationale': 'a', 'label': 'yes'}",
    '{"rationale": "a", "label": __import__("os").getcwd()}',
    '{"rationale": "a", "label": "yes",}',
    '{' * 100_000,
    '{"a":' * 100_000,
  ],
)
@pytest.mark.parametrize('opened', [False, True])
def test_nothing_is_guessed_from_anything_else(text, opened):
  assert _read(text, opened=opened) == ('', '')


def test_a_template_that_opens_thoughts_does_not_hide_an_object():
  assert _read(_GOOD, opened=True) == ('Herrings are fish.', 'yes')
  draft = f'Perhaps {_GOOD}? No'
  assert _read(draft, opened=True) == ('', '')


@pytest.mark.parametrize(
  ('data_set', 'said', 'label'),
  [
    ('cqa', 'tin', 'tin'),
    ('cqa', '(b) tin', 'tin'),
    ('svamp', '(8 - 2) * 3', '((8 - 2) * 3)'),
    ('svamp', '8 - 2 = 6', '(8 - 2)'),
    ('svamp', 'six', ''),
    ('asdiv', '6', '(6)'),
    ('esnli', 'Contradiction', 'contradiction'),
    ('anli1', 'contradicts', ''),
    ('esnli', 'neutral.', 'neutral'),
    ('esnli', '(b) neutral', ''),
    ('anli1', '(b) neutral', ''),
  ],
)
def test_labels_are_those_of_the_data_set(data_set, said, label):
  text = json.dumps({'rationale': 'a', 'label': said})
  assert _read(text, structured.of(data_set)) == ('a', label)


@pytest.mark.parametrize(
  ('replies', 'label'),
  [
    (structured.Format(), 'The answer alone.'),
    (
      structured.of('cqa'),
      'The words of the right choice, without its letter.',
    ),
    (structured.of('esnli'), 'The answer alone.'),
    *((structured.of(d), None) for d in ('svamp', 'asdiv')),
    (structured.of(None, by_value=True), None),
  ],
)
def test_a_server_is_told_what_to_write(replies, label):
  equation = 'The answer as an equation of numbers, + - * / and parentheses.'
  field = {'type': 'string', 'description': label or equation}
  if replies.classes:
    field['enum'] = ['entailment', 'neutral', 'contradiction']
  why = {'type': 'string', 'description': 'Why, in plain sentences.'}
  schema = {
    'type': 'object',
    'properties': {'rationale': why, 'label': field},
    'required': ['rationale', 'label'],
    'additionalProperties': False,
  }
  assert replies.parameter() == {
    'type': 'json_schema',
    'json_schema': {'name': 'answer', 'strict': True, 'schema': schema},
  }


def test_an_object_may_lack_one_part_and_holds_letters_as_they_are():
  assert _read('{"rationale": "", "label": "yes"}') == ('', 'yes')
  assert _read('{"rationale": "a", "label": ""}') == ('a', '')
  assert _OWN.written('é', 'ö') == '{"rationale": "é", "label": "ö"}'
  assert structured.of('cqa').written('a', '(b) tin').endswith('"tin"}')
  classes = structured.of(None, classes=('yes', 'no'))
  assert classes.written('a', 'perhaps').endswith('"perhaps"}')
  assert _OWN.split(' a ') == thoughts.Reply('', 'a')
  assert _OWN.split(' a ', opened=True) == thoughts.Reply('a', '')


def test_a_number_without_quotes_is_its_digits():
  assert _read('{"rationale": "a", "label": 7}') == ('a', '7')
  text = '{"rationale": "a", "label": 2.50}'
  assert _read(text) == ('a', '2.50')
  assert _read(text, structured.of(None, True)) == ('a', '(2.50)')


@pytest.mark.parametrize(
  ('said', 'label'),
  [('Yes', 'yes'), ('no', 'no'), ('NO.', 'no'), ('maybe', '')],
)
def test_a_label_is_one_of_the_classes(said, label):
  text = json.dumps({'rationale': 'a', 'label': said})
  replies = structured.of(None, classes=('yes', 'no'))
  assert _read(text, replies) == ('a', label)
  assert replies.parameter()['json_schema']['schema']['properties']['label'][
    'enum'
  ] == ['yes', 'no']


@pytest.mark.parametrize('data_set', prompt_files.FILES)
def test_exemplars_are_written_as_replies_are_read(data_set):
  replies = structured.of(data_set)
  prompt = prompts.as_json(prompt_files.packaged(data_set), replies)
  text = 'a</s>b' if data_set in ('esnli', 'anli1') else 'a'
  schema = replies.parameter()['json_schema']['schema']
  assert list(schema['properties']) == ['rationale', 'label']
  for exemplar, message in zip(
    prompt.exemplars,
    (m for m in prompt.messages(text) if m['role'] == 'assistant'),
    strict=True,
  ):
    said = json.loads(message['content'])
    assert list(said) == ['rationale', 'label']
    found = prompt.parse(prompt.reply(message['content']))
    assert found.rationale == exemplar.rationale
    assert exemplar.label.endswith(found.label) and found.label
    if data_set in ('svamp', 'asdiv'):
      assert equations.evaluate(found.label) is not None
    enum = schema['properties']['label'].get('enum')
    assert enum is None or said['label'] in enum


def test_an_exemplar_of_no_class_is_named():
  prompt = prompts.Prompt(
    '',
    'Q: {input}',
    'A: {rationale} So the answer is {label}.',
    (prompts.Exemplar('Ice?', 'It melts.', 'perhaps'),),
    (),
  )
  with pytest.raises(errors.DataError, match=r"exemplar 1: .* 'perhaps'"):
    prompts.as_json(prompt, structured.of(None, classes=('yes', 'no')))


_pieces = test_thoughts.PIECES | st.sampled_from(
  ('{"rationale": "', '", "label": "', '"}', _GOOD, '\\u003cthink>', '\\n')
)


@hypothesis.given(
  st.lists(_pieces, max_size=12).map(''.join),
  st.sampled_from((*prompt_files.FILES, None)),
  st.booleans(),
)
@hypothesis.settings(max_examples=300, deadline=None)
def test_no_reply_leaves_a_tag_in_rationale_or_label(text, data_set, opened):
  replies = structured.of(data_set)
  for reply in (
    text,
    json.dumps({'rationale': text, 'label': text}),
    f'{text}{json.dumps({"rationale": text, "label": "yes"})}',
  ):
    both = '\n'.join(_read(reply, replies, opened))
    assert not thoughts.has_tag(both)
    for tag in test_thoughts.TAGS:
      assert tag.lower() not in both.lower()
    both.encode()


@hypothesis.given(st.text(max_size=40), st.text(max_size=20))
@hypothesis.settings(max_examples=100, deadline=None)
def test_what_is_written_is_read(rationale, label):
  for value in (rationale, label):
    hypothesis.assume(value.strip() and not thoughts.has_tag(value))
    hypothesis.assume(thoughts.split(value).answer == value.strip())
  text = json.dumps({'rationale': rationale, 'label': label})
  assert _read(text)[0] == rationale.strip()
