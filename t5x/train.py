r"""Trains a model on a SeqIO task or mixture.

Resumes from the run's last checkpoint if there is one, and evaluates on the
way. The gin files in `t5x/configs/runs` and `gin/` bind the arguments of
`train`.

Distilling step by step on the packaged sample, on any machine:

    python -m t5x.train --gin_file=gin/dss_cqa.gin

The same for 500 steps, in a folder of its own:

    python -m t5x.train --gin_file=gin/dss_cqa.gin \
      --gin.TRAIN_STEPS=500 --gin.MODEL_DIR="'runs/short'"

Fine-tuning T5 1.1 base on a task of yours:

    python -m t5x.train --gin_file=t5x/examples/t5/t5_1_1/base.gin \
      --gin_file=t5x/configs/runs/finetune.gin --gin_file=my_task.gin
"""

if __name__ == '__main__':
  # First, since TensorFlow looks for its settings while it is imported.
  from t5x.cli import flags

  flags.start()

import contextlib
import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence

import jax
import seqio
import tensorflow as tf

from t5x import (
  checkpoints,
  data,
  distributed,
  errors,
  files,
  gin_utils,
  inference,
  initialization,
  models,
  partitioning,
)
from t5x import train_state as train_state_lib
from t5x import trainer as trainer_lib
from t5x.cli import commands, stages
from t5x.run import identity, loop, model_info, preemption, provenance
from t5x.run import progress as progress_lib

run_actions = loop.run_actions

# With the hardware's generator, and without.
_RNG_KINDS = {True: 'unsafe_rbg', False: 'threefry2x32'}

# What decides about the last step, as users call it.
_STEPS = 'TRAIN_STEPS (train.total_steps)'
_RELATIVE_STEPS = 'TRAIN_STEPS_RELATIVE (train.relative_steps)'


