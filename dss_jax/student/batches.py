"""Tokens to answers, in batches of a few shapes, each compiled once.

A program is compiled for a number of rows and a length. Both are rounded up to
one of a few, so that a server that is asked for years compiles no more programs
than there are `shapes`, once for predictions and once for scores.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from t5x import checkpoints, inference, initialization, partitioning

if TYPE_CHECKING:
  from dss_jax.student import usage as usage_lib
  from t5x import models

# Each length is so many times the one before. In whole batches padding costs a
# CPU much; compiling costs an accelerator more.
_GROWTH = 2.0
_GROWTH_OF_WHOLE = {'cpu': 1.25}
_SHORTEST = 16
# Lengths are multiples of it.
_MULTIPLE = 8
# Rows of a batch that is not whole.
_FEW_ROWS = (1, 8)

_Row = tuple[int, Mapping[str, np.ndarray]]


def lengths(longest: int, growth: float) -> tuple[int, ...]:
  """Returns the lengths that inputs are padded to.

  >>> lengths(100, 2.0)
  (16, 32, 64, 100)

  Args:
    longest: the last of them.
    growth: each is about so many times the one before.
  """
  found = [min(_SHORTEST, longest)]
  while found[-1] < longest:
    wanted = -(-int(found[-1] * growth) // _MULTIPLE) * _MULTIPLE
    found.append(min(max(wanted, found[-1] + _MULTIPLE), longest))
  return tuple(found)


def row_counts(most: int, devices: int) -> tuple[int, ...]:
  """Returns how many rows a batch may have.

  >>> row_counts(100, 1)
  (1, 8, 100)

  Args:
    most: the last of them, rounded up.
    devices: what each of them is a multiple of.
  """
  counts = (*(count for count in _FEW_ROWS if count < most), most)
  return tuple(sorted({-(-count // devices) * devices for count in counts}))


class Batches:
  """A model with its weights on the devices. Threads take turns.

  Attributes:
    shapes: the numbers of rows that a batch may have, ascending, and to which
      lengths its inputs may be padded.
  """

  def __init__(
    self,
    model: 'models.EncoderDecoderModel',
    usage: 'usage_lib.Usage',
    checkpoint: str,
    decode_options: Mapping[str, Any],
  ):
    """Restores the weights.

    Args:
      model: the student's.
      usage: its lengths, and the rows of a batch.
      checkpoint: the weights.
      decode_options: for the model's `decode_fn`.
    """
    self._model = model
    self._targets = usage.targets
    self._options = dict(decode_options)
    self._partitioner = partitioning.PjitPartitioner(num_partitions=1)
    counts = row_counts(usage.batch_size, self._partitioner.data_mesh_size)
    of_whole = _GROWTH_OF_WHOLE.get(jax.default_backend(), _GROWTH)
    self.shapes = {
      rows: lengths(usage.inputs, of_whole if rows == counts[-1] else _GROWTH)
      for rows in counts
    }
    shapes = {
      name: (counts[-1], length)
      for name, length in (
        ('encoder_input_tokens', usage.inputs),
        ('decoder_input_tokens', usage.targets),
      )
    }
    initializer = initialization.initializer_of(
      model, self._partitioner, shapes, for_training=False
    )
    config = checkpoints.RestoreCheckpointConfig(
      path=checkpoint, mode='specific'
    )
    self._axes = initializer.train_state_axes
    self._state = initializer.from_checkpoint([config])
    self._functions: dict[tuple[str, int], Callable[..., Any]] = {}
    self._turn = threading.Lock()

  @property
  def rows(self) -> int:
    """Rows of a whole batch."""
    return max(self.shapes)

  def predict(self, inputs: Sequence[Sequence[int]]) -> list[list[int]]:
    """Returns the tokens that the student answers with, in order.

    Args:
      inputs: tokens of each input, with the end token.
    """
    nothing = np.zeros(self._targets, np.int32)
    return self._inferred(
      'predict', inputs, lambda _: {'decoder_input_tokens': nothing}
    )

  def score(
    self, inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
  ) -> np.ndarray:
    """Returns the log-probability of a target for each input, [N].

    Args:
      inputs: tokens of each input, with the end token.
      targets: tokens of each target, likewise.
    """
    longest = max(map(len, targets), default=1)
    room = -(-longest // _MULTIPLE) * _MULTIPLE

    def features(index: int) -> dict[str, np.ndarray]:
      target = np.zeros(room, np.int32)
      target[: len(targets[index])] = targets[index]
      return {
        'decoder_target_tokens': target,
        'decoder_input_tokens': np.pad(target, (1, 0))[:-1],
        'decoder_loss_weights': (target > 0).astype(np.int32),
      }

    return np.array(self._inferred('score', inputs, features), np.float64)

  def _inferred(
    self,
    mode: str,
    inputs: Sequence[Sequence[int]],
    features: Callable[[int], Mapping[str, np.ndarray]],
  ) -> list[Any]:
    """Returns what the model makes of each input, in order."""
    # Rows of about one length share a batch. Stable: the same every time.
    order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
    whole = len(order) // self.rows * self.rows
    parts = [(self.rows, order[:whole])]
    if rest := order[whole:]:
      rows = next(count for count in self.shapes if count >= len(rest))
      parts.append((rows, rest))
    found: list[Any] = [None] * len(inputs)
    with self._turn:
      for rows, indices in parts:
        if indices:
          made = self._function(mode, rows)(
            self._rows(inputs, indices, rows, features), self._state
          )
          for index, output in made:
            found[index] = output
    return found

  def _rows(
    self,
    inputs: Sequence[Sequence[int]],
    indices: Sequence[int],
    rows: int,
    features: Callable[[int], Mapping[str, np.ndarray]],
  ) -> Iterator[_Row]:
    """Yields rows, each as long as the others of its batch."""
    for begin in range(0, len(indices), rows):
      batch = indices[begin : begin + rows]
      # The first is the longest.
      needed = len(inputs[batch[0]])
      length = next(x for x in self.shapes[rows] if x >= needed)
      for index in batch:
        tokens = np.zeros(length, np.int32)
        tokens[: len(inputs[index])] = inputs[index]
        yield index, {'encoder_input_tokens': tokens, **features(index)}

  def _function(self, mode: str, rows: int) -> Callable[..., Any]:
    """Returns the compiled inference of batches of so many rows."""
    if (mode, rows) not in self._functions:
      options: dict[str, Any] = {}
      if mode == 'predict' and self._options:
        # As an argument: what gin would fill in is not this student's.
        options = {'decoder_params': self._options}
      if mode == 'predict':
        options |= {'return_all_decodes': False}
      self._functions[mode, rows] = inference.get_infer_fn(
        inference.infer_step(self._model, mode, **options),
        rows,
        self._axes,
        self._partitioner,
      )
    return self._functions[mode, rows]
