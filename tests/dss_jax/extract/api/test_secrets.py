"""Tests of secrets: no answer, message or file has one, nor a part of one."""

import base64
import itertools
import json
import pathlib
import urllib.parse

import hypothesis
import pytest
from hypothesis import strategies as st

from dss_jax import errors
from dss_jax.extract.api import addresses, client, secrets
from tests.dss_jax.extract import fault_server
from tests.dss_jax.extract.conftest import KEY

_CQA = ('--data-set', 'cqa', '--retries', 0, '--limit', 3)
_FOLDER = pathlib.Path('runs')


def _parts(text, size=12):
  return {text[i : i + size] for i in range(len(text) - size + 1)}


def _tells(text, key=KEY):
  """Returns what a text has of a key."""
  return [part for part in _parts(key) if part in text]


def test_whatever_comes_back_loses_the_key():
  found = secrets.Secrets(KEY)
  assert found.clean(f'a {KEY} b\ud800') == 'a [key] b\ufffd'
  # What servers take that ask for any key is a word like others.
  assert secrets.Secrets('EMPTY').clean('an EMPTY box') == 'an EMPTY box'
  for key, text in (('1234567', '1234567'), ('12345678', '[key]')):
    assert secrets.Secrets(key).clean(key) == text


@hypothesis.given(
  st.text('ab-_09', min_size=8, max_size=60),
  st.text(max_size=20),
  st.data(),
)
@hypothesis.settings(max_examples=200, deadline=None)
def test_no_part_of_a_key_is_left(key, around, data):
  begin = data.draw(st.integers(0, len(key)))
  end = data.draw(st.integers(begin, len(key)))
  hidden = secrets.Secrets(key)
  text = f'{around}{key[begin:end]}{around}'
  for found in (hidden.clean(text), hidden.line(text)):
    assert key not in found
    assert not _tells(found.replace('[key]', '\0'), key), found


@pytest.mark.parametrize('key', [KEY, *(KEY[:n] for n in (12, 13, 17, 24))])
@pytest.mark.parametrize('around', ['', '~', ' ', '0', 'z'])
def test_of_a_part_of_a_key_nothing_is_left_and_all_around_it(key, around):
  """Twelve characters tell it, eleven do not."""
  hidden = secrets.Secrets(key)
  for begin, end in itertools.combinations(range(len(key) + 1), 2):
    if around in (*key[begin - 1 : begin], *key[end : end + 1]) and around:
      continue
    found = hidden.clean(f'{around}{key[begin:end]}{around}')
    part = key[begin:end] if end - begin < 12 else '[key]'
    assert found == f'{around}{part}{around}'


def test_every_part_of_a_key_in_a_text_is_found():
  hidden = secrets.Secrets(KEY)
  few, part, more = KEY[:11], KEY[4:20], KEY[6:17]
  text = f'{few}~{part}~{more}~{part}{part}~{few}'
  assert hidden.clean(text) == f'{few}~[key]~{more}~[key][key]~{few}'
  # A text does not go on from its end at its beginning.
  assert hidden.clean(f'{part} {KEY[3]}') == f'[key] {KEY[3]}'
  # Where its pieces repeat themselves, too.
  hidden = secrets.Secrets('bcdefxxxxxxxhijkl')
  assert hidden.clean('xxxxxxxhijkl') == '[key]'
  # As it stands in JSON, without its quotes.
  assert secrets.Secrets('a"bcdefg').clean('x a\\"bcdefg y') == 'x [key] y'
  # A secret within another one does not save the rest of it.
  hidden = secrets.Secrets('bcdefghi', 'abcdefghij')
  assert hidden.clean('abcdefghij') == '[key]'


@pytest.mark.parametrize(
  'key', ['a\nb', 'a b', 'caf\xe9-1234', 'a\x7f', ' b\t c']
)
def test_a_key_that_no_header_can_hold_is_refused(monkeypatch, key):
  monkeypatch.setenv('A_KEY', ' !key~ ')
  assert secrets.read_key('A_KEY') == '!key~'
  monkeypatch.setenv('A_KEY', key)
  with pytest.raises(errors.DataError, match='A_KEY: expected a key of visib'):
    secrets.read_key('A_KEY')


