"""Tests of the queue: how long it waits, what it lets out, what it records."""

import asyncio
import itertools
import threading
import types

import aiolimiter
import pytest
import tenacity

from dss_jax.extract import journal, request_queue, rows
from dss_jax.extract.api import bodies, client, failures
from tests.dss_jax.extract import fault_server

_YES = 200, fault_server.reply('It is. So the answer is yes.')
_NO = 400, {'error': {'message': 'No such thing.'}}


@pytest.mark.parametrize(
  ('attempt', 'most'), [(1, 0.5), (2, 1.0), (8, 60.0), (99, 60.0)]
)
def test_the_wait_is_what_the_server_asks_for_and_more(attempt, most):
  state = tenacity.RetryCallState(None, None, (), {})
  state.attempt_number = attempt
  for wait, least in ((None, 0.0), (5.0, 5.0)):
    outcome = tenacity.Future(1)
    outcome.set_exception(failures.RetryableFailure('busy', wait))
    state.outcome = outcome
    found = [request_queue._pause(state) - least for _ in range(3000)]
    assert 0 <= min(found) < 0.1 * most
    assert 0.99 * most < max(found) <= most + 1e-9


@pytest.mark.parametrize(
  ('per_minute', 'burst', 'at_once', 'flow'),
  [
    (1, 1 / 60, 1, 0.5), (2, 2 / 60, 1, 1), (3, 3, 1.5, 1.5),
    (10, 10 / 60, 1, 9), (60, 1, 1, 59), (60, 10, 10, 50),
    (60000, 1000, 1000, 59000),
  ],
)  # fmt: skip
def test_a_minute_never_has_more_than_was_allowed(
  per_minute, burst, at_once, flow
):
  """The burst and a minute of the steady flow make up the limit."""

  async def make():
    return request_queue._Bucket(per_minute, burst)._limiter

  limiter = asyncio.run(make())
  assert limiter.max_rate == at_once
  assert 60 * limiter.max_rate / limiter.time_period == pytest.approx(flow)


class _Noting(aiolimiter.AsyncLimiter):
  """A limiter that notes what it lets out, and lets it out at once."""

  def __init__(self, limiter):
    super().__init__(limiter.max_rate, limiter.time_period)
    self.taken = []

  async def acquire(self, amount=1):
    self.taken.append(amount)


def test_a_request_takes_one_of_requests_and_its_tokens_in_parts():
  async def take(requests, tokens):
    limits = request_queue.RateLimits(requests, tokens)
    noting = []
    for bucket, _ in limits._buckets:
      bucket._limiter = _Noting(bucket._limiter)
      noting.append(bucket._limiter)
    await limits.take(25)
    return [(limiter.max_rate, limiter.taken) for limiter in noting]

  found = asyncio.run(take(90, 63))
  assert found == [(1.5, [1]), (10.5, [10.5, 10.5, 4])]
  assert asyncio.run(take(None, None)) == []


def test_a_run_begins_with_nothing_counted():
  found = request_queue.Counts(5)
  assert found == request_queue.Counts(5, 0, 0, 0, 0, 0, 0, 0, '')


class _Syncing(journal.Journal):
  """A journal that says when it was brought to the disk."""

  synced = 0

  def sync(self):
    super().sync()
    self.synced += 1


@pytest.fixture
def asked(serve, tmp_path, monkeypatch):
  """Returns a function that has a queue do something, and returns what came.

  It returns the queue, the server, the entries, and the states of the counts.
  """
  monkeypatch.setattr(request_queue, '_jitter', lambda state: 0.0)
  path = tmp_path / 'journal.jsonl'

  def run(do, script=lambda question: _YES, requests=None, **parameters):
    server, url = serve(script=script)
    states = []

    async def main():
      service = client.Service(url, 'tiny', 'chat', parameters, 30.0, 4)
      contents = journal.JournalContents(journal.Index({'train': 99}, 1))
      async with client.Client(service) as connected:
        queue = request_queue.RequestQueue(
          connected,
          log,
          contents,
          request_queue.Counts(99),
          request_queue.RateLimits(requests),
          2,
          lambda counts: states.append((counts.done, counts.in_flight)),
        )
        # Whatever goes wrong, it ends.
        await asyncio.wait_for(do(queue), 20)
        assert asyncio.all_tasks() == {asyncio.current_task()}
      return queue

    with _Syncing(path) as log:
      queue = asyncio.run(main())
    found = [entry for _, entry in journal.scan(path)]
    return types.SimpleNamespace(
      queue=queue, server=server, entries=found, states=states, log=log
    )

  return run


def _job(number=0):
  row = rows.Row('train', number, f'r{number}', 'a', '', bool)
  content = f'Q: {number}'
  return request_queue.Job(row, 0, [{'role': 'user', 'content': content}])


def _jobs(count):
  return map(_job, range(count))


async def _until(condition):
  while not condition():
    await asyncio.sleep(0.001)


