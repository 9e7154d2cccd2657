"""Queue of many requests: paced, retried, journaled, stopped cleanly.

No minute has more requests or tokens than `RateLimits` allow.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, cast

import aiolimiter
import tenacity

from dss_jax.extract import estimate, journal, prompts
from dss_jax.extract import rows as rows_lib
from dss_jax.extract.api import bodies, failures
from dss_jax.extract.api import client as client_lib
from dss_jax.extract.replies import thoughts

# After so many failed rows in a row, more is wrong than the rows; after fewer
# if a run has got nothing but replies without an answer, which cost as much.
MAX_FAILURES_IN_A_ROW = 25
MAX_EMPTY_AT_FIRST = 10
# The first wait between two attempts, about doubled each time.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_SYNC_EVERY_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
  """One sample of one row to ask for.

  Attributes:
    row: the row.
    sample: the number of the sample, from 0.
    prompt: what the request asks.
  """

  row: rows_lib.Row
  sample: int
  prompt: prompts.RenderedPrompt

  @property
  def tokens(self) -> int:
    """About how many tokens the prompt has."""
    return estimate.tokens(prompts.length(self.prompt))


@dataclasses.dataclass
class Counts:
  """Counts of what a run has done so far.

  Attributes:
    total: samples to ask for, including those of earlier runs.
    done: completions, including those of earlier runs.
    completions: those of this run.
    failed: samples given up on.
    retries: requests sent again.
    in_flight: requests that the server has not answered yet.
    prompt_tokens: by the server's count, in this run.
    completion_tokens: likewise.
    last_error: why the last failed request failed.
  """

  total: int
  done: int = 0
  failed: int = 0
  retries: int = 0
  in_flight: int = 0
  prompt_tokens: int = 0
  completion_tokens: int = 0
  completions: int = 0
  last_error: str = ''


@dataclasses.dataclass(frozen=True)
class Reading:
  """How a run's replies are read, and what is kept of them.

  Attributes:
    answer_format: the answer's template, whose own tags are no thoughts'.
    useless: returns why a reply cannot have a label, as a predicate of many
      replies; '' if it may.
    keep_thoughts: whether the journal keeps what the model wrote for itself.
  """

  answer_format: str = ''
  useless: Callable[[bodies.Completion], str] = lambda found: ''
  keep_thoughts: bool = False


class _Bucket:
  """A limit of units per minute, of which a small part may go at once."""

  def __init__(self, per_minute: float, burst: float):
    # A burst is taken off the steady flow, so that not even the first minute
    # has more than was allowed.
    self._burst = min(max(burst, 1.0), max(per_minute / 2, 1.0))
    flow = max(per_minute - self._burst, per_minute / 2) / 60
    self._limiter = aiolimiter.AsyncLimiter(self._burst, self._burst / flow)

  async def take(self, amount: float) -> None:
    while amount > 0:
      part = min(amount, self._burst)
      await self._limiter.acquire(part)
      amount -= part


class RateLimits:
  """Requests and tokens per minute that an API's plan allows."""

  def __init__(
    self,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
  ):
    """Creates the limits; must be called in a running event loop.

    Args:
      requests_per_minute: None for no limit.
      tokens_per_minute: of prompts and completions; None for no limit.
    """
    # At once: a second's worth of requests, ten seconds' worth of tokens.
    self._buckets = [
      (_Bucket(per_minute, per_minute / part), counts_tokens)
      for per_minute, part, counts_tokens in (
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
    for bucket, counts_tokens in self._buckets:
      await bucket.take(tokens if counts_tokens else 1)


class RequestQueue:
  """Sends the requests of all jobs and journals what comes back.

  Attributes:
    counts: what was done so far.
    reason: why the run stopped early; '' if it did not.
    failure: the failure that stopped it; None if it was the user or nothing.
    last_failure: of a row; None if there was none.
  """

  def __init__(
    self,
    client: client_lib.Client,
    log: journal.Journal,
    contents: journal.JournalContents,
    counts: Counts,
    limits: RateLimits,
    retries: int,
    on_change: Callable[[Counts], None] = lambda counts: None,
    reading: Reading | None = None,
  ):
    """Creates the queue; must be called in a running event loop.

    Args:
      client: sends a request.
      log: keeps every completion.
      contents: what the journal holds; kept up to date.
      counts: kept up to date.
      limits: requests and tokens per minute.
      retries: how often a request is sent again.
      on_change: called whenever the counts changed.
      reading: how replies are read, and what is kept of them.
    """
    self.counts = counts
    self.reason = ''
    self.failure: failures.Failure | None = None
    self.last_failure: failures.Failure | None = None
    self._client = client
    self._log = log
    self._contents = contents
    self._limits = limits
    self._retries = retries
    self._on_change = on_change
    self._reading = reading or Reading()
    self._stopping = False
    # Tasks that wait to send something, and may be cancelled without loss.
    self._waiting: set[asyncio.Task[Any]] = set()
    self._tasks: list[asyncio.Task[Any]] = []
    self._failures_in_a_row = 0
    # Of this run: replies without an answer, and replies without a label while
    # there is none with one.
    self._empty = self._useless = 0
    self._is_useful = False

  # Stopping.

  def stop(self, reason: str, failure: failures.Failure | None = None) -> None:
    """Sends no more requests, and waits for those in flight.

    Args:
      reason: for the user.
      failure: what made it necessary, if it was a failure.
    """
    if not self._stopping:
      self.reason, self.failure = reason, failure
      self._stopping = True
    for task in self._waiting:
      task.cancel()

  def interrupt(self) -> None:
    """Stops; called again, it gives up the requests in flight too."""
    if self._stopping:
      for task in self._tasks:
        task.cancel()
    else:
      self.stop('interrupted')
      self._on_change(self.counts)

  @contextlib.contextmanager
  def _cancelled_by_stop(self) -> Iterator[None]:
    """Marks the time in which a task may be cancelled without loss."""
    # Only tasks come here, so that there is a current one.
    task = cast(asyncio.Task[Any], asyncio.current_task())
    self._waiting.add(task)
    try:
      yield
    finally:
      self._waiting.discard(task)

  # Sending.

  async def run(self, jobs: Iterator[Job], concurrency: int) -> None:
    """Sends the requests of all jobs.

    Args:
      jobs: read one at a time, when there is room for one more.
      concurrency: how many requests are in flight at most.
    """
    syncing = asyncio.create_task(self._sync_journal())
    self._tasks = [
      asyncio.create_task(self._work(jobs)) for _ in range(concurrency)
    ]
    try:
      await asyncio.gather(*self._tasks)
    finally:
      for task in (*self._tasks, syncing):
        task.cancel()
      await asyncio.gather(*self._tasks, syncing, return_exceptions=True)

  async def run_first(self, job: Job, retries: int) -> None:
    """Sends the request of one job, before there are others.

    Args:
      job: what to ask.
      retries: how often its request is sent again at most.

    Raises:
      failures.Failure: there was no completion, for a reason that other rows
        share.
    """
    task = asyncio.create_task(self._send(job, retries))
    self._tasks = [task]
    try:
      completion = await task
    except failures.RowFailure as failure:
      self.counts.last_error = str(failure)
      self._record_failure(job, failure)
      self._on_change(self.counts)
    except (asyncio.CancelledError, failures.Failure):
      if not self._stopping:
        raise
    else:
      self._record_completion(job, completion)
      self._on_change(self.counts)

  async def _sync_journal(self) -> None:
    while True:
      await asyncio.sleep(_SYNC_EVERY_S)
      await asyncio.to_thread(self._log.sync)

  async def _work(self, jobs: Iterator[Job]) -> None:
    """Does one job after the other until there are none, or the queue stops."""
    try:
      while not self._stopping:
        job = next(jobs, None)
        if job is None:
          return
        await self._run_job(job)
    except asyncio.CancelledError:
      if not self._stopping:
        raise

  async def _run_job(self, job: Job) -> None:
    """Does one job, and records what came of it."""
    try:
      completion = await self._send(job, self._retries)
    except failures.FatalFailure as failure:
      self.stop(str(failure), failure)
    except failures.Failure as failure:
      self.counts.last_error = str(failure)
      if not self._stopping:
        self._record_failure(job, failure)
    else:
      self._record_completion(job, completion)
    self._on_change(self.counts)

  async def _send(self, job: Job, retries: int) -> bodies.Completion:
    """Sends a job's request until it succeeds or cannot.

    Args:
      job: what to ask.
      retries: how often it is sent again at most.

    Raises:
      failures.Failure: see `client.Client.ask`.
    """
    attempts = tenacity.AsyncRetrying(
      sleep=self._sleep,
      stop=lambda state: self._stopping or state.attempt_number > retries,
      wait=_pause,
      retry=tenacity.retry_if_exception_type(failures.RetryableFailure),
      before_sleep=self._record_retry,
      reraise=True,
    )
    return await attempts(self._send_once, job)

  async def _send_once(self, job: Job) -> bodies.Completion:
    most = self._client.service.parameters.get('max_tokens') or 0
    with self._cancelled_by_stop():
      await self._limits.take(job.tokens + most)
    self.counts.in_flight += 1
    try:
      completion = await self._client.ask(job.prompt)
    finally:
      self.counts.in_flight -= 1
    bodies.check_answer(completion, self._reading.answer_format)
    return completion

  async def _sleep(self, seconds: float) -> None:
    with self._cancelled_by_stop():
      await asyncio.sleep(seconds)

  # Recording.

  def _record_retry(self, state: tenacity.RetryCallState) -> None:
    self.counts.retries += 1
    self.counts.last_error = str(_exception(state))
    self._on_change(self.counts)

  def _record_failure(self, job: Job, failure: failures.Failure) -> None:
    entry = dataclasses.replace(self._entry(job), error=str(failure))
    if isinstance(failure, bodies.EmptyReply):
      entry = self._with_completion(entry, failure.completion)
      self._empty += 1
    self._contents.add(self._log.append(entry), entry)
    self.counts.failed += 1
    self.last_failure = failure
    self._failures_in_a_row += 1
    if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
      self.stop(
        f'{MAX_FAILURES_IN_A_ROW} rows in a row got no completion, the last'
        f' one: {failure}',
        failure,
      )
    elif not self.counts.completions and self._empty >= MAX_EMPTY_AT_FIRST:
      self.stop(
        f'none of {self._empty} replies has an answer, the last one: {failure}',
        failure,
      )

  def _record_completion(self, job: Job, completion: bodies.Completion) -> None:
    entry = self._with_completion(self._entry(job), completion)
    self._contents.add(self._log.append(entry), entry)
    self.counts.done += 1
    self.counts.completions += 1
    self._failures_in_a_row = 0
    self._count_useless(completion)

  def _count_useless(self, completion: bodies.Completion) -> None:
    """Stops a run in which no reply can have a label."""
    if self._is_useful:
      return
    why = self._reading.useless(completion)
    if not why:
      self._is_useful = True
      return
    self._useless += 1
    if self._useless >= MAX_FAILURES_IN_A_ROW:
      message = f'all of {self._useless} replies {why}'
      if thoughts.is_cut(completion.finish):
        self.stop(message, bodies.EmptyReply(message, completion))
      else:
        self.stop(message, failures.Failure(message))

  def _with_completion(
    self, entry: journal.Entry, completion: bodies.Completion
  ) -> journal.Entry:
    """Returns an entry with what came, and counts its tokens."""
    usage = completion.usage
    self.counts.prompt_tokens += usage.get('prompt_tokens', 0)
    self.counts.completion_tokens += usage.get('completion_tokens', 0)
    return dataclasses.replace(
      entry,
      text=completion.text,
      finish=completion.finish,
      usage=usage,
      thoughts=completion.thoughts if self._reading.keep_thoughts else '',
    )

  def _entry(self, job: Job) -> journal.Entry:
    """Returns the entry of a job, without what came of it."""
    service = self._client.service
    return journal.Entry(
      split=job.row.split,
      index=job.row.index,
      id=job.row.id,
      sample=job.sample,
      prompt=prompts.fingerprint(job.prompt),
      model=service.model,
      parameters=service.identity,
    )


def _exception(state: tenacity.RetryCallState) -> BaseException | None:
  """Returns the exception of an attempt, None if it succeeded."""
  return state.outcome.exception() if state.outcome is not None else None


_jitter = tenacity.wait_random_exponential(
  multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S
)


def _pause(state: tenacity.RetryCallState) -> float:
  """Returns the seconds to wait: at least what the server asks for."""
  failure = _exception(state)
  wait = None
  if isinstance(failure, failures.RetryableFailure):
    wait = failure.wait
  return (wait or 0.0) + _jitter(state)
