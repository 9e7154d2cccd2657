"""Partitioning: devices as a mesh, and arrays and batches split over it."""

# fmt: off
from t5x.partitioning.host_shards import DataLayout, LocalChunkInfo
from t5x.partitioning.mesh import (
  HardwareMesh, default_mesh, get_cpu_mesh, get_mesh,
)
from t5x.partitioning.partitioner import (
  BasePartitioner, BasePjitPartitioner, PartitionedCallable, PjitPartitioner,
  PjittedFnWithContext, with_sharding_constraint,
)
from t5x.partitioning.rules import LogicalAxisRules, standard_logical_axis_rules

__all__ = (
  'BasePartitioner', 'BasePjitPartitioner', 'DataLayout', 'HardwareMesh',
  'LocalChunkInfo', 'LogicalAxisRules', 'PartitionedCallable',
  'PjitPartitioner', 'PjittedFnWithContext', 'default_mesh', 'get_cpu_mesh',
  'get_mesh', 'standard_logical_axis_rules', 'with_sharding_constraint',
)
