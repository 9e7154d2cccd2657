"""Tests of runs that ask for JSON: `dss extract --structured`."""

import json
import pathlib

import pytest

from dss_jax.data import records
from dss_jax.extract import request_queue
from dss_jax.extract.api import failures
from tests.dss_jax import conftest as rows_lib
from tests.dss_jax.extract import fault_server

_FOLDER = pathlib.Path('runs/teachers/mine/custom')
_TEXT = 'Herrings are fish. So the answer is yes.'
_JSON = '{"rationale": "Herrings are fish.", "label": "yes"}'
_PROMPT = {
  'instruction': 'Say why first.',
  'question': 'Q: {input}',
  'answer': 'A: {rationale} So the answer is {label}.',
  'exemplars': [{'input': 'Ice?', 'rationale': 'It melts.', 'label': 'no'}],
}
_UNKNOWN = {'error': {'message': "Unsupported parameter: 'response_format'."}}


@pytest.fixture
def run(serve, extract, tmp_path):
  """Returns a function that extracts, with --structured, from a server.

  The server answers by whether JSON is asked for. It returns the exit code and
  the bodies of the requests.
  """

  def run(in_json, in_text=(200, _UNKNOWN), *arguments, rows=4):
    own = [{'input': f'Do herrings swim? {n}'} for n in range(rows)]
    rows_lib.write_json_lines(tmp_path / 'own.jsonl', own)
    (tmp_path / 'prompt.json').write_text(json.dumps(_PROMPT))

    def script(question):
      asks = 'response_format' in server.bodies[-1]
      return in_json if asks else in_text

    server, url = serve(script=script)
    options = ('--prompt', 'prompt.json', '--retries', 1)
    code = extract('own.jsonl', *options, *arguments, url=url)
    return code, server.bodies

  return run


def _said(text, finish='stop'):
  return 200, fault_server.reply(text, finish)


