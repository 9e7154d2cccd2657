"""One request to an OpenAI-compatible API.

The key is read from the environment and goes into the request's header only:
whatever comes back is searched for it and stripped of it before anything else
sees it.
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
# Answers after which the same request may well succeed.
_PASSING = frozenset({408, 409, 425, 429}) | frozenset(range(500, 600))
# Answers that every further request would get.
_FINAL = frozenset({401, 402, 403, 404, 405})
# A larger body is no completion.
_MAX_BODY = 64 * 2**20
# The length from which a key is searched for in what comes back.
_SECRET = 8
# Files that are open beside connections.
_OTHER_FILES = 64
# Where a server asks for a longer wait, it is better to come back later.
MAX_WAIT_S = 900.0


class Failure(Exception):
  """A request got no completion, and asking again would not help this row."""


class RetryableFailure(Failure):
  """The request may succeed when it is sent again.

  Attributes:
    wait: seconds that the server asks to wait, None where it says nothing.
    unreachable: whether nobody answers at the address.
  """

  def __init__(
    self, message: str, wait: float | None = None, unreachable: bool = False
  ):
    """Makes the exception.

    Args:
      message: what went wrong.
      wait: see the class.
      unreachable: see the class.
    """
    super().__init__(message)
    self.wait = wait
    self.unreachable = unreachable


class FatalFailure(Failure):
  """No request can succeed: a wrong key, model or address.

  Attributes:
    status: the HTTP status, 0 without one.
  """

  def __init__(self, message: str, status: int = 0):
    """Makes the exception.

    Args:
      message: what went wrong.
      status: see the class.
    """
    super().__init__(message)
    self.status = status


@dataclasses.dataclass(frozen=True)
class Service:
  """Whom to ask, and how.

  Attributes:
    url: the API's address, such as `https://api.openai.com/v1`.
    model: the name that the API has for it.
    endpoint: 'chat' or 'completion'.
    parameters: what a request says beside model and prompt.
    timeout: seconds for a request.
    connections: how many at once.
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
  """What came back.

  Attributes:
    text: what the model wrote.
    finish: why it ended.
    usage: the server's counts of tokens.
  """

  text: str
  finish: str
  usage: dict[str, int]


def check_url(url: str) -> str:
  """Returns an API's address without its last slash.

  Raises:
    DataError: it is none, or holds a secret.
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


def key(variable: str) -> str:
  """Returns the key that the environment holds, '' for none.

  Raises:
    DataError: it cannot be sent in a header.
  """
  found = os.environ.get(variable, '').strip()
  if not all('!' <= character <= '~' for character in found):
    raise errors.DataError(
      f'The environment variable {variable}: expected a key of visible ASCII'
      ' characters, found others. Set it again.'
    )
  return found


def retry_after(value: str | None) -> float | None:
  """Returns the seconds that a Retry-After header asks for.

  Args:
    value: of the header: seconds or a date; None without one.
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


