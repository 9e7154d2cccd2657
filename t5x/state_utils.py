"""Operations on train states as nested dicts: flatten, merge, rename.

Names are the keys joined by '/': `target/encoder/encoder_norm/scale`,
`state/param_states/…`. Leaves are arrays, also lazy ones: nothing is read here.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util
from absl import logging

from t5x.errors import UserError, did_you_mean

AssignmentMap = Sequence[tuple[str, str | None]]


def tensorstore_leaf(_, value: Any) -> bool:
  """Whether a dict is the specification of one TensorStore array.

  Args:
    value: a node of a state dict; the first argument, its path, is unused.
  """
  return isinstance(value, Mapping) and {'driver', 'kvstore'} <= set(value)


def flatten_state_dict(
  state_dict: Mapping[str, Any], keep_empty_nodes: bool = False
) -> dict[str, Any]:
  """Flattens `{'a': {'b': 1}}` to `{'a/b': 1}`.

  Args:
    state_dict: nested mappings with string keys.
    keep_empty_nodes: whether an empty mapping stays, as flax's `empty_node`.
  """
  return flax.traverse_util.flatten_dict(
    dict(state_dict),
    keep_empty_nodes=keep_empty_nodes,
    is_leaf=tensorstore_leaf,
    sep='/',
  )


def intersect_state(
  state_dict: Mapping[str, Any], intersect_state_dict: Mapping[str, Any]
) -> Mapping[str, Any]:
  """Keeps the leaves whose names the second state has as well.

  `({'a': 1, 'b': 2}, {'b': 0})` → `{'b': 2}`.
  """
  kept = flatten_state_dict(intersect_state_dict, keep_empty_nodes=True)
  flat = flatten_state_dict(state_dict, keep_empty_nodes=True)
  dropped = sorted(set(flat) - set(kept))
  if dropped:
    logging.info('Not in the model, so not restored: %s', dropped)
  return flax.traverse_util.unflatten_dict(
    {name: leaf for name, leaf in flat.items() if name in kept}, sep='/'
  )


def merge_state(
  state_dict: Mapping[str, Any],
  from_scratch_state: Mapping[str, Any],
  overwrite: bool = False,
) -> Mapping[str, Any]:
  """Adds the leaves that a state lacks from another one.

  `({'a': 1}, {'a': 0, 'b': 0})` → `{'a': 1, 'b': 0}`.

  Args:
    state_dict: the state to complete.
    from_scratch_state: where missing leaves come from.
    overwrite: whether the second state also wins where both have a leaf.
  """
  flat = flatten_state_dict(state_dict, keep_empty_nodes=True)
  other = flatten_state_dict(from_scratch_state, keep_empty_nodes=True)
  added = sorted(set(other) - set(flat))
  if added:
    logging.info('Not in the checkpoint, so from scratch: %s', added)
  merged = {**flat, **other} if overwrite else {**other, **flat}
  return flax.traverse_util.unflatten_dict(merged, sep='/')


def apply_assignment_map(
  ckpt_optimizer_state: Mapping[str, Any],
  optimizer_state: Mapping[str, Any],
  assignment_map: AssignmentMap,
  require_all_rules_match: bool = True,
  *,
  is_resuming: bool = False,
) -> Mapping[str, Any]:
  r"""Renames a checkpoint's leaves by rules, to the model's names.

  The first rule whose pattern matches a model's whole name decides: its second
  part, with groups filled in, is the name in the checkpoint; None leaves the
  leaf out, so that it starts from scratch. A leaf that no rule matches has the
  same name in the checkpoint, if it is there. Leaves of the checkpoint that the
  model lacks stay, unless a rule names them.

  ```
  rules = [(r'target/decoder/(.*)', r'target/old_decoder/\1'),
           (r'target/adapter/.*', None)]
  ```

  Args:
    ckpt_optimizer_state: the checkpoint.
    optimizer_state: the model's state; only its names count.
    assignment_map: (pattern, name or None) pairs.
    require_all_rules_match: whether a rule that matches nothing is an error.
    is_resuming: whether the checkpoint is the run's own, which already has the
      model's names: then nothing is renamed.

  Returns:
    The checkpoint under the model's names.

  Raises:
    UserError: a rule names a leaf that the checkpoint lacks, or matches
      nothing.
  """
  if is_resuming:
    return ckpt_optimizer_state
  stored = flatten_state_dict(ckpt_optimizer_state)
  renamed, unused = {}, {pattern for pattern, _ in assignment_map}
  sources = set()
  for name in flatten_state_dict(optimizer_state):
    pattern, source = _source(name, assignment_map)
    unused -= {pattern}
    if source in stored:
      renamed[name] = stored[source]
      sources.add(source)
    elif pattern is not None and source is not None:
      raise UserError(
        f'assignment_map: rule ({pattern!r}, …) asks for {source!r} to restore'
        f' {name!r}, but the checkpoint has no such'
        f' leaf.{did_you_mean(source, stored)}'
      )
  if unused and require_all_rules_match:
    raise UserError(
      f'assignment_map: no leaf of the model matches {sorted(unused)}. Patterns'
      " must match a whole name such as 'target/encoder/encoder_norm/scale'."
      ' Correct them, or set strict = False.'
    )
  for name, leaf in stored.items():
    matched = any(re.fullmatch(pattern, name) for pattern, _ in assignment_map)
    if not matched and name not in sources:
      renamed.setdefault(name, leaf)
  return flax.traverse_util.unflatten_dict(renamed, sep='/')


def _source(name: str, rules: AssignmentMap) -> tuple[str | None, str | None]:
  """Returns the pattern that decides for `name`, and the checkpoint's name."""
  for pattern, replacement in rules:
    if match := re.fullmatch(pattern, name):
      return pattern, None if replacement is None else match.expand(replacement)
  return None, name


def starts_from_scratch(name: str, assignment_map: AssignmentMap) -> bool:
  """Whether the rule that decides for `name` leaves it out."""
  return _source(name, assignment_map)[1] is None


def matches_names(pattern: str, path: str) -> bool:
  """Whether a pattern matches whole names in a path that follow each other.

  `'encoder'` matches `encoder/layers_0/mlp/wo/kernel` and not
  `decoder/layers_0/encoder_decoder_attention/out/kernel`; `'decoder/layers_1'`
  matches the latter's neighbor.

  Args:
    pattern: a regular expression.
    path: names, joined by '/'.
  """
  return re.search(f'(?:^|/)(?:{pattern})(?:/|$)', path) is not None
