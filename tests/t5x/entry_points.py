"""Calls the entry points as gin files configure them, in this process."""

import contextlib
import sys
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

import gin
from t5x import data, gin_utils

# A network whose steps compile in seconds, on the toy task, whose longest
# examples have these lengths.
TOY = """
from __gin__ import dynamic_registration

import seqio
import tests.t5x.toy_task
from tests.t5x import entry_points
from t5x import partitioning
from t5x.examples.t5 import network

VOCABULARY = @seqio.ByteVocabulary()
network.T5Config:
  vocab_size = 384
  num_encoder_layers = 1
  num_decoder_layers = 1
  head_dim = 4

MIXTURE_OR_TASK_NAME = 'toy_backwards'
TASK_FEATURE_LENGTHS = {'inputs': 7, 'targets': 4}
USE_CACHED_TASKS = False
BATCH_SIZE = 8
# What eight devices share is tested elsewhere.
partitioning.PjitPartitioner.devices = @entry_points.one_device()
"""
TINY = 't5x/examples/t5/t5_1_1/tiny.gin'


def one_device():
  """The first device alone, for which compiling takes half the time."""
  return jax.devices()[:1]


_datasets: dict[str, Any] = {}


def shared_dataset(cfg, *args, **kwargs):
  """`data.get_dataset`, with one pipeline for equal configs."""
  key = repr((cfg, args, kwargs))
  if key not in _datasets:
    _datasets[key] = data.get_dataset(cfg, *args, **kwargs)
  return _datasets[key]


@contextlib.contextmanager
def shared_compilation(folder):
  """Keeps compiled programs in a folder: the same one is compiled once.

  They run for milliseconds, so that optimising them would be a waste.
  """
  options = {
    'jax_disable_most_optimizations': True,
    'jax_compilation_cache_dir': str(folder),
    'jax_persistent_cache_min_compile_time_secs': 0.2,
  }
  before = {name: jax.config.values[name] for name in options}
  try:
    for name, value in options.items():
      jax.config.update(name, value)
    # Whether there is a cache is decided only once without this.
    compilation_cache.reset_cache()
    yield
  finally:
    for name, value in before.items():
      jax.config.update(name, value)
    compilation_cache.reset_cache()


@contextlib.contextmanager
def main_module(module):
  """Makes a module the one that gin files import as `__main__`."""
  before = sys.modules['__main__']
  sys.modules['__main__'] = module
  gin.clear_config()
  try:
    yield
  finally:
    sys.modules['__main__'] = before
    gin.clear_config()


def call(function, files, **macros):
  """Calls an entry point's function with what files and macros bind."""
  with main_module(sys.modules[function.__module__]):
    parse(files, **macros)
    return gin.get_configurable(function)()


def parse(files, **macros):
  """Parses gin files, and macros with their values."""
  gin_utils.parse_gin_flags(
    [],
    [str(file) for file in files],
    [f'{name} = {value!r}' for name, value in macros.items()],
  )


def toy_file(folder) -> str:
  """Writes the toy's gin file."""
  path = folder / 'toy.gin'
  path.write_text(TOY)
  return str(path)
