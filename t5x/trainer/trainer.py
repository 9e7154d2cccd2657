"""Steps a train state, evaluates it, and reports metrics.

A trainer owns the state, which each step replaces. The host dispatches a step
before it reads the metrics of the one before, and never gets further ahead.
"""

import abc
import concurrent.futures
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging
from clu import values as clu_values

from t5x import errors, partitioning
from t5x import metrics as metrics_lib
from t5x import models as models_lib
from t5x import train_state as train_state_lib
from t5x.trainer import compiled_steps, metrics_manager, non_finite
from t5x.trainer import step as step_lib

BatchType = Mapping[str, Any]
LearningRateCallable = Callable[[jax.Array], jax.Array]
MetricValues = Mapping[str, clu_values.Value]


class BaseTrainerConstructor(Protocol):
  """What `t5x.train` calls to make a trainer."""

  def __call__(
    self,
    model: models_lib.BaseModel,
    train_state: train_state_lib.TrainState,
    partitioner: partitioning.BasePartitioner,
    eval_names: Sequence[str],
    summary_dir: str | None,
    train_state_axes: Any,
    rng: jax.Array,
  ) -> 'BaseTrainer': ...


class ArrayMapFuture:
  """The metrics of some training steps, once they are done."""

  def __init__(
    self,
    future: concurrent.futures.Future,
    settle: Callable[[], None],
  ):
    self._future = future
    self._settle = settle

  def result(self) -> MetricValues:
    """Waits for the steps; returns metric name to value."""
    values = self._future.result()
    self._settle()
    return values

  def done(self) -> bool:
    """Whether `result` would return at once."""
    return self._future.done()


