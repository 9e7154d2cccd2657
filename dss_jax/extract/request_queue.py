"""Many requests at once: retried, journalled as they come, stopped cleanly."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import aiolimiter
import tenacity

from dss_jax.extract import client as client_lib
from dss_jax.extract import estimate, journal, prompts
from dss_jax.extract import rows as rows_lib

# After so many rows in a row without a completion, something is wrong with more
# than the rows.
GIVE_UP = 25
# Seconds: the first wait between two attempts, about doubled each time.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_SYNC_EVERY_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
  """One sample of one row to ask for."""

  row: rows_lib.Row
  sample: int
  asked: prompts.Asked

  @property
  def tokens(self) -> int:
    """About how many tokens the prompt has."""
    return estimate.tokens(prompts.length(self.asked))


@dataclasses.dataclass
class Counts:
  """What a run has done so far.

  Attributes:
    total: samples there are to be, with those from before.
    done: completions, with those from before.
    failed: samples given up on.
    retries: requests sent again.
    flying: requests that the server has not answered yet.
    sent: tokens of prompts, by the server's count.
    received: tokens of completions, likewise.
    last_error: why a request failed last.
  """

  total: int
  done: int = 0
  failed: int = 0
  retries: int = 0
  flying: int = 0
  sent: int = 0
  received: int = 0
  last_error: str = ''


class _Bucket:
  """Lets so many units through a minute, a small part of them at once."""

  def __init__(self, per_minute: float, burst: float):
    # Whatever is taken at once is missing from the steady flow, so that not
    # even the first minute has more than was allowed.
    self._burst = min(max(burst, 1.0), max(per_minute / 2, 1.0))
    flow = max(per_minute - self._burst, per_minute / 2) / 60
    self._limiter = aiolimiter.AsyncLimiter(self._burst, self._burst / flow)

  async def take(self, amount: float) -> None:
    while amount > 0:
      part = min(amount, self._burst)
      await self._limiter.acquire(part)
      amount -= part


class RateLimits:
  """What an API's plan allows."""

  def __init__(
    self,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
  ):
    """Makes the limits; must be called where an event loop runs.

    Args:
      requests_per_minute: None for any number.
      tokens_per_minute: of prompts and completions; None for any number.
    """
    self._buckets = [
      (_Bucket(per_minute, per_minute / part), counts)
      for per_minute, part, counts in (
        (requests_per_minute, 60, False),
        (tokens_per_minute, 6, True),
      )
      if per_minute is not None
    ]

  async def take(self, tokens: int) -> None:
    """Waits until a request may be sent.

    Args:
      tokens: about how many it will use.
    """
    for bucket, counts in self._buckets:
      await bucket.take(tokens if counts else 1)


