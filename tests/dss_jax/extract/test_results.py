"""Tests of results: electing a label among samples, and rows of one's own."""

import collections
import json
import locale

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


def _outcome(*parsed, split='train'):
  row = rows.Row(split, 0, 'a', 'Is it é?', 'yes', bool)
  texts = [f'{p.rationale} So the answer is {p.label}.' for p in parsed]
  entries = [
    journal.Entry('train', 0, 'a', n, 0, 'tiny', {}, text)
    for n, text in enumerate(texts)
  ]
  vote = results.elect(parsed)
  return results.Outcome(
    row, True, (*entries,), (*texts,), (*parsed,), vote, ()
  )


def _own_row(*parsed):
  return results.as_own_row(_outcome(*parsed))


def test_the_first_sample_that_was_elected_speaks_for_the_row():
  samples = _samples('', 'no', 'yes', 'yes')
  found = _outcome(*samples)
  assert found.chosen == samples[2]
  assert found.completion == 'r2 So the answer is yes.'
  nothing = _outcome()
  assert (nothing.chosen, nothing.completion) == (Parsed('', ''), '')


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


def _text(path):
  return path.read_bytes().decode('utf-8')


def _folder_with_leftovers(tmp_path):
  """Returns a folder with old results, and what a killed run left there."""
  folder = tmp_path / 'new/cqa'
  for name in ('rows', 'mine', '.rows.partial', '.mine.partial', '.mine.old'):
    (folder / name).mkdir(parents=True)
    (folder / name / 'old.txt').write_text('')
  return folder


def test_results_are_cut_into_files_and_replace_older_ones(tmp_path):
  """Files of 1,000; splits of their own; UTF-8 wherever it is written."""
  folder = _folder_with_leftovers(tmp_path)
  counts = {'train': 2001, 'validation': 2, 'test': 1}
  before = locale.setlocale(locale.LC_CTYPE)
  locale.setlocale(locale.LC_CTYPE, 'C')
  try:
    with results.Writer(rows.Rows('cqa', {}), folder, 'mine') as writer:
      for split, count in counts.items():
        for number in range(count):
          said = Parsed(f'ö{number}', 'yes')
          writer.add(_outcome(said, split=split))
  finally:
    locale.setlocale(locale.LC_CTYPE, before)
  assert sorted(p.name for p in folder.iterdir()) == ['mine', 'rows']
  lengths = {
    'train_CoT_0.json': 1000,
    'train_CoT_1.json': 1000,
    'train_CoT_2.json': 1,
    'valid_CoT_0.json': 2,
    'test_CoT_0.json': 1,
  }
  found = {p.name: json.loads(_text(p)) for p in (folder / 'mine').iterdir()}
  assert {name: len(texts) for name, texts in found.items()} == lengths | {
    name.replace('CoT', 'read'): n for name, n in lengths.items()
  }
  assert found['train_CoT_1.json'][3] == 'ö1003 So the answer is yes.'
  assert found['train_read_2.json'][0]['rationale'] == 'ö2000'
  # A line each, as in the published files.
  said = _text(folder / 'mine/valid_CoT_0.json')
  one, other = (f'"ö{n} So the answer is yes."' for n in (0, 1))
  assert said == f'[\n{one},\n{other}\n]'
  assert sorted(p.name for p in (folder / 'rows').iterdir()) == [
    'test.jsonl', 'train.jsonl', 'validation.jsonl',
  ]  # fmt: skip
  for split, count in counts.items():
    lines = _text(folder / f'rows/{split}.jsonl').splitlines()
    assert len(lines) == count
    assert 'é' in lines[0] and json.loads(lines[-1])['rationale'].startswith(
      'ö'
    )


def test_an_error_leaves_older_results_as_they_were(tmp_path):
  folder = _folder_with_leftovers(tmp_path)
  writer = results.Writer(rows.Rows('cqa', {}), folder, 'mine')
  with pytest.raises(KeyError), writer:
    writer.add(_outcome(Parsed('r', 'yes')))
    raise KeyError
  assert writer._rows_file.closed
  found = {str(p.relative_to(folder)) for p in folder.rglob('*.*')}
  kept = {'rows/old.txt', 'mine/old.txt', '.mine.old', '.mine.old/old.txt'}
  assert found == kept


def test_results_of_ones_own_rows_make_their_folder(tmp_path):
  with results.Writer(rows.Rows(rows.CUSTOM, {}), tmp_path / 'a/b', 'x') as w:
    w.add(_outcome(Parsed('r', 'yes')))
  found = [p.name for p in tmp_path.rglob('*') if p.is_file()]
  assert found == ['train.jsonl']