class Client:
  """Connections to the API; use it in an `async with`."""

  def __init__(self, service: Service):
    """Makes the client; connects to nothing yet.

    Args:
      service: whom to ask, and how.

    Raises:
      DataError: address or key cannot be used.
    """
    self.service = service
    self.url = check_url(service.url)
    self._key = key(service.key_variable)
    self._session: aiohttp.ClientSession | None = None

  async def __aenter__(self) -> Self:
    """Returns the client."""
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
    """Returns a text without the key, and without what is no Unicode."""
    text = _SURROGATE.sub('\ufffd', text)
    # Shorter ones are no secrets, but words for servers that ask for any key.
    if len(self._key) < _SECRET:
      return text
    for secret in (self._key, json.dumps(self._key)[1:-1]):
      text = text.replace(secret, '[key]')
    return text

  async def models(self) -> list[str] | None:
    """Returns the names of the models, None where the API does not tell.

    Raises:
      Failure: as in `ask`.
    """
    body = await self._call('GET', 'models', None)
    data = body.get('data')
    if not isinstance(data, list):
      return None
    names = [model.get('id') for model in data if isinstance(model, dict)]
    return [self.clean(name) for name in names if isinstance(name, str)]

  async def ask(self, asked: prompts.Asked) -> Completion:
    """Sends one request, once.

    Args:
      asked: the prompt.

    Raises:
      RetryableFailure: it may succeed when sent again.
      FatalFailure: no request can succeed.
      Failure: this one cannot.
    """
    chat = self.service.endpoint == 'chat'
    body = {
      'model': self.service.model,
      'messages' if chat else 'prompt': asked,
      **self.service.parameters,
    }
    path = _PATHS[self.service.endpoint]
    found = await self._call('POST', path, body)
    return self._completion(found)

  def _completion(self, found: dict[str, Any]) -> Completion:
    try:
      choice = found['choices'][0]
      if self.service.endpoint == 'chat':
        # No content at all is an answer too: an empty one.
        text = choice['message'].get('content') or ''
      else:
        text = choice['text']
      if not isinstance(text, str):
        raise TypeError('its text is no text')
    except (KeyError, IndexError, TypeError, AttributeError) as error:
      raise RetryableFailure(
        f'expected a completion, found a body without one ({error!r:.60})'
      ) from None
    usage = found.get('usage')
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

  async def _call(
    self, method: str, path: str, body: dict[str, Any] | None
  ) -> dict[str, Any]:
    url = f'{self.url}/{path}'
    try:
      async with self._session.request(
        method, url, json=body, allow_redirects=False
      ) as response:
        data = await response.content.read(_MAX_BODY)
        while len(data) < _MAX_BODY and (
          more := await response.content.read(_MAX_BODY)
        ):
          data += more
        status, headers = response.status, response.headers
    except TimeoutError:
      raise RetryableFailure(
        f'no answer within {self.service.timeout:g} s (--timeout)'
      ) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
      # The exception may hold the request with its headers: only its name and
      # words go on.
      kind = type(error).__name__
      unreachable = isinstance(error, aiohttp.ClientConnectorError)
      message = self.clean(f'{kind}: {error!s:.200}')
      raise RetryableFailure(message, unreachable=unreachable) from None
    if status != 200:
      wait = retry_after(headers.get('Retry-After'))
      raise self._failure(status, data, wait)
    return _parsed(data)

  def _failure(self, status: int, data: bytes, wait: float | None) -> Failure:
    """Returns what to raise for a status that is not 200."""
    said, code = _said(data)
    said = said.removesuffix('.')
    message = f'HTTP {status}: {self.clean(said)}' if said else f'HTTP {status}'
    if code == 'insufficient_quota':
      return FatalFailure(message, status)
    if status in _PASSING:
      if wait is not None and wait > MAX_WAIT_S:
        return FatalFailure(f'{message} (asks to wait {wait:.0f} s)', status)
      return RetryableFailure(message, wait)
    if status in _FINAL or 300 <= status < 400:
      return FatalFailure(message, status)
    return Failure(message)


def _allow_connections(count: int) -> None:
  """Has the system let this process open so many connections.

  Raises:
    DataError: it does not.
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


def _parsed(data: bytes) -> dict[str, Any]:
  try:
    found = json.loads(data)
  except (ValueError, RecursionError):
    raise RetryableFailure('expected JSON, found a body that is none') from None
  if not isinstance(found, dict):
    raise RetryableFailure('expected a JSON object, found another value')
  return found


def _said(data: bytes) -> tuple[str, str]:
  """Returns the message and the code of an error's body."""
  try:
    found = json.loads(data)
  except (ValueError, RecursionError):
    text = data[:2000].decode('utf-8', 'replace')
    return ('' if '<' in text else ' '.join(text.split())[:300]), ''
  error = found.get('error', found) if isinstance(found, dict) else found
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
