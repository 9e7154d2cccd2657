"""A user's mistake is one clear message and exit code 2, in a real process."""

import re
import subprocess
import sys

import pytest

from tests.t5x import entry_points, forks, small_models, toy_task

_RUNS = 't5x/configs/runs'
_TINY = entry_points.TINY


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('mistakes')
  (folder / 'toy.gin').write_text(
    # All devices, so that a mesh may have several.
    re.sub(r'(?m)^.*one_device.*\n', '', entry_points.TOY)
  )
  small_models.save(small_models.EchoModel(), folder / 'run', [3])
  # What a copy that was cut short leaves of an Orbax checkpoint, and of T5X's
  # legacy layout.
  (folder / 'cut' / 'checkpoint_3' / 'state').mkdir(parents=True)
  (folder / 'legacy' / 'checkpoint_3' / 'target.decoder.kernel').mkdir(
    parents=True
  )
  return folder


@pytest.fixture(scope='module')
def processes():
  with forks.Forks() as server:
    yield server


def _macros(**macros) -> list[str]:
  return [f'--gin.{name}={value!r}' for name, value in macros.items()]


def _train(folder, run='pretrain', **macros) -> list[str]:
  files = [_TINY, f'{_RUNS}/{run}.gin', folder / 'toy.gin']
  macros = {'MODEL_DIR': str(folder / 'out'), 'TRAIN_STEPS': 2, **macros}
  return [*(f'--gin_file={file}' for file in files), *_macros(**macros)]


def _after(mode, folder, **macros) -> list[str]:
  """Flags of an evaluation or inference."""
  files = [_TINY, f'{_RUNS}/{mode}.gin', folder / 'toy.gin']
  where = 'EVAL_OUTPUT_DIR' if mode == 'eval' else 'INFER_OUTPUT_DIR'
  macros = {where: str(folder / 'out'), **macros}
  return [*(f'--gin_file={file}' for file in files), *_macros(**macros)]


