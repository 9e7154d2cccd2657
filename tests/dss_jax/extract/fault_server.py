"""An OpenAI-compatible server that fails as it is told to.

It answers questions of CQA's form with one of their choices, and any other
with yes; it says what it was asked and how often it answered. Alone:

  python fault_server.py '{"fault_rate": 0.1, "latency": 0.2}'

prints its port and serves until it is killed.
"""

import asyncio
import collections
import contextlib
import dataclasses
import hashlib
import json
import random
import re
import sys
import threading

from aiohttp import web

FAULTS = (
  'too many',
  'server error',
  'drop',
  'truncated',
  'malformed',
  'no choices',
  'slow',
)


@dataclasses.dataclass
class Plan:
  """What the server does.

  Attributes:
    fault_rate: how many requests fail.
    faults: in which ways, one after the other.
    latency: seconds before an answer.
    spread: up to how much longer it may take, so that answers change order.
    retry_after: what a 429 asks for.
    key: that requests must carry; any where it is ''.
    echo: what the completion holds beside the answer; '{key}' is the key.
    models: that there are.
    context: characters that a prompt may have, 0 for any number.
    always: a status that every completion gets, 0 for none.
    refuse: inputs that hold this text get a 400.
    lists: whether the server lists its models.
    seed: of the faults.
    script: a function of the question that returns a status and a body: a
      JSON value, or a text of any kind. It answers in place of the server.
  """

  fault_rate: float = 0.0
  faults: tuple = FAULTS
  latency: float = 0.0
  spread: float = 0.0
  retry_after: str = '1'
  key: str = ''
  echo: str = ''
  models: tuple = ('tiny',)
  context: int = 0
  always: int = 0
  refuse: str = ''
  lists: bool = True
  seed: int = 0
  script: object = None


def answer(question):
  """Returns what the teacher says: the same for the same question."""
  choices = re.findall(r'^\((\w)\) (.+)$', question, re.MULTILINE)
  if not choices:
    return 'Because it is so. So the answer is yes.'
  digest = hashlib.sha256(question.encode()).digest()
  letter, words = choices[digest[0] % len(choices)]
  return (
    f'Of these, {words} fits. So the answer is ({letter}) {words}.'
    '\n\nQ: And what'
  )


