r"""Predicts or scores a SeqIO task or mixture, and writes JSON lines.

Infers on each task in chunks; after a kill, the same command resumes after the
last complete chunk. `inference.results` describes the files, and
`t5x/configs/runs/infer.gin` binds the arguments of `infer`.

A run's predictions for the test questions:

    python -m t5x.infer --gin_file=runs/dss_cqa/config.gin \
      --gin_file=gin/dss_infer.gin

Predictions for inputs of your own, one {"input": …} per line:

    python -m t5x.infer --gin_file=runs/dss_cqa/config.gin \
      --gin_file=gin/dss_infer.gin --gin.INPUTS="'questions.jsonl'"
"""

if __name__ == '__main__':
  # First, since TensorFlow looks for its settings while it is imported.
  from t5x.cli import flags

  flags.start()

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

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
  neutral,
  partitioning,
)
from t5x.cli import commands, stages
from t5x.inference import results
from t5x.run import progress

# The gin files of a run bind `train` in the main module. Having the name here
# lets inference be given the files, or the config.gin, of the run itself.
from t5x.train import train  # noqa: F401

SummarizeConfigFn = commands.SummarizeConfigFn
create_task_from_tfexample_file = data.create_task_from_tfexample_file
merge_chunks_to_file = results.merge_chunks_to_file
write_inferences_to_file = results.write_inferences_to_file

_MODES = ('predict', 'predict_with_aux', 'score')


