"""Checks that a checkpoint fits a model; errors with the likely cause.

They use names and shapes only: nothing is read.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from t5x.errors import UserError

Leaves = Mapping[str, Any]

# How the names of leaves begin.
TARGET = 'target/'
PARAM_STATES = 'state/param_states/'

# By version of T5: a kernel that only it has, and what tells it from the other.
_KERNELS = {
  '1.0': re.compile(r'.*/mlp/wi/kernel'),
  '1.1': re.compile(r'.*/mlp/wi_[01]/kernel'),
}
_MARKS = {
  '1.0': 'mlp/wi, logits through the embedding',
  '1.1': 'mlp/wi_0 and wi_1, logits_dense',
}
_LOGITS = re.compile(r'.*/logits_dense/kernel')
_LAYER = re.compile(r'(.*/layers)_\d+/.*')
_STACK = re.compile(r'.*/(\w+)/(?:layers|\1)/.*')
_RELATIVE_BIASES = re.compile(r'.*/relpos_bias/rel_embedding')


def _shape(leaf: Any) -> tuple[int, ...]:
  return tuple(np.shape(leaf))


def _compare(
  prefix: str, stored: Leaves, expected: Leaves
) -> tuple[list[str], list[str], list[str]]:
  """Returns missing, extra and differently shaped leaves with a prefix."""
  stored, expected = (
    {name: _shape(leaves[name]) for name in leaves if name.startswith(prefix)}
    for leaves in (stored, expected)
  )
  missing = sorted(set(expected) - set(stored))
  extra = sorted(set(stored) - set(expected))
  differing = [n for n in expected if n in stored and stored[n] != expected[n]]
  return missing, extra, differing


def check_parameters(path: str, stored: Leaves, expected: Leaves) -> None:
  """Raises unless the checkpoint has exactly the model's parameters.

  Args:
    path: the checkpoint, for the message.
    stored: the checkpoint's leaves by name.
    expected: the model's.

  Raises:
    UserError: names the leaf, both shapes and the likely cause.
  """
  missing, extra, differing = _compare(TARGET, stored, expected)
  cause = _cause_of_names(missing, extra)
  if cause is None and differing:
    raise _shapes_differ(path, differing, stored, expected)
  if missing:
    name, example = missing[0], ''
    if extra:
      example = f', such as {extra[0]} of shape {_shape(stored[extra[0]])}'
    raise UserError(
      f'{path}: the checkpoint lacks the leaf {name}, which has shape'
      f' {_shape(expected[name])} in the model ({len(missing)} missing,'
      f' {len(extra)} not in the model{example}). {cause or _RULES}'
    )
  if extra:
    name = extra[0]
    raise UserError(
      f'{path}: the checkpoint has the leaf {name} of shape'
      f' {_shape(stored[name])}, which the model lacks ({len(extra)} such'
      f' leaves). {cause or _RULES}'
    )


_RULES = (
  'Give the checkpoint of this model, or say with'
  ' RestoreCheckpointConfig.assignment_map which leaves stand for which, and'
  ' with fallback_to_scratch = True that missing ones start from scratch.'
)


def _cause_of_names(missing: Sequence[str], extra: Sequence[str]) -> str | None:
  """Returns what a difference in names most likely comes from."""
  for stored, model in (('1.0', '1.1'), ('1.1', '1.0')):
    if any(map(_KERNELS[stored].fullmatch, extra)) and any(
      map(_KERNELS[model].fullmatch, missing)
    ):
      return (
        f'Likely cause: the checkpoint is T5 {stored} ({_MARKS[stored]}) and'
        f' the model T5 {model} ({_MARKS[model]}). Choose a T5 {stored} size'
        f' file, or a T5 {model} checkpoint.'
      )
  if any(map(_LOGITS.fullmatch, missing)) and len(missing) == 1:
    return (
      'Likely cause: the checkpoint takes its logits through the embedding, the'
      ' model from logits_dense. Set logits_via_embedding = True in the'
      ' network configuration.'
    )
  if any(map(_LOGITS.fullmatch, extra)) and len(extra) == 1:
    return (
      'Likely cause: the checkpoint has logits of its own, the model takes them'
      ' through the embedding. Set logits_via_embedding = False in the network'
      ' configuration.'
    )
  if any(map(_RELATIVE_BIASES.fullmatch, missing)) and any(
    map(_RELATIVE_BIASES.fullmatch, extra)
  ):
    # A table of each layer is inside of it.
    per_layer = any(
      _RELATIVE_BIASES.fullmatch(name)
      and (_LAYER.fullmatch(name) or _STACK.fullmatch(name))
      for name in extra
    )
    there, here = ('each layer', 'each stack')[:: 1 if per_layer else -1]
    return (
      'Likely cause: the checkpoint has a table of relative biases for'
      f' {there} (umT5 and scalable_t5 have one for each layer), the model for'
      f' {here}. Set network.T5Config.relative_bias_per_layer = {per_layer}.'
    )
  only_layers = all(map(_LAYER.fullmatch, [*missing, *extra]))
  if only_layers and bool(missing) != bool(extra):
    more = 'more' if missing else 'fewer'
    return (
      f'Likely cause: the model has {more} layers than the checkpoint. Choose'
      ' the size file that the checkpoint was trained with.'
    )
  return None


def _shapes_differ(
  path: str, names: Sequence[str], stored: Leaves, expected: Leaves
) -> UserError:
  # The embedding says most about what is wrong, so it is named if it differs.
  name = next((n for n in names if n.endswith('/embedding')), names[0])
  shape, wanted = _shape(stored[name]), _shape(expected[name])
  stack = _STACK.fullmatch(name)
  axis = _differing_layers(name, stored, expected)
  if (
    stack
    and axis is not None
    and all(_differing_layers(n, stored, expected) is not None for n in names)
  ):
    cause = (
      f'the {stack[1]} has {shape[axis]} layers in the checkpoint and'
      f' {wanted[axis]} in the model. Choose the size file that the'
      ' checkpoint was trained with.'
    )
  elif name.endswith('/embedding') and all(
    n.endswith('/embedding') or _LOGITS.fullmatch(n) for n in names
  ):
    cause = (
      f'another vocabulary size, {shape[0]} against {wanted[0]}. Use the'
      ' vocabulary that the checkpoint was trained with, and set vocab_size ='
      f' {shape[0]}.'
    )
  else:
    cause = (
      'a checkpoint of another size of the model. Choose the size file that the'
      ' checkpoint was trained with.'
    )
  return UserError(
    f'{path}: leaf {name} has shape {shape} in the checkpoint and {wanted} in'
    f' the model ({len(names)} leaves differ). Likely cause: {cause}'
  )


def _differing_layers(
  name: str, stored: Leaves, expected: Leaves
) -> int | None:
  """Returns the axis of layers of a stack, if nothing else differs."""
  shape, wanted = _shape(stored[name]), _shape(expected[name])
  # It is the first, or with the names of scalable_t5 the second.
  axis = 0 if '/layers/' in name or shape[0] != wanted[0] else 1
  without = (*shape[:axis], *shape[axis + 1 :])
  same = without == (*wanted[:axis], *wanted[axis + 1 :])
  return axis if same and _STACK.fullmatch(name) else None


def check_optimizer(
  path: str, stored: Leaves, expected: Leaves, resuming: bool
) -> bool:
  """Returns whether the optimizer can take its state from the checkpoint.

  Args:
    path: the checkpoint, for the message.
    stored: the checkpoint's leaves by name.
    expected: the run's.
    resuming: whether the run itself saved the checkpoint.

  Raises:
    UserError: it can't, but the run is resumed.
  """
  missing, extra, differing = _compare(PARAM_STATES, stored, expected)
  wanted = any(name.startswith(PARAM_STATES) for name in expected)
  if not wanted or not (missing or extra or differing):
    return True
  if not any(name.startswith(PARAM_STATES) for name in stored):
    difference = 'it holds none'
  elif missing:
    difference = f'it lacks {missing[0]} and {len(missing) - 1} more leaves'
  elif extra:
    difference = (
      f'it has {extra[0]} and {len(extra) - 1} more leaves that the run lacks'
    )
  else:
    name = differing[0]
    difference = (
      f'{name} has shape {_shape(stored[name])} there and'
      f' {_shape(expected[name])} in the run'
    )
  if resuming:
    raise UserError(
      f"{path}: the checkpoint's optimizer state is not this run's:"
      f' {difference}. A run is resumed with the optimizer and the model that'
      ' it was started with: set them back, or start a new MODEL_DIR with'
      ' INITIAL_CHECKPOINT_PATH set to this checkpoint, which takes its'
      ' parameters.'
    )
  logging.info(
    'The optimizer starts afresh: the state in %s does not fit it (%s).',
    path,
    difference,
  )
  return False


def check_rest(path: str, stored: Leaves, expected: Leaves) -> None:
  """Raises if a leaf that is no parameter and not the optimizer's misfits."""
  for name, leaf in expected.items():
    if name.startswith((TARGET, PARAM_STATES)):
      continue
    if name not in stored:
      raise UserError(
        f'{path}: the checkpoint lacks the leaf {name}, of shape'
        f' {_shape(leaf)} in the model. Set fallback_to_scratch = True to start'
        ' it from scratch.'
      )
    if _shape(stored[name]) != _shape(leaf):
      raise UserError(
        f'{path}: leaf {name} has shape {_shape(stored[name])} in the'
        f' checkpoint and {_shape(leaf)} in the model. Give a checkpoint of'
        ' this model.'
      )
