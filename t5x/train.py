r"""Trains a model on a SeqIO task or mixture.

    python -m t5x.train --gin_file=gin/dss_cqa.gin --gin.TRAIN_STEPS=500

`train` is the whole of a run: data, state, steps, checkpoints, evaluation. What
it is given comes from gin; the files in `t5x/configs/runs` and `gin/` bind it.
"""

if __name__ == '__main__':
  # First, since TensorFlow looks for its settings while it is imported.
  from t5x.cli import flags

  flags.start('train')

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import seqio
from etils import epath

from t5x import (
  checkpoints,
  data,
  errors,
  files,
  gin_utils,
  inference,
  initialization,
  partitioning,
)
from t5x import train_state as train_state_lib
from t5x import trainer as trainer_lib
from t5x.cli import commands
from t5x.run import identity, loop, model_info, preemption
from t5x.run import progress as progress_lib

run_actions = loop.run_actions

# With the hardware's generator, and without.
_RNG_KINDS = {True: 'unsafe_rbg', False: 'threefry2x32'}


def train(
  *,
  model: Any,
  train_dataset_cfg: data.DatasetConfig,
  train_eval_dataset_cfg: data.DatasetConfig | None,
  infer_eval_dataset_cfg: data.DatasetConfig | None,
  checkpoint_cfg: checkpoints.CheckpointConfig,
  partitioner: partitioning.BasePartitioner,
  trainer_cls: Callable[..., trainer_lib.BaseTrainer],
  model_dir: str,
  total_steps: int,
  eval_steps: int,
  eval_period: int,
  relative_steps: int | None = None,
  stats_period: int | None = None,
  random_seed: int | None,
  use_hardware_rng: bool = False,
  summarize_config_fn: Callable[
    [str, Any, int], None
  ] = gin_utils.summarize_gin_config,
  inference_evaluator_cls: Callable[..., seqio.Evaluator] = seqio.Evaluator,
  get_dataset_fn: Callable[..., Any] = data.get_dataset,
  concurrent_metrics: bool = True,
  actions: Mapping[str, Sequence[trainer_lib.BaseAction]] | None = None,
  train_eval_get_dataset_fn: Callable[
    ..., Any
  ] = data.get_training_eval_datasets,
  run_eval_before_training: bool = False,
  train_state_initializer_cls: Callable[
    ..., initialization.TrainStateInitializer
  ] = initialization.TrainStateInitializer,
  use_orbax: bool = True,
  verify_matching_vocabs_fn: Callable[..., None]
  | None = data.verify_matching_vocabs,
  gc_period: int = 0,
) -> tuple[int, train_state_lib.TrainState]:
  """Trains, evaluates and saves, from the last checkpoint on if there is one.

  Args:
    model: what to train.
    train_dataset_cfg: the training data.
    train_eval_dataset_cfg: data on which to measure the loss, or None.
    infer_eval_dataset_cfg: data to predict and compute metrics on, or None.
    checkpoint_cfg: when to save, and what to start from.
    partitioner: lays out arrays on the devices.
    trainer_cls: makes the trainer.
    model_dir: the run's folder.
    total_steps: the step at which the run is done.
    eval_steps: batches of one measurement of the loss, at most.
    eval_period: steps between evaluations; 0 evaluates at the end alone.
    relative_steps: if given, train this many steps from where the run started
      instead of up to `total_steps`.
    stats_period: steps between written training metrics; by default
      `eval_period`.
    random_seed: of dropout and initialisation; None draws one.
    use_hardware_rng: whether dropout uses the device's own generator, which is
      faster and differs between kinds of devices.
    summarize_config_fn: keeps the configuration with the run.
    inference_evaluator_cls: computes the metrics of predictions.
    get_dataset_fn: reads the training data.
    concurrent_metrics: whether metrics are computed while training goes on.
    actions: called after training metrics, evaluation of the loss, evaluation
      of predictions; one that returns True stops the run.
    train_eval_get_dataset_fn: reads the data to measure the loss on.
    run_eval_before_training: whether to evaluate at the first step too.
    train_state_initializer_cls: makes and restores states.
    use_orbax: whether checkpoints are written in the Orbax layout rather than
      in T5X's legacy one.
    verify_matching_vocabs_fn: compares vocabularies of data and model.
    gc_period: if positive, Python's garbage is collected every so many steps
      and at no other time.

  Returns:
    The last step and the state there.

  Raises:
    errors.UserError: for a configuration that can't work.
  """
  _check_periods(total_steps, eval_period, eval_steps, stats_period)
  seed = data.shared_seed(random_seed, identity.stored_seed(model_dir))
  init_rng, trainer_rng = jax.random.split(
    jax.random.key(seed, impl=_RNG_KINDS[use_hardware_rng])
  )
  with files.naming_path_in_errors(model_dir):
    epath.Path(model_dir).mkdir(parents=True, exist_ok=True)
    summarize_config_fn(model_dir, None, 0)
  run = _Run(model, partitioner, checkpoint_cfg, model_dir, use_orbax)
  configs = [
    cfg and _seeded(cfg, seed)
    for cfg in (
      train_dataset_cfg,
      train_eval_dataset_cfg,
      infer_eval_dataset_cfg,
    )
  ]
  run.check_vocabularies(configs[:2], verify_matching_vocabs_fn)
  with contextlib.ExitStack() as stack:
    stack.enter_context(files.naming_path_in_errors(model_dir))
    stack.enter_context(data.damage_named(configs))
    data.check_files(configs)
    signals = stack.enter_context(preemption.StopSignals())
    train_iter = run.training_data(configs[0], get_dataset_fn)
    stack.callback(train_iter.close)
    train_eval = run.training_eval_data(
      configs[1], eval_steps, train_eval_get_dataset_fn
    )
    evaluator = configs[2] and inference.InferenceEvaluator(
      configs[2],
      _evaluator_cls(inference_evaluator_cls, concurrent_metrics),
      model,
      partitioner,
      model_dir,
      verify_matching_vocabs_fn,
    )
    batch = data.global_batch_shapes(
      train_iter.element_spec, configs[0].batch_size
    )
    initializer = run.initializer(train_state_initializer_cls, batch)
    run.check_identity(configs[0], initializer, seed)
    run.describe_model(initializer)
    end = _last_step(total_steps, relative_steps, checkpoint_cfg)
    make_trainer = functools.partial(run.trainer, trainer_cls, initializer)
    ahead = trainer_lib.CompileAhead(
      lambda: make_trainer(
        initializer.global_train_state_shape,
        jax.eval_shape(lambda: trainer_rng),
      ),
      batch,
    )
    train_state = run.first_state(
      initializer,
      train_iter,
      init_rng,
      ahead.begin if run.is_unfinished(end) else lambda: None,
    )
    start = int(train_state.step)
    trainer = make_trainer(
      train_state, trainer_rng, list(train_eval), summary_dir=model_dir
    )
    del train_state  # The trainer donates its buffers to the next state.
    stack.callback(trainer.close)
    if start < end:
      train_iter.read_ahead()  # While the rest is compiled.
    ahead.give_to(trainer)
    manager = run.checkpoint_manager(trainer.train_state, train_iter)
    for part in filter(None, (evaluator, manager)):
      stack.callback(part.close)
    progress = progress_lib.Progress(end, start, loop.on_first_process())
    trainer.step_callback = progress.step
    run_loop = loop.TrainLoop(
      trainer=trainer,
      train_iter=train_iter,
      checkpoint_manager=manager,
      save_transformations=run.save_transformations,
      train_eval=train_eval,
      evaluator=evaluator,
      train_state_axes=initializer.train_state_axes,
      periods=run.periods(eval_period, stats_period, gc_period),
      actions=_actions_by_mode(actions),
      progress=stack.enter_context(progress),
      signals=signals,
      evaluated=identity.Evaluated(model_dir),
    )
    step = run_loop.run(start, end, run_eval_before_training)
  return step, trainer.train_state


