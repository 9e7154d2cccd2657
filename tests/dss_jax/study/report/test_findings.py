"""Arms, cells, differences, and the sentences on them."""

import dataclasses

import numpy as np
import pytest

from dss_jax.study import results
from dss_jax.study.report import (
  answers,
  cells,
  comparison,
  findings,
  statistics,
  summary,
)
from tests.dss_jax.study import finished_run


def _compared(out, found, methods=()):
  for run in found:
    answers.prepare(out, run)
  table = cells.arrange(found, methods)
  return table, comparison.compare(answers.Marks(out), table)


def _study(out, right_of, seeds=3):
  """A study where a method's seed has the first so many of 40 right."""
  found = []
  for method, counts in right_of.items():
    for seed in range(seeds):
      marks = [n < counts[seed] for n in range(40)]
      spec = finished_run.spec(method, seed)
      run_dir = finished_run.write(out / results.RUNS, spec, marks)
      found.append(results.record(spec, run_dir, seconds=1.0, device='a CPU'))
  return found


def test_rows_are_means_and_paired_differences(tmp_path):
  found = _study(tmp_path, {'finetune': (10, 12, 14), 'dss': (20, 22, 24)})
  table, (first, other) = _compared(tmp_path, found)
  assert [table.name(arm) for arm in table.arms] == ['finetune', 'dss']
  assert first.last.value == 30.0 and first.difference is None
  assert first.last.error == pytest.approx(5 / 3**0.5)
  assert other.last.value == 55.0
  assert other.difference.value == pytest.approx(25.0)
  assert other.difference.seeds == 3 and other.difference.questions == 40
  assert other.corrected == other.difference.p
  assert (other.seeds, other.interval) == ((0, 1, 2), None)
  with pytest.raises(dataclasses.FrozenInstanceError):
    other.corrected = 0.0
  assert summary.caption(table).endswith(' Differences are to finetune.')
  alone, _ = _compared(tmp_path, found[:3])
  assert 'Differences' not in summary.caption(alone)


def test_differences_take_common_seeds_only(tmp_path):
  found = _study(tmp_path, {'finetune': (10, 12, 14), 'dss': (20, 22, 40)})
  table, rows = _compared(tmp_path, found[:-1])
  assert rows[1].difference.seeds == 2
  assert rows[1].difference.value == pytest.approx(25.0)
  assert rows[1].difference.p is None
  (note,) = findings.notes(table)
  assert 'finetune: 0, 1, 2; dss: 0, 1' in note
  sentence, meaning = findings.sentences(table, rows)
  assert sentence == (
    'dss is not tested against finetune with all rows (+25.0 points, 2 common'
    ' seeds).'
  )
  assert 'Below 3 common seeds there is no interval and no p' in meaning


def test_sentences_say_better_worse_and_undecided(tmp_path):
  found = _study(
    tmp_path,
    {
      'finetune': (16, 17, 18),
      'dss': (36, 37, 38),
      'single_task': (3, 4, 5),
      'shuffled': (16, 20, 15),
    },
  )
  table, rows = _compared(tmp_path, found)
  better, worse, undecided, meaning = findings.sentences(table, rows)
  assert better.startswith(
    'dss is better than finetune with all rows (+50.0 points, 95% interval +'
  )
  assert worse.startswith('single_task is worse than finetune with all rows (−')
  assert undecided.startswith(
    'The data do not decide between shuffled and finetune with all rows (0'
  ) or undecided.startswith(
    'The data do not decide between shuffled and finetune with all rows (+0'
  )
  assert 'p, corrected for all 3 comparisons, is below 0.05' in meaning
  assert 'no evidence of equality' in meaning


def test_the_first_method_is_the_studys_first(tmp_path):
  found = _study(tmp_path, {'dss': (20, 22, 24), 'finetune': (10, 12, 14)})
  table, rows = _compared(tmp_path, found, methods=['finetune', 'dss'])
  assert table.first.method == 'finetune'
  assert [row.arm.method for row in rows] == ['finetune', 'dss']


def _spec(alpha, teacher='palm', **changes):
  return finished_run.spec(alpha=alpha, teacher=teacher, **changes)


def _result(alpha=0.2, **changes):
  return finished_run.result(_spec(alpha, **changes))


