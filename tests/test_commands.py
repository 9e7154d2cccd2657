"""The commands of README, as processes of their own, on the packaged sample."""

import glob
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.t5x import forks

_ROOT = pathlib.Path(__file__).parent.parent
# A smaller run of the same experiment: two evaluations, three checkpoints.
_SHORT = {
  'TRAIN_STEPS': 30,
  'WARMUP_STEPS': 5,
  'EVAL_PERIOD': 15,
  'SAVE_PERIOD': 10,
  'STATS_PERIOD': 1,
  'KEEP': 10,
  'EVAL_NUM_EXAMPLES': 20,
}


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
  """One device, and one place for prepared data and compiled code."""
  folder = tmp_path_factory.mktemp('shared')
  environment = dict(os.environ)
  for name in ('XLA_FLAGS', 'JAX_DISABLE_MOST_OPTIMIZATIONS'):
    environment.pop(name, None)
  environment.update(
    JAX_PLATFORMS='cpu',
    JAX_COMPILATION_CACHE_DIR=str(folder / 'compiled'),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0.1',
    TFDS_DATA_DIR=str(folder / 'tfds'),
  )
  return environment


@pytest.fixture(scope='module')
def processes(environment):
  """Starts the command in processes that have its imports behind them."""
  with forks.Forks(environment) as server:
    yield server


def _arguments(*flags: str, **macros) -> list[str]:
  return [
    '--gin_file=gin/dss_cqa.gin',
    *flags,
    *(f'--gin.{name}={value!r}' for name, value in macros.items()),
  ]


def _run(environment, **macros) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, '-m', 't5x.train', *_arguments(**macros)],
    cwd=_ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=300,
  )