@dataclasses.dataclass(frozen=True)
class _Run:
  """What the parts of a run share, and how each part is made."""

  model: Any
  partitioner: partitioning.BasePartitioner
  checkpoint_cfg: checkpoints.CheckpointConfig
  model_dir: str
  use_orbax: bool

  def check_vocabularies(self, configs, verify) -> None:
    for cfg in filter(None, configs):
      if verify is not None:
        verify(cfg, self.model)

  def training_data(self, cfg, get_dataset_fn) -> data.TrainIterator:
    layout = self.partitioner.get_data_layout(cfg.batch_size)
    make = functools.partial(
      get_dataset_fn,
      cfg,
      layout.shard_id,
      layout.num_shards,
      self.model.FEATURE_CONVERTER_CLS,
    )
    train_iter = data.prepare_train_iter(
      make(),
      partitioner=self.partitioner,
      checkpoint_cfg=self.checkpoint_cfg,
      data_layout=layout,
    )
    train_iter.make_again = make
    return train_iter

  def training_eval_data(self, cfg, eval_steps, get_datasets_fn):
    """Task to batches on which the loss is measured; {} without a config."""
    if cfg is None:
      return {}
    layout = self.partitioner.get_data_layout(cfg.batch_size)
    return get_datasets_fn(
      cfg,
      layout.shard_id,
      layout.num_shards,
      eval_steps,
      self.model.FEATURE_CONVERTER_CLS,
    )

  def initializer(self, initializer_cls, batch):
    """Returns what makes states."""
    return initialization.initializer_of(
      self.model,
      self.partitioner,
      {k: v.shape for k, v in batch.items()},
      {k: v.dtype for k, v in batch.items()},
      initializer_cls=initializer_cls,
      use_orbax=self.use_orbax,
    )

  def check_identity(self, train_cfg, initializer, seed) -> None:
    identity.check(
      self.model_dir,
      identity.describe(train_cfg, initializer.global_train_state_shape, seed),
      self.checkpoint_cfg.accept_other_run,
    )

  def first_state(self, initializer, train_iter, init_rng, meanwhile):
    """Returns the state to start from, which may still be in the making.

    That is the run's own last checkpoint, else what the configuration names,
    else one from scratch. `meanwhile` is called once this leaves Python idle:
    before a checkpoint is read, or after the devices are told to draw.
    """
    checkpoints.set_incomplete_aside(self.model_dir)
    own = checkpoints.RestoreCheckpointConfig(
      path=self.model_dir, mode='latest', restore_dataset=True
    )
    configs = [own, *_given_restore_configs(self.checkpoint_cfg)]
    if checkpoints.get_first_valid_restore_config_and_paths(configs)[1]:
      meanwhile()
    state = initializer.from_checkpoint_or_scratch(
      configs, init_rng=init_rng, ds_iter=train_iter
    )
    meanwhile()
    return state

  def describe_model(self, initializer) -> None:
    model_info.log_model_info(
      os.path.join(self.model_dir, 'model-info.txt'),
      initializer.global_train_state_shape,
      self.partitioner,
    )

  def trainer(
    self, trainer_cls, initializer, state, rng, eval_names=(), summary_dir=None
  ):
    """Returns what takes steps; without a folder, what compiles them."""
    return trainer_cls(
      model=self.model,
      train_state=state,
      partitioner=self.partitioner,
      eval_names=eval_names,
      summary_dir=summary_dir,
      train_state_axes=initializer.train_state_axes,
      rng=rng,
    )

  def is_unfinished(self, end: int) -> bool:
    """Whether the run has no checkpoint of its last step yet."""
    return end not in checkpoints.all_steps(self.model_dir)

  def checkpoint_manager(self, train_state, train_iter):
    """Returns what saves the run, or None."""
    save = self.checkpoint_cfg.save
    return save and save.make_manager(
      self.model_dir, train_state, self.partitioner, train_iter, self.use_orbax
    )

  @property
  def save_transformations(self):
    save = self.checkpoint_cfg.save
    return save.state_transformation_fns if save else ()

  def periods(self, eval_period, stats_period, gc_period) -> loop.Periods:
    save = self.checkpoint_cfg.save
    return loop.Periods(
      stats=eval_period if stats_period is None else stats_period,
      evaluate=eval_period,
      save=(save.period or 0) if save else 0,
      save_steps=frozenset((save.checkpoint_steps or ()) if save else ()),
      gc=gc_period,
    )


