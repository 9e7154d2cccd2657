"""Tests of what makes runs comparable, and of the folder's checks."""

import dataclasses
import json
import os
import pathlib

import pytest

from dss_jax import errors
from dss_jax.study import configuration, experiments, planned, results
from dss_jax.study import grid as grid_lib


def _run(method, *, labels=16, steps=100, rows=None, size='tiny', **changes):
  point = grid_lib.Point(method, 1.0, changes.get('seed', 0))
  resolved = configuration.Configuration(
    name=f'{point.name}_{size}',
    text='A = 1\n',
    mixture='m',
    data_set='cqa',
    data='sample',
    labels='gold',
    teacher=None,
    alpha=None,
    fraction=1.0,
    seed=0,
    steps=steps,
    eval_period=50,
    batch_rows=rows,
    label_examples=labels,
    train_rows=800,
    teacher_accuracy={},
    by_value=False,
  )
  source = experiments.Source((), {}, size)
  command = configuration.Command(point.name, (), {})
  return planned.Run(planned._spec(source, point, resolved), command, resolved)


def _resolve(commands):
  """Configurations of commands, as if gin had read them; all differ."""
  return [
    configuration.Configuration(
      name=command.name,
      text=f'A = {number}\n',
      mixture='m',
      data_set='svamp',
      data='release',
      labels='teacher',
      teacher='mine',
      alpha=0.25,
      fraction=0.5,
      seed=number,
      steps=100,
      eval_period=50,
      batch_rows=None,
      label_examples=16,
      train_rows=800,
      teacher_accuracy={'test': 80.0},
      by_value=True,
      kinds='thought',
    )
    for number, command in enumerate(commands)
  ]


def test_runs_are_points_with_what_their_commands_come_to(monkeypatch):
  """Else a run is started, or written down, as another one."""
  monkeypatch.setattr(planned.configuration_lib, 'resolve', _resolve)
  asked = grid_lib.Grid(
    'rows/*.csv',
    methods=('finetune', 'dss'),
    seeds=1,
    sizes=('base',),
    gin_file=('my.gin',),
    set={'WARMUP_STEPS': '3'},
  )
  found = planned.runs(asked)
  assert [run.name for run in found] == [
    'finetune_f1_s0_base',
    'dss_f1_s0_base',
  ]
  run = found[1]
  assert run.command == configuration.Command(
    'dss_f1_s0_base',
    ('gin/dss_custom.gin', 'gin/sizes/base.gin', 'my.gin'),
    {'DATA': "'rows/*.csv'", **asked.bindings(asked.points[1])},
  )
  assert run.command.bindings['WARMUP_STEPS'] == '3'
  assert run.configuration == _resolve([run.command] * 2)[1]
  assert run.spec == results.Spec(
    name='dss_f1_s0_base',
    data_set='svamp',
    data='release',
    method='dss',
    labels='teacher',
    teacher='mine',
    alpha=0.25,
    size='base',
    fraction=0.5,
    seed=1,
    steps=100,
    label_examples=16,
    train_rows=800,
    teacher_accuracy={'test': 80.0},
    by_value=True,
    kinds='thought',
  )
  job = run.job(pathlib.Path('out'))
  folder = os.path.join('out', 'runs', run.name)
  assert (job.name, job.out) == (run.name, 'out')
  assert job.flags == tuple(run.command.flags(folder))
  assert job.folder == os.getcwd()
  with pytest.raises(dataclasses.FrozenInstanceError):
    run.spec = None
  # Of the experiment's own size, there is no file.
  (own,) = planned.runs(
    grid_lib.Grid('cqa', methods=('dss',), seeds=1, gin_file=('my.gin',))
  )
  assert own.command.gin_files == ('gin/dss_cqa.gin', 'my.gin')
  assert own.spec.size == 'tiny'


def test_runs_of_a_grid_that_cannot_be_compared_are_refused(monkeypatch):
  """Else a study trains for days what says nothing."""

  def resolve(commands):
    first, other = _resolve(commands)
    return [first, dataclasses.replace(other, steps=50)]

  monkeypatch.setattr(planned.configuration_lib, 'resolve', resolve)
  with pytest.raises(errors.DataError, match='found 100 and 50'):
    planned.runs(grid_lib.Grid('cqa', seeds=1))


def test_equal_steps_are_comparable_and_sizes_are_not_compared():
  planned.check_comparable(
    [
      *(_run('finetune'), _run('dss'), _run('single_task')),
      *(_run('dss', size='base', labels=64, steps=10),),
    ]
  )


@pytest.mark.parametrize(
  ('one', 'other', 'message'),
  [
    ({}, {'labels': 32}, r'label examples a step .*found 16 and 32'),
    ({}, {'steps': 200}, r'steps \(TRAIN_STEPS\).*found 100 and 200'),
    (
      {'labels': None, 'rows': 8},
      {'labels': None, 'rows': 4},
      r'rows a step \(BATCH_SIZE\).*found 8 and 4',
    ),
    (
      {'labels': None, 'rows': 8},
      {'labels': None, 'rows': 8},
      'Count in label examples',
    ),
  ],
)
def test_other_comparisons_are_refused(one, other, message):
  runs = [_run('finetune', **one), _run('dss', **other)]
  with pytest.raises(errors.DataError, match=message) as refused:
    planned.check_comparable(runs)
  assert 'finetune_f1_s0 and dss_f1_s0' in str(refused.value)


def test_rows_are_comparable_where_they_hold_the_same():
  planned.check_comparable(
    [_run(m, labels=None, rows=8) for m in ('dss', 'shuffled')]
  )


def test_epochs_follow_from_label_examples():
  assert _run('dss').epochs == 2.0
  assert _run('dss', labels=24, steps=50).epochs == 1.5
  assert _run('dss', labels=None, rows=8).epochs is None
  uncounted = _run('dss')
  spec = dataclasses.replace(uncounted.spec, train_rows=None)
  assert dataclasses.replace(uncounted, spec=spec).epochs is None


def test_a_folder_of_another_configuration_is_refused(tmp_path):
  run = _run('dss')
  folder = tmp_path / 'runs' / run.name
  (folder / 'checkpoint_10').mkdir(parents=True)
  (folder / 'config.gin').write_text("A = 1\nMODEL_DIR = \\\n    'x/y'\n")
  planned.check_folders(tmp_path, [run])
  (folder / 'run.json').write_text(
    json.dumps({'data': {'mixture_or_task': 'm'}})
  )
  planned.check_folders(tmp_path, [run])
  (folder / 'config.gin').write_text('A = 2\nMODEL_DIR = 3\n')
  with pytest.raises(errors.DataError, match='A: 2 there, 1 here'):
    planned.check_folders(tmp_path, [run])
  (folder / 'config.gin').write_text('A = 1\n')
  other = dataclasses.replace(
    run, configuration=dataclasses.replace(run.configuration, mixture='other')
  )
  with pytest.raises(errors.DataError, match='trained on: m there, other here'):
    planned.check_folders(tmp_path, [other])


def test_a_folder_without_anything_done_is_taken(tmp_path):
  run = _run('dss')
  folder = tmp_path / 'runs' / run.name
  folder.mkdir(parents=True)
  (folder / 'config.gin').write_text('A = 2\n')
  planned.check_folders(tmp_path, [run])
