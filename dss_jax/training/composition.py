"""A run that is ready to begin: its gin file, made of options and rows."""

import dataclasses
import sys

from dss_jax.training import options as options_lib
from dss_jax.training import run_file
from t5x.cli import quiet_tensorflow, stages


@dataclasses.dataclass(frozen=True)
class Run:
  """A run that was asked for.

  Attributes:
    file: its gin file.
    step: that it goes on from; None if it is new.
  """

  file: run_file.RunFile
  step: int | None


def compose(asked: options_lib.Options) -> Run:
  """Returns the run that is asked for.

  A run that is begun goes on by the gin file that it has: its rows are checked
  by the run itself.

  Args:
    asked: what is asked for.

  Raises:
    DataError: the folder holds another run, or a file is missing or malformed.
  """
  folder = run_file.Folder(asked.out)
  there = folder.begun(asked)
  if there is not None:
    return Run(there, folder.step)
  return Run(new_file(asked), None)


def new_file(asked: options_lib.Options) -> run_file.RunFile:
  """Returns the gin file of a new run.

  Args:
    asked: what is asked for.

  Raises:
    DataError: a file is missing or malformed, or an option is refused.
  """
  try:
    return run_file.compose(asked, _decided(asked))
  finally:
    stages.drop()  # Before the message of an error.


def _decided(asked: options_lib.Options) -> list[run_file.Group]:
  """Returns what rows and steps decide about a run."""
  if not asked.is_own and asked.steps is None:
    return []  # The gin files suit their data set.
  stages.begin('loading libraries', alone=True)
  quiet_tensorflow.load()
  from dss_jax import run_config
  from dss_jax.training import from_data

  stages.begin('looking at rows')

  bindings = [
    f'{name} = {value}'
    for name, value in asked.asked.items()
    if name != 'TRAIN_STEPS'
  ]
  with run_config.configured(asked.includes, bindings):
    macro = run_config.macro
    size = from_data.Size(
      lengths=macro('TASK_FEATURE_LENGTHS'),
      labels_per_step=run_config.macro_or('LABELS_PER_STEP', None),
      steps=macro('TRAIN_STEPS'),
      periods={name: macro(name) for name in from_data.PERIODS},
      pack=run_config.macro_or('PACK', True),
    )
    groups = []
    if asked.is_own:
      groups = from_data.values(macro('EXPERIMENT'), size)
  if asked.steps is not None:
    groups.append(
      run_file.Group(
        f'In proportion to {asked.steps:,} steps.',
        from_data.periods_of(asked.steps, size),
      )
    )
    # The steps that the rows suggest, and their periods, do not hold.
    groups = [g for g in groups if 'TRAIN_STEPS' not in g.values]
  stages.end()
  return groups


def train(path: str) -> None:
  """Trains as `python -m t5x.train --gin_file=PATH` does, and ends the process.

  Args:
    path: of the run's gin file.

  Raises:
    SystemExit: with the exit code of the run.
  """
  stages.begin('loading libraries', alone=True)
  quiet_tensorflow.load()
  from t5x import train as train_module
  from t5x.cli import commands

  # Where the gin files of a run look for `train`.
  sys.modules['__main__'] = train_module
  sys.argv = [str(train_module.__file__), f'--gin_file={path}']
  commands.run({'train': train_module.train})
