"""The way from unlabeled text to a student, by the commands that are printed.

Each program says which command comes next; the next step here is that command
as it was printed.
"""

import json
import pathlib
import re

import pytest

from dss_jax import cli
from tests import advice

_ROOT = pathlib.Path(__file__).parents[3]
_MARK = re.compile(r'<<WRITE: [^>]*>>')
_TEXT = ''.join(
  f'Ticket {n}: where is {thing}?\n'
  for n in range(12)
  for thing in ('the red lamp', "John's coat", 'my parcel', 'an old chair')
)


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
  serve, tmp_path, monkeypatch, capsys
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
  assert max(map(len, train.splitlines())) <= 80
  advice.parse(train)
  assert advice.words(train)[3:7] == [
    *('--teacher', 'mine', '--labels', 'teacher')
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
  folder = tmp_path / 'runs' / 'custom_mine' / 'inference_eval'
  for path in folder.glob('*label_teacher*-metrics.jsonl'):
    last = json.loads(path.read_text().splitlines()[-1])
    assert 'agreement' in last and 'accuracy' not in last
  _, other = advice.commands(done.stdout)
  done = run(other)
  assert done.returncode == 0, done.stderr
  assert 'agreement with the teacher' in done.stdout
  # With gold labels, accuracy is known, and a study is recommended.
  gold = tmp_path / 'gold.csv'
  rows = (f'Ticket {n}: where is my parcel?,lost' for n in range(90, 99))
  gold.write_text('\n'.join(['input,label', *rows]))
  done = run(f'{train}_gold --test gold.csv')
  assert done.returncode == 0, done.stderr
  assert re.search(r'test, label accuracy +\d', done.stdout)
  (study,) = (c for c in advice.commands(done.stdout) if 'dss study' in c)
  # Ten runs of a minute.
  done = run(f'{study} --dry-run')
  assert done.returncode == 0, done.stderr
