"""What the commands that start from a finished checkpoint share."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import flags

import gin
from t5x import checkpoint_config, entry, errors, gin_utils


def run(function: Callable[..., Any]) -> None:
  """Runs a function whose arguments the flags and gin files bind.

  Args:
    function: `evaluate`, `infer`, …, of the main module.
  """

  def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
      raise errors.UserError(
        f'Unexpected argument {argv[1]!r}. Options start with --; gin files are'
        ' given as --gin_file=FILE.'
      )
    entry.set_up()
    with_gin = gin.configurable(function)
    entry.parse_gin()
    if flags.FLAGS.dry_run:
      print(gin.config_str())
    else:
      with_gin()

  entry.define_flags()
  gin_utils.run(main)


def init_key(seed: int | None) -> jax.Array | None:
  """Returns the key of a `fallback_init_rng`."""
  return None if seed is None else jax.random.key(seed)


def no_checkpoint(
  cfg: checkpoint_config.RestoreCheckpointConfig,
) -> errors.UserError:
  """Returns what to say where a configuration names no checkpoint."""
  return errors.UserError(
    f'RestoreCheckpointConfig: no checkpoint in {", ".join(cfg.paths) or None}'
    f' (mode {cfg.mode!r}). Give the folder of a run, which holds'
    " checkpoint_<step> folders, or one of these with mode 'specific'"
    ' (macro CHECKPOINT_PATH).'
  )
