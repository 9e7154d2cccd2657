"""Tests of `dss extract` from its command line to its files."""

import gzip
import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import pyarrow
import pytest
from pyarrow import parquet

from dss_jax import errors
from dss_jax.data import own_rows, records
from tests import advice
from tests.dss_jax import conftest as rows_lib
from tests.dss_jax.extract import fault_server
from tests.dss_jax.extract.conftest import KEY

_ROOT = pathlib.Path(__file__).parents[3]
FOLDER = pathlib.Path('runs/teachers/mine/cqa')
OWN = pathlib.Path('runs/teachers/mine/custom/rows/train.jsonl')
CQA = ('--data-set', 'cqa')


def _json_lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def _report():
  return json.loads((FOLDER / 'report.json').read_text())


def _accepted():
  """Returns (split, index, sample) of all completions in the journal."""
  lines = _json_lines(FOLDER / 'journal.jsonl')
  return [
    (e['split'], e['index'], e['sample']) for e in lines if not e['error']
  ]


def test_faults_cost_nothing_but_time(serve, extract, write_release, capsys):
  """A tenth of all requests fail in every way; nothing is lost or doubled."""
  server, url = serve(fault_rate=0.3, spread=0.02, seed=2)
  release = write_release(train=60, test=20, part=20)
  assert extract(release, *CQA, url=url) == 0
  assert set(server.faults) == set(fault_server.FAULTS)
  accepted = _accepted()
  assert len(accepted) == len(set(accepted)) == 80
  assert accepted != sorted(accepted)
  assert set(server.answered.values()) == {1} and len(server.answered) == 80
  report = _report()
  assert (report['data_set'], report['teacher']) == ('cqa', 'mine')
  assert report['splits']['train']['completed'] == 60
  assert report['usage']['completion_tokens'] == 80 * 20
  assert (FOLDER / 'lengths.png').read_bytes().startswith(b'\x89PNG')
  shown = capsys.readouterr().out
  (command,) = advice.commands(shown)
  assert advice.words(command) == [
    *('dss', 'train', 'cqa', '--teacher', 'mine', '--data', str(release)),
    *('--out', 'runs/cqa_mine'),
  ]
  # Training reads it by its name, or as a folder in the published layout.
  for place in (str(release), 'runs/teachers/mine'):
    read = records.read('cqa', place, 'mine')
    found = read.reports['train']
    assert (found.rows, found.empty_rationales) == (60, 0)
    assert found.teacher_accuracy == report['splits']['train']['accuracy']
    for record in read.splits['train']:
      expected = fault_server.answer(f'Q: {record.input}')
      assert f' {record.teacher_label}.' in expected
      assert expected.startswith(record.rationale)


def test_a_second_call_asks_for_what_is_missing(
  serve, extract, write_release, capsys
):
  server, url = serve()
  release = write_release()
  assert extract(release, *CQA, '--limit', 4, url=url) == 0
  assert server.requests == 8
  assert extract(release, *CQA, url=url) == 0
  assert server.requests == 30
  assert '8 completions are in' in capsys.readouterr().out
  before = (FOLDER / 'journal.jsonl').read_bytes()
  # All is there: not even a server is needed.
  assert extract(release, *CQA, url='http://127.0.0.1:9/v1') == 0
  assert (FOLDER / 'journal.jsonl').read_bytes() == before


def test_rows_that_were_not_asked_about_are_blank(
  serve, extract, write_release
):
  _, url = serve()
  release = write_release()
  arguments = ('--split', 'train', '--limit', 5)
  assert extract(release, *CQA, *arguments, url=url) == 0
  found = records.read('cqa', str(release), 'mine')
  filled = [bool(r.rationale) for r in found.splits['train']]
  assert filled == [True] * 5 + [False] * 19
  assert found.reports['test'].empty_rationales == 6
  # What is there already stays in the result, whatever is asked about now.
  assert extract(release, *CQA, '--split', 'test', url=url) == 0
  found = records.read('cqa', str(release), 'mine')
  assert found.reports['train'].empty_rationales == 19
  assert found.reports['test'].empty_rationales == 0


