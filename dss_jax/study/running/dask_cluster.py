"""Workers of a Dask cluster, each of which waits for one run's process.

Dask places the runs, moves those of a worker that is lost, and says how many
a worker takes: by its threads, or by the resources that it declares. All
machines share the study's folder.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence

import distributed

from dss_jax import errors
from dss_jax.study.running import execution, places

_TIMEOUT_S = 20.0
# State of a task whose result nobody waits for any more.
_CANCELLED = 'cancelled'


def execute(job: execution.Job) -> execution.Outcome:
  """Does a run, on a worker.

  It ends the run if the driver no longer waits for it: the driver has been
  killed, or told to end.

  Args:
    job: what to start.
  """
  worker = distributed.get_worker()

  def is_unwanted() -> bool:
    task = worker.state.tasks.get(job.token)
    return task is None or task.state == _CANCELLED

  return execution.execute(job, places.Place(), is_unwanted)


class DaskPool:
  """A client's view of a cluster, as a pool of workers.

  Args:
    client: connected.
    resources: of a worker that a run takes, by name.
  """

  size = 0

  def __init__(self, client: distributed.Client, resources: dict[str, float]):
    self._client, self._resources = client, resources
    self._futures: dict[distributed.Future, execution.Job] = {}

  def submit(self, job: execution.Job) -> None:
    """Hands a run to the cluster, after those before it."""
    future = self._client.submit(
      execute,
      job,
      key=job.token,
      resources=self._resources or None,
      pure=False,
      # A worker that was lost with a run may have been lost for another
      # reason; the driver counts what a run does itself.
      retries=0,
    )
    self._futures[future] = job

  def ended(self) -> list[tuple[execution.Job, execution.Outcome]]:
    """Returns the runs that have ended since the last call."""
    done = [future for future in self._futures if future.done()]
    return [(self._futures.pop(f), _outcome(f)) for f in done]

  def stop(self) -> None:
    """Ends what runs, letting it save, and starts nothing more."""
    self._client.cancel(list(self._futures), force=True)

  def close(self) -> None:
    """Lets go of the cluster's tasks."""
    self._futures.clear()


def _outcome(future: distributed.Future) -> execution.Outcome:
  if future.status == 'cancelled':
    return execution.Outcome(0, stopped=True)
  if future.status == 'error':
    error = future.exception()
    return execution.Outcome(1, f'{type(error).__name__}: {error}')
  return future.result()


def _parse(pairs: Sequence[str]) -> dict[str, float]:
  found = {}
  for pair in pairs:
    name, _, number = pair.partition('=')
    try:
      found[name.strip()] = float(number)
    except ValueError as error:
      raise errors.DataError(
        f'--resources {pair!r}: expected NAME=NUMBER, such as GPU=1.'
      ) from error
  return found


@contextlib.contextmanager
def connected(scheduler: str, resources: Sequence[str]) -> Iterator[DaskPool]:
  """Connects to a scheduler during a `with`.

  Args:
    scheduler: its address, tcp://HOST:PORT.
    resources: that a run takes of a worker, as NAME=NUMBER.

  Yields:
    The pool.

  Raises:
    DataError: there is no scheduler, or a resource is not as expected.
  """
  wanted = _parse(resources)
  try:
    client = distributed.Client(
      scheduler, timeout=_TIMEOUT_S, name=f'dss-study-{os.getpid()}'
    )
  except (OSError, ValueError) as error:
    raise errors.DataError(
      f'--scheduler {scheduler}: expected the address of a Dask scheduler,'
      f' such as tcp://HOST:8786; {error}.'
    ) from error
  with client:
    yield DaskPool(client, wanted)
