"""Tests of the runs that a grid comes to."""

import ast
import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dss_jax import errors
from dss_jax.study import grid as grid_lib

Grid = grid_lib.Grid

_FRACTIONS = (0.125, 0.25, 0.5, 0.75, 1.0, 0.1, 1 / 3)
_GRIDS = st.builds(
  Grid,
  experiment=st.just('cqa'),
  methods=st.permutations(list(grid_lib.METHODS)).flatmap(
    lambda names: st.integers(1, len(names)).map(lambda n: tuple(names[:n]))
  ),
  fractions=st.sets(st.sampled_from(_FRACTIONS), min_size=1).map(tuple),
  seeds=st.integers(1, 3),
  sizes=st.sets(st.sampled_from(['base', 't5_1_0/base'])).map(tuple),
  labels=st.sampled_from([('gold',), ('teacher',), ('gold', 'teacher')]),
  teachers=st.sets(st.sampled_from(['palm', 'mine', 'base'])).map(tuple),
  alphas=st.sets(st.sampled_from([0.0, 0.5, 1.0, 0.25])).map(tuple),
)


def _names(**options):
  return [point.name for point in Grid('cqa', **options).points]


def test_a_seed_of_everything_comes_before_the_next_seed():
  assert _names(methods=('finetune', 'dss'), fractions=(0.5, 1.0), seeds=2) == [
    *('finetune_f0.5_s0', 'dss_f0.5_s0', 'finetune_f1_s0', 'dss_f1_s0'),
    *('finetune_f0.5_s1', 'dss_f0.5_s1', 'finetune_f1_s1', 'dss_f1_s1'),
  ]


def test_names_say_what_the_grid_gives():
  assert _names(
    methods=('dss',),
    seeds=1,
    sizes=('t5_1_0/base',),
    labels=('gold', 'teacher'),
    teachers=('mine',),
    alphas=(0.5,),
  ) == [
    'dss_f1_s0_t5_1_0-base_by-mine_a0.5',
    'dss_f1_s0_t5_1_0-base_teacher-labels_by-mine_a0.5',
  ]


def test_without_options_a_grid_is_finetuning_and_dss_on_all_rows():
  made = Grid('cqa')
  # One seed of both before the next, of three.
  assert [point.name for point in made.points] == [
    f'{method}_f1_s{seed}' for seed in range(3) for method in made.methods
  ]
  assert made.methods == ('finetune', 'dss')
  # The last checkpoint alone is kept, and rationales are not evaluated.
  assert made.bindings(made.points[1]) == {
    'EVAL_RATIONALES': 'False',
    'KEEP': '1',
    'METHOD': "'dss'",
    'FRACTION': '1.0',
    'RANDOM_SEED': '0',
  }


def test_each_method_is_macros_of_its_own():
  found = {}
  for method in grid_lib.METHODS:
    macros = grid_lib.Point(method, 0.5, 2).macros
    assert (macros.pop('FRACTION'), macros.pop('RANDOM_SEED')) == (0.5, 2)
    found[method] = macros
  assert found == {
    'finetune': {'METHOD': 'finetune'},
    'distill': {'METHOD': 'finetune', 'LABELS': 'teacher'},
    'dss': {'METHOD': 'dss'},
    'single_task': {'METHOD': 'single_task'},
    'shuffled': {'METHOD': 'dss', 'SHUFFLE_RATIONALES': True},
  }
  # The table of methods is not changed by what a run adds to its macros.
  assert grid_lib.METHODS['finetune'] == {'METHOD': 'finetune'}


def test_options_become_the_macros_of_a_run():
  made = Grid(
    'cqa',
    methods=('dss',),
    seeds=1,
    labels=('teacher',),
    teachers=('mine',),
    alphas=(0.25,),
    data='release',
    steps=1,
    rationales=True,
    set={'TRAIN': "'x'"},
  )
  (point,) = made.points
  assert made.bindings(point) == {
    'EVAL_RATIONALES': 'True',
    'KEEP': '1',
    'DATA': "'release'",
    'TRAIN_STEPS': '1',
    'METHOD': "'dss'",
    'LABELS': "'teacher'",
    'FRACTION': '1.0',
    'RANDOM_SEED': '0',
    'TEACHER': "'mine'",
    'ALPHA': '0.25',
    'TRAIN': "'x'",
  }


def test_a_grid_and_its_runs_cannot_be_changed():
  """What was checked when it was made stays so."""
  made = Grid('cqa')
  for one, name in ((made, 'seeds'), (made.points[0], 'seed')):
    with pytest.raises(dataclasses.FrozenInstanceError):
      setattr(one, name, -1)