def _last_step(total_steps, relative_steps, checkpoint_cfg) -> int:
  if relative_steps is None:
    return total_steps
  return _initial_step(checkpoint_cfg) + relative_steps


def _actions_by_mode(actions):
  return {
    trainer_lib.ActionMode[mode]: tuple(those)
    for mode, those in (actions or {}).items()
  }


def _check_periods(total_steps, eval_period, eval_steps, stats_period):
  for name, value, least in (
    ('total_steps', total_steps, 0),
    ('eval_period', eval_period, 0),
    ('eval_steps', eval_steps, 0),
    ('stats_period', stats_period or 1, 1),
  ):
    if value < least:
      raise errors.UserError(
        f'train.{name}: expected at least {least}, found {value}.'
      )


def _seeded(cfg: data.DatasetConfig, seed: int) -> data.DatasetConfig:
  """Gives a dataset without a seed the run's, so that a resume reads alike."""
  return cfg if cfg.seed is not None else dataclasses.replace(cfg, seed=seed)


def _evaluator_cls(evaluator_cls, concurrent_metrics: bool):
  if concurrent_metrics:
    return evaluator_cls
  return functools.partial(evaluator_cls, async_compute_metrics=False)


def _given_restore_configs(checkpoint_cfg):
  restore = checkpoint_cfg.restore
  if restore is None:
    return []
  return list(restore) if isinstance(restore, (list, tuple)) else [restore]


def _initial_step(checkpoint_cfg) -> int:
  """The step that the configured initial checkpoint has; 0 without one."""
  _, paths = checkpoints.get_first_valid_restore_config_and_paths(
    _given_restore_configs(checkpoint_cfg)
  )
  found = re.search(r'checkpoint_(\d+)/*$', str(paths[0])) if paths else None
  return int(found.group(1)) if found else 0


if __name__ == '__main__':
  commands.run(train, 'train')
