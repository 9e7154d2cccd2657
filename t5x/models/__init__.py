"""Models: what computes losses, predictions and scores of batches."""

# fmt: off
from t5x.models.base import (
  BaseModel, BaseTransformerModel, Batch, DecodeFnCallable, DecoderParams,
  LazySeqioConverter, MetricsMap, Params, PyTree, PyTreeDef, Vocabulary,
  compute_base_metrics,
)
from t5x.models.encoder_decoder import (
  DecoderOnlyModel, EncoderDecoderModel, get_input_vocabulary,
  get_output_vocabulary,
)

__all__ = (
  'BaseModel', 'BaseTransformerModel', 'Batch', 'DecodeFnCallable',
  'DecoderOnlyModel', 'DecoderParams', 'EncoderDecoderModel',
  'LazySeqioConverter', 'MetricsMap', 'Params', 'PyTree', 'PyTreeDef',
  'Vocabulary', 'compute_base_metrics', 'get_input_vocabulary',
  'get_output_vocabulary',
)
