"""Client of the process that holds TPU's compiler."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any

from dss_jax.errors import DataError

_MODULE = 'dss_jax.plan.worker'


class Child:
  """Starts a worker, and another one after each compilation.

  Args:
    options: arguments of `dss_jax.plan.worker.Worker`.
  """

  def __init__(self, options: Mapping[str, Any]):
    self._options = dict(options)
    self._process: subprocess.Popen[str] | None = None
    self._errors: IO[str]  # The process's standard error.
    self._dump: tempfile.TemporaryDirectory[str]  # Where XLA writes programs.

  def __enter__(self) -> 'Child':
    return self

  def __exit__(self, *exc: object) -> None:
    self.close()

  def close(self) -> None:
    """Ends the worker."""
    if self._process is not None:
      # A compiler at work ignores milder signals.
      self._process.kill()
      # The end of a request that the worker didn't read is lost.
      with contextlib.suppress(BrokenPipeError), self._process:
        pass
      self._errors.close()
      self._dump.cleanup()
      self._process = None

  def call(self, name: str, **arguments: Any) -> Any:
    """Returns the worker's answer.

    Args:
      name: 'describe' or 'plan'.
      **arguments: of the call, as JSON holds them.

    Raises:
      DataError: the worker reports an error, or the compiler crashed.
    """
    process = self._process or self._start()
    assert process.stdin and process.stdout  # Since both are pipes.
    try:
      process.stdin.write(json.dumps({'call': name, **arguments}) + '\n')
      process.stdin.flush()
      line = process.stdout.readline()
    except BrokenPipeError:
      line = ''
    if not line:
      code = process.wait()
      self._errors.seek(0)
      last_lines = self._errors.read().strip().splitlines()[-5:]
      self.close()
      message = f'The compiling process ended with exit code {code}:'
      raise DataError('\n'.join([message, *last_lines]))
    answer = json.loads(line)
    if answer['last']:
      self.close()
    if 'error' in answer:
      raise DataError(answer['error'])
    return answer['result']

  def _start(self) -> subprocess.Popen[str]:
    # Both are closed by `close`, with the process that writes to them.
    self._dump = tempfile.TemporaryDirectory(prefix='dss_plan_')
    self._errors = tempfile.TemporaryFile('w+', encoding='utf-8')  # noqa: SIM115
    options = json.dumps({**self._options, 'dump': self._dump.name})
    flags = os.environ.get('XLA_FLAGS', '')
    flags += f' --xla_dump_hlo_as_text --xla_dump_to={self._dump.name}'
    self._process = subprocess.Popen(
      [sys.executable, '-m', _MODULE, options],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      encoding='utf-8',
      env={**os.environ, 'XLA_FLAGS': flags},
    )
    return self._process
