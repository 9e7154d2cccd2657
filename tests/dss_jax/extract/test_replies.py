"""Tests of runs whose teacher thinks, refuses, or says something else."""

import json
import pathlib

import pytest

from dss_jax import errors
from dss_jax.data import records
from dss_jax.extract import request_queue
from tests.dss_jax import conftest as rows_lib
from tests.dss_jax.extract import fault_server

_FOLDER = pathlib.Path('runs/teachers/mine/custom')
_ANSWER = 'Herrings are fish. So the answer is yes.'
_PROMPT = {
  'instruction': 'Say why first.',
  'question': 'Q: {input}',
  'answer': 'A: {rationale} So the answer is {label}.',
  'exemplars': [{'input': 'Ice?', 'rationale': 'It melts.', 'label': 'no'}],
}


@pytest.fixture
def run(serve, extract, tmp_path):
  """Returns a function that extracts from a scripted server.

  It returns the exit code and how many completions were asked for.
  """

  def run(script, *arguments, rows=4, **prompt):
    own = [{'input': f'Do herrings swim? {n}'} for n in range(rows)]
    # The last row has the longest prompt.
    own[-1]['input'] += ' Say it now.'
    rows_lib.write_json_lines(tmp_path / 'own.jsonl', own)
    (tmp_path / 'prompt.json').write_text(json.dumps(_PROMPT | prompt))
    server, url = serve(script=script)
    options = ('--prompt', 'prompt.json', '--retries', 1, *arguments)
    code = extract('own.jsonl', *options, url=url)
    return code, server.requests

  return run


