"""Tests of the runs that a grid comes to."""

import ast
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
  import dataclasses

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
  ],
)
def test_bare_words_need_no_quotes(text, value):
  assert grid_lib.gin_value(text) == value


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
    ({'alphas': (1.5,)}, '--alphas: expected numbers from 0'),
    ({'fractions': (0.5, 0.5)}, 'expected each value once'),
    ({'seeds': 0}, '--seeds: expected a number from 1'),
    ({'teachers': ('a-b',)}, '--teachers: expected names'),
    ({'set': {'METHOD': "'dss'"}}, 'use --methods'),
    ({'set': {'RANDOM_SEED': '1'}}, 'use --seeds'),
    ({'set': {'ALPHA': '1'}, 'alphas': (0.5,)}, 'use --alphas'),
    ({'set': {'TRAIN_STEPS': '1'}, 'steps': 2}, 'use --steps'),
    ({'set': {'a b': '1'}}, 'expected NAME=VALUE'),
    ({'seeds': 5001}, 'has 10,002 runs: expected at most 10,000. Give fewer'),
    ({'seeds': 10**30}, 'expected at most 10,000'),
  ],
)
def test_a_mistake_is_named(options, message):
  with pytest.raises(errors.DataError, match=re.escape(message)):
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