def test_an_unfair_comparison_is_told():
  fair, other = _result(), _result(0.5, label_examples=32)
  other = dataclasses.replace(other, device='a GPU', commit=f'{"ab" * 20}+')
  notes = findings.notes(cells.arrange([fair, other]))
  assert notes == [
    'Not a fair comparison with all rows: label examples a step differ,'
    ' dss, α = 0.2 16, dss, α = 0.5 32.',
    'Runs have different commits: abababababab+; none.',
    'Runs have different devices: a CPU; a GPU.',
  ]
  # Of three arms, those that have no result in a cell are not asked.
  half = _result(0.5, fraction=0.5, steps=30, seed=7, label_examples=None)
  newer = dataclasses.replace(half, versions={'jax': '1', 'flax': '2'})
  assert findings.notes(cells.arrange([fair, newer])) == [
    'Runs have different versions: jax 0.10.2; jax 1, flax 2.'
  ]
  whole = dataclasses.replace(half, spec=_spec(0.5, steps=30, seed=7))
  assert findings.notes(cells.arrange([fair, whole]))[0] == (
    'Not a fair comparison with all rows: steps differ, dss, α = 0.2 60,'
    ' dss, α = 0.5 30.'
  )
  # One run, or none, differs from nothing.
  assert findings.notes(cells.arrange([fair])) == []
  assert findings.notes(cells.arrange([])) == []


def test_what_differs_leaves_out_what_is_the_same_and_the_axes():
  table = cells.arrange([_result(), _result(0.5)])
  assert findings.what_differs(table) == [
    ('label examples a step', ['16', '16']),
    ('steps', ['60', '60']),
    ('ALPHA', ['0.2', '0.5']),
  ]
  # An axis is not told, and of seeds that differ each value is, once.
  runs = [_result(), _result(0.5, label_examples=None), _result(0.5, seed=1)]
  texts = ({'FRACTION': '1.0'}, {'FRACTION': '0.5', 'B': "'x'"}, {'B': '"y"'})
  runs = [
    dataclasses.replace(run, settings=settings)
    for run, settings in zip(runs, texts, strict=True)
  ]
  assert findings.what_differs(cells.arrange(runs)) == [
    ('label examples a step', ['16', 'counted in rows, 16']),
    ('steps', ['60', '60']),
    ('B', ['—', 'x, y']),
  ]


_FRACTIONS = (0.25, 0.5, 1.0)


def _said(*differences, counts=((3, 40),) * 3):
  """Sentences on dss at some fractions: (points, corrected p) of each."""
  table = cells.arrange(
    [
      finished_run.result(finished_run.spec(method, fraction=fraction))
      for method in ('finetune', 'dss')
      for fraction in _FRACTIONS[: len(differences)]
    ]
  )
  nothing = statistics.Mean(50.0, None, 1)
  rows = [
    comparison.Row(cell, table.first, (0,), nothing, None, nothing)
    for cell in table.cells
  ]
  for cell, (value, p), (seeds, questions) in zip(
    table.cells, differences, counts, strict=False
  ):
    ends = (None, None) if p is None else (value - 1.0, value + 1.0)
    found = statistics.Difference(value, *ends, p, seeds, questions)
    rows.append(
      comparison.Row(
        *(cell, table.arms[1], (0,), nothing, None, nothing, found, p)
      )
    )
  return findings.sentences(table, rows)


_PAIRED = (
  'Differences are paired over the same seeds (3) and the same test questions'
  ' (40).'
)
_ONE = ' Better and worse mean that p is below 0.05.'
_ALL = (
  ' Better and worse mean that p, corrected for all {} comparisons, is below'
  ' 0.05.'
)
_UNDECIDED = (
  ' Where the data do not decide, that is no evidence of equality: every'
  ' difference in the interval agrees with them.'
)
_UNTESTED = (
  ' Below 3 common seeds there is no interval and no p: so few do not say how'
  ' much a result varies from seed to seed.'
)


