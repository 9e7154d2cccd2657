"""One call of `dss study`: from a checked grid to results and report."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence

import click

from dss_jax import errors, neutral
from dss_jax.study import (
  driver,
  live_table,
  planned,
  preview,
  report,
  results,
  study_file,
)
from dss_jax.study import grid as grid_lib
from dss_jax.study.running import places, pools, run_folder
from t5x.cli import stages


class Session:
  """A study's folder and the grid that it is asked to be.

  Args:
    out: the folder, absolute.
    grid: what is asked for.
  """

  def __init__(self, out: pathlib.Path, grid: grid_lib.Grid):
    self._out, self._grid = out, grid

  def preview(self, count: int | None) -> None:
    """Prints what would run.

    Args:
      count: workers; None for as many as there are places.

    Raises:
      DataError: an option is refused, or the runs are not comparable.
    """
    runs = self._plan()
    preview.show(runs, results.read(self._out), len(places.split(count)))

  def work(
    self,
    count: int | None,
    scheduler: str | None = None,
    resources: Sequence[str] = (),
  ) -> int:
    """Does what is missing, and writes the report.

    Args:
      count: workers on this machine; None for as many as there are places.
      scheduler: address of a Dask scheduler in their place.
      resources: that a run takes of its workers, as NAME=NUMBER.

    Returns:
      The exit code: 0, 1 if a run has failed, 128 + the signal that came.

    Raises:
      DataError: an option is refused, the runs are not comparable, or the
        folder belongs to another study or another driver.
    """
    report.require()
    available = [] if scheduler else places.split(count)
    with driver.holding(self._out):
      runs = self._plan()
      study_file.dump(self._grid, self._out)
      with _pool(available, scheduler, resources) as pool:
        table = live_table.Table(
          self._out, {run.name: run for run in runs}, pool.size
        )
        ending = driver.Driver(self._out, runs, pool, table).drive()
      # First what failed, which a report that fails must not hide.
      code = self._close(ending)
      if ending.done:
        report.write(self._out, self._grid.methods, len(runs))()
        neutral.say(
          f'Page  {_shown(self._out / "report.html")}\n'
          f'Text  {_shown(self._out / "summary.md")}'
        )
    return code

  def _plan(self) -> list[planned.Run]:
    """Returns the runs, if the folder may have them."""
    before = study_file.stored(self._out)
    if before is not None:
      lines = list(grid_lib.differences(before, self._grid))
      if lines:
        listed = ''.join(f'\n  {line}' for line in lines[:6])
        more = f'\n  and {len(lines) - 6} more' if len(lines) > 6 else ''
        raise errors.DataError(
          f'{self._out / study_file.NAME}: this folder belongs to another'
          f' study:{listed}{more}\nRuns may be added and not changed: give the'
          ' same options and more, or another --out.'
        )
    what = neutral.line(_shown(self._grid.experiment))
    neutral.say(f'A study of {what} in {_shown(self._out)}', err=True)
    stages.begin('looking at the runs')
    try:
      runs = planned.runs(self._grid)
      stages.end()
    finally:
      stages.drop()
    planned.check_folders(self._out, runs)
    return runs

  def _close(self, ending: driver.Ending) -> int:
    """Says how it ended; returns the exit code."""
    for name, reason in ending.failed.items():
      log = run_folder.RunFolder(self._out, name).log
      neutral.say(
        f'{name} failed: {neutral.line(reason)}\n  its log: {_shown(log)}',
        err=True,
      )
    if ending.stopped is not None:
      click.echo('Stopped. The same command goes on.', err=True)
      return 128 + ending.stopped
    if ending.failed:
      neutral.say(
        f'{len(ending.failed)} runs failed. The same command tries them again.',
        err=True,
      )
    return 1 if ending.failed else 0


def _shown(path: str | pathlib.Path) -> str:
  """Returns a path as one would type it here; other texts as they are."""
  here = pathlib.Path.cwd()
  if not pathlib.PurePath(path).is_relative_to(here):
    return str(path)
  return str(pathlib.PurePath(path).relative_to(here))


@contextlib.contextmanager
def _pool(
  available: Sequence[places.Place],
  scheduler: str | None,
  resources: Sequence[str],
) -> Iterator[pools.Pool]:
  if scheduler is None:
    pool = pools.LocalPool(available)
    try:
      yield pool
    finally:
      pool.stop()
      pool.close()
    return
  from dss_jax.study.running import dask_cluster

  with dask_cluster.connected(scheduler, resources) as cluster:
    yield cluster
