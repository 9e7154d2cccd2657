"""How many rows a step needs: from the lengths of the data, by trying.

The rows of a step are the same at every step, since a step is compiled for its
shape. So they have to hold the longest step. `layout` looks for the fewest rows
that hold the first steps of a run, the longest of which it packs; where the
examples are kept in memory, long steps give some length to short ones
(`orders`), so that what fits these fits all.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import seqio
import tensorflow as tf
from jaxtyping import Int64

from dss_jax import errors
from dss_jax.pipeline import cached_tasks, orders, packing, steps

# How full rows are that `packing` has filled well.
_FILLED = 0.975
# How much longer than the average a step may be at least, as a factor.
_LONGER = 1.01
# Windows that are looked at, and how many of the longest ones are packed.
_WINDOWS = 2048
_PACKED = 48
# Of a set that is not kept: examples that stand for all, and rows that are
# added for those that were not looked at, as a fraction.
_SAMPLE = 4096
_SPARE_ROWS = 0.03
# Label examples of a part of the data, at least: small windows fill rows badly.
_PART = 256
_MAX_PARTS = 16

_LAYOUTS: dict[object, steps.Layout] = {}


@dataclasses.dataclass(frozen=True)
class Request:
  """What decides about the rows of a step.

  Attributes:
    labels: label examples of a step.
    label_task: the name of the task that they are of.
    lengths: of `inputs` and `targets`.
    pack: whether several examples share a row.
    multiple: of what number the rows have to be a multiple.
    rows: how many there must be; None chooses.
    seed: of the run.
    parts: of the data; None chooses.
  """

  labels: int
  label_task: str
  lengths: tuple[int, int]
  pack: bool
  multiple: int
  rows: int | None
  seed: int
  parts: int | None

  @property
  def used_parts(self) -> int:
    """In how many parts the data is read."""
    if self.parts is not None:
      return self.parts
    parts = 1
    while (
      parts < _MAX_PARTS
      and self.labels % (2 * parts) == 0
      and self.labels // (2 * parts) >= _PART
    ):
      parts *= 2
    return parts


def layout(mixture: seqio.Mixture, request: Request) -> steps.Layout:
  """Returns the layout of a mixture's steps.

  Args:
    mixture: of `cached_tasks.Task`s.
    request: what is asked for.

  Raises:
    DataError: the rows that are asked for do not do.
  """
  key = mixture.name, request
  if key not in _LAYOUTS:
    _LAYOUTS[key] = _Search(mixture, request).layout()
  return _LAYOUTS[key]


class _Search:
  """The search for a layout."""

  def __init__(self, mixture: seqio.Mixture, request: Request):
    self._mixture = mixture
    self._request = request
    self._parts = request.used_parts
    self._unit = math.lcm(request.multiple, self._parts)
    self._kept = all(task.is_kept('train') for task in mixture.tasks)
    label = seqio.TaskRegistry.get(request.label_task)
    self._label_count = label.source.num_input_examples('train')
    # SeqIO sorts the tasks of a mixture by their names.
    self._per_task = [
      request.labels * mixture.get_rate(task) / mixture.get_rate(label)
      for task in mixture.tasks
    ]
    self._segments = [_segments(t, request, self._kept) for t in mixture.tasks]
    self._sizes = [segments.sum(1) for segments in self._segments]
    self._a_window = [count / self._parts for count in self._per_task]
    # Tokens of an average window, on both sides.
    self._mean = np.sum(
      [
        a * sizes.mean(0)
        for a, sizes in zip(self._a_window, self._sizes, strict=True)
      ],
      0,
    )

  def layout(self) -> steps.Layout:
    request = self._request
    find = self._find_packed if request.pack else self._find_padded
    rows, most = find()
    fill = self._mean * self._parts / (rows * np.array(request.lengths))
    return steps.Layout(
      self._mixture.name,
      request.labels,
      self._label_count,
      tuple(self._per_task),
      rows,
      self._parts,
      request.lengths,
      most,
      (float(fill[0]), float(fill[1])),
    )

  def _find_padded(self) -> tuple[int, tuple[None, ...]]:
    units = zip(self._a_window, self._segments, strict=True)
    needed = sum(math.ceil(a) * s.shape[1] for a, s in units) * self._parts
    rows = self._request.rows or self._rounded(needed)
    self._check_given(rows)
    if rows < needed:
      raise self._too_few(rows, f'{needed} examples need a row each')
    return rows, (None,) * len(self._segments)

  def _find_packed(
    self,
  ) -> tuple[int, tuple[tuple[float, float] | None, ...]]:
    shape = np.array(self._request.lengths)
    fewest = self._parts * (self._mean / shape).max() * _LONGER / _FILLED
    rows = self._request.rows or self._rounded(math.ceil(fewest))
    self._check_given(rows)
    while True:
      most = self._most(rows)
      try:
        self._try(rows // self._parts, most)
      except packing.TooFewRowsError as error:
        if self._request.rows:
          raise self._too_few(rows, str(error)) from error
        rows += self._unit
        continue
      if not self._kept and not self._request.rows:
        rows = self._rounded(math.ceil(rows * (1 + _SPARE_ROWS)))
      return rows, most

  def _most(self, rows: int) -> tuple[tuple[float, float] | None, ...]:
    """How long examples may be on average, for each task."""
    if not self._kept:
      return (None,) * len(self._sizes)
    room = rows // self._parts * np.array(self._request.lengths) * _FILLED
    longer = np.maximum(room / np.maximum(self._mean, 1), _LONGER)
    return tuple(
      tuple((sizes.mean(0) * longer).tolist()) for sizes in self._sizes
    )

  def _try(self, rows: int, most: Sequence[tuple[float, float] | None]) -> None:
    """Packs the longest windows; raises TooFewRowsError if one doesn't fit."""
    shape = self._request.lengths
    all_orders = [
      orders.Order(len(sizes), a, (self._request.seed % 2**32, i), sizes, limit)
      for i, (a, sizes, limit) in enumerate(
        zip(self._a_window, self._sizes, most, strict=True)
      )
    ]
    sums = np.sum([order.sums(_WINDOWS) for order in all_orders], 0)
    longest = np.argsort(-(sums / shape).max(1), kind='stable')[:_PACKED]
    for window in longest:
      units = np.concatenate([
        segments[order.window(int(window))].reshape(-1, 2)
        for order, segments in zip(all_orders, self._segments, strict=True)
      ])  # fmt: skip
      units = units[units[:, 1] > 0]
      packing.assign_to_rows(units[:, 0], units[:, 1], shape, rows)

  def _rounded(self, rows: int) -> int:
    return max(1, math.ceil(rows / self._unit)) * self._unit

  def _check_given(self, rows: int) -> None:
    if rows % self._unit:
      raise errors.DataError(
        f'ROWS_PER_STEP is {rows}: expected a multiple of {self._unit}, which'
        ' mesh, NUM_MICROBATCHES and parts of the data divide, such as'
        f' {self._rounded(rows)}.'
      )

  def _too_few(self, rows: int, why: str) -> errors.DataError:
    return errors.DataError(
      f'ROWS_PER_STEP is {rows}, too few for LABELS_PER_STEP ='
      f' {self._request.labels}: {why}. Give more, or None to have them chosen.'
    )


def _segments(
  task: cached_tasks.Task, request: Request, kept: bool
) -> Int64[np.ndarray, 'examples segments 2']:
  """Returns the lengths of a task's examples, or of some that stand for all."""
  keys = set(task.output_features)
  lengths = dict(zip(('inputs', 'targets'), request.lengths, strict=True))
  if kept:
    table = task.table('train', lengths, keys)
  else:
    count = task.source.num_input_examples('train')
    places = np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)
    indices = tf.data.Dataset.from_tensor_slices(places)
    table = cached_tasks.Table(
      task.in_order(indices, 'train', lengths, request.seed, keys)
    )
  return steps.segments_of(table, keys, request.lengths)
