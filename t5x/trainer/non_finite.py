"""What happens to a step whose loss or gradients are not finite.

Inside the compiled step, `update_if_finite` leaves the state as it was, but
for the step counter. On the host, `NonFiniteGuard` writes the examples of the
batch to a file, and stops the run after several such steps in a row.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

SKIPPED = 'skipped_steps'
_FOLDER = 'non_finite'
# Batches that a run writes at most: enough to see what they have in common.
_MAX_FILES = 100


class NonFiniteError(Exception):
  """Several steps in a row had a loss or gradients that are not finite.

  Attributes:
    last_good_step: the last step that was applied.
  """

  exit_code = 3

  def __init__(self, message: str, last_good_step: int):
    super().__init__(message)
    self.last_good_step = last_good_step


def update_if_finite(
  finite: jax.Array, update: Callable[[Any], Any], train_state: Any
) -> Any:
  """Updates a train state, or counts its step and changes nothing else.

  A branch and not a choice for each number: that would read the old state
  after the new one is written, for which XLA copies all of it.

  Args:
    finite: scalar, whether the loss and all gradients are.
    update: from a state to the one after a step.
    train_state: the state.

  Returns:
    `update(train_state)`, or `train_state`, bit by bit, at the next step: the
    position in the data, and what dropout draws, go on.
  """

  def keep(state):
    return state.replace_step(state.step + 1)

  return jax.lax.cond(finite, update, keep, train_state)


class NonFiniteGuard:
  """Looks at each finished step; keeps the batches of those not applied."""

  def __init__(self, model: Any, folder: str | None, limit: int):
    """Takes what it needs to know of the run.

    Args:
      model: its `input_vocabulary` and `output_vocabulary` turn tokens to text.
      folder: the run's folder; None writes no file.
      limit: how many such steps in a row end the run.
    """
    self._model = model
    self._folder = os.path.join(folder, _FOLDER) if folder else None
    self._limit = limit
    self._in_a_row = 0

  @property
  def waits(self) -> bool:
    """Whether the next such step would end the run.

    It has to be seen then before another one is begun.
    """
    return self._in_a_row + 1 >= self._limit

  def after_step(self, step: int, metrics: Mapping[str, Any], batch: Any):
    """Takes note of a finished step.

    Args:
      step: its number, from 1.
      metrics: its own, on the host.
      batch: what it was given, on the devices.

    Raises:
      NonFiniteError: `limit` steps in a row were not applied.
    """
    if SKIPPED not in metrics or not metrics[SKIPPED].total:
      self._in_a_row = 0
      return
    self._in_a_row += 1
    where = self._write(step, batch)
    logging.warning(
      'Step %d was not applied: its loss or gradients are not finite (%d in a'
      ' row; %d end the run). Its examples: %s',
      step,
      self._in_a_row,
      self._limit,
      where,
    )
    if self._in_a_row >= self._limit:
      good = step - self._in_a_row
      raise NonFiniteError(
        f'Steps {good + 1} to {step} had a loss or gradients that are not'
        f' finite, so none of them was applied. Their examples: {where}. Lower'
        ' the learning rate, use float32 in place of bfloat16, or take these'
        ' examples out. Trainer.max_skipped_steps is how many in a row end a'
        ' run.',
        good,
      )

  def _write(self, step: int, batch: Any) -> str:
    if self._folder is None:
      return 'not written, since the run has no folder'
    folder = epath.Path(self._folder)
    folder.mkdir(parents=True, exist_ok=True)
    if sum(1 for _ in folder.iterdir()) >= _MAX_FILES:
      return f'not written: {self._folder} has {_MAX_FILES} files already'
    process = jax.process_index()
    suffix = f'-process_{process}' if process else ''
    path = folder / f'step_{step}{suffix}.jsonl'
    partial = path.with_name(f'{path.name}.tmp')
    with partial.open('w', encoding='utf-8') as file:
      for row in _rows(batch):
        line = {'step': step, **row, **self._texts(row)}
        file.write(json.dumps(line, ensure_ascii=False) + '\n')
    partial.replace(path)
    return os.fspath(path)

  def _texts(self, row: Mapping[str, Any]) -> dict[str, str]:
    texts = {}
    for feature, side in (
      ('encoder_input_tokens', 'input_vocabulary'),
      ('decoder_target_tokens', 'output_vocabulary'),
    ):
      decode = getattr(getattr(self._model, side, None), 'decode', None)
      if decode and feature in row:
        texts[feature.replace('_tokens', '_text')] = decode(row[feature])
    return texts


def _rows(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The rows that this host's devices hold first copies of, as lists."""
  columns: dict[str, dict[int, np.ndarray]] = {}
  for name, array in batch.items():
    columns[name] = {}
    for part in array.addressable_shards:
      first = part.index[0].indices(array.shape[0])[0]
      for i, row in enumerate(np.asarray(part.data)):
        columns[name][first + i] = row
  numbers = sorted(next(iter(columns.values())))
  return [
    {'row': i, **{name: rows[i].tolist() for name, rows in columns.items()}}
    for i in numbers
  ]
