"""Two hosts, of which one is lost, or held still for a while.

pytest -m slow -s tests/t5x/disruption/test_lost_hosts.py
"""

import signal
import time

import pytest

from t5x import distributed
from tests.t5x.disruption import runs

# JAX's own end, an abort, may come before ours: a shell shows both as 134.
_LOST = (distributed.LOST_EXIT_CODE, -signal.SIGABRT)
# What a host says: our words, or JAX's.
_SAYS = (
  'Process 1 of 2 has lost its connection to another one',
  'most likely indicates that another task died',
)


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  """The folder of a run that nothing disturbed."""
  folder = tmp_path_factory.mktemp('straight') / 'run'
  runs.finish(runs.start(folder, hosts=2))
  return folder


def _in_a_step(run):
  run.wait_for_step(6)


def _in_a_save(run):
  run.hold_in_save(8)


def _before_the_first_step(run):
  run.wait_until((run.folder / 'run.json').exists)


@pytest.mark.slow
@pytest.mark.parametrize(
  'reach', [_in_a_step, _in_a_save, _before_the_first_step]
)
def test_the_loss_of_the_coordinator_ends_the_other_host(
  straight, tmp_path, reach
):
  """`pytest -m slow -s tests/t5x/disruption/test_lost_hosts.py -k loss`."""
  run = runs.start(tmp_path / 'run', hosts=2)
  reach(run)
  run.send(signal.SIGKILL, host=0)
  code, text, seconds = run.end(1)
  print(f'{reach.__name__}: ended with {code} after {seconds:.1f} s')
  assert seconds < 2 * distributed.HEARTBEAT_SECONDS
  assert code in _LOST, text
  assert any(words in text for words in _SAYS), text
  assert run.end(0)[0] == -signal.SIGKILL
  runs.assert_whole(run.folder)
  runs.finish(runs.start(run.folder, hosts=2))
  runs.assert_same(run.folder, straight)


def test_the_first_cause_decides_whether_another_process_was_lost():
  """What breaks while a process ends of itself is no loss of another one."""

  def ended_by(*causes):
    error = None
    for text in causes:
      error, before = RuntimeError(text), error
      error.__context__ = before
    return distributed._lost_connection(error)

  broke = 'UNKNOWN: Gloo all-reduce failed: Connection reset by peer'
  assert ended_by(broke, 'while closing') == broke
  assert ended_by('broken on purpose', broke) is None
  assert ended_by(f'{broke}\nin a long text') == broke
  assert ended_by('disk failed') is None


@pytest.mark.slow
def test_a_host_that_sleeps_for_less_than_the_limit_is_waited_for(
  straight, tmp_path
):
  """`pytest -m slow -s tests/t5x/disruption/test_lost_hosts.py -k waited`."""
  run = runs.start(tmp_path / 'run', hosts=2)
  for host in (0, 1):
    run.wait_for_step(6 + 8 * host)
    run.hold(host)
    time.sleep(distributed.HEARTBEAT_SECONDS / 2)
    run.send(signal.SIGCONT, host)
  runs.finish(run)
  runs.assert_same(run.folder, straight)


@pytest.mark.slow
@pytest.mark.parametrize('host', [0, 1])
def test_a_host_that_sleeps_for_longer_ends_the_other(straight, tmp_path, host):
  """`pytest -m slow -s tests/t5x/disruption/test_lost_hosts.py -k longer`."""
  run = runs.start(tmp_path / 'run', hosts=2)
  run.wait_for_step(6)
  run.hold(host)
  code, text, seconds = run.end(1 - host)
  print(f'{host} sleeps: the other ended with {code} after {seconds:.1f} s')
  assert seconds < 2 * distributed.HEARTBEAT_SECONDS
  assert code in _LOST, text
  run.send(signal.SIGCONT, host)
  code, slept, seconds = run.end(host)
  print(f'the sleeper ended with {code} after {seconds:.1f} s')
  assert code in _LOST, slept
  runs.assert_whole(run.folder)
  runs.finish(runs.start(run.folder, hosts=2))
  runs.assert_same(run.folder, straight)
