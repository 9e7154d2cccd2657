"""Tests of model cards."""

import re
import unicodedata

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dss_jax.export import card, measured
from dss_jax.pipeline import kinds
from tests import advice

_SCORES = (
  measured.Score('accuracy', 'test', 84.04, (80.1, 87.3), 400),
  measured.Score('bleu', 'test', 73.1, None, 400),
  measured.Score('accuracy', 'validation', 75.0, (65.7, 82.5), 100),
)
_MACROS = {
  'DATA_SET': 'cqa',
  'DATA': 'sample',
  'LABELS': 'gold',
  'TEACHER': 'palm',
  'FRACTION': 0.5,
  'INITIAL_CHECKPOINT_PATH': (
    'gs://t5-data/pretrained_models/t5x/t5_1_1_base/checkpoint_1000000'
  ),
}


def facts(scores=_SCORES, classes=(), examples=None, macros=None, **changes):
  given = {
    'folder': 'out/student',
    'step': 2000,
    'parameters': 345088,
    'tied': False,
    'version': '1.2',
    'macros': {**_MACROS, **(macros or {})},
    'measured': measured.Measured(
      scores, classes, examples or {'cqa_label': 900}
    ),
    'method': 'dss',
    **changes,
  }
  return card.Facts(**given)


def head(text):
  """Returns what a hub reads of a card, and the rest."""
  start, content, rest = text.split('---\n', 2)
  assert not start
  return yaml.safe_load(content), rest


def test_a_hub_reads_the_head():
  found, _ = head(card.text(facts()))
  assert found['library_name'] == 'transformers'
  assert found['pipeline_tag'] == 'text2text-generation'
  assert 'distilling-step-by-step' in found['tags']
  assert found['base_model'] == 'google/t5-v1_1-base'
  assert 'license' not in found and 'language' not in found
  (index,) = found['model-index']
  assert index['name'] == 'student'
  test, validation = index['results']
  assert test['task'] == {'type': 'text2text-generation'}
  assert test['dataset'] == {
    'name': 'cqa, the packaged sample', 'type': 'cqa', 'split': 'test'
  }  # fmt: skip
  assert [(m['type'], m['value']) for m in test['metrics']] == [
    ('accuracy', 84.04), ('bleu', 73.1)
  ]  # fmt: skip
  assert validation['dataset']['split'] == 'validation'


def test_a_reader_sees_scores_counts_and_how_to_ask():
  _, text = head(card.text(facts(classes=('yes', 'no'))))
  assert '345,088 parameters' in text and 'teacher palm' in text
  assert '| test | label accuracy | 84.0 | 80.1 to 87.3 | 400 |' in text
  assert '- 900 examples of cqa\\_label' in text
  assert 'a part of 0.5 of the training rows' in text
  assert '`predict: ` before a question' in text and 'labels: yes, no.' in text
  assert advice.commands(text) == ['hf upload student . . --private']


def test_rationales_of_own_rows_have_no_teacher_of_a_name():
  own = {'DATA_SET': 'custom', 'TEACHER': 'teacher'}
  _, text = head(card.text(facts(macros=own)))
  assert 'Reasons are those of the rows.' in text
  _, text = head(card.text(facts(macros={**own, 'TEACHER': 'gpt'})))
  assert 'Reasons are those of the teacher gpt.' in text


def test_each_kind_of_rationales_is_asked_for_by_its_prefix():
  named = (('thought', 2), 'side_by_side', ('check', 1, 'is it `so`? '))
  scores = tuple(
    measured.Score('bleu', 'test', 10.0 * number, None, 400, number)
    for number in (1, 2, 3)
  )
  found, text = head(card.text(facts(scores, kinds=kinds.given(named))))
  assert (
    '`predict: ` before a question asks for its label, `explain: ` for a'
    ' reason, thought, `side_by_side: ` for a reason, side\\_by\\_side, and ``'
    ' is it `so`?  `` for a reason, check.'
  ) in text
  assert "'predict: ' + question" in text
  assert 'BLEU \\(side\\_by\\_side\\) | 20.0 |' in text
  (results,) = found['model-index'][0]['results']
  assert [(m['name'], m['value']) for m in results['metrics']] == [
    ("rationales against the teacher's, BLEU (thought)", 10.0),
    ("rationales against the teacher's, BLEU (side_by_side)", 20.0),
    ("rationales against the teacher's, BLEU (check)", 30.0),
  ]


def test_a_kind_that_was_only_looked_at_is_none_to_ask_for():
  named = ('thought', ('program', 0))
  _, text = head(card.text(facts(kinds=kinds.given(named))))
  assert 'label, and `explain: ` for a reason, thought.' in text
  assert 'program' not in text


def test_one_kind_may_have_a_prefix_of_its_own():
  alone = kinds.given((('thought', 1, 'think\t'),))
  _, text = head(card.text(facts(kinds=alone)))
  assert r"its label, and `'think\t'` for the reason." in text
  assert 'explain' not in text


