"""A run in Weights & Biases.

`WANDB_MODE`, `WANDB_PROJECT` and the other variables of W&B say where, as for
every program that uses it. Offline, files are kept in the run's folder.
"""

import os
import uuid
from collections.abc import Mapping
from typing import Any

import wandb

_PROJECT = 'dss-jax'


class WandbRun:
  """See `delivery.Tracked`."""

  def __init__(self, run: Any):
    """Takes a run that is open.

    Args:
      run: of `wandb.init`.
    """
    self._run = run
    self.place = f'run {run.id}'
    if run.url:
      self.place = str(run.url)
    elif run.settings.mode == 'offline':
      self.place = f'send it by: wandb sync {run.settings.sync_dir}'

  def report(self, step: int, metrics: Mapping[str, float]) -> None:
    """Delivers metrics by name.

    Args:
      step: of the run.
      metrics: values by name.
    """
    # A step of W&B's own would drop what a run does again after a restart.
    self._run.log({'step': step, **metrics})

  def close(self, finished: bool) -> None:
    """Ends the run there.

    Args:
      finished: whether it did all that its configuration says.
    """
    self._run.finish(exit_code=0 if finished else 1)


def begin(
  model_dir: str,
  name: str,
  settings: Mapping[str, str],
  before: Mapping[str, str],
) -> tuple[WandbRun, dict[str, str]]:
  """Opens a run; see `delivery.Begin`.

  Raises:
    RuntimeError: nobody is logged in.
  """
  mode = os.environ.get('WANDB_MODE', 'online')
  if mode == 'online' and not wandb.api.api_key:
    # W&B would ask for the key, in the middle of the progress bar.
    raise RuntimeError(
      'nobody is logged in. Run `wandb login`, or set WANDB_MODE=offline'
    )
  run_id = before.get('id') or uuid.uuid4().hex[:12]
  run = wandb.init(
    project=os.environ.get('WANDB_PROJECT') or _PROJECT,
    id=run_id,
    name=name,
    # Offline, an id is enough.
    resume=None if mode == 'offline' else 'allow',
    dir=None if '://' in model_dir else model_dir,
    settings=wandb.Settings(
      silent=True,
      console='off',
      save_code=False,
      disable_git=True,
      disable_job_creation=True,
    ),
  )
  run.config.update({**settings, 'model_dir': model_dir}, allow_val_change=True)
  run.define_metric('step')
  run.define_metric('*', step_metric='step')
  return WandbRun(run), {'id': run_id}
