"""Training steps: computed, compiled, guarded and reported."""

# fmt: off
from t5x.trainer.actions import (
  ActionMapType, ActionMode, BaseAction, EarlyStoppingAction, PreemptionError,
  TerminateOnNanAction,
)
from t5x.trainer.compile_ahead import CompileAhead
from t5x.trainer.metrics_manager import MetricsManager
from t5x.trainer.non_finite import SKIPPED, NonFiniteError, NonFiniteGuard
from t5x.trainer.step import (
  WeightMetricsComputer, accumulate_grads_microbatched, apply_grads, eval_step,
  train_with_lr,
)
from t5x.trainer.trainer import (
  ArrayMapFuture, BaseTrainer, BaseTrainerConstructor, BatchType,
  LearningRateCallable, MetricValues, Trainer,
)

__all__ = (
  'SKIPPED', 'ActionMapType', 'ActionMode', 'ArrayMapFuture', 'BaseAction',
  'BaseTrainer', 'BaseTrainerConstructor', 'BatchType', 'CompileAhead',
  'EarlyStoppingAction', 'LearningRateCallable', 'MetricValues',
  'MetricsManager', 'NonFiniteError', 'NonFiniteGuard', 'PreemptionError',
  'TerminateOnNanAction', 'Trainer', 'WeightMetricsComputer',
  'accumulate_grads_microbatched', 'apply_grads', 'eval_step', 'train_with_lr',
)
