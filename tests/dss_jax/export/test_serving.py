"""What serves an exported student: each gives the answers of the run itself.

The programs are the blocks of docs/serving.md. They need packages that this
project does not have; `SERVING_PYTHON` names interpreters that have them, with
`:` between them, and is this one by default. `SERVED_RUN` names a finished run
of gin/dss_cqa.gin, which saves training one.
"""

import itertools
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests import doc_pages

_ROOT = pathlib.Path(__file__).parents[3]
_PAGE = 'docs/serving.md'
_PYTHONS = os.environ.get('SERVING_PYTHON', sys.executable).split(':')
_NEEDED = {
  'transformers': ('torch', 'transformers'),
  'CTranslate2': ('ctranslate2', 'torch', 'transformers'),
  'ONNX Runtime': ('optimum.onnxruntime', 'transformers'),
}
_ANSWERS = """
import json
with open('questions.json') as file:
  questions = json.load(file)
answers = []
for begin in range(0, len(questions), 50):
  answers += ask(questions[begin : begin + 50])
with open('answers.json', 'w') as file:
  json.dump(answers, file)
"""
_LABELS, _RATIONALES = 300, 60

pytestmark = pytest.mark.slow  # Minutes, with programs of others.


def _blocks():
  """Returns the commands and the program of each section."""
  text = (_ROOT / _PAGE).read_text(encoding='utf-8')
  found = {}
  for section in re.split('^## ', text, flags=re.MULTILINE):
    name = section.partition('\n')[0]
    blocks = doc_pages.blocks(_PAGE, section)
    program = [b.text for b in blocks if b.language == 'python']
    if program:
      commands = [b.text for b in blocks if b.language == 'sh']
      found[name] = '\n'.join(commands), program[0]
  return found


def _run(python, command, folder):
  here = str(pathlib.Path(python).parent)
  return subprocess.run(
    command,
    cwd=folder,
    env={
      **os.environ,
      'PATH': f'{here}:{os.environ["PATH"]}',
      'HF_HUB_OFFLINE': '1',
      'PYTHONPATH': '',
    },
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
  )


def _require(python, modules):
  for module in modules:
    code = f'import importlib; importlib.import_module({module!r})'
    if _run(python, [python, '-c', code], _ROOT).returncode:
      pytest.skip(f'{python} has no {module}')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The folder of a run of the sample, and its last step."""
  folder = os.environ.get('SERVED_RUN')
  if folder is None:
    folder = str(tmp_path_factory.mktemp('run'))
    macros = {'TRAIN_STEPS': 400, 'EVAL_PERIOD': 400, 'MODEL_DIR': folder}
    done = subprocess.run(
      [
        *(sys.executable, '-m', 't5x.train', '--gin_file=gin/dss_cqa.gin'),
        *(f'--gin.{name}={value!r}' for name, value in macros.items()),
      ],
      cwd=_ROOT,
      env={**os.environ, 'XLA_FLAGS': ''},
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
  return pathlib.Path(folder)


@pytest.fixture(scope='module')
def place(run, tmp_path_factory):
  """A folder with the exported student, and questions for it."""
  folder = tmp_path_factory.mktemp('served')
  done = subprocess.run(
    [sys.executable, '-m', 'dss_jax.cli', 'export', str(run), 'student'],
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': str(_ROOT), 'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return folder


@pytest.fixture(scope='module')
def asked(run, place):
  """The answers that the run has written; the questions are in a file."""
  rows = []
  for kind, count in (('label', _LABELS), ('rationale', _RATIONALES)):
    found = (run / 'inference_eval').glob(f'cqa_sample_{kind}_*test-0*.jsonl')
    with max(found).open() as file:
      rows += [json.loads(line) for line in itertools.islice(file, count)]
  questions = [row['input']['inputs_pretokenized'] for row in rows]
  (place / 'questions.json').write_text(json.dumps(questions))
  assert len(rows) == _LABELS + _RATIONALES
  return [row['prediction'] for row in rows]


def test_the_page_has_a_program_for_each():
  assert _blocks().keys() == _NEEDED.keys()


@pytest.mark.parametrize('python', _PYTHONS)
@pytest.mark.parametrize('name', _NEEDED)
def test_answers_are_those_of_the_run(name, python, place, asked):
  _require(python, _NEEDED[name])
  commands, program = _blocks()[name]
  for command in commands.splitlines():
    output = command.split()[-1]
    if not command.startswith('pip ') and not (place / output).exists():
      done = _run(python, ['bash', '-c', command], place)
      assert done.returncode == 0, done.stdout + done.stderr
  (place / 'answers.json').unlink(missing_ok=True)
  done = _run(python, [python, '-c', program + _ANSWERS], place)
  assert done.returncode == 0, done.stdout + done.stderr
  answers = json.loads((place / 'answers.json').read_text())
  pairs = zip(answers, asked, strict=True)
  equal = sum(answer.strip() == said for answer, said in pairs)
  print(f'{name} in {python}: {equal} of {len(asked)} answers are equal')
  assert equal == len(asked)


def _said(done):
  """Returns what a program wrote, less the bars of its weights."""
  assert done.returncode == 0, done.stderr
  lines = re.split('[\r\n]+', done.stderr)
  return [x for x in lines if x and not re.match('(Loading|Writing) ', x)]


@pytest.mark.parametrize('python', _PYTHONS)
def test_a_warning_on_load_is_not_the_folders(python, place, tmp_path):
  # transformers 5 takes the head for tied, whatever a configuration says: the
  # folder that it writes itself has the same warning.
  _require(python, _NEEDED['transformers'])
  load = (
    'import sys\n'
    'from transformers import AutoModelForSeq2SeqLM\n'
    'model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1])\n'
    'for folder in sys.argv[2:]:\n'
    '  model.save_pretrained(folder)\n'
  )
  command = [python, '-W', 'error', '-c', load]
  again = str(tmp_path / 'again')
  ours = _said(_run(python, [*command, 'student', again], place))
  theirs = _said(_run(python, [*command, again], place))
  assert ours == theirs
  assert len(ours) <= 1, ours


@pytest.mark.parametrize('python', _PYTHONS)
def test_the_cards_example_runs_as_it_stands_and_warns_of_nothing(
  python, place
):
  _require(python, _NEEDED['transformers'])
  text = (place / 'student' / 'README.md').read_text()
  (code,) = re.findall('```python\n(.*?)```', text, re.DOTALL)
  done = _run(python, [python, '-W', 'error', '-c', code], place)
  assert _said(done) == []
  assert done.stdout.strip()


@pytest.mark.parametrize('python', _PYTHONS)
def test_a_hub_reads_the_card(python, place):
  _require(python, ('huggingface_hub',))
  code = (
    'from huggingface_hub import ModelCard\n'
    "data = ModelCard.load('student/README.md').data\n"
    'found = {(r.dataset_split, r.metric_type) for r in data.eval_results}\n'
    "assert ('test', 'accuracy') in found, found\n"
    "assert data.library_name == 'transformers'\n"
  )
  done = _run(python, [python, '-W', 'error', '-c', code], place)
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('python', _PYTHONS)
def test_the_command_that_uploads_is_understood(python, place):
  _require(python, ('huggingface_hub',))
  text = (place / 'student' / 'README.md').read_text()
  (command,) = re.findall('^hf upload .*$', text, re.MULTILINE)
  # Offline, it is refused after its words are read.
  done = _run(python, ['bash', '-c', command], place / 'student')
  said = (done.stdout + done.stderr).lower()
  assert done.returncode and 'offline' in said, said
  assert 'usage:' not in said and 'unrecognized' not in said
