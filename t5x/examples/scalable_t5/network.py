"""The T5 encoder-decoder as T5X's scalable_t5 has it.

It is the network of `t5x.examples.t5` with options: layers run in a loop, each
with relative position biases of its own, and parameters have the names, shapes
and axes that checkpoints of scalable_t5 have.
"""

from flax import struct

from t5x.examples.t5 import network
from t5x.examples.t5.network import (
  Decoder,
  DecoderLayer,
  Encoder,
  EncoderLayer,
)

__all__ = [
  'Decoder',
  'DecoderLayer',
  'Encoder',
  'EncoderLayer',
  'T5Config',
  'Transformer',
]


@struct.dataclass
class T5Config(network.T5Config):
  """Dimensions and options of a scalable T5.

  Attributes are those of `t5x.examples.t5.network.T5Config`; some have other
  defaults. `scan_layers`, `param_scan_axis` and `remat_policy` are T5X's.
  """

  scan_layers: bool = True
  param_scan_axis: int = 1
  scalable_names: bool = True
  relative_bias_per_layer: bool = True


class Transformer(network.Transformer):
  """The T5 encoder-decoder; see `t5x.examples.t5.network.Transformer`.

  Parameters (n layers): `encoder/encoder/<parameter of a layer>` and
  `decoder/decoder/…`, with the layers along axis `param_scan_axis`, so [D, n,
  H, K] for a query and [H, n, buckets] for `relpos_bias/rel_embedding`.
  Without `scan_layers`: `encoder/layers_0/…`.
  """

  config: T5Config