def test_every_teacher_is_named():
  of_two = kinds.given(teachers=('palm', 'a_b'))
  _, text = head(card.text(facts(kinds=of_two)))
  assert 'Reasons are those of the teachers palm and a\\_b.' in text
  _, text = head(card.text(facts(kinds=of_two, macros={'LABELS': 'teacher'})))
  assert 'Labels are those of the teacher palm.\nReasons are those of' in text
  _, text = head(card.text(facts(macros={'LABELS': 'teacher'})))
  assert 'Labels and reasons are those of the teacher palm.' in text


def test_agreement_is_said_to_be_no_accuracy():
  scores = (measured.Score('agreement', 'test', 90.0, (80.0, 95.0), 60),)
  found, text = head(card.text(facts(scores, macros={'LABELS': 'teacher'})))
  (metric,) = found['model-index'][0]['results'][0]['metrics']
  assert metric['name'] == 'agreement with the teacher'
  assert '| test | agreement with the teacher | 90.0 |' in text
  assert 'it is no accuracy' in text and 'label accuracy' not in text
  assert "labels: the teacher's" in text


@pytest.mark.parametrize(
  ('changes', 'question', 'said'),
  [
    ({}, "'predict: ' + question", 'for the reason'),
    ({'method': 'finetune'}, 'question', 'answers with a label'),
    ({'method': 'single_task'}, 'question', '`So the answer is` and the label'),
    ({'method': None}, 'question', 'as it was trained'),
  ],
)
def test_the_example_is_python_for_each_method(changes, question, said):
  text = card.text(facts(**changes))
  (code,) = re.findall('```python\n(.*?)```', text, re.DOTALL)
  compile(code, 'README.md', 'exec')
  assert f'tokenizer({question}, return_tensors' in code and said in text
  assert 'logging.set_verbosity_error()' in code
  assert 'logging' not in card.text(facts(tied=True, **changes))


@pytest.mark.parametrize('base_type', ['float32', 'bfloat16'])
def test_adapters_say_what_they_are_for(base_type):
  changes = {'adapts': 'me/base: "x"', 'base_type': base_type}
  found, text = head(card.text(facts(**changes)))
  assert found['library_name'] == 'peft' and 'lora' in found['tags']
  assert found['base_model'] == 'me/base: "x"'
  assert 'adapters (LoRA) of 345,088 parameters for me/base' in text
  (code,) = re.findall('```python\n(.*?)```', text, re.DOTALL)
  compile(code, 'README.md', 'exec')
  assert 'PeftModel.from_pretrained(model, folder)' in code
  assert ('bfloat16()' in code) == (base_type == 'bfloat16')


def test_without_scores_it_says_so():
  unknown = measured.Measured()
  text = card.text(facts(measured=unknown, step=None, method=None, macros={}))
  assert 'It was not evaluated' in text
  assert 'model-index' not in head(text)[0]


@pytest.mark.parametrize(
  ('path', 'name'),
  [
    ('gs://t5-data/pretrained_models/t5x/t5_3B/checkpoint_9',
     'google-t5/t5-3b'),
    ('gs://t5-data/pretrained_models/t5x/flan_t5_xxl/checkpoint_9',
     'google/flan-t5-xxl'),
    ('runs/t5_1_1_base/checkpoint_9', None), (None, None),
  ],
)  # fmt: skip
def test_a_base_model_is_named_where_it_is_certain(path, name):
  assert card.base_model(path) == name


_TEXTS = st.text(
  st.characters(exclude_categories=['Cs'], exclude_characters='\0/'),
  min_size=1,
) | st.sampled_from([
  '---\nlicense: mit', '```\n# Yours', '[a](b) <script>', '| a | b |', '*x*',
  "it's \"x\": #y", '\x1b[31m', '![](http://x.y/z)', '"\n- name: y', '&lt;b>',
])  # fmt: skip
_LIVE = re.compile(r'(?<!\\)[<>`*_\[\]|&]')


@given(text=_TEXTS)
@settings(max_examples=40)
def test_foreign_names_are_neither_markdown_nor_yaml(text):
  expected = card.text(facts(classes=('x',)))
  shown = card.text(
    facts(
      classes=(text,),
      examples={text: 900},
      macros={'TEACHER': text},
      folder=text,
    )
  )
  assert len(shown.split('\n')) == len(expected.split('\n'))
  found, _ = head(shown)
  usual, _ = head(expected)
  name = found['model-index'][0].pop('name')
  assert name == card.neutral.line(card.name(text), 200)
  usual['model-index'][0].pop('name')
  assert found == usual
  for line, plain in zip(shown.split('\n'), expected.split('\n'), strict=True):
    assert not any(unicodedata.category(c) == 'Cc' for c in line)
    if line.startswith(('A T5', '# ', '- 900', 'Its labels', 'Reasons are')):
      assert not _LIVE.search(line), line
    elif not line.startswith(('folder =', 'hf upload', '- name')):
      assert line == plain
  (command,) = (line for line in shown.split('\n') if line[:4] == 'hf u')
  _, _, there, *_ = advice.words(command)
  assert re.fullmatch(r'[A-Za-z0-9_][\w.-]*', there)
