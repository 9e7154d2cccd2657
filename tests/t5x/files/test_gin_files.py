"""Where gin files are found, and what is said of those that are not there."""

import pathlib

import pytest

import dss_jax
import t5x
from t5x import errors
from t5x.files import gin_files

ROOT = pathlib.Path(t5x.__file__).parents[1]


@pytest.fixture
def here(tmp_path, monkeypatch):
  """A working folder with a gin file that includes one in `more/`."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'more').mkdir()
  (tmp_path / 'run.gin').write_text("include 'more/part.gin'\nA = 1\n")
  (tmp_path / 'more' / 'part.gin').write_text("# 'é'\nB = 2\n", 'utf-8')
  return tmp_path


def test_the_package_s_folder_comes_first_then_those_that_ask_for_it():
  found = gin_files.search_paths()
  assert found[0] == str(ROOT)
  assert str(pathlib.Path(dss_jax.__file__).parent) in found
  assert len(set(found)) == len(found)


def test_files_are_found_here_in_the_package_and_in_other_packages(
  here, plain_locale
):
  gin_files.check(
    [
      'run.gin',
      str(here / 'run.gin'),
      't5x/configs/runs/finetune.gin',
      'gs://bucket/any.gin',
    ]
  )
  # Gin finds what lies in an importable package, too.
  assert not pathlib.Path('t5x').exists()
  gin_files._check_file('t5x/configs/runs/finetune.gin', [str(here)])
  gin_files.check(['part.gin'], before=[str(here / 'more')])


@pytest.mark.parametrize(
  ('name', 'said'),
  [
    ('rum.gin', "rum.gin. Did you mean 'run.gin'? Looked in "),
    ('more/prat.gin', "more/prat.gin. Did you mean 'more/part.gin'? Looked"),
    # Of another folder below the same one.
    ('more/deep/part.gin', "Did you mean 'more/part.gin'?"),
    ('t5x/configs/finetune.gin', "mean 't5x/configs/runs/finetune.gin'"),
    ('no_package/zzz.gin', 'no_package/zzz.gin. Looked in '),
    ('./more/deep/part.gin', "Did you mean 'more/part.gin'?"),
    ('t5x/configs/runs/zzz', 'not found: t5x/configs/runs/zzz.'),
    # Not from all that is below the folder above, which may be much.
    ('../mroe/part.gin', 'mroe/part.gin. Looked in '),
    ('../zzz', '../zzz. Looked in '),
  ],
)  # fmt: skip
def test_an_absent_file_is_told_with_one_of_a_like_name(here, name, said):
  with pytest.raises(errors.UserError) as raised:
    gin_files.check([name])
  assert str(raised.value).startswith('Gin file not found: ')
  assert said in str(raised.value)
  assert str(raised.value).endswith(f'{here}, {ROOT}, {_others()}.')


def _others():
  return ', '.join(gin_files.search_paths()[1:])


def test_an_absent_file_of_a_whole_path_is_looked_for_beside_it(here):
  with pytest.raises(errors.UserError, match=f"mean '{here}/run.gin'"):
    gin_files.check([str(here / 'rum.gin')])


def test_what_a_file_includes_has_to_be_there(here):
  (here / 'more' / 'part.gin').write_text("A = 1\ninclude 'absent.gin'\n")
  with pytest.raises(errors.UserError, match=r'not found: absent\.gin'):
    gin_files.check(['run.gin'])
  (here / 'more' / 'part.gin').write_text("include 'run.gin'\n")
  with pytest.raises(errors.UserError, match=r'^run\.gin: .* includes itself'):
    gin_files.check(['run.gin'])
