"""Partitioners: the layout of arrays from the logical names of their axes.

A mesh has two axes: `data`, over which batches are split, and `model`, over
which parameters and activations are. Layers name the axes of their parameters
and activations ('embed', 'mlp', 'heads', ...); a table of rules maps those
names to mesh axes. A partitioned function is `jax.jit` with the resulting
shardings.

The interface is T5X's: names, arguments and the table of rules.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

import jax
import numpy as np
from absl import logging
from flax.linen import partitioning as flax_partitioning
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5x import errors
from t5x.partitioning import host_shards, rules
from t5x.partitioning import mesh as mesh_lib


class HasLogicalAxes(Protocol):
  """What a partitioner needs of a `t5x.train_state.TrainState`."""

  def as_logical_axes(self) -> Self:
    """Returns the state with logical axes in place of its arrays."""
    ...


TrainState = TypeVar('TrainState', bound=HasLogicalAxes)


class PartitionedCallable(Protocol):
  """A function whose arguments and results are laid out on a mesh."""

  def __call__(self, *args: Any) -> Any: ...

  def lower(self, *args: Any) -> jax.stages.Lowered: ...


def with_sharding_constraint(x: Any, axis_resources: Any) -> Any:
  """Fixes the layout of an array by mesh axes; without a mesh, does nothing.

  Args:
    x: an array.
    axis_resources: its `PartitionSpec`.
  """
  if jax.sharding.get_abstract_mesh().empty:
    return x
  return jax.lax.with_sharding_constraint(x, axis_resources)


# What TPU's compiler is asked for. Unless it is told otherwise, it may gather a
# layer's smaller parameters by an all-reduce, which moves twice as much and
# which nothing overlaps; docs/plans.md says what that takes.
TPU_OPTIONS = {'xla_tpu_prefer_async_allgather_to_allreduce': True}
# How XLA says that it has no such option.
_UNKNOWN_OPTION = 'No such compile option'


class PjittedFnWithContext:
  """A jitted function that is traced and run with its mesh and rules set."""

  def __init__(
    self,
    jitted: PartitionedCallable,
    mesh: Mesh,
    logical_axis_rules: rules.LogicalAxisRules = (),
  ):
    self._jitted = jitted
    self._mesh = mesh
    self._rules = tuple(logical_axis_rules)

  def __call__(self, *args: Any) -> Any:
    with jax.set_mesh(self._mesh), flax_partitioning.axis_rules(self._rules):
      return self._jitted(*args)

  def lower(self, *args: Any) -> jax.stages.Lowered:
    with jax.set_mesh(self._mesh), flax_partitioning.axis_rules(self._rules):
      return self._jitted.lower(*args)


class BasePartitioner:
  """Holds a mesh, and lays batches, states and functions out on it.

  Args:
    num_partitions: extent of the `model` axis.
    model_parallel_submesh: the block of devices that shares a model replica;
      see `get_mesh`.
    params_on_devices: must be True: parameters are never left on hosts.
    backend: name of a JAX backend; the default one if None.
    ici_mesh_shape: (data, model) extents within a slice.
    dcn_mesh_shape: (data, model) extents across slices.
    logical_axis_rules: table from logical names to mesh axes, in order of
      precedence; `default_rules` if None.
    devices: which devices to use (not in T5X); all of `backend` by default.
    compiler_options: what XLA is asked for (not in T5X); by default
      `TPU_OPTIONS` on TPUs, and nothing elsewhere.

  Raises:
    errors.UserError: if nothing gives the extent of the `model` axis, an option
      is not supported, or a rule names a mesh axis that does not exist.

  Attributes:
    default_rules: the rules of the class; none here.
  """

  default_rules: rules.LogicalAxisRules = ()

  def __init__(
    self,
    num_partitions: int | None = None,
    model_parallel_submesh: mesh_lib.HardwareMesh | None = None,
    params_on_devices: bool = True,
    backend: str | None = None,
    ici_mesh_shape: mesh_lib.HardwareMesh | None = None,
    dcn_mesh_shape: mesh_lib.HardwareMesh | None = None,
    logical_axis_rules: rules.LogicalAxisRules | None = None,
    devices: Sequence[jax.Device] | None = None,
    compiler_options: Mapping[str, bool | str] | None = None,
  ):
    shapes = (model_parallel_submesh, ici_mesh_shape, dcn_mesh_shape)
    if not num_partitions and all(shape is None for shape in shapes):
      raise errors.UserError(
        f'{type(self).__name__}: the extent of the model axis is missing. Set'
        ' num_partitions (1 keeps whole parameters on every device),'
        ' model_parallel_submesh or ici_mesh_shape.'
      )
    if not params_on_devices:
      raise errors.UserError(
        f'{type(self).__name__}.params_on_devices=False is not supported.'
        ' Leave it True; parameter_partitioning_dims=2 saves memory instead.'
      )
    if logical_axis_rules is None:
      logical_axis_rules = self.default_rules
    self._logical_axis_rules = tuple(
      (n, axis) for n, axis in logical_axis_rules
    )
    for name, axis in self._logical_axis_rules:
      if axis is not None and axis not in mesh_lib.MESH_AXES:
        raise errors.UserError(
          f'logical_axis_rules: {(name, axis)} names a mesh axis that does not'
          f' exist; found {axis!r}, expected one of'
          f' {mesh_lib.MESH_AXES} or None.'
          + errors.did_you_mean(str(axis), mesh_lib.MESH_AXES)
        )
    self._compiler_options = compiler_options
    self._backend = None if devices is not None else backend
    self._make_mesh = functools.partial(
      mesh_lib.default_mesh,
      num_partitions or 1,
      model_parallel_submesh,
      ici_mesh_shape=ici_mesh_shape,
      dcn_mesh_shape=dcn_mesh_shape,
      devices=devices,
    )

  @property
  def logical_axis_rules(self) -> rules.LogicalAxisRules:
    return self._logical_axis_rules

  @functools.cached_property
  def mesh(self) -> Mesh:
    mesh = self._make_mesh(backend=self._backend)
    logging.info('Mesh: %s', dict(mesh.shape))
    return mesh

  def leave_missing_backend(self) -> str | None:
    """Turns to the default backend if the configured one is not here.

    Only before `mesh` is asked for. Compiling for devices that are not here is
    no use, but to see that a configuration compiles is.

    Returns:
      The name of the backend that is missing, or None if it is here.
    """
    missing = self._backend
    if mesh_lib.has_backend(missing):
      return None
    self._backend = None
    return missing

  @property
  def use_shardy_partitioner(self) -> bool:
    # JAX makes the attributes of its configuration at run time.
    return bool(jax.config.jax_use_shardy_partitioner)  # type: ignore[attr-defined]

  @property
  def params_on_devices(self) -> bool:
    return True

  @property
  def data_partition_spec(self) -> PartitionSpec:
    """How the rows of a batch are split."""
    return PartitionSpec('data')

  @property
  def data_mesh_size(self) -> int:
    """Extent of the `data` axis."""
    return self.mesh.shape['data']

  @functools.cached_property
  def data_shards(self) -> int:
    """How many shards of the data the hosts read."""
    return self.get_data_layout().num_shards

  @functools.cached_property
  def data_shard_id(self) -> int:
    """Which of the shards this host reads."""
    return self.get_data_layout().shard_id

  def check_batch_size(self, batch_size: int, num_microbatches: int = 1):
    """Raises UserError if a global batch can't be split over the mesh."""
    shards = self.data_mesh_size * num_microbatches
    if batch_size % shards:
      near = max(1, round(batch_size / shards)) * shards
      each = f' times {num_microbatches} microbatches' * (num_microbatches > 1)
      raise errors.UserError(
        f'Batch size {batch_size} is not divisible by {shards}: the mesh'
        f' {dict(self.mesh.shape)} has {self.data_mesh_size} data'
        f' shards{each}. Set BATCH_SIZE to a multiple of {shards}, such as'
        f' {near}, or change num_partitions.'
      )

  def get_data_layout(
    self, batch_size: int | None = None, host_index: int | None = None
  ) -> host_shards.DataLayout:
    """Returns which rows of a batch a host reads.

    Args:
      batch_size: rows of the global batch; the extent of `data` by default.
      host_index: the host; this process by default.

    Raises:
      errors.UserError: if the mesh doesn't divide the batch, or hosts would
        read unequal shares.
    """
    batch_size = batch_size or self.data_mesh_size
    self.check_batch_size(batch_size)
    return host_shards.data_layout(
      self.mesh, self.data_partition_spec, batch_size, host_index
    )

  def get_local_chunk_info(
    self, global_shape: tuple[int, ...], mesh_axes: Sequence[str | None]
  ) -> host_shards.LocalChunkInfo:
    """Returns which part of a global array this host's devices hold.

    Args:
      global_shape: shape of the array.
      mesh_axes: for each dimension, the mesh axis that splits it, or None.
    """
    return host_shards.local_chunk_info(
      self.mesh, PartitionSpec(*mesh_axes), global_shape
    )

  def shard_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Makes global arrays, split over `data`, from the rows of each host.

    Args:
      batch: feature name to array [B_host, ...] (or to a tree of them): numpy
        arrays with this host's rows, or `jax.Array`s that are global already.

    Returns:
      The same tree with arrays [B, ...].

    Raises:
      errors.UserError: if the mesh doesn't divide the batch.
    """
    sharding = NamedSharding(self.mesh, self.data_partition_spec)

    def place(x):
      if isinstance(x, jax.Array):
        self.check_batch_size(x.shape[0])
        return jax.device_put(x, sharding)
      x = np.asarray(x)
      shape = (x.shape[0] * self.data_shards, *x.shape[1:])
      self.check_batch_size(shape[0])
      return jax.make_array_from_process_local_data(sharding, x, shape)

    return jax.tree.map(place, dict(batch))

  def move_params_to_devices(
    self, train_state: TrainState, train_state_axes: TrainState
  ) -> TrainState:
    """Lays a train state out on the devices by its mesh axes."""
    return jax.device_put(train_state, self.shardings(train_state_axes))

  def shardings(self, axis_resources: Any) -> Any:
    """Turns a tree of PartitionSpecs into one of shardings on this mesh.

    Args:
      axis_resources: `PartitionSpec`s; None, at a leaf or for a whole subtree,
        stands for replicated.
    """
    return jax.tree.map(
      lambda spec: NamedSharding(
        self.mesh, PartitionSpec() if spec is None else spec
      ),
      axis_resources,
      is_leaf=lambda x: x is None or isinstance(x, PartitionSpec),
    )

  def get_logical_axes(self, train_state: TrainState) -> TrainState:
    """Returns the train state with logical axes in place of its arrays."""
    return train_state.as_logical_axes()

  def get_mesh_axes(self, train_state: TrainState) -> TrainState:
    """Returns the train state with PartitionSpecs in place of its arrays.

    Args:
      train_state: a state of arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      The same structure; None where an array is replicated.

    Raises:
      errors.UserError: if a mesh axis doesn't divide the dimension it splits.
    """
    axes = self.get_logical_axes(train_state)
    return jax.tree_util.tree_map_with_path(
      self._mesh_axes_of_leaf,
      axes,
      train_state,
      is_leaf=lambda x: x is None or isinstance(x, PartitionSpec),
    )

  def _mesh_axes_of_leaf(
    self, path: Any, names: PartitionSpec | None, array: Any
  ) -> PartitionSpec | None:
    if names is None:
      return None
    leaf = jax.tree_util.keystr(path, simple=True, separator='/')
    leaf = leaf.removeprefix('_optimizer/')
    known = {name for name, _ in self.logical_axis_rules}
    for name in names:
      if name is not None and name not in known:
        logging.warning(
          '%s: no rule for logical axis %r, so it is not split.%s',
          leaf,
          name,
          errors.did_you_mean(name, known),
        )
    spec = flax_partitioning.logical_to_mesh_axes(
      tuple(names), self.logical_axis_rules
    )
    assert spec is not None  # None stands for names that are None.
    if len(spec) != len(array.shape):
      raise errors.UserError(
        f'{leaf}: logical axes {tuple(names)} name {len(spec)} dimensions,'
        f' but the array has shape {tuple(array.shape)}. Name every dimension'
        ' where the parameter is made.'
      )
    for name, axis, size in zip(names, spec, array.shape, strict=True):
      if axis is not None and size % self.mesh.shape[axis]:
        raise errors.UserError(
          f'{leaf}: dimension {name!r} of shape {tuple(array.shape)} is not'
          f' divisible by {self.mesh.shape[axis]}, the extent of mesh axis'
          f' {axis!r}. Change num_partitions, the size, or the rule for'
          f' {name!r} in logical_axis_rules.'
        )
    return spec

  def partition(
    self,
    fn: Callable[..., Any],
    in_axis_resources: Any,
    out_axis_resources: Any,
    static_argnums: int | Sequence[int] = (),
    donate_argnums: int | Sequence[int] = (),
  ) -> PjittedFnWithContext:
    """Returns `fn`, jitted, with its arguments and results laid out.

    Args:
      fn: what to run on the mesh.
      in_axis_resources: for each argument that is not static, a tree of
        `PartitionSpec`s, or a prefix of one. None stands for replicated.
      out_axis_resources: the same for the results.
      static_argnums: arguments that are constants of the compiled program.
      donate_argnums: arguments whose memory the results may take.
    """
    jitted = jax.jit(
      fn,
      in_shardings=self.shardings(in_axis_resources),
      out_shardings=self.shardings(out_axis_resources),
      static_argnums=static_argnums,
      donate_argnums=donate_argnums,
    )
    return PjittedFnWithContext(jitted, self.mesh, self.logical_axis_rules)

  def compile(
    self, partitioned_fn: PartitionedCallable, *args: Any
  ) -> jax.stages.Compiled:
    """Compiles a partitioned function for arguments of these shapes.

    Args:
      partitioned_fn: from `partition`.
      *args: arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      A callable that takes arguments of these shapes and layouts only.
    """
    return self.compile_lowered(partitioned_fn.lower(*args))

  @property
  def compiler_options(self) -> dict[str, bool | str]:
    """What XLA is asked for when it compiles for the mesh."""
    if self._compiler_options is not None:
      return dict(self._compiler_options)
    is_tpu = self.mesh.devices.flat[0].platform == 'tpu'
    return dict(TPU_OPTIONS) if is_tpu else {}

  def compile_lowered(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles a lowered function as `compile` does.

    Results do not depend on `TPU_OPTIONS`, so that a compiler which does not
    know one of them compiles without any.

    Raises:
      errors.UserError: the compiler does not know an option that was given.
    """
    options = self.compiler_options
    try:
      return lowered.compile(compiler_options=options or None)
    except jax.errors.JaxRuntimeError as error:
      if not options or _UNKNOWN_OPTION not in str(error):
        raise
      if self._compiler_options is not None:
        raise errors.UserError(
          f'{type(self).__name__}.compiler_options: expected options of this'
          f" XLA's compiler, found {options} ({error}). Leave the unknown ones"
          ' out.'
        ) from error
      logging.warning(
        'This compiler does not know all of %s; compiling without them.',
        ', '.join(options),
      )
    return lowered.compile()


class BasePjitPartitioner(BasePartitioner):
  """T5X's name for a partitioner that compiles with `jax.jit`: they all do."""


class PjitPartitioner(BasePjitPartitioner):
  """Lays arrays out by rules on the logical names of their axes.

  The constructor is that of `BasePartitioner`.
  """

  default_rules = rules.standard_logical_axis_rules()
