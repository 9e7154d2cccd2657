"""Standard streams whose reader may leave without ending a run."""

import os
import sys
from typing import Any, TextIO, cast


class _Forgiving:
  """A stream that goes silent once it can't be written.

  The other end of a pipe was closed (`| head`), the terminal is gone, or the
  disk that output is kept on is full. Work must not end for that.
  """

  def __init__(self, stream: TextIO):
    self._stream = stream

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    """Writes text, if it can still be written."""
    try:
      return self._stream.write(text)
    except OSError:
      self._silence()
      return len(text)

  def flush(self) -> None:
    """Flushes the stream, if it can still be written."""
    try:
      self._stream.flush()
    except OSError:
      self._silence()

  def _silence(self) -> None:
    """Lets what is buffered, and all that follows, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, self._stream.fileno())
    os.close(nowhere)


def forgive_closed() -> None:
  """Makes standard output and standard error streams that never raise."""
  for name in ('stdout', 'stderr'):
    stream = getattr(sys, name)
    # A test or a notebook has put a stream of its own there.
    if stream is getattr(sys, f'__{name}__') and stream is not None:
      setattr(sys, name, cast(TextIO, _Forgiving(stream)))
