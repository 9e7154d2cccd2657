"""Entry points in processes of their own that start at once.

A server imports the engine once and then forks for each command line, so that a
test can start, kill and await many real processes. `Forks` starts the server:

    with Forks() as forks:
      process = forks.start('infer', '--gin_file=…')
      code, text = forks.wait(process)
"""

import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).parents[2]
_FUNCTIONS = {'eval': 'evaluate'}


class Process:
  """A started command: its process id, and the file of its output."""

  def __init__(self, pid: int, output: str):
    self.pid = pid
    self._output = output

  @property
  def text(self) -> str:
    """What it has printed, errors too."""
    return pathlib.Path(self._output).read_text(errors='replace')

  def kill(self) -> None:
    """Ends it as `kill -9` does."""
    os.kill(self.pid, signal.SIGKILL)


class Forks:
  """A server of processes; ends with its `with` block.

  What JAX reads from the environment while it is imported is the server's:
  `environment`, by default this process's with one CPU device.
  """

  def __init__(self, environment: Mapping[str, str] | None = None):
    self._environment = environment

  def __enter__(self) -> 'Forks':
    self._folder = tempfile.TemporaryDirectory()
    self._count = 0
    environment = self._environment
    if environment is None:
      environment = dict(os.environ, JAX_PLATFORMS='cpu')
      # Those that make compiling quick stay.
      flags = environment.get('XLA_FLAGS', '').split()
      environment['XLA_FLAGS'] = ' '.join(
        flag for flag in flags if 'device_count' not in flag
      )
    self._server = subprocess.Popen(
      [sys.executable, '-m', 'tests.t5x.forks'],
      cwd=ROOT,
      env=environment,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    return self

  def __exit__(self, *exc) -> None:
    self._server.stdin.close()
    self._server.wait()
    self._server.stdout.close()
    self._folder.cleanup()

  def start(self, mode: str, *argv: str, **environment: str) -> Process:
    """Starts `python -m t5x.<mode> <argv>`."""
    self._count += 1
    output = os.path.join(self._folder.name, f'{self._count}.txt')
    pid = self._ask(mode=mode, argv=argv, env=environment, output=output)
    return Process(pid, output)

  def wait(self, process: Process) -> tuple[int, str]:
    """Returns a process's exit code, negative for a signal, and its output."""
    return self._ask(wait=process.pid), process.text

  def run(self, mode: str, *argv: str, **environment: str) -> tuple[int, str]:
    """Starts a process and waits for it."""
    return self.wait(self.start(mode, *argv, **environment))

  def _ask(self, **request) -> int:
    self._server.stdin.write(json.dumps(request) + '\n')
    self._server.stdin.flush()
    answer = self._server.stdout.readline()
    assert answer, 'the server of forks has ended'
    return json.loads(answer)


def _become(mode: str, argv: list[str], env: dict, output: str) -> None:
  """Runs an entry point in this process, and ends it."""
  descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  for standard in (1, 2):
    os.dup2(descriptor, standard)
  os.environ.update(env)
  # What a new process reads when it starts.
  sys.path[:0] = filter(None, env.get('PYTHONPATH', '').split(os.pathsep))
  sys.argv = [f't5x.{mode}', *argv]
  code = 1
  try:
    from t5x.cli import commands

    module = importlib.import_module(f't5x.{mode}')
    # Gin files look up their functions there.
    sys.modules['__main__'] = module
    if mode == 'main':
      commands.run(module.MODES)
    else:
      commands.run({mode: getattr(module, _FUNCTIONS.get(mode, mode))})
    code = 0
  except SystemExit as e:
    code = e.code if isinstance(e.code, int) else int(e.code is not None)
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve() -> None:
  from t5x.cli import quiet_tensorflow

  quiet_tensorflow.load()
  import t5x.main  # noqa: F401  What every process would import.
  import tests.t5x.small_models  # noqa: F401

  # Standard output is for answers alone.
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  for line in sys.stdin:
    request = json.loads(line)
    if 'wait' in request:
      _, status = os.waitpid(request['wait'], 0)
      answer = os.waitstatus_to_exitcode(status)
    else:
      answer = os.fork()
      if not answer:
        _become(**request)
    answers.write(f'{answer}\n')
    answers.flush()


if __name__ == '__main__':
  _serve()
