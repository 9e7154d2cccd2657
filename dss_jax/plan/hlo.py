"""Parser of the text of a compiled XLA program.

Only what costs need is kept: for each computation its instructions in schedule
order, with types, operands, attributes and called computations.

    %fusion.1 = bf16[8,128]{1,0:T(8,128)S(1)} fusion(%a, %b), calls=%c, …

is an instruction 'fusion.1' with opcode 'fusion', one shape in memory space 1,
operands ('a', 'b'), and the rest of the line as `attributes`.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

# 'f32', 'bf16', 'f8e4m3fn', 's4', 'c64', …; tokens have no size.
_DTYPE_BITS = re.compile(r'(?:[suc]|b?f)(\d+)')
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
    bits = _DTYPE_BITS.match(self.dtype)
    width = 8 if self.dtype == 'pred' else int(bits.group(1)) if bits else 0
    return math.ceil(math.prod(self.dims) * width / 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of a computation.

  Attributes:
    name: without the percent sign.
    opcode: 'fusion', 'all-gather', ….
    shapes: of the result; several for a tuple, nested ones flattened.
    operands: names, in order.
    attributes: what follows the operands.
    argument: the text in parentheses: a parameter's number, a constant's value,
      or the operands.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  attributes: str
  argument: str

  def called(self, attribute: str) -> str:
    """Name of the computation that an attribute such as 'calls' gives.

    Raises:
      ValueError: the instruction has no such attribute.
    """
    return _group(rf'\b{attribute}=%?([\w.\-]+)', self.attributes)

  @property
  def cycles(self) -> int | None:
    """What TPU's compiler expects it to take; None before it wrote code."""
    found = re.search(r'"estimated_cycles":"(\d+)"', self.attributes)
    return int(found.group(1)) if found else None

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


def _group(pattern: str, text: str) -> str:
  """Returns the group of a pattern that the text must contain."""
  match = re.search(pattern, text)
  if match is None:
    raise ValueError(f'HLO text: expected {pattern!r} in {text[:120]!r}.')
  return match.group(1)


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
  name: str | None = None
  instructions: dict[str, Instruction] = {}
  root: str | None = None
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


class _Traced(NamedTuple):
  """An integer: an element of the computation's parameter plus a constant."""

  element: int | None  # None for the constant alone.
  added: int


class _Values:
  """Looks up integer constants through tuples, copies and additions.

  A loop's values have outer ones, its caller's, with the loop's initial tuple.
  """

  def __init__(
    self,
    computation: Computation,
    outer: '_Values | None' = None,
    initial: str = '',
  ):
    self._computation = computation
    self._outer = outer
    self._initial = initial

  def trace(self, name: str) -> _Traced | None:
    """Returns what a value consists of, or None if it is nothing like that."""
    instruction = self._computation.instructions.get(name)
    if instruction is None:
      return None
    opcode = instruction.opcode
    if opcode == 'constant':
      text = instruction.argument
      return _Traced(None, int(text)) if re.fullmatch(r'-?\d+', text) else None
    if opcode in ('copy', 'bitcast', 'convert'):
      return self.trace(instruction.operands[0])
    if opcode == 'get-tuple-element':
      source = self._computation.instructions[instruction.operands[0]]
      index = int(_group(r'index=(\d+)', instruction.attributes))
      return _Traced(index, 0) if source.opcode == 'parameter' else None
    if opcode in ('add', 'subtract'):
      left, right = (self.trace(n) for n in instruction.operands)
      if left is None or right is None:
        return None
      if left.element is not None:
        right = self._settled(right)
      if right.element is not None:
        left = self._settled(left)
      if right.element is not None:
        if opcode == 'subtract' or left.element is not None:
          return None
        left, right = right, left
      sign = -1 if opcode == 'subtract' else 1
      return _Traced(left.element, left.added + sign * right.added)
    return None

  def _settled(self, traced: _Traced) -> _Traced:
    """Replaces a loop-invariant element by its value."""
    value = self.constant(traced)
    return traced if value is None else _Traced(None, value)

  def constant(self, traced: _Traced | None) -> int | None:
    """Value of what `trace` returned, through the loop's initial tuple."""
    if traced is None or traced.element is None:
      return None if traced is None else traced.added
    if self._outer is None:
      return None
    initial = self._outer.element(self._initial, traced.element)
    value = self._outer.constant(self._outer.trace(initial))
    return None if value is None else value + traced.added

  def element(self, name: str, index: int) -> str:
    """Name of an element of a tuple; '' if it can't be told."""
    instruction = self._computation.instructions.get(name)
    while instruction is not None and instruction.opcode in ('copy', 'bitcast'):
      instruction = self._computation.instructions.get(instruction.operands[0])
    if instruction is None or instruction.opcode != 'tuple':
      return ''
    return instruction.operands[index]