def infer(
  *,
  mode: str,
  model: models.BaseModel,
  dataset_cfg: data.DatasetConfig,
  restore_checkpoint_cfg: checkpoints.RestoreCheckpointConfig,
  partitioner: partitioning.BasePartitioner,
  output_dir: str,
  checkpoint_period: int,
  shard_id: int = 0,
  num_shards: int = 1,
  merge_chunked_results: bool = True,
  write_fn: Callable[..., None] = write_inferences_to_file,
  checkpoint_ds_iter: bool = True,
  train_state_initializer_cls: Callable[
    ..., initialization.TrainStateInitializer
  ] = initialization.TrainStateInitializer,
  fallback_init_rng: int | None = None,
  merge_fn: Callable[..., None] = merge_chunks_to_file,
  summarize_config_fn: SummarizeConfigFn = gin_utils.summarize_gin_config,
  verify_matching_vocabs_fn: Callable[..., None]
  | None = data.verify_matching_vocabs,
  output_vocab_feature_name: str = 'targets',
  file_extension: str = 'jsonl',
  keep_aux_as_numpy: bool = False,
  use_orbax: bool = True,
) -> None:
  """Infers over each task, in the order of its examples.

  The results of a task are in
  `<output_dir>/<task>-<mode>.<file_extension>-<shard_id>-of-<num_shards>`.

  Args:
    mode: 'predict', 'predict_with_aux' or 'score'.
    model: predicts or scores.
    dataset_cfg: what to infer on; without a seed, 0.
    restore_checkpoint_cfg: the one checkpoint.
    partitioner: lays arrays out on the devices.
    output_dir: where results go.
    checkpoint_period: batches of a chunk. A killed run repeats what it had of
      one chunk, and no row is written twice.
    shard_id: which part of the examples this run infers on.
    num_shards: how many runs share the examples.
    merge_chunked_results: whether the chunks become one file at the end.
    write_fn: writes a chunk; see `write_inferences_to_file`.
    checkpoint_ds_iter: whether to resume where a killed run stopped; otherwise
      its chunks are removed.
    train_state_initializer_cls: restores states.
    fallback_init_rng: seed of leaves that the checkpoint lacks, where the
      restore configuration allows for them.
    merge_fn: joins chunks; see `merge_chunks_to_file`.
    summarize_config_fn: keeps the configuration with the results.
    verify_matching_vocabs_fn: compares vocabularies of data and model.
    output_vocab_feature_name: the feature whose vocabulary turns predictions
      into text.
    file_extension: in the names of the files.
    keep_aux_as_numpy: whether `write_fn` gets aux values as arrays.
    use_orbax: see `RestoreCheckpointConfig.checkpointer_cls`.

  Raises:
    errors.UserError: for a configuration that can't work.
  """
  _check(mode, dataset_cfg, checkpoint_period, shard_id, num_shards)
  if dataset_cfg.seed is None:
    # A run that resumes has to see the same order.
    dataset_cfg = dataclasses.replace(dataset_cfg, seed=0)
  # Raises for a batch that the mesh doesn't divide.
  partitioner.get_data_layout(dataset_cfg.batch_size)
  data.check_lengths(dataset_cfg, model.FEATURE_CONVERTER_CLS)
  if verify_matching_vocabs_fn is not None:
    verify_matching_vocabs_fn(dataset_cfg, model)
  data.check_split(dataset_cfg)
  data.check_files([dataset_cfg])

  # The tasks, with the files that their rows go to.
  suffix = f'{file_extension}-{shard_id:05}-of-{num_shards:05}'
  tasks = [
    _TaskInference(
      name=task.name,
      mode=mode,
      vocabulary=_vocabulary(task, output_vocab_feature_name),
      rows=_rows(task, dataset_cfg, model, shard_id, num_shards),
      rows_after=functools.partial(
        _rows, task, dataset_cfg, model, shard_id, num_shards
      ),
      output_dir=output_dir,
      output_fname=f'{task.name}-{mode}.{suffix}',
    )
    for task in data.tasks_with_split(dataset_cfg)
  ]

  # Shards of one task may be inferred on side by side, each by one writer.
  with (
    commands.writing_folder(
      output_dir,
      summarize_config_fn,
      f'writer-{suffix}.json',
      name='INFER_OUTPUT_DIR',
    ),
    data.naming_damage_in_errors([dataset_cfg]),
  ):
    # The checkpoint.
    _, features = tasks[0].rows.element_spec
    batch_size = dataset_cfg.batch_size
    stages.begin('restoring parameters')
    initializer = initialization.initializer_of(
      model,
      partitioner,
      {k: (batch_size, *v.shape) for k, v in features.items()},
      initializer_cls=train_state_initializer_cls,
      for_training=False,
      use_orbax=use_orbax,
    )
    _, paths = checkpoints.get_first_valid_restore_config_and_paths(
      [restore_checkpoint_cfg]
    )
    state = initializer.from_checkpoint(
      [restore_checkpoint_cfg], init_rng=commands.init_key(fallback_init_rng)
    )
    stages.end()
    if state is None:
      raise commands.no_checkpoint(restore_checkpoint_cfg)

    # Each task, chunk by chunk. What decides its rows is kept with the chunks,
    # so that no run resumes another one's.
    infer_fn = inference.get_infer_fn(
      inference.infer_step(model, mode),
      batch_size,
      initializer.train_state_axes,
      partitioner,
      keep_aux_as_numpy,
      model.padded_features(mode),
    )
    rows_of_chunk = batch_size * checkpoint_period
    identity = {
      'checkpoint': paths[0],
      'weights': checkpoints.digest(paths[0]),
      'content': data.content_digests(dataset_cfg),
      'vocabularies': data.vocabulary_digests(dataset_cfg),
      # Network, decoding and whatever else decides; but folders may be moved.
      'configuration': {
        name: value
        for name, value in gin_utils.bindings().items()
        if value != repr(output_dir)
      },
      'split': dataset_cfg.split,
      'examples': {task.name: int(task.rows.cardinality()) for task in tasks},
      'task_feature_lengths': dict(dataset_cfg.task_feature_lengths or {}),
      'shuffle': dataset_cfg.shuffle,
      'seed': dataset_cfg.seed,
      'rows of a chunk': rows_of_chunk,
    }
    for task in tasks:
      task.open(identity, resume=checkpoint_ds_iter)
      task.run(
        lambda rows, rng, on_rows: infer_fn(rows, state, rng, on_rows=on_rows),
        rows_of_chunk,
        write_fn,
      )

    # One file for each task.
    if merge_chunked_results and jax.process_index() == 0:
      step = None if state.step is None else int(state.step)
      for task in tasks:
        merge_fn(output_dir, task.output_fname, task.tmp_dir, step)
      # Only now: a run that is killed before finds every task's chunks.
      for task in tasks:
        tf.io.gfile.rmtree(task.tmp_dir)
        path = os.path.join(output_dir, task.output_fname)
        neutral.say(results.first_answers(path))
    distributed.sync_global_devices('infer_done')


@runtime_checkable
class _TaskFromAnywhere(Protocol):
  """A task of which each example is made of one row, whatever the others are.

  (Not in T5X.)
  """

  def get_dataset_after(self, before: int, **options: Any) -> tf.data.Dataset:
    """Returns what `get_dataset` returns, without the first so many."""


