"""The table of a study's runs, as others read it."""

import csv
import io

import pytest

from dss_jax.report import run_files
from dss_jax.study import results
from dss_jax.study.report import cells, comparison, statistics, summary
from tests.dss_jax.study import finished_run


def test_a_run_is_a_line_with_all_that_its_number_depends_on(tmp_path):
  found = []
  for method, right in (('finetune', 10), ('dss', 30)):
    spec = finished_run.spec(method, 1)
    marks = [n < right for n in range(40)]
    run_dir = finished_run.write(tmp_path / method, spec, marks)
    found.append(results.record(spec, run_dir, seconds=2.5, device='a CPU'))
  lines = list(csv.DictReader(io.StringIO(summary.csv_text(found))))
  assert [line['method'] for line in lines] == ['finetune', 'dss']
  for line, run, accuracy in zip(lines, found, ('25.0', '75.0'), strict=True):
    spec = run.spec
    assert (
      line.items()
      >= {
        'name': spec.name,
        'data_set': spec.data_set,
        'size': spec.size,
        'fraction': str(spec.fraction),
        'seed': '1',
        'alpha': '' if spec.alpha is None else str(spec.alpha),
        'steps': str(spec.steps),
        'label_examples': str(spec.label_examples),
        'test_accuracy': accuracy,
        'test_questions': '40',
        'parameters': str(run.parameters),
        'seconds': '2.5',
        'device': 'a CPU',
      }.items()
    )
    low, high = float(line['test_low']), float(line['test_high'])
    assert low < float(accuracy) < high
    versions = {k: v for k, v in line.items() if k.startswith('version_')}
    assert versions and versions == {
      f'version_{name}': text for name, text in run.versions.items()
    }
    assert line.keys() >= dict(run.settings).keys()


_COMMIT = f'{"ab" * 20}+'


def _runs():
  """One of finetuning, without validation, and one of two kinds."""
  both = {'validation': 70.0, 'test': 60.0}
  ends = {'validation': (65.0, 75.0), 'test': (55.0, 65.0)}
  last = run_files.Evaluation(60, both, ends)
  better = run_files.Evaluation(40, {'validation': 80.0, 'test': 62.5}, ends)
  best = run_files.Evaluation(20, {'validation': 75.0, 'test': 64.0}, ends)
  spec = finished_run.spec('dss', 1, kinds='thought+program')
  return [
    finished_run.result(
      finished_run.spec('finetune', teacher_accuracy={}), settings={'A': '-1'}
    ),
    finished_run.result(
      spec,
      last=last,
      best_validation=better,
      best_test=best,
      rows={'validation': 10, 'test': 20},
      commit=_COMMIT,
      settings={'A': "'x'", 'B': '=2'},
    ),
  ]


def test_the_table_has_every_column_and_says_nothing_where_there_is_nothing():
  """Else a column is missing, or holds another's values."""
  text = summary.csv_text(_runs())
  assert '\r' not in text
  plain, weighted = csv.DictReader(io.StringIO(text))
  both = {
    'data_set': 'cqa', 'data': 'sample', 'labels': 'gold', 'size': 'tiny',
    'fraction': '1.0', 'train_rows': '900', 'label_examples': '16',
    'steps': '60', 'parameters': '345088', 'seconds': '1.0',
    'device': 'a CPU', 'version_jax': '0.10.2',
  }  # fmt: skip
  assert plain == both | {
    'name': 'finetune_f1_s0', 'method': 'finetune', 'teacher': '', 'alpha': '',
    'seed': '0', 'kinds': '', 'test_accuracy': '50.0', 'test_questions': '4',
    'test_low': '40.0', 'test_high': '60.0', 'validation_accuracy': '',
    'validation_questions': '', 'validation_low': '', 'validation_high': '',
    'best_validation_step': '', 'test_accuracy_at_best_validation': '',
    'best_test_step': '60', 'best_test_accuracy_not_comparable': '50.0',
    'teacher_test_accuracy': '', 'commit': '', 'A': '-1', 'B': '',
  }  # fmt: skip
  assert weighted == both | {
    'name': 'dss_f1_s1', 'method': 'dss', 'teacher': 'palm', 'alpha': '0.2',
    'seed': '1', 'kinds': 'thought+program', 'test_accuracy': '60.0',
    'test_questions': '20', 'test_low': '55.0', 'test_high': '65.0',
    'validation_accuracy': '70.0', 'validation_questions': '10',
    'validation_low': '65.0', 'validation_high': '75.0',
    'best_validation_step': '40', 'test_accuracy_at_best_validation': '62.5',
    'best_test_step': '20', 'best_test_accuracy_not_comparable': '64.0',
    'teacher_test_accuracy': '90.0', 'commit': _COMMIT, 'A': "'x'",
    'B': "'=2",
  }  # fmt: skip
  # Without kinds there is no column of them.
  assert 'kinds' not in summary.csv_text(_runs()[:1]).splitlines()[0]


