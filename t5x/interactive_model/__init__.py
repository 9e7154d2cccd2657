"""Training, predicting and evaluating from a notebook."""

from t5x.interactive_model.model import InferenceType, InteractiveModel

__all__ = ('InferenceType', 'InteractiveModel')
