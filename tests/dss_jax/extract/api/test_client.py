"""Tests of one request: what its answer means, and what it never tells."""

import asyncio
import contextlib
import datetime
import email.utils
import json
import resource
import socketserver
import threading
import zlib

import pytest

from dss_jax import errors
from dss_jax.extract.api import addresses, client, failures
from tests.dss_jax.extract.conftest import KEY


def _service(url, **changes):
  fields = {
    'url': url,
    'model': 'tiny',
    'endpoint': 'chat',
    'parameters': {},
    'timeout': 30.0,
    'connections': 4,
    'key_variable': 'A_KEY',
  }
  return client.Service(**(fields | changes))


def _ask(url, **changes):
  async def ask():
    async with client.Client(_service(url, **changes)) as connected:
      return await connected.ask([{'role': 'user', 'content': 'Q: a?'}])

  return asyncio.run(ask())


def test_a_completion_is_read(serve):
  server, url = serve()
  found = _ask(url, parameters={'temperature': 0.5})
  assert found.text == 'Because it is so. So the answer is yes.'
  assert found.finish == 'stop'
  assert found.usage == {'prompt_tokens': 1, 'completion_tokens': 20}
  assert server.bodies == [
    {
      'model': 'tiny',
      'messages': [{'role': 'user', 'content': 'Q: a?'}],
      'temperature': 0.5,
    }
  ]


@pytest.mark.parametrize(
  ('status', 'kind'),
  [
    (400, failures.Failure),
    (401, failures.FatalFailure),
    (403, failures.FatalFailure),
    (404, failures.FatalFailure),
    (408, failures.RetryableFailure),
    (413, failures.Failure),
    (422, failures.Failure),
    (429, failures.RetryableFailure),
    (500, failures.RetryableFailure),
    (503, failures.RetryableFailure),
  ],
)
def test_a_status_says_whether_to_ask_again(serve, status, kind):
  _, url = serve(always=status)
  with pytest.raises(
    failures.Failure, match=f'HTTP {status}: It is br'
  ) as found:
    _ask(url)
  assert type(found.value) is kind


@pytest.mark.parametrize(
  'fault', ['drop', 'truncated', 'malformed', 'no choices', 'too many']
)
def test_a_broken_answer_is_asked_for_again(serve, fault):
  _, url = serve(fault_rate=1.0, faults=(fault,), retry_after='7')
  with pytest.raises(failures.RetryableFailure) as found:
    _ask(url)
  assert found.value.wait == (7.0 if fault == 'too many' else None)
  assert not found.value.unreachable


def test_a_server_that_asks_for_a_long_wait_ends_the_run(serve):
  _, url = serve(fault_rate=1.0, faults=('too many',), retry_after='3600')
  with pytest.raises(failures.FatalFailure, match='asks to wait 3600 s'):
    _ask(url)


def test_a_request_that_takes_too_long_is_given_up(serve):
  _, url = serve(latency=10.0)
  with pytest.raises(
    failures.RetryableFailure, match=r'no answer within 0\.2 s'
  ):
    _ask(url, timeout=0.2)


def test_nobody_at_the_address_is_told_apart():
  with pytest.raises(failures.RetryableFailure) as found:
    _ask('http://127.0.0.1:9/v1')
  assert found.value.unreachable


def test_retry_after_is_seconds_or_a_date():
  later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
  assert client.retry_after(None) is None
  assert client.retry_after('2.5') == 2.5
  assert client.retry_after('-1') == 0.0
  assert client.retry_after('soon') is None
  assert 60 < client.retry_after(email.utils.format_datetime(later)) <= 90
  assert client.retry_after('Wed, 21 Oct 2015 07:28:00 GMT') == 0.0
  # Without a zone, it is that of Greenwich; else its own.
  plain = email.utils.format_datetime(later.replace(tzinfo=None))
  assert 60 < client.retry_after(plain) <= 90
  zone = datetime.timezone(datetime.timedelta(hours=5))
  zoned = email.utils.format_datetime(later.astimezone(zone))
  assert 60 < client.retry_after(zoned) <= 90
  assert client.retry_after('inf') == 1e9
  endless = f'Wed, 21 Oct {10**20} 07:28:00 GMT'
  assert client.retry_after(endless) is None


def test_an_address_with_a_secret_is_refused_without_telling_it():
  for url in ('http://a:secret@b/v1', 'http://b/v1?key=secret'):
    with pytest.raises(errors.DataError) as found:
      addresses.check_url(url)
    assert 'secret' not in str(found.value)


