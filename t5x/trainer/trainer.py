"""Trainers: step a train state, evaluate it, and report metrics.

A trainer owns the state, which each step replaces. The host dispatches a step
before it reads the metrics of the one before, and never gets further ahead.
"""

import abc
import concurrent.futures
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from t5x import errors, partitioning
from t5x import metrics as metrics_lib
from t5x import models as models_lib
from t5x import train_state as train_state_lib
from t5x.trainer import metrics_manager, non_finite
from t5x.trainer import step as step_lib
from t5x.trainer.metrics_manager import ArrayMapFuture, MetricValues

BatchType = Mapping[str, Any]
LearningRateCallable = Callable[[jax.Array], jax.Array]
# A compiled step, for batches of the shapes that it was compiled for.
_Program = Callable[..., Any]


def _are_shapes(tree: Any) -> bool:
  """Whether a tree holds shapes in place of arrays."""
  return any(
    isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree)
  )


def _shapes(tree: Any) -> tuple[Any, ...]:
  """Returns what a program depends on in a tree that it is given."""
  leaves, structure = jax.tree.flatten(tree)
  return structure, *((leaf.shape, leaf.dtype) for leaf in leaves)


def _replicated_key(
  rng: jax.Array, partitioner: partitioning.BasePartitioner
) -> jax.Array:
  """Puts the same key on the devices of all hosts."""
  if _are_shapes(rng):
    return rng
  everywhere = partitioner.shardings(None)
  if not jax.dtypes.issubdtype(rng.dtype, jax.dtypes.prng_key):
    return jax.device_put(np.asarray(rng), everywhere)
  # Only plain arrays can be put on devices of other hosts.
  data = jax.device_put(np.asarray(jax.random.key_data(rng)), everywhere)
  return jax.random.wrap_key_data(data, impl=jax.random.key_impl(rng))


