r"""Evaluates the checkpoints of a run on a SeqIO task or mixture.

Leaves the metrics, and JSON lines with inputs, targets and predictions, in
`<output_dir>/inference_eval/`. `t5x/configs/runs/eval.gin` binds the arguments
of `evaluate`.

A run's last checkpoint again:

    python -m t5x.eval --gin_file=runs/dss_cqa/config.gin \
      --gin_file=gin/dss_eval.gin

All of its checkpoints:

    python -m t5x.eval --gin_file=runs/dss_cqa/config.gin \
      --gin_file=gin/dss_eval.gin --gin.CHECKPOINT_MODE="'all'"
"""

if __name__ == '__main__':
  # First, since TensorFlow looks for its settings while it is imported.
  from t5x.cli import flags

  flags.start()

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import seqio
import tensorflow as tf

from t5x import (
  checkpoints,
  data,
  errors,
  gin_utils,
  inference,
  initialization,
  models,
  neutral,
  partitioning,
)
from t5x import trainer as trainer_lib
from t5x.cli import commands, stages
from t5x.run import progress

# The gin files of a run bind `train` in the main module. Having the name here
# lets an evaluation be given the files, or the config.gin, of the run itself.
from t5x.train import train  # noqa: F401

InferenceEvaluator = inference.InferenceEvaluator
SummarizeConfigFn = commands.SummarizeConfigFn

# More batches than any dataset has: the loss is measured on all of them.
_ALL_BATCHES = 2**31 - 1


def evaluate(
  *,
  model: models.BaseModel,
  dataset_cfg: data.DatasetConfig,
  restore_checkpoint_cfg: checkpoints.RestoreCheckpointConfig,
  partitioner: partitioning.BasePartitioner,
  output_dir: str,
  inference_evaluator_cls: Callable[..., seqio.Evaluator]
  | None = seqio.Evaluator,
  training_evaluator_cls: trainer_lib.BaseTrainerConstructor | None = None,
  summarize_config_fn: SummarizeConfigFn = gin_utils.summarize_gin_config,
  train_state_initializer_cls: Callable[
    ..., initialization.TrainStateInitializer
  ] = initialization.TrainStateInitializer,
  train_eval_get_dataset_fn: Callable[
    ..., Mapping[str, tf.data.Dataset]
  ] = data.get_training_eval_datasets,
  fallback_init_rng: int | None = None,
  use_orbax: bool = True,
) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
  """Evaluates every checkpoint that a restore configuration names.

  Args:
    model: predicts and scores.
    dataset_cfg: what to evaluate on.
    restore_checkpoint_cfg: which checkpoints: one (mode 'specific' or
      'latest') or each of a folder, from the first step on ('all').
    partitioner: lays arrays out on the devices.
    output_dir: results go to its `inference_eval/` and `training_eval/`.
    inference_evaluator_cls: computes SeqIO's metrics; None leaves them out.
    training_evaluator_cls: a trainer that measures the loss, as a run does
      while it trains; None leaves that out.
    summarize_config_fn: keeps the configuration with the results.
    train_state_initializer_cls: restores states.
    train_eval_get_dataset_fn: reads the data to measure the loss on.
    fallback_init_rng: seed of leaves that the checkpoint lacks, where the
      restore configuration allows for them.
    use_orbax: see `RestoreCheckpointConfig.checkpointer_cls`.

  Returns:
    Checkpoint to task to metric to value. Other processes than the first get
    no metric of predictions.

  Raises:
    errors.UserError: there is no checkpoint, it does not fit, or there is
      nothing to evaluate.
  """
  if inference_evaluator_cls is None and training_evaluator_cls is None:
    raise errors.UserError(
      'evaluate: both inference_evaluator_cls and training_evaluator_cls are'
      ' None, so there is nothing to compute. Set one of them.'
    )
  results: dict[str, dict[str, Any]] = {}
  with contextlib.ExitStack() as stack:
    stack.enter_context(
      commands.writing_folder(
        output_dir, summarize_config_fn, name='EVAL_OUTPUT_DIR'
      )
    )
    stack.enter_context(data.naming_damage_in_errors([dataset_cfg]))
    data.check_files([dataset_cfg])
    # Data to measure the loss on, and to predict.
    loss_data: Mapping[str, tf.data.Dataset] = {}
    if training_evaluator_cls is not None:
      layout = partitioner.get_data_layout(dataset_cfg.batch_size)
      loss_data = train_eval_get_dataset_fn(
        dataset_cfg,
        layout.shard_id,
        layout.num_shards,
        _ALL_BATCHES,
        model.FEATURE_CONVERTER_CLS,
      )
    evaluator = None
    if inference_evaluator_cls is not None:
      evaluator = InferenceEvaluator(
        dataset_cfg, inference_evaluator_cls, model, partitioner, output_dir
      )

    # The checkpoints, one after the other.
    stages.begin('restoring parameters')
    initializer = initialization.initializer_of(
      model,
      partitioner,
      _input_shapes(dataset_cfg, evaluator, loss_data),
      initializer_cls=train_state_initializer_cls,
      for_training=False,
      use_orbax=use_orbax,
    )
    if evaluator is not None:
      stack.callback(evaluator.close)
    trainer: trainer_lib.BaseTrainer | None = None
    for state, path in initializer.from_checkpoints(
      [restore_checkpoint_cfg], init_rng=commands.init_key(fallback_init_rng)
    ):
      stages.end()
      results[path] = {}
      if training_evaluator_cls and loss_data and trainer is None:
        trainer = training_evaluator_cls(
          model=model,
          train_state=state,
          partitioner=partitioner,
          eval_names=list(loss_data),
          summary_dir=output_dir,
          train_state_axes=initializer.train_state_axes,
          rng=jax.random.key(0),
        )
        stack.callback(trainer.close)
      if trainer is not None:
        trainer.train_state = state
        losses = trainer.eval(
          {task: ds.as_numpy_iterator() for task, ds in loss_data.items()}
        )
        results[path] = {task: dict(values) for task, values in losses.items()}
      if evaluator is not None:
        with progress.evaluation() as on_rows:
          future = evaluator.evaluate(
            state, initializer.train_state_axes, on_rows
          )
        for task, metrics in (future.result() or {}).items():
          results[path].setdefault(task, {}).update(metrics)
      _report(path, results[path])
  if not results:
    raise commands.no_checkpoint(restore_checkpoint_cfg)
  return results


