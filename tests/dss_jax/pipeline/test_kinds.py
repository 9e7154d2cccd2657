"""What RATIONALE_KINDS and TEACHERS name, and what they may not."""

import doctest

import pytest

from dss_jax import errors
from dss_jax.pipeline import kinds


def test_the_examples_in_the_docstrings_hold():
  result = doctest.testmod(kinds)
  assert result.attempted and not result.failed


def test_without_names_there_is_one_kind():
  assert kinds.given() == kinds.given(None, None) == kinds.ONE
  assert kinds.ONE[0].prefix == 'explain: '
  assert kinds.ONE[0].features == ('rationale_inputs', 'rationale_targets')
  assert kinds.ONE[0].tag('palm') == 'palm'
  assert (kinds.ONE[0].number, kinds.ONE[0].weight) == (1, 1.0)
  assert kinds.ONE[0].title == 'rationale'
  assert not kinds.ONE[0].has_own_prefix


def test_weights_are_relative_and_prefixes_follow_from_names():
  found = kinds.given(
    (('thought', 3), ('program', 1, 'write: '), ('critique', 4))
  )
  assert [kind.weight for kind in found] == [3 / 8, 1 / 8, 4 / 8]
  prefixes = [kind.prefix for kind in found]
  assert prefixes == ['explain: ', 'write: ', 'critique: ']
  assert [kind.column for kind in found] == [
    'rationale', 'rationale2', 'rationale3'
  ]  # fmt: skip
  assert [kind.task_id for kind in found] == [2, 3, 4]
  tags = [kind.tag('teacher') for kind in found]
  assert tags[0] == 'teacher.thought' and tags[2] == 'teacher.critique'
  assert tags[1].startswith('teacher.program.p')
  assert [kind.title for kind in found] == ['thought', 'program', 'critique']
  assert [kind.has_own_prefix for kind in found] == [False, True, False]
  assert [k.weight for k in kinds.given((('a', 0), ('b', 2)))] == [0.0, 1.0]
  assert [k.weight for k in kinds.given(('a', ('b', 3)))] == [0.25, 0.75]
  # What was read once is taken as it is.
  assert kinds.given(found) == found


def test_teachers_name_the_kinds_where_nothing_else_does():
  found = kinds.given(None, ['palm', 'mine'])
  assert [(kind.name, kind.teacher) for kind in found] == [
    ('palm', 'palm'), ('mine', 'mine')
  ]  # fmt: skip
  found = kinds.given(('thought', 'program'), ('palm', 'mine'))
  assert [kind.tag(kind.teacher) for kind in found] == [
    'palm.thought', 'mine.program'
  ]  # fmt: skip


@pytest.mark.parametrize(
  ('given', 'teachers', 'message'),
  [
    ((), None, r'is \(\): expected names such as'),
    ('thought', None, "is 'thought': expected names such as"),
    (3, None, 'is 3: expected names such as'),
    (('a', 'a'), None, 'expected each name once'),
    (('and',), None, r"names 'and': expected .* \(not and or gold\)"),
    (('2nd',), None, "names '2nd'"),
    ((('a', -1),), None, "weighs 'a' with -1: expected a number from 0"),
    ((('a', float('inf')),), None, "weighs 'a' with inf"),
    ((('a', '1'),), None, "weighs 'a' with '1'"),
    (((),), None, r'has \(\): expected a name'),
    ((('a', 1, 3),), None, "has the prefix 3 for 'a'"),
    ((3.5, 'a'), None, 'has 3.5: expected a name'),
    (((4, 1),), None, 'names 4: expected letters'),
    (None, 3, 'TEACHERS is 3: expected different names'),
    (None, (), r'TEACHERS is \(\): expected different names'),
    (('a',), ('palm', 'mine'), 'TEACHERS has 2 names and RATIONALE_KINDS 1'),
    ((('a', True),), None, "weighs 'a' with True"),
    ((('a', float('nan')),), None, "weighs 'a' with nan"),
    ((('a', 0), ('b', 0)), None, 'expected a weight above 0'),
    ((('a', 1, 'b: ', 2),), None, r'expected a name, \(name, weight\) or'),
    ((3,), None, 'has 3: expected a name'),
    # In a run's config.gin, its names would have another order.
    ({'b': 1, 'a': 1}, None, "is {'b': 1, 'a': 1}: expected names such as"),
    ((('a', 1, ' '),), None, "has the prefix ' ' for 'a'"),
    ((('a', 1, 'predict:'),), None, "for 'a' and for the label"),
    (('a', 'explain'), None, "'explain: ' for 'explain' and for a"),
    (None, ('palm', 'palm'), 'expected different names'),
    (None, 'palm', "TEACHERS is 'palm': expected different names"),
    (('a', 'b'), ('palm',), 'TEACHERS has 1 names and RATIONALE_KINDS 2'),
  ],
)
def test_what_is_no_kind_is_refused(given, teachers, message):
  with pytest.raises(errors.DataError, match=message):
    kinds.given(given, teachers)


def test_the_sides_of_an_example_are_found_by_their_names():
  label, first, second = (
    ('inputs', 'targets'),
    ('rationale_inputs', 'rationale_targets'),
    ('rationale2_inputs', 'rationale2_targets'),
  )
  assert kinds.sides_of([*label]) == [label]
  assert kinds.sides_of([*label, *first, *second]) == [label, first, second]
  # Half of a kind is one, which whoever reads both refuses.
  for name in first:
    assert kinds.sides_of([*label, name]) == [label, first]
  assert kinds.sides_of([*label, *second]) == [label]


def test_kinds_of_a_task_and_of_a_configuration():
  assert kinds.of_task('cqa_sample_rationale_mine_test') == 1
  assert kinds.of_task('cqa_sample_label_gold') == 0
  assert kinds.joined(['mine.thought']) == 'mine.thought'
  assert kinds.joined(['palm', 'mine']) == 'palm.and.mine'
  assert kinds.joined(['palm.a', 'mine.b']) == 'palm.a.and.mine.b'
  named = kinds.of_config({'RATIONALE_KINDS': "('a', ('b', 3))"})
  assert named == kinds.given(('a', ('b', 3)))
  found = kinds.of_config({'TEACHERS': "('palm', 'mine')"})
  assert found == kinds.given(None, ('palm', 'mine'))
  # What is no value of either tells nothing.
  deep = '-' * 3000 + '1'
  for text in ('@kinds', '(', '3', '(' * 9999, deep, deep * 40, 'None'):
    assert kinds.of_config({'RATIONALE_KINDS': text}) == kinds.ONE
  assert kinds.of_config({}) == kinds.ONE
