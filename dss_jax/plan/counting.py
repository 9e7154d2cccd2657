"""Counts FLOPs and memory of a T5's training step by arithmetic.

The FLOPs are those of the model's matrix products, the yardstick of utilisation
(MFU): nothing that is computed again counts, and every position of a packed row
counts as real. Memory and time are rough, good for choosing what to compile.

Axes: B batch, L encoder length, T decoder length, D embedding, H heads, K head
size, F mlp, V vocabulary.
"""

import dataclasses
import math
from collections.abc import Mapping

from dss_jax.plan import hardware

_ACTIVATION = 2  # bytes; bfloat16
_GRADIENT = 4  # bytes; float32
# Of the chip's peak, what large matrix products of a T5 get to.
_EFFICIENCY = 0.8


@dataclasses.dataclass(frozen=True)
class Model:
  """What of a configuration decides about costs.

  Attributes:
    embed: D.
    heads: H.
    head_dim: K.
    mlp: F.
    gates: how many products D x F a feed-forward block starts with.
    encoder_layers: layers of the encoder.
    decoder_layers: layers of the decoder.
    vocab: V.
    inputs: L.
    targets: T.
    parameter_bytes: of all parameters.
    optimizer_bytes: of the optimizer's state.
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

  @property
  def joined(self) -> int:
    """H times K."""
    return self.heads * self.head_dim

  def forward_flops(self) -> tuple[float, float, float]:
    """FLOPs of one row: encoder, decoder, logits."""
    d, joined, length, targets = (
      self.embed,
      self.joined,
      self.inputs,
      self.targets,
    )
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
      encoder * self.encoder_layers,
      decoder * self.decoder_layers,
      float(logits),
    )

  def step_flops(self, rows: int) -> float:
    """Model FLOPs of a training step: forward, and twice that backward."""
    return 3.0 * rows * sum(self.forward_flops())

  def decode_flops(self, rows: int) -> float:
    """Model FLOPs of decoding T tokens of each row.

    Each token looks at all positions of the cache, as it is computed.
    """
    return float(rows) * sum(self.forward_flops())


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A way to lay a step out.

  Attributes:
    partitions: extent of the mesh axis 'model'.
    parameter_dims: 1 splits parameters over 'model', 2 over 'data' as well.
    remat: the network's `remat_policy`.
    microbatches: parts that a batch is computed in.
    rows: B, of the global batch.
  """

  partitions: int
  parameter_dims: int
  remat: str
  microbatches: int
  rows: int

  def gin(self, model_parallel_only: bool = False) -> str:
    """The lines of a gin file that choose this candidate.

    Args:
      model_parallel_only: leaves out what only training reads.
    """
    lines = [
      'from __gin__ import dynamic_registration',
      '',
      'from t5x import partitioning',
      'from t5x import trainer',
      'from t5x.examples.t5 import network',
      '',
      f'partitioning.PjitPartitioner.num_partitions = {self.partitions}',
      'partitioning.PjitPartitioner.logical_axis_rules ='
      ' @partitioning.standard_logical_axis_rules()',
      'partitioning.standard_logical_axis_rules.parameter_partitioning_dims ='
      f' {self.parameter_dims}',
      'network.T5Config.scan_layers = True',
    ]
    if not model_parallel_only:
      microbatches = self.microbatches if self.microbatches > 1 else None
      lines += [
        f"network.T5Config.remat_policy = '{self.remat}'",
        f'trainer.Trainer.num_microbatches = {microbatches}',
      ]
    else:
      lines.remove('from t5x import trainer')
    return '\n'.join(lines) + '\n'


def memory(
  model: Model, candidate: Candidate, chips: int
) -> Mapping[str, float]:
  """Bytes that a chip holds, by kind, as counted.

  Args:
    model: what is trained.
    candidate: how it is laid out.
    chips: how many there are.
  """
  m = candidate.partitions
  data = chips // m
  shards = m * (data if candidate.parameter_dims == 2 else 1)
  rows = candidate.rows / (data * candidate.microbatches)
  gradients = model.parameter_bytes / shards * _GRADIENT / 4
  if candidate.microbatches > 1:
    gradients *= 2  # The sum, and what is added to it.
  return {
    'parameters': model.parameter_bytes / shards,
    'optimizer': model.optimizer_bytes / shards,
    'gradients': gradients,
    'activations': rows * saved_bytes(model, candidate.remat, m),
    'working': _working_bytes(model, candidate, rows),
  }


