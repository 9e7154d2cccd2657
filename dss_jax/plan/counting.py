"""FLOPs, memory and time of a T5's training step, by arithmetic.

The FLOPs are those of the model's matrix products, the basis of utilization
(MFU): recomputation doesn't count, and every position of a packed row counts as
real. Memory and time are rough, good enough to choose what to compile.

Axes: B batch, L encoder length, T decoder length, D embedding, H heads, K head
size, F mlp, V vocabulary.
"""

import dataclasses
import math
from collections.abc import Mapping

from dss_jax.plan import hardware

_ACTIVATION = 2  # bytes; bfloat16
_GRADIENT = 4  # bytes; float32
# The part of the chip's peak that large matrix products of a T5 reach.
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

  def forward_flops(self) -> float:
    """FLOPs of one row."""
    d, joined = self.embed, self.joined
    length, targets = self.inputs, self.targets
    mlp = 2 * d * self.mlp * (self.gates + 1)
    attention = 2 * d * joined * 4
    encoder = length * (attention + mlp) + 4 * length**2 * joined
    decoder = (
      targets * (attention + attention / 2 + mlp)
      + length * attention / 2  # Keys and values of the encoder's outputs.
      + 4 * targets * (targets + length) * joined
    )
    logits = 2 * targets * d * self.vocab
    return (
      encoder * self.encoder_layers + decoder * self.decoder_layers + logits
    )

  def saved_bytes(self, remat: str, partitions: int) -> float:
    """Bytes on each chip that a row's forward pass keeps for the backward one.

    Args:
      remat: 'none', 'minimal' or 'full'.
      partitions: over how many chips heads and mlp are split.
    """
    joined = self.joined / partitions
    mlp = self.gates * self.mlp / partitions
    length, targets, d = self.inputs, self.targets, self.embed
    # The input of a layer.
    encoder: float = length * d
    decoder: float = targets * d
    if remat != 'full':
      encoder += length * (3 * joined + mlp + 2 * d)
      decoder += targets * (4 * joined + mlp + 3 * d) + length * 2 * joined
    if remat == 'none':
      heads = self.heads / partitions
      encoder += length * (2 * mlp + 6 * d) + 3 * heads * length**2
      decoder += targets * (2 * mlp + 9 * d)
      decoder += 3 * heads * targets * (targets + length)
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
  """

  partitions: int
  parameter_dims: int
  remat: str
  microbatches: int
  rows: int

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
      'network.T5Config.scan_layers = True',
    ]
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
    if self.decode:
      return self._decode_seconds(candidate)
    model, chip, m = self.model, self.topology.chip, candidate.partitions
    data = self.topology.count // m
    again = {'none': 0.0, 'minimal': 0.12, 'full': 1.0}[candidate.remat]
    flops = self.flops(candidate.rows) * (1 + again / 3) / self.topology.count
    compute = flops / (chip.flops * _EFFICIENCY)
    if not chip.link_bandwidth:
      return compute
    # Bytes of a bfloat16 parameter that are shared over 'data'.
    shared = _ACTIVATION / m * (data - 1) / data
    if candidate.parameter_dims == 2:
      # Gathered for both passes; gradients are summed once.
      transfers = (2 * model.count + model.trained_count) * shared
    else:
      transfers = 2 * model.trained_count * shared
    transfers *= candidate.microbatches
    time = transfers / self._bandwidth(data)
    if m > 1:
      rows = candidate.rows / data
      sums = 4 if candidate.remat == 'none' else 6
      positions = (
        model.inputs * model.encoder_layers * sums
        + model.targets * model.decoder_layers * sums * 1.5
      )
      activations = rows * _ACTIVATION * model.embed * positions
      time += 2 * activations * (m - 1) / m / self._bandwidth(m)
    state = (model.parameter_bytes * 2 + model.optimizer_bytes * 2) / (
      self._shards(candidate)
    )
    update = state / chip.hbm_bandwidth
    return max(compute, time) + 0.2 * min(compute, time) + update

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