def test_what_makes_no_difference_makes_no_run():
  assert _names(
    methods=('finetune', 'distill', 'dss'),
    seeds=1,
    teachers=('palm', 'mine'),
    alphas=(0.2, 0.5),
  ) == [
    *('finetune_f1_s0', 'distill_f1_s0_by-palm', 'distill_f1_s0_by-mine'),
    *('dss_f1_s0_by-palm_a0.2', 'dss_f1_s0_by-palm_a0.5'),
    *('dss_f1_s0_by-mine_a0.2', 'dss_f1_s0_by-mine_a0.5'),
  ]
  # One loss has no weight, and shuffled rationales are a teacher's as well.
  assert _names(
    methods=('single_task', 'shuffled'),
    seeds=1,
    teachers=('palm',),
    alphas=(0.2, 0.5),
  ) == [
    'single_task_f1_s0_by-palm',
    *('shuffled_f1_s0_by-palm_a0.2', 'shuffled_f1_s0_by-palm_a0.5'),
  ]


def test_finetuning_on_teacher_labels_is_distillation_and_runs_once():
  points = Grid(
    'cqa',
    methods=('finetune', 'distill'),
    labels=('gold', 'teacher'),
    seeds=1,
  ).points
  assert [point.name for point in points] == ['finetune_f1_s0', 'distill_f1_s0']
  assert points[1].macros == {
    'METHOD': 'finetune',
    'LABELS': 'teacher',
    'FRACTION': 1.0,
    'RANDOM_SEED': 0,
  }


@given(_GRIDS)
def test_every_name_and_every_configuration_is_there_once(grid):
  points = grid.points
  assert len({point.name for point in points}) == len(points)
  # On most file systems names may not differ by case alone, either.
  assert len({point.name.lower() for point in points}) == len(points)
  settings = [tuple(sorted(p.macros.items())) + (p.size,) for p in points]
  assert len(set(settings)) == len(points)
  assert all('/' not in point.name for point in points)


@given(_GRIDS, _GRIDS)
def test_a_grid_that_grows_keeps_its_runs(small, other):
  """Each axis that is given may get more values, and names stay."""
  grown = {}
  for name in ('methods', 'fractions', 'sizes', 'teachers', 'alphas'):
    mine, more = getattr(small, name), getattr(other, name)
    if mine:
      grown[name] = (*mine, *(v for v in more if v not in mine))
  large = dataclasses.replace(
    small, seeds=small.seeds + 1, labels=('gold', 'teacher'), **grown
  )
  after = {point.name: point for point in large.points}
  for point in small.points:
    assert after.get(point.name) == point
  if small.labels != ('teacher',):
    assert list(grid_lib.differences(small, large)) == []


def test_a_changed_setting_and_a_missing_run_are_named():
  before = Grid('cqa', methods=('dss',), seeds=2, steps=100)
  found = list(
    grid_lib.differences(
      before, Grid('cqa', methods=('dss',), seeds=1, steps=200)
    )
  )
  assert found == [
    'TRAIN_STEPS of dss_f1_s0: 100 there, 200 here',
    'the run dss_f1_s1: there, not here',
  ]
  assert list(
    grid_lib.differences(
      before, Grid('svamp', methods=('dss',), seeds=2, steps=100)
    )
  ) == ['experiment: cqa there, svamp here']
  # What follows a missing run is named as well, and what became smaller.
  before = Grid(
    'svamp', seeds=1, steps=200, gin_file=('b.gin', 'c.gin'), set={'OLD': '1'}
  )
  now = Grid('cqa', methods=('dss',), seeds=1, steps=100, set={'NEW': '2'})
  assert list(grid_lib.differences(before, now)) == [
    'experiment: svamp there, cqa here',
    'gin_file: b.gin, c.gin there, nothing here',
    'the run finetune_f1_s0: there, not here',
    'NEW of dss_f1_s0: nothing there, 2 here',
    'OLD of dss_f1_s0: 1 there, nothing here',
    'TRAIN_STEPS of dss_f1_s0: 200 there, 100 here',
  ]


@pytest.mark.parametrize(
  ('text', 'value'),
  [
    ('release', "'release'"),
    ('runs/a b', "'runs/a b'"),
    ('1e-4', '1e-4'),
    ('None', 'None'),
    ('True', 'True'),
    ("'1'", "'1'"),
    ('@optimization.linear_decay()', '@optimization.linear_decay()'),
    ('%BATCH_SIZE', '%BATCH_SIZE'),
    ("{'inputs': 512}", "{'inputs': 512}"),
    ('[@a.B(), 3]', '[@a.B(), 3]'),
    ('-3', '-3'),
    ("it's", '"it\'s"'),
    (3, '3'),
    (False, 'False'),
    (' 3 ', '3'),
    # What Python itself gives up on is text.
    ('1' + '+1' * 5000, repr('1' + '+1' * 5000)),
    ('-' * 9000 + '1', repr('-' * 9000 + '1')),
  ],
  ids=lambda value: str(value)[:40],
)
def test_bare_words_need_no_quotes(text, value):
  assert grid_lib.gin_value(text) == value


@pytest.mark.parametrize('text', ['[1', '(3', '{"a": ', '"@a', "'%B", '[]['])
def test_what_begins_like_a_value_and_is_none_is_refused(text):
  """Else gin reads half of it, or a text is taken for a reference."""
  with pytest.raises(errors.DataError, match=r'expected a value such as 3'):
    grid_lib.gin_value(text)