class RequestQueue:
  """Asks for all jobs."""

  def __init__(
    self,
    client: client_lib.Client,
    log: journal.Journal,
    contents: journal.JournalContents,
    counts: Counts,
    limit: RateLimits,
    retries: int,
    changed: Callable[[Counts], None] = lambda counts: None,
  ):
    """Makes the queue; must be called where an event loop runs.

    Args:
      client: sends a request.
      log: keeps every completion.
      contents: what it holds; kept up to date.
      counts: kept up to date.
      limit: requests and tokens a minute.
      retries: how often a request is sent again.
      changed: called whenever the counts changed.
    """
    self._client, self._log, self._contents = client, log, contents
    self.counts, self._limit, self._retries = counts, limit, retries
    self._changed = changed
    self._stop = asyncio.Event()
    self._waiting: set[asyncio.Task] = set()
    self._tasks: list[asyncio.Task] = []
    self._fruitless = 0
    # Why the run stopped early; '' while it did not.
    self.reason = ''
    self.failure: client_lib.Failure | None = None

  # Stopping.

  def stop(
    self, reason: str, failure: client_lib.Failure | None = None
  ) -> None:
    """Sends no more requests, and waits for those on their way.

    Args:
      reason: for the user.
      failure: what made it necessary, if it was a failure.
    """
    if not self._stop.is_set():
      self.reason, self.failure = reason, failure
      self._stop.set()
    for task in self._waiting:
      task.cancel()

  def interrupt(self) -> None:
    """Stops; called again, it gives up the requests on their way too."""
    if self._stop.is_set():
      for task in self._tasks:
        task.cancel()
    else:
      self.stop('interrupted')
      self._changed(self.counts)

  @contextlib.contextmanager
  def _wait(self) -> Iterator[None]:
    """Marks the time in which a task may be cancelled without loss."""
    task = asyncio.current_task()
    self._waiting.add(task)
    try:
      yield
    finally:
      self._waiting.discard(task)

  # Asking.

  async def run(self, jobs: Iterator[Job], concurrency: int) -> None:
    """Asks for all jobs.

    Args:
      jobs: read one at a time, when there is room for one more.
      concurrency: how many requests are on their way at most.
    """
    syncing = asyncio.create_task(self._sync())
    self._tasks = [
      asyncio.create_task(self._work(jobs)) for _ in range(concurrency)
    ]
    try:
      await asyncio.gather(*self._tasks)
    finally:
      for task in (*self._tasks, syncing):
        task.cancel()
      await asyncio.gather(*self._tasks, syncing, return_exceptions=True)

  async def alone(self, job: Job, retries: int) -> None:
    """Asks for one job, before there are others.

    Args:
      job: what to ask.
      retries: how often its request is sent again at most.

    Raises:
      client.Failure: there was no completion.
    """
    task = asyncio.create_task(self.retried(job, retries))
    self._tasks = [task]
    try:
      completion = await task
    except asyncio.CancelledError:
      if not self._stop.is_set():
        raise
    except client_lib.Failure:
      if not self._stop.is_set():
        raise
    else:
      self.keep(job, completion)
      self._changed(self.counts)

  async def _sync(self) -> None:
    while True:
      await asyncio.sleep(_SYNC_EVERY_S)
      await asyncio.to_thread(self._log.sync)

  async def _work(self, jobs: Iterator[Job]) -> None:
    try:
      while not self._stop.is_set():
        job = next(jobs, None)
        if job is None:
          return
        await self._one(job)
    except asyncio.CancelledError:
      if not self._stop.is_set():
        raise

  async def _one(self, job: Job) -> None:
    try:
      completion = await self.retried(job, self._retries)
    except client_lib.FatalFailure as failure:
      self.stop(str(failure), failure)
    except client_lib.Failure as failure:
      self.counts.last_error = str(failure)
      if not self._stop.is_set():
        self._fail(job, failure)
    else:
      self._fruitless = 0
      self.keep(job, completion)
    self._changed(self.counts)

  def _fail(self, job: Job, failure: client_lib.Failure) -> None:
    entry = dataclasses.replace(self._entry(job), error=str(failure))
    self._contents.note(self._log.append(entry), entry)
    self.counts.failed += 1
    self._fruitless += 1
    if self._fruitless >= GIVE_UP:
      self.stop(
        f'{GIVE_UP} rows in a row got no completion, the last one: {failure}',
        failure,
      )

  def keep(self, job: Job, completion: client_lib.Completion) -> None:
    """Journals a completion."""
    entry = dataclasses.replace(
      self._entry(job),
      text=completion.text,
      finish=completion.finish,
      usage=completion.usage,
    )
    self._contents.note(self._log.append(entry), entry)
    self.counts.done += 1
    self.counts.sent += completion.usage.get('prompt_tokens', 0)
    self.counts.received += completion.usage.get('completion_tokens', 0)

  def _entry(self, job: Job) -> journal.Entry:
    service = self._client.service
    return journal.Entry(
      split=job.row.split,
      index=job.row.index,
      id=job.row.id,
      sample=job.sample,
      prompt=prompts.fingerprint(job.asked),
      model=service.model,
      parameters=parameters(service),
    )

  async def retried(self, job: Job, retries: int) -> client_lib.Completion:
    """Sends a job's request until it succeeds or cannot.

    Args:
      job: what to ask.
      retries: how often it is sent again at most.

    Raises:
      client.Failure: see `client.Client.ask`.
    """
    attempts = tenacity.AsyncRetrying(
      sleep=self._sleep,
      stop=tenacity.stop_after_attempt(retries + 1)
      | tenacity.stop_when_event_set(self._stop),
      wait=_pause,
      retry=tenacity.retry_if_exception_type(client_lib.RetryableFailure),
      before_sleep=self._note_retry,
      reraise=True,
    )
    return await attempts(self._attempt, job)

  async def _attempt(self, job: Job) -> client_lib.Completion:
    most = self._client.service.parameters.get('max_tokens') or 0
    with self._wait():
      await self._limit.take(job.tokens + most)
    self.counts.flying += 1
    try:
      return await self._client.ask(job.asked)
    finally:
      self.counts.flying -= 1

  async def _sleep(self, seconds: float) -> None:
    with self._wait():
      await asyncio.sleep(seconds)

  def _note_retry(self, state: tenacity.RetryCallState) -> None:
    self.counts.retries += 1
    self.counts.last_error = str(state.outcome.exception())
    self._changed(self.counts)


_jitter = tenacity.wait_random_exponential(
  multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S
)


def _pause(state: tenacity.RetryCallState) -> float:
  """Returns the seconds to wait: at least what the server asks for."""
  failure = state.outcome.exception()
  asked = (
    failure.wait if isinstance(failure, client_lib.RetryableFailure) else None
  )
  return (asked or 0.0) + _jitter(state)


def parameters(service: client_lib.Service) -> dict[str, object]:
  """Returns what a journal notes of how it was asked, beside the model."""
  return {'endpoint': service.endpoint, **service.parameters}
