"""Tests of a run: what it asks first, keeps, says, and leaves behind."""

import itertools
import json
import os
import pathlib
import signal
import threading

import pytest

from dss_jax.extract import extraction, journal, report, request_queue
from tests import advice
from tests.dss_jax import conftest as rows_lib
from tests.dss_jax.extract import fault_server

_FOLDER = pathlib.Path('runs/teachers/mine/custom')
_JOURNAL = _FOLDER / 'journal.jsonl'
_CQA = pathlib.Path('runs/teachers/mine/cqa')
_YES = 200, fault_server.reply('It is. So the answer is yes.')
_BUSY = 500, {'error': {'message': 'Busy'}}
_REVOKED = 401, {'error': {'message': 'Key revoked'}}


@pytest.fixture
def run(serve, extract, tmp_path):
  """Returns a function that extracts from a scripted server.

  It returns the exit code and the server.
  """

  def run(script, *arguments, inputs=4, rationale='It melts.', label='no'):
    if isinstance(inputs, int):
      inputs = [f'Is it {n}?' for n in range(inputs)]
    rows = [{'input': text, 'label': 'yes'} for text in inputs]
    rows_lib.write_json_lines(tmp_path / 'own.jsonl', rows)
    exemplar = {'input': 'Ice?', 'rationale': rationale, 'label': label}
    prompt = {
      'question': 'Q: {input}',
      'answer': 'A: {rationale} So the answer is {label}.',
      'exemplars': [exemplar],
    }
    (tmp_path / 'prompt.json').write_text(json.dumps(prompt))
    server, url = serve(script=script)
    options = ('--prompt', 'prompt.json', '--retries', 0, '--concurrency', 1)
    return extract('own.jsonl', *options, *arguments, url=url), server

  return run


def _always(answer):
  return lambda question: answer


def _in_turn(*answers):
  """Returns a script of answers; the last one stays."""
  found = itertools.chain(answers, itertools.repeat(answers[-1]))
  return lambda question: next(found)


def _indices(path=_JOURNAL):
  lines = path.read_text().splitlines()
  return [entry['index'] for entry in map(json.loads, lines)]


def test_what_python_callers_leave_out_is_as_on_the_command_line():
  assert extraction.Pace(3) == extraction.Pace(3, None, None, 8, False)
  fields = [None] * 7
  whole = extraction.Extraction(*fields, keep_thoughts=False, kind='')
  assert extraction.Extraction(*fields) == whole


def test_the_longest_prompt_is_asked_first_and_others_in_order(run):
  inputs = ['Is it?', 'Why?', 'Is it as long as that?', 'No?', 'Is it so?']
  assert run(_always(_YES), '--limit', 4, inputs=inputs)[0] == 0
  assert _indices() == [2, 0, 1, 3]
  # The longest is there already: the first of what is missing comes first.
  assert run(_always(_YES), inputs=inputs)[0] == 0
  assert _indices() == [2, 0, 1, 3, 4]


@pytest.mark.parametrize(('length', 'tokens'), [(40, 17), (41, 18)])
def test_a_dry_run_estimates_answers_by_the_exemplars(
  run, capsys, length, tokens
):
  """About 20 characters beside rationale and label, four to a token."""
  texts = {'rationale': 'x' * length, 'label': 'perhaps.'}
  assert run(None, '--dry-run', inputs=1, **texts)[0] == 0
  assert f'answer tokens   about {tokens},' in capsys.readouterr().out


def test_a_dry_run_shows_rows_that_are_asked_about(
  extract, write_release, capsys
):
  options = ('--data-set', 'cqa', '--dry-run', '--limit', 1, '--show', 3)
  assert extract(write_release(), *options) == 0
  shown = capsys.readouterr().out
  for split, index, is_shown in (
    ('train', 0, True), ('train', 1, False),
    ('test', 0, True), ('test', 1, False),
  ):  # fmt: skip
    assert (f'{split} row {index}, id row' in shown) == is_shown


def test_results_are_not_written_elsewhere(run, monkeypatch, capsys):
  monkeypatch.setenv('DSS_TEACHERS', 'gs://bucket/teachers')
  code, server = run(_always(_YES))
  assert (code, server.requests) == (2, 0)
  said = capsys.readouterr().err
  assert 'DSS_TEACHERS is gs://bucket/teachers: expected a local' in said


