"""Reads the text of a compiled XLA program.

Only what costs need is kept: for each computation its instructions in the order
of the schedule, with types, operands, attributes and called computations.

    %fusion.1 = bf16[8,128]{1,0:T(8,128)S(1)} fusion(%a, %b), calls=%c, …

is an instruction 'fusion.1' with opcode 'fusion', one shape in memory space 1,
operands ('a', 'b'), and the rest of the line as `attributes`.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence

_BITS = {
  'pred': 8,
  's2': 2,
  'u2': 2,
  's4': 4,
  'u4': 4,
  'f4e2m1fn': 4,
  's8': 8,
  'u8': 8,
  's16': 16,
  'u16': 16,
  'f16': 16,
  'bf16': 16,
  's32': 32,
  'u32': 32,
  'f32': 32,
  's64': 64,
  'u64': 64,
  'f64': 64,
  'c64': 64,
  'c128': 128,
}
_SHAPE = re.compile(r'([a-z][a-z0-9]*)\[([0-9,<=]*)\](\{[^{}]*\})?')
_SPACE = re.compile(r'S\((\d+)\)')
_HEAD = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = ')
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) .*->.*\{$')
_COMMENT = re.compile(r'/\*.*?\*/')


@dataclasses.dataclass(frozen=True)
class Shape:
  """An array's type.

  Attributes:
    dtype: XLA's name of the element type.
    dims: extents.
    space: memory space; 0 is the main memory (HBM).
  """

  dtype: str
  dims: tuple[int, ...]
  space: int = 0

  @property
  def bytes(self) -> int:
    """Size without padding; 0 for tokens and other opaque types."""
    bits = _BITS.get(self.dtype, 8 if self.dtype.startswith('f8') else 0)
    return math.ceil(math.prod(self.dims) * bits / 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of a computation.

  Attributes:
    name: without the percent sign.
    opcode: 'fusion', 'all-gather', ….
    shapes: of the result; several for a tuple, nested ones flattened.
    operands: names, in order.
    attributes: what follows the operands.
    argument: what stands between the parentheses: a parameter's number, a
      constant's value, or the operands.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  attributes: str
  argument: str

  def called(self, attribute: str) -> str | None:
    """Name of the computation that an attribute such as 'calls' gives."""
    found = re.search(rf'\b{attribute}=%?([\w.\-]+)', self.attributes)
    return found.group(1) if found else None

  @property
  def bytes(self) -> int:
    """Size of the result."""
    return sum(shape.bytes for shape in self.shapes)


@dataclasses.dataclass(frozen=True)
class Computation:
  """A named list of instructions.

  Attributes:
    name: without the percent sign.
    instructions: by name, in the order of the schedule.
    root: name of the result.
  """

  name: str
  instructions: Mapping[str, Instruction]
  root: str

  @functools.cached_property
  def parameters(self) -> Mapping[int, Instruction]:
    """Parameters by number."""
    return {
      int(i.argument): i
      for i in self.instructions.values()
      if i.opcode == 'parameter'
    }

  def users(self, name: str) -> list[Instruction]:
    """Instructions that read a value."""
    return [i for i in self.instructions.values() if name in i.operands]


@dataclasses.dataclass(frozen=True)
class Module:
  """A program.

  Attributes:
    computations: by name.
    entry: name of the one that is run.
  """

  computations: Mapping[str, Computation]
  entry: str


def parse_shapes(text: str) -> tuple[Shape, ...]:
  """Returns the arrays of a type, nested tuples flattened.

  `(bf16[2,3]{1,0:S(1)}, f32[])` is a bf16 [2, 3] in space 1 and a scalar.

  Args:
    text: XLA's text of a type.
  """
  shapes = []
  for dtype, dims, layout in _SHAPE.findall(_COMMENT.sub('', text)):
    space = _SPACE.search(layout)
    shapes.append(
      Shape(
        dtype,
        tuple(int(d.removeprefix('<=')) for d in dims.split(',') if d),
        int(space.group(1)) if space else 0,
      )
    )
  return tuple(shapes)


def _closing(text: str, start: int) -> int:
  """Index after the parenthesis that closes the one at `start`."""
  depth = 0
  for i in range(start, len(text)):
    if text[i] == '(':
      depth += 1
    elif text[i] == ')':
      depth -= 1
      if not depth:
        return i + 1
  raise ValueError(f'HLO text: no closing parenthesis in {text[:120]!r}.')


def _parse_instruction(line: str) -> tuple[Instruction, bool] | None:
  head = _HEAD.match(line)
  if not head:
    return None
  rest = line[head.end() :]
  end = _closing(rest, 0) if rest.startswith('(') else rest.index(' ')
  shapes, rest = rest[:end], rest[end:].lstrip()
  opening = rest.index('(')
  end = _closing(rest, opening)
  argument = _COMMENT.sub('', rest[opening + 1 : end - 1])
  instruction = Instruction(
    name=head.group(2),
    opcode=rest[:opening],
    shapes=parse_shapes(shapes),
    operands=tuple(re.findall(r'%([\w.\-]+)', argument)),
    attributes=rest[end:],
    argument=argument.strip(),
  )
  return instruction, bool(head.group(1))


def parse(text: str) -> Module:
  """Parses the text of a module, as XLA dumps it.

  Args:
    text: HLO text.

  Raises:
    ValueError: if it holds no entry computation.
  """
  computations: dict[str, Computation] = {}
  entry = None
  name, instructions, root = None, {}, None
  for line in text.splitlines():
    if name is None:
      head = _COMPUTATION.match(_COMMENT.sub('', line))
      if head:
        name, instructions, root = head.group(2), {}, None
        if head.group(1):
          entry = name
    elif line.startswith('}'):
      computations[name] = Computation(
        name, instructions, root or next(reversed(instructions), '')
      )
      name = None
    else:
      parsed = _parse_instruction(line)
      if parsed:
        instruction, is_root = parsed
        instructions[instruction.name] = instruction
        root = instruction.name if is_root else root
  if entry is None:
    raise ValueError('HLO text: found no ENTRY computation.')
  return Module(computations, entry)


# ---- Loops ------------------------------------------------------------------


class _Values:
  """Looks integer constants up through tuples, copies and additions."""

  def __init__(self, computation: Computation, outer: '_Values | None' = None):
    self.computation = computation
    self._outer = outer  # Values of the caller, and the loop's initial tuple.
    self.initial: str | None = None

  def trace(self, name: str) -> tuple[int | None, int] | None:
    """Returns (element of the parameter or None, constant added to it)."""
    instruction = self.computation.instructions.get(name)
    if instruction is None:
      return None
    opcode = instruction.opcode
    if opcode == 'constant':
      text = instruction.argument
      return (None, int(text)) if re.fullmatch(r'-?\d+', text) else None
    if opcode in ('copy', 'bitcast', 'convert'):
      return self.trace(instruction.operands[0])
    if opcode == 'get-tuple-element':
      source = self.computation.instructions[instruction.operands[0]]
      index = int(re.search(r'index=(\d+)', instruction.attributes).group(1))
      return (index, 0) if source.opcode == 'parameter' else None
    if opcode in ('add', 'subtract'):
      left, right = (self.trace(n) for n in instruction.operands)
      if left is None or right is None:
        return None
      left, right = self._settled(left, right)
      if right[0] is not None:
        if opcode == 'subtract' or left[0] is not None:
          return None
        left, right = right, left
      sign = -1 if opcode == 'subtract' else 1
      return left[0], left[1] + sign * right[1]
    return None

  def _settled(self, left, right):
    """Replaces a loop-invariant element by its value, of two elements."""
    if left[0] is None or right[0] is None:
      return left, right
    value = self.constant(right)
    if value is not None:
      return left, (None, value)
    value = self.constant(left)
    return ((None, value) if value is not None else left), right

  def constant(self, traced: tuple[int | None, int] | None) -> int | None:
    """Value of what `trace` returned, through the loop's initial tuple."""
    if traced is None:
      return None
    index, added = traced
    if index is None:
      return added
    if self._outer is None or self.initial is None:
      return None
    initial = self._outer.element(self.initial, index)
    value = (
      self._outer.constant(self._outer.trace(initial)) if initial else None
    )
    return None if value is None else value + added

  def element(self, name: str, index: int) -> str | None:
    """Name of an element of a tuple."""
    instruction = self.computation.instructions.get(name)
    while instruction is not None and instruction.opcode in ('copy', 'bitcast'):
      instruction = self.computation.instructions.get(instruction.operands[0])
    if instruction is None or instruction.opcode != 'tuple':
      return None
    return instruction.operands[index]


