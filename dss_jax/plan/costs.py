"""Estimates what a compiled program costs on one chip, from its text.

Every computation is costed once and multiplied by how often it runs: a loop's
body by the loop's trip count. Times come from replaying the schedule that the
compiler chose: one instruction after the other, while asynchronous copies and
transfers between chips go on beside them until the program waits for them.

An instruction takes the longer of its matrix FLOPs at the chip's peak and its
traffic at the memory's peak; a transfer takes its bytes at the published rate
of the links that its group of chips can use. So the time is that of a chip that
always runs at its peaks. Nothing here was measured on one.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence

from dss_jax.plan import hardware, hlo

COLLECTIVES = (
  'all-gather',
  'reduce-scatter',
  'all-reduce',
  'all-to-all',
  'ragged-all-to-all',
  'collective-permute',
  'collective-broadcast',
)
# Instructions that do nothing at run time, or what their users are costed for.
_FREE = frozenset(
  (
    'parameter',
    'constant',
    'get-tuple-element',
    'tuple',
    'bitcast',
    'after-all',
    'partition-id',
    'replica-id',
    'opt-barrier',
    'add-dependency',
    'custom-call',
    'iota',
  )
)


@dataclasses.dataclass
class Costs:
  """Of one run of a computation, on one chip.

  Attributes:
    seconds: at the chip's peaks.
    flops: of matrix products.
    hbm_bytes: read and written in main memory.
    collective_bytes: kind to bytes that a chip takes in from others.
    unknown_loops: loops whose number of trips the text doesn't tell.
  """

  seconds: float = 0.0
  flops: float = 0.0
  hbm_bytes: float = 0.0
  collective_bytes: dict[str, float] = dataclasses.field(default_factory=dict)
  unknown_loops: int = 0

  def add(self, other: 'Costs', times: int = 1) -> None:
    """Adds what runs `times` times; the times are the caller's business."""
    self.flops += times * other.flops
    self.hbm_bytes += times * other.hbm_bytes
    for kind, size in other.collective_bytes.items():
      self.add_transfer(kind, times * size)
    self.unknown_loops += other.unknown_loops

  def add_transfer(self, kind: str, size: float) -> None:
    """Adds bytes that a chip takes in."""
    self.collective_bytes[kind] = self.collective_bytes.get(kind, 0.0) + size


class _Timeline:
  """When things end."""

  def __init__(self):
    self.now = 0.0
    self._free: dict[str, float] = collections.defaultdict(float)
    self._ends: dict[str, float] = {}

  def start(self, name: str, lanes: Sequence[str], seconds: float) -> None:
    """Begins something that goes on beside the program, on lanes of its own."""
    begin = max(self.now, *(self._free[lane] for lane in lanes))
    for lane in lanes:
      self._free[lane] = begin + seconds
    self._ends[name] = begin + seconds

  def wait(self, name: str) -> None:
    """Waits for what was begun under a name."""
    self.now = max(self.now, self._ends.pop(name, 0.0))

  def rename(self, old: str, new: str) -> None:
    """A step in between ('async-update') hands the wait on."""
    if old in self._ends:
      self._ends[new] = self._ends.pop(old)

  def wait_for_all(self) -> None:
    """Waits for what is still under way."""
    self.now = max(self.now, *self._ends.values(), 0.0)


# Instructions that read a part of their first operand.
_PARTS = ('slice', 'dynamic-slice', 'gather')
# What asynchronous work takes turns on.
_COPIES = ('copy',)
_LINKS = ('link+', 'link-')


