"""Requests and tokens a minute: no more in any minute than was allowed."""

import aiolimiter


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


class Limits:
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
