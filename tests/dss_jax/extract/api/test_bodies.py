"""Tests of bodies: what a completion holds, and what an error means."""

import json

import pytest

from dss_jax.extract.api import bodies, secrets
from dss_jax.extract.api.failures import Failure as Plain
from dss_jax.extract.api.failures import FatalFailure as Fatal
from dss_jax.extract.api.failures import RetryableFailure as Again
from dss_jax.extract.api.failures import RowFailure as OfRow

_SECRETS = secrets.Secrets()


def _completion(content='It is.', body=(), **message):
  message = {'content': content, **message}
  choice = {'message': message, 'finish_reason': 'stop'}
  # The first of several choices is the answer.
  other = {'message': {'content': 'No.'}}
  found = {'choices': [choice, other]} | dict(body)
  return bodies.completion(found, True, _SECRETS)


@pytest.mark.parametrize(
  ('content', 'text', 'thoughts', 'refusal'),
  [
    (None, '', '', ''),
    ('a', 'a', '', ''),
    (['a', {'text': 'b'}, {'type': 'output_text', 'text': 'c'}], 'abc', '', ''),
    ([{'type': 'text', 'text': {'value': 'a'}}], 'a', '', ''),
    ([{'type': 'refusal', 'refusal': 'No.'}, 'a'], 'a', '', 'No.'),
    ([{'type': 'thinking', 'thinking': 'Hm.'}, 'a'], 'a', 'Hm.', ''),
    ([{'type': 'reasoning', 'text': 'Hm.'}, 'a'], 'a', 'Hm.', ''),
    ([{'type': 'reasoning', 'summary': ['Hm', '.']}, 'a'], 'a', 'Hm.', ''),
    ([{'type': 'reasoning'}, 'a'], 'a', '', ''),
    ([{'type': 'image', 'text': 'x'}, 'a'], 'a', '', ''),
  ],
)
def test_every_form_of_content_is_read(content, text, thoughts, refusal):
  found = _completion(content)
  assert found == bodies.Completion(text, 'stop', {}, thoughts, refusal)


def test_thoughts_beside_an_answer_are_read_once():
  part = [{'type': 'thinking', 'thinking': 'Hm.'}, 'a']
  assert _completion(part, reasoning='Other.').thoughts == 'Hm.'
  assert _completion(reasoning='Hm.', reasoning_content='Hm.').thoughts == 'Hm.'
  assert _completion(reasoning='b', reasoning_content='a').thoughts == 'a\nb'
  assert _completion(part[:1], reasoning='Other.').thoughts == 'Hm.\nOther.'
  for other in (7, [7], {'effort': 'low'}):
    assert _completion(reasoning=other).thoughts == ''
  assert _completion(refusal='No.').refusal == 'No.'


def test_only_counts_are_kept_of_what_was_used():
  usage = {'a': 0, 'b': 2**53, 'c': 2**53 + 1, 'd': -1, 'e': True, 'f': 1.5}
  assert _completion(body={'usage': usage}).usage == {'a': 0, 'b': 2**53}
  usage = {f'n{number}': number for number in range(40)}
  found = _completion(body={'usage': usage}).usage
  assert found == {f'n{number}': number for number in range(32)}
  assert _completion(body={'usage': [1]}).usage == {}
  # Names and words have bounds.
  assert _completion(body={'usage': {'n' * 99: 1}}).usage == {f'{"n" * 80}…': 1}
  choice = {'text': 'a', 'finish_reason': 'n' * 99}
  found = bodies.completion({'choices': [choice]}, False, _SECRETS)
  assert found.finish == f'{"n" * 80}…'


@pytest.mark.parametrize(
  ('choice', 'is_chat'),
  [({}, True), ({'message': 'a'}, True), ({}, False), ({'text': 7}, False)],
)
def test_a_choice_without_a_text_is_no_completion(choice, is_chat):
  with pytest.raises(Again, match='found a body without one'):
    bodies.completion({'choices': [choice]}, is_chat, _SECRETS)


def test_a_completion_that_is_no_chat_is_a_text():
  choice = {'text': 'a', 'finish_reason': 7}
  found = bodies.completion({'choices': [choice]}, False, _SECRETS)
  assert found == bodies.Completion('a', '', {})


