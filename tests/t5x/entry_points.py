"""Calls the entry points as gin files configure them, in this process."""

import contextlib
import sys

import gin
from t5x import gin_utils

# A network whose steps compile in seconds, on the toy task.
TOY = """
from __gin__ import dynamic_registration

import seqio
import tests.t5x.toy_task
from t5x import partitioning
from t5x.examples.t5 import network

VOCABULARY = @seqio.ByteVocabulary()
network.T5Config:
  vocab_size = 384
  num_encoder_layers = 1
  num_decoder_layers = 1
  head_dim = 4

MIXTURE_OR_TASK_NAME = 'toy_backwards'
TASK_FEATURE_LENGTHS = {'inputs': 10, 'targets': 6}
USE_CACHED_TASKS = False
BATCH_SIZE = 8
"""
TINY = 't5x/examples/t5/t5_1_1/tiny.gin'


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
    gin_utils.parse_gin_flags(
      [], files, [f'{name} = {value!r}' for name, value in macros.items()]
    )
    return gin.get_configurable(function)()


def toy_file(folder) -> str:
  """Writes the toy's gin file."""
  path = folder / 'toy.gin'
  path.write_text(TOY)
  return str(path)
