"""Tests of reading answers out of Markdown, and equations as wholes."""

import doctest
import fractions
import string
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from dss_jax.data import completions, equations
from dss_jax.extract import prompt_files, prompts
from dss_jax.extract.replies import answers

_OWN = prompts.Prompt(
  '', 'Q: {input}', 'A: {rationale} So the answer is {label}.', (), ()
)


def _read(prompt, text):
  found = prompt.parse(prompt.reply(text))
  return found.rationale, found.label


def test_the_examples_in_the_docstrings_hold():
  result = doctest.testmod(answers)
  assert result.attempted and not result.failed


@pytest.mark.parametrize(
  'text',
  [
    'It swims. So the answer is yes.',
    'It swims. So the answer is yes',
    'It swims. So the answer is **yes**.',
    'It swims. So the answer is **yes.**',
    'It swims. So the answer is *yes*.',
    'It swims. So the answer is `yes`.',
    'It swims. So the answer is ***yes***',
    'It swims. So the answer is __yes__.',
    'It swims.\n\n**So the answer is yes.**',
    'It swims.\n\n**So the answer is yes**.',
    'It swims.\n\n**So the answer is** yes.',
    'It swims.\n\n**So the answer is:** yes.',
    'It swims.\n\n**So the answer is**: yes.',
    'It swims. So the answer is: yes.',
    'It swims. So the answer is\n\n**yes**',
    'It swims. So the answer is\n```\nyes\n```',
    'It swims. So the answer is:\n```text\nyes\n```\n',
    '```\nIt swims. So the answer is yes.\n```',
    '```markdown\nA: It swims. So the answer is yes.\n```',
    '**It swims. So the answer is yes.**',
    '### Reasoning\nIt swims.\n\n### Answer\nSo the answer is yes.',
    '## Reasoning\n\nIt swims.\n\n## So the answer is yes.',
    '**Reasoning:** It swims.\n\n**Answer:**\nSo the answer is yes.',
    '**Reasoning**: It swims.\n---\n**Final answer**\nSo the answer is yes.',
    '**Explanation**\nIt swims.\nSo the answer is $\\boxed{yes}$.',
    '**It swims.** So the answer is yes.',
    '**A:** It swims. So the answer is yes.',
    '**A**: It swims. So the answer is yes.',
    'A: It swims.\n- So the answer is yes.',
    'It swims. So the\nanswer is yes.',
    'It swims. So the answer is yes. Q: Another?',
    'It swims. So the answer is yes.\n\n**Q:** So the answer is no.',
    '**A: It swims. So the answer is yes.**',
    '*A: It swims. So the answer is yes.*',
    'It swims.\n*So the answer is:* yes.',
    'It swims. *So the answer is yes.*',
    'It swims. *So the answer is yes*.',
    'It swims. _So the answer is yes._',
    'It swims. So the answer is yes.\u2028More.',
    '```\n### Why\nIt swims. So the answer is yes.',
    f'# {"x" * 97}\nIt swims. So the answer is yes.',
  ],
)
def test_marks_around_an_answer_are_no_part_of_it(text):
  assert _read(_OWN, text) == ('It swims.', 'yes')


@pytest.mark.parametrize(
  ('text', 'rationale', 'label'),
  [
    # Marks within the parts stay.
    ('The **pond** is wet. So the answer is a *b* c.', None, 'a *b* c'),
    ('It has 2 * 3. So the answer is 2 * 3.', 'It has 2 * 3.', '2 * 3'),
    ('FAQ: a list. So the answer is yes.', 'FAQ: a list.', 'yes'),
    ('It is. So the answer is **yes**!', 'It is.', 'yes!'),
    (
      '```\nx\n```\nIt is. So the answer is x.',
      '```\nx\n```\nIt is.',
      'x',
    ),
    ('x_ is. So the answer is _x.', 'x_ is.', '_x'),
    ('It is. So the answer is **.', 'It is.', ''),
    ('It is. So the answer is d.c..', 'It is.', 'd.c.'),
    ('So the answer is a. So the answer is b.', '', ''),
    ('Q: So the answer is b.', '', ''),
    ('It is. So the answer is', 'It is.', ''),
    ('# So the answer is x', '', 'x'),
    ('It is.\n**So the answer is b**.', 'It is.', 'b'),
    ('It is.', '', ''),
    ('It is. So the answer is \\((x)\\).', 'It is.', '(x)'),
    ('It is. So the answer is (x)**.', 'It is.', '(x)'),
    ('It is. So the answer is **', 'It is.', '**'),
    ('It is. So the answer is _Yes_.', 'It is.', 'Yes'),
    ('It is. So the answer is **a** and **b**.', 'It is.', 'a and **b**'),
    ('It is. So the answer is : : : yes.', 'It is.', ': yes'),
    # What a mark before the phrase opens may end far behind it.
    ('It is. *So the answer is a long b* c.', 'It is.', 'a long b* c'),
    ('It is. *So the answer is yes* so.', 'It is.', 'yes* so'),
    ('It is. **So the answer is yes**!!', 'It is.', 'yes**!!'),
    ('**So the answer is b', '', 'b'),
    (
      '```\nIt is:\n```\ny\n```\nok. So the answer is x.',
      'It is:\n```\ny\n```\nok.',
      'x',
    ),
    # A long line is no title.
    (f'# {"x" * 98}\nSo the answer is x.', f'# {"x" * 98}', 'x'),
    (f'# {"x" * 99}\nSo the answer is x.', f'# {"x" * 99}', 'x'),
  ],
)
def test_what_is_part_of_an_answer_stays(text, rationale, label):
  if rationale is None:
    rationale = text.partition(' So the')[0]
  assert _read(_OWN, text) == (rationale, label)