def test_what_is_asked_otherwise_does_not_mix(
  serve, extract, write_release, tmp_path, capsys
):
  server, url = serve(models=('tiny', 'big'))
  release = write_release()
  assert extract(release, *CQA, url=url) == 0
  begun = server.requests
  for arguments, message in (
    ({'model': 'big'}, '30 with model tiny'),
    ({'arguments': ('--temperature', 0.5)}, '30 with temperature 0.0'),
    ({'arguments': ('--endpoint', 'completion')}, '30 with endpoint "chat"'),
    ({'arguments': ('--param', 'top_p=0.5')}, '30 with top_p null'),
    ({'arguments': ('--prompt', _prompt_file(tmp_path))}, '30 with prompt'),
  ):
    more = arguments.pop('arguments', ())
    assert extract(release, *CQA, *more, url=url, **arguments) == 2
    assert message in capsys.readouterr().err
  assert server.requests == begun
  # A mistake leaves the old journal where it was.
  assert extract(release, *CQA, '--fresh', url=url, model='none') == 2
  assert "--model 'none'" in capsys.readouterr().err
  assert len(_accepted()) == 30
  begun = server.requests
  assert extract(release, *CQA, '--fresh', url=url, model='big') == 0
  assert server.requests == begun + 30
  assert len(_json_lines(FOLDER / 'journal.1.jsonl')) == 30
  assert extract(write_release(train=8), *CQA, url=url, model='big') == 2
  assert 'was asked about them' in capsys.readouterr().err


def _prompt_file(tmp_path, **changes):
  prompt = {
    'question': 'Q: {input}',
    'answer': 'A: {rationale} So the answer is {label}.',
    'exemplars': [
      {'input': 'Ice?', 'rationale': 'It melts.', 'label': '(a) yes'}
    ],
  }
  path = tmp_path / 'prompt.json'
  path.write_text(json.dumps(prompt | changes))
  return path


def test_samples_vote(serve, extract, write_release):
  server, url = serve(spread=0.01)
  release = write_release(train=6, test=2)
  arguments = ('--samples', 3, '--temperature', 0.7)
  assert extract(release, *CQA, *arguments, url=url) == 0
  assert server.requests == 24 and set(server.answered.values()) == {3}
  rows = _json_lines(FOLDER / 'rows' / 'train.jsonl')
  assert all(len(row['completions']) == 3 for row in rows)
  assert {row['agreement'] for row in rows} == {1.0}


def test_rows_of_ones_own_need_no_labels(serve, extract, tmp_path, capsys):
  _, url = serve()
  rows = [
    {'text': f'Is it {n}?', 'gold': 'yes' if n < 5 else ''} for n in range(10)
  ]
  rows_lib.write_json_lines(tmp_path / 'mine.jsonl', rows)
  prompt = _prompt_file(
    tmp_path,
    exemplars=[{'input': 'Ice?', 'rationale': 'It is.', 'label': 'no'}],
  )
  arguments = ('--column', 'input=text', '--column', 'label=gold')
  assert extract('mine.jsonl', '--prompt', prompt, *arguments, url=url) == 0
  (command,) = advice.commands(capsys.readouterr().out)
  # Half of the rows have no gold label.
  assert advice.words(command)[2:7] == [
    *(str(OWN), '--teacher', 'mine', '--labels', 'teacher')
  ]
  folder = pathlib.Path('runs/teachers/mine/custom')
  report = json.loads((folder / 'report.json').read_text())['splits']['train']
  assert (report['gold'], report['correct']) == (5, 5)
  read = own_rows.read(own_rows.OwnData(str(folder / 'rows/train.jsonl')))
  records_read = [r for split in read.splits.values() for r in split]
  assert {r.rationale for r in records_read} == {'Because it is so.'}
  assert {r.teacher_label for r in records_read} == {'yes'}
  assert {r.id for r in records_read} == {f'mine-{n}' for n in range(10)}