def test_a_journal_is_set_aside_for_a_new_one_alone(run, capsys):
  # Without one there is nothing to set aside.
  assert run(_always(_YES), '--fresh')[0] == 0
  assert [p.name for p in _FOLDER.glob('journal*')] == ['journal.jsonl']
  before = _JOURNAL.read_bytes()
  with journal.Journal(_JOURNAL):
    assert run(_always(_YES), '--fresh')[0] == 2
  assert f'process {os.getpid()} on' in capsys.readouterr().err
  assert [p.name for p in _FOLDER.glob('journal*')] == ['journal.jsonl']
  # A mistake before any completion puts it back.
  assert run(_always(_REVOKED), '--fresh')[0] == 2
  assert [p.name for p in _FOLDER.glob('journal*')] == ['journal.jsonl']
  assert _JOURNAL.read_bytes() == before
  # After one, both are kept.
  assert run(_in_turn(_YES, _REVOKED), '--fresh')[0] == 2
  assert len(_indices()) == 1
  assert _JOURNAL.with_name('journal.1.jsonl').read_bytes() == before


def test_a_mistake_leaves_a_folder_that_was_there(run):
  _FOLDER.mkdir(parents=True)
  (_FOLDER / 'note.txt').write_text('mine')
  assert run(_always(_REVOKED))[0] == 2
  assert (_FOLDER / 'note.txt').read_text() == 'mine'


def test_lines_that_cannot_be_read_are_told(run, capsys):
  assert run(_always(_YES))[0] == 0
  capsys.readouterr()
  assert run(_always(_YES))[0] == 0
  begun = f'4 completions are in {_JOURNAL} already'
  assert f'{begun}\n' in capsys.readouterr().out
  path = _JOURNAL.resolve()
  path.write_bytes(b'{}\n' + path.read_bytes())
  assert run(_always(_YES))[0] == 0
  assert f'{begun} (1 lines cannot be read)\n' in capsys.readouterr().out
  path.write_bytes(b'{}\n{}\n')
  assert run(_always(_YES))[0] == 0
  shown = capsys.readouterr().out
  assert f'0 completions are in {_JOURNAL} already (2 lines' in shown


@pytest.mark.parametrize('count', [5, 6, 7])
def test_six_differences_of_a_journal_are_shown(run, capsys, count):
  assert run(_always(_YES), inputs=1)[0] == 0
  entry = json.loads(_JOURNAL.read_text())
  entry['parameters'] |= {f'name{n}': n for n in range(count)}
  _JOURNAL.write_text(json.dumps(entry) + '\n')
  assert run(_always(_YES), inputs=1)[0] == 2
  said = capsys.readouterr().err
  assert said.count('1 with name') == min(count, 6)
  end = '; …. Ask as before' if count > 6 else f'name{count - 1} {count - 1}. A'
  assert end in said


def test_a_run_that_stopped_says_what_it_got(run, capsys):
  assert run(_always(_YES), '--limit', 2, inputs=40)[0] == 0
  code, server = run(_in_turn(_YES, _YES, _YES, _BUSY), inputs=40)
  assert (code, server.requests) == (1, 28)
  shown = capsys.readouterr()
  assert (
    'Stopped: 25 rows in a row got no completion, the last one: HTTP 500: Busy.'
    f' 5 of 40 completions are in {_JOURNAL} (3 of them from this run, 25 rows'
    ' failed, 39 tokens). Run the same command again to go on.\n'
  ) in shown.err
  assert 'Stopped' not in shown.out


def test_one_row_without_an_answer_is_told_with_its_error(run, capsys):
  body = fault_server.reply(None, refusal='I must not.')
  code, server = run(_always((200, body)), inputs=1)
  assert (code, server.requests) == (1, 1)
  assert (
    'no row got a completion, the last error: the model refused: I must not.'
  ) in capsys.readouterr().err