def trip_count(
  module: Module, caller: Computation, loop: Instruction
) -> int | None:
  """How often a loop's body runs; None if its text doesn't tell.

  XLA's own note (`known_trip_count`) counts; else the condition has to compare
  a counter, which the body moves by a constant, with a constant.

  Args:
    module: the program.
    caller: the computation that holds the loop.
    loop: a 'while' instruction.
  """
  known = re.search(r'known_trip_count\D*?"?n"?:\s*"?(\d+)', loop.attributes)
  if known:
    return int(known.group(1))
  condition = module.computations[loop.called('condition')]
  body = module.computations[loop.called('body')]
  test = condition.instructions[condition.root]
  direction = re.search(r'direction=(\w+)', test.attributes)
  if test.opcode != 'compare' or not direction:
    return None
  outer = _Values(caller)
  values = [_Values(condition, outer), _Values(body, outer)]
  for value in values:
    value.initial = loop.operands[0]
  counter, limit = (values[0].trace(n) for n in test.operands)
  direction = direction.group(1)
  if counter is None or counter[0] is None:
    counter, limit = limit, counter
    direction = {'LT': 'GT', 'LE': 'GE', 'GT': 'LT', 'GE': 'LE'}.get(
      direction, direction
    )
  limit = values[0].constant(limit)
  if counter is None or counter[0] is None or limit is None:
    return None
  start = values[0].constant(counter)
  moved_to = values[1].element(body.root, counter[0])
  moved = values[1].trace(moved_to) if moved_to else None
  if start is None or moved is None or moved[0] != counter[0]:
    return None
  return _count(start, limit, moved[1], direction)