# What is wrong: the entry point, its flags given the folder, and the message.
_MISTAKES = {
  'a misspelt flag': (
    'train',
    lambda _: ['--gin_fiel=gin/dss_cqa.gin'],
    r"Unknown flag --gin_fiel\. Did you mean 'gin_file'\?.*--gin\.NAME",
  ),
  'a macro as a flag': (
    'eval',
    lambda _: ['--TRAIN_STEPS=3'],
    r'Unknown flag --TRAIN_STEPS\..*--gin\.NAME=VALUE',
  ),
  'no configuration': ('infer', lambda _: [], 'give at least one --gin_file'),
  'a word on its own': (
    'train',
    lambda _: ['gin/dss_cqa.gin'],
    "Unexpected argument 'gin/dss_cqa.gin'.*--gin_file=FILE",
  ),
  'an absent gin file': (
    'train',
    lambda _: ['--gin_file=t5x/configs/runs/finetun.gin'],
    r'not found: t5x/configs/runs/finetun\.gin\. Did you mean'
    r" 't5x/configs/runs/finetune\.gin'\?",
  ),
  'a gin file of another folder': (
    'train',
    lambda _: ['--gin_file=gin/base.gin'],
    r"not found: gin/base\.gin\. Did you mean 'gin/sizes/.*base\.gin'\?",
  ),
  'a run mode of another entry point': (
    'train',
    lambda folder: [*_train(folder), '--run_mode=eval'],
    r'--run_mode=eval: this is t5x\.train.*python -m t5x\.eval',
  ),
  'no run mode': (
    'main',
    _train,
    '--run_mode: expected one of train, eval, infer, precompile, found none',
  ),
  'a misspelt run mode': (
    'main',
    lambda _: ['--run_mode=evl'],
    r'--run_mode=evl: value should be one of <train\|eval',
  ),
  'a misspelt binding': (
    'train',
    lambda folder: [*_train(folder), '--gin.network.T5Config.emb_dmi=8'],
    "emb_dmi.*Did you mean 'emb_dim'",
  ),
  'a misspelt macro': (
    'train',
    lambda folder: _train(folder, BATCH_SIZ=8),
    "--gin.BATCH_SIZ: .*Did you mean 'BATCH_SIZE'",
  ),
  'a name that a module lacks': (
    'train',
    lambda folder: [*_train(folder), '--gin.utils.DatasetConfg.seed=1'],
    "matching 'utils.DatasetConfg'.*mean 'utils.DatasetConfig'",
  ),
  'a path without quotes of its own': (
    'train',
    lambda folder: [*_train(folder), '--gin.MODEL_DIR=runs/mine'],
    r"""--gin.MODEL_DIR=runs/mine: .*--gin\.MODEL_DIR="'runs/mine'"\.""",
  ),
  'an argument that nothing binds': (
    'train',
    lambda folder: [
      *_train(folder),
      '--gin.train_script.train.trainer_cls=@trainer.Trainer()',
    ],
    "Trainer needs 'model', .* which nothing binds.*Bind Trainer.model, ",
  ),
  'a value of an experiment, in a dry run': (
    'train',
    lambda _: [
      '--gin_file=gin/dss_cqa.gin',
      '--dry_run',
      '--gin.METHOD=finetun',
    ],
    "METHOD is 'finetun': .*Did you mean 'finetune'",
  ),
  'a fraction of an experiment, in a dry run': (
    'train',
    lambda _: [
      '--gin_file=gin/dss_cqa.gin',
      '--dry_run',
      '--gin.FRACTION=1.5',
    ],
    'FRACTION is 1.5',
  ),
  'a missing macro': (
    'train',
    lambda folder: _train(folder, 'finetune'),
    r'leave INITIAL_CHECKPOINT_PATH to you: give --gin\.INITIAL_CHECKPOINT',
  ),
  'an absent checkpoint': (
    'train',
    lambda folder: _train(
      folder, 'finetune', INITIAL_CHECKPOINT_PATH='/no/such/checkpoint_3'
    ),
    '/no/such/checkpoint_3: no such folder.*INITIAL_CHECKPOINT_PATH',
  ),
  'an absent step': (
    'eval',
    lambda folder: _after(
      'eval', folder, CHECKPOINT_PATH=str(folder / 'run' / 'checkpoint_4')
    ),
    r'checkpoint_4: no such folder.*Steps in .*run: \[3\]',
  ),
  'half an Orbax checkpoint': (
    'infer',
    lambda folder: _after(
      'infer', folder, CHECKPOINT_PATH=str(folder / 'cut' / 'checkpoint_3')
    ),
    'checkpoint_3: this Orbax checkpoint is incomplete.*cut short',
  ),
  'half a legacy checkpoint': (
    'train',
    lambda folder: _train(
      folder,
      'finetune',
      INITIAL_CHECKPOINT_PATH=str(folder / 'legacy' / 'checkpoint_3'),
    ),
    'checkpoint_3: this T5X legacy checkpoint is incomplete.*cut short',
  ),
  'a checkpoint of another model': (
    'infer',
    lambda folder: _after(
      'infer', folder, CHECKPOINT_PATH=str(folder / 'run' / 'checkpoint_3')
    ),
    'checkpoint_3',
  ),
  'no length for a feature': (
    'train',
    lambda folder: _train(folder, TASK_FEATURE_LENGTHS={'inputs': 7}),
    r"no length for 'targets', found \{'inputs': 7\}",
  ),
  'a length of no feature': (
    'infer',
    lambda folder: _after(
      'infer',
      folder,
      CHECKPOINT_PATH=str(folder / 'run' / 'checkpoint_3'),
      TASK_FEATURE_LENGTHS={'inputs': 7, 'target': 4},
    ),
    "names 'target'.*Did you mean 'targets'",
  ),
  'results where a file is': (
    'infer',
    lambda folder: _after(
      'infer',
      folder,
      CHECKPOINT_PATH=str(folder / 'run' / 'checkpoint_3'),
      INFER_OUTPUT_DIR=str(folder / 'toy.gin' / 'out'),
    ),
    r'toy\.gin.*cannot be written.*A file is in the way',
  ),
  'vocabularies that differ': (
    'train',
    lambda folder: _train(folder, MIXTURE_OR_TASK_NAME=toy_task.IN_PIECES),
    "input vocabulary of the model is .*that of 'toy_pieces' is .*VOCABULARY",
  ),
  'an unknown task': (
    'train',
    lambda folder: _train(folder, MIXTURE_OR_TASK_NAME='toy_backward'),
    "No task or mixture 'toy_backward'.*Did you mean 'toy_backwards'",
  ),
  'a split that the task lacks': (
    'infer',
    lambda folder: _after(
      'infer',
      folder,
      CHECKPOINT_PATH=str(folder / 'run' / 'checkpoint_3'),
      SPLIT='tset',
    ),
    "has the split 'tset'.*Did you mean 'test'",
  ),
}


