"""Table of a model's parameters, which a run writes as `model-info.txt`."""

from typing import Any

import jax
from etils import epath
from flax import core, traverse_util

from t5x import files, partitioning
from t5x import train_state as train_state_lib


def log_model_info(
  log_file: str | None,
  full_train_state: train_state_lib.TrainState,
  partitioner: partitioning.BasePartitioner,
) -> str:
  """Writes name, shape, logical and mesh axes of each parameter, and totals.

  Args:
    log_file: where to write, on process 0; None writes nothing.
    full_train_state: the state, or its shapes.
    partitioner: knows the axes.

  Returns:
    The text.
  """
  logical = _flat(partitioner.get_logical_axes(full_train_state).params)
  mesh = _flat(partitioner.get_mesh_axes(full_train_state).params)
  shapes = _flat(full_train_state.params)
  rows: list[tuple[str, ...]] = [
    ('Parameter', 'Shape', 'Size', 'Logical axes', 'Mesh axes')
  ]
  for name, value in shapes.items():
    axes = [
      'replicated' if names is None else str(tuple(names))
      for names in (logical.get(name), mesh.get(name))
    ]
    rows.append((name, str(tuple(value.shape)), f'{value.size:,}', *axes))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = ['  '.join(map(str.ljust, row, widths)).rstrip() for row in rows]
  optimizer_state = jax.tree.leaves(full_train_state.param_states)
  lines += [
    '',
    f'Parameters: {sum(v.size for v in shapes.values()):,}',
    f'Optimizer state: {sum(leaf.size for leaf in optimizer_state):,}',
    f'Mesh: {dict(partitioner.mesh.shape)}',
  ]
  text = '\n'.join(lines) + '\n'
  if log_file is not None and jax.process_index() == 0:
    path = epath.Path(log_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as work:
      work.write_text(text)
  return text


def _flat(tree: Any) -> dict[str, Any]:
  return traverse_util.flatten_dict(core.unfreeze(tree), sep='/')
