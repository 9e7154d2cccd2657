"""Configuration of a run, for commands that don't run it."""

import contextlib
import copy
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

import gin
from dss_jax.errors import DataError
from t5x import gin_utils, train


@contextlib.contextmanager
def _train_as_main_module() -> Iterator[None]:
  """Makes `train` the main module, where the gin files of a run look for it."""
  main = sys.modules['__main__']
  sys.modules['__main__'] = train
  try:
    yield
  finally:
    sys.modules['__main__'] = main


@contextlib.contextmanager
def configured(
  gin_files: Sequence[str],
  gin_bindings: Sequence[str],
  more: str = '',
  needed: Sequence[str] = ('model', 'partitioner', 'trainer_cls'),
) -> Iterator[Mapping[str, Any]]:
  """Parses a run's configuration, and clears it at the end.

  Args:
    gin_files: of the run.
    gin_bindings: of the run.
    more: lines of a further gin file, parsed after the run's files.
    needed: arguments of `train` that must be bound.

  Yields:
    The bindings of `train`, with references not resolved.

  Raises:
    DataError: the configuration has no `t5x.train.train`.
  """
  gin.clear_config()
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'more.gin')
    with open(path, 'w', encoding='utf-8') as f:
      f.write(more or '# Nothing to change.\n')
    with _train_as_main_module():
      gin_utils.parse_gin_flags([], [*gin_files, path], gin_bindings)
  try:
    try:
      bound = gin.get_bindings(train.train, resolve_references=False)
    except ValueError:
      bound = {}
    missing = set(needed) - set(bound)
    if missing:
      raise DataError(
        'The gin files configure no training: expected bindings of'
        f' train.{", train.".join(sorted(missing))}. Give the gin files of a'
        ' run, such as --gin_file=gin/dss_cqa.gin.'
      )
    yield bound
  finally:
    gin.clear_config()


def path_in(run: str, checkpoint: str) -> epath.Path | None:
  """Returns the path of a run's config.gin; None if it has none.

  Args:
    run: its folder, or one of its checkpoints.
    checkpoint: one of its checkpoints.
  """
  for place in (run, os.path.dirname(checkpoint.rstrip('/'))):
    path = epath.Path(place) / 'config.gin'
    if path.exists():
      return path
  return None


def macro(name: str) -> Any:
  """Returns the value of a macro of the configuration in force.

  Args:
    name: BATCH_SIZE, ….

  Raises:
    DataError: no gin file sets it.
  """
  try:
    value = gin.query_parameter(f'%{name}')
  except ValueError as error:
    raise DataError(
      f'The gin files set no {name}. Give --gin.{name}=VALUE.'
    ) from error
  return copy.deepcopy(value)


def macro_or(name: str, default: Any) -> Any:
  """As `macro`, with a default if no gin file sets it."""
  try:
    return macro(name)
  except DataError:
    return default


def resolve(bound: Mapping[str, Any], name: str) -> Any:
  """Returns what the configuration binds to an argument of `train`."""
  # Gin's references are resolved by copying them.
  return copy.deepcopy(bound[name])
