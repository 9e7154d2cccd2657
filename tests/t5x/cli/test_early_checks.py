"""Tests of mistakes that are found before large libraries are loaded."""

import subprocess
import sys

import pytest
from absl import flags

from t5x import errors, main
from t5x.cli import early_checks

_CQA = '--gin_file=gin/dss_cqa.gin'


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--gin_fil=a.gin'], "Unknown flag --gin_fil. Did you mean 'gin_file'"),
    ([_CQA, '-zebra'], 'Unknown flag --zebra'),
    ([_CQA, '--process_count=x'], 'Flags: flag --process_count=x: invalid'),
    ([_CQA, '--run_mode=trane'], 'Flags: flag --run_mode=trane'),
    ([], 'No configuration: give at least one --gin_file'),
    (['--gin_file=gin/dss_cq.gin'], "Did you mean 'gin/dss_cqa.gin'"),
    ([_CQA, '--gin.TRAIN_STEP=3'], "Did you mean 'TRAIN_STEPS'"),
    ([_CQA, '--gin.PACK=true'], 'Give --gin.PACK=True'),
    ([_CQA, '--gin.PACK'], 'expected --gin.NAME=VALUE'),
  ],
)
def test_a_mistake_is_found_early(arguments, message):
  with pytest.raises(errors.UserError, match=message):
    early_checks.check(['train.py', *arguments])


def test_a_file_that_is_none_is_found_early(tmp_path):
  path = tmp_path / 'a.gin'
  path.write_text('A = [1')
  with pytest.raises(errors.UserError, match=r'a\.gin: expected a gin file'):
    early_checks.check(['train.py', f'--gin_file={path}'])
  path.write_text(f"include '{tmp_path}/b.gin'")
  with pytest.raises(errors.UserError, match=r'b\.gin'):
    early_checks.check(['train.py', f'--gin_file={path}'])
  path.write_text(f"include '{path}'")
  with pytest.raises(errors.UserError, match=r'includes itself'):
    early_checks.check(['train.py', f'--gin_file={path}'])


@pytest.mark.parametrize(
  'arguments',
  [
    [_CQA, '--gin.TRAIN_STEPS=3', '--gin.METHOD=finetune', '--dry_run'],
    [_CQA, '--gin_bindings=train.eval_period = 3', '--verbosity=0'],
    [
      _CQA,
      '--noshowprefixforinfo',
      '--experimental_orbax_use_distributed_barrier',
    ],
    # At a URL: what its macros are is known later.
    ['--gin_file=gs://bucket/x.gin', '--gin.ANY=1'],
    ['--gin_bindings=A = 1'],
    [_CQA, '--gin.DATA=%PLACE', '--tfds_data_dir', 'there'],
    [_CQA, '--', '--zebra'],
  ],
)
def test_what_may_be_right_passes(arguments):
  assert early_checks.check(['train.py', *arguments])


def test_the_first_line_says_what_is_done():
  told = early_checks.check(
    ['train.py', _CQA, '--gin_file=gin/sizes/base.gin', '--gin.TRAIN_STEPS=3']
  )
  assert told == (
    "gin/dss_cqa.gin gin/sizes/base.gin, DATA 'sample', METHOD 'dss',"
    " TRAIN_STEPS 3, MODEL_DIR 'runs/dss_cqa'"
  )


def test_the_flags_of_libraries_are_known():
  """Otherwise one of them would be refused early."""
  assert main.MODES  # What it imports defines them all.
  ours = {
    flag.name
    for module, of_module in flags.FLAGS.flags_by_module_dict().items()
    if module.partition('.')[0] in ('t5x', 'tests')
    for flag in of_module
  }
  libraries = {
    flag.name
    for module, of_module in flags.FLAGS.flags_by_module_dict().items()
    if module.partition('.')[0] in ('absl', 'orbax', 'tensorflow')
    or module.startswith('tensorflow_datasets.core')
    for flag in of_module
  }
  early = {
    flag.name
    for module in ('absl.app', 'absl.logging')
    for flag in flags.FLAGS.flags_by_module_dict()[module]
  }
  assert libraries - early - ours <= early_checks._OF_LIBRARIES


def test_a_mistake_loads_no_large_library():
  code = (
    'import sys\n'
    'from t5x.cli import flags\n'
    'try:\n'
    '  flags.start()\n'
    'except SystemExit as end:\n'
    '  print(end.code)\n'
    "print({'jax', 'tensorflow', 'seqio', 'numpy'} & set(sys.modules))\n"
  )
  done = subprocess.run(
    [sys.executable, '-c', code, '--gin_file=absent.gin'],
    capture_output=True,
    text=True,
  )
  assert done.stdout == '2\nset()\n', done.stderr
  assert 'error: Gin file not found: absent.gin' in done.stderr
