"""Tests of thoughts: they are never a rationale, a label or an answer."""

import doctest

import hypothesis
import pytest
from hypothesis import strategies as st

from dss_jax.extract import prompt_files, prompts
from dss_jax.extract.replies import thoughts

_FORMAT = 'A: {rationale} So the answer is {label}.'
_ANSWER = 'Herrings are fish. So the answer is yes.'
TAGS = (
  '<think>',
  '</think>',
  '< THINK >',
  '</Thinking>',
  '<thought>',
  '</seed:think>',
  '[THINK]',
  '[/THINK]',
  '◁think▷',
  '◁/think▷',
  '<|START_THINKING|>',
  '<|END_THINKING|>',
  '<|begin_of_thought|>',
  '<|end_of_thought|>',
  '<think lang="en">',
)


def test_the_examples_in_the_docstrings_hold():
  result = doctest.testmod(thoughts)
  assert result.attempted and not result.failed


@pytest.mark.parametrize(
  ('text', 'found', 'answer'),
  [
    ('<think>a</think>b', 'a', 'b'),
    ('a</think>\n\nb', 'a', 'b'),
    ('<think>a', 'a', ''),
    ('<think></think>b', '', 'b'),
    ('b <think>a</think> c', 'a', 'b   c'),
    ('b <think>a', 'a', 'b'),
    # A thought that mentions the tag.
    ('<think>the <think> tag</think>b', 'the\ntag', 'b'),
    ('<think>a</think>b</think>c', 'a\nb', 'c'),
    ('<think>a</think>', 'a', ''),
    ('[THINK]a[/THINK]b', 'a', 'b'),
    ('◁think▷a◁/think▷b', 'a', 'b'),
    ('<thinking>a</thinking>b', 'a', 'b'),
    ('<seed:think>a</seed:think>b', 'a', 'b'),
    ('<|begin_of_thought|>a<|end_of_thought|>b', 'a', 'b'),
    ('<think>a</think><answer>b</answer>', 'a', 'b'),
    ('b<|im_end|>', '', 'b'),
    ('analysisWe say no.assistantfinalb', 'We say no.', 'b'),
    ('analysisWe say no.', 'We say no.', ''),
    ('analysis of texts', '', 'analysis of texts'),
    ('1 < 2 and 3 > 2', '', '1 < 2 and 3 > 2'),
    ('<thinker>', '', '<thinker>'),
    ('', '', ''),
  ],
)
def test_thoughts_are_told_from_the_answer(text, found, answer):
  assert thoughts.split(text) == thoughts.Reply(found, answer)


def test_only_the_final_channel_is_an_answer():
  analysis = '<|channel|>analysis<|message|>So the answer is no?'
  final = '<|end|><|start|>assistant<|channel|>final<|message|>'
  assert thoughts.split(analysis).answer == ''
  found = thoughts.split(f'{analysis}{final}{_ANSWER}<|return|>')
  assert found.answer == _ANSWER
  assert 'So the answer is no?' in found.thoughts


def test_the_last_of_several_final_channels_is_the_answer():
  final = '<|channel|>final<|message|>'
  found = thoughts.split(f'{final}a<|end|>{final}b<|end|>c')
  assert found == thoughts.Reply(f'{final}a<|end|>', 'b')


@pytest.mark.parametrize(
  ('opening', 'closing'),
  [
    ('<think>', '</think>'),
    ('<Seed:think>', '</ seed:think >'),
    ('[THINK]', '[/think]'),
    ('◁think▷', '◁/think▷'),
    ('<|START_THINKING|>', '<|END_THINKING|>'),
    ('<|begin_of_thought|>', '<|end_of_thought|>'),
    ('<|think|>', '<|/think|>'),
  ],
)
def test_a_tag_opens_or_closes_by_its_mark_and_is_known_by_its_name(
  opening, closing
):
  assert thoughts.begins_inside(closing) is True
  assert thoughts.begins_inside(f'a{closing}b{opening}') is True
  assert thoughts.begins_inside(opening) is False
  assert thoughts.begins_inside(f'{opening}a{closing}') is False
  assert not thoughts.begins_inside('a')
  # In a format with the one, neither is a tag of thoughts.
  for own in (opening, closing):
    assert not thoughts.has_tag(f'{opening} {closing}', own)
  assert thoughts.has_tag(opening, '<reflection>')


@pytest.mark.parametrize(
  ('finish', 'is_cut', 'is_unfinished'),
  [
    *((word, False, False) for word in ('', 'stop', 'a', 'content', 'tool')),
    *((word, True, True) for word in ('length', 'MAX_TOKENS')),
    *((word, False, True) for word in ('content_filter', 'Content_Filter')),
  ],
)
def test_the_servers_word_says_whether_a_reply_is_whole(
  finish, is_cut, is_unfinished
):
  assert thoughts.is_cut(finish) is is_cut
  assert thoughts.is_unfinished(finish) is is_unfinished


def test_a_reply_that_begins_in_thoughts_has_no_answer_before_their_end():
  assert thoughts.split(_ANSWER, opened=True).answer == ''
  assert thoughts.split(f'The <think> tag</think>{_ANSWER}', opened=True) == (
    thoughts.Reply('The\ntag', _ANSWER)
  )


def test_tags_of_the_answers_own_format_are_no_thoughts():
  own = '<think>{rationale}</think> {label}'
  prompt = prompts.Prompt('', 'Q: {input}', own, (), ())
  reply = prompt.reply('<think>It is frozen.</think> yes', opened=True)
  found = prompt.parse(reply)
  assert (found.rationale, found.label) == ('It is frozen.', 'yes')


def test_what_wraps_an_answer_goes_unless_it_is_the_formats_own():
  own = '<answer>{label}</answer> since {rationale}'
  text = '<response><Answer>yes</Answer> since it is.</response></s>'
  found = thoughts.split(text, own)
  assert found.answer == '<Answer>yes</Answer> since it is.'


PIECES = st.sampled_from(
  (*TAGS, 'So the answer is', ' yes.', '\n', 'Q:', '<', '>', '/', '</s>')
) | st.text(max_size=6)


@hypothesis.given(
  st.lists(PIECES, max_size=12).map(''.join), st.booleans(), st.booleans()
)
@hypothesis.settings(max_examples=300, deadline=None)
def test_no_reply_leaves_a_tag_in_rationale_or_label(text, opened, cut):
  own = prompts.Prompt('', 'Q: {input}', _FORMAT, (), ())
  for prompt in (own, *map(prompt_files.packaged, ('cqa', 'esnli', 'svamp'))):
    found = prompt.parse(prompt.reply(text, opened), cut)
    both = f'{found.rationale}\n{found.label}'
    assert not thoughts.has_tag(both)
    for tag in TAGS:
      assert tag.lower() not in both.lower()


@hypothesis.given(
  st.text(st.characters(blacklist_characters='<[◁'), max_size=80),
  st.sampled_from(['<think>{}</think>', '{}</think>', '[THINK]{}[/THINK]']),
)
@hypothesis.settings(max_examples=100, deadline=None)
def test_what_is_thought_does_not_change_the_answer(thought, tags):
  # The bare word that begins a channel stands for a tag of its own.
  hypothesis.assume(not thought.lstrip().startswith('analysis'))
  assert thoughts.split(tags.format(thought) + _ANSWER).answer == _ANSWER


@pytest.mark.parametrize('piece', ['<think>', '</think>', '<', '< ', '[think]'])
def test_a_million_characters_take_no_time(piece):
  thoughts.split(piece * (1_000_000 // len(piece)))
