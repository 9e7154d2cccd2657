"""Data layout: the part of a global array, and of a data set, of each host."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5x import errors


@dataclasses.dataclass(frozen=True)
class DataLayout:
  """Which rows of a global batch this host reads.

  Attributes:
    batch_size: rows that this host reads, of a batch spread over all hosts.
    shard_id: which shard of the data set this host reads.
    num_shards: how many shards there are.
    is_first_host_in_replica_set: whether this is the lowest of the hosts that
      read the same shard.
  """

  batch_size: int
  shard_id: int
  num_shards: int
  is_first_host_in_replica_set: bool


@dataclasses.dataclass(frozen=True)
class LocalChunkInfo:
  """The part of a global array that one host's devices hold.

  Attributes:
    slice: the part, one slice per dimension.
    replica_id: rank of this host among those that hold the same part.
  """

  slice: tuple[slice, ...]
  replica_id: int


def _volume(box: tuple[tuple[int, int], ...]) -> int:
  return int(np.prod([high - low for low, high in box]))


def local_chunk_info(
  mesh: Mesh,
  spec: PartitionSpec,
  shape: tuple[int, ...],
  host_index: int | None = None,
) -> LocalChunkInfo:
  """Returns the part of a global array, split by `spec`, that a host holds.

  Raises:
    errors.UserError: if the host holds no part, or one that isn't a rectangle.
  """
  host = jax.process_index() if host_index is None else host_index
  indices: Mapping[jax.Device, tuple[slice, ...]] = NamedSharding(
    mesh, spec
  ).devices_indices_map(shape)
  parts: dict[int, set[tuple[tuple[int, int], ...]]] = {}
  for device, index in indices.items():
    box = tuple(i.indices(n)[:2] for i, n in zip(index, shape, strict=True))
    parts.setdefault(device.process_index, set()).add(box)
  if host not in parts:
    raise errors.UserError(
      f'Host {host} has no device in the mesh {dict(mesh.shape)}; hosts with'
      f' devices: {sorted(parts)}.'
    )
  boxes = parts[host]
  hull = tuple(
    (min(low for low, _ in dim), max(high for _, high in dim))
    for dim in zip(*boxes, strict=True)
  )
  if sum(map(_volume, boxes)) != _volume(hull):
    raise errors.UserError(
      f'Host {host} holds scattered parts of an array of shape {shape} split'
      f' by {spec}. Choose a num_partitions or submesh that keeps the devices'
      ' of a host together.'
    )
  peers = sorted(peer for peer, part in parts.items() if part == boxes)
  return LocalChunkInfo(
    tuple(slice(low, high) for low, high in hull), peers.index(host)
  )


def data_layout(
  mesh: Mesh,
  spec: PartitionSpec,
  batch_size: int,
  host_index: int | None = None,
) -> DataLayout:
  """Returns which rows of a batch, split by `spec`, a host reads.

  Two hosts of four devices each, on a mesh of data 8, read halves: for 16 rows
  host 1 gets `DataLayout(batch_size=8, shard_id=1, num_shards=2,
  is_first_host_in_replica_set=True)`.

  Raises:
    errors.UserError: if hosts would read unequal shares.
  """
  chunk = local_chunk_info(mesh, spec, (batch_size,), host_index)
  start, stop, _ = chunk.slice[0].indices(batch_size)
  rows = stop - start
  if batch_size % rows or start % rows:
    raise errors.UserError(
      f'Host rows {start}:{stop} of a batch of {batch_size} are not an equal'
      ' share of it. Choose a num_partitions or submesh that gives every host'
      ' the same number of rows.'
    )
  return DataLayout(
    batch_size=rows,
    shard_id=start // rows,
    num_shards=batch_size // rows,
    is_first_host_in_replica_set=chunk.replica_id == 0,
  )
