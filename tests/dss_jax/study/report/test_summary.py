"""The table of a study's runs, as others read it."""

import csv
import io

from dss_jax.study import results
from dss_jax.study.report import summary
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
