"""Multi-process training: start, barriers, shared values, and end on failure.

A process joins the others by flags, or because Slurm, Open MPI or a TPU pod
started it: then JAX finds the others by itself. On any other machine, nothing
is probed over the network.

When one process fails, all end: the others notice that its heartbeat stops, or
that a collective breaks, and end with an error of their own.
"""

import contextlib
import difflib
import glob
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax._src import distributed as jax_distributed
from jax.experimental import multihost_utils

from t5x import errors, neutral

# A process that is silent for so long is lost; all others end then.
HEARTBEAT_SECONDS = 30
_SHUTDOWN_SECONDS = 60
# How long the first processes wait for the last one: machines of a cluster
# don't start together.
START_SECONDS = 300
# When a process that waits begins to say so.
_PATIENCE_SECONDS = 10
# JAX's own end at its time-out is an abort, so it comes later than ours.
_GRACE_SECONDS = 30
# How long the first process outlives its failure: it hosts the coordination
# service, which the others need to report theirs.
_LINGER_SECONDS = 3
# Of a process that ends since another one is lost: as a shell shows JAX's own
# end (an abort), where that comes first.
LOST_EXIT_CODE = 134
# How collectives and the coordination service say that another process left.
_LOST = re.compile(
  r'Gloo [\w-]+ failed|ncclRemoteError|remote process exited'
  r'|coordination.?service|(Barrier|heartbeat) timed out',
  re.IGNORECASE,
)

# Packages that decide about results.
_PACKAGES = (
  'dss-jax',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
  'seqio',
  'tensorflow',
  'tensorflow-datasets',
  'sentencepiece',
)
# Differences that a message lists.
_MAX_LISTED = 6

_COUNTS = {
  # Set by srun in each task, but not in the batch script itself.
  'Slurm': 'SLURM_STEP_NUM_TASKS',
  'Open MPI': 'OMPI_COMM_WORLD_SIZE',
}


def cluster(environment: Mapping[str, str] = os.environ) -> str | None:
  """Returns what started this process as one of several, if anything did.

  Args:
    environment: variables; `{'SLURM_STEP_NUM_TASKS': '4'}` gives 'Slurm'.
  """
  for name, variable in _COUNTS.items():
    count = environment.get(variable, '1')
    if count.isdigit() and int(count) > 1:
      return name
  platforms = environment.get('JAX_PLATFORMS', 'tpu').split(',')
  chips = glob.glob('/dev/accel[0-9]*') or glob.glob('/dev/vfio/[0-9]*')
  if 'tpu' in platforms and chips and importlib.util.find_spec('libtpu'):
    return 'TPU'
  return None


def start(
  coordinator_address: str | None = None,
  process_count: int | None = None,
  process_index: int | None = None,
) -> None:
  """Joins the other processes; call it before anything uses a device.

  Args:
    coordinator_address: HOST:PORT of process 0; None to let JAX find it.
    process_count: how many processes there are.
    process_index: which one this is.

  Raises:
    errors.UserError: the numbers are invalid, or the others can't be found.
  """
  if process_count is not None and not (
    0 <= (process_index or 0) < process_count
  ):
    raise errors.UserError(
      f'--process_index: expected 0 to {process_count - 1}, since'
      f' --process_count is {process_count}; found {process_index}.'
    )
  if coordinator_address is not None and not (
    coordinator_address.rpartition(':')[2].isdigit()
  ):
    raise errors.UserError(
      '--coordinator_address: expected HOST:PORT, such as 10.0.0.1:8476, found'
      f' {coordinator_address!r}.'
    )
  try:
    with _limited_wait(coordinator_address, process_count):
      jax.distributed.initialize(
        coordinator_address,
        process_count,
        process_index,
        initialization_timeout=int(START_SECONDS) + _GRACE_SECONDS,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
      )
  except ValueError as error:
    raise errors.UserError(
      f'Several processes were asked for, but nothing says who they are'
      f' ({error}). Give --coordinator_address, --process_count and'
      ' --process_index, or start them with srun or mpirun.'
    ) from error
  _check_process_count()


@contextlib.contextmanager
def _limited_wait(address: str | None, count: int | None) -> Iterator[None]:
  """Says that a process waits for others, and ends it if they don't come."""
  joined = threading.Event()
  others = f'all {count} processes' if count else 'all processes'
  place = f' at {address}' if address else ''

  def watch() -> None:
    if joined.wait(_PATIENCE_SECONDS):
      return
    neutral.say(
      f'Waiting{place} for {others}, up to {START_SECONDS:.0f} s.', err=True
    )
    if joined.wait(START_SECONDS - _PATIENCE_SECONDS):
      return
    neutral.say(
      f'\nerror: after {START_SECONDS:.0f} s not {others} have met{place}.'
      ' Start each one with the same --coordinator_address and'
      ' --process_count, and a --process_index of its own, from 0; process 0'
      ' listens at that address.',
      err=True,
    )
    os._exit(errors.UserError.exit_code)

  threading.Thread(target=watch, daemon=True).start()
  try:
    yield
  finally:
    joined.set()


def _check_process_count() -> None:
  """Raises UserError, on all, if processes were told different numbers."""
  state = jax_distributed.global_state
  own, count, client = state.process_id, state.num_processes, state.client
  assert client is not None  # It has just been made.
  key = 'dss_jax/process_count/{}'
  client.key_value_set(key.format(own), str(count))
  # Process 0 counts those that it knows of, and each of the others is one.
  for other in range(1, count) if own == 0 else [0]:
    told = client.blocking_key_value_get(
      key.format(other), int(START_SECONDS * 1000)
    )
    if told != str(count):
      raise errors.UserError(
        f'--process_count: process {own} was started as one of {count}, process'
        f' {other} as one of {told}. Give all the same.'
      )