class BaseTrainer(abc.ABC):
  """Runs the compiled steps that a subclass defines.

  Args:
    model: what is trained.
    train_state: the state to start from; its memory is given to the steps. A
      trainer that only compiles takes `jax.ShapeDtypeStruct`s, here and as its
      key.
    partitioner: lays arrays out and compiles.
    eval_names: tasks that `eval` may be given.
    summary_dir: where metrics go: 'train/' and 'training_eval/<task>/'; None
      writes none.
    train_state_axes: mesh axes of the state, from `partitioner.get_mesh_axes`.
    rng: a key; step s draws from it folded with s, so that a run that resumes
      from a checkpoint draws what it would have drawn.

  Attributes:
    step_callback: called on the host after each step, with the number of steps
      that are done.
    stop_when: called on the host between two steps, with the number of steps
      that were dispatched; True ends `train` there.
  """

  # Looks at every finished step; a subclass that skips steps has one.
  _guard: non_finite.NonFiniteGuard | None = None

  def __init__(
    self,
    model: models_lib.BaseModel,
    train_state: train_state_lib.TrainState,
    partitioner: partitioning.BasePartitioner,
    eval_names: Sequence[str],
    summary_dir: str | None,
    train_state_axes: train_state_lib.TrainState,
    rng: jax.Array,
  ):
    self._model = model
    self._partitioner = partitioner
    self._train_state_axes = train_state_axes
    self._base_rng = _replicated_key(rng, partitioner)
    self.train_state = train_state
    self.step_callback: Callable[[int], object] = lambda done: None
    self.stop_when: Callable[[int], bool] = lambda begun: False
    self.train_metrics_manager = metrics_manager.MetricsManager(
      'train', summary_dir
    )
    self.eval_metrics_managers = {
      name: metrics_manager.MetricsManager(f'training_eval/{name}', summary_dir)
      for name in eval_names
    }
    # By kind of step ('train' or 'eval') and the shapes of its batch.
    self._programs: dict[tuple[Any, ...], _Program] = {}
    # What compiling a kind of step took, until it is reported.
    self._compilation_seconds: dict[str, float] = {}
    # (number, metrics, batch) of the step that the host has not waited for.
    self._in_flight: tuple[int, metrics_lib.Metrics, BatchType] | None = None
    self._summary: concurrent.futures.Future | None = None

  def __enter__(self) -> 'BaseTrainer':
    return self

  def __exit__(self, *exc: Any) -> None:
    self.close()

  def close(self) -> None:
    """Waits for what runs, and closes the writers."""
    try:
      self._settle()
      if self._summary is not None:
        self._summary.result()
    finally:
      self.train_metrics_manager.close()
      for manager in self.eval_metrics_managers.values():
        manager.close()

  @property
  def train_state(self) -> train_state_lib.TrainState:
    """The state after the last dispatched step."""
    return self._train_state

  @train_state.setter
  def train_state(self, train_state: train_state_lib.TrainState) -> None:
    if not _are_shapes(train_state):
      train_state = self._partitioner.move_params_to_devices(
        train_state, self._train_state_axes
      )
    self._train_state = train_state

  @property
  @abc.abstractmethod
  def _partitioned_train_step(self) -> partitioning.PartitionedCallable:
    """`(train_state, batch, rng) -> (train_state, metrics)`."""

  @property
  @abc.abstractmethod
  def _partitioned_eval_step(self) -> partitioning.PartitionedCallable:
    """`(train_state, batch) -> metrics`."""

  def _check_batch(self, batch_size: int) -> None:
    """Raises UserError if a training batch can't be split."""
    self._partitioner.check_batch_size(batch_size)

  def _settle(self) -> metrics_lib.Metrics | None:
    """Waits for the step in flight; returns its metrics on the host."""
    if self._in_flight is None:
      return None
    (number, metrics, batch), self._in_flight = self._in_flight, None
    host = metrics_lib.to_host(metrics)
    self.step_callback(number)
    if self._guard is not None:
      self._guard.after_step(number, host, batch)
    return host

  def train(
    self,
    batch_iter: Iterator[BatchType],
    num_steps: int,
    start_step: int | None = None,
  ) -> ArrayMapFuture:
    """Takes `num_steps` steps.

    Returns when the last one is dispatched, not when it is done.

    Args:
      batch_iter: yields numpy batches with this host's rows, or sharded ones.
      num_steps: how many steps, at least 1; after the first, `stop_when` may
        end them earlier.
      start_step: the state's step, if known: it then need not be read from the
        device.

    Returns:
      A future of the steps' metrics, merged; they are also written, at the last
      step's number.

    Raises:
      errors.UserError: if a batch can't be split, or the batches end before
        the steps.
      NonFiniteError: too many steps in a row were not applied.
    """
    if num_steps < 1:
      raise ValueError(f'Trainer.train: expected num_steps > 0: {num_steps}.')
    step = int(self._train_state.step) if start_step is None else start_step
    manager = self.train_metrics_manager
    manager.start_duration_timer()
    merged: metrics_lib.Metrics | None = None
    done = 0
    while done < num_steps and not (done and self.stop_when(step + done)):
      batch = next(batch_iter, None)
      if batch is None:
        raise errors.UserError(
          f'Trainer.train: the batches ended after {done} of {num_steps} steps,'
          f' at step {step + done}. Let the dataset repeat, or train fewer'
          ' steps.'
        )
      batch = self._partitioner.shard_batch(batch)
      compiled = self._compiled('train', batch)
      seconds = self._compilation_seconds.pop('train', None)
      if seconds is not None:
        manager.write_scalar('timing/compilation_seconds', seconds, step + done)
        if not done:
          # Compiling is not part of the steps' time.
          manager.start_duration_timer()

      # Dispatch this step, then wait for the one before it; but wait first
      # where one more step without a finite loss would end the run.
      early = self._settle() if self._guard and self._guard.waits else None
      self._train_state, metrics = compiled(
        self._train_state, batch, self._base_rng
      )
      before = self._settle() if early is None else early
      if done and before is not None:  # It belongs to this call.
        merged = _merged(merged, before)
      done += 1
      self._in_flight = (step + done, metrics, batch)

    # Write the metrics of all steps, off this thread.
    parts = [metrics] if merged is None else [merged, metrics]
    if self._summary is not None:
      self._summary.result()  # Done long ago; raises what went wrong there.
    self._summary = manager.write_metrics_summary(parts, step + done, done)
    return ArrayMapFuture(self._summary, self._settle)

  def _compiled(self, name: str, batch: BatchType) -> _Program:
    """Returns the step 'train' or 'eval', compiled for batches like this."""
    key = (name, _shapes(dict(batch)))
    if key not in self._programs:
      start = time.perf_counter()
      args: tuple[Any, ...] = (self._train_state, batch)
      if name == 'train':
        self._check_batch(next(iter(batch.values())).shape[0])
        step, args = self._partitioned_train_step, (*args, self._base_rng)
      else:
        step = self._partitioned_eval_step
      self._programs[key] = self._partitioner.compile(step, *args)
      seconds = time.perf_counter() - start
      self._compilation_seconds[name] = seconds
      logging.info('Compiled the %s step in %.1f s.', name, seconds)
    return self._programs[key]

  def _placed(self, batch: BatchType) -> BatchType:
    if _are_shapes(batch):
      return batch
    return self._partitioner.shard_batch(batch)

  def compile_train(self, batch: BatchType) -> None:
    """Compiles the training step for batches like this one.

    Args:
      batch: arrays as for `train`, whose values don't matter; or the shapes of
        a global batch.

    Raises:
      errors.UserError: if the batch can't be split.
    """
    self._compiled('train', self._placed(batch))

  def take_compiled(self, other: 'BaseTrainer') -> None:
    """Takes over the steps that another trainer has compiled.

    Args:
      other: a trainer of the same model that only compiles. Its steps are
        ignored if its state has other shapes or types than this one's.
    """
    if _shapes(self._train_state) == _shapes(other._train_state):
      self._programs.update(other._programs)
      self._compilation_seconds.update(other._compilation_seconds)

  def lower_train(self, batch: BatchType) -> jax.stages.Lowered:
    """Traces the training step for batches like this one.

    Args:
      batch: as for `compile_train`.

    Returns:
      What `train` compiles, as JAX lowers it.

    Raises:
      errors.UserError: if the batch can't be split.
    """
    batch = self._placed(batch)
    self._check_batch(next(iter(batch.values())).shape[0])
    return self._partitioned_train_step.lower(
      self._train_state, batch, self._base_rng
    )

  def compile_eval(self, batches: Mapping[str, BatchType]) -> None:
    """Compiles the evaluation step for each task's batches.

    Args:
      batches: task to a batch; values don't matter.
    """
    for batch in batches.values():
      self._compiled('eval', self._partitioner.shard_batch(batch))

  def eval(
    self, batch_iters: Mapping[str, Iterator[BatchType]]
  ) -> Mapping[str, MetricValues]:
    """Measures the metrics of each task over all of its batches.

    Args:
      batch_iters: task, one of `eval_names`, to batches.

    Returns:
      Task to metric name to value; no metric for a task without a batch.

    Raises:
      errors.UserError: if a batch can't be split, or a task is not known.
    """
    step = int(self._train_state.step)
    futures = {
      task: self._eval_task(task, batches, step)
      for task, batches in batch_iters.items()
    }
    return {t: f.result() if f else {} for t, f in futures.items()}

  def _eval_task(
    self, task: str, batches: Iterator[BatchType], step: int
  ) -> concurrent.futures.Future | None:
    if task not in self.eval_metrics_managers:
      known = list(self.eval_metrics_managers)
      raise errors.UserError(
        f'Trainer.eval: no task {task!r}, expected one of eval_names {known}.'
        + errors.did_you_mean(task, known)
      )
    manager = self.eval_metrics_managers[task]
    manager.start_duration_timer()
    merged: metrics_lib.Metrics | None = None
    in_flight: metrics_lib.Metrics | None = None
    count = 0
    for batch in batches:
      batch = self._partitioner.shard_batch(batch)
      metrics = self._compiled('eval', batch)(self._train_state, batch)
      if in_flight is not None:
        merged = _merged(merged, metrics_lib.to_host(in_flight))
      in_flight, count = metrics, count + 1
    if in_flight is None:
      logging.warning(
        'Evaluation task %s gave no batch, so it has no metrics. A batch size'
        ' larger than its number of examples is one cause.',
        task,
      )
      return None
    parts = [in_flight] if merged is None else [merged, in_flight]
    return manager.write_metrics_summary(parts, step, count)