@pytest.mark.parametrize(
  ('differences', 'sentence', 'meaning'),
  [
    (
      [(0.5, 0.049)],
      'dss is better than finetune with 0.25 of the rows (+0.5 points, 95%'
      ' interval −0.5 to +1.5).',
      _ONE,
    ),
    (
      [(-0.5, 0.049), (-2.0, 0.01)],
      'dss is worse than finetune with 0.25 of the rows (−0.5 points, 95%'
      ' interval −1.5 to +0.5) and with 0.5 of the rows (−2.0 points, 95%'
      ' interval −3.0 to −1.0).',
      _ALL.format(2),
    ),
    (
      [(0.5, 0.01), (-0.5, 0.02), (3.0, 0.03)],
      'dss is better than finetune with 0.25 of the rows (+0.5 points, 95%'
      ' interval −0.5 to +1.5) and with all rows (+3.0 points, 95% interval'
      ' +2.0 to +4.0); dss is worse than finetune with 0.5 of the rows (−0.5'
      ' points, 95% interval −1.5 to +0.5).',
      _ALL.format(3),
    ),
    (
      [(1.0, 0.01), (2.0, 0.02), (3.0, 0.03)],
      'dss is better than finetune with 0.25 of the rows (+1.0 points, 95%'
      ' interval +0.0 to +2.0), with 0.5 of the rows (+2.0 points, 95% interval'
      ' +1.0 to +3.0) and with all rows (+3.0 points, 95% interval +2.0 to'
      ' +4.0).',
      _ALL.format(3),
    ),
    # A p that is the level is not below it.
    (
      [(2.0, 0.05)],
      'The data do not decide between dss and finetune with 0.25 of the rows'
      ' (+2.0 points, 95% interval +1.0 to +3.0).',
      _ONE + _UNDECIDED,
    ),
    (
      [(0.5, 0.5), (-3.0, 0.6), (2.0, 0.7)],
      'The data do not decide between dss and finetune in any of the 3'
      ' comparisons (−3.0 to +2.0 points).',
      _ALL.format(3) + _UNDECIDED,
    ),
    (
      [(2.0, 0.01), (-3.0, 0.6), (1.0, 0.7)],
      'dss is better than finetune with 0.25 of the rows (+2.0 points, 95%'
      ' interval +1.0 to +3.0); the data do not decide in the other 2'
      ' comparisons (−3.0 to +1.0 points).',
      _ALL.format(3) + _UNDECIDED,
    ),
    (
      [(2.0, None), (-3.0, None)],
      'dss is not tested against finetune in the 2 comparisons (−3.0 to +2.0'
      ' points).',
      _UNTESTED,
    ),
    (
      [(2.0, 0.7), (-3.0, None), (1.0, None)],
      'The data do not decide between dss and finetune with 0.25 of the rows'
      ' (+2.0 points, 95% interval +1.0 to +3.0); dss is not tested against'
      ' finetune in the other 2 comparisons (−3.0 to +1.0 points).',
      _ONE + _UNDECIDED + _UNTESTED,
    ),
  ],
)
def test_a_sentence_says_all_that_is_known_of_an_arm(
  differences, sentence, meaning
):
  """Else a study claims what its numbers do not show."""
  assert _said(*differences) == [sentence, _PAIRED + meaning]


def test_numbers_of_seeds_and_questions_are_ranges_where_they_differ():
  sentence, meaning = _said(
    (1.0, None), (2.0, 0.01), counts=((1, 4000), (12, 39))
  )
  assert '(+1.0 points, 1 common seed)' in sentence
  assert meaning.startswith(
    'Differences are paired over the same seeds (1 to 12) and the same test'
    ' questions (39 to 4,000).'
  )


def test_an_arm_without_a_common_seed_is_named(tmp_path):
  found = _study(tmp_path, {'finetune': (10, 12, 14), 'dss': (20, 22, 24)})
  table, rows = _compared(tmp_path, [found[0], found[4], found[5]])
  assert rows[1].difference is None and rows[1].seeds == (1, 2)
  assert findings.sentences(table, rows) == [
    'dss shares no finished seed with finetune yet.'
  ]
  # Of seeds that only the other has, too, the common ones are compared.
  _, rows = _compared(tmp_path, [found[0], found[1], *found[4:]])
  assert rows[1].difference.seeds == 1


def test_markdown_and_csv_hold_what_was_given_as_text(tmp_path):
  found = _study(tmp_path, {'finetune': (10, 12, 14), 'dss': (20, 22, 24)})
  odd = 'rows|*a*<b>.jsonl'
  found = [
    dataclasses.replace(run, spec=dataclasses.replace(run.spec, data=odd))
    for run in found
  ]
  table, rows = _compared(tmp_path, found)
  text = summary.markdown(table, rows, ['a.png'], planned=8)
  assert text.startswith('# Study: cqa (rows\\|\\*a\\*\\<b\\>.jsonl)\n')
  assert '6 of 8 runs are finished.' in text
  assert '| all rows (900) | dss | 3 | 55.0 ± 2.9 |' in text
  lines = summary.csv_text(found).splitlines()
  assert len(lines) == 7
  assert odd in lines[1] and 'test_low' in lines[0]


def test_a_mean_of_nothing_and_small_numbers_are_written_plainly():
  assert comparison.with_error(None) == ''
  assert comparison.p_value(None) == ''
  assert comparison.p_value(0.0004) == '<0.001'
  assert comparison.p_value(0.001) == '0.001'
  assert comparison.p_value(0.0424) == '0.042'
  assert comparison.signed(-0.44) == '−0.4'
  assert np.isclose(float(comparison.signed(1.25)), 1.2)