@pytest.mark.parametrize(
  'said', ['My answer:', 'My answer**:**', 'My\nanswer:']
)
def test_a_phrase_of_several_words_may_have_marks_at_its_colon(said):
  own = prompts.Prompt(
    '', 'Q: {input}', '{rationale} My answer: {label}', (), ()
  )
  assert _read(own, f'It swims. {said} yes') == ('It swims.', 'yes')
  assert _read(own, 'It swims. My: yes') == ('', '')


@pytest.mark.parametrize(
  ('text', 'inner'),
  [
    *((text, text) for text in ('```', '```\n```', 'a\nb\n```', '```\nb\nc')),
    ('```\na\n```', 'a'),
    ('```py\na\nb\n```', 'a\nb'),
  ],
)
def test_a_fence_is_removed_with_its_end(text, inner):
  assert answers.unfenced(text) == inner


@pytest.mark.parametrize('text', ['yes it is', 'Yes it is'])
def test_the_name_of_a_fences_language_is_no_part_of_a_text(text):
  assert answers.unwrapped(f'```text\n{text}\n```') == text


@pytest.mark.parametrize(
  ('text', 'kept'),
  [
    ('It swims.\n---', 'It swims.'),
    ('```\n### Why\nIt swims.', 'It swims.'),
    ('```\nIt:\n```\ny\n```\nok.', 'It:\n```\ny\n```\nok.'),
    ('### Why\n\nIt swims.\n\n---\n\n', 'It swims.'),
    ('---', ''),
  ],
)
def test_a_rationale_is_without_its_frame(text, kept):
  assert answers.rationale(text) == kept


def test_words_after_a_second_letter_are_no_option():
  assert answers.option('(a) cup or (c) mug') == 'cup or'


def test_marks_that_exemplars_have_are_part_of_answers():
  exemplar = prompts.Exemplar('a', 'It is.', '`x`')
  own = prompts.Prompt(
    '',
    'Q: {input}',
    'A: {rationale} So the answer is {label}.',
    (exemplar,),
    (),
  )
  text = 'It is. So the answer is `y`.'
  assert _read(own, text) == ('It is.', '`y`')
  assert _read(own, f'{text}\nMore.') == ('It is.', '`y`')
  assert _read(own, 'It is. So the answer is') == ('It is.', '')


@pytest.mark.parametrize(
  ('data_set', 'text', 'rationale', 'label'),
  [
    ('cqa', 'It fits. So the answer is **(b) pond**.', 'It fits.', 'pond'),
    ('cqa', 'It fits. So the answer is (b) **pond**.', 'It fits.', 'pond'),
    ('cqa', '**So the answer is (b) tea pot.**', '', 'tea pot'),
    ('cqa', 'So. So the answer is (a) d.c..', 'So.', 'd.c.'),
    ('cqa', 'So. So the answer is one of these.', 'So.', ''),
    ('esnli', 'He is.\n**Answer:** entailment', 'He is.', 'entailment'),
    ('esnli', 'He is.\n**Answer**: Neutral.', 'He is.', 'neutral'),
    ('esnli', '### Answer: neutral', '', 'neutral'),
    ('esnli', 'Reasoning: A.\nAnswer: `neutral`', 'A.', 'neutral'),
    (
      'esnli',
      'The Premise says so.\nPremise and hypothesis agree.\nAnswer: neutral\n\n'
      'Premise: x',
      'The Premise says so.\nPremise and hypothesis agree.',
      'neutral',
    ),
    ('esnli', 'The premise says so.', 'The premise says so.', ''),
    ('esnli', 'Far.\nPremise: A. Answer: neutral', 'Far.', ''),
    ('anli1', 'Far. So the answer is **neutral.**', 'Far.', 'neutral'),
    ('anli1', 'Premise: so. So the answer is neutral.', '', ''),
  ],
)
def test_replies_about_published_rows_are_read_alike(
  data_set, text, rationale, label
):
  assert _read(prompt_files.packaged(data_set), text) == (rationale, label)