@pytest.mark.parametrize(
  'url',
  [
    *('ftp://a/v1', 'http:///v1', 'https:', 'a/v1'),
    *('http://a:0/v1', 'http://a:port/v1'),
  ],
)
def test_what_is_no_address_is_refused(url):
  with pytest.raises(errors.DataError, match='expected an address such as'):
    addresses.check_url(url)


@pytest.mark.parametrize('endpoint', ['chat/completions/', 'completions'])
def test_the_address_of_an_endpoint_is_refused_with_that_of_the_api(endpoint):
  with pytest.raises(errors.DataError, match=r"Did you mean 'http://a/v1'\?"):
    addresses.check_url(f'http://a/v1/{endpoint}')


# Servers that are no such servers.


@contextlib.contextmanager
def _replying(reply):
  """Yields (address of an API, heads of requests); every reply is the same."""
  heads = []

  class Handler(socketserver.StreamRequestHandler):
    def handle(self):
      head = b''
      while not head.endswith(b'\r\n\r\n'):
        head += self.rfile.readline()
      size = head.lower().partition(b'content-length: ')[2].split(b'\r')[0]
      self.rfile.read(int(size or 0))
      heads.append(head)
      with contextlib.suppress(OSError):
        self.wfile.write(reply)

  with socketserver.ThreadingTCPServer(('127.0.0.1', 0), Handler) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
      yield f'http://127.0.0.1:{server.server_address[1]}/v1', heads
    finally:
      server.shutdown()
      thread.join()


def _http(status, body, *headers):
  lines = [f'HTTP/1.1 {status} X', f'Content-Length: {len(body)}', *headers]
  return '\r\n'.join([*lines, '', '']).encode() + body


@pytest.mark.parametrize(
  ('reply', 'kind', 'message'),
  [
    (b'SSH-2.0-OpenSSH\r\n', failures.RetryableFailure, 'Bad status line'),
    (_http(200, b'[1]'), failures.RetryableFailure, 'expected a JSON object'),
    (_http(200, b'{"a'), failures.RetryableFailure, 'expected JSON'),
    (_http(502, b'<p>no</p>'), failures.RetryableFailure, 'HTTP 502: no$'),
    (
      _http(500, b'caf\xe9 down.'),
      failures.RetryableFailure,
      'caf\ufffd down$',
    ),
    (_http(400, b'{"detail": [1]}'), failures.Failure, r'HTTP 400: \[1\]$'),
    (_http(400, b'[{"msg": "too  long."}]'), failures.Failure, ': too long$'),
    (
      _http(429, b'{"error": {"code": "insufficient_quota"}}'),
      failures.FatalFailure,
      'HTTP 429$',
    ),
    (_http(300, b'Choose'), failures.FatalFailure, 'HTTP 300: Choose$'),
    # Only the row can be helped; but not where the server is at fault.
    (_http(400, b'{"error": "Content filter."}'), failures.RowFailure, ': Con'),
    (
      _http(429, b'{"error": "Content filter."}'),
      failures.RetryableFailure,
      '429: Con',
    ),
    (
      _http(500, b'{"error": "Content filter."}'),
      failures.RetryableFailure,
      '500: Con',
    ),
    (
      _http(200, b'{"message": "Busy", "detail": "", "msg": ""}'),
      failures.RetryableFailure,
      'expected a completion, found: Busy$',
    ),
    (
      _http(200, b'{"detail": "unsupported: temperature"}'),
      failures.Failure,
      '^unsupported: temperature$',
    ),
    (
      _http(200, b'{"state": "Busy"}'),
      failures.RetryableFailure,
      r'found a body without one \(state\)$',
    ),
  ],
)
def test_odd_answers_are_told_by_what_they_hold(reply, kind, message):
  with (
    _replying(reply) as (url, _),
    pytest.raises(failures.Failure, match=message) as found,
  ):
    _ask(url)
  assert type(found.value) is kind


def test_what_is_no_unicode_is_replaced():
  body = {'choices': [{'message': {'content': 'a \ud800 b'}}]}
  with _replying(_http(200, json.dumps(body).encode())) as (url, _):
    assert _ask(url).text == 'a \ufffd b'


@pytest.mark.parametrize('message', [{}, {'content': None}, {'content': ''}])
def test_a_chat_message_without_content_is_an_empty_completion(message):
  body = {'choices': [{'message': message, 'finish_reason': 'stop'}]}
  with _replying(_http(200, json.dumps(body).encode())) as (url, _):
    found = _ask(url)
  assert (found.text, found.finish) == ('', 'stop')


