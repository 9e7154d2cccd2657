"""What the entry points share: flags, and the set-up of a process."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from absl import flags, logging

from t5x import distributed, errors, gin_utils
from t5x.cli import help

RUN_MODES = ('train', 'eval', 'infer', 'precompile')


def start(mode: str) -> None:
  """What an entry point does before its other imports.

  Answers `--help` at once; otherwise imports TensorFlow.

  Args:
    mode: the entry point's name, `train` for `t5x.train`.
  """
  if help.asks_for_help(sys.argv[1:]):
    define_flags()
    print(help.text(mode))
    sys.exit(0)
  load_tensorflow()


def load_tensorflow() -> None:
  """Imports TensorFlow for the data's sake: quietly, and on the host alone.

  It has to be the first import of an entry point. TensorFlow's libraries write
  to the terminal while they look for accelerators, before any setting of
  theirs applies; that is held back, and shown if the import fails.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  with _held_back_stderr():
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  Its libraries speak up as well.

    for kind in ('GPU', 'TPU'):
      tf.config.set_visible_devices([], kind)


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
  """Keeps what libraries write to file descriptor 2, to show on failure."""
  sys.stderr.flush()
  with tempfile.TemporaryFile() as held, _duplicate(2) as terminal:
    os.dup2(held.fileno(), 2)
    try:
      yield
    except BaseException:
      held.seek(0)
      os.write(terminal, held.read())
      raise
    finally:
      os.dup2(terminal, 2)


@contextlib.contextmanager
def _duplicate(descriptor: int) -> Iterator[int]:
  copy = os.dup(descriptor)
  try:
    yield copy
  finally:
    os.close(copy)


def define_flags() -> None:
  """Defines the flags that all entry points take."""
  flags.DEFINE_multi_string(
    'gin_file',
    None,
    'A gin file; repeatable, later ones win. Looked up in the working folder,'
    ' in --gin_search_paths, beside the package, and in installed packages that'
    ' ship gin files.',
  )
  flags.DEFINE_multi_string(
    'gin_bindings',
    [],
    'A gin binding such as "train.eval_period = 100"; repeatable. A macro is'
    ' shorter as --gin.NAME=VALUE.',
  )
  flags.DEFINE_list(
    'gin_search_paths', [], 'Comma-separated folders to look gin files up in.'
  )
  flags.DEFINE_bool(
    'dry_run', False, 'Print the whole configuration and do nothing.'
  )
  flags.DEFINE_enum(
    'run_mode',
    None,
    RUN_MODES,
    'What to do. t5x.main needs it; the other entry points do what they are'
    ' called after, and accept nothing else.',
  )
  flags.DEFINE_string(
    'tfds_data_dir',
    None,
    'Where TensorFlow Datasets are read from and prepared; may be gs://. By'
    ' default TFDS_DATA_DIR, else ~/tensorflow_datasets.',
  )
  flags.DEFINE_list(
    'seqio_additional_cache_dirs',
    [],
    'Comma-separated folders with tasks that SeqIO cached.',
  )
  flags.DEFINE_bool(
    'multiprocess_gpu',
    False,
    'Whether this is one of several processes that train together; needs the'
    ' three flags below unless a cluster tells JAX.',
  )
  flags.DEFINE_string(
    'coordinator_address', None, 'HOST:PORT of the first process.'
  )
  flags.DEFINE_integer('process_count', None, 'How many processes there are.')
  flags.DEFINE_integer('process_index', None, 'Which one this is, from 0.')


def set_up() -> None:
  """Applies the flags that concern the process rather than the run.

  Raises:
    errors.UserError: if flags contradict each other or no gin file is given.
  """
  values = flags.FLAGS
  if not values.gin_file and not values.gin_bindings:
    raise errors.UserError(
      'No configuration: give at least one --gin_file, for example'
      ' --gin_file=gin/dss_cqa.gin.'
    )
  # The libraries below log each file they touch; what a user has to know is
  # printed. `--verbosity=0` brings the rest back.
  if not values['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
  _start_processes(values)
  _set_up_data(values)


def parse_gin() -> None:
  """Parses the gin files and bindings that the flags name."""
  values = flags.FLAGS
  gin_utils.parse_gin_flags(
    values.gin_search_paths, values.gin_file or [], values.gin_bindings
  )


def _start_processes(values: Any) -> None:
  names = ('coordinator_address', 'process_count', 'process_index')
  given = [name for name in names if values[name].value is not None]
  if not given and not values.multiprocess_gpu and not distributed.cluster():
    return
  if given and len(given) < len(names):
    missing = ', '.join(f'--{n}' for n in names if n not in given)
    raise errors.UserError(
      f'Several processes need all of --{", --".join(names)}; missing:'
      f' {missing}.'
    )
  distributed.start(
    values.coordinator_address, values.process_count, values.process_index
  )


def _set_up_data(values: Any) -> None:
  # Imported here, since flags are parsed before anything heavy is loaded.
  import seqio

  if values.tfds_data_dir:
    seqio.set_tfds_data_dir_override(values.tfds_data_dir)
  if values.seqio_additional_cache_dirs:
    seqio.add_global_cache_dirs(values.seqio_additional_cache_dirs)
