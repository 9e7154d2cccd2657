"""A server on this machine, and the command as a user calls it."""

import contextlib
import importlib.util

import pytest

from dss_jax import cli

# Without the extra `extract` there is nothing to test but its absence.
collect_ignore_glob = (
  [] if importlib.util.find_spec('aiohttp') else ['*test_*.py']
)

KEY = 'sk-0123456789abcdef-secret'


@pytest.fixture
def serve():
  """Returns a function that starts a server: (server, its address)."""
  from tests.dss_jax.extract import fault_server

  with contextlib.ExitStack() as stack:

    def start(**plan):
      plan = {'retry_after': '0', **plan}
      return stack.enter_context(
        fault_server.running(fault_server.Plan(**plan))
      )

    yield start


@pytest.fixture
def extract(tmp_path, monkeypatch):
  """Returns a function that calls `dss extract` and returns its exit code."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv('OPENAI_API_KEY', raising=False)
  monkeypatch.delenv('OPENAI_BASE_URL', raising=False)
  monkeypatch.delenv('DSS_TEACHERS', raising=False)

  def call(*arguments, url=None, teacher='mine', model='tiny'):
    words = ['extract', *map(str, arguments), '--teacher', teacher]
    words += ['--url', url, '--model', model] if url else []
    try:
      cli.main(words)
    except SystemExit as left:
      return left.code
    return 0

  return call
