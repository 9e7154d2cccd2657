"""Lookup of checkpoints by folder and step, and of the layout of each.

A run's folder holds `checkpoint_<step>` folders, each in the Orbax or the
legacy layout. Only complete ones count, not what a killed save left behind.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

from etils import epath

from t5x import files
from t5x.checkpoints import base as base_lib
from t5x.checkpoints import integrity
from t5x.checkpoints.formats import huggingface, legacy_t5x, orbax, peft
from t5x.errors import UserError

PathLike = str | os.PathLike[str]

_STEP_FOLDER = re.compile(r'checkpoint_(\d+)')

_LAYOUTS = (
  f'a T5X legacy checkpoint (a file named {legacy_t5x.INDEX_FILE!r}),'
  f' an Orbax checkpoint ({orbax.STATE_ITEM}/'
  f'{orbax.TREE_FILE}), a Hugging Face folder'
  f' ({huggingface.CONFIG_FILE} with {huggingface.WEIGHTS_FILE} or'
  " pytorch_model.bin) or peft's"
  f' ({peft.CONFIG_FILE} with {peft.WEIGHTS_FILE})'
)


def layout_of(path: PathLike) -> str | None:
  """Returns 'legacy', 'orbax', 'huggingface' or 'peft'; None for others.

  None for an incomplete checkpoint, too; `explain` gives what it lacks.
  """
  path = os.fspath(path)
  if legacy_t5x.is_legacy_checkpoint(path):
    return 'legacy'
  if path.startswith('http'):
    return None
  if orbax.missing_part(path) is None:
    return 'orbax'
  if huggingface.is_huggingface_folder(path):
    return 'huggingface'
  return 'peft' if peft.is_folder(path) else None


def explain(path: PathLike) -> UserError:
  """Returns the error for a path that holds no complete checkpoint."""
  path = os.fspath(path)
  if path.startswith('http'):
    return UserError(
      f'{path}: no checkpoint here: looked for a T5X legacy checkpoint (a file'
      f' named {legacy_t5x.INDEX_FILE!r}), the only layout that can be'
      ' read over http. Give the URL of one checkpoint_<step> folder.'
    )
  folder = epath.Path(path)
  if not folder.exists():
    parent = folder.parent
    steps = all_steps(parent) if parent.exists() else []
    hint = f' Steps in {parent}: {steps}.' if steps else ''
    return UserError(
      f'{path}: no such folder. Expected a checkpoint: {_LAYOUTS}.{hint} Check'
      ' INITIAL_CHECKPOINT_PATH or RestoreCheckpointConfig.path.'
    )
  steps = all_steps(folder)
  if steps:
    return UserError(
      f'{path}: this is a folder of checkpoints (steps {steps}), not one'
      f' checkpoint. Give {get_checkpoint_dir(path, steps[-1])}, or set mode to'
      " 'latest' or 'all'."
    )
  names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
  cut_short = (
    'The save or copy was cut short; choose another step, or copy it again.'
  )
  looks_orbax = orbax.STATE_ITEM in names or any(
    name.startswith('_CHECKPOINT') for name in names
  )
  if looks_orbax or '.orbax-checkpoint-tmp' in folder.name:
    return UserError(
      f'{path}: this Orbax checkpoint is incomplete: looked for'
      f' {orbax.missing_part(path)}. {cut_short}'
    )
  if any(name.startswith('target.') for name in names):
    return UserError(
      f'{path}: this T5X legacy checkpoint is incomplete: looked for the file'
      f' {legacy_t5x.INDEX_FILE!r}, which is written last. {cut_short}'
    )
  if huggingface.CONFIG_FILE in names:
    return huggingface.explain(path)
  if peft.CONFIG_FILE in names:
    return peft.explain(path)
  return UserError(
    f'{path}: no checkpoint of a known layout here. Looked for {_LAYOUTS};'
    f' found {", ".join(names[:8]) or "nothing"}.'
  )


def open_checkpoint(
  path: PathLike, base: PathLike | None = None
) -> dict[str, Any]:
  """Opens one checkpoint of any layout as nested dicts of `LazyArray`.

  Args:
    path: the checkpoint.
    base: if it holds a part and names a checkpoint for the rest (see `base`
      and `formats.peft`), where that is; None for where it was.

  Raises:
    UserError: there is none, it is incomplete, or a link in it leads out of it.
  """
  path = os.fspath(path)
  place = None if base is None else os.fspath(base)
  layout = layout_of(path)
  if layout in ('legacy', 'orbax'):
    integrity.check_inside(path)
  if layout == 'legacy':
    return legacy_t5x.read(path)
  if layout == 'orbax':
    return dict(
      base_lib.completed(path, orbax.read(path), place, open_checkpoint)
    )
  if layout == 'huggingface':
    return {'target': huggingface.open_folder(path)}
  if layout == 'peft':
    return {'target': peft.joined(path, _base_of_peft(path, place))}
  raise explain(path)


def _base_of_peft(path: str, base: str | None) -> dict[str, Any]:
  """Opens the model of adapters that peft saved."""
  place = base or peft.base_model(path)
  layout = layout_of(place)
  if layout is None or layout == 'peft':
    found = 'adapters, too' if layout else 'no checkpoint on this machine'
    raise UserError(
      f'{path}: holds adapters of {place}: expected the weights there, found'
      f' {found}. {peft.base_hint(path)}'
    )
  return open_checkpoint(place)


def base_of(path: PathLike, base: PathLike | None = None) -> str | None:
  """Returns where the base of a checkpoint is; None if it has none.

  Args:
    path: a checkpoint of any layout.
    base: where it is, if not where it was.
  """
  path = os.fspath(path)
  given = None if base is None else os.fspath(base)
  layout = layout_of(path)
  if layout == 'peft':
    return given or peft.base_model(path)
  if layout != 'orbax':
    return None
  described = base_lib.read(path)
  if described is None:
    return None
  return given or described.path


def with_bases(path: PathLike, base: PathLike | None = None) -> list[str]:
  """Returns a checkpoint, its base, the base of that, and so on.

  Args:
    path: a checkpoint of any layout.
    base: where its base is, if not where it was.

  Raises:
    UserError: one is its own base.
  """
  chain = [os.fspath(path)]
  following = base_of(path, base)
  while following is not None:
    if following in chain:
      raise UserError(
        f'{chain[0]}: expected the weights of a model in its base, found that'
        f' {following} is its own base. Give the checkpoint that was trained'
        ' on: RestoreCheckpointConfig.base.'
      )
    chain.append(following)
    following = base_of(following)
  return chain


def check_network(
  path: PathLike, network: Any, base: PathLike | None = None
) -> None:
  """Raises if a network would give other numbers with a checkpoint's weights.

  Only folders of Hugging Face and peft say what they were trained with. Bases
  are checked, too.

  Args:
    path: a checkpoint of any layout.
    network: the network's `T5Config`; None if it is not known.
    base: where its base is, if not where it was.

  Raises:
    UserError: says what differs, and the binding to change.
  """
  if network is None:
    return
  for place in with_bases(path, base):
    layout = layout_of(place)
    if layout == 'huggingface':
      huggingface.check_network(place, network)
    elif layout == 'peft':
      peft.check_network(place, network)


def read_position(path: PathLike) -> dict[str, Any] | None:
  """Returns the data position saved with a checkpoint, or None."""
  path = os.fspath(path)
  layout = layout_of(path)
  if layout == 'legacy':
    return legacy_t5x.read_position(path)
  return orbax.read_position(path) if layout == 'orbax' else None


def step_of(path: PathLike) -> int | None:
  """Returns the step in a checkpoint folder's name, or None."""
  match = _STEP_FOLDER.fullmatch(epath.Path(path).name)
  return int(match[1]) if match else None


