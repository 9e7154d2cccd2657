"""Tests of foreign text: what servers, journals and rows say does nothing."""

import json
import pathlib
import unicodedata

import pytest

from dss_jax.extract import journal
from tests.dss_jax import conftest as rows_lib
from tests.dss_jax.extract import fault_server

_HOSTILE = '[/red] [bold]b[/] \x1b[2J\x1b]0;t\x07 \x9b31m \u202egnp \ud800'
_FOLDER = pathlib.Path('runs/teachers/mine/custom')
_PROMPT = {
  'question': 'Q: {input}',
  'answer': 'A: {rationale} So the answer is {label}.',
  'exemplars': [{'input': 'Ice?', 'rationale': 'It melts.', 'label': 'no'}],
}
_GOOD = fault_server.reply('It is. So the answer is yes.')


def _is_harmless(shown):
  return all(
    c in '\n\t' or unicodedata.category(c) not in ('Cc', 'Cf', 'Cs')
    for c in shown
  )


def _write(folder, inputs=('Do herrings swim?', 'Is ice cold?')):
  rows_lib.write_json_lines(
    folder / 'own.jsonl', [{'input': text} for text in inputs]
  )
  (folder / 'prompt.json').write_text(json.dumps(_PROMPT))
  return ('own.jsonl', '--prompt', 'prompt.json', '--retries', 0)


@pytest.mark.parametrize(
  ('status', 'body', 'code'),
  [
    (400, {'error': {'message': _HOSTILE, 'code': _HOSTILE}}, 2),
    (404, {'error': {'message': _HOSTILE}}, 2),
    (500, json.dumps(_HOSTILE), 2),
    (200, {_HOSTILE: 1}, 2),
    (200, [_HOSTILE], 2),
    (200, _GOOD | {'usage': {_HOSTILE: 3, 'prompt_tokens': 10**400}}, 0),
    (200, _GOOD | {'usage': {f'{_HOSTILE} {n}': n for n in range(999)}}, 0),
    (200, fault_server.reply(f'{_HOSTILE} So the answer is {_HOSTILE}.'), 0),
    (200, fault_server.reply(_HOSTILE, _HOSTILE), 0),
    (200, fault_server.reply(None, refusal=_HOSTILE), 1),
    (200, fault_server.reply(None, _HOSTILE, reasoning=_HOSTILE), 1),
  ],
)
def test_what_a_server_says_does_nothing(
  serve, extract, tmp_path, capsys, status, body, code
):
  _, url = serve(script=lambda question: (status, body))
  arguments = _write(tmp_path)
  # Again, out of the journal.
  for _ in range(2):
    assert extract(*arguments, url=url) == code
    shown = ''.join(capsys.readouterr())
    assert _is_harmless(shown) and len(shown) < 8000, shown
    assert '[' in shown or code == 0


def test_names_of_models_and_rows_do_nothing(serve, extract, tmp_path, capsys):
  _, url = serve(models=(_HOSTILE.replace('\ud800', ''), 'x' * 9999))
  arguments = _write(tmp_path, (f'{_HOSTILE[:-1]} rows?',))
  assert extract(*arguments, url=url) == 2
  assert extract(*arguments, '--dry-run') == 0
  shown = ''.join(capsys.readouterr())
  assert _is_harmless(shown) and len(shown) < 4000
  # What stands in a row is shown as it stands there.
  assert '[/red] [bold]b[/]' in shown
  path = tmp_path / '[red]\x1b[2J.jsonl'
  assert extract(path, '--prompt', 'prompt.json', '--dry-run') == 2
  assert extract('sample', '--data-set', '\x1b[2J') == 2
  assert extract('sample', '--\x1b[2J') == 2
  assert _is_harmless(''.join(capsys.readouterr()))


_POISON = [
  {'usage': {'[/red]\x1b[2J': 3, 'n': 10**400, 'm': -1, 'k': 'x'}},
  {'usage': {f'name {n}': 1 for n in range(5000)}},
  {'text': 'It \ud800\x1b[2J is. So the answer is \x9b31myes.'},
  {'text': '=cmd() So the answer is =cmd().', 'finish': '[/red]\x1b'},
  {'error': '[/red]\x1b[2J\ud800', 'text': ''},
  {'id': '\ud800', 'thoughts': '\ud800'},
  {'time': float('inf')},
  {'time': float('nan')},
  {'index': 10**30},
  {'split': '\x1b[2J'},
]


@pytest.mark.parametrize('poison', _POISON, ids=str)
def test_a_poisoned_journal_still_loads(
  serve, extract, tmp_path, capsys, poison
):
  server, url = serve(script=lambda question: (200, _GOOD))
  arguments = _write(tmp_path)
  assert extract(*arguments, url=url) == 0
  path = _FOLDER / 'journal.jsonl'
  first, second = map(json.loads, path.read_text().splitlines())
  path.write_text(f'{json.dumps(first | poison)}\n{json.dumps(second)}\n')
  capsys.readouterr()
  before = server.requests
  assert extract(*arguments, '--keep-thoughts', url=url) == 0
  shown = ''.join(capsys.readouterr())
  assert _is_harmless(shown) and len(shown) < 8000, shown
  # What is no completion of the row is asked for again, and nothing else.
  is_lost = {'error', 'index', 'split'} & poison.keys()
  assert server.requests - before == (1 if is_lost else 0)
  for name in ('report.json', 'unusable.jsonl', 'rows/train.jsonl'):
    (_FOLDER / name).read_text(encoding='utf-8')


@pytest.mark.parametrize(
  'change',
  [
    {'model': '[/red]\x1b[2J' + 'x' * 9999},
    {'parameters': {'[/red]\x1b[2J' + 'x' * 9999: '\x1b' + 'y' * 9999}},
    {'parameters': {f'{n}\x1b': n for n in range(3000)}},
  ],
  ids=['model', 'parameter', 'parameters'],
)
def test_a_foreign_journal_is_told_in_a_bounded_message(
  serve, extract, tmp_path, capsys, change
):
  _, url = serve(script=lambda question: (200, _GOOD))
  arguments = _write(tmp_path)
  assert extract(*arguments, url=url) == 0
  path = _FOLDER / 'journal.jsonl'
  lines = [json.loads(line) | change for line in path.read_text().splitlines()]
  path.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
  capsys.readouterr()
  assert extract(*arguments, url=url) == 2
  shown = ''.join(capsys.readouterr())
  assert 'found others' in shown
  assert _is_harmless(shown) and len(shown) < 4000, shown


def test_a_value_nested_too_deep_is_no_surprise():
  deep = '[' * 5000 + ']' * 5000
  assert journal.parse(f'{{"parameters": {{"a": {deep}}}}}'.encode()) is None
