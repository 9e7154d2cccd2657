"""FLOPs, memory and time of a T5's training step, by arithmetic.

The FLOPs are those of the model's matrix products, the basis of utilization
(MFU): recomputation doesn't count, and every position of a packed row counts as
real. Memory and time are rough, good enough to choose what to compile.

Axes: B batch, L encoder length, T decoder length, D embedding, H heads, K head
size, F mlp, V vocabulary.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from dss_jax.plan import hardware, traffic

_ACTIVATION = 2  # bytes; bfloat16
_GRADIENT = 4  # bytes; float32
# The part of the chip's peak that matrix products of decoding reach.
_EFFICIENCY = 0.8


@dataclasses.dataclass(frozen=True)
class Model:
  """The part of a configuration that determines costs.

  Attributes:
    embed: D.
    heads: H.
    head_dim: K.
    mlp: F.
    gates: the number of D x F products that a feed-forward block starts with.
    encoder_layers: layers of the encoder.
    decoder_layers: layers of the decoder.
    vocab: V.
    inputs: L.
    targets: T.
    parameter_bytes: of all parameters.
    optimizer_bytes: of the optimizer's state.
    parameters: how many there are; None if all are of float32.
    trained: how many of them are trained; None for all.
  """

  embed: int
  heads: int
  head_dim: int
  mlp: int
  gates: int
  encoder_layers: int
  decoder_layers: int
  vocab: int
  inputs: int
  targets: int
  parameter_bytes: int
  optimizer_bytes: int
  parameters: int | None = None
  trained: int | None = None

  @property
  def count(self) -> int:
    """Number of parameters."""
    return self.parameters or self.parameter_bytes // 4

  @property
  def trained_count(self) -> int:
    """Number of parameters that have gradients."""
    return self.count if self.trained is None else self.trained

  @property
  def joined(self) -> int:
    """H times K."""
    return self.heads * self.head_dim

  @property
  def weights(self) -> tuple[int, int]:
    """Attention's weights of a row in a layer of encoder and of decoder."""
    length, targets = self.inputs, self.targets
    return self.heads * length**2, self.heads * targets * (targets + length)

  def attention_flops(self) -> float:
    """FLOPs of one row's products of activations with each other."""
    encoder, decoder = self.weights
    each = 4 * self.head_dim
    return each * (
      encoder * self.encoder_layers + decoder * self.decoder_layers
    )

  def forward_flops(self) -> float:
    """FLOPs of one row."""
    d, joined = self.embed, self.joined
    length, targets = self.inputs, self.targets
    mlp = 2 * d * self.mlp * (self.gates + 1)
    attention = 2 * d * joined * 4
    encoder = length * (attention + mlp)
    decoder = (
      targets * (attention + attention / 2 + mlp)
      + length * attention / 2  # Keys and values of the encoder's outputs.
    )
    logits = 2 * targets * d * self.vocab
    layers = encoder * self.encoder_layers + decoder * self.decoder_layers
    return layers + self.attention_flops() + logits

  def passed_bytes(self, scan: bool, remat: str, partitions: int) -> float:
    """Bytes of memory traffic of a row that no matrix product hides.

    Args:
      scan: whether layers are in a loop.
      remat: of `traffic.PASSES`.
      partitions: over how many chips heads, mlp and vocabulary are split.
    """
    passes = traffic.PASSES[scan, remat]
    encoder_weights, decoder_weights = self.weights
    # The decoder has three blocks to the encoder's two.
    encoder = passes.weights * encoder_weights / partitions
    encoder += passes.hidden * self.inputs * self.embed
    encoder += passes.inner * self.inputs * self.mlp / partitions
    decoder = passes.weights * decoder_weights / partitions
    decoder += passes.hidden * self.targets * self.embed * 1.5
    decoder += passes.inner * self.targets * self.mlp / partitions
    layers = encoder * self.encoder_layers + decoder * self.decoder_layers
    logits = self.targets * self.vocab / partitions
    return _ACTIVATION * layers + 4 * traffic.LOGITS * logits

  @property
  def hidden_bytes(self) -> float:
    """Bytes of the residual streams of a row, in all layers."""
    encoder = self.inputs * self.encoder_layers
    # The decoder has three blocks to the encoder's two.
    decoder = 1.5 * self.targets * self.decoder_layers
    return _ACTIVATION * self.embed * (encoder + decoder)

  def saved_bytes(self, remat: str, partitions: int) -> float:
    """Bytes on each chip that a row's forward pass keeps for the backward one.

    Args:
      remat: of `traffic.PASSES`.
      partitions: over how many chips heads and mlp are split.
    """
    joined = self.joined / partitions
    mlp = self.gates * self.mlp / partitions
    length, targets, d = self.inputs, self.targets, self.embed
    # The input of a layer.
    encoder: float = length * d
    decoder: float = targets * d
    if remat != 'full':
      # The last product of a layer is not needed, but for the next one's input.
      encoder += length * (3 * joined + mlp + d)
      decoder += targets * (4 * joined + mlp + 2 * d) + length * 2 * joined
      # What attention gives.
      encoder += length * joined
      decoder += targets * 2 * joined
    if remat == 'none':
      # That again, as the input of the next product.
      encoder += length * joined
      decoder += targets * 2 * joined
      # What norms and the feed-forward block give to products.
      encoder += length * (self.mlp / partitions + 2 * d)
      decoder += targets * (self.mlp / partitions + 3 * d)
    return _ACTIVATION * (
      self.encoder_layers * encoder + self.decoder_layers * decoder
    )


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A way to lay a step out.

  Attributes:
    partitions: extent of the mesh axis 'model'.
    parameter_dims: 1 splits parameters over 'model', 2 over 'data' as well.
    remat: the network's `remat_policy`.
    microbatches: the parts in which a batch is computed.
    rows: B, of the global batch.
    scan: whether layers are in a loop.
    lengths: L and T, where they are not those of the run.
    row_examples: how many examples a row holds on average, as far as that tells
      candidates apart.
    gather: whether kernels that are split over 'data' are gathered before their
      products.
  """

  partitions: int
  parameter_dims: int
  remat: str
  microbatches: int
  rows: int
  scan: bool = True
  lengths: Sequence[int] | None = None
  row_examples: float = 1.0
  gather: bool = False

  @property
  def examples(self) -> float:
    """Examples of a step."""
    return self.rows * self.row_examples

  def gin(self, decode: bool = False) -> str:
    """Returns the lines of a gin file that choose this candidate.

    Args:
      decode: whether to leave out what only training reads.
    """
    lines = [
      'from __gin__ import dynamic_registration',
      '',
      'from t5x import partitioning',
      *([] if decode else ['from t5x import trainer']),
      'from t5x.examples.t5 import network',
      '',
      f'partitioning.PjitPartitioner.num_partitions = {self.partitions}',
      'partitioning.PjitPartitioner.logical_axis_rules ='
      ' @partitioning.standard_logical_axis_rules()',
      'partitioning.standard_logical_axis_rules.parameter_partitioning_dims ='
      f' {self.parameter_dims}',
      *(
        ['partitioning.standard_logical_axis_rules.gather_kernels = True']
        if self.gather
        else []
      ),
      f'network.T5Config.scan_layers = {self.scan}',
    ]
    if self.lengths:
      inputs, targets = self.lengths
      lines.append(
        f"TASK_FEATURE_LENGTHS = {{'inputs': {inputs}, 'targets': {targets}}}"
      )
    if not decode:
      microbatches = self.microbatches if self.microbatches > 1 else None
      lines += [
        f"network.T5Config.remat_policy = '{self.remat}'",
        f'trainer.Trainer.num_microbatches = {microbatches}',
      ]
    return '\n'.join(lines) + '\n'


@dataclasses.dataclass(frozen=True)
class Workload:
  """What is planned.

  Attributes:
    model: the model.
    topology: the chips.
    decode: whether it decodes a batch instead of training on it.
  """

  model: Model
  topology: hardware.Topology
  decode: bool = False

  def of(self, candidate: Candidate) -> 'Workload':
    """Returns it with a candidate's lengths."""
    if not candidate.lengths:
      return self
    inputs, targets = candidate.lengths
    model = dataclasses.replace(self.model, inputs=inputs, targets=targets)
    return dataclasses.replace(self, model=model)

  def flops(self, rows: int) -> float:
    """Model FLOPs of a batch: forward, and in training twice that backward.

    Of weights that are not trained, backward takes as long as forward.

    In decoding, each of T tokens attends to all positions of the cache, as in
    the program.

    Args:
      rows: B.
    """
    trained = self.model.trained_count / self.model.count
    passes = 1.0 if self.decode else 2.0 + trained
    return passes * rows * self.model.forward_flops()

  def memory(self, candidate: Candidate) -> Mapping[str, float]:
    """Bytes that a chip holds, by kind."""
    if candidate.lengths:
      same = dataclasses.replace(candidate, lengths=None)
      return self.of(candidate).memory(same)
    model, m = self.model, candidate.partitions
    data = self.topology.count // m
    shards = self._shards(candidate)
    rows = candidate.rows / (data * candidate.microbatches)
    gradients = model.trained_count / shards * _GRADIENT
    if candidate.microbatches > 1:
      gradients *= 2  # The sum, and what is added to it.
    activations = rows * model.saved_bytes(candidate.remat, m)
    if self.decode:
      # Keys and values of both attentions of the decoder.
      cache = (
        candidate.rows / data * 2 * 2 * model.decoder_layers * model.joined
      )
      activations = cache / m * (model.inputs + model.targets)
    return {
      'parameters': model.parameter_bytes / shards,
      'optimizer': 0.0 if self.decode else model.optimizer_bytes / shards,
      'gradients': 0.0 if self.decode else gradients,
      'activations': activations,
      'working': self._working_bytes(candidate, rows),
    }

  def _shards(self, candidate: Candidate) -> int:
    """Parts into which parameters are split."""
    both = candidate.parameter_dims == 2
    m = candidate.partitions
    return m * (self.topology.count // m if both else 1)

  def _working_bytes(self, candidate: Candidate, rows: float) -> float:
    """Bytes of short-lived values: logits, and those inside of one layer."""
    model, m = self.model, candidate.partitions
    logits = rows * model.targets * model.vocab / m * (4 + 4 + 2)
    layer = dataclasses.replace(model, encoder_layers=1, decoder_layers=0)
    inside = rows * layer.saved_bytes('none', m)
    gathered = 0.0
    if candidate.parameter_dims == 2:
      weights = model.embed * (4 * model.joined + (model.gates + 1) * model.mlp)
      gathered = _ACTIVATION * max(2 * weights, model.vocab * model.embed) / m
    return max(logits, inside) + gathered

  def seconds(self, candidate: Candidate) -> float:
    """A rough time of a step, for choosing among candidates."""
    if candidate.lengths:
      same = dataclasses.replace(candidate, lengths=None)
      return self.of(candidate).seconds(same)
    if self.decode:
      return self._decode_seconds(candidate)
    model, chip, m = self.model, self.topology.chip, candidate.partitions
    data = self.topology.count // m
    again = {
      'none': 0.0,
      # The product of queries and keys.
      'minimal': model.attention_flops() / 2 / model.forward_flops(),
      'full': 1.0,
    }[candidate.remat]
    flops = self.flops(candidate.rows) * (1 + again / 3) / self.topology.count
    passed = model.passed_bytes(candidate.scan, candidate.remat, m)
    state = (model.parameter_bytes * 2 + model.optimizer_bytes * 2) / (
      self._shards(candidate)
    )
    traffic_bytes = passed * candidate.rows / data + state
    compute = flops / chip.flops + traffic_bytes / chip.hbm_bandwidth
    if not chip.link_bandwidth:
      return compute
    return (
      compute
      + self._parameter_seconds(candidate)
      + self._sum_seconds(candidate)
    )

  def _parameter_seconds(self, candidate: Candidate) -> float:
    """What a step waits for parameters of other chips, and for their sums."""
    model, m = self.model, candidate.partitions
    data = self.topology.count // m
    # Bytes of a bfloat16 parameter that are shared over 'data'.
    shared = _ACTIVATION / m * (data - 1) / data
    # For both passes.
    gathered = 2 * model.count * shared * (candidate.parameter_dims == 2)
    sums = 2 * model.trained_count * shared
    moving = 0.0
    if candidate.gather:
      transfers = traffic.GATHERS * gathered + sums
    elif candidate.parameter_dims == 1:
      transfers = sums
    elif candidate.scan or self.topology.chip.rank > 2:
      # Compiled programs wait for about as much as they transfer, and a chip
      # gets its part of the sums.
      transfers = gathered + sums / 2
    else:
      transfers = traffic.OVERLAPPED * (gathered + sums / 2)
      passed = traffic.MOVING * model.hidden_bytes * candidate.rows / data
      moving = passed / self.topology.chip.hbm_bandwidth
    transfers *= candidate.microbatches
    return transfers / self._bandwidth(data) + moving

  def _sum_seconds(self, candidate: Candidate) -> float:
    """What a step waits for sums of activations over 'model'."""
    model, m = self.model, candidate.partitions
    if m == 1:
      return 0.0
    sums = 4 if candidate.remat == 'none' else 6
    positions = (
      model.inputs * model.encoder_layers * sums
      + model.targets * model.decoder_layers * sums * 1.5
    )
    rows = candidate.rows / (self.topology.count // m)
    activations = rows * _ACTIVATION * model.embed * positions
    return 2 * activations * (m - 1) / m / self._bandwidth(m)

  def _decode_seconds(self, candidate: Candidate) -> float:
    """Each token reads all parameters, gathered first if split over 'data'."""
    model, chip, m = self.model, self.topology.chip, candidate.partitions
    data = self.topology.count // m
    flops = self.flops(candidate.rows) / self.topology.count
    weights = model.count * _ACTIVATION / m
    token = weights / chip.hbm_bandwidth
    if chip.link_bandwidth and candidate.parameter_dims == 2:
      token += weights * (data - 1) / data / self._bandwidth(data)
    if chip.link_bandwidth and m > 1:
      sums = 3 * model.decoder_layers * model.embed * candidate.rows / data
      token += 2 * _ACTIVATION * sums * (m - 1) / m / self._bandwidth(m)
    return flops / (chip.flops * _EFFICIENCY) + model.targets * token

  def _bandwidth(self, chips: int) -> float:
    """Bytes/s of a group of so many neighbors."""
    spans, left = [], chips
    for extent in self.topology.extents:
      spans.append(math.gcd(extent, left))
      left //= spans[-1]
    return self.topology.bandwidth(spans)