def all_steps(checkpoints_dir: PathLike) -> Sequence[int]:
  """Returns the steps of a folder's complete checkpoints, ascending.

  There are none if the folder does not exist.
  """
  folder = epath.Path(checkpoints_dir)
  if os.fspath(checkpoints_dir).startswith('http') or not folder.is_dir():
    return []
  return sorted(
    {
      int(match[1])
      for child in folder.iterdir()
      if (match := _STEP_FOLDER.fullmatch(child.name)) and _is_complete(child)
    }
  )


def _is_complete(folder: epath.Path) -> bool:
  try:
    return layout_of(folder) in ('legacy', 'orbax')
  except UserError:  # A description that cannot be parsed.
    return False


def latest_step(checkpoints_dir: PathLike) -> int | None:
  """Returns the last complete checkpoint's step, or None."""
  steps = all_steps(checkpoints_dir)
  return steps[-1] if steps else None


def get_checkpoint_dir(
  checkpoints_dir: PathLike,
  step: int,
  step_format_fixed_length: int | None = None,
) -> str:
  """Returns the folder of a step: `('runs/a', 7)` → `'runs/a/checkpoint_7'`.

  Args:
    checkpoints_dir: the run's folder.
    step: the step.
    step_format_fixed_length: pad the step with zeros to this many digits.
  """
  digits = f'{step:0{step_format_fixed_length or 1}d}'
  return files.join(os.fspath(checkpoints_dir), f'checkpoint_{digits}')


def find_checkpoint(path: PathLike, step: int | None = None) -> str:
  """Finds one complete checkpoint.

  Args:
    path: a checkpoint, or a folder of checkpoints.
    step: which one of the folder; the latest by default.

  Returns:
    The checkpoint's folder.

  Raises:
    UserError: there is none, or it is incomplete.
  """
  path = os.fspath(path)
  if step is not None:
    by_step = get_checkpoint_dir(path, step)
    if step_of(path) == step and layout_of(path):
      return path
    if layout_of(by_step):
      return by_step
    raise explain(by_step)
  if layout_of(path):
    return path
  latest = latest_step(path)
  if latest is None:
    raise explain(path)
  return get_checkpoint_dir(path, latest)
