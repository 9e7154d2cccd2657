"""Multi-process training: start, barriers, shared values, and end on failure.

A process joins the others by flags, or because Slurm, Open MPI or a TPU pod
started it: then JAX finds the others by itself. On any other machine, nothing
is probed over the network.

When one process fails, all end: the others notice that its heartbeat stops, or
that a collective breaks, and end with an error of their own.
"""

import contextlib
import glob
import importlib
import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from t5x import errors

# A process that is silent for so long is lost; all others end then.
HEARTBEAT_SECONDS = 30
_SHUTDOWN_SECONDS = 60
# How long the first process outlives its failure: it hosts the coordination
# service, which the others need to report theirs.
_LINGER_SECONDS = 3

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
    jax.distributed.initialize(
      coordinator_address,
      process_count,
      process_index,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
    )
  except ValueError as error:
    raise errors.UserError(
      f'Several processes were asked for, but nothing says who they are'
      f' ({error}). Give --coordinator_address, --process_count and'
      ' --process_index, or start them with srun or mpirun.'
    ) from error


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
    if isinstance(error, SystemExit):
      exit_code = error.code
      code = exit_code if isinstance(exit_code, int) else int(bool(exit_code))
    else:
      code = 1
    failures = (1, errors.UserError.exit_code)
    if not jax.distributed.is_initialized() or code not in failures:
      raise
    if not isinstance(error, SystemExit):
      traceback.print_exception(error)
    print(
      f'Process {jax.process_index()} of {jax.process_count()} failed; the'
      f' others end too, within {HEARTBEAT_SECONDS} seconds or so.',
      file=sys.stderr,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_index() == 0:
      time.sleep(_LINGER_SECONDS)
    os._exit(code)


def sync_global_devices(name: str) -> None:
  """Waits until all processes have reached the point called `name`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def multihost_assert_equal(input_tree: Any, fail_message: str = '') -> None:
  """Raises AssertionError unless all processes hold an equal tree."""
  if jax.process_count() > 1:
    multihost_utils.assert_equal(input_tree, fail_message)


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