@given(st.text(alphabet=st.characters(exclude_categories=['Cs'])))
def test_every_value_is_one_value_or_refused(text):
  try:
    value = grid_lib.gin_value(text)
  except errors.DataError:
    return
  if not value.startswith(('@', '%')) and not {'@', '%'} & set(value):
    ast.literal_eval(value)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'methods': ('fintune',)}, "Did you mean 'finetune'?"),
    ({'methods': ()}, '--methods: expected at least one'),
    ({'fractions': (0.0,)}, '--fractions: expected numbers above 0'),
    ({'fractions': (float('nan'),)}, '--fractions: expected numbers'),
    ({'fractions': (-0.5,)}, '--fractions: expected numbers above 0'),
    ({'fractions': (1.5,)}, '--fractions: expected numbers above 0 up to 1'),
    ({'alphas': (1.5,)}, '--alphas: expected numbers from 0'),
    ({'alphas': (-0.5,)}, '--alphas: expected numbers from 0'),
    ({'fractions': (0.5, 0.5)}, 'expected each value once'),
    ({'seeds': 0}, '--seeds: expected a number from 1'),
    ({'steps': 0}, '--steps: expected a number from 1, found 0'),
    ({'teachers': ('a-b',)}, '--teachers: expected names'),
    ({'teachers': ('gold',)}, "(not gold), found 'gold'"),
    ({'set': {'METHOD': "'dss'"}}, 'use --methods'),
    ({'set': {'RANDOM_SEED': '1'}}, 'use --seeds'),
    ({'set': {'ALPHA': '1'}, 'alphas': (0.5,)}, 'use --alphas'),
    ({'set': {'TRAIN_STEPS': '1'}, 'steps': 2}, 'use --steps'),
    ({'set': {'DATA': "'x'"}, 'data': 'release'}, 'use --data'),
    ({'set': {'TEACHER': "'a'"}, 'teachers': ('mine',)}, 'use --teachers'),
    ({'labels': ('silver',)}, '--labels'),
    ({'set': {'a b': '1'}}, 'expected NAME=VALUE'),
    ({'seeds': 5001}, 'has 10,002 runs: expected at most 10,000. Give fewer'),
    ({'seeds': 10**30}, 'expected at most 10,000'),
  ],
)
def test_a_mistake_is_named(options, message):
  with pytest.raises(errors.DataError, match=re.escape(message)):
    Grid('cqa', **options)


@pytest.mark.parametrize(
  'options',
  [
    {'seeds': 5000},  # 10,000 runs, the most there may be.
    {'steps': 1},
    {'fractions': (1.0, 1e-9), 'alphas': (0.0, 1.0)},
    # The macros of options that are not given.
    {
      'set': {'TEACHERS': "('a',)", 'DATA': "'x'", 'ALPHA': '1', 'TEACHER': 'T'}
    },
    # Names around those of options that are.
    {
      'teachers': ('mine',),
      'alphas': (0.5,),
      'kinds': ('a',),
      'steps': 2,
      'data': 'release',
      'set': {'A': '1', 'MIDDLE': '2', 'ZERO': '3', 'a.b': '4'},
    },
  ],
)
def test_what_is_at_the_bounds_is_a_grid(options):
  """Else a study that is right is refused."""
  Grid('cqa', **options)


def test_settings_win_over_what_a_study_would_choose():
  grid = Grid('cqa', set={'KEEP': '3', 'ALPHA': '0.7'})
  bindings = grid.bindings(grid.points[0])
  assert (bindings['KEEP'], bindings['ALPHA']) == ('3', '0.7')
  assert bindings['METHOD'] == "'finetune'"


def test_kinds_are_learned_alone_and_together(tmp_path):
  rows = tmp_path / 'rows.jsonl'
  rows.write_text('{"input": "a"}\n')
  kinds = ('thought', 'thought+program')
  made = grid_lib.Grid(str(rows), kinds=kinds, seeds=1)
  names = [point.name for point in made.points]
  assert names == [
    'finetune_f1_s0', 'dss_f1_s0_kinds-thought',
    'dss_f1_s0_kinds-thought-program',
  ]  # fmt: skip
  found = [made.bindings(point).get('RATIONALE_KINDS') for point in made.points]
  # Finetuning learns none, but rows with several are read for some.
  assert found == ["('thought',)", "('thought',)", "('thought', 'program')"]
  # Of a data set, they are teachers.
  made = grid_lib.Grid('cqa', kinds=('palm+mine',), methods=('dss',), seeds=1)
  (point,) = made.points
  assert made.bindings(point)['TEACHERS'] == "('palm', 'mine')"


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'kinds': ('a+a',)}, 'expected each name once'),
    ({'kinds': ('a b',)}, "names 'a b'"),
    ({'kinds': ('a',), 'set': {'RATIONALE_KINDS': "('a',)"}}, 'use --kinds'),
    ({'kinds': ('a',), 'set': {'TEACHERS': "('a',)"}}, 'use --kinds'),
  ],
)
def test_kinds_of_a_grid_are_names(options, message):
  with pytest.raises(errors.DataError, match=message):
    grid_lib.Grid('cqa', **options)