def saved_bytes(model: Model, remat: str, partitions: int) -> float:
  """Bytes that one row's forward pass keeps for its backward pass, per chip.

  Args:
    model: what is trained.
    remat: 'none', 'minimal' or 'full'.
    partitions: over how many chips heads and mlp are split.
  """
  joined = model.joined / partitions
  mlp = model.gates * model.mlp / partitions
  length, targets, d = model.inputs, model.targets, model.embed
  encoder, decoder = length * d, targets * d  # What a layer starts from.
  if remat != 'full':
    encoder += length * (3 * joined + mlp + 2 * d)
    decoder += targets * (4 * joined + mlp + 3 * d) + length * 2 * joined
  if remat == 'none':
    heads = model.heads / partitions
    encoder += length * (2 * mlp + 6 * d) + 3 * heads * length**2
    decoder += targets * (2 * mlp + 9 * d)
    decoder += 3 * heads * targets * (targets + length)
  return _ACTIVATION * (
    model.encoder_layers * encoder + model.decoder_layers * decoder
  )


def _working_bytes(model: Model, candidate: Candidate, rows: float) -> float:
  """Bytes of what lives for a short time: logits, and one layer's inside."""
  m = candidate.partitions
  logits = rows * model.targets * model.vocab / m * (4 + 4 + 2)
  inside = rows * saved_bytes(
    dataclasses.replace(model, encoder_layers=1, decoder_layers=0), 'none', m
  )
  gathered = 0.0
  if candidate.parameter_dims == 2:
    layer = model.embed * (4 * model.joined + (model.gates + 1) * model.mlp)
    gathered = _ACTIVATION * max(2 * layer, model.vocab * model.embed) / m
  return max(logits, inside) + gathered


def seconds(
  model: Model, candidate: Candidate, topology: hardware.Topology
) -> float:
  """A rough time of a step, for choosing among candidates.

  Args:
    model: what is trained.
    candidate: how it is laid out.
    topology: the chips.
  """
  chip, chips, m = topology.chip, topology.count, candidate.partitions
  data = chips // m
  again = {'none': 0.0, 'minimal': 0.12, 'full': 1.0}[candidate.remat]
  flops = model.step_flops(candidate.rows) * (1 + again / 3) / chips
  compute = flops / (chip.flops * _EFFICIENCY)
  if not chip.link_bandwidth:
    return compute
  # Bytes of bfloat16 parameters that a chip's group shares.
  parameters = model.parameter_bytes / 2 / m * (data - 1) / data
  passes = 3 if candidate.parameter_dims == 2 else 2
  transfers = parameters * passes * candidate.microbatches
  time = transfers / _bandwidth(topology, data)
  if m > 1:
    rows = candidate.rows / data
    sums = 4 if candidate.remat == 'none' else 6
    activations = (
      rows
      * _ACTIVATION
      * model.embed
      * (
        model.inputs * model.encoder_layers * sums
        + model.targets * model.decoder_layers * sums * 1.5
      )
    )
    time += 2 * activations * (m - 1) / m / _bandwidth(topology, m)
  state = (model.parameter_bytes * 2 + model.optimizer_bytes * 2) / (
    m * (data if candidate.parameter_dims == 2 else 1)
  )
  update = state / chip.hbm_bandwidth
  return max(compute, time) + 0.2 * min(compute, time) + update


def decode_seconds(
  model: Model, candidate: Candidate, topology: hardware.Topology
) -> float:
  """A rough time of decoding a batch, for choosing among candidates.

  Each token reads all parameters, which are gathered for it first where they
  are split over 'data'.

  Args:
    model: what decodes.
    candidate: how it is laid out.
    topology: the chips.
  """
  chip, m = topology.chip, candidate.partitions
  data = topology.count // m
  flops = model.decode_flops(candidate.rows) / topology.count
  weights = model.parameter_bytes * _ACTIVATION / 4 / m
  token = weights / chip.hbm_bandwidth
  if chip.link_bandwidth and candidate.parameter_dims == 2:
    token += weights * (data - 1) / data / _bandwidth(topology, data)
  if chip.link_bandwidth and m > 1:
    sums = 3 * model.decoder_layers * model.embed * candidate.rows / data
    token += 2 * _ACTIVATION * sums * (m - 1) / m / _bandwidth(topology, m)
  return flops / (chip.flops * _EFFICIENCY) + model.targets * token


def _bandwidth(topology: hardware.Topology, chips: int) -> float:
  """Bytes/s of a group of so many neighbours."""
  place, left = [], chips
  for extent in topology.extents:
    part = math.gcd(extent, left)
    left //= part
    place.append(part)
  links = 0.0
  for axis, part in enumerate(place):
    if part > 1:
      ring = part == topology.extents[axis] and not (
        part % topology.chip.wraps_at
      )
      links += 2 if ring else 1
  return max(links, 1) * topology.chip.link_bandwidth