def _rows():
  text = (_FOLDER / 'rows/train.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def _entries():
  lines = (_FOLDER / 'journal.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def _same(body):
  return lambda question: (200, body)


_PARTS = [
  {'type': 'thinking', 'thinking': [{'type': 'text', 'text': 'Hm, no?'}]},
  {'type': 'text', 'text': 'Herrings are fish. '},
  {'type': 'text', 'text': 'So the answer is yes.'},
]


@pytest.mark.parametrize(
  'body',
  [
    fault_server.reply(f'Hm, no?</think>\n{_ANSWER}'),
    fault_server.reply(f'<think>Hm, no?</think>\n{_ANSWER}'),
    fault_server.reply(_ANSWER, reasoning_content='Hm, no?'),
    fault_server.reply(_ANSWER, reasoning='Hm, no?'),
    fault_server.reply(_PARTS),
  ],
)
@pytest.mark.parametrize('options', [(), ('--keep-thoughts',)])
def test_thoughts_are_kept_if_asked_for_and_never_rationales(
  run, body, options
):
  assert run(_same(body), *options) == (0, 4)
  for row in _rows():
    assert row['rationale'] == 'Herrings are fish.'
    assert row['teacher_label'] == 'yes'
    assert row.get('thoughts') == (['Hm, no?'] if options else None)
  in_a_field = '<' not in body['choices'][0]['message']['content'] and options
  in_a_field = in_a_field and '</think>' not in str(body)
  for entry in _entries():
    assert ('thoughts' in entry) == bool(in_a_field)


def test_thoughts_that_are_cut_are_no_rationale_of_any_row(run):
  """The replies that leave their thoughts tell what the others are."""

  def script(question):
    if 'swim? 1' in question or 'swim? 2' in question:
      text = 'Perhaps. So the answer is no?\nWait, let me see'
      return 200, fault_server.reply(text, 'length')
    return 200, fault_server.reply(f'Hm.</think>{_ANSWER}')

  assert run(script, rows=6) == (0, 6)
  assert [row['rationale'] for row in _rows()] == [
    'Herrings are fish.' if n not in (1, 2) else '' for n in range(6)
  ]
  assert [row['teacher_label'] for row in _rows()][1:3] == ['', '']


_THOUGHTS = fault_server.reply(None, 'length', reasoning_content='Hm. ' * 9)


@pytest.mark.parametrize(
  ('body', 'found', 'fix'),
  [
    (_THOUGHTS, 'only thoughts (36 characters', 'a larger --max-tokens'),
    (fault_server.reply(''), 'found no content', 'which is 256 now'),
    (fault_server.reply('<think>Hm', 'length'), 'only thoughts', '--max-tok'),
    (fault_server.reply('<think>Hm</think>'), 'only thoughts', 'stop=null'),
    (fault_server.reply(None, refusal='I must not.'), 'I must not.', '--model'),
    (
      fault_server.reply(None, 'content_filter'),
      'the server filtered',
      'Change the instruction',
    ),
  ],
)
def test_a_run_without_an_answer_stops_early(run, capsys, body, found, fix):
  code, requests = run(_same(body), '--concurrency', 1, rows=60)
  assert (code, requests) == (1, 10)
  shown = capsys.readouterr().err
  assert found in shown and fix in shown and '--fresh' not in shown, shown
  # What came was paid for, and is kept; it is no completion.
  assert all(entry['error'] for entry in _entries())
  assert {entry['usage']['completion_tokens'] for entry in _entries()} == {4}
  # With a larger limit, the same command goes on.
  code, requests = run(
    _same(fault_server.reply(_ANSWER)), '--max-tokens', 900, rows=60
  )
  assert (code, requests) == (0, 60)


def test_a_limit_of_another_name_is_named(run, capsys):
  more = ('--param', 'max_tokens=null', '--param', 'max_completion_tokens=9')
  assert run(_same(_THOUGHTS), *more)[0] == 1
  shown = capsys.readouterr().err
  assert '--param max_completion_tokens=N, which is 9 now' in shown


def test_thoughts_without_a_tag_that_are_all_cut_stop_the_run(run, capsys):
  body = fault_server.reply('Okay, let me see what herrings do', 'length')
  code, requests = run(_same(body), '--concurrency', 1, rows=60)
  assert (code, requests) == (1, request_queue.MAX_FAILURES_IN_A_ROW)
  shown = capsys.readouterr().err
  assert 'ended at the token limit' in shown
  assert '--max-tokens and --fresh' in shown


def test_one_reply_with_a_label_shows_that_the_prompt_works(run):
  useless = fault_server.reply('Okay, let me see what herrings do', 'length')
  rows = request_queue.MAX_FAILURES_IN_A_ROW + 2

  def script(question):
    first = 'swim? 0' in question
    return 200, fault_server.reply(_ANSWER) if first else useless

  assert run(script, '--concurrency', 1, rows=rows) == (0, rows)
  labels = [row['teacher_label'] for row in _rows()]
  assert labels == ['yes'] + [''] * (rows - 1)


@pytest.mark.parametrize(
  ('text', 'label'),
  [
    ('It swims. So the answer is ye', ''),
    ('It swims. So the answer is yes.', 'yes'),
    ('It swims. So the answer is yes\n\nMore', 'yes'),
    ('It swims. So the answer is no? Wait', ''),
    ('It swims. So the answer is no? Wait, it has fins.', ''),
    ('It swims', ''),
  ],
)
@pytest.mark.parametrize('finish', ['length', 'max_tokens', 'content_filter'])
def test_a_reply_that_was_cut_counts_with_a_whole_label(
  run, text, label, finish
):
  assert run(_same(fault_server.reply(text, finish))) == (0, 4)
  for row in _rows():
    assert row['teacher_label'] == label
    assert row['rationale'] == ('It swims.' if label else '')


@pytest.mark.parametrize(
  'thought',
  [
    {'reasoning': {'effort': 'low'}},
    {'reasoning': [{'type': 'thinking', 'thinking': 'Hm.'}]},
    {'reasoning_content': 7, 'refusal': {}},
  ],
)
def test_fields_of_other_forms_do_no_harm(run, thought):
  assert run(_same(fault_server.reply(_ANSWER, **thought))) == (0, 4)
  assert {row['teacher_label'] for row in _rows()} == {'yes'}


def test_a_few_rows_without_an_answer_do_not_end_well(run, capsys):
  assert run(_same(_THOUGHTS), rows=2) == (1, 2)
  assert 'no row got a completion' in capsys.readouterr().err


def test_the_longest_row_may_be_refused_alone(run, capsys):
  refusals = [
    (200, fault_server.reply(None, 'content_filter')),
    (200, fault_server.reply(None, refusal='I must not.')),
    (400, {'error': {'message': 'No.', 'code': 'content_filter'}}),
    (403, {'error': {'message': 'Your input was flagged'}}),
  ]
  for number, refusal in enumerate(refusals):

    def script(question, refusal=refusal):
      if 'Say it now' in question:
        return refusal
      return 200, fault_server.reply(_ANSWER)

    assert run(script, '--fresh') == (0, 4), number
    assert [bool(row['rationale']) for row in _rows()] == [True] * 3 + [False]
    assert 'train 3: ' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('status', 'body', 'shown'),
  [
    # An error in a body that says 200.
    (200, {'error': {'message': 'No purse', 'code': 402}}, 'No purse'),
    (200, {'choices': [], 'error': 'No purse'}, 'error: No purse'),
    (
      200,
      {'object': 'error', 'message': 'No purse', 'code': 400},
      'HTTP 400: No purse',
    ),
    (200, {'detail': 'No purse'}, 'found: No purse'),
    (
      200,
      {'choices': [{'error': {'message': 'No purse', 'code': '403'}}]},
      'No purse',
    ),
    # What is no JSON.
    (200, 'data: {"error": {"message": "No purse"}}\n\n', 'error: No purse'),
    (200, 'data: {"choices": [1]}\n\ndata: [DONE]\n', 'streaming off'),
    (
      200,
      '<html><style>a{}</style><title>Sign &amp; in</title></html>',
      'a web page (HTML): Sign & in',
    ),
    (502, '<h1>Bad\x1b[31m gate</h1>' + 'x' * 999, 'HTTP 502: Bad [31m gate'),
    (200, 'no purse', 'found a body that is not: no purse'),
    # Advice by the server's words.
    (
      400,
      {'error': {'message': 'System role not supported'}},
      "instruction: '', with its words in the question), or --endpoint compl",
    ),
    (500, 'roles must alternate user/assistant', '--endpoint completion'),
    (
      400,
      {'error': {'message': "Use 'max_completion_tokens' instead."}},
      '--param max_tokens=null',
    ),
    (
      400,
      {'error': {'message': "'temperature' does not support 0.0 here"}},
      '--param temperature=null',
    ),
    (
      422,
      {'detail': [{'loc': ['stop'], 'msg': 'Unsupported parameter: stop'}]},
      '--param stop=null',
    ),
    (
      400,
      {'message': 'the tokenizer does not have a chat_template'},
      '--endpoint completion',
    ),
    (
      400,
      {'error': {'message': 'maximum context length is 9'}},
      'fewer exemplars',
    ),
  ],
)
def test_the_servers_own_words_are_told(run, capsys, status, body, shown):
  code, requests = run(lambda question: (status, body))
  told = capsys.readouterr().err
  assert code == 2 and requests <= 2, told
  assert shown in told and '\x1b' not in told and len(told) < 1200, told
  assert not _FOLDER.exists()


# What training gets.


def _extracted(serve, extract, release, data_set, text):
  _, url = serve(script=_same(fault_server.reply(text)))
  assert extract(release, '--data-set', data_set, url=url) == 0
  return pathlib.Path('runs/teachers/mine') / data_set


def test_training_gets_what_extraction_read(serve, extract, write_release):
  """The published rule would find another value."""
  release = write_release('svamp', train=6, test=2)
  text = 'There are 3. The answer is **(8 - 2) * 3**.'
  _extracted(serve, extract, release, 'svamp', text)
  for place in (str(release), 'runs/teachers/mine'):
    for split in records.read('svamp', place, 'mine').splits.values():
      assert {record.teacher_label for record in split} == {'((8 - 2) * 3)'}
      assert {record.rationale for record in split} == {'There are 3.'}


def test_a_completion_that_was_changed_is_parsed_anew(
  serve, extract, write_release
):
  release = write_release('svamp', train=6, test=2)
  text = 'There are 3. The answer is (8 - 2) * 3.'
  folder = _extracted(serve, extract, release, 'svamp', text)
  before = records.fingerprint('svamp', str(release), 'mine')
  path = folder / 'mine/train_CoT_0.json'
  values = json.loads(path.read_text())
  values[1] = 'Mine. The answer is (1 + 1).'
  path.write_text(json.dumps(values))
  found = records.read('svamp', str(release), 'mine').splits['train']
  assert [r.teacher_label for r in found[:3]] == [
    '((8 - 2) * 3)', '(1 + 1)', '((8 - 2) * 3)',
  ]  # fmt: skip
  # What readings say is part of what data sets are made from.
  changed = records.fingerprint('svamp', str(release), 'mine')
  readings = folder / 'mine/train_read_0.json'
  readings.write_text(readings.read_text().replace('There', 'Here'))
  again = records.fingerprint('svamp', str(release), 'mine')
  assert len({before, changed, again}) == 3
  # Without them, all are parsed by the published rule.
  readings.unlink()
  found = records.read('svamp', str(release), 'mine').splits['train']
  assert [r.teacher_label for r in found[:2]] == ['(8 - 2)', '(1 + 1)']
  readings.write_text('[{"rationale": 1}]')
  with pytest.raises(errors.DataError, match=r'_read_0\.json, entry 0'):
    records.read('svamp', str(release), 'mine')
