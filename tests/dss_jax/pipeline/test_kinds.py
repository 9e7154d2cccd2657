"""What RATIONALE_KINDS and TEACHERS name, and what they may not."""

import pytest

from dss_jax import errors
from dss_jax.pipeline import kinds


def test_without_names_there_is_one_kind():
  assert kinds.given() == kinds.given(None, None) == kinds.ONE
  assert kinds.ONE[0].prefix == 'explain: '
  assert kinds.ONE[0].features == ('rationale_inputs', 'rationale_targets')
  assert kinds.ONE[0].tag('palm') == 'palm'


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
    (None, 'palm', "is 'palm'|expected different names"),
    (('a', 'b'), ('palm',), 'TEACHERS has 1 names and RATIONALE_KINDS 2'),
  ],
)
def test_what_is_no_kind_is_refused(given, teachers, message):
  with pytest.raises(errors.DataError, match=message):
    kinds.given(given, teachers)