def train(
  *,
  model: models.BaseModel,
  train_dataset_cfg: data.DatasetConfig,
  train_eval_dataset_cfg: data.DatasetConfig | None,
  infer_eval_dataset_cfg: data.DatasetConfig | None,
  checkpoint_cfg: checkpoints.CheckpointConfig,
  partitioner: partitioning.BasePartitioner,
  trainer_cls: trainer_lib.BaseTrainerConstructor,
  model_dir: str,
  total_steps: int,
  eval_steps: int,
  eval_period: int,
  relative_steps: int | None = None,
  stats_period: int | None = None,
  random_seed: int | None,
  use_hardware_rng: bool = False,
  summarize_config_fn: commands.SummarizeConfigFn = (
    gin_utils.summarize_gin_config
  ),
  inference_evaluator_cls: Callable[..., seqio.Evaluator] = seqio.Evaluator,
  get_dataset_fn: Callable[
    ..., tf.data.Dataset | data.TrainIterator
  ] = data.get_dataset,
  concurrent_metrics: bool = True,
  actions: Mapping[str, Sequence[trainer_lib.BaseAction]] | None = None,
  train_eval_get_dataset_fn: Callable[
    ..., Mapping[str, tf.data.Dataset]
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
  """Trains, evaluates and saves; resumes from the last checkpoint, if any.

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
    random_seed: of dropout and initialization; None draws one.
    use_hardware_rng: whether dropout uses the device's own generator, which is
      faster and differs between kinds of devices.
    summarize_config_fn: keeps the configuration with the run.
    inference_evaluator_cls: computes the metrics of predictions.
    get_dataset_fn: reads the training data.
    concurrent_metrics: whether metrics are computed while training continues.
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

  # Random keys, and one seed for all data that has none of its own, so that a
  # run that resumes reads the same.
  seed = data.shared_seed(random_seed, identity.stored_seed(model_dir))
  init_rng, trainer_rng = jax.random.split(
    jax.random.key(seed, impl=_RNG_KINDS[use_hardware_rng])
  )
  with contextlib.ExitStack() as stack:
    stack.callback(stages.drop)
    stages.begin('reading data')
    stack.enter_context(commands.writing_folder(model_dir, summarize_config_fn))
    stack.enter_context(
      files.naming_path_in_errors(model_dir, checkpoints.last_complete)
    )
    train_cfg = _seeded(train_dataset_cfg, seed)
    loss_cfg = train_eval_dataset_cfg and _seeded(train_eval_dataset_cfg, seed)
    infer_cfg = infer_eval_dataset_cfg and _seeded(infer_eval_dataset_cfg, seed)
    configs = (train_cfg, loss_cfg, infer_cfg)
    for cfg in (train_cfg, loss_cfg):
      if cfg is not None and verify_matching_vocabs_fn is not None:
        verify_matching_vocabs_fn(cfg, model)
    stack.enter_context(data.naming_damage_in_errors(configs))
    data.check_files(configs)
    signals = stack.enter_context(preemption.StopSignals())

    # Data to train on, to measure the loss on, and to predict.
    layout = partitioner.get_data_layout(train_cfg.batch_size)
    make_dataset = functools.partial(
      get_dataset_fn,
      train_cfg,
      layout.shard_id,
      layout.num_shards,
      model.FEATURE_CONVERTER_CLS,
    )
    train_iter = data.prepare_train_iter(
      make_dataset(),
      partitioner=partitioner,
      checkpoint_cfg=checkpoint_cfg,
      data_layout=layout,
    )
    train_iter.make_again = make_dataset
    stack.callback(train_iter.close)
    loss_data: Mapping[str, tf.data.Dataset] = {}
    if loss_cfg is not None:
      layout = partitioner.get_data_layout(loss_cfg.batch_size)
      loss_data = train_eval_get_dataset_fn(
        loss_cfg,
        layout.shard_id,
        layout.num_shards,
        eval_steps,
        model.FEATURE_CONVERTER_CLS,
      )
    evaluator = None
    if infer_cfg is not None:
      if not concurrent_metrics:
        inference_evaluator_cls = functools.partial(
          inference_evaluator_cls, async_compute_metrics=False
        )
      evaluator = inference.InferenceEvaluator(
        infer_cfg,
        inference_evaluator_cls,
        model,
        partitioner,
        model_dir,
        verify_matching_vocabs_fn,
      )

    stages.begin('tracing the model')
    # Shapes of batch and state, which also tell one experiment from another.
    batch = data.global_batch_shapes(
      train_iter.element_spec, train_cfg.batch_size
    )
    initializer = initialization.initializer_of(
      model,
      partitioner,
      {k: v.shape for k, v in batch.items()},
      {k: v.dtype for k, v in batch.items()},
      initializer_cls=train_state_initializer_cls,
      use_orbax=use_orbax,
    )
    shapes = initializer.global_train_state_shape
    described = identity.describe(train_cfg, shapes, seed)
    distributed.check_agreement(
      'experiment', json.dumps(described, indent=2, sort_keys=True)
    )
    identity.check(model_dir, described, checkpoint_cfg.accept_other_run)
    if jax.process_index() == 0:
      provenance.record(model_dir, jax.devices(), distributed.versions())
    model_info.log_model_info(
      os.path.join(model_dir, 'model-info.txt'), shapes, partitioner
    )

    def make_trainer(
      train_state: train_state_lib.TrainState,
      rng: jax.Array,
      eval_names: Sequence[str] = (),
      summary_dir: str | None = None,
    ) -> trainer_lib.BaseTrainer:
      return trainer_cls(
        model=model,
        train_state=train_state,
        partitioner=partitioner,
        eval_names=eval_names,
        summary_dir=summary_dir,
        train_state_axes=initializer.train_state_axes,
        rng=rng,
      )

    # The state to start from: the run's own last checkpoint, else what the
    # configuration names, else one from scratch. Its arrays may not be computed
    # yet when the next lines run.
    end, limit = total_steps, _STEPS
    if relative_steps is not None:
      limit = _RELATIVE_STEPS
      end = _initial_step(checkpoint_cfg) + relative_steps
    has_steps_left = end not in checkpoints.all_steps(model_dir)
    checkpoints.set_incomplete_aside(model_dir)
    own = checkpoints.RestoreCheckpointConfig(
      path=model_dir,
      mode='latest',
      restore_dataset=True,
      base=checkpoint_cfg.save.base if checkpoint_cfg.save else None,
    )
    restore_cfgs = [own, *_given_restore_configs(checkpoint_cfg)]
    _, paths = checkpoints.get_first_valid_restore_config_and_paths(
      restore_cfgs
    )
    # Meanwhile, a trainer of shapes compiles the step in a thread. To trace the
    # step it needs Python, and two threads that trace are slower than one after
    # the other. So it begins when this thread leaves Python idle: before a
    # checkpoint is read, which mostly waits for files, or, without one, after
    # the initialization is traced, while the devices draw the weights.
    stages.begin(f'{"restoring" if paths else "drawing"} parameters')
    ahead = trainer_lib.CompileAhead(
      lambda: make_trainer(shapes, jax.eval_shape(lambda: trainer_rng)), batch
    )
    if has_steps_left and paths:
      ahead.begin()
    train_state = initializer.from_checkpoint_or_scratch(
      restore_cfgs, init_rng=init_rng, ds_iter=train_iter
    )
    if has_steps_left:
      ahead.begin()  # Does nothing if it has begun.
    start = int(train_state.step)
    is_resumed = bool(checkpoints.all_steps(model_dir))
    if paths and start >= end and not is_resumed:
      raise _no_steps_left(paths[0], start, end, limit)

    stages.begin('compiling')
    # What takes steps, and what saves them.
    trainer = make_trainer(
      train_state, trainer_rng, list(loss_data), summary_dir=model_dir
    )
    del train_state  # The trainer donates its buffers to the next state.
    stack.callback(trainer.close)
    if start < end:
      train_iter.read_ahead()  # While the rest is compiled.
    ahead.give_to(trainer)
    if evaluator is not None:
      stack.callback(evaluator.close)
    save = checkpoint_cfg.save
    manager = None
    if save is not None:
      manager = save.make_manager(
        model_dir, trainer.train_state, partitioner, train_iter, use_orbax
      )
      stack.callback(manager.close)

    # The steps.
    progress = progress_lib.Progress(end, start, jax.process_index() == 0)
    trainer.step_callback = progress.step
    stages.end()
    if is_resumed and start >= end:
      progress.say(
        f'{model_dir}: this run is done: it is at step {start}, and by {limit}'
        f' the last step is {end}. To go on with it, give more steps; to train'
        ' again, give another MODEL_DIR.'
      )
    step = loop.TrainLoop(
      trainer=trainer,
      train_iter=train_iter,
      checkpoint_manager=manager,
      save_transformations=save.state_transformation_fns if save else (),
      train_eval=loss_data,
      evaluator=evaluator,
      train_state_axes=initializer.train_state_axes,
      periods=loop.Periods(
        stats=eval_period if stats_period is None else stats_period,
        evaluate=eval_period,
        save=(save.period or 0) if save else 0,
        save_steps=frozenset((save.checkpoint_steps or ()) if save else ()),
        gc=gc_period,
      ),
      actions={
        trainer_lib.ActionMode[mode]: tuple(of_mode)
        for mode, of_mode in (actions or {}).items()
      },
      progress=stack.enter_context(progress),
      signals=signals,
      evaluated=identity.Evaluated(model_dir),
    ).run(start, end, run_eval_before_training)
  return step, trainer.train_state


def _check_periods(
  total_steps: int, eval_period: int, eval_steps: int, stats_period: int | None
) -> None:
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


def _no_steps_left(
  path: str, start: int, end: int, limit: str
) -> errors.UserError:
  return errors.UserError(
    f'{path}: this initial checkpoint is at step {start}, and by {limit} the'
    f' last step is {end}: nothing is left to train. Set {_STEPS} above'
    f' {start}, or {_RELATIVE_STEPS} to the number of steps to train from it.'
  )


def _seeded(cfg: data.DatasetConfig, seed: int) -> data.DatasetConfig:
  return cfg if cfg.seed is not None else dataclasses.replace(cfg, seed=seed)


def _given_restore_configs(
  checkpoint_cfg: checkpoints.CheckpointConfig,
) -> list[checkpoints.RestoreCheckpointConfig]:
  restore = checkpoint_cfg.restore or []
  if isinstance(restore, checkpoints.RestoreCheckpointConfig):
    return [restore]
  return list(restore)


def _initial_step(checkpoint_cfg: checkpoints.CheckpointConfig) -> int:
  """The step of the configured initial checkpoint; 0 without one."""
  _, paths = checkpoints.get_first_valid_restore_config_and_paths(
    _given_restore_configs(checkpoint_cfg)
  )
  name = re.search(r'checkpoint_(\d+)/*$', str(paths[0])) if paths else None
  return int(name.group(1)) if name else 0


if __name__ == '__main__':
  commands.run({'train': train})
