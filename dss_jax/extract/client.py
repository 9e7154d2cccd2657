"""Client of an OpenAI-compatible API: one request, and what its answer means.

The key is read from the environment and goes into the request's header only:
whatever comes back is searched for it and stripped of it before anything else
sees it.

Requests go through aiohttp rather than the `openai` package, whose version 3.57
with its aiohttp backend was tried in this module's place (25 November 2026, two
shared CPU cores, runs in turn): 20,000 rows took 30 to 34 s instead of 14 to
16, 19.5 s of CPU instead of 8, and 117 MiB instead of 94; 1,000 requests of
200 ms took 1.7 to 2.7 s instead of 0.7 to 1.1; the module grew by 42 lines. It
also reports refused and dropped connections as time-outs, holds all of a
compressed body in memory, and sends OPENAI_ORG_ID and OPENAI_CUSTOM_HEADERS to
any --url.
"""

import dataclasses
import datetime
import email.utils
import json
import os
import re
import resource
from collections.abc import Mapping
from typing import Any, Self
from urllib import parse

import aiohttp

from dss_jax import errors
from dss_jax.extract import prompts

_PATHS = {'chat': 'chat/completions', 'completion': 'completions'}
_SURROGATE = re.compile('[\ud800-\udfff]')
# Statuses after which the same request may well succeed.
_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429}) | frozenset(
  range(500, 600)
)
# Statuses that every further request would get.
_FATAL_STATUSES = frozenset({401, 402, 403, 404, 405})
# Bytes; a larger body is not a completion.
_MAX_BODY = 64 * 2**20
# Shorter keys are not secrets, but words for servers that ask for any key.
_MIN_SECRET_LENGTH = 8
# Files that are open besides connections.
_OTHER_FILES = 64
# If a server asks for a longer wait, it is better to come back later.
MAX_WAIT_S = 900.0


class Failure(Exception):
  """A request that got no completion; asking again would not help this row."""


class RetryableFailure(Failure):
  """A failed request that may succeed when it is sent again.

  Attributes:
    wait: seconds that the server asks to wait; None if it does not say.
    unreachable: whether there is no server at the address.
  """

  def __init__(
    self, message: str, wait: float | None = None, unreachable: bool = False
  ):
    """Creates the exception.

    Args:
      message: what went wrong.
      wait: see the class.
      unreachable: see the class.
    """
    super().__init__(message)
    self.wait = wait
    self.unreachable = unreachable


class FatalFailure(Failure):
  """A failure that every request would have: a wrong key, model or address.

  Attributes:
    status: the HTTP status; 0 without one.
  """

  def __init__(self, message: str, status: int = 0):
    """Creates the exception.

    Args:
      message: what went wrong.
      status: see the class.
    """
    super().__init__(message)
    self.status = status


@dataclasses.dataclass(frozen=True)
class Service:
  """Endpoint, model and request parameters.

  Attributes:
    url: the API's address, such as `https://api.openai.com/v1`.
    model: the API's name for the model.
    endpoint: 'chat' or 'completion'.
    parameters: the fields of a request besides model and prompt.
    timeout: seconds for a request.
    connections: how many may be open at once.
    key_variable: the environment variable that holds the key.
  """

  url: str
  model: str
  endpoint: str
  parameters: Mapping[str, Any]
  timeout: float
  connections: int
  key_variable: str = 'OPENAI_API_KEY'


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
  """A model's answer to one request.

  Attributes:
    text: what the model wrote.
    finish: why it ended.
    usage: the server's counts of tokens.
  """

  text: str
  finish: str
  usage: dict[str, int]


def check_url(url: str) -> str:
  """Returns an API's address without a trailing slash.

  Raises:
    DataError: it is not an address of an API, or it holds a secret.
  """
  parts = parse.urlsplit(url)
  if parts.scheme not in ('http', 'https') or not parts.hostname:
    raise errors.DataError(
      f'--url {url!r}: expected an address such as'
      ' http://127.0.0.1:8000/v1 or https://api.openai.com/v1.'
    )
  if parts.username or parts.password or parts.query:
    raise errors.DataError(
      '--url: expected an address without a password or a query, which would'
      ' end up in files. Put the key into the environment variable that'
      ' --api-key-env names.'
    )
  for path in _PATHS.values():
    if parts.path.rstrip('/').endswith(f'/{path}'):
      whole = url.rstrip('/').removesuffix(f'/{path}')
      raise errors.DataError(
        f'--url {url!r}: expected the address up to /v1, found that of an'
        f' endpoint. Did you mean {whole!r}?'
      )
  return url.rstrip('/')


