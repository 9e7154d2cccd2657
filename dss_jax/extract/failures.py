"""Failures of requests: what is worth asking again, and what is not."""


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


class RowFailure(Failure):
  """A failure that says nothing about other rows, such as a filtered input."""
