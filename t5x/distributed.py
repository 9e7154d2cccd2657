"""Several processes that train together: how they start, and end.

A process joins the others by flags, or because Slurm, Open MPI or a TPU pod
started it: then JAX finds out by itself who the others are. Nothing is probed
over the network on any other machine.

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

from t5x import (
  errors,
)

# A process that is silent for so long is lost; all others end then.
HEARTBEAT_SECONDS = 30
_SHUTDOWN_SECONDS = 60
# The first process hosts the coordination service, without which others can't
# finish what they have to say.
_LAST_WORDS_SECONDS = 3

_COUNTS = {
  # Set by srun in each task, but not in the batch script itself.
  'Slurm': 'SLURM_STEP_NUM_TASKS',
  'Open MPI': 'OMPI_COMM_WORLD_SIZE',
}


def cluster(environment: Mapping[str, str] = os.environ) -> str | None:
  """Says what started this process as one of several; None if nothing did.

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
    errors.UserError: if the numbers make no sense, or nothing says who the
      others are.
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
  """Makes a failure of this process one that the others notice soon.

  An exception would otherwise wait, at exit, for processes that wait for this
  one. What all processes raise together (it has an `exit_code` other than a
  user's mistake) leaves in good order.
  """
  try:
    yield
  except BaseException as error:
    if not jax.distributed.is_initialized():
      raise
    code = _exit_code(error)
    if code in (0, errors.UserError.exit_code, 1):
      _end(error, code)
    raise


def _exit_code(error: BaseException) -> int:
  if isinstance(error, SystemExit):
    return error.code if isinstance(error.code, int) else int(bool(error.code))
  return 1


def _end(error: BaseException, code: int) -> None:
  if code == 0:
    return
  if not isinstance(error, SystemExit):
    traceback.print_exception(error)
  print(
    f'Process {jax.process_index()} of {jax.process_count()} failed; the others'
    f' end too, within {HEARTBEAT_SECONDS} seconds or so.',
    file=sys.stderr,
  )
  sys.stdout.flush()
  sys.stderr.flush()
  if jax.process_index() == 0:
    time.sleep(_LAST_WORDS_SECONDS)
  os._exit(code)


def sync_global_devices(name: str) -> None:
  """Waits until all processes have come to the point called `name`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def multihost_assert_equal(input_tree: Any, fail_message: str = '') -> None:
  """Raises AssertionError unless all processes hold an equal tree."""
  if jax.process_count() > 1:
    multihost_utils.assert_equal(input_tree, fail_message)


def any_process(mine: bool) -> bool:
  if jax.process_count() == 1:
    return mine
  return bool(np.any(multihost_utils.process_allgather(np.array(mine))))
