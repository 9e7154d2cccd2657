"""Makes the very step that a run would compile, for devices that aren't there.

The configuration is the run's own gin files, followed by the few lines of the
plan; model, partitioner, trainer and step are the engine's. State and batch are
shapes only.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import gin
from dss_jax import run_config
from t5x import partitioning, train_state, utils

# Decoding stops early where every row has ended; its compiled program doesn't
# depend on which token ends a row.
_EOS_ID = 1


@dataclasses.dataclass(frozen=True)
class Step:
  """A step, lowered.

  Attributes:
    lowered: to be compiled.
    parameter_bytes: of the parameters on one device.
    optimizer_bytes: of the optimizer's state on one device.
    batch_bytes: of the batch on one device.
    mesh: (data, model) extents.
    coordinates: where each partition's device sits, in the program's order.
  """

  lowered: jax.stages.Lowered
  parameter_bytes: int
  optimizer_bytes: int
  batch_bytes: int
  mesh: tuple[int, int]
  coordinates: Sequence[tuple[int, ...]]


def batch_shapes(
  model: Any, rows: int, lengths: Mapping[str, int], pack: bool
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of a global batch, as the model's feature converter makes it.

  Args:
    model: names the converter.
    rows: B.
    lengths: of the task's features.
    pack: whether rows hold several examples.
  """
  converter = model.FEATURE_CONVERTER_CLS(pack=pack)
  return {
    name: jax.ShapeDtypeStruct((rows, length), np.int32)
    for name, length in converter.get_model_feature_lengths(lengths).items()
  }


def state_bytes(model: Any, lengths: Mapping[str, int]) -> tuple[int, int]:
  """Bytes of all parameters, and of the optimizer's state.

  Args:
    model: what is trained.
    lengths: of the task's features.
  """
  batch = batch_shapes(model, 1, lengths, False)

  def initialize(rng):
    variables = model.get_initial_variables(
      rng, {k: v.shape for k, v in batch.items()}
    )
    return train_state.FlaxOptimTrainState.create(
      model.optimizer_def, variables
    )

  state = jax.eval_shape(initialize, jax.random.key(0))
  total, parameters = (
    sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
    for tree in (state, state.params)
  )
  return parameters, total - parameters


def is_packed() -> bool:
  """Whether the training data of the configuration in force are packed."""
  with gin.config_scope('train'):
    bound = gin.get_bindings(utils.DatasetConfig, resolve_references=False)
  return bool(bound.get('pack', False))


def train_step(
  bound: Mapping[str, Any], devices: Sequence[Any], rows: int
) -> Step:
  """Lowers the training step of the configuration in force.

  Args:
    bound: from `run_config.configured`.
    devices: of the topology.
    rows: B, of the global batch.

  Raises:
    DataError: it is a configuration that can't be laid out.
  """
  model = run_config.resolve(bound, 'model')
  batch = batch_shapes(
    model, rows, run_config.macro('TASK_FEATURE_LENGTHS'), is_packed()
  )
  partitioner = _partitioner(devices)
  initializer = _initializer(model, model.optimizer_def, batch, partitioner)
  state = initializer.global_train_state_shape
  axes = initializer.train_state_axes
  hardware = bool(_or(bound, 'use_hardware_rng', False))
  rng = jax.random.key(0, impl='unsafe_rbg' if hardware else 'threefry2x32')
  trainer = run_config.resolve(bound, 'trainer_cls')(
    model=model,
    train_state=state,
    partitioner=partitioner,
    eval_names=[],
    summary_dir=None,
    train_state_axes=axes,
    rng=jax.eval_shape(lambda: rng),
  )
  try:
    lowered = trainer.lower_train(batch)
  finally:
    trainer.close()
  on_device = _bytes_on_device(state, axes, partitioner)
  parameters = _bytes_on_device(state.params, axes.params, partitioner)
  return _step(lowered, parameters, on_device - parameters, batch, partitioner)


def decode_step(
  bound: Mapping[str, Any], devices: Sequence[Any], rows: int
) -> Step:
  """Lowers the decoding of one batch, from its inputs to its last token.

  Args:
    bound: from `run_config.configured`.
    devices: of the topology.
    rows: B, of the batch.
  """
  model = run_config.resolve(bound, 'model')
  batch = batch_shapes(
    model, rows, run_config.macro('TASK_FEATURE_LENGTHS'), False
  )
  partitioner = _partitioner(devices)
  partitioner.check_batch_size(rows)
  initializer = _initializer(model, None, batch, partitioner)
  params = initializer.global_train_state_shape.params
  axes = initializer.train_state_axes.params

  def decode(params, batch, rng):
    return model.predict_batch_with_aux(
      params, batch, rng=rng, decoder_params={'eos_id': _EOS_ID}
    )

  partitioned = partitioner.partition(
    decode,
    in_axis_resources=(axes, partitioner.data_partition_spec, None),
    out_axis_resources=(None, None),
  )
  lowered = partitioned.lower(
    params, batch, jax.eval_shape(lambda: jax.random.key(0))
  )
  parameters = _bytes_on_device(params, axes, partitioner)
  return _step(lowered, parameters, 0, batch, partitioner)


def _or(bound: Mapping[str, Any], name: str, default: Any) -> Any:
  return run_config.resolve(bound, name) if name in bound else default


def _partitioner(devices: Sequence[Any]) -> partitioning.PjitPartitioner:
  bound = gin.get_bindings(partitioning.PjitPartitioner)
  return partitioning.PjitPartitioner(**{**bound, 'devices': devices})


def _initializer(
  model: Any,
  optimizer_def: Any,
  batch: Mapping[str, jax.ShapeDtypeStruct],
  partitioner: partitioning.PjitPartitioner,
) -> Any:
  return utils.TrainStateInitializer(
    optimizer_def=optimizer_def,
    init_fn=model.get_initial_variables,
    input_shapes={k: v.shape for k, v in batch.items()},
    input_types={k: v.dtype for k, v in batch.items()},
    partitioner=partitioner,
  )


def _bytes_on_device(tree: Any, axes: Any, partitioner: Any) -> int:
  """Bytes that one device holds of a tree of shapes."""

  def on_device(spec, below):
    sharding = partitioner.shardings((spec,))[0]
    return sum(
      int(np.prod(sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(below)
    )

  # A spec, or None, may stand for a whole subtree.
  sizes = jax.tree.map(
    on_device,
    axes,
    tree,
    is_leaf=lambda x: x is None or isinstance(x, jax.sharding.PartitionSpec),
  )
  return sum(jax.tree.leaves(sizes))


def _step(
  lowered: jax.stages.Lowered,
  parameters: int,
  optimizer: int,
  batch: Mapping[str, jax.ShapeDtypeStruct],
  partitioner: partitioning.PjitPartitioner,
) -> Step:
  shards = partitioner.data_mesh_size
  return Step(
    lowered=lowered,
    parameter_bytes=parameters,
    optimizer_bytes=optimizer,
    batch_bytes=sum(
      int(np.prod(x.shape)) * x.dtype.itemsize // shards for x in batch.values()
    ),
    mesh=(shards, partitioner.mesh.shape['model']),
    coordinates=[
      tuple(getattr(device, 'coords', (device.id,)))
      for device in partitioner.mesh.devices.flat
    ],
  )
