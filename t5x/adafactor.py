"""Adafactor, under T5X's name for it."""

from t5x.optimizers.adafactor import (
  HEURISTIC_RULE,
  Adafactor,
  FactorDim,
  FactorRule,
  HeuristicRule,
  HParamMap,
  standard_logical_factor_rules,
)

__all__ = (
  'HEURISTIC_RULE',
  'Adafactor',
  'FactorDim',
  'FactorRule',
  'HParamMap',
  'HeuristicRule',
  'standard_logical_factor_rules',
)
