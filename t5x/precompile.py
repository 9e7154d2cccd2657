r"""Compiles the training step of a configuration, and does no training.

Shows whether a configuration fits the devices, writes the compiled program as
text, and fills JAX's compilation cache (JAX_COMPILATION_CACHE_DIR), from which
the run then starts at once. No example and no checkpoint is read.

Does it fit?

    python -m t5x.precompile --gin_file=t5x/examples/t5/t5_1_1/xl.gin \
      --gin_file=t5x/configs/runs/precompile.gin --gin_file=my_task.gin \
      --gin.MODEL_DIR="'runs/xl'"
"""

if __name__ == '__main__':
  # First, since TensorFlow looks for its settings while it is imported.
  from t5x.cli import flags

  flags.start()

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import tensorflow as tf

from t5x import (
  data,
  files,
  initialization,
  models,
  neutral,
  optimizers,
  partitioning,
)
from t5x import trainer as trainer_lib
from t5x.cli import commands, stages

# The gin files of a run bind `train` in the main module. Having the name here
# lets this be given the files of the run itself.
from t5x.train import train  # noqa: F401

_MIB = 2**20


def default_trainer(**kwargs: Any) -> trainer_lib.Trainer:
  """Makes a trainer with a constant learning rate and whole batches."""
  return trainer_lib.Trainer(
    learning_rate_fn=optimizers.create_learning_rate_scheduler(
      factors='constant', base_learning_rate=0.001
    ),
    num_microbatches=None,
    **kwargs,
  )


def precompile(
  *,
  model: models.BaseModel,
  train_dataset_cfg: data.DatasetConfig,
  partitioner: partitioning.BasePartitioner,
  model_dir: str,
  random_seed: int | None,
  get_dataset_fn: Callable[..., tf.data.Dataset] = data.get_dataset,
  verify_matching_vocabs_fn: Callable[..., None]
  | None = data.verify_matching_vocabs,
  trainer_cls: Callable[..., trainer_lib.BaseTrainer] = default_trainer,
  use_hardware_rng: bool = False,
) -> Mapping[str, float]:
  """Lowers and compiles the training step.

  Writes `lowered_hlo.txt` (StableHLO, what JAX traced) and `compiled_hlo.txt`
  (what the devices run) into `model_dir`.

  Args:
    model: what would be trained.
    train_dataset_cfg: what it would be trained on; only its shapes are used.
    partitioner: lays arrays out on the devices; those that are here if its
      backend (a TPU by the stock file) is not.
    model_dir: where the texts go.
    random_seed: unused, since nothing is drawn here.
    get_dataset_fn: makes the dataset.
    verify_matching_vocabs_fn: compares vocabularies of data and model.
    trainer_cls: makes the trainer. With the run's own, the compiled step is
      the very one that the run looks up in the cache; the default has a
      schedule of its own (T5X's interface names no trainer here).
    use_hardware_rng: as the run has it, for the same reason.

  Returns:
    Seconds of lowering and compiling, and the bytes that each device needs for
    arguments and temporary values, if the compiler reports them.

  Raises:
    errors.UserError: for a configuration that can't work.
  """
  del random_seed
  missing = partitioner.leave_missing_backend()
  if missing and jax.process_index() == 0:
    neutral.say(
      f'PjitPartitioner.backend is {missing!r}, which is not here: compiling'
      f' for {jax.default_backend()!r}. Run this on the machine that is to'
      ' train.'
    )
  commands.prepare_folder(model_dir)
  if verify_matching_vocabs_fn is not None:
    verify_matching_vocabs_fn(train_dataset_cfg, model)
  layout = partitioner.get_data_layout(train_dataset_cfg.batch_size)
  spec = get_dataset_fn(
    train_dataset_cfg,
    layout.shard_id,
    layout.num_shards,
    model.FEATURE_CONVERTER_CLS,
  ).element_spec
  batch = data.global_batch_shapes(spec, train_dataset_cfg.batch_size)
  stages.begin('tracing the model')
  initializer = initialization.initializer_of(
    model,
    partitioner,
    {k: v.shape for k, v in batch.items()},
    {k: v.dtype for k, v in batch.items()},
  )
  # Only the kind of the key decides about the compiled step, not its value.
  rng = jax.random.key(
    0, impl='unsafe_rbg' if use_hardware_rng else 'threefry2x32'
  )
  trainer = trainer_cls(
    model=model,
    train_state=initializer.global_train_state_shape,
    partitioner=partitioner,
    eval_names=[],
    summary_dir=None,
    train_state_axes=initializer.train_state_axes,
    rng=jax.eval_shape(lambda: rng),
  )
  return _compile(trainer, partitioner, batch, model_dir)


def _compile(
  trainer: trainer_lib.BaseTrainer,
  partitioner: partitioning.BasePartitioner,
  batch: Mapping[str, jax.ShapeDtypeStruct],
  model_dir: str,
) -> Mapping[str, float]:
  """Compiles as the run's own trainer would, so that the run finds it cached.

  Writes the texts and prints the costs.
  """
  start = time.perf_counter()
  lowered = trainer.lower_train(batch)
  lowering = time.perf_counter() - start
  _write(os.path.join(model_dir, 'lowered_hlo.txt'), lowered.as_text())
  start = time.perf_counter()
  stages.begin('compiling')
  compiled = partitioner.compile_lowered(lowered)
  stages.end()
  costs = {
    'lowering_seconds': lowering,
    'compilation_seconds': time.perf_counter() - start,
  }
  _write(os.path.join(model_dir, 'compiled_hlo.txt'), compiled.as_text())
  memory = compiled.memory_analysis()
  if memory is not None:
    costs['argument_bytes'] = memory.argument_size_in_bytes
    costs['temporary_bytes'] = memory.temp_size_in_bytes
  trainer.close()
  if jax.process_index() == 0:
    neutral.say(
      f'Lowered in {lowering:.1f} s, compiled in'
      f' {costs["compilation_seconds"]:.1f} s.'
    )
    if memory is not None:
      neutral.say(
        f'A device needs {costs["argument_bytes"] / _MIB:,.0f} MiB for state'
        f' and batch, {costs["temporary_bytes"] / _MIB:,.0f} MiB besides.'
      )
    neutral.say(f'The programs are in {model_dir}.')
  return costs


def _write(path: str, text: str | None) -> None:
  if jax.process_index() == 0 and text is not None:
    with files.replacing(path) as work:
      work.write_text(text)


if __name__ == '__main__':
  commands.run({'precompile': precompile})
