"""Tests of a run's gin file: what it says, and how it is compared."""

import pytest

from dss_jax import errors
from dss_jax.training import options as options_lib
from dss_jax.training import run_file
from t5x import errors as t5x_errors
from t5x import files, gin_utils
from t5x.cli import gin_reader

_DECIDED = (
  run_file.Group('Because\nof rows.', {'ALPHA': 0.5, 'CLASSES': ["it's", 'b']}),
  run_file.Group('And so.', {'EVAL_PERIOD': 7}),
)


def _asked(**given):
  return options_lib.Options(
    **({'what': 'rows.jsonl', 'method': 'dss', 'out': 'runs/a'} | given)
  )


def test_the_file_is_read_as_it_was_meant(rows):
  del rows
  asked = _asked(set={'ALPHA': '0.3'})
  made = run_file.compose(asked, _DECIDED)
  found = gin_reader.read_text(made.text, 'run.gin').macros
  assert {k: v.value for k, v in found.items() if v.file == 'run.gin'} == {
    'DATA': 'rows.jsonl',
    'METHOD': 'dss',
    'MODEL_DIR': 'runs/a',
    # What is asked for wins.
    'ALPHA': 0.3,
    'CLASSES': ["it's", 'b'],
    'EVAL_PERIOD': 7,
  }
  assert '# Because of rows.\nCLASSES = ' in made.text
  assert '#   dss train rows.jsonl --method dss --set ALPHA=0.3' in made.text
  assert made.includes == asked.includes
  assert list(made.asked) == ['DATA', 'METHOD', 'MODEL_DIR', 'ALPHA']
  assert max(map(len, made.text.splitlines())) <= 80


def test_a_name_of_a_file_breaks_no_line(rows):
  name = "a'\nMODEL_DIR = 3 \x1b[2J #.jsonl"
  (rows / name).write_text('{"input": "a"}')
  text = run_file.compose(_asked(what=name), []).text
  found = gin_reader.read_text(text, 'run.gin').macros
  assert found['DATA'].value == name
  assert found['MODEL_DIR'].value == 'runs/a'
  assert '\x1b' not in text.partition('# ---- As asked')[0]


def test_gin_itself_takes_it(rows):
  del rows
  text = run_file.compose(_asked(), _DECIDED).text
  folder = run_file.Folder('runs/a')
  folder.write(run_file.parse(text, 'run.gin'))
  from dss_jax import run_config

  with run_config.configured([folder.path], []):
    assert run_config.macro('EXPERIMENT').rows.classes == ("it's", 'b')
    assert gin_utils.bindings()['EVAL_PERIOD'] == '7'


@pytest.fixture
def begun(rows):
  """A folder with a run that has saved two steps."""
  folder = run_file.Folder('runs/a')
  folder.write(run_file.compose(_asked(), _DECIDED))
  for step in (20, 100):
    (rows / 'runs' / 'a' / f'checkpoint_{step}').mkdir()
  (rows / 'runs' / 'a' / 'checkpoint_200.tmp').mkdir()
  return folder


def test_a_run_goes_on_by_its_own_file(begun):
  assert begun.step == 100
  there = begun.begun(_asked())
  assert 'EVAL_PERIOD = 7' in there.text


@pytest.mark.parametrize(
  ('given', 'difference'),
  [
    ({'method': 'finetune'}, "METHOD: 'dss' there, 'finetune' here"),
    ({'method': None}, "METHOD: 'dss' there, not given here"),
    ({'steps': 9}, 'TRAIN_STEPS: not given there, 9 here'),
    ({'set': {'ALPHA': '0.5'}}, 'ALPHA: not given there, 0.5 here'),
    ({'size': 'base'}, 'gin files: gin/dss_custom.gin there, .*base.gin here'),
  ],
)
def test_another_run_is_refused(begun, given, difference):
  with pytest.raises(errors.DataError, match=difference) as raised:
    begun.begun(_asked(**given))
  assert 'holds step 100 of another run' in str(raised.value)
  assert 'Give another --out' in str(raised.value)


def test_a_changed_file_is_another_run(begun, rows):
  path = rows / begun.path
  path.write_text(
    path.read_text().replace("'runs/a'\n", "'runs/a'\nKEEP = 1\n")
  )
  with pytest.raises(errors.DataError, match='KEEP: 1 there, not given here'):
    begun.begun(_asked())


def test_a_run_of_another_program_is_refused(begun, rows):
  (rows / begun.path).unlink()
  with pytest.raises(errors.DataError, match=r'checkpoint_100 and no run\.gin'):
    begun.begun(_asked())


def test_a_folder_without_a_checkpoint_is_new(rows):
  folder = run_file.Folder('runs/a')
  folder.write(run_file.compose(_asked(), []))
  assert folder.begun(_asked(method='finetune')) is None
  assert run_file.Folder(str(rows / 'absent')).begun(_asked()) is None


def test_a_file_without_a_step_is_replaced_and_said(rows):
  del rows
  folder = run_file.Folder('runs/a')
  assert not folder.write(run_file.compose(_asked(), []))
  assert not folder.write(run_file.compose(_asked(), []))
  assert folder.write(run_file.compose(_asked(method='finetune'), []))


def test_the_file_of_a_run_at_work_is_not_replaced(rows):
  folder = run_file.Folder('runs/a')
  folder.write(run_file.compose(_asked(), []))
  with files.folder_lock.writing('runs/a'):
    # A process that begins the same run is told so by the run itself.
    assert not folder.write(run_file.compose(_asked(), []))
    with pytest.raises(t5x_errors.UserError, match='runs/a'):
      folder.write(run_file.compose(_asked(method='finetune'), []))
  assert "METHOD = 'dss'" in (rows / folder.path).read_text()
