"""Says whether a checkpoint fits a model, and if not, what is likely wrong.

Works on names and shapes alone: nothing is read.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from t5x.errors import UserError

Leaves = Mapping[str, Any]

_T5_1_0 = re.compile(r'.*/mlp/wi/kernel')
_T5_1_1 = re.compile(r'.*/mlp/wi_[01]/kernel')
_LOGITS = re.compile(r'.*/logits_dense/kernel')
_LAYER = re.compile(r'(.*/layers)_\d+/.*')
_STACK = re.compile(r'.*/(\w+)/layers/.*')


def differing_shapes(stored: Leaves, expected: Leaves) -> list[str]:
  """Names that both have, with different shapes."""
  return [
    name
    for name, leaf in expected.items()
    if name in stored and tuple(stored[name].shape) != tuple(leaf.shape)
  ]


def fits(stored: Leaves, expected: Leaves) -> bool:
  """Whether names and shapes are the same."""
  return set(stored) == set(expected) and not differing_shapes(stored, expected)


def check_parameters(path: str, stored: Leaves, expected: Leaves) -> None:
  """Raises unless the checkpoint has exactly the model's parameters.

  Args:
    path: the checkpoint, for the message.
    stored: the checkpoint's parameters by name ('target/…').
    expected: the model's.

  Raises:
    UserError: names the leaf, both shapes and the likely cause.
  """
  missing = sorted(set(expected) - set(stored))
  extra = sorted(set(stored) - set(expected))
  cause = _cause_of_names(missing, extra)
  shapes = differing_shapes(stored, expected)
  if cause is None and shapes:
    _raise_shapes(path, shapes, stored, expected)
  if missing:
    name = missing[0]
    raise UserError(
      f'{path}: the checkpoint lacks the leaf {name}, which has shape'
      f' {tuple(expected[name].shape)} in the model ({len(missing)} missing,'
      f' {len(extra)} not in the model{_first(extra, stored)}).'
      f' {cause or _RULES}'
    )
  if extra:
    name = extra[0]
    raise UserError(
      f'{path}: the checkpoint has the leaf {name} of shape'
      f' {tuple(stored[name].shape)}, which the model lacks ({len(extra)} such'
      f' leaves). {cause or _RULES}'
    )


_RULES = (
  'Give the checkpoint of this model, or say with'
  ' RestoreCheckpointConfig.assignment_map which leaves stand for which, and'
  ' with fallback_to_scratch = True that missing ones start from scratch.'
)


def _first(extra: Sequence[str], stored: Leaves) -> str:
  if not extra:
    return ''
  return f', such as {extra[0]} of shape {tuple(stored[extra[0]].shape)}'


def _cause_of_names(missing: Sequence[str], extra: Sequence[str]) -> str | None:
  """What a difference in names most likely comes from."""
  stored_1_0 = any(map(_T5_1_0.fullmatch, extra))
  stored_1_1 = any(map(_T5_1_1.fullmatch, extra))
  if stored_1_0 and any(map(_T5_1_1.fullmatch, missing)):
    return (
      'Likely cause: the checkpoint is T5 1.0 (mlp/wi, logits through the'
      ' embedding) and the model T5 1.1 (mlp/wi_0 and wi_1, logits_dense).'
      ' Choose a T5 1.0 size file, or a T5 1.1 checkpoint.'
    )
  if stored_1_1 and any(map(_T5_1_0.fullmatch, missing)):
    return (
      'Likely cause: the checkpoint is T5 1.1 (mlp/wi_0 and wi_1, logits_dense)'
      ' and the model T5 1.0 (mlp/wi, logits through the embedding). Choose a'
      ' T5 1.1 size file, or a T5 1.0 checkpoint.'
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
  only_layers = all(map(_LAYER.fullmatch, [*missing, *extra]))
  if only_layers and bool(missing) != bool(extra):
    more = 'more' if missing else 'fewer'
    return (
      f'Likely cause: the model has {more} layers than the checkpoint. Choose'
      ' the size file that the checkpoint was trained with.'
    )
  return None


def _raise_shapes(path: str, names, stored: Leaves, expected: Leaves):
  # The embedding says most about what is wrong, so it is named if it differs.
  name = next((n for n in names if n.endswith('/embedding')), names[0])
  there, here = tuple(stored[name].shape), tuple(expected[name].shape)
  cause = _cause_of_shapes(names, name, stored, expected)
  raise UserError(
    f'{path}: leaf {name} has shape {there} in the checkpoint and {here} in the'
    f' model ({len(names)} leaves differ). {cause}'
  )


def _cause_of_shapes(names, name, stored: Leaves, expected: Leaves) -> str:
  there, here = tuple(stored[name].shape), tuple(expected[name].shape)
  if all(_only_layers_differ(n, stored, expected) for n in names):
    return (
      f'Likely cause: the {_STACK.fullmatch(name)[1]} has {there[0]} layers in'
      f' the checkpoint and {here[0]} in the model. Choose the size file that'
      ' the checkpoint was trained with.'
    )
  vocabulary_leaves = all(
    n.endswith('/embedding') or _LOGITS.fullmatch(n) for n in names
  )
  if vocabulary_leaves and name.endswith('/embedding'):
    return (
      f'Likely cause: another vocabulary size, {there[0]} against {here[0]}.'
      ' Use the vocabulary that the checkpoint was trained with, and set'
      f' vocab_size = {there[0]}.'
    )
  return (
    'Likely cause: a checkpoint of another size of the model. Choose the size'
    ' file that the checkpoint was trained with.'
  )


def _only_layers_differ(name, stored: Leaves, expected: Leaves) -> bool:
  same = tuple(stored[name].shape)[1:] == tuple(expected[name].shape)[1:]
  return same and _STACK.fullmatch(name) is not None


def optimizer_mismatch(path: str, stored: Leaves, expected: Leaves) -> str:
  """Says in one clause how a checkpoint's optimizer state differs."""
  missing = sorted(set(expected) - set(stored))
  extra = sorted(set(stored) - set(expected))
  if not stored:
    return 'it holds none'
  if missing:
    return f'it lacks {missing[0]} and {len(missing) - 1} more leaves'
  if extra:
    return (
      f'it has {extra[0]} and {len(extra) - 1} more leaves that the run lacks'
    )
  name = differing_shapes(stored, expected)[0]
  return (
    f'{name} has shape {tuple(stored[name].shape)} there and'
    f' {tuple(expected[name].shape)} in the run'
  )
