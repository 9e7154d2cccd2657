"""Arms and cells: what is compared, where, and what both are called."""

import dataclasses

import pytest

from dss_jax.study.report import cells
from tests.dss_jax.study import finished_run


def _result(method='dss', seed=0, parameters=345_088, **changes):
  return finished_run.result(
    finished_run.spec(method, seed, **changes), parameters=parameters
  )


def _names(*runs):
  table = cells.arrange(runs)
  return [table.name(arm) for arm in table.arms]


def test_arms_are_named_by_what_tells_them_apart():
  assert _names(
    *(
      _result(alpha=alpha, teacher=teacher)
      for alpha, teacher in ((0.2, 'palm'), (0.5, 'palm'), (0.5, 'mine'))
    )
  ) == [
    'dss, by palm, α = 0.2',
    'dss, by palm, α = 0.5',
    'dss, by mine, α = 0.5',
  ]
  # What others of the same method have, and only that, is said.
  assert _names(
    _result('finetune'),
    _result(),
    _result(labels='teacher'),
    _result('shuffled', kinds='thought+program'),
    _result('shuffled'),
    _result('single_task', teacher='mine', kinds='thought'),
  ) == [
    'finetune',
    *('dss, gold labels', 'dss, teacher labels'),
    *('shuffled, thought + program', 'shuffled, one kind'),
    'single_task',
  ]


def test_a_cell_is_named_by_what_is_not_the_same_in_all():
  runs = [
    _result(size=size, fraction=fraction, data=data)
    for data in ('sample', 'release')
    for size in ('tiny', 'base')
    for fraction in (1.0, 0.25)
  ]
  table = cells.arrange(runs)
  # By data and size as they came, then by growing fraction.
  assert [table.place(cell) for cell in table.cells] == [
    f'cqa ({data}), {size}, {rows}'
    for data in ('sample', 'release')
    for size in ('tiny', 'base')
    for rows in ('0.25 of the rows', 'all rows')
  ]
  table = cells.arrange(runs[:4])
  assert table.place(table.cells[0]) == 'tiny, 0.25 of the rows'
  table = cells.arrange(runs[:2])
  assert [table.place_with_rows(cell) for cell in table.cells] == [
    '0.25 of the rows (225)',
    'all rows (900)',
  ]
  assert [table.tick(cell) for cell in table.cells] == ['0.25\n225', '1\n900']


@pytest.mark.parametrize('counts', [(900, 899), (None, None)])
def test_a_number_of_rows_that_is_not_one_is_not_said(counts):
  """Else a figure names the rows of one method for all of them."""
  table = cells.arrange(
    [
      _result(method, train_rows=count)
      for method, count in zip(('finetune', 'dss'), counts, strict=True)
    ]
  )
  (cell,) = table.cells
  assert table.place_with_rows(cell) == 'all rows'
  assert table.tick(cell) == '1'


def test_runs_are_by_seed_and_arms_by_the_methods_of_the_study():
  runs = [
    _result(method, seed)
    for method in ('single_task', 'dss', 'finetune')
    for seed in (10, 2, 0)
  ]
  table = cells.arrange(runs, ['finetune', 'dss'])
  assert [arm.method for arm in table.arms] == [
    *('finetune', 'dss', 'single_task')
  ]
  assert table.first == table.arms[0]
  (cell,) = table.cells
  for arm in table.arms:
    assert [run.spec.seed for run in table.at(cell, arm)] == [0, 2, 10]
    assert table.all_of(arm) == table.at(cell, arm)
  other = dataclasses.replace(cell, size='base')
  assert table.at(other, table.first) == []
  with pytest.raises(dataclasses.FrozenInstanceError):
    table.arms = ()


def test_sizes_are_from_the_fewest_parameters_on():
  runs = [
    _result(seed=seed, size=size, parameters=parameters)
    for seed in (0, 1)
    for size, parameters in (('base', 220), ('tiny', 3), ('small', 60))
  ]
  assert cells.arrange(runs).sizes() == ['tiny', 'small', 'base']


def test_the_teachers_accuracy_has_its_name_where_one_is_used():
  plain = _result('finetune')
  assert cells.arrange([plain]).teachers() == {'teacher': 90.0}
  assert cells.arrange([plain, _result()]).teachers() == {'palm': 90.0}
  mine = _result(teacher='mine', teacher_accuracy={'test': 80.0})
  assert cells.arrange([mine, plain, _result()]).teachers() == {
    'mine': 80.0,
    'palm': 90.0,
  }
  unknown = _result(teacher_accuracy={'validation': 70.0})
  assert cells.arrange([unknown]).teachers() == {}