@pytest.mark.parametrize('status', [200, 500])
def test_a_body_that_swells_is_not_read_to_its_end(status):
  """512 MiB of blanks, compressed to a few."""
  packer, block = zlib.compressobj(1, zlib.DEFLATED, 31), b' ' * 2**20
  body = b''.join(packer.compress(block) for _ in range(2**9))
  reply = _http(status, body + packer.flush(), 'Content-Encoding: gzip')
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  message = 'found a larger body' if status == 200 else 'HTTP 500$'
  with (
    _replying(reply) as (url, _),
    pytest.raises(failures.RetryableFailure, match=message),
  ):
    _ask(url)
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert after - before < 400 * 2**10


@pytest.mark.parametrize('status', [301, 302, 307, 308])
def test_a_redirect_does_not_carry_the_key_elsewhere(monkeypatch, status):
  monkeypatch.setenv('A_KEY', KEY)
  with _replying(_http(200, b'{}')) as (elsewhere, heads):
    reply = _http(status, b'', f'Location: {elsewhere}/chat/completions')
    with (
      _replying(reply) as (url, first),
      pytest.raises(
        failures.FatalFailure, match=f'HTTP {status}: moved to http'
      ),
    ):
      _ask(url)
  assert KEY.encode() in first[0] and not heads


@pytest.mark.parametrize(
  ('headers', 'wait'),
  [
    (('Retry-After: 7', 'retry-after-ms: 1500'), 1.5),
    (('Retry-After: 7', 'retry-after-ms: soon'), 7.0),
    (('retry-after-ms: -1',), 0.0),
    ((), None),
  ],
)
def test_milliseconds_to_wait_come_first(headers, wait):
  with (
    _replying(_http(429, b'{}', *headers)) as (url, _),
    pytest.raises(failures.RetryableFailure) as found,
  ):
    _ask(url)
  assert found.value.wait == wait


def test_the_system_is_asked_for_room_for_all_connections(serve):
  _, url = serve()
  before = resource.getrlimit(resource.RLIMIT_NOFILE)
  try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    _ask(url, connections=4)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200
    _ask(url, connections=400)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 464
    most = before[1] - 64
    if before[1] != resource.RLIM_INFINITY:
      with pytest.raises(errors.DataError, match=f'at most {most}, since'):
        _ask(url, connections=most + 1)
      client._allow_connections(most)
      assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_all_connections_may_be_open_at_once():
  """And the one that was just given back."""

  async def limit():
    async with client.Client(_service('http://a/v1', connections=151)) as found:
      return found._session.connector.limit

  assert asyncio.run(limit()) == 152


@pytest.mark.parametrize('error', [OSError('odd'), ValueError('odd')])
def test_whatever_the_connection_raises_is_a_failure(error):
  def fail(*arguments, **options):
    raise error

  async def ask():
    async with client.Client(_service('http://a/v1')) as connected:
      connected._session.request = fail
      await connected.ask([])

  message = f'{type(error).__name__}: odd$'
  with pytest.raises(failures.RetryableFailure, match=message):
    asyncio.run(ask())


# Proxies. They answer for hosts that do not exist.

_SAID = {'choices': [{'message': {'content': 'It is.'}}]}
_VARIABLES = ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy')


@pytest.fixture
def proxies(monkeypatch):
  """Returns a function that sets the proxies of the environment."""
  for name in (*_VARIABLES, *map(str.upper, _VARIABLES), 'REQUEST_METHOD'):
    monkeypatch.delenv(name, raising=False)

  def set_proxies(**values):
    for name, value in values.items():
      monkeypatch.setenv(name, value)

  return set_proxies


def _proxy(address):
  return address.removesuffix('/v1')


@pytest.mark.parametrize(
  ('url', 'variables', 'found'),
  [
    ('http://a.example/v1', {'http_proxy': 'http://p:1'}, 'http://p:1'),
    ('http://a.example/v1', {'HTTP_PROXY': 'p:1'}, 'http://p:1'),
    ('https://a.example/v1', {'http_proxy': 'http://p:1'}, ''),
    ('https://a.example/v1', {'https_proxy': 'https://p:1'}, 'https://p:1'),
    ('https://a.example/v1', {'ALL_PROXY': 'http://p:1'}, 'http://p:1'),
    ('https://a.example/v1', {'all_proxy': 'p', 'no_proxy': 'b,*'}, ''),
    ('https://a.example/v1', {'all_proxy': 'p', 'no_proxy': '*'}, ''),
    ('https://a.example/v1', {'all_proxy': 'p', 'no_proxy': 'x, .example'}, ''),
    ('https://a.example:8/v1', {'all_proxy': 'p', 'no_proxy': 'example:8'}, ''),
    (
      'https://a.example/v1',
      {'all_proxy': 'p', 'no_proxy': 'ample'},
      'http://p',
    ),
    ('http://10.1.2.3/v1', {'all_proxy': 'p', 'no_proxy': '10.0.0.0/8'}, ''),
    (
      'http://11.1.2.3/v1',
      {'all_proxy': 'p', 'no_proxy': '10.0.0.0/8, x/y'},
      'http://p',
    ),
    (
      'http://10.1.2.3/v1',
      {'all_proxy': 'p', 'no_proxy': 'x/y, 10.9.9.9/8'},
      '',
    ),
    ('http://localhost:80/v1', {'all_proxy': 'p'}, ''),
    ('http://127.8.0.1/v1', {'all_proxy': 'p'}, ''),
    ('http://[::1]:80/v1', {'all_proxy': 'p'}, ''),
    ('http://[2001:db8::1]:80/v1', {'all_proxy': 'p'}, 'http://p'),
    ('https://a.example/v1', {}, ''),
  ],
)
def test_the_environment_says_which_proxy(proxies, url, variables, found):
  if variables.get('no_proxy') == 'b,*':
    # As everywhere, a star among other names is no name.
    found = 'http://p'
  proxies(**variables)
  assert addresses.find_proxy(url, None) == found
  assert addresses.find_proxy(url, 'none') == ''
  assert addresses.find_proxy(url, 'http://q:2') == 'http://q:2'


