"""Bodies of an API's answers: completions, errors, and what is neither.

What a server says goes into messages as neutral text: without secrets, markup
and control characters, and bounded.
"""

import dataclasses
import html
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from dss_jax import neutral
from dss_jax.extract.api import failures
from dss_jax.extract.api import secrets as secrets_lib
from dss_jax.extract.replies import thoughts

# Bytes; a larger body is not a completion.
MAX_BYTES = 64 * 2**20
# If a server asks for a longer wait, it is better to come back later.
MAX_WAIT_S = 900.0
# Bytes of a page to look for a server's words in.
_MAX_PAGE = 20_000
# Counts of tokens that are kept of an answer.
_MAX_COUNTS = 32
# Statuses after which the same request may well succeed.
_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429}) | frozenset(
  range(500, 600)
)
# Statuses that every further request would get.
_FATAL_STATUSES = frozenset({401, 402, 403, 404, 405})
# Fields of a message in which servers put thoughts.
_THOUGHT_FIELDS = ('reasoning_content', 'reasoning', 'thinking')
_INVISIBLE = re.compile(
  r'<!--.*?-->|<(script|style)\b.*?</\1\s*>|<[!/?a-z][^>]*>',
  re.DOTALL | re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
  """A model's answer to one request.

  Attributes:
    text: what the model wrote.
    finish: why it ended.
    usage: the server's counts of tokens.
    thoughts: what the model wrote for itself, where the server tells it apart.
    refusal: why the model does not answer, in its words.
  """

  text: str
  finish: str
  usage: dict[str, int]
  thoughts: str = ''
  refusal: str = ''


class EmptyReply(failures.RowFailure):
  """A reply without an answer: it is empty, or holds only thoughts.

  Attributes:
    completion: what came.
  """

  def __init__(self, message: str, completion: Completion):
    """Creates the exception.

    Args:
      message: what the reply holds instead.
      completion: see the class.
    """
    super().__init__(message)
    self.completion = completion


# Completions.


def completion(
  body: dict[str, Any], is_chat: bool, secrets: secrets_lib.Secrets
) -> Completion:
  """Reads the body of a successful answer.

  Args:
    body: a JSON object.
    is_chat: whether it answers a chat.
    secrets: what to remove from texts.

  Raises:
    Failure: it holds no completion, but an error or something else.
  """
  choices = body.get('choices')
  choice = choices[0] if isinstance(choices, list) and choices else None
  if not isinstance(choice, dict):
    choice = None
  error = body.get('error') or (choice or {}).get('error')
  if error:
    raise _error_in_body(error, secrets)
  if choice is None:
    raise _no_completion(body, secrets)
  try:
    message = choice['message'] if is_chat else choice
    # No content at all is an answer too: an empty one.
    text, thought, refusal = _parts(
      message.get('content') if is_chat else message['text']
    )
    found = [thought]
    if not text.strip() or not thought:
      found += [_words_of(message.get(name)) for name in _THOUGHT_FIELDS]
    refusal = refusal or _words_of(message.get('refusal'))
  except (KeyError, TypeError, AttributeError) as mistake:
    why = secrets.line(repr(mistake), 60)
    raise failures.RetryableFailure(
      f'expected a completion, found a body without one ({why})'
    ) from None
  finish = choice.get('finish_reason')
  return Completion(
    secrets.clean(text),
    secrets.line(finish, 80) if isinstance(finish, str) else '',
    _counts(body.get('usage'), secrets),
    # Some servers send the same thoughts under two names.
    secrets.clean('\n'.join(dict.fromkeys(filter(None, found)))),
    secrets.clean(refusal),
  )


def _counts(usage: Any, secrets: secrets_lib.Secrets) -> dict[str, int]:
  """Returns the counts of tokens among what a server says it used."""
  found = usage.items() if isinstance(usage, dict) else ()
  counts = (
    (secrets.line(name, 80), count)
    for name, count in found
    if type(count) is int and 0 <= count <= neutral.MAX_COUNT
  )
  return dict(itertools.islice(counts, _MAX_COUNTS))


def _parts(content: Any) -> tuple[str, str, str]:
  """Returns (text, thoughts, refusal) of a message's content.

  Args:
    content: a text, or a list of texts and typed parts; None for nothing.

  Raises:
    TypeError: it is none of these.
  """
  if content is None:
    return '', '', ''
  if isinstance(content, str):
    return content, '', ''
  if not isinstance(content, list):
    raise TypeError('its text is not a string')
  found: tuple[list[str], list[str], list[str]] = ([], [], [])
  for part in content:
    if isinstance(part, str):
      found[0].append(part)
      continue
    kind = str(part.get('type', 'text'))
    if kind in ('text', 'output_text'):
      text = part.get('text')
      # The Assistants API has the text one level deeper.
      text = text.get('value') if isinstance(text, dict) else text
      found[0].append(_parts(text)[0])
    elif kind == 'refusal':
      found[2].append(_parts(part.get('refusal'))[0])
    elif 'think' in kind or 'reason' in kind:
      values = (part.get(name) for name in ('thinking', 'text', *_PART_FIELDS))
      found[1].append(next((_words_of(v) for v in values if v), ''))
  texts, thought, refusals = (''.join(texts) for texts in found)
  return texts, thought, refusals


def _words_of(value: Any) -> str:
  """Returns the texts of a field beside the answer, of whatever form it is."""
  try:
    return ''.join(_parts(value))
  except (TypeError, AttributeError):
    return ''


_PART_FIELDS = ('reasoning', 'reasoning_content', 'content', 'summary')


def check_answer(found: Completion, answer_format: str) -> None:
  """Checks that a completion answers.

  Args:
    found: what came.
    answer_format: the answer's template, whose own tags are no thoughts'.

  Raises:
    EmptyReply: it does not.
  """
  reply = thoughts.split(found.text, answer_format)
  if reply.answer:
    return
  if found.refusal:
    raise EmptyReply(f'the model refused: {neutral.line(found.refusal)}', found)
  if found.finish == 'content_filter':
    raise EmptyReply('the server filtered the reply (content_filter)', found)
  thought = found.thoughts or reply.thoughts
  holds = (
    f'only thoughts ({len(thought):,} characters of reasoning)'
    if thought
    else 'no content'
  )
  ended = f', finish_reason {found.finish!r}' if found.finish else ''
  raise EmptyReply(f'expected an answer, found {holds}{ended}', found)


# Errors.


def failure(
  status: int,
  data: bytes,
  secrets: secrets_lib.Secrets,
  wait: float | None = None,
  location: str = '',
) -> failures.Failure:
  """Returns the exception to raise for a status other than 200.

  Args:
    status: the HTTP status.
    data: the body.
    secrets: what to remove from texts.
    wait: seconds that the server asks to wait.
    location: where a redirect points to.
  """
  words, code = _error_message(data, secrets)
  if location:
    # Not what follows a '?', which may hold a secret.
    place = secrets.line(location.partition('?')[0])
    words = f'moved to {place}' + (f' ({words})' if words else '')
  return _failure(status, words, code, wait)


def _failure(
  status: int, words: str, code: str, wait: float | None = None
) -> failures.Failure:
  """Returns an exception for a status, the server's words and its code."""
  words = words.removesuffix('.')
  message = f'HTTP {status}: {words}' if words else f'HTTP {status}'
  if code == 'insufficient_quota':
    return failures.FatalFailure(message, status)
  if status < 500 and status != 429 and failures.is_filter(words, code):
    return failures.RowFailure(message)
  if status in _FATAL_STATUSES or 300 <= status < 400:
    return failures.FatalFailure(message, status)
  if status != 429 and failures.advice(words):
    # The request is wrong, whatever the status: it would fail again.
    return failures.Failure(message)
  if status in _RETRYABLE_STATUSES:
    if wait is not None and wait > MAX_WAIT_S:
      return failures.FatalFailure(
        f'{message} (asks to wait {wait:.0f} s)', status
      )
    return failures.RetryableFailure(message, wait)
  return failures.Failure(message)


def _error_in_body(
  error: Any, secrets: secrets_lib.Secrets
) -> failures.Failure:
  """Returns the exception to raise for an error in a body with status 200."""
  words, code = _words(error, secrets)
  fields = error if isinstance(error, dict) else {}
  for status in (str(fields.get('code')), str(fields.get('status'))):
    if re.fullmatch('[45][0-9]{2}', status):
      return _failure(int(status), words, code)
  # Without a status the error may pass, as an overload does.
  found = _failure(500, words, code)
  found.args = (f'the server reports an error: {words or code}',)
  return found


def _no_completion(
  body: dict[str, Any], secrets: secrets_lib.Secrets
) -> failures.Failure:
  """Returns the exception to raise for a JSON object without a choice."""
  words, code = _words(body, secrets)
  if words:
    status = body.get('code') or body.get('status')
    if isinstance(status, int) and 400 <= status < 600:
      return _failure(status, words, code)
    if failures.advice(words):
      return failures.Failure(words)
    return failures.RetryableFailure(f'expected a completion, found: {words}')
  names = secrets.line(', '.join(body), 60) or 'no field'
  return failures.RetryableFailure(
    f'expected a completion, found a body without one ({names})'
  )


def json_object(data: bytes, secrets: secrets_lib.Secrets) -> dict[str, Any]:
  """Returns the JSON object of a body with status 200.

  Args:
    data: the body.
    secrets: what to remove from texts.

  Raises:
    Failure: it is something else, which the message quotes.
  """
  if len(data) >= MAX_BYTES:
    raise failures.RetryableFailure(
      f'expected at most {MAX_BYTES:,} bytes, found a larger body'
    )
  try:
    value = json.loads(data)
  except (ValueError, RecursionError):
    raise _not_json(data, secrets) from None
  if not isinstance(value, dict):
    shown = secrets.line(json.dumps(value), 100)
    raise failures.RetryableFailure(
      f'expected a JSON object, found another value: {shown}'
    )
  return value


def _not_json(data: bytes, secrets: secrets_lib.Secrets) -> failures.Failure:
  """Returns the exception to raise for a body that is not JSON."""
  text = data[:_MAX_PAGE].decode('utf-8', 'replace').lstrip()
  words = _plain_words(text, secrets)
  quoted = f': {words}' if words else ''
  if re.match(r'(data|event|id|retry)?:', text):
    for line in text.splitlines():
      event = _event(line)
      if event.get('error'):
        return _error_in_body(event['error'], secrets)
    return failures.Failure(
      'expected one JSON object, found a stream of events (SSE). Turn'
      f' streaming off in the server or the proxy before it{quoted}'
    )
  if text.startswith('<'):
    return failures.RetryableFailure(
      f'expected JSON, found a web page (HTML){quoted}'
    )
  return failures.RetryableFailure(
    f'expected JSON, found a body that is not{quoted}'
  )


def _event(line: str) -> dict[str, Any]:
  """Returns the object in a line of a stream of events, {} without one."""
  try:
    value = json.loads(line.removeprefix('data:'))
  except (ValueError, RecursionError):
    return {}
  return value if isinstance(value, dict) else {}


def _plain_words(text: str, secrets: secrets_lib.Secrets) -> str:
  """Returns the words of a text or a web page as a line for a message."""
  if '<' in text:
    text = html.unescape(_INVISIBLE.sub(' ', text))
  return secrets.line(text)


def _error_message(
  data: bytes, secrets: secrets_lib.Secrets
) -> tuple[str, str]:
  """Returns the words and the code in the body of an error."""
  try:
    body = json.loads(data)
  except (ValueError, RecursionError):
    text = data[:_MAX_PAGE].decode('utf-8', 'replace')
    return _plain_words(text, secrets), ''
  # OpenAI has {'error': {…}}, others the object itself, a list or a text.
  error = body.get('error', body) if isinstance(body, dict) else body
  return _words(error, secrets)


def _words(error: Any, secrets: secrets_lib.Secrets) -> tuple[str, str]:
  """Returns the words and the code of an error, for a message."""
  if isinstance(error, list) and error:
    error = error[0]
  if isinstance(error, dict):
    message = next(_messages(error), '')
    code = error.get('code') or error.get('type')
  else:
    message, code = error, ''
  if not isinstance(message, str):
    message = json.dumps(message, ensure_ascii=False) if message else ''
  code = secrets.line(code, 80) if isinstance(code, str) else ''
  return _plain_words(message, secrets), code


def _messages(error: dict[str, Any]) -> Iterator[Any]:
  """Yields what may be the message of an error, the likeliest first."""
  for name in ('message', 'detail', 'msg', 'error'):
    if error.get(name):
      yield error[name]
