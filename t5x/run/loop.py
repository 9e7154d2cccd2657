"""Training loop: trains up to the next thing that is due, then does it."""

import contextlib
import dataclasses
import gc
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import seqio
import tensorflow as tf

from t5x import checkpoints, data, inference
from t5x import train_state as train_state_lib
from t5x import trainer as trainer_lib
from t5x.run import identity, preemption
from t5x.run import progress as progress_lib

CheckpointManager = (
  checkpoints.OrbaxCheckpointManagerInterface | checkpoints.Checkpointer
)
Actions = Mapping[trainer_lib.ActionMode, Sequence[trainer_lib.BaseAction]]


@dataclasses.dataclass(frozen=True)
class Periods:
  """Steps at which something is due; a period of 0 is due at the end alone.

  `Periods(stats=4, evaluate=6, save=0).next_stop(4, end=10)` is 6.
  """

  stats: int
  evaluate: int
  save: int
  save_steps: frozenset[int] = frozenset()
  gc: int = 0

  def next_stop(self, step: int, end: int) -> int:
    """Returns the first step after `step` at which anything is due."""
    stops = [end, *(s for s in self.save_steps if s > step)]
    for period in (self.stats, self.evaluate, self.save, self.gc):
      if period:
        stops.append(step - step % period + period)
    return min(stops)

  def due(self, name: str, step: int, end: int) -> bool:
    """Whether the thing called `name` is due at `step`."""
    period = getattr(self, name)
    explicit = name == 'save' and step in self.save_steps
    return explicit or step == end or bool(period and step % period == 0)


def run_actions(
  mode: trainer_lib.ActionMode,
  actions: Actions,
  train_state: train_state_lib.TrainState,
  metrics_by_task: Mapping[str, Mapping[str, Any]],
) -> bool:
  """Runs the actions of a mode; returns whether one asks the run to stop."""
  return any(
    # A list, since every action has to run, whatever the first one returns.
    [
      action.run(train_state, metrics_by_task)
      for action in actions.get(mode, ())
    ]
  )


@dataclasses.dataclass(frozen=True)
class _PendingEvaluation:
  """An evaluation whose metrics may still be computed.

  Attributes:
    step: what is evaluated.
    metrics: gives the metrics, or raises what computing them raised.
  """

  step: int
  metrics: seqio.evaluation.AllMetricsFuture


