"""Which rows each of several hosts reads, on meshes of made-up devices."""

import dataclasses

import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from t5x import errors, partitioning
from t5x.partitioning import host_shards

P = PartitionSpec


@dataclasses.dataclass(frozen=True)
class Device:
  """A device of a host, as far as a mesh looks at it."""

  id: int
  process_index: int
  platform: str = 'cpu'
  device_kind: str = 'cpu'
  client: None = None


def mesh(hosts):
  """A (data, model) mesh of devices on these hosts."""
  hosts = np.array(hosts)
  devices = np.empty(hosts.shape, object)
  for number, place in enumerate(np.ndindex(hosts.shape)):
    devices[place] = Device(number, int(hosts[place]))
  return Mesh(devices, ('data', 'model'), axis_types=(AxisType.Auto,) * 2)


DATA = P('data')


def layouts(hosts, rows, spec=DATA):
  return [
    dataclasses.astuple(host_shards.data_layout(mesh(hosts), spec, rows, host))
    for host in range(1 + np.max(hosts))
  ]


@pytest.mark.parametrize(
  ('hosts', 'expected'),
  [
    # Halves, as in the docstring; quarters.
    ([[0]] * 4 + [[1]] * 4, [(8, 0, 2, True), (8, 1, 2, True)]),
    ([[0], [1], [2], [3]], [(4, i, 4, True) for i in range(4)]),
    # The mesh need not have the hosts in their order.
    ([[1, 1], [0, 0]], [(8, 1, 2, True), (8, 0, 2, True)]),
    # Two hosts hold parts of a model, and read the same rows.
    (
      [[0, 1], [2, 3]],
      [(8, 0, 2, True), (8, 0, 2, False), (8, 1, 2, True), (8, 1, 2, False)],
    ),
    ([[1, 0]], [(16, 0, 1, True), (16, 0, 1, False)]),
  ],
)
def test_each_row_is_read_by_one_host_or_its_replicas(hosts, expected):
  found = layouts(hosts, 16)
  assert found == expected
  # Whole numbers, by which others count.
  assert {tuple(map(type, row)) for row in found} == {(int, int, int, bool)}


def test_without_a_split_all_hosts_read_all():
  assert layouts([[0], [1]], 16, P(None)) == [
    (16, 0, 1, True),
    (16, 0, 1, False),
  ]


def test_the_part_of_an_array_of_two_dimensions():
  found = [
    host_shards.local_chunk_info(
      mesh([[0, 0, 1, 1], [2, 2, 3, 3]]), P('model', 'data'), (8, 6), host
    )
    for host in range(4)
  ]
  assert found == [
    partitioning.LocalChunkInfo((slice(a, a + 4), slice(b, b + 3)), 0)
    for b in (0, 3)
    for a in (0, 4)
  ]


def test_rows_that_are_scattered_or_unequal_are_refused():
  with pytest.raises(errors.UserError, match='Host 0 holds scattered parts'):
    layouts([[0], [1], [0], [1]], 16)
  with pytest.raises(errors.UserError, match=r'Host 1 has no device.*: \[0\]'):
    host_shards.data_layout(mesh([[0], [0]]), P('data'), 16, 1)
  with pytest.raises(errors.UserError, match=r'Host rows 0:12 .* equal share'):
    host_shards.data_layout(mesh([[0], [0], [0], [1]]), P('data'), 16, 0)
  # A half that begins in the middle of another one is no shard either.
  with pytest.raises(errors.UserError, match=r'Host rows 4:12 .* equal share'):
    host_shards.data_layout(mesh([[0], [1], [1], [2]]), P('data'), 16, 1)


def test_layouts_stay_what_they_are():
  layout = host_shards.data_layout(mesh([[0], [1]]), P('data'), 16, 0)
  info = host_shards.local_chunk_info(mesh([[0]]), P('data'), (4,))
  for made, field in ((layout, 'shard_id'), (info, 'replica_id')):
    with pytest.raises(dataclasses.FrozenInstanceError):
      setattr(made, field, 1)