class Estimator:
  """Costs the computations of a program.

  Args:
    module: the program that one chip runs.
    topology: the chips.
    coordinates: where the chip of each partition sits.
    unknown_trips: what to take for a loop whose end depends on data.
  """

  def __init__(
    self,
    module: hlo.Module,
    topology: hardware.Topology,
    coordinates: Sequence[Sequence[int]],
    unknown_trips: int = 1,
  ):
    self._module = module
    self._topology = topology
    self._coordinates = coordinates
    self._unknown_trips = unknown_trips
    self._known: dict[str, Costs] = {}
    self._roles = {
      name: _role(computation)
      for name, computation in module.computations.items()
    }
    self._started = {
      _channel(found) for role, found in self._roles.values() if role == _START
    }

  def estimate(self) -> Costs:
    """Returns the costs of the program."""
    return self._cost(self._module.entry)

  def _cost(self, name: str) -> Costs:
    if name not in self._known:
      self._known[name] = self._replay(self._module.computations[name])
    return self._known[name]

  def _replay(self, computation: hlo.Computation) -> Costs:
    costs = Costs()
    clock = _Timeline()
    for instruction in computation.instructions.values():
      if instruction.opcode not in _FREE:
        self._step(computation, instruction, costs, clock)
    clock.wait_for_all()
    costs.seconds = clock.now
    return costs

  def _step(self, computation, instruction, costs, clock) -> None:
    opcode = instruction.opcode
    if opcode == 'while':
      self._loop(computation, instruction, costs, clock)
    elif opcode == 'conditional':
      self._branches(instruction, costs, clock)
    elif opcode == 'call':
      self._call(instruction.called('to_apply'), costs, clock)
    elif opcode.endswith('-update'):
      clock.rename(instruction.operands[0], instruction.name)
    elif opcode.endswith('-done'):
      clock.wait(instruction.operands[0])
    elif opcode.endswith('-start'):
      self._start(computation, instruction, costs, clock)
    else:
      self._operation(computation, instruction, costs, clock)

  # ---- Control flow ---------------------------------------------------------

  def _loop(self, computation, loop, costs, clock) -> None:
    trips = hlo.trip_count(self._module, computation, loop)
    if trips is None:
      costs.unknown_loops += 1
      trips = self._unknown_trips
    body = self._cost(loop.called('body'))
    costs.add(body, trips)
    clock.now += trips * body.seconds

  def _branches(self, instruction, costs, clock) -> None:
    names = re.search(
      r'branch_computations=\{([^}]*)\}', instruction.attributes
    )
    if names:
      branches = re.findall(r'%?([\w.\-]+)', names.group(1))
    else:
      branches = [
        instruction.called(f'{which}_computation')
        for which in ('true', 'false')
      ]
    # The dearest one.
    worst = max((self._cost(b) for b in branches), key=lambda c: c.seconds)
    costs.add(worst)
    clock.now += worst.seconds

  def _call(self, name, costs, clock) -> None:
    called = self._cost(name)
    costs.add(called)
    clock.now += called.seconds

  # ---- What goes on beside the program --------------------------------------

  def _start(self, computation, instruction, costs, clock) -> None:
    opcode = instruction.opcode.removesuffix('-start')
    if opcode == 'async':
      inner = self._module.computations[instruction.called('calls')]
      found = [
        (inner, i)
        for i in inner.instructions.values()
        if i.opcode in COLLECTIVES
      ]
      if not found:
        # Computation on another unit of the chip; its traffic is what counts.
        called = self._cost(inner.name)
        costs.add(called)
        clock.start(instruction.name, _COPIES, called.seconds)
        return
    elif opcode in COLLECTIVES:
      found = [(computation, instruction)]
    else:  # A copy, or a slice, between the memories of the chip.
      size = _moved(instruction)
      costs.hbm_bytes += size
      seconds = size / self._topology.chip.hbm_bandwidth
      clock.start(instruction.name, _COPIES, seconds)
      return
    self._send(instruction.name, found, costs, clock)

  def _send(self, name, found, costs, clock) -> None:
    """Starts transfers, (computation, collective) pairs, under one name."""
    seconds, lanes = 0.0, _LINKS
    for where, collective in found:
      kind, size, time, lanes = self._transfer(where, collective)
      costs.add_transfer(kind, size)
      seconds += time
    clock.start(name, lanes, seconds)

  def _transfer(self, computation, instruction):
    """Returns kind, bytes a chip takes in, seconds and links of a transfer."""
    kind = instruction.opcode.removesuffix('-start')
    results = [s.bytes for s in instruction.shapes if s.dims]
    inputs = sum(
      shape.bytes
      for name in instruction.operands
      for shape in computation.instructions[name].shapes
    )
    if kind == 'collective-permute':
      return self._permute(instruction, inputs)
    places = self._group(instruction.attributes)
    n = max(len(places), 1)
    # Of an asynchronous one, the result holds its operands as well.
    whole = {'all-gather': max(sum(results) - inputs, inputs * n)}.get(
      kind, inputs
    )
    if instruction.opcode == 'all-gather':
      whole = sum(results)
    size = whole * (n - 1) / n * (2 if kind == 'all-reduce' else 1)
    seconds = size / self._topology.group_bandwidth(places)
    return kind, size, seconds, _LINKS

  def _permute(self, instruction, size):
    pairs = [
      (int(a), int(b))
      for a, b in re.findall(
        r'\{(\d+),(\d+)\}',
        instruction.attributes.partition('source_target_pairs=')[2],
      )
    ]
    hops = max(
      (
        self._topology.distance(self._coordinates[a], self._coordinates[b])
        for a, b in pairs
      ),
      default=0,
    )
    seconds = size * hops / self._topology.chip.link_bandwidth
    # Neighbours to the one and to the other side use links of their own.
    forward = sum(b > a for a, b in pairs) * 2 >= len(pairs)
    lane = _LINKS[0] if forward else _LINKS[1]
    return 'collective-permute', float(size), seconds, (lane,)

  def _group(self, attributes: str) -> list[Sequence[int]]:
    """Places of the chips of the first group of a collective."""
    ids = first_group(attributes, len(self._coordinates))
    return [self._coordinates[i] for i in ids]

  # ---- What the program itself does -----------------------------------------

  def _operation(self, computation, instruction, costs, clock) -> None:
    name = instruction.name
    if instruction.opcode in COLLECTIVES:
      self._send(name, [(computation, instruction)], costs, clock)
      clock.wait(name)
      return
    chip = self._topology.chip
    inner = self._inner(instruction)
    role, collectives = self._roles[inner.name] if inner else (None, [])
    if role == _START:
      found = [(inner, each) for each in collectives]
      self._send(_channel(collectives), found, costs, clock)
      return
    if role == _DONE:
      clock.wait(_channel(collectives))
      return
    flops = self._flops(computation, instruction)
    size = self._traffic(computation, instruction)
    costs.flops += flops
    costs.hbm_bytes += size
    if collectives and _channel(collectives) not in self._started:
      # The compiler put the whole transfer into a fusion, beside its products.
      found = [(inner, each) for each in collectives]
      self._send(name, found, costs, clock)
    clock.now += max(flops / chip.flops, size / chip.hbm_bandwidth)
    clock.wait(name)

  def _inner(self, instruction: hlo.Instruction) -> hlo.Computation | None:
    """What a fusion consists of."""
    if instruction.opcode != 'fusion':
      return None
    return self._module.computations[instruction.called('calls')]

  def _flops(self, computation, instruction) -> float:
    if instruction.opcode != 'fusion':
      return hlo.matmul_flops(computation, instruction)
    inner = self._module.computations[instruction.called('calls')]
    return sum(self._flops(inner, i) for i in inner.instructions.values())

  def _traffic(self, computation, instruction) -> int:
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
      # Handed on, or moved by a transfer, which is timed on its own.
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

  def _written(self, computation, instruction) -> int:
    """Bytes written of results: of an update in place, only its part."""
    inner = self._inner(instruction)
    if inner is None:
      return sum(s.bytes for s in instruction.shapes if s.space == 0) and (
        self._updated(computation, instruction)
      )
    root = inner.instructions[inner.root]
    results = (
      [inner.instructions[name] for name in root.operands]
      if root.opcode == 'tuple'
      else [root]
    )
    if len(results) != len(instruction.shapes):
      return sum(s.bytes for s in instruction.shapes if s.space == 0)
    return sum(
      self._updated(inner, result)
      for result, shape in zip(results, instruction.shapes, strict=True)
      if shape.space == 0
    )

  def _updated(self, computation, result) -> int:
    """Bytes that computing a value takes, of what is written to."""
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


