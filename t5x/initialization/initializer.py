"""Makes the train state that a run, an evaluation or inference starts with."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from absl import logging
from flax import traverse_util

from t5x import checkpoints, distributed, state_utils
from t5x import train_state as train_state_lib
from t5x.errors import DamagedError, UserError
from t5x.initialization import batched_draws, threefry


def _type(key: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(key.shape, key.dtype)


class TrainStateInitializer:
  """Makes train states, on the devices from the start.

  No array is ever whole in one place: from scratch, one compiled function makes
  every device's part there; from a checkpoint, every device reads its part.

  Attributes:
    global_train_state_shape: the train state with `jax.ShapeDtypeStruct`s.
    train_state_axes: the train state with the mesh axes of every leaf.
  """

  def __init__(
    self,
    optimizer_def: Any | None,
    init_fn: Callable[..., Mapping[str, Any]],
    input_shapes: Mapping[str, Any],
    partitioner: Any,
    input_types: Mapping[str, Any] | None = None,
    *,
    use_orbax: bool = True,
  ):
    """Traces the initialisation for its shapes; makes nothing yet.

    Args:
      optimizer_def: None makes states for inference.
      init_fn: the model's `get_initial_variables`.
      input_shapes: shape of every feature of a global batch.
      partitioner: says how the state lies on the devices.
      input_types: type of every feature.
      use_orbax: see `RestoreCheckpointConfig.checkpointer_cls`.
    """
    self._partitioner = partitioner
    self._use_orbax = use_orbax

    def initialize(rng):
      variables = init_fn(
        rng=threefry.in_one_pass(rng),
        input_shapes=input_shapes,
        input_types=input_types,
      )
      if optimizer_def is None:
        return train_state_lib.InferenceState.create(variables)
      return train_state_lib.FlaxOptimTrainState.create(
        optimizer_def, variables
      )

    # Tracing takes a while: what gives the shapes is also what makes the state.
    self._trace = functools.cache(jax.make_jaxpr(initialize, return_shape=True))
    self._from_scratch = functools.cache(self._partitioned)
    _, self.global_train_state_shape = self._trace(_type(jax.random.key(0)))
    self.train_state_axes = partitioner.get_mesh_axes(
      self.global_train_state_shape
    )

  def from_scratch(self, init_rng: jax.Array) -> Any:
    """Makes a fresh state.

    Args:
      init_rng: a key; the same one gives the same state on every mesh.
    """
    return self._from_scratch(_type(init_rng))(init_rng)

  def _partitioned(self, key: jax.ShapeDtypeStruct) -> Callable[..., Any]:
    """Returns what makes a state of a key of that type."""
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
    ds_iter: Any | None = None,
    init_rng: jax.Array | None = None,
  ) -> Iterator[tuple[Any, str]]:
    """Restores the first configuration's checkpoints, one after the other.

    Args:
      restore_cfgs: the first one that has any checkpoint counts; see
        `get_first_valid_restore_config_and_paths`.
      ds_iter: object with `set_state`; gets the saved data position if the
        configuration says `restore_dataset`.
      init_rng: for leaves that start from scratch.

    Yields:
      A train state and the path that it came from.

    Raises:
      UserError: a checkpoint is absent, incomplete, or does not fit.
    """
    cfg, paths = checkpoints.get_first_valid_restore_config_and_paths(
      restore_cfgs
    )
    if cfg is None:
      return
    logging.info('Restoring %s.', ', '.join(paths))
    fallback = self._fallback_state(cfg, init_rng)
    transformations = list(cfg.state_transformation_fns)
    if cfg.assignment_map:
      transformations.append(
        functools.partial(
          state_utils.apply_assignment_map,
          assignment_map=cfg.assignment_map,
          require_all_rules_match=cfg.strict,
        )
      )
    for path in paths:
      yield self._restore(cfg, path, fallback, transformations, ds_iter)

  def _restore(self, cfg, path, fallback, transformations, ds_iter):
    """Restores one checkpoint; of a run that goes on, the last good one."""
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
        state = restorer.restore(
          path=path,
          fallback_state=fallback,
          state_transformation_fns=transformations,
        )
      except DamagedError as error:
        if not (cfg.restore_dataset and cfg.mode == 'latest'):
          raise
        damage = error
      if not distributed.any_process(damage is not None):
        return state, path
      path = checkpoints.last_before(path, damage)

  def _fallback_state(
    self,
    cfg: checkpoints.RestoreCheckpointConfig,
    init_rng: jax.Array | None,
  ) -> Mapping[str, Any] | None:
    """A state from scratch, if the configuration may need one."""
    from_scratch = [
      pattern for pattern, source in cfg.assignment_map or () if source is None
    ]
    if not (cfg.fallback_to_scratch or from_scratch):
      return None
    if init_rng is None:
      raise UserError(
        'RestoreCheckpointConfig: leaves are to start from scratch'
        ' (fallback_to_scratch, or a rule with None in assignment_map), which'
        ' needs a random seed. Set random_seed (train) or fallback_init_rng'
        ' (eval, infer).'
      )
    state = self.from_scratch(init_rng).state_dict()
    if cfg.fallback_to_scratch:
      return state
    # Without the fallback, only what the rules leave out starts from scratch.
    flat = state_utils.flatten_state_dict(state)
    return traverse_util.unflatten_dict(
      {
        name: leaf
        for name, leaf in flat.items()
        if state_utils.starts_from_scratch(name, cfg.assignment_map)
      },
      sep='/',
    )

  def from_checkpoint(
    self,
    ckpt_cfgs: checkpoints.RestoreConfigs,
    *,
    ds_iter: Any | None = None,
    init_rng: jax.Array | None = None,
  ) -> Any | None:
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
    ds_iter: Any | None = None,
  ) -> Any:
    """Restores the one checkpoint there is, or makes a fresh state."""
    state = self.from_checkpoint(ckpt_cfgs, ds_iter=ds_iter, init_rng=init_rng)
    if state is None:
      logging.info('No checkpoint: starting from scratch.')
      state = self.from_scratch(init_rng)
    return state
