"""Gin flags become bindings; what is misspelt is said so."""

import os

import pytest

import gin
from t5x import errors, gin_utils


@pytest.fixture(autouse=True)
def _fresh_gin():
  gin.clear_config()
  yield
  gin.clear_config()


@gin.configurable
def measure(length, unit='m'):
  return f'{length} {unit}'


@pytest.fixture
def gin_file(tmp_path):
  path = tmp_path / 'measure.gin'
  path.write_text('LENGTH = 3\nmeasure.length = %LENGTH\n')
  return str(path)


def test_macros_on_the_command_line_become_bindings():
  args = ['prog', '--gin.LENGTH=4', "--gin.measure.unit='km'", '--x=1']
  assert gin_utils.rewrite_gin_args(args) == [
    'prog',
    '--gin_bindings=LENGTH = 4',
    "--gin_bindings=measure.unit = 'km'",
    '--x=1',
  ]


def test_a_macro_without_a_value_is_refused():
  with pytest.raises(errors.UserError, match=r'expected --gin\.NAME=VALUE'):
    gin_utils.rewrite_gin_args(['--gin.LENGTH'])


def test_bindings_win_over_files(gin_file):
  gin_utils.parse_gin_flags([], [gin_file], ['LENGTH = 5'])
  assert measure() == '5 m'


def test_later_files_win(gin_file, tmp_path):
  later = tmp_path / 'later.gin'
  later.write_text("measure.unit = 'cm'\nLENGTH = 7\n")
  gin_utils.parse_gin_flags([], [gin_file, str(later)], [])
  assert measure() == '7 cm'


def test_a_misspelt_macro_is_refused_with_the_closest_one(gin_file):
  with pytest.raises(errors.UserError, match="Did you mean 'LENGTH'"):
    gin_utils.parse_gin_flags([], [gin_file], ['LENGHT = 5'])


def test_a_misspelt_parameter_is_refused(gin_file):
  with pytest.raises(errors.UserError, match='lenght'):
    gin_utils.parse_gin_flags([], [gin_file], ['measure.lenght = 5'])


def test_an_absent_file_names_where_it_was_looked_for():
  with pytest.raises(errors.UserError, match=r'not found: gin/none\.gin'):
    gin_utils.parse_gin_flags([], ['gin/none.gin'], [])


def test_stock_files_are_found_from_any_folder_without_a_word(
  tmp_path, monkeypatch, caplog
):
  monkeypatch.chdir(tmp_path)
  mine = tmp_path / 'mine.gin'
  mine.write_text("include 't5x/examples/t5/t5_1_1/tiny.gin'\n")
  gin_utils.parse_gin_flags([], ['mine.gin'], [])
  assert 'emb_dim = 8' in gin.config_str()
  assert not [r for r in caplog.records if r.levelname == 'ERROR']


def test_an_absent_include_is_named(tmp_path):
  mine = tmp_path / 'mine.gin'
  mine.write_text("include 't5x/examples/t5/t5_1_1/tny.gin'\n")
  with pytest.raises(
    errors.UserError, match=r"not found: .*tny\.gin.*mean '.*/tiny\.gin'"
  ):
    gin_utils.parse_gin_flags([], [str(mine)], [])


def test_a_syntax_error_names_file_and_line(tmp_path):
  path = tmp_path / 'broken.gin'
  path.write_text('LENGTH = 3\nmeasure.length = = 4\n')
  with pytest.raises(errors.UserError, match=r'(?s)broken\.gin.*line 2'):
    gin_utils.parse_gin_flags([], [str(path)], [])


def test_the_config_is_kept_with_the_run(gin_file, tmp_path):
  gin_utils.parse_gin_flags([], [gin_file], ['LENGTH = 5'])
  gin_utils.summarize_gin_config(str(tmp_path / 'run'), None, 0)
  text = (tmp_path / 'run' / 'config.gin').read_text()
  assert 'LENGTH = 5' in text
  assert os.listdir(tmp_path / 'run') == ['config.gin']


def test_a_user_error_ends_the_process_with_code_2(capsys):
  with (
    pytest.raises(SystemExit) as stop,
    gin_utils.user_errors_end_the_process(),
  ):
    raise errors.UserError('the tree has no leaves. Plant one.')
  assert stop.value.code == 2
  assert capsys.readouterr().err == (
    '\nerror: the tree has no leaves. Plant one.\n'
  )


def test_other_errors_pass():
  with (
    pytest.raises(ZeroDivisionError),
    gin_utils.user_errors_end_the_process(),
  ):
    _ = 1 / 0