def read_key(variable: str) -> str:
  """Returns the key in an environment variable, '' if there is none.

  Raises:
    DataError: it cannot be sent in a header.
  """
  key = os.environ.get(variable, '').strip()
  if not all('!' <= character <= '~' for character in key):
    raise errors.DataError(
      f'The environment variable {variable}: expected a key of visible ASCII'
      ' characters, found others. Set it again.'
    )
  return key


def retry_after(value: str | None) -> float | None:
  """Returns the seconds that a Retry-After header asks for.

  Args:
    value: of the header: seconds or a date; None without the header.

  Returns:
    The seconds, or None if the header is missing or cannot be read.
  """
  if value is None:
    return None
  try:
    return max(0.0, min(float(value), 1e9))
  except ValueError:
    pass
  try:
    when = email.utils.parsedate_to_datetime(value)
    if when.tzinfo is None:
      when = when.replace(tzinfo=datetime.UTC)
    now = datetime.datetime.now(datetime.UTC)
    return max(0.0, (when - now).total_seconds())
  except (TypeError, ValueError, OverflowError):
    return None


def _wait(headers: Mapping[str, str]) -> float | None:
  """Returns the seconds that the headers of an answer ask to wait."""
  # Azure's header is the more exact one.
  milliseconds = retry_after(headers.get('retry-after-ms'))
  if milliseconds is not None:
    return milliseconds / 1000
  return retry_after(headers.get('Retry-After'))


class Client:
  """Connections to the API, for use in an `async with`."""

  _session: aiohttp.ClientSession

  def __init__(self, service: Service):
    """Creates the client; connects to nothing yet.

    Args:
      service: endpoint, model and request parameters.

    Raises:
      DataError: the address or the key cannot be used.
    """
    self.service = service
    self.url = check_url(service.url)
    self._key = read_key(service.key_variable)

  async def __aenter__(self) -> Self:
    """Opens the session and returns the client."""
    _allow_connections(self.service.connections)
    headers = {'Accept': 'application/json'}
    if self._key:
      headers['Authorization'] = f'Bearer {self._key}'
    self._session = aiohttp.ClientSession(
      headers=headers,
      connector=aiohttp.TCPConnector(limit=self.service.connections + 1),
      timeout=aiohttp.ClientTimeout(total=self.service.timeout),
    )
    return self

  async def __aexit__(self, *unused: object) -> None:
    """Closes all connections."""
    await self._session.close()

  def clean(self, text: str) -> str:
    """Returns a text without the key and without lone surrogates."""
    text = _SURROGATE.sub('\ufffd', text)
    if len(self._key) < _MIN_SECRET_LENGTH:
      return text
    for secret in (self._key, json.dumps(self._key)[1:-1]):
      text = text.replace(secret, '[key]')
    return text

  async def models(self) -> list[str] | None:
    """Returns the names of the models; None if the API does not list them.

    Raises:
      Failure: as in `ask`.
    """
    body = await self._request('GET', 'models', None)
    data = body.get('data')
    if not isinstance(data, list):
      return None
    names = [model.get('id') for model in data if isinstance(model, dict)]
    return [self.clean(name) for name in names if isinstance(name, str)]

  async def ask(self, prompt: prompts.RenderedPrompt) -> Completion:
    """Sends one request, once.

    Args:
      prompt: what the request asks.

    Raises:
      RetryableFailure: the request may succeed when it is sent again.
      FatalFailure: no request can succeed.
      Failure: this request cannot succeed.
    """
    is_chat = self.service.endpoint == 'chat'
    request = {
      'model': self.service.model,
      'messages' if is_chat else 'prompt': prompt,
      **self.service.parameters,
    }
    path = _PATHS[self.service.endpoint]
    return self._completion(await self._request('POST', path, request))

  def _completion(self, body: dict[str, Any]) -> Completion:
    """Reads the body of a successful answer."""
    try:
      choice = body['choices'][0]
      if self.service.endpoint == 'chat':
        # No content at all is an answer too: an empty one.
        text = choice['message'].get('content') or ''
      else:
        text = choice['text']
      if not isinstance(text, str):
        raise TypeError('its text is not a string')
    except (KeyError, IndexError, TypeError, AttributeError) as error:
      raise RetryableFailure(
        f'expected a completion, found a body without one ({error!r:.60})'
      ) from None
    usage = body.get('usage')
    counts = {
      self.clean(name): count
      for name, count in (usage if isinstance(usage, dict) else {}).items()
      if isinstance(count, int) and count >= 0
    }
    finish = choice.get('finish_reason')
    return Completion(
      self.clean(text),
      self.clean(finish) if isinstance(finish, str) else '',
      counts,
    )

  async def _request(
    self, method: str, path: str, body: dict[str, Any] | None
  ) -> dict[str, Any]:
    """Sends a request and returns the JSON object of a 200 answer."""
    url = f'{self.url}/{path}'
    try:
      # A redirect is not followed: it could carry the key to another server.
      async with self._session.request(
        method, url, json=body, allow_redirects=False
      ) as response:
        data = await _read_body(response)
    except TimeoutError:
      raise RetryableFailure(
        f'no answer within {self.service.timeout:g} s (--timeout)'
      ) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
      # The exception may hold the request with its headers: only its name and
      # its text go on.
      kind = type(error).__name__
      unreachable = isinstance(error, aiohttp.ClientConnectorError)
      message = self.clean(f'{kind}: {error!s:.200}')
      raise RetryableFailure(message, unreachable=unreachable) from None
    if response.status != 200:
      wait = _wait(response.headers)
      raise self._failure(response.status, data, wait)
    return _json_object(data)

  def _failure(self, status: int, data: bytes, wait: float | None) -> Failure:
    """Returns the exception to raise for a status other than 200."""
    reason, code = _error_message(data)
    reason = self.clean(reason.removesuffix('.'))
    message = f'HTTP {status}: {reason}' if reason else f'HTTP {status}'
    if code == 'insufficient_quota':
      return FatalFailure(message, status)
    if status in _RETRYABLE_STATUSES:
      if wait is not None and wait > MAX_WAIT_S:
        return FatalFailure(f'{message} (asks to wait {wait:.0f} s)', status)
      return RetryableFailure(message, wait)
    if status in _FATAL_STATUSES or 300 <= status < 400:
      return FatalFailure(message, status)
    return Failure(message)


