"""Tests of drafts of prompt files."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dss_jax import errors
from dss_jax.data import row_files
from dss_jax.extract import drafts, prompt_files

_MARK = re.compile(r'<<WRITE: [^>]*>>')
_TEXTS = st.text(
  st.characters(exclude_categories=['Cs'], exclude_characters='\x1e'),
  max_size=12,
) | st.sampled_from(['yes', 'no', '- a: "b"', '# no', "it's {input}", 'a\n\nb'])
_ROWS = st.lists(
  st.fixed_dictionaries(
    {'input': _TEXTS.map('x{}'.format)}, optional={'label': _TEXTS}
  ),
  min_size=1,
  max_size=12,
)


def written(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return str(path)


@given(rows=_ROWS)
@settings(
  max_examples=15,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_draft_of_any_rows_is_a_prompt_once_its_marks_are_replaced(
  tmp_path, rows
):
  location = written(tmp_path / 'rows.jsonl', rows)
  draft = drafts.of_rows(location, {})
  path = tmp_path / 'prompt.yaml'
  path.write_text(draft.text, encoding='utf-8')
  with pytest.raises(errors.DataError, match=r'still has .<<WRITE: .*Edit the'):
    prompt_files.load(str(path))
  path.write_text(_MARK.sub('It is so', draft.text), encoding='utf-8')
  prompt = prompt_files.load(str(path))
  inputs = {row_files.text(row['input']) for row in rows}
  assert len(prompt.exemplars) >= min(len(inputs), 4), prompt
  assert {e.input for e in prompt.exemplars} <= inputs


def test_each_class_has_an_exemplar_and_rationales_are_kept(tmp_path):
  rows = [
    {'ticket': f'Text {n}', 'label': 'abc'[n % 3 if n < 9 else 0], 'id': n}
    for n in range(20)
  ]
  rows[2]['rationale'] = ['As a rule.', 'Another.']
  draft = drafts.of_rows(written(tmp_path / 'rows.jsonl', rows), {})
  assert draft.columns == {'input': 'ticket'}
  assert 'The answer is one of: a, b, c."' in draft.text
  path = tmp_path / 'prompt.yaml'
  path.write_text(_MARK.sub('Why', draft.text))
  exemplars = prompt_files.load(str(path)).exemplars
  assert [(e.input, e.rationale, e.label) for e in exemplars] == [
    ('Text 0', 'Why', 'a'),
    ('Text 1', 'Why', 'b'),
    ('Text 2', 'As a rule.', 'c'),
    ('Text 3', 'Why', 'a'),
  ]


def test_inputs_of_two_texts_are_shown_as_two(tmp_path):
  rows = [{'input': f'It rains {n}.</s>It is wet.'} for n in range(3)]
  draft = drafts.of_rows(written(tmp_path / 'rows.jsonl', rows), {})
  path = tmp_path / 'prompt.yaml'
  path.write_text(_MARK.sub('Why', draft.text))
  shown = prompt_files.load(str(path)).messages('A.</s>B.')[-1]['content']
  assert shown == 'Premise: A.\nHypothesis: B.'


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ({'a': 'x', 'b': 'y'}, 'found a, b. Say which one .* --column input=a'),
    ({'label': 'x'}, 'found label. Say which one'),
  ],
)
def test_a_column_that_cannot_be_guessed_is_asked_for(tmp_path, row, message):
  location = written(tmp_path / 'rows.jsonl', [row])
  with pytest.raises(errors.DataError, match=message):
    drafts.of_rows(location, {})


def test_a_file_that_is_there_is_left_alone(tmp_path, extract, capsys):
  written(tmp_path / 'rows.jsonl', [{'input': 'a'}])
  (tmp_path / 'prompt.yaml').write_text('mine')
  assert extract('rows.jsonl', '--draft-prompt') == 2
  assert 'prompt.yaml: expected no file there' in capsys.readouterr().err
  assert (tmp_path / 'prompt.yaml').read_text() == 'mine'
  assert extract('rows.jsonl', '--draft-prompt', '--prompt', 'p.yaml') == 0
  assert (tmp_path / 'p.yaml').exists()


def test_the_published_sets_have_prompts(extract, capsys):
  assert extract('sample', '--draft-prompt') == 2
  assert 'expected rows of your own' in capsys.readouterr().err
