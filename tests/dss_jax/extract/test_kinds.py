"""A second kind of rationales, by a prompt of its own, beside the first."""

import json
import pathlib

import pytest

from dss_jax import errors
from dss_jax.data import own_rows
from dss_jax.extract import kinds
from tests import advice
from tests.dss_jax import conftest as rows_lib

BASE = pathlib.Path('runs/teachers/mine/custom')
ROWS = BASE / 'rows' / 'train.jsonl'


def script(question):
  """Gives a program where one is asked for."""
  how = 'print(1)' if 'program' in question else 'One is one.'
  message = {'role': 'assistant', 'content': f'{how} So the answer is yes.'}
  return 200, {'choices': [{'message': message, 'finish_reason': 'stop'}]}


def prompt(tmp_path, name, label='no'):
  path = tmp_path / f'{name}.json'
  exemplar = {'input': 'Ice?', 'rationale': 'It is.', 'label': label}
  path.write_text(
    json.dumps({
      'question': f'Q: By a {name}: {{input}}',
      'answer': '{rationale} So the answer is {label}.',
      'exemplars': [exemplar],
    })
  )  # fmt: skip
  return path


def read():
  own = own_rows.OwnData(str(ROWS), kinds=('rationale', 'program'))
  splits = own_rows.read(own).splits.values()
  return [row for split in splits for row in split]


def test_kinds_of_own_rows_stand_beside_each_other(
  serve, extract, tmp_path, capsys
):
  _, url = serve(script=script)
  rows = [{'input': f'Is it {n}?', 'label': 'yes'} for n in range(10)]
  rows_lib.write_json_lines(tmp_path / 'mine.jsonl', rows)
  second = ('mine.jsonl', '--prompt', prompt(tmp_path, 'program'))
  second = (*second, '--kind', 'program')
  # Beside nothing, it stands nowhere; nothing was asked or left behind.
  assert extract(*second, url=url) == 2
  assert 'Extract it without --kind before' in capsys.readouterr().err
  assert not BASE.exists()
  first = ('mine.jsonl', '--prompt', prompt(tmp_path, 'thought'))
  assert extract(*first, url=url) == 0
  assert extract(*second, url=url) == 0
  (_, command) = advice.commands(capsys.readouterr().out)
  words = advice.words(command)
  assert words[:3] == ['dss', 'train', str(ROWS)]
  assert words[words.index('--kinds') + 1] == 'rationale,program'
  assert {(r.rationale, r.more) for r in read()} == {
    ('One is one.', ('print(1)',))
  }
  assert len(read()) == 10
  assert (BASE / 'kinds' / 'program' / 'journal.jsonl').exists()
  # The first again asks for nothing, and keeps the second.
  assert extract(*first, url=url) == 0
  assert {r.more for r in read()} == {('print(1)',)}


def test_a_kind_of_other_rows_is_refused(tmp_path):
  for folder, text in (('rows', 'a'), ('kinds/program/rows', 'b')):
    (tmp_path / folder).mkdir(parents=True)
    row = {'id': '1', 'input': text, 'rationale': 'x'}
    (tmp_path / folder / 'train.jsonl').write_text(json.dumps(row) + '\n')
  before = (tmp_path / 'rows' / 'train.jsonl').read_text()
  with pytest.raises(errors.DataError, match='line 1: expected the row of'):
    kinds.join(tmp_path)
  assert (tmp_path / 'rows' / 'train.jsonl').read_text() == before


def test_a_kind_of_published_rows_is_a_teacher_of_its_own(
  serve, extract, write_release, tmp_path, capsys
):
  _, url = serve()
  release = write_release(train=6, test=2)
  asked = (release, '--data-set', 'cqa', '--kind', 'program', '--prompt')
  assert extract(*asked, prompt(tmp_path, 'program', '(b) ice'), url=url) == 0
  (command,) = advice.commands(capsys.readouterr().out)
  words = advice.words(command)
  assert words[words.index('--teachers') + 1] == 'mine,mine_program'
  folder = pathlib.Path('runs/teachers/mine_program/cqa')
  assert (folder / 'mine_program' / 'train_CoT_0.json').exists()


@pytest.mark.parametrize(
  ('kind', 'file', 'message'),
  [
    ('rationale', 'p.json', 'this is the kind that is asked for without'),
    ('a b', 'p.json', "names 'a b'"),
    ('program', None, 'expected --prompt with a file'),
  ],
)
def test_what_is_no_further_kind_is_refused(kind, file, message):
  with pytest.raises(errors.DataError, match=message):
    kinds.check(kind, file)