def _replicated_key(
  rng: jax.Array, partitioner: partitioning.BasePartitioner
) -> jax.Array:
  """Puts the same key on the devices of all hosts."""
  if compiled_steps.are_shapes(rng):
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
      trainer that is to compile alone takes `jax.ShapeDtypeStruct`s, here and
      as its key.
    partitioner: lays arrays out and compiles.
    eval_names: tasks that `eval` may be given.
    summary_dir: where metrics go: 'train/' and 'training_eval/<task>/'; None
      writes none.
    train_state_axes: mesh axes of the state, from `partitioner.get_mesh_axes`.
    rng: a key; step s draws from it folded with s, so that a run that goes on
      from a checkpoint draws what it would have drawn.

  Attributes:
    step_callback: called on the host with the number of steps that are done,
      after each one.
    stop_when: called on the host with the number of steps that are begun,
      between two of them; True ends `train` there.
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
    train_state_axes: Any,
    rng: jax.Array,
  ):
    self._model = model
    self._partitioner = partitioner
    self._train_state_axes = train_state_axes
    self._base_rng = _replicated_key(rng, partitioner)
    self.train_state = train_state
    self.step_callback: Callable[[int], None] | None = None
    self.stop_when: Callable[[int], bool] | None = None
    self.train_metrics_manager = metrics_manager.MetricsManager(
      'train', summary_dir
    )
    self.eval_metrics_managers = {
      name: metrics_manager.MetricsManager(f'training_eval/{name}', summary_dir)
      for name in eval_names
    }
    self._steps = compiled_steps.CompiledSteps()
    # (number, metrics, batch) of the step that the host has not waited for.
    self._in_flight: tuple[int, Any, BatchType] | None = None
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
    if not compiled_steps.are_shapes(train_state):
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

  def _settle(self) -> Any:
    """Waits for the step in flight; returns its metrics on the host."""
    if self._in_flight is None:
      return None
    (number, metrics, batch), self._in_flight = self._in_flight, None
    host = metrics_lib.to_host(metrics)
    if self.step_callback is not None:
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
    """Does some steps.

    Returns when the last one is dispatched, not when it is done.

    Args:
      batch_iter: yields numpy batches with this host's rows, or sharded ones.
      num_steps: how many steps, unless `stop_when` ends them earlier; one is
        done in any case.
      start_step: the state's step, which saves reading it.

    Returns:
      A future of the steps' metrics, merged; they are also written, at the last
      step's number.

    Raises:
      errors.UserError: if a batch can't be split, or the batches end before
        the steps.
      numerics.NonFiniteError: too many steps in a row were not applied.
    """
    if num_steps < 1:
      raise ValueError(f'Trainer.train: expected num_steps > 0: {num_steps}.')
    step = int(self._train_state.step) if start_step is None else start_step
    manager = self.train_metrics_manager
    manager.start_duration_timer()
    merged, done = None, 0
    while done < num_steps and not (done and self._stops(step + done)):
      batch = next(batch_iter, None)
      if batch is None:
        raise errors.UserError(
          f'Trainer.train: the batches ended after {done} of {num_steps} steps,'
          f' at step {step + done}. Let the dataset repeat, or train fewer'
          ' steps.'
        )
      batch = self._partitioner.shard_batch(batch)
      compiled = self._compiled('train', batch)
      seconds = self._steps.seconds.pop('train', None)
      if seconds is not None:
        manager.write_scalar('timing/compilation_seconds', seconds, step + done)
        if not done:
          # Compiling is no part of the steps' time.
          manager.start_duration_timer()
      early = self._settle() if self._guard and self._guard.waits else None
      self._train_state, metrics = compiled(
        self._train_state, batch, self._base_rng
      )
      before = self._settle() if early is None else early
      if done:  # The step before belongs to this call.
        merged = _merged(merged, before)
      done += 1
      self._in_flight = (step + done, metrics, batch)
    parts = [metrics] if merged is None else [merged, metrics]
    if self._summary is not None:
      self._summary.result()  # Done long ago; raises what went wrong there.
    self._summary = manager.write_metrics_summary(parts, step + done, done)
    return ArrayMapFuture(self._summary, self._settle)

  def _stops(self, step: int) -> bool:
    return self.stop_when is not None and self.stop_when(step)

  def _compiled(self, name: str, batch: BatchType) -> Callable[..., Any]:
    """Returns the compiled step for batches of these shapes."""
    compile_step = functools.partial(self._compile, name, batch)
    return self._steps.find(name, batch, compile_step)

  def _compile(self, name: str, batch: BatchType) -> Callable[..., Any]:
    if name == 'eval':
      return self._partitioner.compile(
        self._partitioned_eval_step, self._train_state, batch
      )
    self._check_batch(next(iter(batch.values())).shape[0])
    return self._partitioner.compile(
      self._partitioned_train_step, self._train_state, batch, self._base_rng
    )

  def _placed(self, batch: BatchType) -> BatchType:
    if compiled_steps.are_shapes(batch):
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
    """Takes over the steps that another trainer, made alike, has compiled.

    Args:
      other: one that only compiles. If its state is of other shapes or types
        than this one's, its steps are of no use here, and not taken.
    """
    mine, others = map(
      compiled_steps.described, (self._train_state, other._train_state)
    )
    if mine == others:
      self._steps.take(other._steps)

  def lower_train(self, batch: BatchType) -> jax.stages.Lowered:
    """Traces the training step for batches like this one.

    Args:
      batch: as for `compile_train`.

    Returns:
      What `train` compiles, with its text, and `compile`.

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
    return {
      task: future.result() if future else {}
      for task, future in futures.items()
    }

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
    merged, in_flight, count = None, None, 0
    for batch in batches:
      batch = self._partitioner.shard_batch(batch)
      metrics = self._compiled('eval', batch)(self._train_state, batch)
      merged = _merge(merged, in_flight)
      in_flight, count = metrics, count + 1
    if not count:
      logging.warning(
        'Evaluation task %s gave no batch, so it has no metrics. A batch size'
        ' larger than its number of examples is one cause.',
        task,
      )
      return None
    parts = [part for part in (merged, in_flight) if part is not None]
    return manager.write_metrics_summary(parts, step, count)


def _merge(merged: Any, metrics: Any) -> Any:
  """Reads metrics from the device and adds them."""
  if metrics is None:
    return merged
  return _merged(merged, metrics_lib.to_host(metrics))


def _merged(merged: Any, host: Any) -> Any:
  return host if merged is None else metrics_lib.merge_metrics(merged, host)


class Trainer(BaseTrainer):
  """Trains with a learning-rate schedule, over microbatches if asked to.

  Args:
    model: see `BaseTrainer`, like all that follow up to `rng`.
    train_state: see `BaseTrainer`.
    partitioner: see `BaseTrainer`.
    eval_names: see `BaseTrainer`.
    summary_dir: see `BaseTrainer`.
    train_state_axes: see `BaseTrainer`.
    rng: see `BaseTrainer`.
    learning_rate_fn: step to learning rate. An optax optimizer has its own, and
      takes no notice of this one.
    num_microbatches: the batch is split into so many parts that are computed
      one after the other; None and 1 don't split.
    weight_metrics_computer: if given, adds metrics of each parameter.
    max_skipped_steps: a step whose loss or gradients are not finite is not
      applied, and its examples are written to `non_finite/`; so many of them in
      a row end the run. At 1, each step is waited for before the next is begun.

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
    train_state_axes: Any,
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
    def step(train_state, batch, rng):
      return step_lib.train_with_lr(
        train_state,
        batch,
        learning_rate=self._learning_rate_fn(train_state.step),
        dropout_rng=jax.random.fold_in(rng, train_state.step),
        model=self._model,
        num_microbatches=self._num_microbatches,
        weight_metrics_computer=self._weight_metrics_computer,
        data_partition_spec=self._partitioner.data_partition_spec,
      )

    return self._partitioner.partition(
      step,
      in_axis_resources=(
        self._train_state_axes,
        self._partitioner.data_partition_spec,
        None,
      ),
      out_axis_resources=(self._train_state_axes, None),
      donate_argnums=(0,),
    )

  @property
  def _partitioned_eval_step(self) -> partitioning.PartitionedCallable:
    def step(train_state, batch):
      return step_lib.eval_step(self._model, train_state, batch)

    return self._partitioner.partition(
      step,
      in_axis_resources=(
        self._train_state_axes,
        self._partitioner.data_partition_spec,
      ),
      out_axis_resources=None,
    )
