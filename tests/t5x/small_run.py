"""Whole runs of a model without a network on the toy task, in seconds.

`process` is one such run in a process of its own, forked from one that has
imported all; it ends with the exit codes of `t5x.train`.
"""

import atexit
import functools
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time

import jax
import jax.numpy as jnp
import seqio

from t5x import (
  checkpoints,
  data,
  gin_utils,
  metrics,
  partitioning,
  train,
  trainer,
)
from t5x import distributed as distributed_lib
from t5x.data import snapshots
from tests.t5x import small_models, toy_task


class NoisyTable(small_models.TableModel):
  """Learns one text; dropout adds noise to what it is asked for."""

  # A last axis that two and four devices divide.
  SHAPE = ((6, 384), ('length', 'vocab'))

  def loss_fn(self, params, batch, dropout_rng):
    if dropout_rng is not None:
      noise = jax.random.normal(dropout_rng, params['table'].shape)
      params = {'table': params['table'] + 0.1 * noise}
    rows = batch['decoder_target_tokens'].shape[0]
    loss = -self.score_batch(params, batch).sum() / rows
    return loss, {'loss': metrics.AveragePerStep.from_model_output(loss)}


def data_config(split, batch_size=8, shuffle=True, **options):
  return data.DatasetConfig(
    mixture_or_task_name=toy_task.NAME,
    task_feature_lengths=toy_task.LENGTHS,
    split=split,
    batch_size=batch_size,
    shuffle=shuffle,
    seed=3,
    **options,
  )


def call(
  folder,
  total_steps=8,
  period=2,
  eval_period=100,
  evaluate=False,
  num_partitions=1,
  num_microbatches=None,
  devices=None,
  batch_size=8,
  data_shards=None,
  keep=None,
  model=None,
  max_skipped_steps=5,
  accept_other_run=False,
  restore=None,
  base=None,
  logger_cls=(seqio.JSONLogger,),
  train_cfg=None,
  transformations=(),
  **options,
):
  """Trains; returns the last step and state."""
  return train.train(
    model=model or NoisyTable(),
    train_dataset_cfg=train_cfg
    or data_config('train', batch_size=batch_size, data_shards=data_shards),
    train_eval_dataset_cfg=(
      data_config('validation', shuffle=False) if evaluate else None
    ),
    infer_eval_dataset_cfg=(
      data_config('test', shuffle=False) if evaluate else None
    ),
    checkpoint_cfg=checkpoints.CheckpointConfig(
      save=checkpoints.SaveCheckpointConfig(
        period=period,
        keep=keep,
        base=base,
        state_transformation_fns=transformations,
      ),
      restore=restore,
      accept_other_run=accept_other_run,
    ),
    partitioner=partitioning.PjitPartitioner(
      num_partitions=num_partitions,
      devices=jax.devices()[:devices] if devices else None,
    ),
    trainer_cls=functools.partial(
      trainer.Trainer,
      num_microbatches=num_microbatches,
      learning_rate_fn=lambda step: 0.1,
      max_skipped_steps=max_skipped_steps,
    ),
    model_dir=str(folder),
    total_steps=total_steps,
    eval_steps=4,
    eval_period=eval_period,
    stats_period=1,
    random_seed=options.pop('random_seed', 0),
    summarize_config_fn=options.pop('summarize_config_fn', lambda *_: None),
    inference_evaluator_cls=functools.partial(
      seqio.Evaluator, logger_cls=list(logger_cls)
    ),
    **options,
  )


def losses(folder) -> list[float]:
  """The loss of each step, as the run logged it."""
  path = os.path.join(str(folder), 'train', 'metrics.jsonl')
  with open(path, encoding='utf-8') as file:
    lines = [json.loads(line) for line in file]
  return [line['loss'] for line in lines if 'loss' in line]


def start_process(options, log, devices=1):
  """Starts a run in a process of its own; returns it.

  Args:
    options: of `call`, and of `_run`.
    log: file for what it prints.
    devices: how many it has.
  """
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(['tests.t5x.small_run'])
  started = context.Process(
    target=_process, args=(json.dumps(options), str(log), devices)
  )
  started.start()
  return started


def _process(options, log, devices):
  with open(log, 'wb') as file:
    for descriptor in (1, 2):
      os.dup2(file.fileno(), descriptor)
  # As in a terminal, though a shell started the tests in the background.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  jax.config.update('jax_num_cpu_devices', devices)
  sys.argv = ['small_run', options]
  try:
    gin_utils.run(lambda argv: _run(json.loads(argv[1])))
  finally:
    # A forked process does not do so by itself, and that of Python 3.13 has
    # forgotten what JAX wanted to do at the end.
    atexit._run_exitfuncs()
    jax.distributed.shutdown()


def _run(options):
  """Runs `call`; `distributed` are the arguments of `distributed.start`.

  `module` names one whose `call` is run instead.

  `snapshot_period` are the seconds between snapshots of the input;
  `other_rows` changes the texts of the rows, and nothing else about them.
  """
  distributed = options.pop('distributed', None)
  if distributed:
    distributed_lib.start(*distributed)
  snapshots.PERIOD_SECONDS = options.pop('snapshot_period', 30)
  if options.pop('other_rows', False):
    # As many, and of the same lengths.
    texts = toy_task.texts
    toy_task.texts = lambda split: [(i[::-1], t) for i, t in texts(split)]
  breaks = options.pop('breaks', None)
  if options.pop('slow_steps', False):
    # Long enough for signals to meet a run that is under way.
    options['actions'] = {'TRAIN': [_Slowly(breaks)]}
  module = options.pop('module', __name__)
  importlib.import_module(module).call(**options)


class _Slowly:
  """Says each step and waits a little; fails where it is told to.

  With `bytes`, it fails by asking for so much memory.
  """

  def __init__(self, breaks=None):
    self._breaks = breaks or {}

  def run(self, train_state, metrics_by_task):
    print('step', int(train_state.step), flush=True)
    here = {'process': jax.process_index(), 'at': int(train_state.step)}
    if self._breaks.items() >= here.items():
      if 'bytes' not in self._breaks:
        raise RuntimeError('broken on purpose')
      jnp.ones(self._breaks['bytes'], jnp.int8).block_until_ready()
    time.sleep(0.2)
    return False