def _allow_connections(count: int) -> None:
  """Raises this process' limit of open files to hold so many connections.

  Raises:
    DataError: the system does not allow it.
  """
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  needed = count + _OTHER_FILES
  if resource.RLIM_INFINITY not in (soft, hard) and hard < needed:
    raise errors.DataError(
      f'--concurrency {count}: expected at most {hard - _OTHER_FILES}, since'
      ' the system lets a process open no more files (ulimit -Hn). Lower it.'
    )
  if soft != resource.RLIM_INFINITY and soft < needed:
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
  """Returns a decompressed body, cut soon after `_MAX_BODY` bytes."""
  data = await response.content.read(_MAX_BODY)
  while len(data) < _MAX_BODY and (
    more := await response.content.read(_MAX_BODY)
  ):
    data += more
  return data


def _json_object(data: bytes) -> dict[str, Any]:
  if len(data) >= _MAX_BODY:
    raise RetryableFailure(
      f'expected at most {_MAX_BODY:,} bytes, found a larger body'
    )
  try:
    value = json.loads(data)
  except (ValueError, RecursionError):
    raise RetryableFailure('expected JSON, found a body that is not') from None
  if not isinstance(value, dict):
    raise RetryableFailure('expected a JSON object, found another value')
  return value


def _error_message(data: bytes) -> tuple[str, str]:
  """Returns the message and the code in the body of an error."""
  try:
    body = json.loads(data)
  except (ValueError, RecursionError):
    # Plain text may say something; the HTML of a proxy does not.
    text = data[:2000].decode('utf-8', 'replace')
    return ('' if '<' in text else ' '.join(text.split())[:300]), ''
  # OpenAI has {'error': {…}}, others the object itself, a list or a text.
  error = body.get('error', body) if isinstance(body, dict) else body
  if isinstance(error, list) and error:
    error = error[0]
  if isinstance(error, dict):
    message = error.get('message') or error.get('detail') or error.get('msg')
    code = error.get('code') or error.get('type')
  else:
    message, code = error, ''
  if not isinstance(message, str):
    message = json.dumps(message) if message else ''
  return ' '.join(message.split())[:300], code if isinstance(code, str) else ''
