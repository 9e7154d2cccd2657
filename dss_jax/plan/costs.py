"""Costs of a compiled program on one chip, estimated from its text.

Every computation is costed once and multiplied by how often it runs: a loop's
body by the loop's trip count. Times come from replaying the schedule that the
compiler chose: one instruction after the other, while asynchronous copies and
transfers between chips continue in parallel until the program waits for them.

An instruction takes the longer of its matrix FLOPs at the chip's peak and its
traffic at the memory's peak; a transfer takes its bytes at the published rate
of the links that its group of chips can use. So the time is that of a chip that
always runs at its peaks. None of this was measured on one.

Given a clock, an instruction takes the cycles that TPU's compiler expects of
it, if the program says so (`hlo.Instruction.cycles`).
"""

import collections
import dataclasses
import re
from collections.abc import Sequence

from dss_jax.plan import groups, hardware, hlo
from dss_jax.plan import parts as parts_lib

COLLECTIVES = (
  'all-gather', 'reduce-scatter', 'all-reduce', 'all-to-all',
  'ragged-all-to-all', 'collective-permute', 'collective-broadcast',
)  # fmt: skip
# Instructions that do nothing at run time, or that are costed with their users.
_FREE = frozenset((
  'parameter', 'constant', 'get-tuple-element', 'tuple', 'bitcast', 'after-all',
  'partition-id', 'replica-id', 'opt-barrier', 'add-dependency', 'iota',
))  # fmt: skip


@dataclasses.dataclass
class Costs:
  """Costs of one run of a computation, on one chip.

  Attributes:
    seconds: at the chip's peaks.
    flops: of matrix products.
    hbm_bytes: read and written in main memory.
    collective_bytes: kind to bytes that a chip receives from others.
    unknown_loops: loops whose number of trips the text doesn't tell.
    parts: the seconds again, by part of the network and kind of waiting.
  """

  seconds: float = 0.0
  flops: float = 0.0
  hbm_bytes: float = 0.0
  collective_bytes: dict[str, float] = dataclasses.field(default_factory=dict)
  unknown_loops: int = 0
  parts: dict[str, parts_lib.Part] = dataclasses.field(default_factory=dict)

  def add(self, other: 'Costs', times: int = 1) -> None:
    """Adds what runs `times` times, except for its seconds."""
    self.flops += times * other.flops
    self.hbm_bytes += times * other.hbm_bytes
    for kind, size in other.collective_bytes.items():
      self.add_transfer(kind, times * size)
    self.unknown_loops += other.unknown_loops
    for name, part in other.parts.items():
      self.part(name).add(part, times)

  def part(self, name: str) -> parts_lib.Part:
    """Returns the part of a name, to be added to."""
    return self.parts.setdefault(name, parts_lib.Part())

  def add_transfer(self, kind: str, size: float) -> None:
    """Adds bytes that a chip receives."""
    self.collective_bytes[kind] = self.collective_bytes.get(kind, 0.0) + size


class _Replay:
  """A computation that is being replayed: its costs, and what runs beside it.

  Args:
    computation: its instructions are replayed by the caller.
  """

  def __init__(self, computation: hlo.Computation):
    self.computation = computation
    self.costs = Costs()
    self._free: dict[str, float] = collections.defaultdict(float)
    # What was started: when it ends, and as what waiting for it counts.
    self._ends: dict[str, tuple[float, str]] = {}

  def spend(self, name: str, part: parts_lib.Part) -> None:
    """Advances the clock by what belongs to a part of the network."""
    self.costs.seconds += part.seconds
    self.costs.part(name).add(part)

  def run(self, called: Costs, times: int = 1) -> None:
    """Runs another computation, once or several times in a row."""
    self.costs.add(called, times)
    self.costs.seconds += times * called.seconds

  def start(self, name: str, lanes: Sequence[str], seconds: float) -> None:
    """Starts something that runs beside the program, on lanes of its own."""
    begin = max(self.costs.seconds, *(self._free[lane] for lane in lanes))
    for lane in lanes:
      self._free[lane] = begin + seconds
    kind = parts_lib.COPIES if lanes == _COPIES else parts_lib.LINKS
    self._ends[name] = begin + seconds, kind

  def rename(self, old: str, new: str) -> None:
    """Renames what was started, as an 'async-update' does."""
    if old in self._ends:
      self._ends[new] = self._ends.pop(old)

  def wait(self, *names: str) -> None:
    """Waits for what was started under some names."""
    for name in names:
      end, kind = self._ends.pop(name, (0.0, ''))
      waited = end - self.costs.seconds
      if waited > 0:
        self.costs.seconds = end
        self.costs.part(kind).seconds += waited

  def finish(self) -> Costs:
    """Waits for everything that still runs, and returns the costs."""
    self.wait(*list(self._ends))
    return self.costs


