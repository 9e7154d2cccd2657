"""Identity of the experiment that a run's folder belongs to.

`run.json` holds, besides the seed, what must not change when a run resumes: the
shapes of the model and what the data is made of. Resuming with another model or
on other data would give a result that belongs to neither.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import seqio
from etils import epath
from flax import traverse_util

from t5x import checkpoints, data, errors, files
from t5x import train_state as train_state_lib

FILE = 'run.json'
EVALUATED_FILE = 'evaluated_step'
# What runs of earlier versions did not store, and so can't be asked about.
_ADDED = ('data/content', 'data/vocabularies')
# Differences that a message lists; a model of another size has hundreds.
_MAX_LISTED = 8


def describe(
  cfg: data.DatasetConfig, train_state: train_state_lib.TrainState, seed: int
) -> dict[str, Any]:
  """Returns the identity of a run, as it goes into `run.json`.

  Args:
    cfg: the training data.
    train_state: the state, or its shapes.
    seed: of the run.
  """
  provider = data.mixture_or_task(cfg)
  step = data.step_layout(cfg)
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
        for task in data.tasks_with_split(cfg)
      },
      'content': data.content_digests(cfg),
      'vocabularies': data.vocabulary_digests(cfg),
      'task_feature_lengths': dict(cfg.task_feature_lengths or {}),
      'batch_size': cfg.batch_size,
      'shuffle': cfg.shuffle,
      'seed': cfg.seed,
      'pack': cfg.pack,
      'use_cached': cfg.use_cached,
      'data_shards': data.data_parts(cfg),
      # Where the rows of a step follow from its examples, these count.
      **(step.identity if step is not None else {}),
    },
  }


def _count(task: seqio.Task, split: str) -> int | None:
  count = task.num_input_examples(split)
  return None if count is None else int(count)


def stored_seed(model_dir: str) -> int | None:
  """Returns the seed of the run whose checkpoint a folder holds, if any."""
  stored = _read(model_dir)
  if stored is None or checkpoints.latest_step(model_dir) is None:
    return None
  seed = stored.get('seed')
  return seed if isinstance(seed, int) else None


def check(model_dir: str, identity: Mapping[str, Any], accept: bool) -> None:
  """Refuses to resume another experiment's folder; else writes `identity`.

  Args:
    model_dir: the run's folder.
    identity: what is to be run, from `describe`.
    accept: whether to resume anyway.

  Raises:
    errors.UserError: the folder holds a checkpoint of another experiment.
  """
  stored = _read(model_dir)
  step = checkpoints.latest_step(model_dir)
  if stored is not None and step is not None and not accept:
    differences = list(_differences(stored, identity))
    if differences:
      lines = differences[:_MAX_LISTED]
      if len(differences) > _MAX_LISTED:
        lines.append(f'and {len(differences) - _MAX_LISTED} more')
      listed = ''.join(f'\n  {line}' for line in lines)
      raise errors.UserError(
        f'{model_dir} holds checkpoint_{step} of another experiment than this'
        f' one:{listed}\nSet'
        ' MODEL_DIR to a new folder. To go on from that checkpoint all the'
        ' same, set CheckpointConfig.accept_other_run = True'
        ' (--gin.utils.CheckpointConfig.accept_other_run=True).'
      )
  if jax.process_index() == 0:
    with files.replacing(epath.Path(model_dir) / FILE) as work:
      work.write_text(json.dumps(identity, indent=2))


class Evaluated:
  """Remembers, in a run's folder, the last step that was evaluated.

  A run that is interrupted between the checkpoint and the evaluation of a step
  evaluates it when it resumes.
  """

  def __init__(self, model_dir: str):
    self._path = epath.Path(model_dir) / EVALUATED_FILE
    self._resumed = checkpoints.latest_step(model_dir) is not None
    self._step = -1
    if self._path.exists():
      with self._path.open('rb') as file:
        number = re.fullmatch(rb'(\d{1,18})\s*', file.read(64))
      self._step = int(number[1]) if number else -1

  def is_missing(self, step: int) -> bool:
    """Whether the run was saved at `step` and never evaluated there."""
    return self._resumed and step > self._step

  def remember(self, step: int) -> None:
    """Records that the evaluation of `step` is done."""
    self._step = step
    if jax.process_index() == 0:
      with files.replacing(self._path) as work:
        work.write_text(f'{step}\n')


def _differences(
  stored: Mapping[str, Any], identity: Mapping[str, Any]
) -> Iterator[str]:
  """Yields lines such as `data/batch_size: 8 there, 16 here`."""
  before, now = (
    {
      f'{part}/{name}': value
      for part in ('data', 'model')
      if isinstance(tree.get(part), dict)
      for name, value in tree[part].items()
    }
    for tree in (stored, identity)
  )
  for name in dict.fromkeys([*now, *before]):
    if name in _ADDED and name not in before:
      continue
    if before.get(name) != now.get(name):
      yield (
        f'{name}: {before.get(name, "nothing")} there,'
        f' {now.get(name, "nothing")} here'
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