@pytest.mark.parametrize(
  ('text', 'label'),
  [
    ('(8 - 2) * 3.', '((8 - 2) * 3)'),
    ('((8 - 2) * 3).', '((8 - 2) * 3)'),
    ('(2 * 8) / 4', '((2 * 8) / 4)'),
    ('3 * (8 - 2).', '(3 * (8 - 2))'),
    ('(2 - 1) + (3).', '((2 - 1) + (3))'),
    ('**(8 - 2) * 3**.', '((8 - 2) * 3)'),
    ('`(8 - 2) * 3`', '((8 - 2) * 3)'),
    (r'$(8 - 2) \times 3$.', '((8 - 2) * 3)'),
    (r'\((8 - 2) \cdot 3\).', '((8 - 2) * 3)'),
    (r'$\boxed{(8 - 2) * 3}$', '((8 - 2) * 3)'),
    ('(8 − 2) × 3', '((8 - 2) * 3)'),
    ('(8 - 2) * 3 = 18.', '((8 - 2) * 3)'),
    ('(8 - 2) * 3 pens.', '((8 - 2) * 3)'),
    ('\n```\n(8 - 2) * 3\n```', '((8 - 2) * 3)'),
    ('(1,000 + 1).', '(1000 + 1)'),
    ('(8 - 2) x 3.', '((8 - 2)*3)'),
    ('[(8 - 2) * 3].', '((8 - 2) * 3)'),
    (r'\[(8 - 2) * 3\]', '((8 - 2) * 3)'),
    ('(9 + 6).', '(9 + 6)'),
    ('( 9.0 + 6.0 )', '( 9.0 + 6.0 )'),
    ('9 + 6', '(9 + 6)'),
    ('(2 + 3) and (9 - 4).', '((2 + 3) and (9 - 4))'),
    # A part would have another value.
    ('(8 - 2) * x.', ''),
    ('half of (8 - 2) * 3.', ''),
    ('(9 + 6', ''),
    ('many.', ''),
    ('the sum (9 + 6).', '(9 + 6)'),
    ('my sum (9 + 6).', '(9 + 6)'),
    ('the sum (9 + 6)3.', ''),
    ('9 + many).', ''),
    ('many).', ''),
    ('the sum (9 + 6) pens.', '(9 + 6)'),
  ],
)
@pytest.mark.parametrize('data_set', ['svamp', 'asdiv'])
def test_an_equation_is_read_whole_or_not_at_all(data_set, text, label):
  prompt = prompt_files.packaged(data_set)
  assert _read(prompt, f'So. The answer is {text}') == ('So.', label)
  assert not label or equations.evaluate(label) is not None


def test_parentheses_of_letters_are_shown_as_they_are():
  assert answers.equation('(a + b)') == '(a + b)'


_numbers = st.integers(1, 99).map(str)
_equations = st.recursive(
  _numbers,
  lambda inner: st.builds(
    lambda a, sign, b, closed: (
      f'({a} {sign} {b})' if closed else f'{a} {sign} {b}'
    ),
    inner,
    st.sampled_from('+-*/'),
    inner,
    st.booleans(),
  ),
  max_leaves=6,
)


@hypothesis.given(_equations, st.sampled_from(['', '.', ' pens.', ' = 7.']))
@hypothesis.settings(max_examples=200, deadline=None)
def test_the_label_has_the_value_of_the_equation(text, end):
  value = equations.evaluate(text)
  hypothesis.assume(value is not None and isinstance(value, fractions.Fraction))
  found = equations.evaluate(answers.equation(text + end))
  assert found == value or (found is None and end == ' pens.')


_word = st.text(string.ascii_letters, min_size=1, max_size=8)


@hypothesis.given(
  st.lists(_word, min_size=1, max_size=4).map(' '.join),
  st.sampled_from(['{}', '**{}**', '*{}*', '`{}`', '```\n{}\n```', '**{}.**']),
  st.sampled_from(['{}', '**{}**', '```\n{}\n```', '### Why\n{}', '> {}']),
)
@hypothesis.settings(max_examples=100, deadline=None)
def test_any_marks_around_a_label_are_no_part_of_it(label, inner, outer):
  hypothesis.assume(outer == '{}' or '```' not in inner)
  hypothesis.assume(not (outer == '**{}**' and '*' in inner))
  text = outer.format(f'It swims. So the answer is {inner.format(label)}')
  assert _read(_OWN, text)[1] == label


@hypothesis.given(st.text('*_`#$\\ \n.(){}[]ab=+-') | st.text())
@hypothesis.settings(max_examples=200, deadline=None)
def test_any_reply_can_be_read(text):
  for prompt in (_OWN, *map(prompt_files.packaged, completions.DATA_SETS)):
    for said in (text, f'{text} So the answer is {text}'):
      prompt.parse(prompt.reply(said))


@pytest.mark.parametrize('data_set', completions.DATA_SETS)
@pytest.mark.parametrize(
  'piece', ['(', '(a)', 'So the answer is', ' ', '.', '*', '#', '\n', '=', 'a(']
)
def test_a_million_characters_take_no_time(data_set, piece):
  start = time.perf_counter()
  prompt = prompt_files.packaged(data_set)
  phrase = completions.rule(data_set).phrase
  text = piece * (300_000 // len(piece))
  for said in (f'{phrase} {text}', f'{text} {phrase} {text}', text):
    prompt.parse(prompt.reply(said))
  # Quadratic time would take hours.
  assert time.perf_counter() - start < 5