@dataclasses.dataclass
class _TaskInference:
  """One task: its rows, and the files that they go to.

  Attributes:
    name: of the task.
    mode: 'predict', 'predict_with_aux' or 'score'.
    vocabulary: turns predictions into text.
    rows: pairs of a task's example and the model's features.
    rows_after: the same without the first so many.
    output_dir: where the results go.
    output_fname: name of their file.
    done: how many chunks are done.
  """

  name: str
  mode: str
  vocabulary: seqio.Vocabulary
  rows: tf.data.Dataset
  rows_after: Callable[[int], tf.data.Dataset]
  output_dir: str
  output_fname: str
  done: int = 0

  @property
  def tmp_dir(self) -> str:
    return os.path.join(self.output_dir, f'tmp-{self.output_fname}')

  def open(self, identity: Mapping[str, Any], resume: bool) -> None:
    """Counts the chunks that are done, the same on every process."""
    # The first process alone writes and reads, so local disks are enough.
    if jax.process_index() == 0:
      results.open_tmp_dir(self.tmp_dir, identity, resume)
      self.done = results.finished_chunks(self.tmp_dir, self.output_fname)
    self.done = distributed.of_first_process(self.done)

  def run(
    self,
    infer_rows: Callable[..., Any],
    rows_of_chunk: int,
    write_fn: Callable[..., None],
  ) -> None:
    """Infers on the chunks that are not done."""
    before = self.done * rows_of_chunk
    total = int(self.rows.cardinality())
    if 0 <= total <= before:
      return  # Killed while the chunks were joined: nothing is read again.
    with progress.rows(self.name, total, before) as shown:
      windows = self.rows_after(before).window(rows_of_chunk)
      for index, (examples, features) in enumerate(windows, self.done):
        result = infer_rows(
          tf.data.Dataset.zip(features).enumerate(),
          # Another key for each chunk, whichever process infers on it.
          jax.random.fold_in(jax.random.key(0), index),
          shown.advance,
        )
        values, aux = result if isinstance(result, tuple) else (result, {})
        outputs = [output for _, output in values]
        if jax.process_index() == 0:
          target = results.chunk_path(self.tmp_dir, self.output_fname, index)
          with files.replacing(target) as work:
            write_fn(
              os.fspath(work),
              (outputs, aux),
              tf.data.Dataset.zip(examples),
              self.mode,
              self.vocabulary,
            )
        shown.report()


def _check(
  mode: str,
  cfg: data.DatasetConfig,
  checkpoint_period: int,
  shard_id: int,
  num_shards: int,
) -> None:
  if mode not in _MODES:
    raise errors.UserError(
      f'infer.mode: expected one of {", ".join(_MODES)}, found {mode!r}.'
      f'{errors.did_you_mean(str(mode), _MODES)}'
    )
  if checkpoint_period < 1:
    raise errors.UserError(
      'infer.checkpoint_period: expected at least 1 batch, found'
      f' {checkpoint_period}.'
    )
  if not 0 <= shard_id < num_shards:
    raise errors.UserError(
      f'infer.shard_id: expected 0 to {num_shards - 1} (num_shards'
      f' {num_shards}), found {shard_id}.'
    )
  if cfg.pack:
    raise errors.UserError(
      'DatasetConfig.pack: inference needs each example in a row of its own.'
      ' Set it to False.'
    )


def _vocabulary(task: seqio.Task, feature: str) -> seqio.Vocabulary:
  if feature not in task.output_features:
    raise errors.UserError(
      f'infer.output_vocab_feature_name: {task.name!r} has no feature'
      f' {feature!r}, but {sorted(task.output_features)}.'
      f'{errors.did_you_mean(feature, task.output_features)}'
    )
  return task.output_features[feature].vocabulary


def _rows(
  task: seqio.Task,
  cfg: data.DatasetConfig,
  model: models.BaseModel,
  shard_id: int,
  num_shards: int,
  before: int = 0,
) -> tf.data.Dataset:
  """Returns pairs of a task's example and the model's features of it.

  Args:
    task: one of the config's.
    cfg: the config.
    model: whose features.
    shard_id: the part of the examples.
    num_shards: parts.
    before: pairs to leave out. A task with `get_dataset_after` does not make
      their examples either, which takes minutes for some hundred thousand.
  """
  skips = before and num_shards == 1 and not (cfg.shuffle or cfg.use_cached)
  get_dataset, skipped = task.get_dataset, 0
  if skips and isinstance(task, _TaskFromAnywhere):
    get_dataset = functools.partial(task.get_dataset_after, before)
    skipped = before
  examples = get_dataset(
    sequence_length=cfg.task_feature_lengths,
    split=cfg.split,
    use_cached=cfg.use_cached,
    shuffle=cfg.shuffle,
    seed=cfg.seed,
    shard_info=seqio.ShardInfo(index=shard_id, num_shards=num_shards),
    num_epochs=1,
    trim_output_features=cfg.trim_output_features,
  )
  converter = model.FEATURE_CONVERTER_CLS(pack=False)
  features = converter(examples, task_feature_lengths=cfg.task_feature_lengths)
  return tf.data.Dataset.zip((examples, features)).skip(before - skipped)


if __name__ == '__main__':
  commands.run({'infer': infer})
