"""Options for rows of the user's own, as commands take them."""

import dataclasses
import pathlib

import pytest

from dss_jax import errors
from dss_jax.data import own_options


def test_columns_are_pairs():
  found = own_options.columns(['rationale=a,b', 'rationale=c', 'input=q'])
  assert found == {'rationale': ('a', 'b', 'c'), 'input': ('q',)}
  assert own_options.as_macro(found) == {
    'rationale': ['a', 'b', 'c'],
    'input': 'q',
  }
  for pair in ('input', 'input='):
    with pytest.raises(errors.DataError, match='expected NAME=COLUMN'):
      own_options.columns([pair])


def test_what_is_not_given_is_the_tenth_and_the_first_draw():
  """Else rows are set apart that a user did not ask for, or others."""
  own = own_options.OwnData(pathlib.PurePosixPath('a.csv'))
  assert dataclasses.astuple(own) == (
    'a.csv', 0.1, 0.1, (), False, None, 0, None, ()
  )  # fmt: skip
  assert own.paths() == {'train': 'a.csv'}
  with pytest.raises(dataclasses.FrozenInstanceError):
    own.seed = 1


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'validation': ''}, "VALIDATION is '': expected the path of a file"),
    ({'validation': None}, 'VALIDATION is None: expected the path of a file'),
    ({'validation': 'v.csv', 'test': 1.5}, 'TEST is 1.5: expected the path'),
    ({'validation': -0.5}, 'VALIDATION is -0.5: expected the path'),
    ({'validation': 1}, 'VALIDATION is 1: expected the path'),
    ({'validation': 1.0}, 'VALIDATION is 1.0: expected the path'),
    ({'test': True}, 'TEST is True: expected the path'),
    ({'validation': 0.6, 'test': 0.7}, 'set 1.3 of the rows apart'),
    ({'columns': {'rationale': ()}}, r"COLUMNS maps 'rationale' to \(\)"),
    ({'columns': {'teacher_label': ('a', 'b')}}, 'several for rationales only'),
    ({'columns': {'label': ('a', 'b', 'c')}}, 'several for rationales only'),
    ({'columns': {'other': 'a'}}, "COLUMNS maps 'other': expected one of"),
    ({'classes': {'a', 'b'}}, 'CLASSES is .*: expected a list of labels'),
    ({'classes': range(10_001)}, 'CLASSES has 10,001 labels: expected at most'),
    ({'classes': ['a' * 1001]}, 'CLASSES has a label of 1,001 characters'),
  ],
)
def test_an_option_that_is_none_is_explained(options, message):
  with pytest.raises(errors.DataError, match=message):
    own_options.OwnData('a.csv', **options)


def test_options_may_be_at_their_bounds():
  own = own_options.OwnData(
    'a.csv',
    validation=0.9,
    test='t.csv',
    columns={'rationale.a': ('b', 'c'), 'rationale': ['d', 'e', 'f']},
    classes=['a' * 1000, 'b'],
  )
  assert own.classes == ('a' * 1000, 'b')
  assert own.columns == (
    ('rationale.a', ('b', 'c')),
    ('rationale', ('d', 'e', 'f')),
  )
  assert len(own_options.OwnData('a', classes=range(10_000)).classes) == 10_000


def test_each_split_is_read_as_rows_to_train_on():
  """Else a test file is read with the columns of the train file, or reverse."""
  options = {'by_value': True, 'classes': ('1', '2'), 'kinds': ('a', 'b')}
  own = own_options.OwnData(
    'a.csv', 'v.csv', 't.csv', {'input': 'q'}, seed=3, **options
  )
  apart = dataclasses.replace(own, test_columns={'input': 'r'})
  assert own.paths() == {
    'train': 'a.csv', 'validation': 'v.csv', 'test': 't.csv'
  }  # fmt: skip
  for split, path in own.paths().items():
    expected = own_options.OwnData(path, columns={'input': 'q'}, **options)
    assert own.of_split(split) == expected
    if split == 'test':
      expected = dataclasses.replace(expected, columns={'input': 'r'})
    assert apart.of_split(split) == expected


def test_kinds_have_their_columns_in_files():
  own = own_options.OwnData(
    'a.csv',
    columns={'rationale.b': 'x', 'rationale': ('y', 'z'), 'input': 'q'},
    kinds=('a', 'b', 'c'),
  )
  names = ('rationale', 'rationale2', 'rationale3', 'input', 'label')
  assert [own.file_columns(name) for name in names] == [
    ('rationale.a',), ('x',), ('rationale.c',), ('q',), ('label',)
  ]  # fmt: skip
  assert own.plain_rationale == ('y', 'z')
  assert own.mapped_kinds == ('b', 'rationale')
  plain = dataclasses.replace(own, kinds=())
  assert plain.file_columns('rationale') == ('y', 'z')
  assert plain.file_columns('rationale2') == ('rationale2',)


@pytest.mark.parametrize(
  ('names', 'kinds'),
  [
    (['rationale'], ()), (['input', 'id'], ()), (['rationale.a'], ('a',)),
    (['rationale.z'], ('z',)), (['rationale.rationale'], ()),
    (['rationale', 'input', 'rationale.a'], ('rationale', 'a')),
  ],
)  # fmt: skip
def test_a_mapping_of_columns_names_kinds(names, kinds):
  assert own_options.mapped_kinds(names) == kinds
