"""Where devices sit, the blocks they form, and the mesh of those."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from t5x import errors, partitioning
from t5x.partitioning import mesh as mesh_lib
from tests.t5x.partitioning.test_host_shards import Device


@dataclasses.dataclass(frozen=True)
class Sliced(Device):
  """A device that knows its slice."""

  slice_index: int = 0


def ids(mesh):
  return [[device.id for device in row] for row in mesh.devices]


def test_devices_without_coordinates_are_counted_on_each_host():
  devices = [Device(i, host) for i, host in enumerate([0, 1, 0, 1, 1])]
  assert mesh_lib.hardware_coordinates(devices) == [
    *[(0, 0), (1, 0), (0, 1), (1, 1), (1, 2)]
  ]
  chip = types.SimpleNamespace(coords=(1, 2, 3), process_index=0)
  assert mesh_lib.hardware_coordinates([chip]) == [(1, 2, 3, 0)]
  assert mesh_lib.hardware_coordinates([chip, devices[0]]) == [(0, 0), (0, 1)]


def test_blocks_are_of_neighbors():
  square = [(0, 0), (0, 1), (1, 0), (1, 1)]
  found = mesh_lib.tile_places(square, (2, 1))
  np.testing.assert_array_equal(found, [[0, 2], [1, 3]])
  # Wherever they are, and in whatever order.
  moved = [(5, 8), (4, 8), (5, 7), (4, 7)]
  found = mesh_lib.tile_places(moved, (2, 1))
  np.testing.assert_array_equal(found, [[3, 2], [1, 0]])
  # (x, y, z, core): blocks along x, then y; in each, along x, then core.
  chips = list(np.ndindex(4, 2, 1, 2))
  blocks = mesh_lib.tile_places(chips, (2, 1, 1, 2))
  assert [[chips[i] for i in block] for block in blocks] == [
    [(x, y, 0, c) for x in (first, first + 1) for c in (0, 1)]
    for first in (0, 2)
    for y in (0, 1)
  ]


@pytest.mark.parametrize(
  ('coordinates', 'tile'),
  [
    ([(0, 0), (0, 1)], (1,)),
    ([(0, 0), (0, 1)], (0, 1)),
    ([(0, 0), (0, 1)], (-1, 1)),
    ([(0, 0), (0, 1)], (2, 1)),
    # Without two corners; two in one place.
    ([(0, 0), (1, 1)], (1, 1)),
    ([(0, 0), (0, 0)], (1, 1)),
  ],
)
def test_a_block_that_does_not_tile_is_refused(coordinates, tile):
  with pytest.raises(errors.UserError, match=r'\(2 devices\)'):
    mesh_lib.tile_places(coordinates, tile)


def test_a_submesh_is_of_the_devices_that_are_given():
  four = jax.devices()[:4]
  assert ids(partitioning.get_mesh((1, 2), four)) == [[0, 1], [2, 3]]
  assert ids(partitioning.get_mesh((1, 8))) == [list(range(8))]
  for options in (
    {'input_local_devices': four},
    {'tile_by_host_if_needed': False},
  ):
    with pytest.raises(errors.UserError, match='Leave them at their defaults'):
      partitioning.get_mesh((1, 2), four, **options)
  with pytest.raises(errors.UserError, match=r"backend: .*'tpu'"):
    partitioning.get_mesh((1, 2), backend='tpu')


def test_the_mesh_of_cpus_is_of_these_alone(monkeypatch):
  devices = jax.devices

  def others_too(backend=None):
    return devices('cpu')[: 4 if backend == 'cpu' else 8]

  monkeypatch.setattr(jax, 'devices', others_too)
  mesh = partitioning.get_cpu_mesh()
  assert dict(mesh.shape) == {'data': 4, 'model': 1}
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


def test_shapes_come_before_a_submesh_and_that_before_a_number():
  mesh = partitioning.default_mesh(3, (1, 2), ici_mesh_shape=(2, 4))
  assert dict(mesh.shape) == {'data': 2, 'model': 4}
  mesh = partitioning.default_mesh(3, (1, 2))
  assert dict(mesh.shape) == {'data': 4, 'model': 2}


@pytest.mark.parametrize('number', [-1, 0, 16])
def test_a_number_that_is_no_share_of_the_devices_is_refused(number):
  with pytest.raises(errors.UserError, match=r'one of \[1, 2, 4, 8\]\.'):
    partitioning.default_mesh(number)


def test_shapes_may_reach_over_hosts_or_slices():
  hosts = [Device(i, host) for i, host in enumerate([0, 1, 0, 1])]
  slices = [Sliced(i, 0, slice_index=i // 2) for i in range(4)]
  for devices, rows in ((hosts, [[0, 2], [1, 3]]), (slices, [[0, 1], [2, 3]])):
    made = partitioning.default_mesh(
      1, ici_mesh_shape=(1, 2), dcn_mesh_shape=(2, 1), devices=devices
    )
    assert [sorted(row) for row in ids(made)] == rows
  two = partitioning.default_mesh(
    1, dcn_mesh_shape=(1, 2), devices=[hosts[0], hosts[1]]
  )
  assert ids(two) == [[0, 1]]


@pytest.mark.parametrize(
  ('ici', 'dcn', 'message'),
  [
    ((2, 2, 2), None, 'Give two numbers each'),
    ((2, 4), (1, 1, 1), 'Give two numbers each'),
    ((8,), None, 'Give two numbers each'),
    (None, (8,), 'Give two numbers each'),
    ((4, 4), None, 'needs 16 devices, found 8'),
    ((2, 4), (2, 1), 'needs 16 devices, found 8'),
    (None, (1, 4), 'needs 4 devices, found 8'),
  ],
)
def test_shapes_that_fit_no_devices_are_refused(ici, dcn, message):
  with pytest.raises(errors.UserError, match=message):
    partitioning.default_mesh(1, ici_mesh_shape=ici, dcn_mesh_shape=dcn)
