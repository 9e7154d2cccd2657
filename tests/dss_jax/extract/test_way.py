"""The way from unlabeled text to a student, by the commands that are printed.

Each program says which command comes next; the next step here is that command
as it was printed.
"""

import json
import pathlib
import re

import pytest
import seqio

import gin
import t5x.train
from dss_jax import cli, mixtures
from t5x import gin_utils
from tests import advice
from tests.t5x import entry_points

_ROOT = pathlib.Path(__file__).parents[3]
_MARK = re.compile(r'<<WRITE: [^>]*>>')
_TEXT = ''.join(
  f'Ticket {n}: where is {thing}?\n'
  for n in range(12)
  for thing in ('the red lamp', "John's coat", 'my parcel', 'an old chair')
)
# Found before the package's own: the size of a run that takes seconds.
_SHORT = {'TRAIN_STEPS': 20, 'WARMUP_STEPS': 2, 'EVAL_PERIOD': 10,
          'SAVE_PERIOD': 20, 'STATS_PERIOD': 10}  # fmt: skip


def script(question):
  """Answers as a teacher: what is asked, and two labels."""
  label = 'lost' if 'coat' in question or 'parcel' in question else 'broken'
  thing = question.partition('where is ')[2].rstrip('?')
  text = f'It is about {thing}. So the answer is {label}.'
  message = {'role': 'assistant', 'content': text}
  return 200, {'choices': [{'message': message, 'finish_reason': 'stop'}]}


def complete(path):
  """Writes what the marks of a draft ask for."""
  path.write_text(_MARK.sub('broken', path.read_text()))


def call(command, capsys):
  """Runs a printed `dss` command in this process; returns what it printed."""
  program, *arguments = advice.words(command)
  assert program == 'dss'
  try:
    cli.main(arguments)
  except SystemExit as left:
    assert left.code == 2
  return capsys.readouterr()


def test_printed_commands_lead_from_a_text_to_a_training_run(
  serve, tmp_path, monkeypatch, capsys, tfds_dir
):
  _, url = serve(script=script)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('OPENAI_BASE_URL', url)
  (tmp_path / 'my tickets.txt').write_text(_TEXT)
  first = "dss extract 'my tickets.txt' --teacher mine --model tiny"
  (draft,) = advice.commands(call(first, capsys).err)
  (dry,) = advice.commands(call(draft, capsys).out)
  assert 'still has' in call(dry, capsys).err
  complete(tmp_path / 'prompt.yaml')
  assert 'requests        48' in call(dry, capsys).out
  # As the dry run, but asked: with the model in place of --dry-run.
  asked = dry.replace('--dry-run', '--model tiny')
  (train,) = advice.commands(call(asked, capsys).out)
  advice.parse(train)
  words = [word for word in advice.words(train) if word.startswith('--gin.')]
  bindings = [word.removeprefix('--gin.') for word in words]
  with entry_points.main_module(t5x.train):
    gin_utils.parse_gin_flags([], ['gin/dss_custom.gin'], bindings)
    names = [
      gin.get_configurable(made)()
      for made in (mixtures.train_mixture, mixtures.eval_mixture)
    ]
  train_task, eval_tasks = map(seqio.get_mixture_or_task, names)
  assert train_task.num_input_examples('train') > 30
  assert sorted(task.name[24:] for task in eval_tasks.tasks) == [
    *(f'label_teacher_mine_{split}' for split in ('test', 'validation')),
    *(f'rationale_mine_{split}' for split in ('test', 'validation')),
  ]


def test_without_a_rationale_there_is_nothing_to_train(
  serve, extract, tmp_path, capsys
):
  message = {'role': 'assistant', 'content': 'Hm?'}
  body = {'choices': [{'message': message, 'finish_reason': 'stop'}]}
  _, url = serve(script=lambda question: (200, body))
  (tmp_path / 'rows.txt').write_text('A?\nB?\nC?\n')
  assert extract('rows.txt', '--draft-prompt') == 0
  complete(tmp_path / 'prompt.yaml')
  capsys.readouterr()
  extract('rows.txt', '--prompt', 'prompt.yaml', url=url)
  shown = capsys.readouterr().out
  assert 'there is nothing to learn' in shown
  assert not advice.commands(shown)


@pytest.mark.slow
def test_every_printed_command_runs_as_printed(serve, tmp_path):
  _, url = serve(script=script)
  size = tmp_path / 'gin' / 'sizes' / 'tiny.gin'
  size.parent.mkdir(parents=True)
  text = (_ROOT / 'gin' / 'sizes' / 'tiny.gin').read_text()
  for name, value in _SHORT.items():
    text, found = re.subn(
      f'^{name} = .*$', f'{name} = {value}', text, flags=re.MULTILINE
    )
    assert found
  size.write_text(text)
  (tmp_path / 'my tickets.txt').write_text(_TEXT)

  def run(command):
    return advice.run(
      command,
      tmp_path,
      OPENAI_BASE_URL=url,
      TFDS_DATA_DIR=str(tmp_path / 'tfds'),
      PYTHONPATH=str(_ROOT),
      XLA_FLAGS='',
    )

  done = run("dss extract 'my tickets.txt' --teacher mine --model tiny")
  (draft,) = advice.commands(done.stderr)
  (dry,) = advice.commands(run(draft).stdout)
  complete(tmp_path / 'prompt.yaml')
  assert run(dry).returncode == 0
  done = run(dry.replace('--dry-run', '--model tiny'))
  (train,) = advice.commands(done.stdout)
  done = run(train)
  assert done.returncode == 0, done.stderr
  assert 'agreement with the teacher' in done.stdout
  assert 'label accuracy' not in done.stdout
  folder = next((tmp_path / 'runs').glob('dss_custom*')) / 'inference_eval'
  for path in folder.glob('*label_teacher*-metrics.jsonl'):
    last = json.loads(path.read_text().splitlines()[-1])
    assert last['step'] == _SHORT['TRAIN_STEPS'] and 'agreement' in last
  _, other = advice.commands(done.stdout)
  done = run(other)
  assert done.returncode == 0, done.stderr
  assert 'agreement with the teacher' in done.stdout
  # With gold labels, accuracy is known, and a study is recommended.
  gold = tmp_path / 'gold.csv'
  rows = (f'Ticket {n}: where is my parcel?,lost' for n in range(90, 99))
  gold.write_text('\n'.join(['input,label', *rows]))
  done = run(
    f'{train} --gin.MODEL_DIR=gold --gin.TEST="\'gold.csv\'"'
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert re.search(r'test, label accuracy +\d', done.stdout)
  (study,) = (c for c in advice.commands(done.stdout) if 'dss study' in c)
  done = run(study)
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'studies' / 'custom' / 'report.html').exists()