def _parameters(model_dir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
  from t5x import checkpoints, utils

  tree = checkpoints.load_t5x_checkpoint(str(model_dir / f'checkpoint_{step}'))
  return {
    k: np.asarray(v) for k, v in utils.flatten_dict_string_keys(tree).items()
  }


def _lines(path: str) -> list[dict]:
  with open(path, encoding='utf-8') as f:
    return [json.loads(line) for line in f]


@pytest.fixture(scope='module')
def finished(environment, tmp_path_factory):
  """An uninterrupted short run: its folder and what it printed."""
  folder = tmp_path_factory.mktemp('straight') / 'run'
  done = _run(environment, MODEL_DIR=str(folder), **_SHORT)
  assert done.returncode == 0, done.stderr[-3000:]
  return folder, done.stdout


def test_the_run_leaves_what_readme_lists(finished):
  folder, _ = finished
  steps = sorted(p.name for p in folder.glob('checkpoint_*'))
  assert steps == ['checkpoint_10', 'checkpoint_20', 'checkpoint_30']
  assert 'TRAIN_STEPS = 30' in (folder / 'config.gin').read_text()
  assert 'Parameters: ' in (folder / 'model-info.txt').read_text()
  assert list((folder / 'train').glob('events.out.tfevents*'))


def test_every_loss_term_is_logged_by_name_and_the_total_is_their_sum(finished):
  folder, _ = finished
  lines = _lines(folder / 'train' / 'metrics.jsonl')
  stats = [line for line in lines if 'loss' in line]
  assert [line['step'] for line in stats] == list(range(1, 31))
  for line in stats:
    assert line['loss'] == pytest.approx(
      0.2 * line['label_loss'] + 0.8 * line['rationale_loss'] + line['z_loss'],
      rel=1e-4,
    )
    assert line['label_tokens'] > 0 and line['timing/tokens_per_second'] > 0


def test_labels_and_rationales_are_evaluated_on_both_splits(finished):
  folder, _ = finished
  files = glob.glob(str(folder / 'inference_eval' / '*-metrics.jsonl'))
  names = {os.path.basename(f).removesuffix('-metrics.jsonl') for f in files}
  assert names == {
    'cqa_sample_label_validation',
    'cqa_sample_label_test',
    'cqa_sample_rationale_palm_validation',
    'cqa_sample_rationale_palm_test',
  }
  for file in files:
    assert [line['step'] for line in _lines(file)] == [15, 30]


def test_the_screen_says_what_the_run_is_and_what_came_out(finished):
  folder, printed = finished
  text = ' '.join(printed.split())
  assert 'packaged sample' in text and '--gin_file=gin/sizes/base.gin' in text
  assert text.count('predicted label') == 3
  assert text.count('generated rationale') == 3
  (line,) = _lines(
    folder / 'inference_eval' / 'cqa_sample_label_test-metrics.jsonl'
  )[-1:]
  assert f'{line["accuracy"]:.1f}%' in text
  assert str(folder) in printed.replace('\n', '')


@pytest.fixture(scope='module')
def exported(environment, finished, tmp_path_factory):
  """What `dss export` makes of the finished run."""
  folder = tmp_path_factory.mktemp('exported') / 'student'
  done = subprocess.run(
    [sys.executable, '-m', 'dss_jax.cli', 'export', finished[0], folder],
    cwd=_ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert str(folder) in done.stdout and 'checkpoint_30' in done.stdout
  return folder


def test_the_exported_student_has_the_last_checkpoints_weights(
  finished, exported
):
  from t5x import checkpoints, utils

  read = checkpoints.load_t5x_checkpoint(str(exported))['target']
  read = utils.flatten_dict_string_keys(read)
  trained = _parameters(finished[0], 30)
  assert len(read) > 50
  for name, leaf in read.items():
    np.testing.assert_array_equal(leaf, trained[f'target/{name}'])


def test_the_exported_tokeniser_gives_the_tokens_that_were_trained_on(
  finished, exported
):
  import tokenizers

  described = tokenizers.Tokenizer.from_file(str(exported / 'tokenizer.json'))
  files = glob.glob(str(finished[0] / 'inference_eval' / '*-000030.jsonl'))
  examples = [line['input'] for file in files for line in _lines(file)]
  checked = 0
  for shown in examples:
    for side in ('inputs', 'targets'):
      if isinstance(shown[side], list):  # Else it was cut short for the file.
        text = shown[f'{side}_pretokenized']
        assert described.encode(text).ids == shown[side], text
        checked += 1
  assert checked >= 80


def test_the_exported_folder_says_how_to_ask(exported):
  text = (exported / 'README.md').read_text()
  assert "tokenizer('predict: ' + question" in text
  assert 'on cqa, the packaged sample' in text and 'After 30 steps' in text
  assert '345,088 parameters' in text
  (line,) = re.findall(r'^\| test \| label accuracy .*$', text, re.MULTILINE)
  assert line.endswith('| 20 |') and ' to ' in line
  generation = json.loads((exported / 'generation_config.json').read_text())
  assert generation['max_new_tokens'] == 80


@pytest.mark.slow  # Needs PyTorch and transformers: the extra `bench`.
def test_transformers_answers_as_the_run_did(finished, exported):
  transformers = pytest.importorskip('transformers')
  tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
  model = transformers.AutoModelForSeq2SeqLM.from_pretrained(exported)
  files = glob.glob(str(finished[0] / 'inference_eval' / '*-000030.jsonl'))
  for line in (line for file in files for line in _lines(file)):
    inputs = tokenizer(
      line['input']['inputs_pretokenized'], return_tensors='pt'
    )
    (answer,) = model.generate(**inputs)
    text = tokenizer.decode(answer, skip_special_tokens=True)
    assert text.strip() == line['prediction']


def test_a_killed_run_goes_on_to_the_same_bits(processes, finished, tmp_path):
  straight, _ = finished
  folder = tmp_path / 'run'
  arguments = _arguments(MODEL_DIR=str(folder), **_SHORT)
  process = processes.start('train', *arguments)
  deadline = time.monotonic() + 200
  while not (folder / 'checkpoint_10').exists():
    assert time.monotonic() < deadline, process.text[-3000:]
    time.sleep(0.02)
  process.kill()
  code, _ = processes.wait(process)
  assert code == -signal.SIGKILL
  assert not (folder / 'checkpoint_30').exists()

  code, printed = processes.run('train', *arguments)
  assert code == 0, printed[-3000:]
  expected, found = _parameters(straight, 30), _parameters(folder, 30)
  assert expected.keys() == found.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_finished_run_is_not_trained_again(processes, finished):
  folder, _ = finished
  before = _lines(folder / 'train' / 'metrics.jsonl')
  arguments = _arguments(MODEL_DIR=str(folder), **_SHORT)
  code, printed = processes.run('train', *arguments)
  assert code == 0, printed[-3000:]
  assert _lines(folder / 'train' / 'metrics.jsonl') == before


@pytest.mark.parametrize(
  ('macros', 'message'),
  [
    ({'ALHPA': 0.2}, "--gin.ALHPA: .*Did you mean 'ALPHA'"),
    ({'METHOD': 'finetun'}, "METHOD is 'finetun'.*Did you mean 'finetune'"),
    ({'DATA_SET': 'cqq'}, "data set is 'cqq'.*Did you mean 'cqa'"),
    ({'DATA': '/no/such/place'}, '/no/such/place'),
    ({'ALPHA': 1.5}, 'alpha.*1.5'),
    ({'FRACTION': 0.0}, 'FRACTION.*0.0'),
    ({'INITIAL_CHECKPOINT_PATH': '/no/weights'}, '/no/weights'),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_a_users_mistake_is_one_clear_message_and_code_2(
  processes, tmp_path, macros, message
):
  macros = {'MODEL_DIR': str(tmp_path / 'run')} | macros
  code, printed = processes.run('train', *_arguments(**macros))
  assert code == 2, printed[-3000:]
  assert 'Traceback' not in printed
  error = ' '.join(printed[printed.index('error: ') :].split())
  assert re.search(message, error), error


def test_a_dry_run_prints_the_configuration_and_writes_nothing(
  processes, tmp_path
):
  folder = tmp_path / 'run'
  arguments = _arguments('--dry_run', MODEL_DIR=str(folder))
  code, printed = processes.run('train', *arguments)
  assert code == 0, printed[-3000:]
  assert 'ALPHA = ' in printed
  assert not folder.exists()
