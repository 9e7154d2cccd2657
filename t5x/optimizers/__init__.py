"""Optimizers and learning rates."""

# fmt: off
from t5x.optimizers.definition import (
  Optimizer, OptimizerDef, OptimizerDefType, OptimizerState,
)
from t5x.optimizers.masters import Float32Masters
from t5x.optimizers.multi import MultiOptimizer
from t5x.optimizers.optax_wrapper import (
  OptaxWrapper, adabelief, adadelta, adafactor_optax, adagrad, adam, adamax,
  adamaxw, adamw, adan, amsgrad, chain, fromage, lamb, lars, lion, nadam,
  nadamw, novograd, radam, rmsprop, sgd, wrap_optax_optimizer, yogi,
)
from t5x.optimizers.partial import PartialOptimizer
from t5x.optimizers.schedules import (
  LearningRateCallable, create_learning_rate_scheduler,
)

__all__ = (
  'Float32Masters', 'LearningRateCallable', 'MultiOptimizer', 'OptaxWrapper',
  'Optimizer', 'OptimizerDef', 'OptimizerDefType', 'OptimizerState',
  'PartialOptimizer', 'adabelief', 'adadelta', 'adafactor_optax', 'adagrad',
  'adam', 'adamax', 'adamaxw', 'adamw', 'adan', 'amsgrad', 'chain',
  'create_learning_rate_scheduler', 'fromage', 'lamb', 'lars', 'lion', 'nadam',
  'nadamw', 'novograd', 'radam', 'rmsprop', 'sgd', 'wrap_optax_optimizer',
  'yogi',
)
