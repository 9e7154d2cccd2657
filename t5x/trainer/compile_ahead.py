"""Compilation of the training step while the state is being made or read."""

import concurrent.futures
from collections.abc import Callable, Mapping

import jax
from absl import logging

from t5x.trainer import trainer as trainer_lib


class CompileAhead:
  """Compiles in a thread, for a trainer that is made later.

  A large model's checkpoint takes minutes to read, and its step minutes to
  compile; a run that resumes after a preemption waits for the longer of them.

  Args:
    make_trainer: makes a trainer of shapes alone; see `BaseTrainer`.
    batch: shapes of a global batch.
  """

  def __init__(
    self,
    make_trainer: Callable[[], trainer_lib.BaseTrainer],
    batch: Mapping[str, jax.ShapeDtypeStruct],
  ):
    self._make_trainer = make_trainer
    self._batch = batch
    self._trainer: trainer_lib.BaseTrainer | None = None
    self._compiled: concurrent.futures.Future | None = None

  def begin(self) -> None:
    """Begins to compile, unless it has begun already.

    Tracing the step holds Python's lock, and two threads that trace are slower
    than one after the other: call this when everything else is traced.
    """
    if self._compiled is not None or _may_deadlock():
      return
    try:
      trainer = self._make_trainer()
    except (AttributeError, TypeError) as error:
      # A user's own trainer that reads the state's values.
      logging.warning(
        'The training step is compiled only after the state is made: %s', error
      )
      return
    if not isinstance(trainer, trainer_lib.BaseTrainer):
      return
    self._trainer = trainer
    executor = concurrent.futures.ThreadPoolExecutor(1, 'compile-ahead')
    self._compiled = executor.submit(trainer.compile_train, self._batch)
    executor.shutdown(wait=False)

  def give_to(self, trainer: trainer_lib.BaseTrainer) -> None:
    """Waits for the compilation, and hands the step to the run's own trainer.

    Raises:
      errors.UserError: if the batch can't be split.
    """
    if self._compiled is None or self._trainer is None:
      return
    self._compiled.result()
    trainer.take_compiled(self._trainer)
    self._trainer.close()


def _may_deadlock() -> bool:
  """Whether compiling in a thread may wait for other processes forever.

  XLA tunes kernels by running some on each process's GPU. While the processes
  also run programs together, no order of the two is safe.
  """
  return jax.default_backend() == 'gpu' and jax.process_count() > 1
