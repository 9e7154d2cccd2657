"""The exact step that a run would compile, for devices that aren't there.

The configuration is the run's own gin files, followed by the few lines of the
plan; model, partitioner, trainer and step are the engine's. State and batch are
only shapes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import gin
from dss_jax import run_config
from dss_jax.errors import DataError
from dss_jax.plan import counting
from t5x import initialization, models, partitioning, train_state, utils
from t5x.examples.t5 import network

# Decoding stops early where every row has ended; its compiled program doesn't
# depend on which token ends a row.
_EOS_ID = 1


@dataclasses.dataclass(frozen=True)
class Step:
  """A lowered step.

  Attributes:
    lowered: to be compiled.
    compile: does so, as a run does.
    options: what the compiler is asked for then.
    parameter_bytes: of the parameters on one device.
    optimizer_bytes: of the optimizer's state on one device.
    batch_bytes: of the batch on one device.
    mesh: (data, model) extents.
    coordinates: where each partition's device is, in the program's order.
  """

  lowered: jax.stages.Lowered
  compile: Callable[[], jax.stages.Compiled]
  options: Mapping[str, bool | str]
  parameter_bytes: int
  optimizer_bytes: int
  batch_bytes: int
  mesh: tuple[int, int]
  coordinates: Sequence[tuple[int, ...]]


def batch_shapes(
  model: models.BaseModel, rows: int, lengths: Mapping[str, int], pack: bool
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns shapes of a global batch, as the model's converter makes it.

  Args:
    model: names the feature converter.
    rows: B.
    lengths: of the task's features.
    pack: whether rows hold several examples.
  """
  converter = model.FEATURE_CONVERTER_CLS(pack=pack)
  return {
    name: jax.ShapeDtypeStruct((rows, length), np.int32)
    for name, length in converter.get_model_feature_lengths(lengths).items()
  }


class Sizes(NamedTuple):
  """What a state consists of.

  Attributes:
    parameter_bytes: of all parameters.
    optimizer_bytes: of the optimizer's state.
    parameters: how many there are.
    trained: how many of them are trained.
  """

  parameter_bytes: int
  optimizer_bytes: int
  parameters: int
  trained: int


def state_sizes(model: models.BaseModel, lengths: Mapping[str, int]) -> Sizes:
  """Returns the sizes of a model's parameters and of its optimizer's state.

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
  trained, _ = state.split_frozen()
  total, parameters = (
    sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
    for tree in (state, state.params)
  )
  every, those = (
    sum(x.size for x in jax.tree.leaves(tree.params))
    for tree in (state, trained)
  )
  return Sizes(parameters, total - parameters, every, those)


def sizes(
  model: models.BaseModel, lengths: Mapping[str, int]
) -> counting.Model:
  """Returns the part of a configuration that determines costs.

  Args:
    model: what is trained.
    lengths: of the task's features.

  Raises:
    DataError: its network is not T5's own.
  """
  module = getattr(model, 'module', None)
  config = getattr(module, 'config', None)
  # A subclass has bindings of its own, which a plan does not set.
  if type(config) is not network.T5Config:
    raise DataError(
      'dss plan expects the network t5x.examples.t5.network.Transformer;'
      f' found {type(module).__name__}.'
    )
  state = state_sizes(model, lengths)
  return counting.Model(
    embed=config.emb_dim,
    heads=config.num_heads,
    head_dim=config.head_dim,
    mlp=config.mlp_dim,
    gates=len(config.mlp_activations),
    encoder_layers=config.num_encoder_layers,
    decoder_layers=config.num_decoder_layers,
    vocab=config.vocab_size,
    inputs=lengths['inputs'],
    targets=lengths['targets'],
    **state._asdict(),
  )


def lower(
  bound: Mapping[str, Any],
  devices: Sequence[jax.Device],
  rows: int,
  decode: bool = False,
) -> Step:
  """Lowers the training step of the configuration in force, or its decoding.

  Args:
    bound: from `run_config.configured`.
    devices: of the topology.
    rows: B, of the global batch.
    decode: whether to lower the decoding of one batch, from its inputs to its
      last token.

  Raises:
    DataError: the configuration can't be laid out.
  """
  with gin.config_scope('train'):
    dataset = gin.get_bindings(utils.DatasetConfig, resolve_references=False)
  pack = bool(dataset.get('pack', False)) and not decode
  model = run_config.resolve(bound, 'model')
  lengths = run_config.macro('TASK_FEATURE_LENGTHS')
  batch = batch_shapes(model, rows, lengths, pack)
  options = gin.get_bindings(partitioning.PjitPartitioner)
  partitioner = partitioning.PjitPartitioner(**{**options, 'devices': devices})
  if decode:
    partitioner.check_batch_size(rows)
  initializer = initialization.initializer_of(
    model,
    partitioner,
    {k: v.shape for k, v in batch.items()},
    {k: v.dtype for k, v in batch.items()},
    for_training=not decode,
  )
  state = initializer.global_train_state_shape
  axes = initializer.train_state_axes
  if decode:
    lowered = _lower_decoding(model, partitioner, state, axes, batch)
  else:
    lowered = _lower_training(bound, model, partitioner, state, axes, batch)
  parameters = _bytes_on_device(state.params, axes.params, partitioner)
  optimizer = 0
  if not decode:
    optimizer = _bytes_on_device(state, axes, partitioner) - parameters
  shards = partitioner.data_mesh_size
  return Step(
    lowered=lowered,
    compile=functools.partial(partitioner.compile_lowered, lowered),
    options=partitioner.compiler_options,
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


def _lower_training(
  bound, model, partitioner, state, axes, batch
) -> jax.stages.Lowered:
  name = 'use_hardware_rng'
  on_hardware = name in bound and run_config.resolve(bound, name)
  rng = jax.random.key(0, impl='unsafe_rbg' if on_hardware else 'threefry2x32')
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
    return trainer.lower_train(batch)
  finally:
    trainer.close()


def _lower_decoding(
  model, partitioner, state, axes, batch
) -> jax.stages.Lowered:
  def decode(params, batch, rng):
    return model.predict_batch_with_aux(
      params, batch, rng=rng, decoder_params={'eos_id': _EOS_ID}
    )

  partitioned = partitioner.partition(
    decode,
    in_axis_resources=(axes.params, partitioner.data_partition_spec, None),
    out_axis_resources=(None, None),
  )
  return partitioned.lower(
    state.params, batch, jax.eval_shape(lambda: jax.random.key(0))
  )


def _bytes_on_device(
  tree: Any, axes: Any, partitioner: partitioning.BasePartitioner
) -> int:
  """Bytes that one device holds of a tree of shapes."""

  def on_device(spec, subtree):
    sharding = partitioner.shardings((spec,))[0]
    return sum(
      int(np.prod(sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(subtree)
    )

  # A spec, or None, may stand for a whole subtree.
  sizes = jax.tree.map(
    on_device,
    axes,
    tree,
    is_leaf=lambda x: x is None or isinstance(x, jax.sharding.PartitionSpec),
  )
  return sum(jax.tree.leaves(sizes))