# TPU's compiler writes an asynchronous gathering as a fusion that starts it,
# fusions of other work that carry it on (also in a loop), and one that ends it;
# each holds the same collective.
_START, _DONE = 'AsyncCollectiveStart', 'AsyncCollectiveDone'


def _role(inner: hlo.Computation) -> tuple[str | None, list[hlo.Instruction]]:
  """Whether a fusion starts or ends a transfer; the collectives in it."""
  role, collectives = None, []
  for each in inner.instructions.values():
    if each.opcode.removesuffix('-start') in COLLECTIVES:
      collectives.append(each)
    for target in (_START, _DONE):
      if f'custom_call_target="{target}"' in each.attributes:
        role = target
  return role, collectives


def _channel(collectives: Sequence[hlo.Instruction]) -> str:
  """What the fusions of one transfer have in common."""
  found = re.search(r'channel_id=\d+', collectives[0].attributes)
  return found.group(0) if found else collectives[0].name


def _moved(instruction: hlo.Instruction) -> int:
  """Bytes of an asynchronous copy or slice: those of its destination."""
  sizes = [shape.bytes for shape in instruction.shapes if shape.dims]
  # copy-start is (destination, source, …), slice-start ((source), result, …).
  return min(sizes[:2], default=0)


def first_group(attributes: str, partitions: int) -> list[int]:
  """Members of the first group of a collective's `replica_groups`.

  `{{0,2},{1,3}}` is [0, 2]; `[2,2]<=[2,2]T(1,0)`, which numbers a transposed
  array, is [0, 2] as well; so is `mesh['a'=2,'b'=2] {'a'}`, the chips along a
  mesh axis. Without groups, all partitions form one.

  Args:
    attributes: of the instruction.
    partitions: how many there are.
  """
  text = attributes.partition('replica_groups=')[2]
  lists = re.match(r'\{\{([\d,]*)\}', text)
  if lists:
    return [int(i) for i in lists.group(1).split(',') if i]
  iota = re.match(r'\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', text)
  if iota:
    shape, dims, order = (
      [int(i) for i in (part or '').split(',') if i] for part in iota.groups()
    )
    return _numbered(dims, order)[: shape[-1]]
  named = re.match(r'mesh\[([^\]]*)\]\s*\{([^}]*)\}', text)
  if named:
    return _axis_group(*named.groups())
  return list(range(partitions))


