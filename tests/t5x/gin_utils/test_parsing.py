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


def test_a_misspelt_parameter_of_a_name_that_two_modules_have(tmp_path):
  files = []
  for module, name in (('scalable_t5', 'rate'), ('t5', 'rat')):
    path = tmp_path / f'{module}.gin'
    path.write_text(
      'from __gin__ import dynamic_registration\n'
      f'from t5x.examples.{module} import network\n'
      f'network.T5Config.dropout_{name} = 0.1\n'
    )
    files.append(str(path))
  with pytest.raises(errors.UserError, match="named 'dropout_rat'"):
    gin_utils.parse_gin_flags([], files, [])


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


@pytest.mark.parametrize('value', ['finetune', 'gpt-neox', 'x1'])
def test_a_bare_word_is_a_string(gin_file, value):
  gin_utils.parse_gin_flags([], [gin_file], [f'measure.unit = {value}'])
  assert measure() == f'3 {value}'


@pytest.mark.parametrize(
  ('value', 'found'),
  [
    ('5', '5'),
    ('1e-3', '0.001'),
    ('-2', '-2'),
    ('True', 'True'),
    ('None', 'None'),
    ("'a b'", 'a b'),
    ('(1, 2)', '(1, 2)'),
    ('@gin.singleton', None),
  ],
)
def test_what_gin_can_read_is_what_it_is(gin_file, value, found):
  gin_utils.parse_gin_flags(
    [], [gin_file], [f'LENGTH = {value}', "measure.unit = 'm'"]
  )
  assert found is None or measure() == f'{found} m'


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    ('runs/mine', r"""--gin\.LENGTH="'runs/mine'"\.$"""),
    ('gs://a/b', r"""--gin\.LENGTH="'gs://a/b'"\.$"""),
    ('two words', r"""--gin\.LENGTH="'two words'"\.$"""),
    ('true', r"""Give --gin\.LENGTH=True, or --gin\.LENGTH="'true'" for"""),
    ('NONE', r'Give --gin\.LENGTH=None, or'),
    ('{1: ', 'opened in a file or a'),
  ],
)
def test_a_value_that_gin_cannot_read_is_corrected(gin_file, value, message):
  with pytest.raises(errors.UserError, match=message):
    gin_utils.parse_gin_flags([], [gin_file], [f'LENGTH = {value}'])


_IMPORTS = 'from __gin__ import dynamic_registration\nfrom t5x import utils\n'


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    (
      "utils.DatasetConfg.split = 'x'",
      r"(?s)utils\.DatasetConfg: the module t5x\.utils has no 'DatasetConfg'\."
      r" Did you mean 'DatasetConfig'\?.*mine\.gin.*line 3",
    ),
    (
      'LENGTH = @utils.get_datset()',
      r"get_datset: the module t5x\.utils has no .*mean 'get_dataset'\?",
    ),
    (
      'trainer.Trainer.num_microbatches = 1',
      r"(?s)'trainer' was not provided by an import.*Add the import to the",
    ),
  ],
)
def test_a_name_that_a_module_lacks_is_refused(tmp_path, line, message):
  mine = tmp_path / 'mine.gin'
  mine.write_text(_IMPORTS + line + '\n')
  with pytest.raises(errors.UserError, match=message):
    gin_utils.parse_gin_flags([], [str(mine)], [])


def test_a_mistake_within_an_imported_module_passes(tmp_path, monkeypatch):
  (tmp_path / 'has_a_mistake.py').write_text('import os\nos.no_such\n')
  monkeypatch.syspath_prepend(tmp_path)
  mine = tmp_path / 'mine.gin'
  mine.write_text(
    'from __gin__ import dynamic_registration\nimport has_a_mistake\n'
  )
  with pytest.raises(AttributeError, match="'os' has no attribute 'no_such'"):
    gin_utils.parse_gin_flags([], [str(mine)], [])


@gin.configurable
def uses_a_function_wrongly():
  return _needs_two(1)


def _needs_two(first, second):
  return first, second


@gin.configurable
class Ruler:
  def __init__(self, length, *, unit):
    self.length, self.unit = length, unit


@pytest.mark.parametrize(
  ('function', 'message'),
  [
    (
      measure,
      "measure needs 'length', which nothing binds. Bind measure.length",
    ),
    (Ruler, "Ruler needs 'length', which nothing binds. Bind Ruler.length in"),
  ],
)
def test_an_argument_that_nothing_binds_is_named(function, message, capsys):
  with (
    pytest.raises(SystemExit) as stop,
    gin_utils.user_errors_end_the_process(),
  ):
    function()
  assert stop.value.code == 2
  assert message in capsys.readouterr().err


def test_a_call_in_the_code_that_lacks_arguments_passes():
  with (
    pytest.raises(TypeError, match='_needs_two'),
    gin_utils.user_errors_end_the_process(),
  ):
    uses_a_function_wrongly()
