"""Tests of what a teacher is asked, and of reading its replies."""

import json
import string

import hypothesis
import pytest
from hypothesis import strategies as st

from dss_jax import errors
from dss_jax.data import completions, row_formats
from dss_jax.extract import prompt_files, prompts

PROMPT = {
  'instruction': 'Reason first.',
  'question': 'Q: {input}',
  'answer': 'A: {rationale} So the answer is {label}.',
  'exemplars': [
    {'input': 'Is ice cold?', 'rationale': 'It is frozen.', 'label': 'yes'}
  ],
}


@pytest.fixture
def write(tmp_path):
  """Returns a function that writes a prompt file and returns its path."""

  def write(text):
    path = tmp_path / 'prompt.yaml'
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return str(path)

  return write


@pytest.mark.parametrize('data_set', prompt_files.FILES)
def test_the_published_rule_reads_the_exemplars_answers(data_set):
  prompt = prompt_files.packaged(data_set)
  assert len(prompt.exemplars) >= 6
  labels = set()
  for exemplar, said in zip(
    prompt.exemplars, prompt.render('A.</s>B.', 'chat')[2::2], strict=False
  ):
    parsed = completions.parse(data_set, said['content'])
    assert parsed.rationale == exemplar.rationale
    assert exemplar.label.endswith(parsed.label)
    labels.add(parsed.label)
  if data_set in ('esnli', 'anli1'):
    assert labels == set(row_formats.NLI_LABELS)
  else:
    assert len(labels) == len(prompt.exemplars)


def test_both_endpoints_are_asked_the_same(write):
  prompt = prompt_files.load(write(PROMPT))
  assert prompt.render('Is fire cold?', 'completion') == (
    'Reason first.\n\nQ: Is ice cold?\nA: It is frozen. So the answer is yes.'
    '\n\nQ: Is fire cold?\nA:'
  )
  assert prompt.render('Is fire cold?', 'chat') == [
    {'role': 'system', 'content': 'Reason first.'},
    {'role': 'user', 'content': 'Q: Is ice cold?'},
    {'role': 'assistant', 'content': 'It is frozen. So the answer is yes.'},
    {'role': 'user', 'content': 'Q: Is fire cold?'},
  ]
  assert prompt.stop == ('\n\nQ:',)


def test_braces_in_an_input_stay_as_they_are(write):
  prompt = prompt_files.load(write(PROMPT))
  asked = prompt.render('What is {label} and {x}?', 'chat')
  assert asked[-1]['content'] == 'Q: What is {label} and {x}?'


def test_two_texts_are_shown_apart():
  asked = prompt_files.packaged('esnli').render(
    'A cat.</s>A dog.', 'completion'
  )
  assert asked.endswith('Premise: A cat.\nHypothesis: A dog.\nReasoning:')
  with pytest.raises(errors.DataError, match='expected an input of two texts'):
    prompt_files.packaged('esnli').render('A cat.', 'chat')


@pytest.mark.parametrize(
  ('reply', 'rationale', 'label'),
  [
    ('It is. So the answer is no.', 'It is.', 'no'),
    (' A: It is. So the answer is no.\nMore', 'It is.', 'no'),
    ('<think>Hm. Q:</think>\nIt is. So the answer is no.', 'It is.', 'no'),
    ('It is. So the answer is no.\n\nQ: So the answer is', 'It is.', 'no'),
    ('It is.', '', ''),
    ('So the answer is a. So the answer is b.', '', ''),
    ('It is. So the answer is', 'It is.', ''),
    ('', '', ''),
  ],
)
def test_a_reply_is_read_by_the_files_own_format(
  write, reply, rationale, label
):
  prompt = prompt_files.load(write(PROMPT))
  assert prompt.parse(prompt.reply(reply)) == completions.Parsed(
    rationale, label
  )


_words = st.text(string.ascii_letters + ' é', min_size=1).filter(str.strip)


@hypothesis.given(rationale=_words, label=_words)
@hypothesis.settings(max_examples=50, deadline=None)
def test_an_answer_in_the_format_is_read_back(rationale, label):
  rationale, label = rationale.strip(), label.strip()
  prompt = prompts.Prompt('', 'Q: {input}', PROMPT['answer'], (), ())
  said = f'A: {rationale} So the answer is {label}.'
  assert prompt.parse(prompt.reply(said)) == completions.Parsed(
    rationale, label
  )


@hypothesis.given(st.text())
@hypothesis.settings(max_examples=50, deadline=None)
def test_any_reply_can_be_read(text):
  prompt = prompts.Prompt('', 'Q: {input}', PROMPT['answer'], (), ())
  for found in (prompt, prompt_files.packaged('cqa')):
    found.parse(found.reply(text))


def test_yaml_words_stay_texts(write):
  prompt = prompt_files.load(
    write(
      'question: "Q: {input}"\nanswer: "{rationale} Answer: {label}"\n'
      'exemplars:\n- input: Is it?\n  rationale: It is.\n  label: yes\n'
    )
  )
  assert prompt.exemplars[0].label == 'yes'
  assert (
    prompt.render('Is it not?', 'chat')[1]['content'] == 'It is. Answer: yes'
  )


def _without(name):
  return {k: v for k, v in PROMPT.items() if k != name}


def _exemplar(**changes):
  row = {**PROMPT['exemplars'][0], **changes}
  return PROMPT | {
    'exemplars': [{k: v for k, v in row.items() if v is not None}]
  }


@pytest.mark.parametrize(
  ('found', 'message'),
  [
    (_without('answer'), "expected the field 'answer'"),
    (_exemplar(rationale=None), "exemplar 1: expected the field 'rationale'"),
    (_exemplar(lable='x'), "found the field 'lable'.*Did you mean 'label'"),
    (_exemplar(label=''), "exemplar 1: expected 'label' to be a text"),
    (_exemplar(input=['x']), "expected 'input' to be a text"),
    (_exemplar(rationale='So the answer is x.'), 'finds again'),
    (PROMPT | {'exemplars': []}, 'a list of at least one'),
    (PROMPT | {'exemplars': ['x']}, 'exemplar 1: expected input'),
    (PROMPT | {'question': 'Q:'}, r'expected question to hold \{input\}'),
    (PROMPT | {'answer': '{label} {rationale}'}, 'expected answer to hold'),
    (PROMPT | {'answer': '{rationale} {label}'}, 'expected answer to hold'),
    (PROMPT | {'stop': 'Q:'}, 'expected stop to be a list'),
    ('- a\n- b', 'expected the fields'),
    ('a: [', 'expected YAML or JSON'),
    ('', 'expected the fields'),
  ],
)
def test_a_mistake_in_a_prompt_file_is_named(write, found, message):
  with pytest.raises(errors.DataError, match=message):
    prompt_files.load(write(found))


def test_a_missing_prompt_file_is_named(tmp_path):
  with pytest.raises(errors.DataError, match=r'none.yaml: .*Correct the'):
    prompt_files.load(str(tmp_path / 'none.yaml'))


def test_a_prompt_for_published_rows_must_follow_their_rule(write):
  with pytest.raises(errors.DataError, match='the rule of cqa finds again'):
    prompt_files.load(write(PROMPT), 'cqa')