def _input_shapes(
  cfg: data.DatasetConfig,
  evaluator: inference.InferenceEvaluator | None,
  loss_data: Mapping[str, tf.data.Dataset],
) -> Mapping[str, tuple[int, ...]]:
  """Returns the shapes of a global batch."""
  if evaluator is not None and evaluator.eval_tasks:
    return evaluator.model_feature_shapes
  if loss_data:
    spec = next(iter(loss_data.values())).element_spec
    shapes = data.global_batch_shapes(spec, cfg.batch_size)
    return {name: leaf.shape for name, leaf in shapes.items()}
  provider = data.mixture_or_task(cfg)
  raise errors.UserError(
    f'{provider.name!r} has no task with metrics and the split {cfg.split!r}.'
    f' Splits: {sorted(provider.splits)}.'
    f'{errors.did_you_mean(cfg.split, provider.splits)} A task without'
    ' metric_fns has nothing to evaluate: use t5x.infer.'
  )


def _report(path: str, by_task: Mapping[str, Mapping[str, Any]]) -> None:
  """Prints the numbers of a checkpoint, one line per task."""
  if jax.process_index() != 0:
    return
  name = os.path.basename(path.rstrip('/'))
  for task, metrics in by_task.items():
    numbers = [f'{k} {v:.4g}' for k, v in progress.scalars(metrics).items()]
    neutral.say(f'{name}  {task}  {"  ".join(numbers)}')


if __name__ == '__main__':
  commands.run({'eval': evaluate})