class Server:
  """The server, and what it saw."""

  def __init__(self, plan):
    self.plan = plan
    self.random = random.Random(plan.seed)
    self.answered = collections.Counter()
    self.requests = 0
    self.bodies = []
    self.flying = self.most_flying = 0
    self.faults = collections.Counter()
    # From which request on nothing but errors come.
    self.fail_after = None

  def app(self):
    """Returns the application."""
    app = web.Application(client_max_size=2**26)
    app.router.add_get('/v1/models', self.models)
    app.router.add_post('/v1/chat/completions', self.complete)
    app.router.add_post('/v1/completions', self.complete)
    app.router.add_get('/stats', self.stats)
    return app

  def refuse(self, request):
    """Returns a 401 that repeats the key, as real servers do, or None."""
    given = request.headers.get('Authorization', '').removeprefix('Bearer ')
    if not self.plan.key or given == self.plan.key:
      return None
    return _error(401, f'Incorrect API key provided: {given}.')

  async def models(self, request):
    """Lists the models."""
    if not self.plan.lists:
      return _error(404, 'Not found')
    models = [{'id': name} for name in self.plan.models]
    return self.refuse(request) or web.json_response({'data': models})

  async def stats(self, request):
    """Says what the server saw."""
    twice = sum(n - 1 for n in self.answered.values())
    return web.json_response(
      {
        'requests': self.requests,
        'inputs': len(self.answered),
        'answers': sum(self.answered.values()),
        'answered_again': twice,
        'most_flying': self.most_flying,
        'faults': dict(self.faults),
      }
    )

  async def complete(self, request):
    """Answers, or fails."""
    self.requests += 1
    self.flying += 1
    self.most_flying = max(self.most_flying, self.flying)
    try:
      return await self._complete(request)
    finally:
      self.flying -= 1

  async def _complete(self, request):
    body = await request.json()
    if len(self.bodies) < 100:
      self.bodies.append(body)
    chat = 'messages' in body
    prompt = body['messages'][-1]['content'] if chat else body['prompt']
    question = prompt[prompt.rfind('Q: ') :]
    refused = self.refuse(request) or self._refused(body, prompt)
    if self.fail_after is not None and self.requests > self.fail_after:
      refused = _error(500, 'Down for good')
    if refused is not None:
      return refused
    plan = self.plan
    wait = plan.latency + plan.spread * self.random.random()
    if wait:
      await asyncio.sleep(wait)
    if plan.script is not None:
      self.answered[question] += 1
      status, found = plan.script(question)
      if isinstance(found, str):
        return web.Response(status=status, text=found)
      return web.json_response(found, status=status)
    said = answer(question) + plan.echo.replace('{key}', plan.key)
    text = {'message': {'content': said}} if chat else {'text': said}
    found = {
      'choices': [{**text, 'finish_reason': 'stop'}],
      'usage': {'prompt_tokens': len(prompt) // 4, 'completion_tokens': 20},
    }
    if self.random.random() < plan.fault_rate:
      fault = plan.faults[sum(self.faults.values()) % len(plan.faults)]
      self.faults[fault] += 1
      return await self._fail(fault, request, json.dumps(found).encode())
    self.answered[question] += 1
    return web.json_response(found)

  def _refused(self, body, prompt):
    plan = self.plan
    if plan.always:
      return _error(plan.always, 'It is broken.')
    if body['model'] not in plan.models:
      return _error(404, f'The model `{body["model"]}` does not exist')
    if plan.refuse and plan.refuse in prompt:
      return _error(400, 'This input is not allowed.')
    size = len(json.dumps(body.get('messages', prompt)))
    if plan.context and size > plan.context:
      return _error(400, "This model's maximum context length is exceeded.")
    return None

  async def _fail(self, fault, request, body):
    if fault == 'too many':
      return _error(429, 'Slow down', {'Retry-After': self.plan.retry_after})
    if fault == 'server error':
      return _error(500, 'Oh no')
    if fault == 'malformed':
      return web.Response(body=body[:-20] + b'"', content_type='text/html')
    if fault == 'no choices':
      return web.json_response({'choices': []})
    if fault == 'drop':
      request.transport.abort()
      return web.Response()
    response = web.StreamResponse(headers={'Content-Length': str(len(body))})
    await response.prepare(request)
    await response.write(body[:30])
    if fault == 'slow':
      await asyncio.sleep(0.05)
      await response.write(body[30:])
      question = (await request.json()).get('messages', [{}])[-1]
      text = question.get('content', '')
      self.answered[text[text.rfind('Q: ') :]] += 1
    else:
      request.transport.abort()
    return response


def reply(content, finish='stop', **message):
  """Returns the body of a chat's answer, for `Plan.script`.

  Args:
    content: of the message.
    finish: why it ended.
    **message: other fields of the message.
  """
  message = {'role': 'assistant', 'content': content, **message}
  usage = {'prompt_tokens': 9, 'completion_tokens': 4}
  choice = {'finish_reason': finish, 'message': message}
  return {'choices': [choice], 'usage': usage}


def _error(status, message, headers=None):
  return web.json_response(
    {'error': {'message': message}}, status=status, headers=headers
  )


async def _serve(server):
  # A client that leaves, or the end of a test, ends what it was waiting for.
  runner = web.AppRunner(
    server.app(),
    access_log=None,
    handler_cancellation=True,
    shutdown_timeout=0.1,
  )
  await runner.setup()
  site = web.TCPSite(runner, '127.0.0.1', 0, backlog=4096)
  await site.start()
  return runner, runner.addresses[0][1]


@contextlib.contextmanager
def running(plan):
  """Yields (server, address of its API), served by a thread."""
  server, loop = Server(plan), asyncio.new_event_loop()
  runner, port = loop.run_until_complete(_serve(server))
  thread = threading.Thread(target=loop.run_forever, daemon=True)
  thread.start()
  try:
    yield server, f'http://127.0.0.1:{port}/v1'
  finally:
    stop = asyncio.run_coroutine_threadsafe(runner.cleanup(), loop)
    stop.result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def main():
  """Serves alone."""
  server = Server(Plan(**json.loads(sys.argv[1])))

  async def forever():
    _, port = await _serve(server)
    print(port, flush=True)
    await asyncio.Event().wait()

  asyncio.run(forever())


if __name__ == '__main__':
  main()