_CAPTION = (
  'Accuracy of labels on test in percent: mean ± standard error over seeds; of'
  ' a single seed, the 95% interval for its questions alone.'
)


def _rows(table):
  nothing = statistics.Mean(50.0, None, 1)
  mean = statistics.Mean(62.5, 1.25, 3)
  found = statistics.Difference(12.5, -0.25, 20.0, 0.0004, 3, 20)
  one, other = table.arms
  (cell,) = table.cells
  return [
    comparison.Row(cell, one, (0,), nothing, None, nothing, interval=(40, 60)),
    comparison.Row(cell, other, (0, 1, 2), mean, mean, mean, found, 0.25),
  ]


def test_a_summary_is_this_text():
  """Each part once, in order: else a warning, or a column, is not seen."""
  table = cells.arrange(_runs())
  said = summary.markdown(table, _rows(table), ['a.png', 'b.c.png'], 3)
  head, *parts, end = said.split('\n\n')
  assert head == '# Study: cqa (sample)'
  assert parts == [
    '2 of 3 runs are finished.',
    'The data do not decide between dss and finetune with all rows (+12.5'
    ' points, 95% interval −0.2 to +20.0).',
    'Differences are paired over the same seeds (3) and the same test questions'
    ' (20). Better and worse mean that p is below 0.05. Where the data do not'
    ' decide, that is no evidence of equality: every difference in the interval'
    ' agrees with them.',
    '**With all rows, methods have different seeds (finetune: 0; dss: 1):'
    ' differences are of common ones only.**',
    '**Runs have different commits: abababababab+; none.**',
    _CAPTION + ' Differences are to finetune.',
    '| trained on | method | seeds | last step | best on validation | best on'
    ' test¹ | difference² | 95% interval | p | p, corrected³ |\n'
    '| -- | -- | -- | -- | -- | -- | -- | -- | -- | -- |\n'
    '| all rows (900) | finetune | 1 | 50.0 (40.0 to 60.0) |  | 50.0 |  |  |  |'
    '  |\n'
    '| all rows (900) | dss | 3 | 62.5 ± 1.2 | 62.5 ± 1.2 | 62.5 ± 1.2 | +12.5'
    ' | −0.2 to +20.0 | \\<0.001 | 0.250 |',
    '\\\n'.join(summary.footnotes(table)),
    '![a](a.png)',
    '![b](b.c.png)',
    '## What differs between the methods',
  ]
  assert end == (
    '|  | finetune | dss |\n'
    '| -- | -- | -- |\n'
    '| label examples a step | 16 | 16 |\n'
    '| steps | 60 | 60 |\n'
    '| A | -1 | x |\n'
    '| B | — | =2 |\n'
  )


@pytest.mark.parametrize('arms', [0, 1, 2])
def test_without_two_arms_there_is_nothing_to_compare(arms):
  """Else a table has columns, and notes on them, that are always empty."""
  table = cells.arrange(_runs()[:arms])
  names, notes = summary.columns(table), summary.footnotes(table)
  assert len(names) == (10 if arms == 2 else 6)
  assert names[:6] == (
    *('trained on', 'method', 'seeds', 'last step'),
    *('best on validation', 'best on test¹'),
  )
  assert [note[0] for note in notes] == (
    ['¹', '²', '³'] if arms == 2 else ['¹']
  )
  assert summary.caption(table) == _CAPTION + (
    ' Differences are to finetune.' if arms == 2 else ''
  )
  if arms == 1:
    row, _ = _rows(cells.arrange(_runs()))
    assert summary.cells_of(table, row) == [
      *('all rows (900)', 'finetune', '1', '50.0 (40.0 to 60.0)', '', '50.0')
    ]
    said = summary.markdown(table, [row], [])
    assert '1 run finished.' in said and 'What differs' not in said


@pytest.mark.parametrize(
  ('planned', 'text'),
  [
    (None, '2 runs finished.'),
    (1, '2 runs finished.'),
    (2, '2 runs finished.'),
    (3, '2 of 3 runs are finished.'),
  ],
)
def test_what_is_planned_is_told_while_it_is_not_done(planned, text):
  assert summary.state(cells.arrange(_runs()), planned) == text


def test_a_study_without_a_run_is_two_lines():
  assert summary.markdown(cells.arrange([]), [], ['a.png'], 4) == (
    '# Study: no finished run yet\n\n0 of 4 runs are finished.\n'
  )
