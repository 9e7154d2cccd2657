"""Arms, cells, differences, and the sentences on them."""

import dataclasses

import numpy as np
import pytest

from dss_jax.report import run_files
from dss_jax.study import results
from dss_jax.study.report import answers, cells, comparison, findings, summary
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


def test_arms_are_named_by_what_tells_them_apart():
  found = [
    dataclasses.replace(_result(alpha=alpha), spec=_spec(alpha, teacher))
    for alpha, teacher in ((0.2, 'palm'), (0.5, 'palm'), (0.5, 'mine'))
  ]
  table = cells.arrange(found)
  assert [table.name(arm) for arm in table.arms] == [
    'dss, by palm, α = 0.2',
    'dss, by palm, α = 0.5',
    'dss, by mine, α = 0.5',
  ]


def _spec(alpha, teacher='palm', **changes):
  return finished_run.spec(alpha=alpha, teacher=teacher, **changes)


def _result(alpha=0.2, **changes):
  end = run_files.Evaluation(60, {'test': 50.0}, {'test': [40.0, 60.0]})
  return results.RunResult(
    spec=_spec(alpha, **changes),
    settings={'ALPHA': repr(alpha), 'FRACTION': '1.0', 'SAME': '3'},
    parameters=345_088,
    versions={'jax': '0.10.2'},
    commit=None,
    device='a CPU',
    seconds=1.0,
    rows={'test': 4},
    last=end,
    best_validation=None,
    best_test=end,
    predictions='predictions/x.jsonl',
  )


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


def test_what_differs_leaves_out_what_is_the_same_and_the_axes():
  table = cells.arrange([_result(), _result(0.5)])
  assert findings.what_differs(table) == [
    ('label examples a step', ['16', '16']),
    ('steps', ['60', '60']),
    ('ALPHA', ['0.2', '0.5']),
  ]


def test_the_teachers_accuracy_has_its_name_where_one_is_used():
  plain = _result(method='finetune', name='f')
  plain = dataclasses.replace(
    plain, spec=dataclasses.replace(plain.spec, teacher=None)
  )
  assert cells.arrange([plain]).teachers() == {'teacher': 90.0}
  assert cells.arrange([plain, _result()]).teachers() == {'palm': 90.0}


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
  assert comparison.p_value(0.0004) == '<0.001'
  assert comparison.p_value(0.0424) == '0.042'
  assert comparison.signed(-0.44) == '−0.4'
  assert np.isclose(float(comparison.signed(1.25)), 1.2)