@pytest.mark.parametrize(
  ('text', 'finish', 'more', 'message'),
  [
    ('', '', {}, 'expected an answer, found no content'),
    ('', 'stop', {}, "expected an answer, found no content, finish_reason 'st"),
    ('', 'a', {'thoughts': 'Hm.'}, 'found only thoughts (3 characters of'),
    (
      '<think>Hmm',
      'z',
      {},
      'found only thoughts (3 characters of reasoning), ',
    ),
    ('', '', {'refusal': 'No.'}, 'the model refused: No.'),
    (
      '',
      'content_filter',
      {},
      'the server filtered the reply (content_filter)',
    ),
  ],
)
def test_what_does_not_answer_is_told_by_what_it_holds(
  text, finish, more, message
):
  found = bodies.Completion(text, finish, {}, **more)
  with pytest.raises(bodies.EmptyReply) as empty:
    bodies.check_answer(found, '')
  assert message in str(empty.value) and empty.value.completion is found
  if not finish:
    assert str(empty.value) == message
  bodies.check_answer(bodies.Completion('a', finish, {}, **more), '')


_FILTER = b'{"error": "Content filter."}'
_TOO_LONG = b'{"error": "maximum context length is 9"}'


@pytest.mark.parametrize(
  ('status', 'data', 'kind'),
  [
    *((status, b'', Fatal) for status in (401, 402, 403, 404, 405)),
    *((status, b'', Fatal) for status in (300, 399)),
    *((status, b'', Again) for status in (408, 409, 425, 429, 500, 502, 599)),
    *((status, b'', Plain) for status in (299, 400, 406, 407, 410, 424, 426)),
    *((status, b'', Plain) for status in (428, 430, 499, 600)),
    *((status, _FILTER, OfRow) for status in (400, 403, 428, 430, 499)),
    *((status, _FILTER, Again) for status in (429, 500, 503)),
    *((status, _TOO_LONG, Plain) for status in (400, 408, 428, 430, 500)),
    (429, _TOO_LONG, Again),
    (404, _TOO_LONG, Fatal),
    (429, b'{"error": {"code": "insufficient_quota"}}', Fatal),
    (429, b'{"error": {"type": "insufficient_quota"}}', Fatal),
    (429, b'{"error": {"code": "rate_limit_exceeded"}}', Again),
    (429, b'{"error": {"code": "busy"}}', Again),
    (400, b'{"error": {"code": "content_filter"}}', OfRow),
  ],
)
def test_a_status_and_the_servers_words_say_whether_to_ask_again(
  status, data, kind
):
  found = bodies.failure(status, data, _SECRETS, 3.0)
  assert type(found) is kind
  assert getattr(found, 'status', status) == status
  assert getattr(found, 'wait', 3.0) == 3.0


@pytest.mark.parametrize(
  ('wait', 'kind'),
  [(None, Again), (0.0, Again), (900.0, Again), (900.5, Fatal)],
)
def test_a_quarter_of_an_hour_is_waited_for_and_no_longer(wait, kind):
  found = bodies.failure(429, b'Busy', _SECRETS, wait)
  assert type(found) is kind
  assert ('asks to wait 900 s' in str(found)) == (kind is Fatal)


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'', 'HTTP 400'),
    (b'[]', 'HTTP 400'),
    (b'{}', 'HTTP 400'),
    (b'[' * 99_999, f'HTTP 400: {"[" * 300}…'),
    (b'"No."', 'HTTP 400: No'),
    (b'7', 'HTTP 400: 7'),
    (b'[{"msg": "One."}, {"msg": "Two."}]', 'HTTP 400: One'),
    (b'{"error": {"detail": "d", "message": "m"}}', 'HTTP 400: m'),
    ('{"detail": ["é"]}'.encode(), 'HTTP 400: ["é"]'),
    (b'<p class="x">1 &lt; 2</p>', 'HTTP 400: 1 < 2'),
    (b'<STYLE>\na{}\n</Style>No<!--\n-->', 'HTTP 400: No'),
    (b'x' * 30_000 + b' end', f'HTTP 400: {"x" * 300}…'),
  ],
)
def test_the_words_of_an_error_are_found(data, message):
  assert str(bodies.failure(400, data, _SECRETS)) == message


