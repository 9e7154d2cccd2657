"""Inference: batches of many lengths through compiled steps, and results."""

# fmt: off
from t5x.inference import results
from t5x.inference.batched import (
  InferFnCallable, InferStepCallable, get_infer_fn, infer_step,
)
from t5x.inference.evaluator import InferenceEvaluator

__all__ = (
  'InferFnCallable', 'InferStepCallable', 'InferenceEvaluator', 'get_infer_fn',
  'infer_step', 'results',
)
