"""Groups of chips that exchange data, from the attributes of a collective."""

import math
import re
from collections.abc import Sequence

import numpy as np


def first_group(attributes: str, partitions: int) -> list[int]:
  """Returns the members of the first group of a collective's `replica_groups`.

  `{{0,2},{1,3}}` is [0, 2]; `[2,2]<=[2,2]T(1,0)`, which numbers a transposed
  array, is [0, 2] as well; so is `mesh['a'=2,'b'=2] {'a'}`, the chips along a
  mesh axis. Without groups, all partitions form one.

  Args:
    attributes: of the instruction.
    partitions: their number.
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
  dims: list[int] = []
  chosen, others = [], []
  for name, extent in extents.items():
    before, size = parts.get(name, (extent, 1))
    chosen.append(len(dims) + 1)
    others += [len(dims), len(dims) + 2]
    dims += [before, size, extent // (before * size)]
  members = math.prod(dims[axis] for axis in chosen)
  return _numbered(dims, [*others, *chosen])[:members]


def _numbered(dims: Sequence[int], order: Sequence[int]) -> list[int]:
  """Numbers of an array's elements, in the order of its transposed axes."""
  array = np.arange(math.prod(dims)).reshape(dims)
  return array.transpose(order or None).ravel().tolist()
