r"""Time from the start of a process to its first training step.

    pip install -e '.[bench]'
    JAX_PLATFORMS=cpu python -m benchmarks.first_step --size base

Each line is a process of its own: cold, with an empty compilation cache, and
warm, with the cache that the cold one has filled (JAX_COMPILATION_CACHE_DIR).
Layers are compiled one by one, and as a scan (`gin/engine/scan.gin`).

import   Python and JAX (no TensorFlow here).
weights  compiling and drawing random ones. A run that starts from a checkpoint
         reads it instead.
program  tracing the step and compiling it, or reading it from the cache. As in
         a run, this overlaps with the weights; both are measured from the end
         of the imports.
step     the first step itself, including memory that it is the first to touch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import rich.console
import rich.table

_PARTS = ('import', 'weights', 'program', 'until the step', 'step')


def _child(options: argparse.Namespace) -> None:
  """Takes one step and prints the time of each part."""
  start = time.perf_counter()
  import jax

  from benchmarks import engine, workload
  from t5x import partitioning
  from t5x import trainer as trainer_lib

  rows = workload.examples(engine.VOCAB_SIZE, 256)
  batch = next(workload.packed_batches(rows, options.rows, options.row_shape))
  imported = time.perf_counter()
  config = engine.config(
    options.size, options.dtype, scan_layers=options.layers == 'scan'
  )
  model = engine.make_model(config)
  partitioner = partitioning.PjitPartitioner(num_partitions=1)
  key = jax.random.key(0)
  weights = engine.initializer(model, batch, partitioner)
  ahead = trainer_lib.CompileAhead(
    lambda: engine.trainer_of(
      model,
      partitioner,
      weights.global_train_state_shape,
      jax.eval_shape(lambda: key),
    ),
    jax.eval_shape(lambda: batch),
  )
  state = weights.from_scratch(key)
  ahead.begin()  # While the devices draw.
  jax.block_until_ready(state)
  drawn = time.perf_counter()
  trainer = engine.trainer_of(model, partitioner, state, key)
  ahead.give_to(trainer)
  ready = time.perf_counter()
  trainer.train(iter([batch]), 1).result()
  jax.block_until_ready(trainer.train_state)
  done = time.perf_counter()
  seconds = (
    imported - start,
    drawn - imported,
    ready - imported,
    ready - start,
    done - ready,
  )
  print(json.dumps(dict(zip(_PARTS, seconds, strict=True))))


def _measure(layers: str, cache: str, arguments: list[str]) -> dict[str, float]:
  """Runs the child; returns the seconds of each part."""
  environment = {
    **os.environ,
    'JAX_COMPILATION_CACHE_DIR': cache,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'benchmarks.first_step',
      f'--layers={layers}',
      *arguments,
    ],
    env=environment,
    stdout=subprocess.PIPE,
    check=True,
    text=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
  """Measures and prints a table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--size', default='base')
  parser.add_argument('--dtype', default='float32')
  parser.add_argument('--rows', type=int, default=8, help='packed rows')
  parser.add_argument(
    '--row-shape', type=int, nargs=2, default=(256, 84), metavar=('L', 'T')
  )
  parser.add_argument(
    '--layers',
    choices=['single', 'scan'],
    help='take one step in this process, and print its parts as JSON',
  )
  options = parser.parse_args()
  if options.layers:
    _child(options)
    return
  table = rich.table.Table('layers', 'cache', *_PARTS)
  for layers in ('single', 'scan'):
    with tempfile.TemporaryDirectory() as cache:
      for state in ('cold', 'warm'):
        parts = _measure(layers, cache, sys.argv[1:])
        shown = [f'{parts[name]:.1f}' for name in _PARTS]
        table.add_row(layers, state, *shown)
  rich.console.Console().print(table)


if __name__ == '__main__':
  main()
