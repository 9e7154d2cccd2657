"""The (data, model) mesh of devices, built from a partitioner's options."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from t5x import errors

HardwareMesh = tuple[int, int, int, int] | tuple[int, int]

MESH_AXES = ('data', 'model')


def _make_mesh(device_array: np.ndarray) -> Mesh:
  # The compiler propagates shardings along both axes ("auto"): only inputs,
  # outputs and the layers' logical constraints are fixed.
  return Mesh(device_array, MESH_AXES, axis_types=(AxisType.Auto,) * 2)


def hardware_coordinates(devices: Sequence[jax.Device]) -> list[tuple]:
  """Where each device sits: (x, y, z, core) on a TPU, else (host, device)."""
  if all(hasattr(d, 'coords') for d in devices):
    return [(*d.coords, getattr(d, 'core_on_chip', 0)) for d in devices]
  seen: dict[int, int] = {}
  coordinates = []
  for device in devices:
    host = device.process_index
    coordinates.append((host, seen.get(host, 0)))
    seen[host] = seen.get(host, 0) + 1
  return coordinates


def tile_places(
  coordinates: Sequence[tuple[int, ...]], tile: HardwareMesh
) -> np.ndarray:
  """Groups devices into equal blocks of neighbors.

  `tile_places([(0, 0), (0, 1), (1, 0), (1, 1)], (2, 1))` is
  `[[0, 2], [1, 3]]`.

  Args:
    coordinates: of each device.
    tile: extent of a block.

  Returns:
    [blocks, block size] positions in `coordinates`.

  Raises:
    errors.UserError: if the block doesn't tile the devices.
  """
  where = np.array(coordinates)
  where -= where.min(axis=0)
  bounds = where.max(axis=0) + 1
  block = np.array(tile)
  if (
    block.shape != bounds.shape
    or np.any(block < 1)
    or np.any(bounds % block)
    or np.prod(bounds) != len(where)
  ):
    raise errors.UserError(
      f'model_parallel_submesh={tuple(tile)} does not tile the devices, whose'
      f' extent is {tuple(bounds.tolist())} ({len(where)} devices). Give a'
      ' divisor for each of these dimensions, or set num_partitions instead.'
    )
  grid = np.empty(bounds, dtype=int)
  grid[tuple(where.T)] = np.arange(len(where))
  rank = len(block)
  split = grid.reshape(
    [n for pair in zip(bounds // block, block, strict=True) for n in pair]
  )
  split = split.transpose([*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)])
  return split.reshape(-1, int(np.prod(block)))


def get_mesh(
  model_parallel_submesh: HardwareMesh,
  input_devices: Sequence[jax.Device] = (),
  input_local_devices: Sequence[jax.Device] = (),
  tile_by_host_if_needed: bool = True,
  backend: str | None = None,
) -> Mesh:
  """Returns a mesh whose `model` axis is a block of neighboring devices.

  Args:
    model_parallel_submesh: extent of the block: (x, y, z, core) on a TPU,
      (host, device) elsewhere. Two hosts of 4 devices under (1, 2) give a 4x2
      mesh.
    input_devices: the devices; all of `backend` by default.
    input_local_devices: not supported, must be empty: which devices are local
      is read from the devices.
    tile_by_host_if_needed: must be True; `PjitPartitioner.get_data_layout`
      raises if hosts then hold no rectangular part of the batch.
    backend: name of a JAX backend.

  Raises:
    errors.UserError: if the block doesn't tile the devices.
  """
  if input_local_devices or not tile_by_host_if_needed:
    raise errors.UserError(
      'get_mesh: input_local_devices and tile_by_host_if_needed=False are not'
      ' supported. Leave them at their defaults.'
    )
  devices = list(input_devices) or _devices_of(backend)
  places = tile_places(hardware_coordinates(devices), model_parallel_submesh)
  return _make_mesh(np.array(devices, dtype=object)[places])


def _mesh_from_shapes(
  ici_mesh_shape: HardwareMesh | None,
  dcn_mesh_shape: HardwareMesh | None,
  devices: Sequence[jax.Device],
) -> Mesh:
  """Returns the mesh of (data, model) extents within and across slices."""
  ici = tuple(ici_mesh_shape or (1, 1))
  dcn = tuple(dcn_mesh_shape or (1, 1))
  if len(ici) != 2 or len(dcn) != 2:
    raise errors.UserError(
      'ici_mesh_shape and dcn_mesh_shape are (data, model) extents; found'
      f' {ici} and {dcn}. Give two numbers each.'
    )
  if int(np.prod(ici) * np.prod(dcn)) != len(devices):
    raise errors.UserError(
      f'ici_mesh_shape={ici} times dcn_mesh_shape={dcn} needs'
      f' {int(np.prod(ici) * np.prod(dcn))} devices, found {len(devices)}.'
      ' Their product must be the number of devices.'
    )
  if dcn == (1, 1):
    return _make_mesh(mesh_utils.create_device_mesh(ici, devices=devices))
  # Devices without a slice (GPUs, CPUs) are grouped by host.
  by_host = not hasattr(devices[0], 'slice_index')
  return _make_mesh(
    mesh_utils.create_hybrid_device_mesh(
      ici, dcn, devices=devices, process_is_granule=by_host
    )
  )


def has_backend(name: str | None) -> bool:
  """Whether JAX has devices of a backend here; None is the default one."""
  try:
    jax.devices(name)
  except RuntimeError:
    return False
  return True


def _devices_of(backend: str | None) -> list[jax.Device]:
  if backend is not None and not has_backend(backend):
    raise errors.UserError(
      f'PjitPartitioner.backend: expected a backend that JAX has here, found'
      f' {backend!r}; the devices are of {jax.default_backend()!r}. Bind it to'
      ' None for these.'
    )
  return jax.devices(backend)


def default_mesh(
  num_partitions: int,
  model_parallel_submesh: HardwareMesh | None = None,
  backend: str | None = None,
  ici_mesh_shape: HardwareMesh | None = None,
  dcn_mesh_shape: HardwareMesh | None = None,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Returns the (data, model) mesh for the arguments of a partitioner.

  Mesh shapes take precedence over `model_parallel_submesh`, and that over
  `num_partitions`.

  Args:
    num_partitions: extent of the `model` axis.
    model_parallel_submesh: see `get_mesh`.
    backend: name of a JAX backend.
    ici_mesh_shape: (data, model) extents within a slice.
    dcn_mesh_shape: (data, model) extents across slices.
    devices: which devices to use; all of `backend` by default.

  Raises:
    errors.UserError: if the devices can't be laid out so.
  """
  devices = list(devices) if devices is not None else _devices_of(backend)
  if ici_mesh_shape is not None or dcn_mesh_shape is not None:
    return _mesh_from_shapes(ici_mesh_shape, dcn_mesh_shape, devices)
  if model_parallel_submesh is not None:
    return get_mesh(model_parallel_submesh, input_devices=devices)
  if num_partitions < 1 or len(devices) % num_partitions:
    fits = [n for n in range(1, len(devices) + 1) if len(devices) % n == 0]
    raise errors.UserError(
      f'num_partitions={num_partitions} does not divide the {len(devices)}'
      f' devices ({devices[0].device_kind}). Set it to one of {fits}.'
    )
  return _make_mesh(
    mesh_utils.create_device_mesh(
      (len(devices) // num_partitions, num_partitions), devices=devices
    )
  )


def get_cpu_mesh() -> Mesh:
  """Returns the mesh of all CPU devices along `data`."""
  return default_mesh(1, backend='cpu')