@pytest.mark.parametrize('before', range(240, 310, 3))
def test_a_message_is_cut_after_it_is_cleaned(before):
  for text in ('x' * before + KEY, 'x ' * (before // 2) + KEY):
    found = secrets.Secrets(KEY).line(text)
    assert not _tells(found) and 'sk-0' not in found and len(found) <= 301


@pytest.mark.parametrize(
  'text',
  [
    'Authorization: Bearer abc12345.xyz-98765',
    '{"Authorization": "Basic bWU6c2VjcmV0MTIz"}',
    'https://me:hunter2secret@proxy.example:3128/',
    'http://token12345678@host/v1',
    'see https://a.example/v1?api_key=s3cretvalue&x=1',
    'GET /v1?key=s3cretvalue HTTP',
    'api-key: s3cretvalue1 was refused',
    '{"api_key": "s3cretvalue1"}',
    'X-Amz-Signature=s3cretvalue1',
  ],
)
def test_secrets_of_others_are_removed_from_messages(text):
  found = secrets.Secrets().line(text)
  assert '[removed]' in found
  for secret in (
    'abc12345', 'bWU6c2Vj', 'hunter2', 'token1234', 's3cret',
  ):  # fmt: skip
    assert secret not in found


@pytest.mark.parametrize(
  'text',
  [
    'Invalid token: expected a string',
    'This key: unknown parameter',
    'max_tokens: 4096000000 is too large',
    "Unsupported parameter: 'max_tokens'",
    'The basic 12-month plan has no access to https://a.example/v1/models',
  ],
)
def test_words_of_a_message_stay(text):
  assert secrets.Secrets(KEY).line(text) == text


def test_other_forms_of_a_secret_are_removed():
  key = 'a/key+"with"=signs&9'
  hidden = secrets.Secrets(key)
  for form in (key, json.dumps(key), urllib.parse.quote(key, safe='')):
    assert hidden.line(f'<{form}>').strip('<>"') == '[key]'


# A whole run.

_ENDS = ('', 'x' * 265 + ' ', 'x' * 280 + ' ', 'y ' * 139)


def _repeating(key, kind, end):
  """Returns what a server says that repeats the key."""
  said = f'{end}{key}'
  return {
    'message': (400, {'error': {'message': said}}),
    'code': (400, {'error': {'message': '', 'code': said}}),
    'text': (403, said),
    'page': (400, f'<html><p title="{key}">{said}</p></html>'),
    'events': (200, f'data: {{"error": {{"message": "{said}"}}}}\n\n'),
    'field': (200, {said: 1}),
    'value': (200, [said]),
    'finish': (200, fault_server.reply('A. So the answer is (a) b.', said)),
    'refusal': (200, fault_server.reply(None, refusal=said)),
    'thoughts': (200, fault_server.reply('B', reasoning=said)),
    'usage': (
      200,
      fault_server.reply('A. So the answer is (a) b.') | {'usage': {said: 3}},
    ),
    'content': (200, fault_server.reply(f'{said} So the answer is (a) b.')),
  }[kind]


_KINDS = (
  'message', 'code', 'text', 'page', 'events', 'field', 'value', 'finish',
  'refusal', 'thoughts', 'usage', 'content',
)  # fmt: skip


@pytest.mark.parametrize('kind', _KINDS)
def test_no_part_of_a_key_reaches_disk_or_screen(
  serve, extract, write_release, monkeypatch, capsys, kind
):
  release = write_release()
  # Also where the first answer is right, so that a journal is begun.
  for end, is_late in itertools.product(_ENDS, (False, True)):
    seen = []

    def script(question, end=end, is_late=is_late, seen=seen):
      seen.append(question)
      if is_late and len(seen) == 1:
        return 200, fault_server.reply('A. So the answer is (a) b.')
      return _repeating(KEY, kind, end)

    _, url = serve(script=script)
    monkeypatch.setenv('OPENAI_API_KEY', KEY)
    extract(release, *_CQA, '--fresh', '--keep-thoughts', url=url)
    shown = ''.join(capsys.readouterr())
    assert not _tells(shown), shown
    for path in _FOLDER.rglob('*.json*'):
      assert not _tells(path.read_text()), path


def test_a_key_in_place_of_a_name_is_not_shown(
  serve, extract, write_release, capsys
):
  server, url = serve()
  for key in (KEY, 'gsk_abcDEF0123456789', 'AKIA0123456789ABCDEF'):
    code = extract(write_release(), *_CQA, '--api-key-env', key, url=url)
    shown = ''.join(capsys.readouterr())
    assert code == 2 and key not in shown and '--api-key-env' in shown
  assert not server.requests
  with pytest.raises(errors.DataError) as found:
    secrets.read_key(KEY)
  assert KEY not in str(found.value)


def _service(url, **more):
  return client.Service(url, 'm', 'chat', {}, 9.0, 1, 'A_KEY', **more)


@pytest.mark.parametrize(
  ('url', 'is_warned'),
  [
    ('http://a.example/v1', True),
    ('http://10.0.0.7:8000/v1', True),
    ('https://a.example/v1', False),
    ('http://teacher.example/v1', True),
    ('http://localhost:8000/v1', False),
    ('http://api.localhost/v1', False),
    ('http://0.0.0.0:8000/v1', False),
    ('http://127.0.0.1:8000/v1', False),
    ('http://[::1]:8000/v1', False),
  ],
)
def test_a_key_without_encryption_is_warned_of(monkeypatch, url, is_warned):
  monkeypatch.setenv('A_KEY', KEY)
  warning = client.Client(_service(url, proxy='none')).warning
  assert ('http://' in warning) == is_warned and KEY not in warning
  monkeypatch.delenv('A_KEY')
  assert not client.Client(_service(url)).warning


def test_the_warning_comes_before_the_key_is_sent(
  extract, write_release, monkeypatch, capsys
):
  sent = []

  async def models(self):
    sent.append(capsys.readouterr().err)
    raise errors.DataError('far enough')

  monkeypatch.setenv('OPENAI_API_KEY', KEY)
  monkeypatch.setattr(client.Client, 'models', models)
  url = 'http://teacher.example:8000/v1'
  assert extract(write_release(), *_CQA, '--proxy', 'none', url=url) == 2
  assert sent[0].startswith('Warning: --url http://teacher.example:8000/v1:')


@pytest.mark.parametrize(
  'url',
  [
    'htp://me:secret@b/v1',
    'me:secret@b',
    'http://[a:secret@',
    'http://b#secret',
  ],
)
def test_an_address_that_is_none_may_hold_a_secret(url):
  with pytest.raises(errors.DataError) as found:
    addresses.check_url(url)
  assert 'secret' not in str(found.value)


def test_a_proxys_login_is_removed_from_what_it_answers(monkeypatch):
  login = 'me:pass-word-123'
  code = base64.b64encode(login.encode()).decode()
  for name in ('http_proxy', 'no_proxy', 'all_proxy', 'A_KEY'):
    monkeypatch.delenv(name, raising=False)
  proxied = client.Client(
    _service('https://a.example/v1', proxy=f'http://{login}@p.example:3128')
  )
  for said in (f'Login {login} failed', f'Header {code}', 'x: pass-word-123'):
    found = str(proxied._proxy_failure(407, said))
    assert 'pass-word' not in found and code not in found, found
