"""Which experiment a run's folder belongs to.

`run.json` holds, beside the seed, what must not change while a run goes on: the
shapes of the model and what the data is made of. Going on with another model or
on other data would give a result that belongs to neither.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import seqio
from etils import epath
from flax import traverse_util

from t5x import checkpoints, data, errors

FILE = 'run.json'
EVALUATED_FILE = 'evaluated_step'
# Differences that a message lists; a model of another size has hundreds.
_MAX_LISTED = 8


def describe(
  cfg: data.DatasetConfig, train_state: Any, seed: int
) -> dict[str, Any]:
  """Says what a run is, as it goes into `run.json`.

  Args:
    cfg: the training data.
    train_state: the state, or its shapes.
    seed: of the run.
  """
  provider = data.mixture_or_task(cfg)
  parameters = traverse_util.flatten_dict(
    train_state.state_dict()['target'], sep='/'
  )
  return {
    'seed': seed,
    'model': {
      name: f'{leaf.dtype}{list(leaf.shape)}'
      for name, leaf in sorted(parameters.items())
    },
    'data': {
      'mixture_or_task': provider.name,
      'split': cfg.split,
      'examples': {
        task.name: _count(task, cfg.split)
        for task in seqio.get_subtasks(provider)
        if cfg.split in task.splits
      },
      'task_feature_lengths': dict(cfg.task_feature_lengths or {}),
      'batch_size': cfg.batch_size,
      'shuffle': cfg.shuffle,
      'seed': cfg.seed,
      'pack': cfg.pack,
      'use_cached': cfg.use_cached,
      'data_shards': data.data_parts(cfg),
    },
  }


def _count(task: seqio.Task, split: str) -> int | None:
  count = task.num_input_examples(split)
  return None if count is None else int(count)


def stored_seed(model_dir: str) -> int | None:
  """The seed of the run that a folder holds a checkpoint of, if any."""
  stored = _read(model_dir)
  if stored is None or checkpoints.latest_step(model_dir) is None:
    return None
  seed = stored.get('seed')
  return seed if isinstance(seed, int) else None


def check(model_dir: str, identity: Mapping[str, Any], accept: bool) -> None:
  """Refuses to go on with another experiment's folder; else keeps `identity`.

  Args:
    model_dir: the run's folder.
    identity: what is to be run, from `describe`.
    accept: whether to go on all the same.

  Raises:
    errors.UserError: the folder holds a checkpoint of another experiment.
  """
  stored = _read(model_dir)
  step = checkpoints.latest_step(model_dir)
  if stored is not None and step is not None and not accept:
    found = list(_differences(stored, identity))
    if found:
      more = f'\n  and {len(found) - _MAX_LISTED} more'
      listed = ''.join(f'\n  {line}' for line in found[:_MAX_LISTED])
      raise errors.UserError(
        f'{model_dir} holds checkpoint_{step} of another experiment than this'
        f' one:{listed}{more if len(found) > _MAX_LISTED else ""}\nSet'
        ' MODEL_DIR to a new folder. To go on from that checkpoint all the'
        ' same, set CheckpointConfig.accept_other_run = True'
        ' (--gin.utils.CheckpointConfig.accept_other_run=True).'
      )
  if jax.process_index() == 0:
    _write(model_dir, identity)


class Evaluated:
  """Remembers, in a run's folder, the last step that was evaluated.

  A run that is cut short between the checkpoint and the evaluation of a step
  makes up for it when it goes on.
  """

  def __init__(self, model_dir: str):
    self._path = epath.Path(model_dir) / EVALUATED_FILE
    self._resumed = checkpoints.latest_step(model_dir) is not None
    self._step = -1
    if self._path.exists():
      with self._path.open('rb') as file:
        found = re.fullmatch(rb'(\d{1,18})\s*', file.read(64))
      self._step = int(found[1]) if found else -1

  def is_missing(self, step: int) -> bool:
    """Whether the run was saved at `step` and never evaluated there."""
    return self._resumed and step > self._step

  def remember(self, step: int) -> None:
    """Takes note that the evaluation of `step` is done."""
    self._step = step
    if jax.process_index() == 0:
      partial = self._path.with_name(f'{EVALUATED_FILE}.tmp')
      partial.write_text(f'{step}\n')
      partial.replace(self._path)


def _differences(
  stored: Mapping[str, Any], identity: Mapping[str, Any]
) -> Iterator[str]:
  """Yields lines such as `data/batch_size: 8 there, 16 here`."""
  there, here = (
    {
      f'{part}/{name}': value
      for part in ('data', 'model')
      if isinstance(tree.get(part), dict)
      for name, value in tree[part].items()
    }
    for tree in (stored, identity)
  )
  for name in [*here, *(name for name in there if name not in here)]:
    if there.get(name) != here.get(name):
      yield (
        f'{name}: {there.get(name, "nothing")} there,'
        f' {here.get(name, "nothing")} here'
      )


def _read(model_dir: str) -> dict[str, Any] | None:
  path = epath.Path(model_dir) / FILE
  if not path.exists():
    return None
  try:
    stored = json.loads(path.read_bytes())
    if not isinstance(stored, dict):
      raise ValueError(f'found a {type(stored).__name__}')
  except (ValueError, RecursionError) as error:
    raise errors.UserError(
      f'{path}: expected the JSON object that says which experiment this folder'
      f' belongs to; {error}. Remove the file if you are sure that MODEL_DIR is'
      ' the right one.'
    ) from error
  return stored


def _write(model_dir: str, identity: Mapping[str, Any]) -> None:
  path = epath.Path(model_dir) / FILE
  partial = path.with_name(f'{FILE}.{os.getpid()}.tmp')
  partial.write_text(json.dumps(identity, indent=2))
  partial.replace(path)