@pytest.mark.parametrize('form', ['csv', 'parquet', 'json', 'shards', 'gz'])
def test_rows_of_ones_own_are_asked_about_in_every_form(
  serve, extract, tmp_path, form
):
  _, url = serve()
  nan = float('nan')
  rows = [
    {'input': f'Is it {n}?', 'label': nan if n == 1 else 2.0, 'more': [n]}
    for n in range(6)
  ]
  name = {'shards': 'parts/*.jsonl', 'gz': 'a.jsonl.gz'}.get(form, f'a.{form}')
  if form == 'csv':
    lines = [f'{r["input"]},{r["label"]}' for r in rows]
    (tmp_path / name).write_text('\n'.join(['input,label', *lines]))
  elif form == 'parquet':
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
  elif form == 'json':
    (tmp_path / name).write_text(json.dumps(rows, indent=1))
  elif form == 'gz':
    text = '\n'.join(map(json.dumps, rows))
    (tmp_path / name).write_bytes(gzip.compress(text.encode()))
  else:
    (tmp_path / 'parts').mkdir()
    rows_lib.write_json_lines(tmp_path / 'parts/a.jsonl', rows[:4])
    rows_lib.write_json_lines(tmp_path / 'parts/b.jsonl', rows[4:])
  prompt = _prompt_file(
    tmp_path,
    exemplars=[{'input': 'Ice?', 'rationale': 'It is.', 'label': 'no'}],
  )
  assert extract(name, '--prompt', prompt, url=url) == 0
  found = _json_lines(OWN)
  assert [row['input'] for row in found] == [row['input'] for row in rows]
  # CSV has texts alone.
  two = '2.0' if form == 'csv' else '2'
  assert [row['label'] for row in found] == [two, '', *[two] * 4]
  if form == 'shards':
    assert [row['id'] for row in found][3:5] == ['a-3', 'b-4']


def test_a_label_none_is_passed_on(serve, extract, tmp_path):
  _, url = serve()
  rows = [{'input': f'Is it {n}?', 'label': 'None'} for n in range(3)]
  rows_lib.write_json_lines(tmp_path / 'mine.jsonl', rows)
  prompt = _prompt_file(
    tmp_path,
    exemplars=[{'input': 'Ice?', 'rationale': 'It is.', 'label': 'no'}],
  )
  assert extract('mine.jsonl', '--prompt', prompt, url=url) == 0
  found = _json_lines(OWN)
  assert {row['label'] for row in found} == {'None'}


def test_a_row_that_is_refused_is_reported_and_asked_again(
  serve, extract, write_release, capsys
):
  server, url = serve(refuse='number 7?')
  release = write_release()
  assert extract(release, *CQA, url=url) == 0
  [row] = _json_lines(FOLDER / 'unusable.jsonl')
  assert (row['split'], row['index']) == ('train', 7)
  assert row['why'] == 'HTTP 400: This input is not allowed'
  assert _report()['splits']['train']['failed'] == 1
  assert 'train 7: HTTP 400' in capsys.readouterr().out
  server.plan.refuse = ''
  assert extract(release, *CQA, url=url) == 0
  assert (FOLDER / 'unusable.jsonl').read_text() == ''
  assert _report()['splits']['train']['failed'] == 0


def test_a_server_that_breaks_stops_the_run(
  serve, extract, write_release, capsys
):
  server, url = serve()
  release = write_release(train=60)
  assert extract(release, *CQA, '--limit', 2, url=url) == 0
  (FOLDER / 'report.json').unlink()
  server.plan.refuse = 'Q:'
  # The first row alone is refused: nothing can be right.
  assert extract(release, *CQA, url=url) == 2
  assert 'did not answer train row' in capsys.readouterr().err
  server.plan.refuse = ''
  arguments = ('--retries', 0, '--concurrency', 1)
  server.fail_after = server.requests + 3
  assert extract(release, *CQA, *arguments, url=url) == 1
  shown = capsys.readouterr().err
  assert '25 rows in a row got no completion' in shown
  assert 'Run the same command again' in shown
  assert not (FOLDER / 'report.json').exists()
  server.fail_after = None
  assert extract(release, *CQA, url=url) == 0
  assert len(_accepted()) == 66