def test_a_redirect_is_told_without_what_may_be_a_secret():
  place = 'http://a/b?k=v'
  found = bodies.failure(302, b'', _SECRETS, location=place)
  assert str(found) == 'HTTP 302: moved to http://a/b'
  found = bodies.failure(302, b'Gone.', _SECRETS, location=place)
  assert str(found) == 'HTTP 302: moved to http://a/b (Gone.)'


@pytest.mark.parametrize(
  ('body', 'kind', 'message'),
  [
    ({'error': {'message': 'No', 'status': 403}}, Fatal, 'HTTP 403: No'),
    ({'error': {'message': 'No', 'code': '402'}}, Fatal, 'HTTP 402: No'),
    ({'error': {'message': 'No', 'code': 600}}, Again, 'reports an error: No'),
    ({'error': 'No'}, Again, 'the server reports an error: No'),
    ({'error': {'code': 'busy'}}, Again, 'the server reports an error: busy'),
    ({'choices': [{'error': 'No'}]}, Again, 'the server reports an error: No'),
    ({'error': {'code': 'x' * 99}}, Again, f'an error: {"x" * 80}…'),
    ({'x' * 99: 1}, Again, f'found a body without one ({"x" * 60}…)'),
    ({'choices': 'x'}, Again, 'found a body without one (choices)'),
    ({'choices': ['x']}, Again, 'found a body without one (choices)'),
    ({'choices': []}, Again, 'found a body without one (choices)'),
    ({}, Again, 'found a body without one (no field)'),
    ({'message': ''}, Again, 'found a body without one (message)'),
    ({'msg': 'No', 'code': 400}, Plain, 'HTTP 400: No'),
    ({'msg': 'No', 'status': 599}, Again, 'HTTP 599: No'),
    ({'detail': 'No', 'code': 399}, Again, 'expected a completion, found: No'),
    ({'detail': 'No', 'code': 600}, Again, 'expected a completion, found: No'),
    ({'detail': 'No', 'code': 'x'}, Again, 'expected a completion, found: No'),
  ],
)
def test_a_body_without_a_completion_says_why(body, kind, message):
  with pytest.raises(Plain) as found:
    bodies.completion(body, True, _SECRETS)
  assert type(found.value) is kind
  assert str(found.value).endswith(message)


@pytest.mark.parametrize(
  ('data', 'kind', 'message'),
  [
    (b'', Again, 'expected JSON, found a body that is not'),
    (b'[' * 99_999, Again, f'found a body that is not: {"[" * 300}…'),
    (b'  <p></p>', Again, 'expected JSON, found a web page (HTML)'),
    (b'{"a": 1} x', Again, 'found a body that is not: {"a": 1} x'),
    (b'data: [1]\ndata: ' + b'[' * 9999, Plain, 'Turn streaming off'),
    (b'event: error\ndata: {"error": "No"}', Again, 'reports an error: No'),
    (b'data: {"error": {"message": "No", "code": 401}}', Fatal, 'HTTP 401: No'),
    (b'"x"', Again, 'expected a JSON object, found another value: "x"'),
    (b'[' + b'1' * 200 + b']', Again, f'another value: [{"1" * 99}…'),
  ],
)
def test_a_body_that_is_no_object_is_quoted(data, kind, message):
  with pytest.raises(Plain) as found:
    bodies.json_object(data, _SECRETS)
  assert type(found.value) is kind
  if kind is Plain:
    assert message in str(found.value)
  else:
    assert str(found.value).endswith(message)


def test_a_large_body_is_read_and_a_larger_one_not(monkeypatch):
  data = json.dumps({'a': 'long ' * 2**19}).encode()
  assert len(bodies.json_object(data, _SECRETS)['a']) == 5 * 2**19
  monkeypatch.setattr(bodies, 'MAX_BYTES', 10)
  assert bodies.json_object(b'{"a": 12}', _SECRETS) == {'a': 12}
  with pytest.raises(Again, match='at most 10 bytes, found a larger body'):
    bodies.json_object(b'{"a": 123}', _SECRETS)
