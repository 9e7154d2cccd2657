"""What the commands that gin files configure share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from absl import flags

import gin
from t5x import checkpoints, errors, gin_utils
from t5x.cli import flags as flags_lib


def run(function: Callable[..., Any], mode: str) -> None:
  """Runs a function whose arguments the flags and gin files bind.

  Args:
    function: `train`, `evaluate`, … of the main module.
    mode: the name of its entry point; `--run_mode` must not say otherwise.
  """

  def choose(run_mode: str | None) -> Callable[..., Any]:
    if run_mode not in (None, mode):
      raise errors.UserError(
        f'--run_mode={run_mode}: this is t5x.{mode}, which does nothing else.'
        f' Use python -m t5x.{run_mode}, or t5x.main with --run_mode.'
      )
    return function

  _run(choose)


def run_any(functions: Mapping[str, Callable[..., Any]]) -> None:
  """Runs the function that `--run_mode` names; see `run`.

  Args:
    functions: mode to function.
  """

  def choose(run_mode: str | None) -> Callable[..., Any]:
    if run_mode is None:
      raise errors.UserError(
        f'--run_mode: expected one of {", ".join(functions)}, found none.'
      )
    return functions[run_mode]

  _run(choose)


def _run(choose: Callable[[str | None], Callable[..., Any]]) -> None:
  def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
      raise errors.UserError(
        f'Unexpected argument {argv[1]!r}. Options start with --; gin files are'
        ' given as --gin_file=FILE.'
      )
    function = choose(flags.FLAGS.run_mode)
    flags_lib.set_up()
    with_gin = gin.configurable(function)
    flags_lib.parse_gin()
    if flags.FLAGS.dry_run:
      print(gin.config_str())
    else:
      with_gin()

  flags_lib.define_flags()
  gin_utils.run(main)


def init_key(seed: int | None) -> jax.Array | None:
  """Returns the key of a `fallback_init_rng`."""
  return None if seed is None else jax.random.key(seed)


def no_checkpoint(
  cfg: checkpoints.RestoreCheckpointConfig,
) -> errors.UserError:
  """Returns what to say where a configuration names no checkpoint."""
  return errors.UserError(
    f'RestoreCheckpointConfig: no checkpoint in {", ".join(cfg.paths) or None}'
    f' (mode {cfg.mode!r}). Give the folder of a run, which holds'
    " checkpoint_<step> folders, or one of these with mode 'specific'"
    ' (macro CHECKPOINT_PATH).'
  )
