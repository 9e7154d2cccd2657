"""Tests of the queue: how long it waits, and how many requests it lets out."""

import asyncio

import tenacity

from dss_jax.extract import request_queue
from dss_jax.extract.api import failures


def test_the_wait_is_what_the_server_asks_for_and_more():
  state = tenacity.RetryCallState(None, None, (), {})
  for wait, least in ((None, 0.0), (5.0, 5.0)):
    outcome = tenacity.Future(1)
    outcome.set_exception(failures.RetryableFailure('busy', wait))
    state.outcome = outcome
    found = [request_queue._pause(state) for _ in range(20)]
    assert min(found) >= least
    assert len(set(found)) > 1


def test_a_minute_never_has_more_than_was_allowed():
  """The burst and a minute of the steady flow make up the limit."""

  async def make():
    return [request_queue._Bucket(n, n / 60) for n in (2, 10, 60, 1000, 60000)]

  for bucket, allowed in zip(
    asyncio.run(make()), (2, 10, 60, 1000, 60000), strict=True
  ):
    limiter = bucket._limiter
    flow = limiter.max_rate / limiter.time_period
    assert limiter.max_rate + 60 * flow <= allowed * (1 + 1e-9)
    assert limiter.max_rate + 60 * flow > 0.7 * allowed
