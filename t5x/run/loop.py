"""The loop of a run: train up to the next thing that is due, then do it."""

import contextlib
import dataclasses
import gc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from t5x import checkpoints, data, inference
from t5x import train_state as train_state_lib
from t5x import trainer as trainer_lib
from t5x.run import identity, preemption
from t5x.run import progress as progress_lib

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
    # A list, since every action has to run, whatever the first one says.
    [
      action.run(train_state, metrics_by_task)
      for action in actions.get(mode, ())
    ]
  )


class TrainLoop:
  """Goes from the state's step to the last one."""

  def __init__(
    self,
    *,
    trainer: trainer_lib.BaseTrainer,
    train_iter: data.TrainIterator,
    checkpoint_manager: Any | None,
    save_transformations: Sequence[Any],
    train_eval: Mapping[str, Any],
    evaluator: inference.InferenceEvaluator | None,
    train_state_axes: train_state_lib.TrainState,
    periods: Periods,
    actions: Actions,
    progress: progress_lib.Progress,
    signals: preemption.StopSignals,
    evaluated: identity.Evaluated,
  ):
    """Takes the parts of a run.

    Args:
      trainer: holds the state and steps it.
      train_iter: batches.
      checkpoint_manager: saves, or None for a run that leaves no checkpoint.
      save_transformations: applied to each state that is saved.
      train_eval: task to dataset on which to measure the loss.
      evaluator: predicts and computes metrics, or None.
      train_state_axes: mesh axes of the state.
      periods: what is due when.
      actions: what to call after which part.
      progress: shows what goes on.
      signals: says when to stop early.
      evaluated: remembers the last step whose evaluation was completed.
    """
    self._trainer = trainer
    self._train_iter = train_iter
    self._manager = checkpoint_manager
    self._save_transformations = save_transformations
    self._train_eval = train_eval
    self._evaluator = evaluator
    self._axes = train_state_axes
    self._periods = periods
    self._actions = actions
    self._progress = progress
    self._signals = signals
    self._evaluated = evaluated
    self._pending_metrics: Any = None
    trainer.stop_when = signals.reached

  def run(self, start: int, end: int, evaluate_first: bool = False) -> int:
    """Trains from step `start` to `end`; returns the last step.

    Raises:
      stopping.Stopped: a signal ended the run earlier. It is saved.
      numerics.NonFiniteError: too many steps in a row were not applied. The
        state from before them is saved.
    """
    position = self._train_iter.get_state()
    # What the run had saved, and had not evaluated when it was cut short.
    evaluate_first |= self._periods.due('evaluate', start, end) and (
      self._evaluated.is_missing(start)
    )
    with self._collecting_garbage_by_steps():
      try:
        step = self._run(start, end, evaluate_first)
      except trainer_lib.NonFiniteError as error:
        self._save_from_before(error.last_good_step, start, position)
        raise
    if self._pending_metrics is not None:
      self._pending_metrics.result()
    return step

  def _run(self, start: int, end: int, evaluate_first: bool) -> int:
    step, stopped = start, False
    try:
      if evaluate_first:
        stopped = self._evaluate()
      while step < end and not stopped and not self._signals.reached(step):
        stop = self._periods.next_stop(step, end)
        metrics = self._trainer.train(
          self._train_iter, stop - step, start_step=step
        )
        step = self._signals.stopped_at or stop
        stopped = self._after_training(step, end, metrics)
        # The state is safe before anything slow or fallible happens.
        if stopped or self._periods.due('save', step, end):
          self._save()
        if self._signals.stopped_at is None and (
          stopped or self._periods.due('evaluate', step, end)
        ):
          stopped = self._evaluate() or stopped
        if self._periods.gc and step % self._periods.gc == 0:
          gc.collect()
    except preemption.Interrupted:
      self._signals.reached(step)
    if self._signals.stopped_at is not None:
      raise self._signals.stopped(self._save() if step > start else None)
    return step

  def _save_from_before(self, good: int, start: int, position: Any) -> None:
    """Saves the state, which is that of step `good` but for its number."""
    latest = self._manager.latest_step() if self._manager else None
    if good <= start or (latest or 0) >= good:
      return
    self._train_iter.set_state(
      {**position, 'batches': position['batches'] + good - start}
    )
    self._save(self._trainer.train_state.replace_step(good))

  def _after_training(self, step: int, end: int, metrics: Any) -> bool:
    mode = trainer_lib.ActionMode.TRAIN
    if not (self._actions.get(mode) or self._periods.due('stats', step, end)):
      return False
    values = metrics.result()
    self._progress.report(step, _scalars(values))
    return run_actions(
      mode, self._actions, self._trainer.train_state, {'train': values}
    )

  def _save(self, train_state: Any = None) -> str | None:
    """Saves the state, by default the trainer's; returns the folder."""
    if self._manager is None:
      return None
    self._progress.phase('saving')
    state = self._trainer.train_state if train_state is None else train_state
    self._manager.save(
      state, state_transformation_fns=self._save_transformations, force=True
    )
    return checkpoints.get_checkpoint_dir(
      self._manager.directory, int(state.step)
    )

  def _evaluate(self) -> bool:
    """Measures the loss and the metrics; returns whether to stop."""
    with self._signals.interruptible():
      stopped = self._evaluate_all()
    self._evaluated.remember(int(self._trainer.train_state.step))
    return stopped

  def _evaluate_all(self) -> bool:
    stopped = False
    self._progress.phase('evaluating')
    if self._train_eval:
      by_task = self._trainer.eval(
        {k: v.as_numpy_iterator() for k, v in self._train_eval.items()}
      )
      stopped = self._act(trainer_lib.ActionMode.TRAIN_EVAL, by_task)
    if self._evaluator is not None and self._evaluator.eval_tasks:
      self._pending_metrics = self._evaluator.evaluate(
        self._trainer.train_state, self._axes
      )
      if self._actions.get(trainer_lib.ActionMode.INFER_EVAL):
        metrics = self._pending_metrics.result() or {}
        stopped |= self._act(trainer_lib.ActionMode.INFER_EVAL, metrics)
    return stopped

  def _act(self, mode: trainer_lib.ActionMode, by_task: Any) -> bool:
    if not self._actions.get(mode):
      return False
    resolved = {
      task: m.result() if hasattr(m, 'result') else m
      for task, m in by_task.items()
    }
    return run_actions(mode, self._actions, self._trainer.train_state, resolved)

  @contextlib.contextmanager
  def _collecting_garbage_by_steps(self) -> Iterable[None]:
    """With a gc period, keeps Python's collector off in between."""
    if not self._periods.gc:
      yield
      return
    gc.disable()
    try:
      yield
    finally:
      gc.enable()


def _scalars(values: Mapping[str, Any]) -> dict[str, float]:
  """Plain numbers out of metric values, other kinds left out."""
  plain = {k: getattr(v, 'value', v) for k, v in values.items()}
  return {
    k: float(v)
    for k, v in plain.items()
    if isinstance(v, (int, float)) or getattr(v, 'ndim', None) == 0
  }


def on_first_process() -> bool:
  """Whether this process is the one that writes and shows."""
  return jax.process_index() == 0
