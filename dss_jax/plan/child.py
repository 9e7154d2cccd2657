"""Talks to the process that holds TPU's compiler."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from dss_jax.errors import DataError

_MODULE = 'dss_jax.plan.worker'


class Child:
  """Starts a worker, and another one should the compiler take it down.

  Args:
    options: arguments of `dss_jax.plan.worker.Worker`.
  """

  def __init__(self, options: Mapping[str, Any]):
    self._options = json.dumps(dict(options))
    self._process: subprocess.Popen | None = None
    self._errors: Any = None

  def __enter__(self) -> 'Child':
    return self

  def __exit__(self, *exc: Any) -> None:
    self.close()

  def close(self) -> None:
    """Ends the worker."""
    if self._process is not None:
      self._process.stdin.close()
      self._process.terminate()
      self._process.wait()
      self._process.stdout.close()
      self._errors.close()
      self._process = None

  def call(self, name: str, **arguments: Any) -> Any:
    """Returns the worker's answer.

    Args:
      name: 'describe' or 'plan'.
      **arguments: of the call, as JSON holds them.

    Raises:
      DataError: the worker reports an error, or the compiler crashed.
    """
    if self._process is None:
      self._start()
    request = json.dumps({'call': name, **arguments})
    try:
      self._process.stdin.write(request + '\n')
      self._process.stdin.flush()
      line = self._process.stdout.readline()
    except BrokenPipeError:
      line = ''
    if not line:
      raise DataError(self._last_words())
    answer = json.loads(line)
    if 'error' in answer:
      raise DataError(answer['error'])
    return answer['result']

  def _start(self) -> None:
    # Closed by `close`, with the process that writes to it.
    self._errors = tempfile.TemporaryFile('w+', encoding='utf-8')  # noqa: SIM115
    self._process = subprocess.Popen(
      [sys.executable, '-m', _MODULE, self._options],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      encoding='utf-8',
    )

  def _last_words(self) -> str:
    """What a worker that ended said last."""
    code = self._process.wait()
    self._errors.seek(0)
    said = self._errors.read().strip().splitlines()[-5:]
    self.close()
    return '\n'.join(
      [f'The compiling process ended with exit code {code}:', *said]
    )
