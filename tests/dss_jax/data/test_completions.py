"""Tests of parsing completions."""

import doctest
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dss_jax import errors
from dss_jax.data import completions

PIECES = (
  'So the answer is',
  'The answer is',
  'Answer:',
  'Premise',
  'Premise:',
  'Q:',
  '(a)',
  '(',
  ')',
  '.',
  '\n',
  ' ',
  'a',
  'é',
  '\ud800',
  '\x00',
)


def test_the_examples_in_the_docstrings_hold():
  result = doctest.testmod(completions)
  assert result.attempted and not result.failed


@pytest.mark.parametrize(
  ('dataset', 'completion', 'rationale', 'label'),
  [
    ('cqa', 'It fits. So the answer is (b) tea pot.', 'It fits.', 'tea pot'),
    # What follows the next question is the teacher's invention.
    (
      'cqa',
      'Sun. So the answer is (a) day.\n\nQ: So the answer is (b) x.',
      'Sun.',
      'day',
    ),
    # Several options: the words between the first two.
    ('cqa', 'Hm. So the answer is either (a) cup or (c) mug.', 'Hm.', 'cup or'),
    ('cqa', 'Hm. So the answer is one of these.', 'Hm.', ''),
    ('cqa', 'Fish swim. So the answer is\n(b) pond', 'Fish swim.', 'pond'),
    ('cqa', 'Hm. So the answer is:\n\n(b) tea\npot.', 'Hm.', 'tea\npot'),
    # A letter is one character that is no line break.
    ('cqa', 'Hm. So the answer is (\n) x (c) mug', 'Hm.', 'mug'),
    ('cqa', 'Hm. So the answer is (bb) x (c) mug (', 'Hm.', 'mug ('),
    (
      'cqa',
      'Hm. So the answer is (a) washington d.c..',
      'Hm.',
      'washington d.c.',
    ),
    ('cqa', 'It never says', '', ''),
    ('cqa', 'So the answer is (a) x. So the answer is (b) y.', '', ''),
    ('cqa', '', '', ''),
    (
      'svamp',
      '3 and 4. The answer is ((3 + 4) - 1).',
      '3 and 4.',
      '((3 + 4) - 1)',
    ),
    # Greedy: from the first parenthesis to the last.
    ('svamp', 'So. The answer is (2 - 1) + (3).', 'So.', '(2 - 1) + (3)'),
    ('svamp', 'So. The answer is (2 * 8) / 4.', 'So.', '(2 * 8)'),
    ('svamp', 'So. The answer is (9 + 6', 'So.', ''),
    ('svamp', 'So. The answer is(9 + 6)', 'So.', '(9 + 6)'),
    ('svamp', 'So. The answer is 9 + 6)', 'So.', ''),
    ('asdiv', 'So. The answer is (9 + 6).', 'So.', '(9 + 6)'),
    (
      'anli1',
      'Far. So the answer is neutral.\n\nPremise: x',
      'Far.',
      'neutral',
    ),
    ('anli1', 'Far, so the answer is neutral.', '', ''),
    (
      'esnli',
      'A man is a person.\nAnswer: entailment\n\nPremise: x',
      'A man is a person.',
      'entailment',
    ),
    ('esnli', 'A man is a person.\nAns', 'A man is a person.\nAns', ''),
  ],
)
def test_a_completion_gives_this(dataset, completion, rationale, label):
  parsed = completions.parse(dataset, completion)
  assert parsed == completions.Parsed(rationale, label)


_SO, _THE = 'Far. So the answer is neutral.', 'Far. The answer is neutral.'
_TWO = 'A man.\nAnswer: entailment\nAnswer: neutral\n\nPremise: x\nAnswer: no'


@pytest.mark.parametrize(
  ('dataset', 'completion', 'palm', 'gpt_neox'),
  [
    ('anli1', _SO, ('Far.', 'neutral'), ('Far.', 'neutral')),
    ('anli1', _THE, ('', ''), ('Far.', 'neutral')),
    # The usual phrase first, whatever else is said.
    (
      'anli1',
      'The answer is far. So the answer is neutral.',
      ('The answer is far.', 'neutral'),
      ('The answer is far.', 'neutral'),
    ),
    ('anli1', f'{_THE} {_THE}', ('', ''), ('', '')),
    # What is said twice counts no more than what is not said.
    (
      'anli1',
      f'{_SO} {_SO} {_THE}',
      ('', ''),
      (f'{_SO} {_SO} Far.', 'neutral'),
    ),
    ('anli1', f'Far.\n\nPremise: x {_THE}', ('', ''), ('', '')),
    ('esnli', _TWO, ('', ''), ('A man.', 'entailment')),
    ('esnli', 'A man.', ('A man.', ''), ('A man.', '')),
    # Only these two have rules of their own.
    ('cqa', _THE, ('', ''), ('', '')),
    ('svamp', f'{_THE} {_THE}', ('', ''), ('', '')),
  ],
)
def test_gpt_neox_has_rules_of_its_own(dataset, completion, palm, gpt_neox):
  for teacher, expected in (('palm', palm), ('gpt_neox', gpt_neox)):
    parsed = completions.parse(dataset, completion, teacher)
    assert parsed == completions.Parsed(*expected)
  mine = completions.parse(dataset, completion, 'mine')
  assert mine == completions.Parsed(*palm)


def test_the_published_code_leaves_a_space_in_these_columns():
  assert {
    name: completions.rule(name).spaced for name in ('anli1', 'esnli')
  } == {
    'anli1': (),
    'esnli': ('teacher_label',),
  }
  both = ('rationale', 'teacher_label')
  assert {completions.rule(n).spaced for n in ('cqa', 'svamp', 'asdiv')} == {
    both
  }


@given(
  st.sampled_from(completions.DATA_SETS),
  st.lists(st.sampled_from(PIECES) | st.text(max_size=5)).map(''.join),
  st.sampled_from(['palm', 'gpt_neox']),
)
def test_no_text_raises_and_parts_come_from_it(dataset, completion, teacher):
  parsed = completions.parse(dataset, completion, teacher)
  assert parsed.rationale in completion
  assert parsed.label in completion
  assert parsed == completions.parse(dataset, completion, teacher)


@pytest.mark.parametrize('dataset', completions.DATA_SETS)
@pytest.mark.parametrize('piece', ['(', '(a)', 'So the answer is', ' ', '.'])
def test_a_million_characters_take_no_time(dataset, piece):
  start = time.perf_counter()
  begin = 'So the answer is The answer is Answer:'
  completions.parse(dataset, begin + piece * (1_000_000 // len(piece)))
  # Quadratic time would take hours.
  assert time.perf_counter() - start < 5


def test_an_unknown_set_is_named_with_a_suggestion():
  with pytest.raises(errors.DataError, match=r"'cqq'.*Did you mean 'cqa'\?"):
    completions.parse('cqq', '')
