"""Metric writers: JSONL and TensorBoard, off the thread that trains."""

import concurrent.futures
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from clu import metrics as clu_metrics
from clu import values as clu_values
from etils import epath

from t5x import files
from t5x import metrics as metrics_lib

MetricValues = Mapping[str, clu_values.Value]
MetricValueMapFuture = concurrent.futures.Future[MetricValues]


class ArrayMapFuture:
  """The metrics of some training steps, once they are done."""

  def __init__(
    self, future: MetricValueMapFuture, settle: Callable[[], object]
  ):
    self._future = future
    self._settle = settle

  def result(self) -> MetricValues:
    """Waits for the steps; returns metric name to value."""
    values = self._future.result()
    self._settle()
    return values

  def done(self) -> bool:
    """Whether `result` would return immediately."""
    return self._future.done()


class JsonlWriter:
  """Appends a line `{"step": 5, "loss": 2.5}` to a file at each write.

  A NaN is written `NaN` and an infinity `Infinity`, as Python's `json` does. An
  unfinished last line that a killed process left is removed.

  Args:
    path: the file, whose folder is made.
  """

  def __init__(self, path: str):
    self._path = epath.Path(path)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    if self._path.exists():
      text = self._path.read_text()
      if text and not text.endswith('\n'):
        with files.replacing(self._path) as work:
          work.write_text(text[: text.rfind('\n') + 1])

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes the values of a step in one line."""
    line = {'step': int(step)}
    line.update({k: np.asarray(v).item() for k, v in scalars.items()})
    with self._path.open('a') as file:
      file.write(json.dumps(line) + '\n')


class MultiWriter:
  """Passes what is written to each of several writers that supports it.

  It has the methods of `clu.metric_writers.MetricWriter`. CLU's own
  `MultiWriter` can't take its place: importing `clu.metric_writers` loads
  TensorFlow, which a training step does without.

  Args:
    writers: may be empty.
  """

  def __init__(self, writers: Sequence[Any]):
    self._writers = tuple(writers)

  def _call(self, method: str, *args: Any, **kwargs: Any) -> None:
    for writer in self._writers:
      if hasattr(writer, method):
        getattr(writer, method)(*args, **kwargs)

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    # TensorFlow keeps a tensor of every Python number that it has been given.
    arrays = {k: np.asarray(v) for k, v in scalars.items()}
    self._call('write_scalars', np.asarray(step), arrays)

  write_summaries = functools.partialmethod(_call, 'write_summaries')
  write_images = functools.partialmethod(_call, 'write_images')
  write_videos = functools.partialmethod(_call, 'write_videos')
  write_audios = functools.partialmethod(_call, 'write_audios')
  write_texts = functools.partialmethod(_call, 'write_texts')
  write_histograms = functools.partialmethod(_call, 'write_histograms')
  write_hparams = functools.partialmethod(_call, 'write_hparams')
  flush = functools.partialmethod(_call, 'flush')
  close = functools.partialmethod(_call, 'close')


def create_writer(name: str, summary_dir: str | None) -> MultiWriter:
  """Returns a writer to `<summary_dir>/<name>`.

  The first process writes `metrics.jsonl` and, where TensorFlow is installed,
  TensorBoard events. Others, and all without a folder, write nothing.

  Args:
    name: subfolder, such as 'train'.
    summary_dir: the run's folder, or None.
  """
  if summary_dir is None or jax.process_index() != 0:
    return MultiWriter([])
  folder = epath.Path(summary_dir) / name
  writers: list[Any] = [JsonlWriter(str(folder / 'metrics.jsonl'))]
  try:
    # Loads TensorFlow.
    from clu import metric_writers as clu_metric_writers
  except ImportError as e:
    logging.warning('No TensorBoard events in %s: %s', folder, e)
  else:
    writers.append(clu_metric_writers.SummaryWriter(str(folder)))
  return MultiWriter(writers)


def _write_values(writer: MultiWriter, step: int, values: MetricValues) -> None:
  scalars = {
    k: v.value for k, v in values.items() if isinstance(v, clu_values.Scalar)
  }
  if scalars:
    writer.write_scalars(step, scalars)
  others = {k: v for k, v in values.items() if k not in scalars}
  if others:
    from clu import metric_writers as clu_metric_writers

    clu_metric_writers.write_values(writer, step, others)


class MetricsManager:
  """Times, computes and writes the metrics of one part of a run.

  Computing and writing happen in a thread of their own, in order.

  Args:
    name: subfolder of the summaries, such as 'train'.
    summary_dir: the run's folder; None writes nothing.
  """

  def __init__(self, name: str, summary_dir: str | None = None):
    self._name = name
    self._summary_dir = summary_dir
    self._writer: MultiWriter | None = None
    self._pool = concurrent.futures.ThreadPoolExecutor(
      max_workers=1, thread_name_prefix=f'metrics_{name.replace("/", "_")}'
    )
    self._start = time.perf_counter()
    self._last_stop = self._start

  @property
  def summary_writer(self) -> MultiWriter:
    """The writer, made when it is first asked for."""
    if self._writer is None:
      self._writer = create_writer(self._name, self._summary_dir)
    return self._writer

  def write_scalar(self, key: str, val: Any, step: int) -> None:
    """Writes one value."""
    self.write_scalars(step, {key: val})

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes the values of a step."""
    self._pool.submit(
      lambda: self.summary_writer.write_scalars(step, scalars)
    ).result()

  def start_duration_timer(self, block_on: Any = ()) -> None:
    """Starts the time that the next summary reports.

    Args:
      block_on: arrays to wait for first.
    """
    jax.block_until_ready(block_on)
    self._start = time.perf_counter()

  def write_metrics_summary(
    self,
    metrics: Mapping[str, clu_metrics.Metric] | Sequence[Mapping[str, Any]],
    step: int,
    num_steps: int,
  ) -> MetricValueMapFuture:
    """Computes metrics and writes them, without waiting.

    The reported time ends when the metrics have been computed. It starts with
    the timer, or where the time of the previous summary ended if that is later,
    so that no time counts twice where steps are dispatched ahead.

    Args:
      metrics: metrics by name, or several such mappings to be merged.
      step: the step to write.
      num_steps: how many steps the metrics sum up.

    Returns:
      A future of name to `clu.values.Value`. A mean over nothing has no value;
      NaN and infinity are values.
    """
    parts = [metrics] if isinstance(metrics, Mapping) else list(metrics)
    return self._pool.submit(
      self._summarize, parts, step, num_steps, self._start
    )

  def _summarize(
    self,
    parts: Sequence[Mapping[str, clu_metrics.Metric]],
    step: int,
    num_steps: int,
    start: float,
  ) -> MetricValues:
    host = [metrics_lib.to_host(dict(part)) for part in parts]
    stop = time.perf_counter()
    duration = stop - max(start, min(self._last_stop, stop))
    self._last_stop = stop
    merged = host[0]
    for part in host[1:]:
      merged = metrics_lib.merge_metrics(merged, part)
    merged = metrics_lib.set_step_metrics_num_steps(merged, num_steps)
    merged = metrics_lib.set_time_metrics_duration(merged, duration)
    values = metrics_lib.compute_values(merged)
    _write_values(self.summary_writer, step, values)
    self.summary_writer.flush()
    return values

  def flush(self) -> None:
    """Waits until everything is written."""

    def flush_writer():
      if self._writer is not None:
        self._writer.flush()

    self._pool.submit(flush_writer).result()

  def close(self) -> None:
    """Writes what is left and ends the thread."""
    self._pool.shutdown(wait=True)
    if self._writer is not None:
      self._writer.close()