def trip_count(
  module: Module, caller: Computation, loop: Instruction
) -> int | None:
  """Returns how often a loop's body runs; None if its text doesn't tell.

  XLA's own annotation (`known_trip_count`) takes precedence; otherwise the
  condition has to compare a counter, which the body moves by a constant, with a
  constant.

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
  if test.opcode != 'compare':
    return None
  direction = _group(r'direction=(\w+)', test.attributes)
  outer = _Values(caller)
  tested = _Values(condition, outer, loop.operands[0])
  counter, bound = (tested.trace(n) for n in test.operands)
  if counter is None or counter.element is None:
    counter, bound = bound, counter
    turned = {'LT': 'GT', 'LE': 'GE', 'GT': 'LT', 'GE': 'LE'}
    direction = turned.get(direction, direction)
  limit = tested.constant(bound)
  if counter is None or counter.element is None or limit is None:
    return None
  start = tested.constant(counter)
  computed = _Values(body, outer, loop.operands[0])
  moved = computed.trace(computed.element(body.root, counter.element))
  if start is None or moved is None or moved.element != counter.element:
    return None
  return _count(start, limit, moved.added, direction)


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
  """Returns the FLOPs of a 'dot' or 'convolution', 2 per multiply-add; else 0.

  Window positions of a convolution that are in its padding don't count.

  Args:
    computation: the one with the instruction and its operands.
    instruction: any.
  """
  if instruction.opcode not in ('dot', 'convolution'):
    return 0
  left, right = (
    computation.instructions[name].shapes[0].dims
    for name in instruction.operands[:2]
  )
  out = instruction.shapes[0].dims
  attributes = instruction.attributes
  if instruction.opcode == 'dot':
    axes = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', attributes)
    contracted = [int(a) for a in axes.group(1).split(',') if a] if axes else []
    return 2 * math.prod(out) * math.prod(left[a] for a in contracted)
  return _convolution_flops(attributes, left, right, out)


def kernel_costs(
  computation: Computation, instruction: Instruction
) -> tuple[int, int] | None:
  """Returns FLOPs and traffic of a custom call, as far as it says them.

  A kernel of Pallas does, without regard to memory spaces: what is not in main
  memory is no traffic. What says nothing is a mark, and costs nothing.

  Args:
    computation: the one with the instruction and its operands.
    instruction: any; None for those that are no custom calls.
  """
  if instruction.opcode != 'custom-call':
    return None
  text = instruction.attributes.partition('"cost_estimate":{')[2]
  said = dict(re.findall(r'"(\w+)":"(\d+)"', text.partition('}')[0]))
  size = int(said.get('bytes_accessed', 0))
  operands = [computation.instructions[name] for name in instruction.operands]
  for each in (*operands, instruction):
    size -= sum(shape.bytes for shape in each.shapes if shape.space)
  return int(said.get('flops', 0)), max(0, size)


def _convolution_flops(
  attributes: str, left: Sequence[int], right: Sequence[int], out: Sequence[int]
) -> int:
  labels = _group(r'dim_labels=(\w+->\w+)', attributes)
  left_labels, right_labels, out_labels = re.split('_|->', labels)
  window = _window(attributes, len(right_labels) - 2)
  pairs = 1
  for i, options in enumerate(window):
    pairs *= _valid_pairs(
      left[left_labels.index(str(i))], out[out_labels.index(str(i))], options
    )
  # The kernel's input features are those of one feature group, and the result's
  # batch is that of one batch group: both kinds of groups are counted right.
  batch = out[out_labels.index('b')]
  features = out[out_labels.index('f')] * right[right_labels.index('i')]
  return 2 * pairs * batch * features


def _window(attributes: str, rank: int) -> list[dict[str, int]]:
  """Options of a convolution's window for each spatial dimension."""
  window = re.search(r'window=\{([^}]*)\}', attributes)
  options = dict(re.findall(r'(\w+)=(\S+)', window.group(1))) if window else {}
  dimensions: list[dict[str, int]] = [{} for _ in range(rank)]
  for ours, name, default in (
    ('size', 'size', '1'),
    ('stride', 'stride', '1'),
    ('low', 'pad', '0_0'),
    ('base', 'lhs_dilate', '1'),
    ('dilation', 'rhs_dilate', '1'),
  ):
    values = options[name].split('x') if name in options else [default] * rank
    for dimension, value in zip(dimensions, values, strict=True):
      dimension[ours] = int(value.partition('_')[0])  # Of a pad, the low one.
  return dimensions


def _valid_pairs(extent: int, positions: int, window: Mapping[str, int]) -> int:
  """Number of (output, window) positions that read an element of the input."""
  last = (extent - 1) * window['base']
  starts = np.arange(positions) * window['stride'] - window['low']
  count = 0
  for k in range(window['size']):
    at = starts + k * window['dilation']
    is_read = (at >= 0) & (at <= last) & (at % window['base'] == 0)
    count += int(np.count_nonzero(is_read))
  return count
