"""Tests of results: electing a label among samples, and rows of one's own."""

import collections

import hypothesis
import pytest
from hypothesis import strategies as st

from dss_jax.data import equations
from dss_jax.data.completions import Parsed
from dss_jax.extract import journal, results, rows


def _samples(*labels):
  return [Parsed(f'r{n}', label) for n, label in enumerate(labels)]


def test_the_majority_wins_and_keeps_its_samples():
  found = results.elect(_samples('x', 'y', '', 'y'))
  assert found == results.Vote('y', (1, 3), 0.5)


def test_the_earlier_of_two_labels_with_equal_votes_wins():
  assert results.elect(_samples('x', 'y', 'y', 'x')).label == 'x'


def test_without_a_label_there_is_none():
  assert results.elect(_samples('', '')) == results.Vote('', (0, 1), 0.0)
  assert results.elect([]) == results.Vote('', (), 0.0)


def test_equations_vote_by_their_value():
  samples = _samples('(3)', '(2 + 2)', '(5 - 1)')
  found = results.elect(samples, equations.evaluate)
  assert found.label == '(2 + 2)' and found.kept == (1, 2)


@hypothesis.given(st.lists(st.sampled_from(['', 'a', 'b', 'c']), min_size=1))
@hypothesis.settings(max_examples=50, deadline=None)
def test_nobody_has_more_votes_than_the_elected(labels):
  found = results.elect(_samples(*labels))
  counts = collections.Counter(filter(None, labels))
  assert all(labels[n] == found.label for n in found.kept)
  assert len(found.kept) == counts[found.label] or not counts
  assert not counts or counts[found.label] == max(counts.values())
  assert found.agreement == (len(found.kept) / len(labels) if counts else 0)


def _own_row(*parsed):
  row = rows.Row('train', 0, 'a', 'Is it?', 'yes', bool)
  texts = [f'{p.rationale} So the answer is {p.label}.' for p in parsed]
  entries = [
    journal.Entry('train', 0, 'a', n, 0, 'tiny', {}, text)
    for n, text in enumerate(texts)
  ]
  vote = results.elect(parsed)
  return results.as_own_row(
    results.Outcome(row, True, (*entries,), (*texts,), (*parsed,), vote, ())
  )


def test_a_row_has_one_rationale_or_several():
  first, other = Parsed('It is.', 'yes'), Parsed('It is so.', 'yes')
  assert _own_row(first)['rationale'] == 'It is.'
  assert _own_row(first, first)['rationale'] == 'It is.'
  assert _own_row(Parsed('', 'yes'))['rationale'] == ''
  found = _own_row(first, Parsed('It is not.', 'no'), other)
  assert found['rationale'] == ['It is.', 'It is so.']
  assert (found['teacher_label'], found['agreement']) == ('yes', 0.6667)
  assert len(found['completions']) == 3 and 'thoughts' not in found


def test_an_error_before_the_first_row_is_the_one_that_is_seen(tmp_path):
  writer = results.Writer(rows.Rows(rows.CUSTOM, {}), tmp_path, 'mine')
  with pytest.raises(KeyError, match='of the caller'), writer:
    raise KeyError('of the caller')
  assert not (tmp_path / 'rows').exists()