def test_a_key_that_is_revoked_in_the_middle_costs_nothing(
  serve, extract, write_release, capsys
):
  server, url = serve()
  release = write_release()
  answered = []

  def script(question):
    if len(answered) == 5:
      return 401, {'error': {'message': 'Key revoked'}}
    answered.append(question)
    text = fault_server.answer(question)
    return 200, {'choices': [{'message': {'content': text}}]}

  server.plan.script = script
  assert extract(release, *CQA, '--concurrency', 1, url=url) == 2
  shown = capsys.readouterr()
  assert '5 of 30 completions are in' in shown.err
  assert 'The same command goes on with the others.' in shown.err
  assert 'OPENAI_API_KEY' in shown.err
  assert 'completions are in' not in shown.out
  server.plan.script = None
  assert extract(release, *CQA, url=url) == 0
  assert server.requests == 6 + 25
  assert len(_accepted()) == 30


@pytest.mark.parametrize('where', ['echo', 'refused', 'completion'])
def test_the_key_reaches_no_file_and_no_message(
  serve, extract, write_release, tmp_path, monkeypatch, capfd, where
):
  server, url = serve(
    key=KEY, echo=' {key}' if where == 'echo' else '', retry_after='0'
  )
  endpoint = 'completion' if where == 'completion' else 'chat'
  given = KEY[::-1] if where == 'refused' else KEY
  monkeypatch.setenv('MY_KEY', given)
  arguments = ('--api-key-env', 'MY_KEY', '--endpoint', endpoint)
  code = extract(write_release(), *CQA, *arguments, url=url)
  assert code == (2 if where == 'refused' else 0)
  shown = ''.join(capfd.readouterr())
  if where == 'refused':
    assert 'MY_KEY holds one' in shown and '[key]' in shown
    assert not pathlib.Path('runs/teachers').joinpath('mine').exists()
  if where == 'echo':
    assert '[key]' in (FOLDER / 'journal.jsonl').read_text()
  assert server.requests == (0 if where == 'refused' else 30)
  for secret in (KEY, KEY[::-1]):
    assert secret not in shown
    for path in tmp_path.rglob('*'):
      assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_mistakes_of_the_service_are_told_at_once(
  serve, extract, write_release, monkeypatch, capsys
):
  release = write_release()
  server, url = serve(models=('tiny', 'large'))
  locked, locked_url = serve(key=KEY)
  hidden, hidden_url = serve(lists=False)
  short, short_url = serve(context=500)
  cases = [
    ({'url': 'http://127.0.0.1:9/v1'}, 'expected a server there, found none'),
    ({'url': url.removesuffix('/v1')}, 'Give the address with its /v1'),
    ({'url': f'{url}/completions'}, f"Did you mean '{url}'?"),
    ({'url': 'localhost:8000'}, 'expected an address such as'),
    ({'url': 'http://localhost:port/v1'}, 'expected an address such as'),
    ({'url': 'http://me:pw@127.0.0.1/v1'}, 'without a password'),
    ({'url': url, 'model': 'tine'}, "Did you mean 'tiny'?"),
    ({'url': hidden_url, 'model': 'x'}, 'does not exist'),
    ({'url': locked_url}, 'OPENAI_API_KEY does not hold one'),
    ({'url': short_url}, "This model's maximum context length is exceeded"),
  ]
  for arguments, message in cases:
    assert extract(release, *CQA, **arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown, shown
    assert 'pw' not in shown
    assert not pathlib.Path('runs/teachers/mine').exists()
  assert sum(s.requests for s in (server, locked, hidden, short)) == 3
  assert extract(release, *CQA, model='tiny') == 2
  assert '--url: expected the address' in capsys.readouterr().err
  monkeypatch.setenv('OPENAI_API_KEY', 'a\nb')
  assert extract(release, *CQA, url=url) == 2
  assert 'visible ASCII' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('nowhere', *CQA), 'found nothing there'),
    (('sample', '--data-set', 'cqaa'), "Did you mean 'cqa'?"),
    (('sample',), 'expected --data-set with it'),
    (('sample', *CQA, '--split', 'tset'), "Did you mean 'test'?"),
    (('sample', *CQA, '--samples', 2), 'expected a --temperature above 0'),
    (('sample', *CQA, '--param', 'n=2'), 'set by the command itself'),
    (('sample', *CQA, '--param', 'top_p'), 'expected NAME=VALUE'),
    (('sample', *CQA, '--column', 'input=x'), 'a file of your own rows'),
    (
      ('sample', *CQA, '--prompt', 'no.yaml'),
      'no.yaml: expected a prompt file',
    ),
    (('sample', *CQA, '--prompt', 'half.json'), "expected the field 'rational"),
    (('rows.jsonl',), 'expected --prompt with a file'),
    (('rows.jsonl', '--prompt', 'prompt.json'), "Did you mean 'own.jsonl'"),
    (('bad.jsonl', '--prompt', 'prompt.json'), 'bad.jsonl, line 2: expected'),
    (('own.jsonl', '--prompt', 'prompt.json'), "the column 'input'"),
    (('sample', *CQA, '--samples', 0), '0 is not in the range'),
  ],
)
def test_mistakes_of_the_user_are_told_before_anything_is_sent(
  extract, tmp_path, capsys, arguments, message
):
  exemplar = {'input': 'a', 'rationale': 'b', 'label': 'c'}
  half = _prompt_file(tmp_path, exemplars=[{'input': 'a', 'label': 'c'}])
  half.rename(tmp_path / 'half.json')
  _prompt_file(tmp_path, exemplars=[exemplar])
  (tmp_path / 'bad.jsonl').write_text('{"input": "x"}\n{"input": \n')
  (tmp_path / 'own.jsonl').write_text('{"text": "x"}\n')
  code = extract(*arguments, url='http://127.0.0.1:9/v1')
  shown = capsys.readouterr().err
  assert code == 2 and message in shown, shown
  assert not (tmp_path / 'runs').exists()