# Instructions that read a part of their first operand.
_PARTS = ('slice', 'dynamic-slice', 'gather')
# The lanes on which asynchronous work queues up.
_COPIES = ('copy',)
_LINKS = ('link+', 'link-')
# Kind, bytes that a chip receives, seconds and lanes.
_Transfer = tuple[str, float, float, Sequence[str]]


class Estimator:
  """Costs the computations of a program.

  Args:
    module: the program that one chip runs.
    topology: the chips.
    coordinates: where the chip of each partition is.
    unknown_trips: the number of trips of a loop whose end depends on data.
    clock: cycles per second, to take the compiler's estimates where it has
      written some; 0 for a chip at its peaks throughout.
  """

  def __init__(
    self,
    module: hlo.Module,
    topology: hardware.Topology,
    coordinates: Sequence[Sequence[int]],
    unknown_trips: int = 1,
    clock: float = 0.0,
  ):
    self._module = module
    self._topology = topology
    self._coordinates = coordinates
    self._unknown_trips = unknown_trips
    self._clock = clock
    self._costs: dict[str, Costs] = {}
    self._roles = {name: _role(c) for name, c in module.computations.items()}
    self._started = {
      _channel(each) for role, each in self._roles.values() if role == _START
    }

  def estimate(self) -> Costs:
    """Returns the costs of the program."""
    return self._cost(self._module.entry)

  def _cost(self, name: str) -> Costs:
    if name not in self._costs:
      replay = _Replay(self._module.computations[name])
      for instruction in replay.computation.instructions.values():
        if instruction.opcode not in _FREE:
          self._step(replay, instruction)
      self._costs[name] = replay.finish()
    return self._costs[name]

  def _step(self, replay: _Replay, instruction: hlo.Instruction) -> None:
    opcode = instruction.opcode
    if opcode == 'while':
      self._loop(replay, instruction)
    elif opcode == 'conditional':
      self._branches(replay, instruction)
    elif opcode == 'call':
      replay.run(self._cost(instruction.called('to_apply')))
    elif opcode.endswith('-update'):
      replay.rename(instruction.operands[0], instruction.name)
    elif opcode.endswith('-done'):
      replay.wait(instruction.operands[0])
    elif opcode.endswith('-start'):
      self._start(replay, instruction)
    else:
      self._operation(replay, instruction)

  # ---- Control flow ---------------------------------------------------------

  def _loop(self, replay: _Replay, loop: hlo.Instruction) -> None:
    trips = hlo.trip_count(self._module, replay.computation, loop)
    if trips is None:
      replay.costs.unknown_loops += 1
      trips = self._unknown_trips
    replay.run(self._cost(loop.called('body')), trips)

  def _branches(self, replay: _Replay, instruction: hlo.Instruction) -> None:
    _, listed, names = instruction.attributes.partition('branch_computations={')
    if listed:
      branches = re.findall(r'%?([\w.\-]+)', names.partition('}')[0])
    else:
      kinds = ('true_computation', 'false_computation')
      branches = [instruction.called(kind) for kind in kinds]
    # The slowest one.
    replay.run(max((self._cost(b) for b in branches), key=lambda c: c.seconds))

  # ---- What runs beside the program -----------------------------------------

  def _start(self, replay: _Replay, instruction: hlo.Instruction) -> None:
    opcode = instruction.opcode.removesuffix('-start')
    if opcode in COLLECTIVES:
      self._send(replay, instruction.name, replay.computation, [instruction])
      return
    if opcode == 'async':
      inner = self._module.computations[instruction.called('calls')]
      collectives = [
        i for i in inner.instructions.values() if i.opcode in COLLECTIVES
      ]
      if collectives:
        self._send(replay, instruction.name, inner, collectives)
        return
      # Computation on another unit of the chip; its traffic is what counts.
      called = self._cost(inner.name)
      replay.costs.add(dataclasses.replace(called, parts={}))
      seconds = called.seconds
    else:  # A copy, or a slice, between the memories of the chip.
      size = _moved(instruction)
      replay.costs.hbm_bytes += size
      seconds = size / self._topology.chip.hbm_bandwidth
    replay.start(instruction.name, _COPIES, seconds)

  def _send(
    self,
    replay: _Replay,
    name: str,
    computation: hlo.Computation,
    collectives: Sequence[hlo.Instruction],
  ) -> None:
    """Starts the transfers of a computation's collectives, under one name."""
    seconds = 0.0
    lanes: Sequence[str] = _LINKS
    for collective in collectives:
      kind, size, time, lanes = self._transfer(computation, collective)
      replay.costs.add_transfer(kind, size)
      seconds += time
    replay.start(name, lanes, seconds)

  def _transfer(
    self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> _Transfer:
    kind = instruction.opcode.removesuffix('-start')
    results = sum(s.bytes for s in instruction.shapes if s.dims)
    inputs = sum(
      shape.bytes
      for name in instruction.operands
      for shape in computation.instructions[name].shapes
    )
    if kind == 'collective-permute':
      return self._permute(instruction, inputs)
    ids = groups.first_group(instruction.attributes, len(self._coordinates))
    places = [self._coordinates[i] for i in ids]
    n = max(len(places), 1)
    whole = inputs
    if instruction.opcode == 'all-gather':
      whole = results
    elif kind == 'all-gather':
      # Asynchronous: the result holds the operands as well.
      whole = max(results - inputs, inputs * n)
    size = whole * (n - 1) / n * (2 if kind == 'all-reduce' else 1)
    seconds = size / self._topology.group_bandwidth(places)
    return kind, size, seconds, _LINKS

  def _permute(self, instruction: hlo.Instruction, size: int) -> _Transfer:
    text = instruction.attributes.partition('source_target_pairs=')[2]
    pairs = [(int(a), int(b)) for a, b in re.findall(r'\{(\d+),(\d+)\}', text)]
    at, distance = self._coordinates, self._topology.distance
    hops = max((distance(at[a], at[b]) for a, b in pairs), default=0)
    seconds = size * hops / self._topology.chip.link_bandwidth
    # Each direction has links of its own.
    forward = sum(b > a for a, b in pairs) * 2 >= len(pairs)
    lane = _LINKS[0] if forward else _LINKS[1]
    return 'collective-permute', float(size), seconds, (lane,)

  # ---- What the program itself does -----------------------------------------

  def _operation(self, replay: _Replay, instruction: hlo.Instruction) -> None:
    name = instruction.name
    if instruction.opcode in COLLECTIVES:
      self._send(replay, name, replay.computation, [instruction])
      replay.wait(name)
      return
    inner = self._inner(instruction)
    if inner is not None:
      role, collectives = self._roles[inner.name]
      if role == _START:
        self._send(replay, _channel(collectives), inner, collectives)
        return
      if role == _DONE:
        replay.wait(_channel(collectives))
        return
      if collectives and _channel(collectives) not in self._started:
        # The compiler put the whole transfer into a fusion, with its products.
        self._send(replay, name, inner, collectives)
    computation = replay.computation
    flops, size = hlo.kernel_costs(computation, instruction) or (
      self._flops(computation, instruction),
      self._traffic(computation, instruction),
    )
    replay.costs.flops += flops
    replay.costs.hbm_bytes += size
    chip = self._topology.chip
    products = flops / chip.flops
    part = parts_lib.Part(
      max(products, size / chip.hbm_bandwidth), products, size
    )
    if self._clock and instruction.cycles is not None:
      part.seconds = part.estimated = instruction.cycles / self._clock
    maker = self._maker(computation, instruction)
    replay.spend(parts_lib.name(maker), part)
    replay.wait(name)

  def _maker(
    self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> str:
    """Attributes that name what made an instruction: its matrix product."""
    inner = self._inner(instruction)
    if inner is None:
      return instruction.attributes
    for each in inner.instructions.values():
      if self._flops(inner, each):
        return self._maker(inner, each)
    return instruction.attributes

  def _inner(self, instruction: hlo.Instruction) -> hlo.Computation | None:
    """Returns the computation of a fusion."""
    if instruction.opcode != 'fusion':
      return None
    return self._module.computations[instruction.called('calls')]

  def _flops(
    self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> int:
    inner = self._inner(instruction)
    if inner is None:
      return hlo.matmul_flops(computation, instruction)
    return sum(self._flops(inner, i) for i in inner.instructions.values())

  def _traffic(
    self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> int:
    """Bytes that an instruction reads and writes in main memory."""
    size = 0
    for i, name in enumerate(instruction.operands):
      operand = computation.instructions[name]
      if len(operand.shapes) == 1 and operand.shapes[0].space == 0:
        size += self._read(instruction, i, operand.bytes)
    return size + self._written(computation, instruction)

  def _read(self, instruction: hlo.Instruction, index: int, size: int) -> int:
    """Bytes read of an operand: of a slice, only its part."""
    inner = self._inner(instruction)
    if inner is None:
      if instruction.opcode == 'dynamic-update-slice' and index == 0:
        return 0
      if instruction.opcode in _PARTS and index == 0:
        return min(size, instruction.bytes)
      # Passed on, or moved by a transfer, which is timed on its own.
      if instruction.opcode in ('tuple', *COLLECTIVES):
        return 0
      return size
    name = inner.parameters[index].name
    part = 0
    for user in inner.users(name):
      for i, operand in enumerate(user.operands):
        if operand == name:
          part += self._read(user, i, size)
    return min(size, part)

  def _written(
    self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> int:
    """Bytes written of results: of an update in place, only its part."""
    whole = sum(s.bytes for s in instruction.shapes if s.space == 0)
    inner = self._inner(instruction)
    if inner is None:
      return whole and self._updated(computation, instruction)
    root = inner.instructions[inner.root]
    results = [root]
    if root.opcode == 'tuple':
      results = [inner.instructions[name] for name in root.operands]
    if len(results) != len(instruction.shapes):
      return whole
    return sum(
      self._updated(inner, result)
      for result, shape in zip(results, instruction.shapes, strict=True)
      if shape.space == 0
    )

  def _updated(
    self, computation: hlo.Computation, result: hlo.Instruction
  ) -> int:
    """Bytes that computing a value writes."""
    while result.opcode == 'bitcast':
      result = computation.instructions[result.operands[0]]
    if result.opcode in ('parameter', *COLLECTIVES):
      return 0
    if result.opcode == 'dynamic-update-slice':
      return computation.instructions[result.operands[1]].bytes
    inner = self._inner(result)
    if inner is not None and inner.instructions[inner.root].opcode != 'tuple':
      return self._updated(inner, inner.instructions[inner.root])
    return result.bytes


# TPU's compiler writes an asynchronous all-gather as a fusion that starts it,
# fusions of other work that carry it on (also in a loop), and one that ends it;
# each holds the same collective.
_START, _DONE = 'AsyncCollectiveStart', 'AsyncCollectiveDone'


def _role(inner: hlo.Computation) -> tuple[str | None, list[hlo.Instruction]]:
  """Returns whether a fusion starts or ends a transfer, and its collectives."""
  role, collectives = None, []
  for each in inner.instructions.values():
    if each.opcode.removesuffix('-start') in COLLECTIVES:
      collectives.append(each)
    for target in (_START, _DONE):
      if f'custom_call_target="{target}"' in each.attributes:
        role = target
  return role, collectives


def _channel(collectives: Sequence[hlo.Instruction]) -> str:
  """Returns what the fusions of one transfer have in common."""
  channel = re.search(r'channel_id=\d+', collectives[0].attributes)
  return channel.group(0) if channel else collectives[0].name


def _moved(instruction: hlo.Instruction) -> int:
  """Bytes of an asynchronous copy or slice: those of its destination."""
  sizes = [shape.bytes for shape in instruction.shapes if shape.dims]
  # copy-start is (destination, source, …), slice-start ((source), result, …).
  return min(sizes[:2], default=0)
