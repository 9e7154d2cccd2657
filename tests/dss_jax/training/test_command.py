"""Tests of `dss train` and `dss check`, and of a run by them as processes."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from dss_jax import cli
from tests import terminal

_ARGUMENTS = ('rows.jsonl', '--column', 'input=ticket', '--out', 'runs/a')


def test_a_dry_run_prints_the_gin_file_and_writes_nothing(rows, capsys):
  cli.main(['train', *_ARGUMENTS, '--steps', '8', '--dry-run'])
  shown = capsys.readouterr()
  first = shown.err.splitlines()[0]
  assert first == ('Training on rows.jsonl: method dss, size tiny, in runs/a')
  assert "COLUMNS = {'input': 'ticket'}" in shown.out
  assert 'TRAIN_STEPS = 8\n' in shown.out
  assert '# In proportion to 8 steps.\nEVAL_PERIOD = 4\n' in shown.out
  assert "CLASSES = ['billing', 'fault']" in shown.out
  assert 'passes over' not in shown.out
  assert not (rows / 'runs').exists()


def test_check_says_what_a_run_will_do(rows, tfds_dir, capsys):
  del tfds_dir
  cli.main(['check', *_ARGUMENTS, '--steps', '8'])
  shown = ' '.join(capsys.readouterr().out.split())
  assert 'rows train 32, validation 4, test 4' in shown
  assert 'left out nothing' in shown
  assert 'cut nothing at' in shown
  assert 'characters all are in the vocabulary' in shown
  assert 'a step 16 label examples, with their rationales, in' in shown
  assert 'steps 8: 4 passes over 32; evaluation each 4, saved each 2' in shown
  assert re.search(r'memory about [\d.]+ MiB on each of 8 cpu devices', shown)
  assert 'writes to runs/a, a new run' in shown
  assert 'Nothing is wrong. To train: dss train rows.jsonl' in shown
  assert not (rows / 'runs').exists()


def test_check_names_every_fault(rows, capsys):
  """A row that is none, and a folder that holds another run."""
  (rows / 'rows.jsonl').write_text('{"ticket": "a"}\n{"ticket":\n')
  (rows / 'runs/a/checkpoint_5').mkdir(parents=True)
  with pytest.raises(SystemExit) as raised:
    cli.main(['check', *_ARGUMENTS])
  assert raised.value.code == 2
  shown = capsys.readouterr().err
  assert 'rows.jsonl, line 2' in shown
  assert 'found checkpoint_5 and no run.gin' in shown


def test_check_needs_no_folder(rows, tfds_dir, capsys):
  """A run that is where it would suggest to write is none of its business."""
  del tfds_dir
  (rows / 'runs/rows/checkpoint_5').mkdir(parents=True)
  cli.main(['check', *_ARGUMENTS[:-2], '--steps', '8'])
  shown = ' '.join(capsys.readouterr().out.split())
  assert 'writes to runs/rows, for example: --out says where' in shown
  assert 'dss train rows.jsonl' in shown and '--out runs/rows' in shown


def test_check_warns_of_texts_that_the_vocabulary_lacks(rows, tfds_dir, capsys):
  del tfds_dir
  text = (rows / 'rows.jsonl').read_text(encoding='utf-8')
  (rows / 'rows.jsonl').write_text(text.replace('case', 'case\\n'), 'utf-8')
  cli.main(['check', *_ARGUMENTS, '--method', 'finetune'])
  shown = capsys.readouterr().out
  assert 'characters   see below' in shown
  assert 'train, input: 32 rows have characters that are read as' in shown


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['train', 'rows.jsonl'], '--out: expected a folder'),
    (['check'], 'expected what `dss train` takes'),
    (['check', 'cqa', '--gin-file', 'a.gin'], 'expected no other option'),
    (['check', '--gin-file', 'gin/dss_cq.gin'], "'gin/dss_cqa.gin'"),
    (['options', '--search', 'zebra'], 'no macro has this word'),
  ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
  rows, capsys, arguments, message
):
  del rows
  with pytest.raises(SystemExit) as raised:
    cli.main(arguments)
  assert raised.value.code == 2
  shown = capsys.readouterr().err
  assert message in shown and 'Traceback' not in shown


def test_options_are_shown(capsys):
  cli.main(['options', 'cqa', '--search', 'TRAIN_STEPS'])
  shown = capsys.readouterr().out
  assert 'TRAIN_STEPS' in shown and '2000' in shown
  assert 'gin/sizes/tiny.gin' in shown


def _environment(rows):
  """That of a person: one device, a terminal with colors."""
  kept = {k: v for k, v in os.environ.items() if k not in ('COLUMNS', 'LINES')}
  return kept | {
    'TERM': 'xterm-256color',
    'TFDS_DATA_DIR': str(rows / 'tfds'),
    'XLA_FLAGS': '',
    'PYTHONPATH': str(pathlib.Path(cli.__file__).parents[1]),
  }


def _process(rows, *arguments, **options):
  return subprocess.Popen(
    [sys.executable, *arguments],
    cwd=rows,
    env=_environment(rows),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


@pytest.mark.slow  # Three processes that train: a minute.
def test_a_run_is_stopped_goes_on_and_is_that_of_its_gin_file(rows):
  """The same command resumes; `python -m t5x.train` does the same steps."""
  words = ['-m', 'dss_jax.cli', 'train', *_ARGUMENTS, '--steps', '60']
  first = _process(rows, *words)
  while not list((rows / 'runs/a').glob('checkpoint_*[0-9]')):
    assert first.poll() is None, first.communicate()[1]
    time.sleep(0.1)
  first.send_signal(signal.SIGTERM)
  _, err = first.communicate()
  assert first.returncode == 143, err
  assert 'the same command goes on from there' in err

  again = _process(rows, *words)
  out, err = again.communicate()
  assert again.returncode == 0, err
  assert 'run.gin is there: going on from step' in err
  assert 'After 60 steps' in out

  other = _process(rows, *words, '--method', 'finetune')
  _, err = other.communicate()
  assert other.returncode == 2
  assert "METHOD: not given there, 'finetune' here" in err

  whole = _process(
    rows, '-m', 't5x.train', '--gin_file=runs/a/run.gin',
    "--gin.MODEL_DIR='runs/b'",
  )  # fmt: skip
  _, err = whole.communicate()
  assert whole.returncode == 0, err
  losses = [
    re.findall(r'"loss": ([\d.]+)', path.read_text())[-1]
    for name in 'ab'
    for path in (rows / 'runs' / name / 'train').glob('*metrics.jsonl')
  ]
  assert len(losses) == 2 and losses[0] == losses[1]
  # What reads the configuration of a run, reads either.
  configurations = [
    (rows / f'runs/{name}/config.gin').read_text().replace(f'runs/{name}', '')
    for name in 'ab'
  ]
  assert configurations[0] == configurations[1]
  assert '\ntrain_script.train.model = ' in configurations[0]


@pytest.mark.slow  # A process that trains: half a minute.
def test_a_run_on_a_terminal_of_80_columns(rows):
  """The bar is whole in every screen, and nothing of it is left."""
  screen = terminal.Terminal()
  code = screen.run(
    [
      sys.executable,
      '-m',
      'dss_jax.cli',
      'train',
      *_ARGUMENTS,
      '--steps',
      '30',
    ],
    _environment(rows),
    str(rows),
  )
  lines = screen.lines()
  assert code == 0, lines
  assert screen.screens[0][0].startswith('Training on rows.jsonl: method dss')
  bars = {
    line
    for seen in screen.screens
    for line in seen
    if re.search('━.*eta', line)
  }
  # Two bars are a table: a shorter count has the columns of the longer one.
  whole = re.compile(
    r'(compiling |training  |evaluating|predicting|saving    ) ━.*'
    r' \d+/\d+ +\d:\d\d:\d\d eta [\d:-]+( [\d,]+ tok/s)?'
  )
  assert [bar for bar in bars if not whole.fullmatch(bar)] == []
  for name in ('training', 'predicting'):
    assert any(bar.startswith(name) for bar in bars)
  assert any(' tok/s' in bar for bar in bars)
  # Tables and panels are whole, too.
  assert not [
    line
    for line in lines
    if 'eta' in line or ('…' in line and not line.endswith(', once …'))
  ]
  assert all(line[0] == '╭' for line in lines if '╭' in line)
  for stage in (
    'loading libraries', 'looking at rows', 'reading data', 'tracing the model',
    'drawing parameters', 'compiling',
  ):  # fmt: skip
    found = [line for line in lines if line.startswith(stage)]
    assert found and all(re.search(r' \d+\.\d s$', line) for line in found)
  screen.close()