@pytest.mark.parametrize('name', ['palm', 'cqa', 'a/b', '../x', '', 'rows'])
def test_a_name_that_means_something_else_is_refused(extract, capsys, name):
  assert extract('sample', *CQA, '--dry-run', teacher=name) == 2
  assert 'expected a new name' in capsys.readouterr().err


def test_a_dry_run_shows_prompts_and_cost_and_sends_nothing(
  extract, tmp_path, capsys
):
  arguments = ('--dry-run', '--show', 2, '--samples', 2, '--temperature', 1)
  prices = ('--price-in', 2, '--price-out', 8)
  assert extract('sample', *CQA, *arguments, *prices) == 0
  shown = capsys.readouterr().out
  rows = records.read('cqa', _sample(), None).splits['train']
  for row in rows[:2]:
    assert f'[user]\nQ: {row.input}' in shown and row.id in shown
  assert rows[2].input not in shown
  assert re.search(r'requests +2,800', shown)
  tokens = int(
    re.search(r'prompt tokens +about ([\d,]+)', shown)[1].replace(',', '')
  )
  answers = int(
    re.search(r'answer tokens +about ([\d,]+)', shown)[1].replace(',', '')
  )
  assert (
    f'cost            about ${(2 * tokens + 8 * answers) / 1e6:.2f}' in shown
  )
  assert not (tmp_path / 'runs').exists()


def _sample():
  from dss_jax.data import tfds_builders

  return tfds_builders.sample_location()


