"""Initializer of train states: from scratch or from checkpoints."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import logging
from flax import traverse_util

from t5x import checkpoints, distributed, models, partitioning, state_utils
from t5x.errors import DamagedError, UserError
from t5x.initialization import batched_draws, threefry
from t5x.optimizers import OptimizerDef
from t5x.train_state import FlaxOptimTrainState, InferenceState, TrainState


def initializer_of(
  model: models.BaseModel,
  partitioner: partitioning.BasePartitioner,
  input_shapes: Mapping[str, Sequence[int]],
  input_types: Mapping[str, Any] | None = None,
  *,
  initializer_cls: Callable[..., 'TrainStateInitializer'] | None = None,
  for_training: bool = True,
  use_orbax: bool = True,
) -> 'TrainStateInitializer':
  """Returns what makes a model's train states, or those for inference.

  Args:
    model: gives the variables.
    partitioner: lays the state out on the devices.
    input_shapes: shape of every feature of a global batch.
    input_types: type of every feature.
    initializer_cls: `TrainStateInitializer`, or a class of the user's own.
    for_training: whether states hold an optimizer.
    use_orbax: see `RestoreCheckpointConfig.checkpointer_cls`.
  """
  return (initializer_cls or TrainStateInitializer)(
    optimizer_def=model.optimizer_def if for_training else None,
    init_fn=model.get_initial_variables,
    input_shapes=input_shapes,
    input_types=input_types,
    partitioner=partitioner,
    use_orbax=use_orbax,
  )


def _type(key: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(key.shape, key.dtype)


class TrainStateInitializer:
  """Makes train states directly on the devices.

  No array is ever whole in one place: from scratch, one compiled function makes
  each device's part on that device; from a checkpoint, each reads its part.

  Attributes:
    global_train_state_shape: the train state with `jax.ShapeDtypeStruct`s.
    train_state_axes: the train state with the mesh axes of every leaf.
  """

  def __init__(
    self,
    optimizer_def: OptimizerDef | None,
    init_fn: Callable[..., Mapping[str, Any]],
    input_shapes: Mapping[str, Sequence[int]],
    partitioner: partitioning.BasePartitioner,
    input_types: Mapping[str, Any] | None = None,
    *,
    use_orbax: bool = True,
  ):
    """Traces the initialization for its shapes; makes no array yet.

    Args:
      optimizer_def: None makes states for inference.
      init_fn: the model's `get_initial_variables`.
      input_shapes: shape of every feature of a global batch.
      partitioner: lays the state out on the devices.
      input_types: type of every feature.
      use_orbax: see `RestoreCheckpointConfig.checkpointer_cls`.
    """
    self._partitioner = partitioner
    self._use_orbax = use_orbax
    # Of the model's network, for what a checkpoint's shapes can't show.
    model = getattr(init_fn, '__self__', None)
    self._network = getattr(getattr(model, 'module', None), 'config', None)

    def initialize(rng):
      variables = init_fn(
        rng=threefry.in_one_pass(rng),
        input_shapes=input_shapes,
        input_types=input_types,
      )
      if optimizer_def is None:
        return InferenceState.create(variables)
      return FlaxOptimTrainState.create(optimizer_def, variables)

    # Tracing is slow: the program that gives the shapes makes the state, too.
    self._trace = functools.cache(jax.make_jaxpr(initialize, return_shape=True))
    self._initializer_for = functools.cache(self._partitioned)
    self.global_train_state_shape: TrainState
    _, self.global_train_state_shape = self._trace(_type(jax.random.key(0)))
    self.train_state_axes = partitioner.get_mesh_axes(
      self.global_train_state_shape
    )

  def from_scratch(self, init_rng: jax.Array) -> TrainState:
    """Makes a fresh state.

    Args:
      init_rng: a key; the same one gives the same state on every mesh.
    """
    return self._initializer_for(_type(init_rng))(init_rng)

  def _partitioned(
    self, key: jax.ShapeDtypeStruct
  ) -> partitioning.PartitionedCallable:
    """Returns the function from a key of that type to a state."""
    program, _ = self._trace(key)
    draw = batched_draws.batched(program)
    state = jax.tree.structure(self.global_train_state_shape)
    return self._partitioner.partition(
      lambda key: jax.tree.unflatten(state, draw(key)),
      in_axis_resources=(None,),
      out_axis_resources=self.train_state_axes,
    )

  def from_checkpoints(
    self,
    restore_cfgs: checkpoints.RestoreConfigs,
    ds_iter: checkpoints.DatasetIterator | None = None,
    init_rng: jax.Array | None = None,
  ) -> Iterator[tuple[TrainState, str]]:
    """Restores the first configuration's checkpoints, one after the other.

    Args:
      restore_cfgs: the first one that has any checkpoint counts; see
        `get_first_valid_restore_config_and_paths`.
      ds_iter: gets the saved data position if the configuration has
        `restore_dataset`.
      init_rng: for leaves that start from scratch.

    Yields:
      A train state and the path of its checkpoint.

    Raises:
      UserError: a checkpoint is absent, incomplete, or does not fit.
    """
    cfg, paths = checkpoints.get_first_valid_restore_config_and_paths(
      restore_cfgs
    )
    if cfg is None:
      return
    logging.info('Restoring %s.', ', '.join(paths))
    options = {
      'fallback_state': self._fallback_state(cfg, init_rng),
      'state_transformation_fns': checkpoints.transformations(cfg),
    }
    for path in paths:
      checkpoints.check_network(path, self._network, cfg.base)
      yield self._restore(cfg, path, ds_iter, options)

  def _restore(
    self,
    cfg: checkpoints.RestoreCheckpointConfig,
    path: str,
    ds_iter: checkpoints.DatasetIterator | None,
    options: Mapping[str, Any],
  ) -> tuple[TrainState, str]:
    """Restores a checkpoint, or the last good one of a run that is resumed."""
    while True:
      restorer = cfg.make_restorer(
        path.rstrip('/').rpartition('/')[0] or '.',
        self.global_train_state_shape,
        self._partitioner,
        ds_iter if cfg.restore_dataset else None,
        self._use_orbax,
      )
      damage = None
      try:
        state = restorer.restore(path=path, **options)
      except DamagedError as error:
        if not (cfg.restore_dataset and cfg.mode == 'latest'):
          raise
        damage = error
      if not distributed.any_process(damage is not None):
        return state, path
      path = checkpoints.last_before(path, damage)

  def _fallback_state(
    self, cfg: checkpoints.RestoreCheckpointConfig, init_rng: jax.Array | None
  ) -> Mapping[str, Any] | None:
    """Returns a state from scratch, if the configuration may need one."""
    rules = cfg.assignment_map or ()
    by_rule = any(source is None for _, source in rules)
    if not (cfg.fallback_to_scratch or by_rule or cfg.from_scratch):
      return None
    if init_rng is None:
      raise UserError(
        'RestoreCheckpointConfig: leaves are to start from scratch'
        ' (fallback_to_scratch, from_scratch, or a rule with None in'
        ' assignment_map), which needs a random seed. Set random_seed (train)'
        ' or fallback_init_rng (eval, infer).'
      )
    if cfg.fallback_to_scratch:
      return self.from_scratch(init_rng).state_dict()

    def is_drawn(name: str) -> bool:
      # Without the fallback, only what is named starts from scratch.
      path = name.removeprefix('target/')
      named = path != name and any(
        state_utils.matches_names(p, path) for p in cfg.from_scratch
      )
      return named or state_utils.starts_from_scratch(name, rules)

    return self._part_from_scratch(init_rng, is_drawn)

  def _part_from_scratch(
    self, init_rng: jax.Array, is_drawn: Callable[[str], bool]
  ) -> Mapping[str, Any]:
    """Makes some leaves of a fresh state, with the memory of those alone.

    Args:
      init_rng: a key.
      is_drawn: tells by the name of a leaf.

    Returns:
      Their part of the state dict; the numbers are those of `from_scratch`.
    """
    leaves, structure = jax.tree.flatten(self.global_train_state_shape)
    numbered = jax.tree.unflatten(structure, range(len(leaves)))
    numbers = {
      name: number
      for name, number in state_utils.flatten_state_dict(
        numbered.state_dict()
      ).items()
      if is_drawn(name)
    }
    axes = jax.tree.leaves(
      self.train_state_axes,
      is_leaf=lambda x: x is None or isinstance(x, jax.sharding.PartitionSpec),
    )
    names = sorted(numbers, key=numbers.__getitem__)
    program, _ = self._trace(_type(init_rng))
    draw = self._partitioner.partition(
      batched_draws.batched(program, set(numbers.values())),
      in_axis_resources=(None,),
      out_axis_resources=[axes[numbers[name]] for name in names],
    )
    drawn = dict(zip(names, draw(init_rng), strict=True))
    return traverse_util.unflatten_dict(drawn, sep='/')

  def from_checkpoint(
    self,
    ckpt_cfgs: checkpoints.RestoreConfigs,
    *,
    ds_iter: checkpoints.DatasetIterator | None = None,
    init_rng: jax.Array | None = None,
  ) -> TrainState | None:
    """Restores the one checkpoint that the configurations name.

    Returns:
      The train state, or None if there is no checkpoint.

    Raises:
      UserError: they name several, or one that does not fit.
    """
    cfg, paths = checkpoints.get_first_valid_restore_config_and_paths(ckpt_cfgs)
    if len(paths) > 1:
      raise UserError(
        f'RestoreCheckpointConfig: expected one checkpoint, found {len(paths)}:'
        f' {", ".join(paths)}. Give one path, with mode specific or latest.'
      )
    restored = self.from_checkpoints(
      [cfg] if cfg else [], ds_iter=ds_iter, init_rng=init_rng
    )
    return next((state for state, _ in restored), None)

  def from_checkpoint_or_scratch(
    self,
    ckpt_cfgs: checkpoints.RestoreConfigs,
    *,
    init_rng: jax.Array,
    ds_iter: checkpoints.DatasetIterator | None = None,
  ) -> TrainState:
    """Restores the checkpoint, or makes a fresh state if there is none."""
    state = self.from_checkpoint(ckpt_cfgs, ds_iter=ds_iter, init_rng=init_rng)
    if state is None:
      logging.info('No checkpoint: starting from scratch.')
      state = self.from_scratch(init_rng)
    return state
