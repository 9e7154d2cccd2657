"""Training, predicting and evaluating from a notebook."""

# fmt: off
from t5x.interactive_model.model import InferenceType, InteractiveModel
from t5x.interactive_model.scripts import (
  T5XScriptType, get_gin_config_from_interactive_model,
)
from t5x.interactive_model.tasks import (
  get_batches_from_seqio, get_dataset_from_natural_text_examples,
  get_seqio_task_from_examples,
)

__all__ = (
  'InferenceType', 'InteractiveModel', 'T5XScriptType',
  'get_batches_from_seqio', 'get_dataset_from_natural_text_examples',
  'get_gin_config_from_interactive_model', 'get_seqio_task_from_examples',
)