@pytest.mark.parametrize(
  ('number', 'times', 'kept'),
  [(signal.SIGINT, 1, 3), (signal.SIGTERM, 1, 3), (signal.SIGINT, 2, 2)],
)
def test_a_signal_stops_and_a_second_one_gives_up(
  run, monkeypatch, capsys, number, times, kept
):
  told, interrupt = threading.Event(), request_queue.RequestQueue.interrupt

  def interrupt_and_tell(queue):
    interrupt(queue)
    told.set()

  count = itertools.count(1)

  def script(question):
    if next(count) == 3:
      for _ in range(times):
        os.kill(os.getpid(), number)
        assert told.wait(5)
        told.clear()
    return _YES

  monkeypatch.setattr(
    request_queue.RequestQueue, 'interrupt', interrupt_and_tell
  )
  code, server = run(script, inputs=9)
  assert (code, server.requests) == (130, 3)
  shown = capsys.readouterr()
  assert len(_indices()) == kept
  assert 'Stopping' not in shown.out
  assert shown.err.count('Stopping: waiting for 1 requests that') == 1
  assert f'Stopped: interrupted. {kept} of 9 completions are in' in shown.err


def test_a_report_says_what_was_asked_and_used(run, capsys):
  prices = ('--price-in', 2, '--price-out', 8)
  assert run(_always(_YES), '--param', 'top_p=0.5', *prices)[0] == 0
  found = json.loads((_FOLDER / 'report.json').read_text())
  parameters = found.pop('parameters')
  assert (parameters['top_p'], parameters['endpoint']) == (0.5, 'chat')
  facts = {name: found[name] for name in list(found)[:7]}
  assert facts == {
    'data': 'own.jsonl',
    'data_set': 'custom',
    'teacher': 'mine',
    'model': 'tiny',
    'samples': 1,
    'usage': {'prompt_tokens': 36, 'completion_tokens': 16},
    'cost': (36 * 2 + 16 * 8) / 1e6,
  }
  assert f'\nin {_FOLDER}\n' in capsys.readouterr().out


def test_rows_not_asked_about_now_count_if_they_were_before(
  serve, extract, write_release
):
  _, url = serve(refuse='number 1?')
  options = ('--data-set', 'cqa', '--split')
  for split, asked in (('train', (5, 0)), ('test', (5, 2))):
    more = (*options, split, '--limit', 5 if split == 'train' else 2)
    assert extract(write_release(), *more, url=url) == 0
    found = json.loads((_CQA / 'report.json').read_text())['splits']
    assert (found['train']['asked'], found['test']['asked']) == asked
    assert (found['train']['completed'], found['train']['failed']) == (4, 1)


def test_the_next_command_has_the_options_that_the_rows_need(
  serve, extract, write_release, run, capsys
):
  _, url = serve()
  write_release(name='www')
  for data, options in (('www', ['--data', 'www']), ('sample', [])):
    limit = ('--data-set', 'cqa', '--limit', 1)
    assert extract(data, *limit, teacher=f't{data}', url=url) == 0
    (command,) = advice.commands(capsys.readouterr().out)
    words = advice.words(command)
    assert words[2:5] == ['cqa', '--teacher', f't{data}']
    assert [w for w in words if w in ('--data', data)] == options
  for more in ((), ('--by-value',)):
    body = fault_server.reply('It is. So the answer is 4.')
    assert run(_always((200, body)), '--fresh', *more, label='3')[0] == 0
    (command,) = advice.commands(capsys.readouterr().out)
    assert ('BY_VALUE=True' in command) == bool(more)


@pytest.mark.parametrize(
  ('train', 'test', 'options'),
  [
    ((5, 5, 1), (5, 5, 0), {}),
    ((5, 4, 1), (5, 5, 0), {'labels': 'teacher'}),
    ((5, 5, 1), (5, 4, 0), {'labels': 'teacher'}),
    ((5, 5, 5), (5, 5, 4), {}),
    ((5, 5, 0), (5, 5, 5), {'EVAL_RATIONALES': False}),
    ((5, 5, 0), (0, 0, 0), {'EVAL_RATIONALES': False}),
  ],
)
def test_what_cannot_be_compared_is_not_evaluated(train, test, options):
  names = ('completed', 'gold', 'blank_rationales')
  train, test, valid = (
    report.SplitCounts(**dict(zip(names, counts, strict=True)))
    for counts in (train, test, (5, 5, 0))
  )
  for splits in (
    {'train': train, 'test': test},
    {'train': train, 'validation': valid, 'test': test},
    {'train': train, 'validation': test},
  ):
    assert extraction._choices(splits) == options