def _axis_group(mesh: str, axes: str) -> list[int]:
  """The first group along mesh axes, or along parts of axes.

  `'a':(2)3` is a part of the axis 'a': if that has 12 places, they are numbered
  as an array [2, 3, 2], of which the part is the middle.
  """
  extents = {n: int(e) for n, e in re.findall(r"'([^']+)'=(\d+)", mesh)}
  parts = {
    name: (int(before or 1), int(size or extents[name]))
    for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes)
  }
  dims, chosen, others = [], [], []
  for name, extent in extents.items():
    before, size = parts.get(name, (extent, 1))
    chosen.append(len(dims) + 1)
    others += [len(dims), len(dims) + 2]
    dims += [before, size, extent // (before * size)]
  members = math.prod(dims[axis] for axis in chosen)
  return _numbered(dims, [*others, *chosen])[:members]


def _numbered(dims: Sequence[int], order: Sequence[int]) -> list[int]:
  """Numbers of an array's elements, in the order of its transposed axes."""
  strides = [1] * len(dims)
  for i in range(len(dims) - 2, -1, -1):
    strides[i] = strides[i + 1] * dims[i + 1]
  numbers = [0]
  for axis in order or range(len(dims)):
    numbers = [
      n + i * strides[axis] for n in numbers for i in range(dims[axis])
    ]
  return numbers