# Makes a trainer from the arguments of `BaseTrainer`.
BaseTrainerConstructor = Callable[..., BaseTrainer]


def _merged(
  merged: metrics_lib.Metrics | None, metrics: metrics_lib.Metrics
) -> metrics_lib.Metrics:
  if merged is None:
    return metrics
  return metrics_lib.merge_metrics(merged, metrics)


class Trainer(BaseTrainer):
  """Trains with a learning-rate schedule, over microbatches if asked to.

  It takes the arguments of `BaseTrainer`, and:

  Args:
    learning_rate_fn: step to learning rate. An optax optimizer has its own and
      ignores this one.
    num_microbatches: number of parts of a batch that are computed one after the
      other; None and 1 don't split.
    weight_metrics_computer: if given, adds metrics of each parameter.
    max_skipped_steps: a step whose loss or gradients are not finite is not
      applied, and its examples are written to `non_finite/`; this many in a row
      end the run. At 1, the host waits for each step before it dispatches
      the next.

  Raises:
    errors.UserError: if max_skipped_steps is not positive.
  """

  def __init__(
    self,
    model: models_lib.BaseModel,
    train_state: train_state_lib.TrainState,
    partitioner: partitioning.BasePartitioner,
    eval_names: Sequence[str],
    summary_dir: str | None,
    train_state_axes: train_state_lib.TrainState,
    rng: jax.Array,
    learning_rate_fn: LearningRateCallable,
    num_microbatches: int | None,
    weight_metrics_computer: step_lib.WeightMetricsComputer | None = None,
    max_skipped_steps: int = 5,
  ):
    if max_skipped_steps < 1:
      raise errors.UserError(
        'Trainer.max_skipped_steps: expected at least 1, found'
        f' {max_skipped_steps}. It is after how many steps in a row without a'
        ' finite loss the run ends.'
      )
    self._guard = non_finite.NonFiniteGuard(
      model, summary_dir, max_skipped_steps
    )
    self._learning_rate_fn = learning_rate_fn
    self._num_microbatches = num_microbatches
    self._weight_metrics_computer = weight_metrics_computer
    super().__init__(
      model=model,
      train_state=train_state,
      partitioner=partitioner,
      eval_names=eval_names,
      summary_dir=summary_dir,
      train_state_axes=train_state_axes,
      rng=rng,
    )

  def _check_batch(self, batch_size: int) -> None:
    self._partitioner.check_batch_size(batch_size, self._num_microbatches or 1)

  @property
  def _partitioned_train_step(self) -> partitioning.PartitionedCallable:
    axes, rows = self._train_state_axes, self._partitioner.data_partition_spec

    def step(train_state, batch, rng):
      return step_lib.train_with_lr(
        train_state,
        batch,
        learning_rate=self._learning_rate_fn(train_state.step),
        dropout_rng=jax.random.fold_in(rng, train_state.step),
        model=self._model,
        num_microbatches=self._num_microbatches,
        weight_metrics_computer=self._weight_metrics_computer,
        data_partition_spec=rows,
      )

    return self._partitioner.partition(
      step,
      in_axis_resources=(axes, rows, None),
      out_axis_resources=(axes, None),
      donate_argnums=(0,),
    )

  @property
  def _partitioned_eval_step(self) -> partitioning.PartitionedCallable:
    axes, rows = self._train_state_axes, self._partitioner.data_partition_spec

    def step(train_state, batch):
      return step_lib.eval_step(self._model, train_state, batch)

    return self._partitioner.partition(
      step, in_axis_resources=(axes, rows), out_axis_resources=None
    )