def _rows():
  text = (_FOLDER / 'rows/train.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def _parameters():
  lines = (_FOLDER / 'journal.jsonl').read_text().splitlines()
  return [json.loads(line)['parameters'] for line in lines]


def test_json_is_asked_for_by_a_schema_and_kept_as_it_came(run, capsys):
  code, bodies = run(_said(_JSON), (500, ''), '--structured')
  assert (code, len(bodies)) == (0, 4)
  for body in bodies:
    assert body['response_format']['type'] == 'json_schema'
    named = body['response_format']['json_schema']
    assert named['strict'] is True
    assert named['schema']['required'] == ['rationale', 'label']
    # JSON ends by itself, and exemplars are what is asked for.
    assert 'stop' not in body
    [shown] = [m for m in body['messages'] if m['role'] == 'assistant']
    assert json.loads(shown['content']) == {
      'rationale': 'It melts.',
      'label': 'no',
    }
  for row in _rows():
    assert row['rationale'] == 'Herrings are fish.'
    assert row['teacher_label'] == 'yes'
    assert row['completions'] == [_JSON]
  assert all('response_format' in found for found in _parameters())
  # The same command has nothing to ask; another format is another extraction.
  assert run(_said(_JSON), (500, ''), '--structured') == (0, [])
  code, bodies = run(_said(_JSON), _said(_TEXT))
  assert (code, bodies) == (2, [])
  assert 'response_format' in capsys.readouterr().err


@pytest.mark.parametrize('finish', ['stop', 'length'])
def test_what_is_no_such_object_is_blank(run, finish):
  """Also if it could be read as text."""
  seen = iter([_JSON, _TEXT, _JSON[:-4], f'<think>{_JSON}'] * 9)

  class Each:
    def __iter__(self):
      return iter(_said(next(seen), finish))

  code, _ = run(Each(), (500, ''), '--structured', '--concurrency', 1)
  assert code == 0
  assert [row['teacher_label'] for row in _rows()].count('yes') == 1
  assert [row['rationale'] for row in _rows()].count('') == 3


def test_a_server_that_does_not_know_is_asked_for_text(run, capsys):
  code, bodies = run((400, _UNKNOWN), _said(_TEXT), '--structured')
  assert code == 0
  assert ['response_format' in body for body in bodies] == [True] + [False] * 4
  told = capsys.readouterr().err
  assert 'the server does not know response_format (HTTP 400: Unsupp' in told
  assert 'in the text format instead' in told
  assert {row['teacher_label'] for row in _rows()} == {'yes'}
  assert all(found['structured'] == 'text' for found in _parameters())
  report = json.loads((_FOLDER / 'report.json').read_text())
  assert report['parameters']['structured'] == 'text'
  # The journal is of the text format from now on, whatever the server learns.
  code, bodies = run(_said(_JSON), _said(_TEXT), '--structured', rows=6)
  assert code == 0
  assert ['response_format' in body for body in bodies] == [False] * 2
  assert 'was begun in the text format' in capsys.readouterr().err
  # Text that was asked for as such is another extraction.
  assert run(_said(_JSON), _said(_TEXT), rows=6)[0] == 2


def test_a_fallback_leaves_an_old_journal_where_it_was(run):
  assert run(_said(_JSON), _said(_TEXT))[0] == 0
  more = ('--structured', '--fresh')
  assert run((400, _UNKNOWN), _said(_TEXT), *more)[0] == 0
  assert {found.get('structured') for found in _parameters()} == {'text'}
  assert (_FOLDER / 'journal.1.jsonl').exists()
  assert not (_FOLDER / 'journal.2.jsonl').exists()


@pytest.mark.parametrize(
  'answer',
  [
    (400, {'error': {'message': "Invalid schema for response_format: 'x'"}}),
    (400, {'error': {'message': 'The model is too small'}}),
    (401, {'error': {'message': 'Unsupported key'}}),
    (400, {'error': {'message': "Unsupported parameter: 'temperature'"}}),
  ],
)
def test_no_other_error_leads_to_text(run, capsys, answer):
  code, bodies = run(answer, _said(_TEXT), '--structured')
  assert code == 2
  assert all('response_format' in body for body in bodies)
  assert 'text format' not in capsys.readouterr().err
  assert not _FOLDER.exists()


def test_who_asks_for_a_format_alone_gets_no_other(run, capsys):
  option = ('--param', 'response_format={"type": "json_object"}')
  code, bodies = run((400, _UNKNOWN), _said(_TEXT), *option)
  assert (code, len(bodies)) == (2, 1)
  told = capsys.readouterr().err
  assert 'text format' not in told and '--param that asks for JSON' in told


def test_a_run_that_has_json_never_goes_on_with_text(run, capsys):
  assert run(_said(_JSON), (500, ''), '--structured')[0] == 0
  code, bodies = run((400, _UNKNOWN), _said(_TEXT), '--structured', rows=6)
  assert code == 2 and all('response_format' in body for body in bodies)
  assert 'Leave --structured out' in capsys.readouterr().err


def test_a_server_that_passes_over_the_format_is_told(run, capsys):
  code, bodies = run(
    _said(_TEXT), _said(_TEXT), '--structured', '--concurrency', 1, rows=60
  )
  assert (code, len(bodies)) == (1, request_queue.MAX_FAILURES_IN_A_ROW)
  told = capsys.readouterr().err
  assert 'are no JSON object of a rationale and a label' in told
  assert 'leave --structured out, and give --fresh' in told


def test_objects_that_are_all_cut_ask_for_more_tokens(run, capsys):
  code, bodies = run(
    _said(_JSON[:30], 'length'),
    (500, ''),
    '--structured',
    '--concurrency',
    1,
    rows=60,
  )
  assert (code, len(bodies)) == (1, request_queue.MAX_FAILURES_IN_A_ROW)
  assert 'a larger --max-tokens and --fresh' in capsys.readouterr().err


def test_classes_are_all_that_a_label_can_be(run):
  more = ('--structured', '--class', 'yes', '--class', 'no')
  code, bodies = run(_said(_JSON), (500, ''), *more)
  assert code == 0
  schema = bodies[0]['response_format']['json_schema']['schema']
  assert schema['properties']['label']['enum'] == ['yes', 'no']
  assert {row['teacher_label'] for row in _rows()} == {'yes'}


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    (('--structured', '--endpoint', 'completion'), '--endpoint chat'),
    (('--structured', '--param', 'response_format=1'), 'which sets it'),
    (('--class', 'a', '--class', 'b'), '--class: expected --structured'),
    (('--structured', '--class', 'yes'), 'two labels or more'),
    (('--structured', '--class', 'yes', '--class', 'YES'), 'that differ'),
    (('--structured', '--class', 'a', '--class', 'b'), "the label 'no'"),
  ],
)
def test_options_that_do_not_fit_are_told(run, capsys, more, message):
  assert run(_said(_JSON), (500, ''), *more) == (2, [])
  assert message in capsys.readouterr().err


