"""Tests of the command `dss study`."""

import json
import pathlib

import pytest

from dss_jax import cli
from dss_jax.study import command, study_file
from tests.dss_jax.study import commands

_STUDIES = pathlib.Path(__file__).parents[3] / 'docs' / 'studies'


def _refused(capsys, *arguments):
  with pytest.raises(SystemExit) as stopped:
    cli.main(['study', *arguments])
  assert stopped.value.code == 2
  return capsys.readouterr().err


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['cqa'], '--out: expected a folder'),
    (['cqa', '--out', 'gs://a/b'], 'expected a folder of this machine'),
    (['cqa', '--out', 'x', '--methods', 'ds'], "Did you mean 'dss'?"),
    (['cqa', '--out', 'x', '--fractions', 'a'], 'expected numbers'),
    (['cqa', '--out', 'x', '--set', 'A'], 'expected NAME=VALUE'),
    (['cqa', '--out', 'x', '--set', 'A=[1'], 'expected a value such as'),
    (['cqa', '--out', 'x', '--column', 'q'], 'expected NAME=COLUMN'),
    (['cqa', '--out', 'x', '--resources', 'GPU=1'], 'expected --scheduler'),
    (['cqa', '--out', 'x', '--experiment', 'svamp'], 'expected a study file'),
    (
      ['cqa', '--out', 'x', '--workers', '2', '--scheduler', 'tcp://a:1'],
      'expected one of them',
    ),
    (['cqq', '--out', 'x', '--dry-run'], "Did you mean 'cqa'?"),
    (['sample', '--out', 'x', '--dry-run'], "'sample' is a value of --data"),
    (['none.yaml', '--out', 'x'], 'none.yaml: expected a study file'),
  ],
)
def test_a_mistake_is_one_message(
  tmp_path, monkeypatch, capsys, arguments, message
):
  monkeypatch.chdir(tmp_path)
  assert message in _refused(capsys, *arguments)
  assert not (tmp_path / 'x').exists()


def test_options_win_over_those_of_a_study_file(tmp_path):
  path = tmp_path / 'a.yaml'
  path.write_text('experiment: cqa\nseeds: 4\nset: {A: 1, B: 2}\n')
  asked = command._asked(
    str(path), {'seeds': 1, 'set': {'B': '3'}, 'experiment': 'svamp'}
  )
  assert asked == {
    'experiment': 'svamp',
    'seeds': 1,
    'set': {'A': '1', 'B': '3'},
  }


@pytest.mark.parametrize('path', sorted(_STUDIES.glob('*.yaml')), ids=str)
def test_study_files_of_the_docs_are_grids(path):
  grid = study_file.grid_of(study_file.load(path))
  assert len(grid.points) > 7
  head = path.read_text()
  assert f'# dss study docs/studies/{path.name} --out' in head


def test_a_dry_run_prints_the_runs_and_does_nothing(tmp_path):
  code, shown, error = commands.call(
    tmp_path,
    *('svamp', '--methods', 'finetune,distill,dss,single_task,shuffled'),
    *('--fractions', '0.5', '--seeds', '2', '--out', 'x', '--dry-run'),
  )
  assert code == 0, error
  assert '10 runs, 0 of them done.' in shown
  rows = [line.split() for line in shown.splitlines() if '_f0.5 ' in line]
  # All have as many label examples a step.
  assert len(rows) == 5
  assert all(' '.join(row).count(' 1000 16 ') == 1 for row in rows)
  assert 'python -m t5x.train --gin_file=gin/dss_svamp.gin' in shown
  assert not (tmp_path / 'x').exists()


@pytest.mark.slow
def test_runs_that_cannot_be_compared_are_refused(tmp_path):
  code, _, error = commands.call(
    tmp_path,
    *('svamp', '--methods', 'finetune,dss', '--seeds', '1', '--out', 'x'),
    *('--set', 'LABELS_PER_STEP=None', '--set', 'BATCH_SIZE=8'),
  )
  assert code == 2
  assert 'finetune_f1_s0 and dss_f1_s0 are not comparable' in error
  assert 'Traceback' not in error


@pytest.mark.slow
def test_own_rows_end_in_a_report_and_failures_are_named(tmp_path):
  rows = [
    {
      'q': f'Is {n} even?',
      'label': 'no' if n % 2 else 'yes',
      'rationale': f'{n} ends in {n % 10}.',
    }
    for n in range(60)
  ]
  (tmp_path / 'rows.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  arguments = [
    *('rows.jsonl', '--methods', 'finetune,dss', '--seeds', '1'),
    *('--fractions', '0.5', '--steps', '6', '--set', 'WARMUP_STEPS=1'),
    *('--column', 'input=q', '--set', 'EVAL_PERIOD=3'),
    *('--out', 'out'),
  ]
  out = tmp_path / 'out'
  # A file in the way of one run.
  (out / 'runs').mkdir(parents=True)
  in_the_way = out / 'runs' / 'dss_f0.5_s0' / 'model-info.txt'
  in_the_way.mkdir(parents=True)
  code, shown, error = commands.call(tmp_path, *arguments)
  assert code == 1
  assert 'finetune_f0.5_s0: done' in shown
  assert 'dss_f0.5_s0 failed: exit code' in error
  assert 'its log: out/runs/dss_f0.5_s0/log.txt' in error
  in_the_way.rmdir()
  code, shown, error = commands.call(tmp_path, *arguments)
  assert code == 0, error
  assert '1 of 2 runs are done already' in shown
  assert '2 runs finished.' in shown and 'Page  out/report.html' in shown
  assert (out / 'report.html').exists()
  lines = (out / 'results.jsonl').read_text().splitlines()
  assert [json.loads(line)['name'] for line in lines] == [
    *('finetune_f0.5_s0', 'dss_f0.5_s0'),
  ]
  # Other rows under the same name are another study.
  (tmp_path / 'rows.jsonl').write_text('\n'.join(map(json.dumps, rows[:50])))
  code, _, error = commands.call(tmp_path, *arguments)
  assert code == 2
  assert 'was made with another configuration' in error
  assert 'trained on: ' in error