def test_what_comes_is_counted_and_kept(asked, monkeypatch):
  monkeypatch.setattr(request_queue, '_SYNC_EVERY_S', 0.001)
  found = asked(lambda queue: queue.run(_jobs(30), 4))
  counts = found.queue.counts
  assert counts == request_queue.Counts(
    99, done=30, completions=30, prompt_tokens=270, completion_tokens=120
  )
  assert found.server.most_flying <= 4 and found.queue.reason == ''
  assert found.queue.failure is found.queue.last_failure is None
  assert sorted(entry.index for entry in found.entries) == list(range(30))
  assert {(e.finish, e.thoughts) for e in found.entries} == {('stop', '')}
  assert [done for done, _ in found.states] == list(range(1, 31))
  assert found.log.synced


def test_thoughts_are_not_kept_unless_they_are_asked_for(asked):
  body = fault_server.reply('It is.', reasoning='Hm.')
  del body['usage']
  found = asked(lambda queue: queue.run_first(_job(), 0), lambda _: (200, body))
  [entry] = found.entries
  assert (entry.text, entry.thoughts, entry.usage) == ('It is.', '', {})
  counts = found.queue.counts
  assert (counts.prompt_tokens, counts.completion_tokens) == (0, 0)
  assert found.states == [(1, 0)]


@pytest.mark.parametrize(
  ('parameters', 'most'), [({'max_tokens': 50}, 50), ({}, 0)]
)
def test_a_request_waits_for_prompt_and_answer(asked, parameters, most):
  tokens = []

  async def do(queue):
    class Limits(request_queue.RateLimits):
      async def take(self, tokens_):
        tokens.append(tokens_)

    queue._limits = Limits()
    await queue.run_first(_job(), 0)

  asked(do, **parameters)
  assert tokens == [_job().tokens + most] and _job().tokens > 0


def test_what_may_pass_is_asked_again_so_often(asked):
  """Each time one request is in flight."""

  async def do(queue):
    with pytest.raises(failures.RetryableFailure, match='HTTP 500: Busy'):
      await queue.run_first(_job(), 2)
    await queue.run(_jobs(1), 1)

  found = asked(do, lambda question: (500, {'error': {'message': 'Busy'}}))
  counts = found.queue.counts
  assert (found.server.requests, counts.retries) == (6, 4)
  assert (counts.failed, counts.in_flight) == (1, 0)
  assert counts.last_error == 'HTTP 500: Busy'
  assert [entry.error for entry in found.entries] == ['HTTP 500: Busy']
  assert len(found.states) == 5


def test_what_passed_at_last_is_remembered_as_an_error(asked):
  answers = iter([(500, {'error': {'message': 'Busy'}}), _YES])
  found = asked(lambda queue: queue.run(_jobs(1), 1), lambda _: next(answers))
  counts = found.queue.counts
  assert (counts.done, counts.retries, counts.failed) == (1, 1, 0)
  assert counts.last_error == 'HTTP 500: Busy'


def test_what_cannot_pass_is_asked_once(asked):
  found = asked(lambda queue: queue.run(_jobs(3), 1), lambda question: _NO)
  assert found.server.requests == found.queue.counts.failed == 3
  assert found.queue.last_failure is not None
  assert found.queue.counts.last_error == 'HTTP 400: No such thing'
  assert found.queue.reason == ''


def test_a_first_row_that_is_refused_alone_is_recorded(asked):
  flagged = 400, {'error': {'message': 'Your input was flagged'}}
  found = asked(lambda queue: queue.run_first(_job(), 0), lambda _: flagged)
  assert found.queue.counts.last_error == 'HTTP 400: Your input was flagged'
  assert found.entries[0].error == 'HTTP 400: Your input was flagged'
  assert found.states == [(0, 0)]


def test_only_failures_in_a_row_stop_a_run(asked):
  answers = itertools.cycle([_YES, *[_NO] * 24])
  found = asked(lambda q: q.run(_jobs(76), 1), lambda _: next(answers))
  assert found.queue.reason == ''
  assert (found.queue.counts.failed, found.queue.counts.done) == (72, 4)
  answers = itertools.chain([_YES], itertools.repeat(_NO))
  found = asked(lambda q: q.run(_jobs(76), 1), lambda _: next(answers))
  assert found.queue.reason == (
    '25 rows in a row got no completion, the last one: HTTP 400: No such thing'
  )
  assert found.queue.counts.failed == 25
  assert str(found.queue.failure) == 'HTTP 400: No such thing'


def test_replies_without_an_answer_stop_a_run_that_has_none(asked):
  empty = 200, fault_server.reply('')
  answers = itertools.chain([_YES], [empty] * 20, itertools.repeat(_YES))
  found = asked(lambda q: q.run(_jobs(30), 1), lambda _: next(answers))
  assert (found.queue.reason, found.queue.counts.failed) == ('', 20)
  found = asked(lambda q: q.run(_jobs(30), 1), lambda _: empty)
  assert found.queue.counts.failed == 10
  assert found.queue.reason.startswith('none of 10 replies has an answer')