@contextlib.contextmanager
def failures_end_all() -> Iterator[None]:
  """Makes the other processes notice a failure of this one soon.

  Without it, an exception would wait, at exit, for processes that wait for this
  one. An exit with a code other than an error's or a user's mistake is one that
  all processes take together, and is left alone.
  """
  try:
    yield
  except BaseException as error:
    code, said = _failure(error)
    if not jax.distributed.is_initialized() or code is None:
      raise
    if code == 1 and not isinstance(error, SystemExit):
      traceback.print_exception(error)
    # Not jax.process_index, which may wait until all have found each other.
    state = jax_distributed.global_state
    neutral.say(
      f'Process {state.process_id} of {state.num_processes} {said}', err=True
    )
    sys.stdout.flush()
    sys.stderr.flush()
    if state.process_id == 0:
      time.sleep(_LINGER_SECONDS)
    os._exit(code)


def _failure(error: BaseException) -> tuple[int | None, str]:
  """Returns the exit code for what ends this process, and what to say of it.

  The code is None if all processes end together.
  """
  others = f'the others end too, within {HEARTBEAT_SECONDS} seconds or so.'
  if isinstance(error, KeyboardInterrupt):
    return 128 + signal.SIGINT, f'was interrupted; {others}'
  if isinstance(error, SystemExit):
    exit_code = error.code
    code = exit_code if isinstance(exit_code, int) else int(bool(exit_code))
    failed = code in (1, errors.UserError.exit_code)
    return (code if failed else None), f'failed; {others}'
  lost = _lost_connection(error)
  if lost is None:
    return 1, f'failed; {others}'
  return LOST_EXIT_CODE, (
    f'has lost its connection to another one ({lost}). That one was lost, or it'
    ' failed and says why in its own output. This one ends too. Start all of'
    ' them again with the same commands: they go on from the last complete'
    ' checkpoint.'
  )


def _lost_connection(error: BaseException) -> str | None:
  """Returns what broke, if an exception began with the loss of a process.

  One that was raised while another exception ended this process is of its
  doing: its own failure is what counts.
  """
  seen: list[BaseException] = []
  first: BaseException | None = error
  while first is not None and first not in seen:
    seen.append(first)
    first = first.__cause__ or first.__context__
  text = str(seen[-1])
  return text.splitlines()[0] if _LOST.search(text) else None


def sync_global_devices(name: str) -> None:
  """Waits until all processes have reached the point called `name`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def multihost_assert_equal(input_tree: Any, fail_message: str = '') -> None:
  """Raises AssertionError unless all processes hold an equal tree."""
  if jax.process_count() > 1:
    multihost_utils.assert_equal(input_tree, fail_message)


def check_agreement(what: str, description: str) -> None:
  """Checks that all processes describe a thing in the same way.

  All must call it. What differs would train on other data, or another model,
  on each process, and end without an error.

  Args:
    what: such as 'configuration'.
    description: lines of text, the same on each process.

  Raises:
    errors.UserError: on every process, with the lines that differ.
  """
  if jax.process_count() == 1:
    return
  texts = _gather(description)
  other = next((i for i, text in enumerate(texts) if text != texts[0]), None)
  if other is None:
    return
  lines = [
    f'\n  process {0 if line[0] == "-" else other}: {line[1:].strip()}'
    for line in difflib.unified_diff(
      texts[0].splitlines(), texts[other].splitlines(), lineterm='', n=0
    )
    if line[0] in '+-' and not line.startswith(('---', '+++'))
  ]
  more = len(lines) - _MAX_LISTED
  listed = ''.join(lines[:_MAX_LISTED]) + (f'\n  and {more} more' * (more > 0))
  raise errors.UserError(
    f'The {what} of process {other} is not that of process 0:{listed}\nStart'
    ' all processes with the same files, flags and versions.'
  )


def versions() -> str:
  """Describes the software of this process, one line a package."""
  lines = [f'Python {platform.python_version()}']
  for name in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      lines.append(f'{name} {importlib.metadata.version(name)}')
  root = pathlib.Path(__file__).parent
  digest = hashlib.sha256()
  for path in sorted(root.rglob('*.py')):
    digest.update(path.relative_to(root).as_posix().encode())
    digest.update(path.read_bytes())
  return '\n'.join([*lines, f't5x, the files {digest.hexdigest()[:12]}'])


def _gather(text: str) -> list[str]:
  """Returns the text of every process."""
  content = np.frombuffer(text.encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.array(content.size))
  padded = np.zeros(max(int(sizes.max()), 1), np.uint8)
  padded[: content.size] = content
  gathered = multihost_utils.process_allgather(padded)
  return [
    bytes(row[:size]).decode()
    for row, size in zip(gathered, sizes, strict=True)
  ]


def any_process(value: bool) -> bool:
  """Returns whether the value is true on any process; all must call it."""
  if jax.process_count() == 1:
    return value
  return bool(np.any(multihost_utils.process_allgather(np.array(value))))


def of_first_process(value: int) -> int:
  """Returns the first process's value; all must call it."""
  if jax.process_count() == 1:
    return value
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))
