"""Tests of study files."""

import pytest
from hypothesis import given

from dss_jax import errors
from dss_jax.study import grid as grid_lib
from dss_jax.study import study_file
from tests.dss_jax.study import test_grid


@given(test_grid._GRIDS)
def test_what_is_written_is_read(tmp_path_factory, grid):
  folder = tmp_path_factory.mktemp('study')
  study_file.dump(grid, folder)
  assert study_file.stored(folder) == grid


def test_settings_keep_their_values(tmp_path):
  grid = grid_lib.Grid(
    'cqa',
    data='release',
    steps=20,
    rationales=True,
    gin_file=('a.gin',),
    set={'X': "'a b'", 'Y': '@f.g()', 'Z': '1e-4', 'W': 'None'},
  )
  study_file.dump(grid, tmp_path)
  assert study_file.stored(tmp_path) == grid


@pytest.mark.parametrize('text', ['methods: [dss]', 'experiment: &empty'])
def test_a_folders_file_without_an_experiment_is_refused(tmp_path, text):
  path = tmp_path / study_file.NAME
  path.write_text(text)
  with pytest.raises(errors.DataError, match=r'study.yaml: .*found none'):
    study_file.stored(tmp_path)


def test_a_file_has_the_options_of_the_command(tmp_path):
  path = tmp_path / 'study.yaml'
  path.write_text(
    'experiment: cqa\nmethods: dss\nfractions: [0.5, 1]\nseeds: 2\n'
    'set:\n  LEARNING_RATE: 1e-4\n  DATA: release\n  PAIRED: true\n'
    'out: studies/x\n'
  )
  options = study_file.load(path)
  assert options['out'] == 'studies/x'
  assert study_file.grid_of(options) == grid_lib.Grid(
    'cqa',
    methods=('dss',),
    fractions=(0.5, 1.0),
    seeds=2,
    set={'LEARNING_RATE': '1e-4', 'DATA': "'release'", 'PAIRED': 'True'},
  )


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('metods: [dss]', "'metods' is no option.*Did you mean 'methods'"),
    ('- dss', 'expected options such as'),
    ('seeds: many', 'seeds: expected a whole number'),
    ('seeds: true', 'seeds: expected a whole number'),
    ('fractions: [a]', 'fractions: expected a number'),
    ('set: [a]', 'set: expected lines'),
    ('set: {A: (e,4}', r": set: A: '\(e': expected a value such as"),
    ('rationales: 1', 'rationales: expected true or false'),
    ('a: [', 'expected YAML'),
    ('a: !!python/object/apply:os.system [true]', 'expected YAML'),
    ('methods: &a [dss]\nlabels: *a', r'line 2: expected no aliases.*\*a\.'),
    # Nine of them, each ten of the one before, are a billion texts.
    (
      'set: {a: &a [x,x]}\n<<: {set: {b: [*a,*a]}}',
      'line 2: expected no aliases in a study file',
    ),
    ('methods: ' + '[' * 1500, 'expected YAML'),
    ('seeds: ' + '9' * 5000, 'a number of too many digits'),
    ('steps: 0x' + 'f' * 99, 'a number of too many digits'),
    ('fractions: [1' + ':1' * 5000 + '.5]', 'a number of too many digits'),
    ('steps: ' + '"x"' + ' ' * 2**20, 'of at most 256 KiB'),
  ],
)
def test_a_mistake_is_named(tmp_path, text, message):
  path = tmp_path / 'study.yaml'
  path.write_text(text)
  with pytest.raises(errors.DataError, match=f'(?s){path}.*{message}'):
    study_file.load(path)
