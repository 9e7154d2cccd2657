"""Flags of the entry points, and the set-up of a process."""

import sys

from absl import flags, logging

from t5x import errors, neutral
from t5x.cli import quiet_tensorflow

RUN_MODES = ('train', 'eval', 'infer', 'precompile')
# Characters of the first line.
_TOLD = 300
_HELP_FLAGS = {'--help', '-help', '-h', '--helpshort'}


def start() -> None:
  """Answers `--help` and mistakes, else imports TensorFlow, first of all.

  Help is the docstring of the main module and the flags defined here; absl
  would answer only after TensorFlow is loaded.
  """
  if _HELP_FLAGS.intersection(sys.argv[1:]):
    define_flags()
    print(sys.modules['__main__'].__doc__)
    print(flags.FLAGS.module_help(__name__))
    print('--helpfull lists the flags of all libraries.')
    sys.exit(0)
  # Imported late, since it imports this module.
  from t5x.cli import early_checks, stages

  told = early_checks.check_or_exit()
  stages.say(' '.join(neutral.text(told, _TOLD).split()))
  stages.begin('loading libraries', alone=True)
  quiet_tensorflow.load()


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the flags that all entry points take.

  Args:
    values: where; by default those of the process.
  """
  flags.DEFINE_multi_string(
    'gin_file',
    None,
    'A gin file; later ones win. Looked up in the working folder, in'
    ' --gin_search_paths, beside the package, and in installed packages that'
    ' ship gin files',
    flag_values=values,
  )
  flags.DEFINE_multi_string(
    'gin_bindings',
    [],
    'A gin binding such as "train.eval_period = 100". A macro of the gin files'
    ' is shorter as --gin.NAME=VALUE, such as --gin.TRAIN_STEPS=500; strings'
    ' have quotes of their own: --gin.MODEL_DIR="\'runs/mine\'". The first'
    ' lines of a file list its macros, --dry_run shows their values',
    flag_values=values,
  )
  flags.DEFINE_list(
    'gin_search_paths',
    [],
    'Comma-separated folders to look gin files up in.',
    flag_values=values,
  )
  flags.DEFINE_bool(
    'dry_run',
    False,
    'Print the whole configuration, check what can be checked without data, and'
    ' do nothing.',
    flag_values=values,
  )
  flags.DEFINE_enum(
    'run_mode',
    None,
    RUN_MODES,
    'What to do. t5x.main needs it; the other entry points do what their name'
    ' says, and accept nothing else.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'tfds_data_dir',
    None,
    'Where TensorFlow Datasets are read from and prepared; may be gs://. By'
    ' default TFDS_DATA_DIR, else ~/tensorflow_datasets.',
    flag_values=values,
  )
  flags.DEFINE_list(
    'seqio_additional_cache_dirs',
    [],
    'Comma-separated folders with tasks that SeqIO cached.',
    flag_values=values,
  )
  flags.DEFINE_bool(
    'multiprocess_gpu',
    False,
    'Whether this is one of several processes that train together; needs'
    ' --coordinator_address, --process_count and --process_index unless a'
    ' cluster tells JAX.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'coordinator_address',
    None,
    'HOST:PORT of the first process.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'process_count',
    None,
    'How many processes there are.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'process_index',
    None,
    'Which one this is, from 0.',
    flag_values=values,
  )


def check_configured(values: flags.FlagValues) -> None:
  """Raises UserError if no gin file is given.

  Args:
    values: of the flags.
  """
  if not values.gin_file and not values.gin_bindings:
    raise errors.UserError(
      'No configuration: give at least one --gin_file, for example'
      ' --gin_file=gin/dss_cqa.gin.'
    )


def set_up() -> None:
  """Applies the flags that concern the process rather than the run.

  Raises:
    errors.UserError: if flags contradict each other or no gin file is given.
  """
  values = flags.FLAGS
  check_configured(values)
  # Libraries log each file they touch; what a user has to know is printed.
  # `--verbosity=0` brings the rest back.
  if not values['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
  _start_processes(values)

  # Imported here, since flags are parsed before anything heavy is loaded.
  import seqio

  if values.tfds_data_dir:
    seqio.set_tfds_data_dir_override(values.tfds_data_dir)
  if values.seqio_additional_cache_dirs:
    seqio.add_global_cache_dirs(values.seqio_additional_cache_dirs)


def _start_processes(values: flags.FlagValues) -> None:
  from t5x import distributed

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
