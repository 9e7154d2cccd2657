r"""Trains a model on a SeqIO task or mixture.

    python -m t5x.train --gin_file=gin/dss_cqa.gin --gin.TRAIN_STEPS=500

`train` is the whole of a run: data, state, steps, checkpoints, evaluation. What
it is given comes from gin; the files in `t5x/configs/runs` and `gin/` bind it.
"""

if __name__ == '__main__':
  # First, since TensorFlow looks for its settings while it is imported.
  from t5x import entry as _entry

  _entry.load_tensorflow()

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import seqio
from absl import flags

import gin
from t5x import (
  checkpoint_config,
  datasets,
  entry,
  errors,
  evaluators,
  gin_utils,
  initialization,
  loop,
  model_info,
  partitioning,
)
from t5x import progress as progress_lib
from t5x import train_state as train_state_lib
from t5x import trainer as trainer_lib

# With the hardware's generator, and without.
_RNG_KINDS = {True: 'unsafe_rbg', False: 'threefry2x32'}


def train(
  *,
  model: Any,
  train_dataset_cfg: datasets.DatasetConfig,
  train_eval_dataset_cfg: datasets.DatasetConfig | None,
  infer_eval_dataset_cfg: datasets.DatasetConfig | None,
  checkpoint_cfg: checkpoint_config.CheckpointConfig,
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
  get_dataset_fn: Callable[..., Any] = datasets.get_dataset,
  concurrent_metrics: bool = True,
  actions: Mapping[str, Sequence[trainer_lib.BaseAction]] | None = None,
  train_eval_get_dataset_fn: Callable[
    ..., Any
  ] = datasets.get_training_eval_datasets,
  run_eval_before_training: bool = False,
  train_state_initializer_cls: Callable[
    ..., initialization.TrainStateInitializer
  ] = initialization.TrainStateInitializer,
  use_orbax: bool = True,
  verify_matching_vocabs_fn: Callable[..., None]
  | None = datasets.verify_matching_vocabs,
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
  seed = datasets.shared_seed(random_seed)
  init_rng, trainer_rng = jax.random.split(
    jax.random.key(seed, impl=_RNG_KINDS[use_hardware_rng])
  )
  os.makedirs(model_dir, exist_ok=True)
  summarize_config_fn(model_dir, None, 0)

  # 1. The data.
  for cfg in (train_dataset_cfg, train_eval_dataset_cfg):
    if cfg is not None and verify_matching_vocabs_fn is not None:
      verify_matching_vocabs_fn(cfg, model)
  layout = partitioner.get_data_layout(train_dataset_cfg.batch_size)
  train_iter = datasets.prepare_train_iter(
    get_dataset_fn(
      _seeded(train_dataset_cfg, seed),
      layout.shard_id,
      layout.num_shards,
      model.FEATURE_CONVERTER_CLS,
    ),
    partitioner=partitioner,
    checkpoint_cfg=checkpoint_cfg,
    data_layout=layout,
  )
  train_eval = {}
  if train_eval_dataset_cfg is not None:
    eval_layout = partitioner.get_data_layout(train_eval_dataset_cfg.batch_size)
    train_eval = train_eval_get_dataset_fn(
      _seeded(train_eval_dataset_cfg, seed),
      eval_layout.shard_id,
      eval_layout.num_shards,
      eval_steps,
      model.FEATURE_CONVERTER_CLS,
    )
  evaluator = None
  if infer_eval_dataset_cfg is not None:
    evaluator = evaluators.InferenceEvaluator(
      _seeded(infer_eval_dataset_cfg, seed),
      _evaluator_cls(inference_evaluator_cls, concurrent_metrics),
      model,
      partitioner,
      model_dir,
      verify_matching_vocabs_fn,
    )

  # 2. The state: the run's own last checkpoint, else what the configuration
  # names, else from scratch.
  input_shapes, input_types = _global_batch(train_iter, layout)
  initializer = train_state_initializer_cls(
    optimizer_def=model.optimizer_def,
    init_fn=model.get_initial_variables,
    input_shapes=input_shapes,
    input_types=input_types,
    partitioner=partitioner,
    use_orbax=use_orbax,
  )
  train_state = initializer.from_checkpoint_or_scratch(
    _restore_configs(checkpoint_cfg, model_dir),
    init_rng=init_rng,
    ds_iter=train_iter,
  )
  model_info.log_model_info(
    os.path.join(model_dir, 'model-info.txt'), train_state, partitioner
  )
  start = int(train_state.step)
  end = total_steps
  if relative_steps is not None:
    end = _initial_step(checkpoint_cfg) + relative_steps

  # 3. The loop.
  trainer = trainer_cls(
    model=model,
    train_state=train_state,
    partitioner=partitioner,
    eval_names=list(train_eval),
    summary_dir=model_dir,
    train_state_axes=initializer.train_state_axes,
    rng=trainer_rng,
  )
  del train_state  # The trainer donates its buffers to the next state.
  progress = progress_lib.Progress(end, start, loop.on_first_process())
  trainer.step_callback = progress.step
  manager = checkpoint_cfg.save and checkpoint_cfg.save.make_manager(
    model_dir, trainer.train_state, partitioner, train_iter, use_orbax
  )
  run_loop = loop.TrainLoop(
    trainer=trainer,
    train_iter=train_iter,
    checkpoint_manager=manager,
    save_transformations=(
      checkpoint_cfg.save.state_transformation_fns
      if checkpoint_cfg.save
      else ()
    ),
    train_eval=train_eval,
    evaluator=evaluator,
    train_state_axes=initializer.train_state_axes,
    periods=_periods(checkpoint_cfg.save, eval_period, stats_period, gc_period),
    actions={
      trainer_lib.ActionMode[mode]: tuple(those)
      for mode, those in (actions or {}).items()
    },
    progress=progress,
  )
  with contextlib.ExitStack() as stack:
    for part in (train_iter, trainer, evaluator, manager):
      if part is not None:
        stack.callback(part.close)
    stack.enter_context(progress)
    step = run_loop.run(start, end, run_eval_before_training)
  return step, trainer.train_state


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


def _seeded(cfg: datasets.DatasetConfig, seed: int) -> datasets.DatasetConfig:
  """Gives a dataset without a seed the run's, so that a resume reads alike."""
  return cfg if cfg.seed is not None else dataclasses.replace(cfg, seed=seed)


def _evaluator_cls(evaluator_cls, concurrent_metrics: bool):
  if concurrent_metrics:
    return evaluator_cls
  return functools.partial(evaluator_cls, async_compute_metrics=False)


def _global_batch(train_iter, layout):
  """Shapes and types of a batch over all hosts, from one host's."""
  spec = train_iter.element_spec
  shapes = {
    k: (layout.batch_size, *v.shape.as_list()[1:]) for k, v in spec.items()
  }
  return shapes, {k: v.dtype.as_numpy_dtype for k, v in spec.items()}


def _restore_configs(
  checkpoint_cfg: checkpoint_config.CheckpointConfig, model_dir: str
) -> list[checkpoint_config.RestoreCheckpointConfig]:
  own = checkpoint_config.RestoreCheckpointConfig(
    path=model_dir, mode='latest', restore_dataset=True
  )
  return [own, *_given_restore_configs(checkpoint_cfg)]


def _given_restore_configs(checkpoint_cfg):
  restore = checkpoint_cfg.restore
  if restore is None:
    return []
  return list(restore) if isinstance(restore, (list, tuple)) else [restore]


def _initial_step(checkpoint_cfg) -> int:
  """The step that the configured initial checkpoint has; 0 without one."""
  _, paths = initialization.get_first_valid_restore_config_and_paths(
    _given_restore_configs(checkpoint_cfg)
  )
  found = re.search(r'checkpoint_(\d+)/*$', str(paths[0])) if paths else None
  return int(found.group(1)) if found else 0


def _periods(save, eval_period, stats_period, gc_period) -> loop.Periods:
  return loop.Periods(
    stats=eval_period if stats_period is None else stats_period,
    evaluate=eval_period,
    save=(save.period or 0) if save else 0,
    save_steps=frozenset((save.checkpoint_steps or ()) if save else ()),
    gc=gc_period,
  )


def main(argv: Sequence[str]) -> None:
  """Trains with what the flags and gin files say."""
  if len(argv) > 1:
    raise errors.UserError(
      f'Unexpected argument {argv[1]!r}. Options start with --; gin files are'
      ' given as --gin_file=FILE.'
    )
  entry.set_up()
  train_using_gin = gin.configurable(train)
  entry.parse_gin()
  if flags.FLAGS.dry_run:
    print(gin.config_str())
  else:
    train_using_gin()


if __name__ == '__main__':
  entry.define_flags()
  gin_utils.run(main)
