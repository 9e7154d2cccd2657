"""Commands that gin files configure: how they run, and what they share."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import flags
from etils import epath

import gin
from t5x import (
  checkpoints,
  distributed,
  errors,
  files,
  gin_utils,
  neutral,
)
from t5x.cli import flags as flags_lib
from t5x.cli import stages, streams

SummarizeConfigFn = Callable[[str, Any, int], None]


def run(functions: Mapping[str, Callable[..., Any]]) -> None:
  """Runs the function that `--run_mode` names, as flags and gin files bind it.

  Args:
    functions: mode to function; `--run_mode` may leave out the only one.
  """

  def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
      raise errors.UserError(
        f'Unexpected argument {argv[1]!r}. Options start with --; gin files are'
        ' given as --gin_file=FILE.'
      )
    values = flags.FLAGS
    if values.run_mode is None and len(functions) > 1:
      raise errors.UserError(
        f'--run_mode: expected one of {", ".join(functions)}, found none.'
      )
    only = next(iter(functions))
    mode = values.run_mode or only
    if mode not in functions:
      raise errors.UserError(
        f'--run_mode={mode}: this is t5x.{only}, which does nothing else. Use'
        f' python -m t5x.{mode}, or t5x.main with --run_mode.'
      )
    flags_lib.set_up()
    with_gin = of_main_module(functions[mode])
    gin_utils.parse_gin_flags(
      values.gin_search_paths, values.gin_file or [], values.gin_bindings
    )
    distributed.check_agreement('configuration', gin.config_str())
    distributed.check_agreement('software', distributed.versions())
    if values.dry_run:
      stages.end()
      neutral.say(gin.config_str())
      gin_utils.check_values()
      return
    if jax.process_index() != 0:
      stages.silence()
    stages.end()
    stages.say(f'on {jax.device_count()} x {jax.devices()[0].device_kind}')
    stages.begin('reading data')
    try:
      with_gin()
    finally:
      stages.drop()

  streams.forgive_closed()
  flags_lib.define_flags()
  gin_utils.run(main)


def of_main_module(function: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a function with its arguments from gin, as the main module's own.

  A `config.gin` calls it what the module says that it is from, and it is read
  by programs whose main module has it: so it is written by every program.

  Args:
    function: which the main module has, wherever it is from.
  """
  function.__module__ = '__main__'
  return gin.configurable(function)


def prepare_folder(
  folder: str,
  summarize_config_fn: SummarizeConfigFn | None = None,
  name: str = 'MODEL_DIR',
) -> None:
  """Makes the folder of a run or of results, and keeps the configuration there.

  Args:
    folder: what to make.
    summarize_config_fn: writes the configuration.
    name: what the user calls the folder.
  """
  with files.naming_path_in_errors(folder, name=name):
    epath.Path(folder).mkdir(parents=True, exist_ok=True)
    if summarize_config_fn is not None:
      summarize_config_fn(folder, None, 0)


@contextlib.contextmanager
def writing_folder(
  folder: str,
  summarize_config_fn: SummarizeConfigFn | None = None,
  lock_file: str = files.folder_lock.FILE,
  name: str = 'MODEL_DIR',
) -> Iterator[None]:
  """As `prepare_folder`, and for as long as it is written to.

  Other processes are kept from writing there, and errors of storage name it.

  Args:
    folder: what to make.
    summarize_config_fn: writes the configuration, once the folder is held.
    lock_file: see `folder_lock.writing`.
    name: what the user calls the folder.

  Raises:
    errors.UserError: another process writes there.
  """
  prepare_folder(folder, name=name)
  with contextlib.ExitStack() as stack:
    stack.enter_context(files.naming_path_in_errors(folder, name=name))
    # The first process of a run writes for all of them.
    if jax.process_index() == 0:
      stack.enter_context(files.folder_lock.writing(folder, lock_file))
    prepare_folder(folder, summarize_config_fn, name)
    yield


def init_key(seed: int | None) -> jax.Array | None:
  """Returns the key of a `fallback_init_rng`."""
  return None if seed is None else jax.random.key(seed)


def no_checkpoint(cfg: checkpoints.RestoreCheckpointConfig) -> errors.UserError:
  """Returns the error for a configuration that names no checkpoint."""
  return errors.UserError(
    f'RestoreCheckpointConfig: no checkpoint in {", ".join(cfg.paths) or None}'
    f' (mode {cfg.mode!r}). Give the folder of a run, which holds'
    " checkpoint_<step> folders, or one of these with mode 'specific'"
    ' (macro CHECKPOINT_PATH).'
  )