@dataclasses.dataclass(kw_only=True)
class TrainLoop:
  """Trains from the state's step to the last one.

  Attributes:
    trainer: holds the state and steps it.
    train_iter: batches.
    checkpoint_manager: saves, or None for a run that leaves no checkpoint.
    save_transformations: applied to each state that is saved.
    train_eval: task to dataset on which to measure the loss.
    evaluator: predicts and computes metrics, or None.
    train_state_axes: mesh axes of the state.
    periods: what is due when.
    actions: what to call after which part.
    progress: shows steps and metrics.
    signals: tell when to stop early.
    evaluated: remembers the last step whose evaluation was completed.
  """

  trainer: trainer_lib.BaseTrainer
  train_iter: data.TrainIterator
  checkpoint_manager: CheckpointManager | None
  save_transformations: Sequence[checkpoints.SaveStateTransformationFn]
  train_eval: Mapping[str, tf.data.Dataset]
  evaluator: inference.InferenceEvaluator | None
  train_state_axes: train_state_lib.TrainState
  periods: Periods
  actions: Actions
  progress: progress_lib.Progress
  signals: preemption.StopSignals
  evaluated: identity.Evaluated
  _pending: '_PendingEvaluation | None' = None

  def __post_init__(self) -> None:
    self.trainer.stop_when = self.signals.reached

  def run(self, start: int, end: int, evaluate_first: bool = False) -> int:
    """Trains from step `start` to `end`; returns the last step.

    Raises:
      preemption.Stopped: a signal ended the run earlier. It is saved.
      trainer.NonFiniteError: too many steps in a row were not applied. The
        state from before them is saved.
    """
    position = self.train_iter.get_state()
    # A step that was saved, but not evaluated before the run was interrupted.
    evaluate_first |= self.periods.due('evaluate', start, end) and (
      self.evaluated.is_missing(start)
    )
    with contextlib.ExitStack() as stack:
      if self.periods.gc:  # `_run` collects then, and nothing else does.
        gc.disable()
        stack.callback(gc.enable)
      try:
        step = self._run(start, end, evaluate_first)
      except trainer_lib.NonFiniteError as error:
        self._save_from_before(error.last_good_step, start, position)
        raise
    self._complete_evaluation()
    return step

  def _run(self, start: int, end: int, evaluate_first: bool) -> int:
    step, stopped = start, False
    try:
      if evaluate_first:
        stopped = self._evaluate()
      while step < end and not stopped and not self.signals.reached(step):
        stop = self.periods.next_stop(step, end)
        metrics = self.trainer.train(
          self.train_iter, stop - step, start_step=step
        )
        step = self.signals.stopped_at or stop
        stopped = self._after_training(step, end, metrics)
        # The state is safe before anything slow or fallible happens.
        if stopped or self.periods.due('save', step, end):
          self._save()
        if self.signals.stopped_at is None and (
          stopped or self.periods.due('evaluate', step, end)
        ):
          stopped = self._evaluate() or stopped
        if self.periods.gc and step % self.periods.gc == 0:
          gc.collect()
    except preemption.Interrupted:
      self.signals.reached(step)
    if self.signals.stopped_at is not None:
      saved = self._save() if step > start else None
      self._complete_evaluation()
      raise self.signals.stopped(saved)
    return step

  def _save_from_before(
    self, good: int, start: int, position: Mapping[str, int]
  ) -> None:
    """Saves the state, which is that of step `good` under another number."""
    manager = self.checkpoint_manager
    latest = manager.latest_step() if manager else None
    if good <= start or (latest or 0) >= good:
      return
    self.train_iter.set_state(
      {**position, 'batches': position['batches'] + good - start}
    )
    self._save(self.trainer.train_state.replace_step(jnp.int32(good)))

  def _after_training(
    self, step: int, end: int, metrics: trainer_lib.ArrayMapFuture
  ) -> bool:
    mode = trainer_lib.ActionMode.TRAIN
    if not (self.actions.get(mode) or self.periods.due('stats', step, end)):
      return False
    values = metrics.result()
    self.progress.report(step, progress_lib.scalars(values))
    return self._act(mode, {'train': values})

  def _save(
    self, train_state: train_state_lib.TrainState | None = None
  ) -> str | None:
    """Saves the state, by default the trainer's; returns the folder."""
    if self.checkpoint_manager is None:
      return None
    # A run that resumes here would never evaluate the steps before.
    self._complete_evaluation()
    self.progress.phase('saving')
    state = self.trainer.train_state if train_state is None else train_state
    self.checkpoint_manager.save(
      state, state_transformation_fns=self.save_transformations, force=True
    )
    return checkpoints.get_checkpoint_dir(
      self.checkpoint_manager.directory, int(state.step)
    )

  def _evaluate(self) -> bool:
    """Measures the loss and the metrics; returns whether to stop."""
    self._complete_evaluation()
    step = int(self.trainer.train_state.step)
    with self.signals.interruptible():
      stopped = self._evaluate_all()
    if self._pending is None:
      self.evaluated.remember(step)
    return stopped

  def _complete_evaluation(self) -> None:
    """Waits for the last evaluation's metrics; only then it counts as done."""
    pending, self._pending = self._pending, None
    if pending is not None:
      pending.metrics.result()
      self.evaluated.remember(pending.step)

  def _evaluate_all(self) -> bool:
    stopped = False
    self.progress.phase('evaluating')
    if self.train_eval:
      by_task = self.trainer.eval(
        {k: v.as_numpy_iterator() for k, v in self.train_eval.items()}
      )
      stopped = self._act(trainer_lib.ActionMode.TRAIN_EVAL, by_task)
    if self.evaluator is not None and self.evaluator.eval_tasks:
      state = self.trainer.train_state
      with self.progress.evaluation(int(state.step)) as on_rows:
        future = self.evaluator.evaluate(state, self.train_state_axes, on_rows)
      if self.actions.get(trainer_lib.ActionMode.INFER_EVAL):
        metrics = future.result() or {}
        stopped |= self._act(trainer_lib.ActionMode.INFER_EVAL, metrics)
      else:
        self._pending = _PendingEvaluation(int(state.step), future)
    return stopped

  def _act(
    self, mode: trainer_lib.ActionMode, by_task: Mapping[str, Any]
  ) -> bool:
    if not self.actions.get(mode):
      return False
    resolved = {
      task: m.result() if hasattr(m, 'result') else m
      for task, m in by_task.items()
    }
    return run_actions(mode, self.actions, self.trainer.train_state, resolved)