def test_a_stop_ends_the_wait_for_what_was_not_sent(asked):
  """One request a minute is allowed: the second is never sent."""

  async def do(queue):
    running = asyncio.create_task(queue.run(_jobs(9), 3))
    await _until(lambda: queue.counts.done)
    queue.stop('enough')
    queue.stop('more than enough')
    await asyncio.wait_for(running, 5)

  found = asked(do, requests=1)
  assert found.server.requests == len(found.entries) == 1
  assert found.queue.reason == 'enough' and found.queue.failure is None


def test_a_stop_ends_the_wait_that_a_server_asks_for(asked):
  async def do(queue):
    queue._client.ask = ask
    running = asyncio.create_task(queue.run(_jobs(9), 1))
    await _until(lambda: queue.counts.retries)
    queue.stop('enough')
    await asyncio.wait_for(running, 5)

  async def ask(prompt):
    raise failures.RetryableFailure('busy', 30.0)

  found = asked(do)
  assert (found.queue.counts.retries, found.entries) == (1, [])


@pytest.mark.parametrize('is_first', [True, False])
@pytest.mark.parametrize('answer', [_YES, (500, 'Busy')])
def test_a_stop_waits_for_what_is_paid_for(asked, is_first, answer):
  come, go = threading.Event(), threading.Event()

  def script(question):
    come.set()
    go.wait(10)
    return answer

  async def do(queue):
    asking = queue.run_first(_job(), 2) if is_first else queue.run(_jobs(9), 1)
    running = asyncio.create_task(asking)
    await _until(come.is_set)
    assert queue.counts.in_flight == 1
    told = []
    queue._on_change = told.append
    queue.interrupt()
    assert told == [queue.counts]
    go.set()
    await asyncio.wait_for(running, 5)

  found = asked(do, script)
  assert found.server.requests == 1
  # A request that failed while the run stopped is asked for by the next.
  assert len(found.entries) == (1 if answer is _YES else 0)
  assert (found.queue.reason, found.queue.failure) == ('interrupted', None)


@pytest.mark.parametrize('is_first', [True, False])
def test_a_second_interrupt_gives_up_what_is_in_flight(asked, is_first):
  come, go = threading.Event(), threading.Event()

  def script(question):
    come.set()
    go.wait(10)
    return _YES

  async def do(queue):
    asking = queue.run_first(_job(), 2) if is_first else queue.run(_jobs(9), 1)
    running = asyncio.create_task(asking)
    await _until(come.is_set)
    queue.interrupt()
    queue.interrupt()
    await asyncio.wait_for(running, 5)
    go.set()

  found = asked(do, script)
  assert found.entries == [] and found.queue.counts.in_flight == 0
  assert found.queue.reason == 'interrupted'


def test_an_interrupt_before_the_first_request_sends_none(asked):
  async def do(queue):
    queue.interrupt()
    queue.interrupt()
    await queue.run(_jobs(3), 2)

  found = asked(do)
  assert found.server.requests == 0 and found.queue.reason == 'interrupted'


def test_a_mistake_in_a_row_ends_the_run_and_all_its_tasks(asked):
  def jobs():
    yield _job()
    raise KeyError('of the rows')

  async def do(queue):
    with pytest.raises(KeyError, match='of the rows'):
      await queue.run(jobs(), 3)
    # Not even the one that was sent.
    assert queue.counts.in_flight == 0

  assert asked(do).queue.reason == ''


def test_a_fatal_failure_is_kept_with_its_reason(asked):
  refused = 401, {'error': {'message': 'Key revoked'}}
  found = asked(lambda queue: queue.run(_jobs(9), 1), lambda _: refused)
  assert found.queue.reason == 'HTTP 401: Key revoked'
  assert isinstance(found.queue.failure, failures.FatalFailure)
  assert found.server.requests == 1 and found.entries == []


@pytest.mark.parametrize('finish', ['stop', 'length'])
@pytest.mark.parametrize('useful', [25, 24])
def test_replies_that_can_have_no_label_stop_a_run(asked, finish, useful):
  """Unless one among the first 25 has."""

  async def do(queue):
    queue._reading = request_queue.Reading(
      useless=lambda completion: '' if next(number) == useful else 'are odd'
    )
    await queue.run(_jobs(60), 1)

  number = itertools.count()
  body = fault_server.reply('It is.', finish)
  found = asked(do, lambda _: (200, body))
  counts = found.queue.counts
  if useful == 24:
    assert (found.queue.reason, counts.done) == ('', 60)
    return
  assert (found.queue.reason, counts.done) == ('all of 25 replies are odd', 25)
  is_empty = isinstance(found.queue.failure, bodies.EmptyReply)
  assert is_empty == (finish == 'length')
