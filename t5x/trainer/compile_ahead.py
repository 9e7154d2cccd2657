"""Compiles the training step while a run's state is still made or read."""

import concurrent.futures
from collections.abc import Callable, Mapping

import jax
from absl import logging

from t5x.trainer import trainer as trainer_lib


class CompileAhead:
  """Compiles in a thread, for a trainer that comes later.

  A large model's checkpoint takes minutes to read, and its step minutes to
  compile; a run that goes on after a pre-emption waits for the longer of them.
  """

  def __init__(
    self,
    make_trainer: Callable[[], trainer_lib.BaseTrainer],
    batch: Mapping[str, jax.ShapeDtypeStruct],
  ):
    """Takes what is to be compiled.

    Args:
      make_trainer: makes a trainer of shapes alone; see `BaseTrainer`.
      batch: shapes of a global batch.
    """
    self._make_trainer = make_trainer
    self._batch = batch
    self._trainer: trainer_lib.BaseTrainer | None = None
    self._compiled: concurrent.futures.Future | None = None

  def begin(self) -> None:
    """Begins to compile, unless that has begun.

    Tracing the step needs Python, and two threads that both do are slower than
    one after the other: let this one wait for what else has to be traced.
    """
    if self._compiled is not None or _may_wait_for_each_other():
      return
    try:
      trainer = self._make_trainer()
    except (AttributeError, TypeError) as error:
      # One of somebody else's that looks at the state's values.
      logging.warning('The step is compiled when the state is there: %s', error)
      return
    if not isinstance(trainer, trainer_lib.BaseTrainer):
      return
    self._trainer = trainer
    executor = concurrent.futures.ThreadPoolExecutor(1, 'compile-ahead')
    self._compiled = executor.submit(trainer.compile_train, self._batch)
    executor.shutdown(wait=False)

  def give_to(self, trainer: trainer_lib.BaseTrainer) -> None:
    """Waits until it is compiled, and hands it to the run's own trainer.

    Raises:
      errors.UserError: if the batch can't be split.
    """
    if self._compiled is None:
      return
    self._compiled.result()
    trainer.take_compiled(self._trainer)
    self._trainer.close()


def _may_wait_for_each_other() -> bool:
  """Whether compiling here may wait for what runs on other processes.

  To compile for a GPU is to try kernels on it; of several processes each tries
  some. While they also run programs together, no order of that is safe.
  """
  return jax.default_backend() == 'gpu' and jax.process_count() > 1