@pytest.mark.parametrize('given', ['socks5://p:1', 'http://', 'p:port', 'p:0'])
def test_a_proxy_of_another_kind_is_named_by_its_variable(proxies, given):
  proxies(https_proxy=given.replace('p:', 'me:secret@p:'))
  with pytest.raises(errors.DataError, match='https_proxy: expected') as found:
    client.Client(_service('https://a.example/v1'))
  assert 'secret' not in str(found.value)


def test_a_proxy_is_asked_for_what_is_elsewhere(proxies, monkeypatch, tmp_path):
  netrc = tmp_path / 'netrc'
  netrc.write_text('machine a.example login me password netrc-secret\n')
  netrc.chmod(0o600)
  monkeypatch.setenv('NETRC', str(netrc))
  with _replying(_http(200, json.dumps(_SAID).encode())) as (address, heads):
    proxies(http_proxy=_proxy(address).replace('//', '//me:pw%40@'))
    assert _ask('http://a.example/v1').text == 'It is.'
    [head] = heads
    assert head.startswith(b'POST http://a.example/v1/chat/completions HTTP')
    lines = head.lower().split(b'\r\n')
    assert b'proxy-authorization: basic bwu6chda' in lines  # me:pw@
    assert not any(line.startswith(b'authorization') for line in lines)


def test_a_proxy_that_wants_a_login_is_told_from_the_server(proxies):
  with _replying(_http(407, b'')) as (address, _):
    proxies(http_proxy=_proxy(address))
    message = f'^the proxy {_proxy(address)} answered HTTP 407: X$'
    with pytest.raises(failures.FatalFailure, match=message) as found:
      _ask('http://a.example/v1')
  assert found.value.status == 407


def test_a_key_is_not_sent_to_a_proxy_in_clear(proxies, monkeypatch):
  monkeypatch.setenv('A_KEY', KEY)
  with _replying(_http(200, json.dumps(_SAID).encode())) as (address, heads):
    proxies(http_proxy=_proxy(address).replace('//', '//me:secret@'))
    with pytest.raises(errors.DataError, match='the key in clear') as found:
      _ask('http://a.example/v1')
    assert 'secret' not in str(found.value).replace(KEY, '')
  assert not heads


@pytest.mark.parametrize(
  ('status', 'kind'),
  [
    (403, failures.FatalFailure),
    (407, failures.FatalFailure),
    (502, failures.RetryableFailure),
  ],
)
def test_a_tunnel_is_opened_without_the_key(proxies, monkeypatch, status, kind):
  monkeypatch.setenv('A_KEY', KEY)
  with _replying(_http(status, b'')) as (address, heads):
    proxies(https_proxy=_proxy(address).replace('//', '//me:pw%40@'))
    with pytest.raises(kind, match=f'the proxy .* HTTP {status}') as found:
      _ask('https://a.example/v1')
  assert 'pw' not in str(found.value)
  assert getattr(found.value, 'status', 407) == 407
  [head] = heads
  assert head.startswith(b'CONNECT a.example:443 HTTP/1.1\r\n')
  assert KEY.encode() not in head and b'\r\nAuthorization' not in head
  assert b'Proxy-Authorization' in head


def test_a_proxy_that_is_not_there_is_named(proxies):
  proxies(all_proxy='http://me:secret@127.0.0.1:9')
  with pytest.raises(failures.RetryableFailure) as found:
    _ask('https://a.example/v1')
  assert 'by the proxy http://127.0.0.1:9' in str(found.value)
  assert found.value.unreachable and 'secret' not in str(found.value)
