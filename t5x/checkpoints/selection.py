"""Choice of the checkpoint to start from."""

import os
from collections.abc import Sequence

import jax
from absl import logging

from t5x import distributed, files
from t5x.checkpoints import config, integrity, locate
from t5x.errors import UserError

RestoreConfigs = Sequence[config.RestoreCheckpointConfig]


def get_first_valid_restore_config_and_paths(
  restore_cfgs: RestoreConfigs,
) -> tuple[config.RestoreCheckpointConfig | None, Sequence[str]]:
  """Finds the first configuration that has a checkpoint.

  Args:
    restore_cfgs: tried in order. A folder without checkpoints (modes 'latest'
      and 'all') is passed over; a 'specific' checkpoint must exist.

  Returns:
    The configuration and its checkpoints' paths; (None, []) if none has any.

  Raises:
    UserError: a specific checkpoint is absent or incomplete, or 'latest' or
      'all' is given one checkpoint instead of a folder of them.
  """
  for cfg in restore_cfgs:
    paths = [path for given in cfg.paths for path in _paths(given, cfg.mode)]
    if paths:
      return cfg, paths
  return None, []


def _paths(given: str, mode: str) -> list[str]:
  is_checkpoint = locate.layout_of(given) is not None
  if mode == 'specific':
    if not is_checkpoint:
      raise locate.explain(given)
    return [given]
  if is_checkpoint:
    raise UserError(
      f'{given}: this is one checkpoint, but mode is {mode!r}, which takes a'
      " folder of checkpoints. Set RestoreCheckpointConfig.mode = 'specific',"
      ' or give the folder that holds it.'
    )
  steps = locate.all_steps(given)
  chosen = steps if mode == 'all' else steps[-1:]
  return [locate.get_checkpoint_dir(given, s) for s in chosen]


def set_incomplete_aside(folder: str) -> None:
  """Renames folders of a run that are named like a checkpoint but are not one.

  A save never leaves one behind; a copy or a lost file may.

  Raises:
    UserError: the run has no other checkpoint.
  """
  if files.is_remote(folder) or not os.path.isdir(folder):
    return
  distributed.sync_global_devices(f'incomplete in {folder}')
  complete = locate.all_steps(folder)
  for name in sorted(os.listdir(folder)):
    path = os.path.join(folder, name)
    step = locate.step_of(path)
    if step is None or step in complete:
      continue
    if not complete:
      raise locate.explain(path)
    if jax.process_index() == 0:
      logging.warning(
        '%s Set aside as %s.', locate.explain(path), integrity.set_aside(path)
      )
  distributed.sync_global_devices(f'only complete in {folder}')


def last_before(path: str, damage: Exception | None) -> str:
  """Sets a damaged checkpoint of a run aside; returns the one before it.

  Raises:
    UserError: there is none before it.
  """
  folder, step = os.path.dirname(path.rstrip('/')), locate.step_of(path)
  reason = damage or f'{path}: damaged, as another process found.'
  earlier = [s for s in locate.all_steps(folder) if step and s < step]
  if not earlier or files.is_remote(path):
    raise UserError(
      f'{reason} The run has no other complete checkpoint before it. To begin'
      f' the run again, remove {path}.'
    ) from damage
  distributed.sync_global_devices(f'damaged {path}')
  if jax.process_index() == 0:
    logging.warning(
      '%s Set aside as %s; going on from step %d instead.',
      reason,
      integrity.set_aside(path),
      earlier[-1],
    )
  distributed.sync_global_devices(f'set aside {path}')
  return locate.get_checkpoint_dir(folder, earlier[-1])
