"""A tiny release in the published layout, written anew for each test."""

import json
import socket

import pytest
import seqio

PLACES = ('pond', 'barn', 'attic', 'shed', 'cave')


def cqa_row(number):
  """Returns a row whose answer moves with its number."""
  return {
    'id': f'row{number}',
    'question': f'Where is box number {number}?',
    'choices': list(PLACES),
    'answer': PLACES[number % 5],
  }


def cqa_completion(number):
  """Returns what a teacher says: every 4th is wrong, every 6th cut short."""
  if number % 6 == 5:
    return f'Box {number} is heavy. It could be'
  chosen = (number + (number % 4 == 3)) % 5
  return (
    f'Box {number} is in the {PLACES[chosen]}. So the answer is'
    f' ({"abcde"[chosen]}) {PLACES[chosen]}.\n\nQ: Where is box 0?\nA: So the'
    ' answer is (a) pond.'
  )


def svamp_row(number):
  """Returns an arithmetic row."""
  text = f'Ann has {number} pens and buys 2.\nHow many pens has she?'
  return {'input': text, 'label': f'( {number}.0 + 2.0 )'}


def svamp_completion(number):
  """Returns an equation with the right value, except for every third."""
  equation = f'({number} + {3 if number % 3 == 2 else 2})'
  return f'She has {number} and 2 more. The answer is {equation}.\n\nQ: Bob'


MAKERS = {
  'cqa': (cqa_row, cqa_completion),
  'svamp': (svamp_row, svamp_completion),
}


def write_json_lines(path, rows):
  """Writes a JSON object a line."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(map(json.dumps, rows)) + '\n', encoding='utf-8')


def write_list(path, values):
  """Writes one JSON list."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(values), encoding='utf-8')


@pytest.fixture
def write_release(tmp_path):
  """Returns a function that writes a release and returns its folder."""

  def write(data_set='cqa', train=24, test=6, part=10, name='release'):
    row, completion = MAKERS[data_set]
    folder = tmp_path / name / data_set
    for split, begin, count in (('train', 0, train), ('test', 100, test)):
      numbers = range(begin, begin + count)
      write_json_lines(
        folder / f'{data_set}_{split}.json', [row(n) for n in numbers]
      )
      said = [completion(n) for n in numbers]
      for i in range(0, count, part):
        write_list(
          folder / 'llm' / f'{split}_CoT_{i // part}.json', said[i : i + part]
        )
    return folder.parent

  return write


@pytest.fixture
def tfds_dir(tmp_path):
  """Has SeqIO and the builders use a TFDS data dir of the test's own."""
  path = tmp_path / 'tfds'
  seqio.set_tfds_data_dir_override(str(path))
  yield path
  seqio.set_tfds_data_dir_override(None)


@pytest.fixture
def no_network(monkeypatch):
  """Makes every use of a socket an error."""

  def refuse(*args, **kwargs):
    raise AssertionError(f'The network was used: {args}')

  monkeypatch.setattr(socket.socket, 'connect', refuse)
  monkeypatch.setattr(socket, 'getaddrinfo', refuse)
  monkeypatch.setattr(socket, 'create_connection', refuse)