def _count(start: int, limit: int, step: int, direction: str) -> int | None:
  distance = limit - start
  if direction in ('GT', 'GE'):
    distance, step = -distance, -step
  if direction in ('LE', 'GE'):
    distance += 1
  if direction == 'NE' and step and distance % step:
    return None
  if direction == 'EQ' or step <= 0:
    return None
  return max(0, math.ceil(distance / step))


# ---- Multiplications --------------------------------------------------------


def matmul_flops(computation: Computation, instruction: Instruction) -> int:
  """FLOPs of a 'dot' or 'convolution', two for each multiply-add; else 0.

  Positions of a convolution's window that lie in its padding don't count.

  Args:
    computation: holds the instruction and its operands.
    instruction: any.
  """
  if instruction.opcode not in ('dot', 'convolution'):
    return 0
  left, right = (
    computation.instructions[name].shapes[0].dims
    for name in instruction.operands[:2]
  )
  out = instruction.shapes[0].dims
  if instruction.opcode == 'dot':
    axes = re.search(
      r'lhs_contracting_dims=\{([\d,]*)\}', instruction.attributes
    )
    contracted = [int(a) for a in axes.group(1).split(',') if a] if axes else []
    return 2 * math.prod(out) * math.prod(left[a] for a in contracted)
  return _convolution_flops(instruction.attributes, left, right, out)


def _convolution_flops(
  attributes: str,
  left: Sequence[int],
  right: Sequence[int],
  out: Sequence[int],
) -> int:
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', attributes)
  left_labels, right_labels, out_labels = labels.groups()
  window = _window(attributes, len(right_labels) - 2)
  pairs = 1
  for i, options in enumerate(window):
    pairs *= _valid_pairs(
      left[left_labels.index(str(i))], out[out_labels.index(str(i))], options
    )
  # The kernel's input features are those of one feature group, and the result's
  # batch that of one batch group: groups of both kinds are counted right.
  batch = out[out_labels.index('b')]
  features = out[out_labels.index('f')] * right[right_labels.index('i')]
  return 2 * pairs * batch * features


def _window(attributes: str, rank: int) -> list[dict[str, int]]:
  """Options of a convolution's window for each spatial dimension."""
  found = re.search(r'window=\{([^}]*)\}', attributes)
  options = dict(re.findall(r'(\w+)=(\S+)', found.group(1))) if found else {}

  def numbers(name, default):
    text = options.get(name)
    return text.split('x') if text else [default] * rank

  pads = [pad.partition('_')[0] for pad in numbers('pad', '0_0')]
  columns = {
    'size': numbers('size', '1'),
    'stride': numbers('stride', '1'),
    'low': pads,
    'base': numbers('lhs_dilate', '1'),
    'dilation': numbers('rhs_dilate', '1'),
  }
  return [
    {name: int(column[i]) for name, column in columns.items()}
    for i in range(rank)
  ]


def _valid_pairs(extent: int, positions: int, window: Mapping[str, int]) -> int:
  """How many (output, window) positions read an element of the input."""
  last = (extent - 1) * window['base']
  count = 0
  for k in range(window['size']):
    # Output o reads at o * stride + k * dilation - low.
    offset = k * window['dilation'] - window['low']
    if window['base'] == 1:
      low = max(0, math.ceil(-offset / window['stride']))
      high = min(positions - 1, (last - offset) // window['stride'])
      count += max(0, high - low + 1)
    else:
      count += sum(
        0 <= at <= last and at % window['base'] == 0
        for at in (o * window['stride'] + offset for o in range(positions))
      )
  return count
