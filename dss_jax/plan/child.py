"""Talks to the process that holds TPU's compiler."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from dss_jax.errors import DataError

_MODULE = 'dss_jax.plan.worker'


class Child:
  """Starts a worker, and another one after each compilation.

  Args:
    options: arguments of `dss_jax.plan.worker.Worker`.
  """

  def __init__(self, options: Mapping[str, Any]):
    self._options = dict(options)
    self._process: subprocess.Popen | None = None
    self._errors: Any = None
    self._dump: tempfile.TemporaryDirectory | None = None

  def __enter__(self) -> 'Child':
    return self

  def __exit__(self, *exc: Any) -> None:
    self.close()

  def close(self) -> None:
    """Ends the worker."""
    if self._process is not None:
      self._process.stdin.close()
      # The compiler, where it is at work, doesn't end at a milder word.
      self._process.kill()
      self._process.wait()
      self._process.stdout.close()
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
    if answer['last']:
      self.close()
    if 'error' in answer:
      raise DataError(answer['error'])
    return answer['result']

  def _start(self) -> None:
    # Both are closed by `close`, with the process that writes to them.
    self._dump = tempfile.TemporaryDirectory(prefix='dss_plan_')
    self._errors = tempfile.TemporaryFile('w+', encoding='utf-8')  # noqa: SIM115
    self._process = subprocess.Popen(
      [
        sys.executable,
        '-m',
        _MODULE,
        json.dumps({**self._options, 'dump': self._dump.name}),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      encoding='utf-8',
      env={
        **os.environ,
        'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} --xla_dump_hlo_as_text'
        f' --xla_dump_to={self._dump.name}',
      },
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