def test_a_dry_run_shows_json(run, capsys):
  more = ('--structured', '--class', 'no', '--class', 'né', '--dry-run')
  assert run(_said(_JSON), (500, ''), *more) == (0, [])
  shown = capsys.readouterr().out
  assert '"né"' in shown
  assert '{"rationale": "It melts.", "label": "no"}' in shown
  assert 'response_format  {"type": "json_schema"' in shown


@pytest.mark.parametrize(
  ('data_set', 'said', 'label'),
  [
    ('svamp', '(8 - 2) * 3', '((8 - 2) * 3)'),
    ('cqa', None, None),
  ],
)
def test_training_gets_what_extraction_read(
  serve, extract, write_release, data_set, said, label
):
  release = write_release(data_set, train=6, test=2)

  def script(question):
    found = said or question.partition('(a) ')[2].partition('\n')[0]
    text = json.dumps({'rationale': 'It is so.', 'label': found})
    return 200, fault_server.reply(text)

  _, url = serve(script=script)
  options = ('--data-set', data_set, '--structured')
  assert extract(release, *options, url=url) == 0
  for split in records.read(data_set, str(release), 'mine').splits.values():
    for record in split:
      assert record.rationale == 'It is so.'
      assert record.teacher_label == (label or record.teacher_label) != ''
  report = json.loads(
    pathlib.Path('runs/teachers/mine', data_set, 'report.json').read_text()
  )
  assert report['splits']['train']['outside_labels'] == 0


@pytest.mark.parametrize(
  ('words', 'is_unknown'),
  [
    ("Unsupported parameter: 'response_format'", True),
    ('Unrecognized request argument supplied: response_format', True),
    ('This model does not support response format `json_schema`.', True),
    (
      "Invalid parameter: 'response_format' of type 'json_schema' is not"
      ' supported with this model.',
      True,
    ),
    ('This response_format type is unavailable now', True),
    ("Unexpected fields in the request: {'response_format'}", True),
    (
      '[{"type": "extra_forbidden", "loc": ["body", "response_format"], "msg":'
      ' "Extra inputs are not permitted"}]',
      True,
    ),
    (
      '[{"loc": ["body", "response_format", "type"], "msg": "Input should be'
      " 'text' or 'json_object'\"}]",
      True,
    ),
    ('structured outputs are not yet supported', True),
    (
      "Invalid schema for response_format 'answer': 'enum' is not permitted",
      False,
    ),
    ("response_format.json_schema: 'name' is required", False),
    ('Unsupported parameter: temperature', False),
    ('The server is busy', False),
    ('The key is not allowed', False),
    ('', False),
  ],
)
def test_only_words_about_the_parameter_lead_to_text(words, is_unknown):
  assert failures.is_unknown_format(words) is is_unknown