@pytest.mark.parametrize('mistake', _MISTAKES)
def test_a_mistake_is_one_message_and_code_2(mistake, processes, folder):
  mode, flags, message = _MISTAKES[mistake]
  code, text = processes.run(mode, *flags(folder))
  assert code == 2, text[-3000:]
  assert 'Traceback' not in text
  (error,) = re.findall(r'(?s)\nerror: (.*)', f'\n{text}')
  assert re.search(message, ' '.join(error.split())), text[-3000:]
  # Nothing half-written is left.
  assert not list((folder / 'out').glob('checkpoint_*'))


@pytest.mark.parametrize('mode', ['train', 'eval', 'infer', 'precompile'])
def test_a_batch_that_the_mesh_does_not_divide(mode, processes, folder):
  flags = _train(folder) if mode == 'train' else []
  if mode == 'precompile':
    flags = [f for f in _train(folder, 'precompile') if 'TRAIN_STEPS' not in f]
  if not flags:
    flags = _after(
      mode, folder, CHECKPOINT_PATH=str(folder / 'run' / 'checkpoint_3')
    )
  code, text = processes.run(
    mode,
    *flags,
    '--gin.BATCH_SIZE=6',
    XLA_FLAGS='--xla_force_host_platform_device_count=4',
  )
  assert code == 2, text[-3000:]
  assert re.search(
    r'6 is not divisible by 4.*such as 8', ' '.join(text.split())
  )
  assert 'Traceback' not in text


def test_main_does_what_run_mode_says(processes, folder):
  flags = [*_after('eval', folder, CHECKPOINT_PATH='there'), '--dry_run']
  code, text = processes.run('main', '--run_mode=eval', *flags)
  assert code == 0, text[-3000:]
  assert "CHECKPOINT_PATH = 'there'" in text and 'evaluate:' in text


@pytest.mark.parametrize(
  'mode', ['train', 'eval', 'infer', 'precompile', 'main']
)
def test_help_teaches_at_once(mode):
  done = subprocess.run(
    [sys.executable, '-X', 'importtime', '-m', f't5x.{mode}', '--help'],
    cwd=forks.ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert not re.search(r'\| +(tensorflow|seqio)\b', done.stderr)
  text = done.stdout
  assert text.startswith(('Trains', 'Evaluates', 'Predicts', 'Compiles'))
  assert all(len(line) <= 80 for line in text.splitlines())
  for flag in ('gin_file', 'gin_bindings', '[no]dry_run', 'process_count'):
    assert f'\n  --{flag}: ' in text
  assert '--gin.NAME=VALUE' in text and '--jax_' not in text
  assert f'python -m t5x.{mode} ' in text
  # Each example names files that are there.
  files = re.findall(r'--gin_file=((?:gin|t5x)/\S+\.gin)', text)
  assert files
  for file in files:
    assert (forks.ROOT / file).is_file(), file