def test_an_extraction_of_other_rows_is_not_paired(
  serve, extract, write_release
):
  _, url = serve()
  assert extract(write_release(), *CQA, url=url) == 0
  other = write_release(name='other')
  path = other / 'cqa' / 'cqa_train.json'
  path.write_text(path.read_text().replace('number 3?', 'number 4?'))
  with pytest.raises(errors.DataError, match='an extraction for these rows'):
    records.read('cqa', str(other), 'mine')


def test_the_release_is_found_where_training_keeps_it(
  serve, extract, write_release, tmp_path, monkeypatch, capsys
):
  _, url = serve()
  place = tmp_path / 'tfds' / 'downloads' / 'dss_release'
  place.parent.mkdir(parents=True)
  write_release().rename(place)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  assert extract('release', *CQA, url=url) == 0
  assert '--data release' in capsys.readouterr().out
  assert len(_accepted()) == 30


def test_limits_hold(serve, extract, write_release):
  """Thirty requests at 1,200 a minute: a second's worth at once."""
  _, url = serve()
  release = write_release(train=24, test=6)
  arguments = ('--requests-per-minute', 1200, '--tokens-per-minute', 10**7)
  assert extract(release, *CQA, *arguments, url=url) == 0
  times = [e['time'] for e in _json_lines(FOLDER / 'journal.jsonl')]
  assert max(times) - min(times) > 0.4


def test_ctrl_c_waits_for_what_is_paid_for_and_the_next_call_goes_on(
  serve, extract, write_release, tmp_path
):
  server, url = serve(latency=0.1)
  release = write_release(train=90)
  command = [sys.executable, '-m', 'dss_jax.cli', 'extract', str(release)]
  command += [*CQA, '--teacher', 'mine', '--url', url, '--model', 'tiny']
  command += ['--concurrency', '3']
  with subprocess.Popen(
    command,
    cwd=tmp_path,
    env={'PYTHONPATH': str(_ROOT), 'PATH': ''},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    while sum(server.answered.values()) < 20:
      assert process.poll() is None, process.communicate()
      time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate()
  assert process.returncode == 130
  assert 'that are on their way' in shown
  assert 'Stopped: interrupted.' in shown and 'Traceback' not in shown
  accepted = len(_accepted())
  assert 20 <= accepted < 96
  assert accepted == sum(server.answered.values())
  assert f'{accepted} of 96 completions' in shown
  server.plan.latency = 0.0
  assert extract(release, *CQA, url=url) == 0
  assert set(server.answered.values()) == {1} and len(server.answered) == 96


def test_help_needs_neither_tensorflow_nor_the_extra():
  code = (
    'import sys\n'
    'from dss_jax import cli\n'
    'cli.main(["extract", "--help"])\n'
    "heavy = {'tensorflow', 'jax', 'seqio', 'aiohttp', 'matplotlib'}\n"
    'sys.exit(f"loaded: {heavy & set(sys.modules)}"'
    ' if heavy & set(sys.modules) else 0)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert '--requests-per-minute' in done.stdout


def test_an_extraction_needs_no_tensorflow(serve, write_release, tmp_path):
  _, url = serve()
  code = (
    'import sys\n'
    'from dss_jax import cli\n'
    f'cli.main(["extract", {str(write_release())!r}, "--data-set", "cqa",'
    f' "--teacher", "mine", "--model", "tiny", "--url", {url!r}])\n'
    "heavy = {'tensorflow', 'jax', 'seqio'} & set(sys.modules)\n"
    'sys.exit(f"loaded: {heavy}" if heavy else 0)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    env={'PYTHONPATH': str(_ROOT), 'PATH': ''},
  )
  assert done.returncode == 0, done.stderr


def test_a_missing_extra_is_named_with_its_command(capsys):
  code = (
    'import sys\n'
    "sys.modules['aiohttp'] = None\n"
    'from dss_jax import cli\n'
    'cli.main(["extract", "sample", "--data-set", "cqa", "--teacher", "a",'
    ' "--url", "http://127.0.0.1:9/v1", "--model", "m"])\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert done.returncode == 2
  assert "pip install 'dss-jax[extract]'" in done.stderr
