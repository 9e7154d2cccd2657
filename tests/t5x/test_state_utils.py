"""Tests of t5x.state_utils."""

import pytest
from flax import traverse_util

from t5x import state_utils
from t5x.errors import UserError

CHECKPOINT = {'target': {'old': {'a': 1, 'b': 2}, 'head': 3}}
MODEL = {'target': {'new': {'a': 0, 'b': 0}, 'head': 0, 'extra': 0}}


def test_names_are_keys_joined_by_slashes():
  assert state_utils.flatten_state_dict({'a': {'b': 1}, 'c': {}}) == {'a/b': 1}
  kept = state_utils.flatten_state_dict({'c': {}}, keep_empty_nodes=True)
  assert kept == {'c': traverse_util.empty_node}


def test_the_specification_of_an_array_is_one_leaf():
  spec = {'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': 'a'}}
  assert state_utils.flatten_state_dict({'x': spec}) == {'x': spec}
  more = {**spec, 'metadata': {'shape': [2]}}
  assert state_utils.flatten_state_dict({'x': more}) == {'x': more}
  assert not state_utils.tensorstore_leaf((), {'driver': 'zarr'})


def test_intersection_keeps_what_both_name():
  both = state_utils.intersect_state({'a': 1, 'b': {'c': 2}}, {'b': {'c': 0}})
  assert both == {'b': {'c': 2}}
  # What is empty has a name, too.
  both = state_utils.intersect_state({'a': {}, 'b': 1}, {'a': {}, 'b': 0})
  assert both == {'a': {}, 'b': 1}


@pytest.mark.parametrize('overwrite, a', [(False, 1), (True, 0)])
def test_merging_adds_what_is_missing(overwrite, a):
  merged = state_utils.merge_state({'a': 1}, {'a': 0, 'b': 0}, overwrite)
  assert merged == {'a': a, 'b': 0}


def test_merging_keeps_the_state_and_what_is_empty():
  assert state_utils.merge_state({'a': {'b': 1}}, {'a': {'b': 0}}) == {
    'a': {'b': 1}
  }
  assert state_utils.merge_state({'a': {}}, {'b': {}}) == {'a': {}, 'b': {}}


def test_rules_rename_leave_out_and_leave_alone():
  rules = [
    (r'target/new/(.*)', r'target/old/\1'),
    (r'target/extra', None),
    (r'target/.*', 'target/not_reached'),
  ]
  renamed = state_utils.apply_assignment_map(CHECKPOINT, MODEL, rules[:2])
  assert renamed == {'target': {'new': {'a': 1, 'b': 2}, 'head': 3}}
  with pytest.raises(UserError, match=r"asks for 'target/not_reached'"):
    state_utils.apply_assignment_map(CHECKPOINT, MODEL, rules)


def test_a_resumed_run_has_the_names_already():
  rules = [(r'target/nothing', None)]
  same = state_utils.apply_assignment_map(
    CHECKPOINT, MODEL, rules, is_resuming=True
  )
  assert same is CHECKPOINT


def test_a_rule_that_matches_nothing_is_an_error_if_strict():
  rules = [(r'target/typo', None)]
  with pytest.raises(UserError, match=r"matches \['target/typo'\].*strict"):
    state_utils.apply_assignment_map(CHECKPOINT, MODEL, rules)
  loose = state_utils.apply_assignment_map(
    CHECKPOINT, MODEL, rules, require_all_rules_match=False
  )
  # Nothing names these leaves, so they stay.
  assert loose == CHECKPOINT


def test_a_misspelt_source_gets_a_suggestion():
  rules = [(r'target/new/a', 'target/old/aa')]
  with pytest.raises(UserError, match="Did you mean 'target/old/a'"):
    state_utils.apply_assignment_map(CHECKPOINT, MODEL, rules)


def test_the_first_rule_that_matches_a_whole_name_decides():
  rules = [
    (r'target/a', None),
    (r'target/(a.*)', r'target/old_\1'),
    (r'.*', None),
  ]
  stored = {'target': {'old_ab': 1, 'b': 2, 'a': 3}, 'state': {'step': 4}}
  model = {'target': {'a': 0, 'ab': 0, 'b': 0}}
  assert state_utils.apply_assignment_map(stored, model, rules) == {
    'target': {'ab': 1}
  }
  names = ('target/a', 'target/ab', 'target/b')
  assert [state_utils.starts_from_scratch(n, rules) for n in names] == [
    True,
    False,
    True,
  ]
  assert not state_utils.starts_from_scratch('state/step', rules[:2])


def test_a_leaf_that_was_renamed_does_not_stay_under_its_old_name():
  rules = [(r'target/new', 'target/old')]
  stored = {'target': {'old': 1, 'more': 2}}
  found = state_utils.apply_assignment_map(
    stored, {'target': {'new': 0, 'more': 0}}, rules
  )
  assert found == {'target': {'new': 1, 'more': 2}}


@pytest.mark.parametrize(
  ('pattern', 'path', 'expected'),
  [
    ('encoder', 'encoder/w', True),
    ('encoder', 'decoder/encoder_decoder_attention/w', False),
    ('encoder', 'encoder', True),
    ('w', 'encoder/w', True),
    ('layers_1', 'encoder/layers_10/w', False),
    (r'layers_\d', 'encoder/layers_1/w', True),
    ('layers_1/w', 'encoder/layers_1/w', True),
    ('a|w', 'encoder/w', True),
  ],
)
def test_patterns_match_whole_names(pattern, path, expected):
  assert state_utils.matches_names(pattern, path) is expected
