"""Guard against steps whose loss or gradients are not finite.

Inside the compiled step, `update_if_finite` leaves the state as it was except
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

from t5x import files, models
from t5x import train_state as train_state_lib

SKIPPED = 'skipped_steps'
_FOLDER = 'non_finite'
# The most batches that a run writes: enough to see what they have in common.
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
  finite: jax.Array,
  update: Callable[[train_state_lib.TrainState], train_state_lib.TrainState],
  train_state: train_state_lib.TrainState,
) -> train_state_lib.TrainState:
  """Updates a train state, or counts its step and changes nothing else.

  This is a branch and not an element-wise choice, which would read the old
  state after the new one is written, so that XLA would copy all of it.

  Returns:
    `update(train_state)`, or `train_state`, equal to the bit, at the next step:
    the position in the data and the keys of dropout move on.
  """

  def keep(state):
    return state.replace_step(state.step + 1)

  return jax.lax.cond(finite, update, keep, train_state)


class NonFiniteGuard:
  """Checks each finished step, and keeps the batches of those not applied.

  Args:
    model: its `input_vocabulary` and `output_vocabulary`, if any, decode tokens
      to text.
    folder: the run's folder; None writes no file.
    limit: how many such steps in a row end the run.
  """

  def __init__(self, model: models.BaseModel, folder: str | None, limit: int):
    self._model = model
    self._folder = os.path.join(folder, _FOLDER) if folder else None
    self._limit = limit
    self._in_a_row = 0

  @property
  def waits(self) -> bool:
    """Whether the next such step would end the run.

    The host then has to wait for it before it dispatches another one.
    """
    return self._in_a_row + 1 >= self._limit

  def after_step(
    self, step: int, metrics: Mapping[str, Any], batch: Mapping[str, jax.Array]
  ) -> None:
    """Records a finished step.

    Args:
      step: its number, from 1.
      metrics: its metrics, on the host.
      batch: its batch, on the devices.

    Raises:
      NonFiniteError: `limit` steps in a row were not applied.
    """
    if SKIPPED not in metrics or not metrics[SKIPPED].total:
      self._in_a_row = 0
      return
    self._in_a_row += 1
    location = self._write(step, batch)
    logging.warning(
      'Step %d was not applied: its loss or gradients are not finite (%d in a'
      ' row; %d end the run). Its examples: %s',
      step,
      self._in_a_row,
      self._limit,
      location,
    )
    if self._in_a_row >= self._limit:
      good = step - self._in_a_row
      raise NonFiniteError(
        f'Steps {good + 1} to {step} had a loss or gradients that are not'
        f' finite, so none of them was applied. Their examples: {location}.'
        ' Lower the learning rate, use float32 in place of bfloat16, or take'
        ' these examples out. Trainer.max_skipped_steps is how many in a row'
        ' end a run.',
        good,
      )

  def _write(self, step: int, batch: Mapping[str, jax.Array]) -> str:
    if self._folder is None:
      return 'not written, since the run has no folder'
    folder = epath.Path(self._folder)
    folder.mkdir(parents=True, exist_ok=True)
    if sum(1 for _ in folder.iterdir()) >= _MAX_FILES:
      return f'not written: {self._folder} has {_MAX_FILES} files already'
    process = jax.process_index()
    suffix = f'-process_{process}' if process else ''
    path = folder / f'step_{step}{suffix}.jsonl'
    with (
      files.replacing(path) as work,
      work.open('w', encoding='utf-8') as file,
    ):
      for row in _rows(batch):
        line = {'step': step, **row, **self._texts(row)}
        file.write(json.dumps(line, ensure_ascii=False) + '\n')
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


def _rows(batch: Mapping[str, jax.Array]) -> list[dict[str, Any]]:
  """Returns the rows that this host's devices hold, as lists."""
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
